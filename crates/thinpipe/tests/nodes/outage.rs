//! The store is out of reach (F17).

use serde_json::json;
use thinpipe_testkit::{eventually, rpc};

use crate::support::Settings;
use crate::world::{BOTH, World, answers};

/// F17: while the store is away, sessions that are here go on; what needs it gets 503; it is used again by itself.
#[tokio::test]
async fn f17_without_its_store_a_process_does_what_it_can() {
    let mut world = World::start().await;
    let one = world.gateway().await;
    let client = one.client().await;
    world.redis[0].kill().await;
    answers(&client, "without").await;
    let mut refused = one.stranger().post(rpc::initialize(1, "2025-11-25")).await;
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some());
    let error = refused.json().await;
    assert_eq!(
        error["error"]["data"]["reason"],
        "session_store_unavailable"
    );
    // What its server had opened for it is ended again.
    let is_ended = |seen: &thinpipe_testkit::Record| seen.count("DELETE") == 1;
    world.upstream.wait_until(is_ended).await;
    one.process
        .line_with("the store does not do what it is asked")
        .await;
    let status = one.status().await;
    assert_eq!(
        (&status["store"]["up"], &status["status"]),
        (&json!(false), &json!("degraded"))
    );
    assert_eq!(one.admin("/ready").await.status, 200);

    world.redis[0].restart().await;
    one.process.line_with("the store is reached again").await;
    let anew = one.client().await;
    answers(&anew, "again").await;
    let metrics = one.admin("/metrics").await.read_to_end().await;
    let metrics = String::from_utf8_lossy(&metrics).into_owned();
    assert!(metrics.contains("thinpipe_store_up{} 1"), "{metrics}");
    let create = "thinpipe_store_operation_seconds_count{operation=\"create\"} ";
    assert!(metrics.contains(create), "{metrics}");
}

/// F17: while the store hangs, a session goes on at the gateways that have it, and others say within their deadline when
/// to come again; then they have it too, by themselves.
#[tokio::test]
async fn f17_a_session_is_not_moved_while_the_store_hangs() {
    for upstream in BOTH {
        let world = World::with(Settings::of_upstream(upstream)).await;
        let (one, other) = (world.gateway().await, world.gateway().await);
        let client = one.client().await;
        let visitor = client.at(&other.url);
        world.redis[0].pause().await;
        answers(&client, "here").await;
        let mut refused = visitor.post(rpc::call("there", "echo")).await;
        assert_eq!(refused.status, 503, "{upstream:?}");
        assert!(refused.header("retry-after").is_some());
        let error = refused.json().await;
        let reason = &error["error"]["data"]["reason"];
        assert_eq!(reason, "session_store_unavailable", "{error}");
        world.redis[0].resume().await;
        eventually("it is served there", async || {
            let response = visitor.post(rpc::call("again", "echo")).await;
            match response.status {
                200 => Ok(()),
                503 => Err("503".to_owned()),
                status => panic!("{status}"),
            }
        })
        .await;
        answers(&client, "here again").await;
        let ids = world.upstream.requests("tools/call");
        let there = ids.iter().filter(|call| call.json()["id"] == "there");
        assert_eq!(there.count(), 0, "what got 503 did not run");
    }
}

/// F17: a process starts without its store, says so, is not ready, and goes on when it is there.
#[tokio::test]
async fn f17_a_process_starts_before_its_store() {
    let mut world = World::start().await;
    world.redis[0].kill().await;
    let gateway = world.starting().await;
    let said = gateway.process.line_with("cannot be used yet").await;
    assert!(said.contains(&world.redis[0].url()), "{said}");
    assert!(said.contains("; is Redis started there?"), "{said}");
    let mut ready = gateway.admin("/ready").await;
    let answer = ready.json().await;
    assert_eq!(
        (ready.status, &answer["status"]),
        (503, &json!("store_unreachable"))
    );
    world.redis[0].restart().await;
    gateway
        .process
        .line_with("sessions are kept in redis://")
        .await;
    assert_eq!(gateway.admin("/ready").await.status, 200);
    answers(&gateway.client().await, "first").await;
    let told = gateway.process.lines();
    let twice = told.iter().find(|line| line.contains("does not do what"));
    assert_eq!(twice, None, "it was said at the start");
}
