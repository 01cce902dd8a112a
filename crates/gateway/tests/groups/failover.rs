//! What goes to another replica, and what never does.

use std::time::Duration;

use serde_json::json;
use thinpipe_testkit::{Client, Cut, Era, Response, Script, rpc};

use crate::replicas::{Replicas, checked};

async fn call(client: &Client, id: usize) -> Response {
    client.post_modern(&rpc::modern_call(id, "echo")).await
}

async fn list(client: &Client, id: usize) -> Response {
    client
        .post_modern(&rpc::modern(id, "tools/list", json!({})))
        .await
}

/// Failover: who cannot be connected to is passed over at once, and after three times not tried any more.
#[tokio::test]
async fn g9_what_was_not_written_goes_to_another() {
    let replicas = Replicas::stateless(2).await;
    let front = replicas.front(|_| {}).await;
    let client = Client::new(&front.url);
    assert_eq!(call(&client, 1000).await.status, 200);
    replicas.0[0].die().await;
    for id in 0..10 {
        assert_eq!(call(&client, id).await.status, 200);
    }
    assert_eq!(replicas.counts("tools/call").iter().sum::<usize>(), 11);
    replicas.saw_nothing_twice();
    let stats = &front.replicas()[0];
    assert_eq!(stats.failures, 3);
    assert_eq!(stats.condition.unwrap().as_str(), "open");
}

/// The same before anything is known of the server: what it speaks is asked of whoever can be reached.
#[tokio::test]
async fn g9_a_dead_replica_is_not_in_the_way_of_the_first_client() {
    for dead in 0..2 {
        let replicas = Replicas::start(2).await;
        replicas.0[dead].die().await;
        let front = replicas.front(|_| {}).await;
        assert_eq!(call(&Client::new(&front.url), 1).await.status, 200);
        let client = front.client().await;
        assert_eq!(client.post(rpc::call(2, "echo")).await.status, 200);
        assert_eq!(replicas.counts("tools/call")[1 - dead], 2);
    }
}

/// Invariant 3 of 5.9: a call whose connection is lost may have run. It is not sent again, anywhere.
#[tokio::test]
async fn g9_what_may_have_run_is_never_sent_again() {
    let replicas = Replicas::stateless(2).await;
    let cut = Script::new().cut(Cut::Reset);
    replicas.on("tools/call", &cut);
    let front = replicas.front(|group| group.balance.breaker = None).await;
    let client = Client::new(&front.url);
    for id in 0..6 {
        let mut answer = call(&client, id).await;
        assert_eq!(answer.status, 502);
        let error = answer.json().await;
        assert_eq!(error["error"]["data"]["reason"], "upstream_stream_lost");
    }
    assert_eq!(replicas.counts("tools/call"), [3, 3]);
    replicas.saw_nothing_twice();
}

/// Failover: what only reads is asked of another one, once more for each replica, within the budget.
#[tokio::test]
async fn g9_what_only_reads_is_repeated_within_the_budget() {
    for failure in [Script::new().cut(Cut::Reset), Script::status(503)] {
        let replicas = Replicas::stateless(2).await;
        replicas.0[0].on("tools/list", failure);
        let front = replicas
            .front(|group| {
                group.balance.breaker = None;
                group.retry.percent = 0;
                group.retry.min_per_second = 1;
            })
            .await;
        let client = Client::new(&front.url);
        let mut failed = 0;
        for id in 0..40 {
            failed += usize::from(list(&client, id).await.status != 200);
        }
        let repeated = front.replicas()[1].repeated;
        // One a second for the ten seconds that are looked at, or for a few more if this machine is slow.
        assert!((10..20).contains(&repeated), "{repeated}");
        assert_eq!(failed, 20 - usize::try_from(repeated).unwrap());
        assert_eq!(replicas.counts("tools/list")[1], 40 - failed);
        assert_eq!(replicas.0[1].record().duplicates, 0);
    }
}

/// C20: when nobody is left, clients hear so at once, and when to come back.
#[tokio::test]
async fn c20_when_all_breakers_are_open_calls_fail_fast() {
    let replicas = Replicas::stateless(2).await;
    let front = replicas.front(|_| {}).await;
    let client = Client::new(&front.url);
    assert_eq!(call(&client, 1000).await.status, 200);
    replicas.on("tools/call", &Script::status(502));
    for id in 0..6 {
        assert_eq!(call(&client, id).await.status, 502);
    }
    let before = replicas.counts("tools/call");
    let mut refused = call(&client, 7).await;
    assert_eq!(refused.status, 503);
    let pause: u64 = refused.header("Retry-After").unwrap().parse().unwrap();
    assert!((50..=60).contains(&pause), "{pause}");
    let error = refused.json().await;
    assert_eq!(error["error"]["data"]["reason"], "upstream_unavailable");
    assert_eq!(
        (error["id"].as_u64(), replicas.counts("tools/call")),
        (Some(7), before)
    );
}

/// C20: after its time a few may try, and success closes it.
#[tokio::test]
async fn c20_a_breaker_closes_again() {
    let replicas = Replicas::stateless(1).await;
    let open = Duration::from_millis(50);
    let front = replicas
        .front(|group| group.balance.breaker.as_mut().unwrap().open = open)
        .await;
    let client = Client::new(&front.url);
    assert_eq!(call(&client, 1000).await.status, 200);
    replicas.on("tools/call", &Script::status(502));
    for id in 0..3 {
        assert_eq!(call(&client, id).await.status, 502);
    }
    replicas.0[0].behave();
    let condition = || front.replicas()[0].condition.unwrap().as_str();
    thinpipe_testkit::eventually("it may be tried", async || match condition() {
        "trial" => Ok(()),
        other => Err(other.to_owned()),
    })
    .await;
    assert_eq!(call(&client, 10).await.status, 200);
    assert_eq!(condition(), "trial", "one of two");
    assert_eq!(call(&client, 11).await.status, 200);
    assert_eq!(condition(), "recovering");
}

/// C19: a server that is down leaves the rotation without a request of a client having to find out, and comes back.
#[tokio::test]
async fn c19_a_dead_replica_leaves_and_comes_back() {
    let replicas = Replicas::stateless(2).await;
    let front = replicas.front_with(|_| {}, checked).await;
    let condition_is = async |wanted: &str| {
        thinpipe_testkit::eventually("the condition of a replica", async || {
            match front.replicas()[0].condition.unwrap().as_str() {
                condition if condition == wanted => Ok(()),
                condition => Err(format!("{condition}, not {wanted}")),
            }
        })
        .await;
    };
    let client = Client::new(&front.url);
    condition_is("serving").await;
    replicas.0[0].die().await;
    condition_is("down").await;
    let before = front.replicas()[0].requests;
    for id in 0..10 {
        assert_eq!(call(&client, id).await.status, 200);
    }
    assert_eq!(front.replicas()[0].requests, before);
    replicas.0[0].come_back();
    condition_is("recovering").await;
    // A tenth of its share at first: one of eleven.
    for id in 100..130 {
        assert_eq!(call(&client, id).await.status, 200);
    }
    let counts = replicas.counts("tools/call");
    assert!(counts[0] >= 2 && counts[0] < counts[1], "{counts:?}");
    assert_eq!(counts.iter().sum::<usize>(), 40);
}

/// C19: when all are down, readiness says so, and clients hear why.
#[tokio::test]
async fn c19_when_all_are_down_it_is_said() {
    let replicas = Replicas::stateless(2).await;
    let front = replicas.front_with(|_| {}, checked).await;
    let client = Client::new(&front.url);
    assert_eq!(call(&client, 1).await.status, 200);
    for replica in &replicas.0 {
        replica.die().await;
    }
    thinpipe_testkit::eventually("none is healthy", async || match front.is_healthy() {
        false => Ok(()),
        true => Err("it is".to_owned()),
    })
    .await;
    let mut refused = call(&client, 2).await;
    assert_eq!(
        (refused.status, refused.header("Retry-After")),
        (503, Some("2"))
    );
    let error = refused.json().await;
    let text = error["error"]["message"].as_str().unwrap().to_owned();
    assert!(text.contains("connecting to up/a failed"), "{text}");
}

/// Failover: a server of HTTP+SSE whose stream cannot be opened is passed over.
#[tokio::test]
async fn g9_streams_are_opened_where_they_can_be() {
    let replicas = Replicas::start(2).await;
    replicas.0[0].die().await;
    let front = replicas.front_of_streams().await;
    for id in 0..6 {
        let client = front.client().await;
        assert_eq!(client.post(rpc::call(id, "echo")).await.status, 200);
    }
    assert_eq!(replicas.counts("tools/call"), [0, 6]);
}

/// Failover: clients of 2026-07-28 in front of servers with sessions get one where one can be opened.
#[tokio::test]
async fn g9_sessions_for_calls_are_opened_where_they_can_be() {
    let replicas = Replicas::start(2).await;
    for replica in &replicas.0 {
        replica.set(|it| it.era = Era::Sessions);
    }
    let front = replicas.front(|_| {}).await;
    let client = Client::new(&front.url);
    assert_eq!(call(&client, 1000).await.status, 200);
    replicas.0[0].die().await;
    for id in 0..6 {
        let mut answer = call(&client, id).await;
        let said = answer.json().await;
        assert_eq!(
            (answer.status, said["error"].is_null()),
            (200, true),
            "{said}"
        );
    }
    assert_eq!(replicas.counts("tools/call").iter().sum::<usize>(), 7);
}
