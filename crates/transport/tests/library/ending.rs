//! How requests end that do not come to their answer, and what their end leaves.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use thinpipe_testkit::{eventually, rpc};
use thinpipe_transport::mcp::config::HttpTransportConfig;

use crate::support::{Sampled, streamable, text};

fn cancelled(id: Value) -> String {
    rpc::notification("notifications/cancelled", &json!({ "requestId": id }))
}

/// R227: a cancelled call is dropped, and not answered; its id can be used again, and others go on.
#[tokio::test]
async fn a_cancelled_call_is_dropped() {
    let sampled = streamable(HttpTransportConfig::default()).await;
    let client = sampled.session("2025-11-25").await;
    let mut stream = client.post(rpc::call(1, "wait")).await;
    let mut other = client.post(rpc::call(2, "wait")).await;
    stream.next_message().await;
    other.next_message().await;
    sampled.seen.running(2).await;
    // The same id with another type is another request.
    for id in [json!("1"), json!(3), json!(1)] {
        assert_eq!(client.post(cancelled(id)).await.status, 202);
    }
    sampled.seen.running(1).await;
    assert_eq!(stream.read_to_end().await.len(), 0, "nothing more is said");
    sampled.seen.gate.open();
    assert_eq!(text(&other.next_message().await), "waited");
    let mut again = client.post(rpc::call(1, "count")).await;
    assert_eq!(again.next_message().await["params"]["progress"], 1.0);
}

/// R134: outside of sessions leaving is cancelling.
#[tokio::test]
async fn r134_leaving_cancels_outside_of_sessions() {
    let sampled = streamable(HttpTransportConfig::default()).await;
    let mut stream = sampled
        .client()
        .post_modern(&rpc::modern_call(1, "wait"))
        .await;
    stream.next_message().await;
    sampled.seen.running(1).await;
    stream.close();
    sampled.seen.running(0).await;
    assert_eq!(sampled.seen.finished.load(Ordering::SeqCst), 0);
}

/// R107: in a session it is not.
#[tokio::test]
async fn r107_leaving_does_not_cancel_in_a_session() {
    let sampled = streamable(HttpTransportConfig::default()).await;
    let client = sampled.session("2025-11-25").await;
    let mut stream = client.post(rpc::call(1, "wait")).await;
    stream.next_message().await;
    stream.close();
    // The call's own id tells that the server has noticed: it runs without its client.
    eventually("a call without its client", || async {
        let detached = sampled.server.server().stats().detached;
        (detached == 1)
            .then_some(())
            .ok_or_else(|| format!("{detached} detached"))
    })
    .await;
    sampled.seen.gate.open();
    sampled.seen.running(0).await;
    assert_eq!(sampled.seen.finished.load(Ordering::SeqCst), 1);
}

/// The end of a session ends what runs in it.
#[tokio::test]
async fn the_end_of_a_session_ends_its_calls() {
    let sampled = streamable(HttpTransportConfig::default()).await;
    let client = sampled.session("2025-11-25").await;
    let mut stream = client.post(rpc::call(1, "wait")).await;
    stream.next_message().await;
    assert_eq!(client.delete().await.status, 200);
    sampled.seen.running(0).await;
    stream.read_to_end().await;
    assert_eq!(sampled.server.sessions().stats().live, 0);
}

/// A panic is one request's error: the connection, the session and all others go on.
#[tokio::test]
async fn a_panic_is_an_error_of_its_request() {
    let sampled = streamable(HttpTransportConfig::default()).await;
    let client = sampled.session("2025-11-25").await;
    let mut failed = client.post(rpc::call(1, "panic")).await;
    let answer = failed.json().await;
    assert_eq!(
        (&answer["id"], &answer["error"]["code"]),
        (&json!(1), &json!(-32603))
    );
    assert_eq!(answer["error"]["data"]["reason"], "handler_failed");
    let mut modern = client.post_modern(&rpc::modern_call(2, "panic")).await;
    assert_eq!(modern.json().await["error"]["code"], -32603);
    let mut pong = client.post(rpc::request(3, "ping", &json!({}))).await;
    assert_eq!(pong.json().await["result"], json!({}));
}

/// B1, T2: a handler that is silent for too long is dropped, and its client told so.
#[tokio::test]
async fn b1_a_silent_handler_is_not_waited_for() {
    let config = HttpTransportConfig::builder().request_timeout(Duration::from_millis(50));
    let sampled = streamable(config.build().unwrap()).await;
    let client = sampled.session("2025-11-25").await;
    let mut late = client.post(rpc::call(1, "hang")).await;
    assert_eq!(
        late.json().await["error"]["data"]["reason"],
        "request_timeout"
    );
    // On a stream that has begun it is told there.
    let mut stream = client.post(rpc::call(2, "wait")).await;
    stream.next_message().await;
    assert_eq!(
        stream.next_message().await["error"]["data"]["reason"],
        "request_timeout"
    );
    sampled.seen.running(0).await;
}

/// While the client is asked, its answer has a time of its own.
#[tokio::test]
async fn a_question_is_not_silence() {
    let config = HttpTransportConfig::builder().request_timeout(Duration::from_millis(50));
    let sampled = streamable(config.build().unwrap()).await;
    let client = sampled.session("2025-11-25").await;
    let mut stream = client.post(rpc::call(1, "elicit")).await;
    let id = stream.next_message().await["id"].clone();
    // Another call runs into its time-out meanwhile.
    let mut late = client.post(rpc::call(2, "hang")).await;
    assert_eq!(
        late.json().await["error"]["data"]["reason"],
        "request_timeout"
    );
    let given = json!({ "action": "accept", "content": { "name": "Ada" } });
    assert_eq!(client.post(rpc::response(id, &given)).await.status, 202);
    assert_eq!(text(&stream.next_message().await), "\"Ada\"");
}

/// A31, T1: wherever a client leaves, nothing of it stays: after each number of bytes of its request, before
/// and while it is answered.
#[tokio::test]
async fn a31_a_client_that_leaves_anywhere_leaves_nothing() {
    let sampled = streamable(HttpTransportConfig::default()).await;
    let client = sampled.session("2025-11-25").await;
    for tool in ["count", "wait", "echo", "elicit"] {
        for request in [
            client.post(rpc::call(9, tool)).to_bytes(),
            client.post_modern(&rpc::modern_call(9, tool)).to_bytes(),
        ] {
            for sent in (0..=request.len()).step_by(37).chain([request.len()]) {
                let mut connection = client.connect().await;
                connection.send(request.slice(..sent)).await;
                connection.reset();
            }
        }
    }
    // In the session calls go on without their client, and one at a time has this id.
    sampled.seen.gate.open();
    nothing_runs(&sampled).await;
    assert_eq!(client.delete().await.status, 200);
    let sessions = sampled.server.sessions();
    assert_eq!((sessions.stats().live, sessions.list().len()), (0, 0));
}

async fn nothing_runs(sampled: &Sampled) {
    eventually("nothing runs", || async {
        let stats = sampled.server.server().stats();
        let running = sampled.seen.running.load(Ordering::SeqCst);
        // An elicitation waits for its answer; the end of the session ends it.
        let idle = stats.connections_open == 0 && stats.streams_open == 0 && running == 0;
        idle.then_some(())
            .ok_or_else(|| format!("{running} run: {stats:?}"))
    })
    .await;
}
