//! Sessions that a process holds, over replicas: they stay where they were opened, in another process too, and leave
//! only when that is gone.

use serde_json::json;
use thinpipe_gateway::{GroupConfig, Resume, Sharing, UpstreamSpec};
use thinpipe_testkit::{Client, Era, Script, rpc};

use crate::front::{Front, shared_stores};
use crate::replicas::{Replicas, checked};
use crate::sessions::{home, is_down, reestablishes};

fn held(spec: &mut UpstreamSpec) {
    spec.resume = Resume::Log;
}

/// Calls, and says whether a result came.
async fn call(client: &Client, id: usize) -> (u16, bool) {
    let mut answer = client.post(rpc::call(id, "echo")).await;
    let has_result = answer.status == 200 && answer.answer().await["result"].is_object();
    (answer.status, has_result)
}

const DONE: (u16, bool) = (200, true);

/// F6: they are spread over the replicas, and each stays at its own.
#[tokio::test]
async fn f6_a_held_session_stays_where_it_was_opened() {
    let replicas = Replicas::start(3).await;
    let front = replicas
        .front_with(
            |_| {},
            |spec| {
                checked(spec);
                held(spec);
            },
        )
        .await;
    let clients = replicas.two_clients_each(&front).await;
    replicas.see_two_leave_each(&clients).await;
}

/// Failover: with `session_lost = "reestablish"` another replica takes the session over at once, with what was set up
/// in it.
#[tokio::test]
async fn g9_a_held_session_moves_when_its_replica_cannot_be_reached() {
    let replicas = Replicas::start(2).await;
    for replica in &replicas.0 {
        replica.set(|it| it.full = true);
    }
    let front = replicas
        .front_with(
            |_| {},
            |spec| {
                reestablishes(spec);
                held(spec);
            },
        )
        .await;
    let client = front.client().await;
    let level = rpc::request(90, "logging/setLevel", &json!({"level": "debug"}));
    assert_eq!(client.post(level).await.status, 200);
    let lost = home(&replicas);
    replicas.0[lost].die().await;
    for id in 0..3 {
        assert_eq!(call(&client, id).await, DONE);
    }
    let other = &replicas.0[1 - lost];
    assert_eq!(other.record().count("initialize"), 1);
    assert_eq!(other.record().count("logging/setLevel"), 1);
    assert_eq!(other.record().count("tools/call"), 3);
    replicas.saw_nothing_twice();
}

/// Failover: with `session_lost = "end"` it waits for a replica that may come back, and ends with one that is known to
/// be gone.
#[tokio::test]
async fn g9_a_held_session_ends_with_its_replica() {
    let replicas = Replicas::start(2).await;
    let front = replicas.front_with(|_| {}, held).await;
    let client = front.client().await;
    let at = home(&replicas);
    replicas.0[at].die().await;
    assert_eq!(call(&client, 1).await, (200, false));
    replicas.0[at].come_back();
    assert_eq!(call(&client, 2).await, DONE);
    assert_eq!(replicas.counts("tools/call")[1 - at], 0);

    let front = replicas
        .front_with(
            |_| {},
            |spec| {
                checked(spec);
                held(spec);
            },
        )
        .await;
    let client = front.client().await;
    let opened = |index: usize| replicas.0[index].record().count("initialize");
    let lost = if opened(at) == 2 { at } else { 1 - at };
    replicas.0[lost].die().await;
    is_down(&front, lost).await;
    // The one that finds it out is told so; to the next one there is no session.
    assert!(!call(&client, 3).await.1);
    thinpipe_testkit::eventually("the session is over", async || {
        match call(&client, 4).await.0 {
            404 => Ok(()),
            status => Err(format!("it answers {status}")),
        }
    })
    .await;
    assert_eq!(call(&front.client().await, 5).await, DONE);
}

/// 5.8 (10): in another process the session goes on at the replica that its record names.
#[tokio::test]
async fn f9_a_held_session_goes_on_at_its_replica() {
    let replicas = Replicas::start(3).await;
    let stores = shared_stores();
    let spec = || replicas.spec(|_| {}, held);
    let (one, other) = (
        Front::among(spec(), stores()).await,
        Front::among(spec(), stores()).await,
    );
    let mut clients = Vec::new();
    for _ in 0..6 {
        clients.push(one.client().await);
    }
    one.shut_down().await;
    for (id, client) in clients.iter().enumerate() {
        let moved = Client::new(&other.url);
        let call = moved.post(rpc::call(id, "echo"));
        let call = call.header("Mcp-Session-Id", client.session().unwrap());
        let mut answer = call.header("MCP-Protocol-Version", "2025-11-25").await;
        assert_eq!(answer.status, 200);
        assert!(answer.answer().await["result"].is_object());
    }
    assert_eq!(replicas.counts("initialize"), [2, 2, 2]);
    assert_eq!(replicas.counts("tools/call"), [2, 2, 2]);
    assert_eq!(replicas.counts("DELETE"), [0, 0, 0]);
}

/// The sessions that calls of 2026-07-28 share are left with the replica that has them, once that is known to be gone.
#[tokio::test]
async fn g9_calls_leave_the_session_of_a_replica_that_is_gone() {
    let replicas = Replicas::start(2).await;
    for replica in &replicas.0 {
        replica.set(|it| it.era = Era::Sessions);
    }
    let shared = |spec: &mut UpstreamSpec| {
        checked(spec);
        spec.bridge.sessions = Some(Sharing::Shared);
    };
    let front = replicas.front_with(|_| {}, shared).await;
    let client = Client::new(&front.url);
    for id in 0..3 {
        assert_eq!(
            client
                .post_modern(&rpc::modern_call(id, "echo"))
                .await
                .status,
            200
        );
    }
    let counts = replicas.counts("tools/call");
    let lost = usize::from(counts[1] > 0);
    assert_eq!(counts[lost], 3, "they share one session");
    replicas.0[lost].die().await;
    is_down(&front, lost).await;
    for id in 3..6 {
        let mut answer = client.post_modern(&rpc::modern_call(id, "echo")).await;
        assert_eq!(answer.status, 200);
        assert!(answer.json().await["result"].is_object());
    }
    assert_eq!(replicas.counts("tools/call")[1 - lost], 3);
}

/// F6: replicas that share their sessions serve held ones as well: one that is open at a replica which is gone goes on at
/// another, as what it is, and waits where there is none.
#[tokio::test]
async fn f6_held_sessions_that_replicas_share_go_on_anywhere() {
    for sharing in [Sharing::PerClient, Sharing::Shared] {
        let replicas = Replicas::start(2).await;
        let opened = Script::json(rpc::initialize_result("2025-11-25"));
        replicas.on("initialize", &opened.header("Mcp-Session-Id", "common"));
        replicas.on("notifications/initialized", &Script::accepted());
        replicas.on("tools/call", &Script::json(rpc::text_result("done")));
        let shares = |group: &mut GroupConfig| {
            group.shared_sessions = true;
            group.balance.breaker = None;
        };
        let spec = |spec: &mut UpstreamSpec| {
            held(spec);
            spec.bridge.sessions = Some(sharing);
        };
        let front = replicas.front_with(shares, spec).await;
        let client = front.client().await;
        let at = home(&replicas);
        assert_eq!(call(&client, 1).await, DONE);
        replicas.0[at].die().await;
        assert_eq!(call(&client, 2).await, DONE);
        assert_eq!(call(&client, 3).await, DONE);
        replicas.0[1 - at].die().await;
        assert_eq!(call(&client, 4).await, (200, false));
        replicas.0[at].come_back();
        assert_eq!(call(&client, 5).await, DONE);
        let calls = replicas.counts("tools/call");
        assert_eq!((calls[at], calls[1 - at]), (2, 2), "{sharing:?}");
        assert_eq!(replicas.counts("initialize").iter().sum::<usize>(), 1);
        assert_eq!(replicas.counts("DELETE"), [0, 0]);
        replicas.saw_nothing_twice();
    }
}
