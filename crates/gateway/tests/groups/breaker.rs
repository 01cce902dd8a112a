//! Breakers, where sessions are held: what is said in them counts as what is said in others.

use std::time::Duration;

use thinpipe_gateway::{GroupConfig, Resume, Sharing, UpstreamSpec};
use thinpipe_testkit::{Client, Era, Script, eventually, rpc};

use crate::front::Front;
use crate::replicas::Replicas;

fn held(spec: &mut UpstreamSpec) {
    spec.resume = Resume::Log;
}

async fn call(client: &Client, id: usize) -> bool {
    let mut answer = client.post(rpc::call(id, "echo")).await;
    answer.status == 200 && answer.answer().await["result"].is_object()
}

fn condition(front: &Front, replica: usize) -> &'static str {
    front.replicas()[replica].condition.unwrap().as_str()
}

/// A breaker that is open for a moment only, and a replica that then gets all of its share.
fn soon(group: &mut GroupConfig) {
    let breaker = group.balance.breaker.as_mut().unwrap();
    breaker.open = Duration::from_millis(1);
    breaker.max_open = Duration::from_millis(1);
    group.balance.slow_start = Duration::ZERO;
}

/// Until the breaker has been open for long enough.
async fn is_tried(front: &Front, replica: usize) {
    eventually("it may be tried", async || {
        match condition(front, replica) {
            "trial" => Ok(()),
            other => Err(other.to_owned()),
        }
    })
    .await;
}

/// C20: a replica whose answers in held sessions are those of a dead server gets no new ones; those that it has stay
/// with it.
#[tokio::test]
async fn c20_held_sessions_open_a_breaker() {
    let replicas = Replicas::start(2).await;
    let front = replicas.front_with(|_| {}, held).await;
    let client = front.client().await;
    let at = crate::sessions::home(&replicas);
    replicas.0[at].on("tools/call", Script::status(503));
    for id in 0..3 {
        assert!(!call(&client, id).await);
    }
    assert_eq!(condition(&front, at), "open");
    let stats = &front.replicas()[at];
    // `initialize`, what comes after it, and the calls.
    assert_eq!((stats.requests, stats.failures), (5, 3));
    for _ in 0..4 {
        assert!(call(&front.client().await, 10).await);
    }
    assert_eq!(replicas.counts("initialize")[at], 1);
    replicas.0[at].behave();
    assert!(call(&client, 11).await);
}

/// C20: failures count in a row, and success closes a breaker, as elsewhere.
#[tokio::test]
async fn c20_held_sessions_close_a_breaker() {
    let replicas = Replicas::start(2).await;
    let front = replicas.front_with(soon, held).await;
    let client = front.client().await;
    let at = crate::sessions::home(&replicas);
    let fail_twice = async || {
        replicas.0[at].on("tools/call", Script::status(503));
        assert!(!call(&client, 1).await);
        assert!(!call(&client, 2).await);
    };
    for _ in 0..3 {
        fail_twice().await;
        replicas.0[at].behave();
        assert!(call(&client, 3).await);
    }
    assert_eq!(condition(&front, at), "serving");
    fail_twice().await;
    assert!(!call(&client, 4).await);
    is_tried(&front, at).await;
    replicas.0[at].behave();
    assert!(call(&client, 5).await);
    assert!(call(&client, 6).await);
    assert_eq!(condition(&front, at), "serving");
}

/// The same of what calls of 2026-07-28 are made in.
#[tokio::test]
async fn c20_sessions_of_calls_open_a_breaker() {
    let replicas = Replicas::start(2).await;
    for replica in &replicas.0 {
        replica.set(|it| it.era = Era::Sessions);
        replica.on("tools/call", Script::status(503));
    }
    let shared = |spec: &mut UpstreamSpec| spec.bridge.sessions = Some(Sharing::Shared);
    let front = replicas.front_with(|_| {}, shared).await;
    let client = Client::new(&front.url);
    for id in 0..3 {
        client.post_modern(&rpc::modern_call(id, "echo")).await;
    }
    let counts = replicas.counts("tools/call");
    let at = usize::from(counts[1] > 0);
    assert_eq!(counts[at], 3, "they share one session");
    assert_eq!(condition(&front, at), "open");
}

/// C20: so does what a server is asked to find out what it speaks, before anything else is.
#[tokio::test]
async fn c20_probes_open_and_close_a_breaker() {
    let replicas = Replicas::stateless(1).await;
    replicas.0[0].die().await;
    let front = replicas.front_with(soon, |_| {}).await;
    let client = Client::new(&front.url);
    let call = async |id: usize| {
        let answer = client.post_modern(&rpc::modern_call(id, "echo")).await;
        answer.status
    };
    for id in 0..3 {
        assert_eq!(call(id).await, 502);
    }
    is_tried(&front, 0).await;
    replicas.0[0].come_back();
    // The probe is one of two, and the call that it is for the other.
    assert_eq!(call(3).await, 200);
    assert_eq!(condition(&front, 0), "serving");
}
