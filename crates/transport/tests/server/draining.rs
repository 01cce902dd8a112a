//! What passes while the server drains, and how long draining can take.

use std::sync::atomic::Ordering;

use serde_json::json;
use thinpipe_testkit::{DEADLINE, rpc};

use crate::support::{call, config, start, until};

/// C22: a running call may wait for its client. While it runs, what the client has to say to it and
/// the end of the session pass on the connections the client has; only new work gets 503.
#[tokio::test]
async fn c22_a_client_can_answer_while_the_server_drains() {
    let running = start(config()).await;
    let client = running.client("2025-11-25").await;
    let waiting = client.post(call(1, "wait")).send().await;
    let mut idle = Vec::new();
    for _ in 0..7 {
        idle.push(client.connect().await);
    }
    let last = client.connect().await;
    until("it runs", || {
        running.sample.begun.load(Ordering::SeqCst) == 1
            && running.server.stats().connections_open >= 9
    })
    .await;
    let server = running.server.clone();
    let down = tokio::spawn(async move { server.shut_down().await });
    running.server.draining().cancelled().await;
    let mut connection = || idle.pop().unwrap();

    let answer = client.post(rpc::response(7, &json!({"action": "accept"})));
    assert_eq!(answer.on(connection()).await.status, 202);
    let cancelled = rpc::notification("notifications/cancelled", &json!({"requestId": 1}));
    assert_eq!(client.post(cancelled).on(connection()).await.status, 202);
    for (request, id) in [
        (client.post(call(2, "echo")), 2),
        (client.post(rpc::initialize(3, "2025-11-25")), 3),
        (client.post_modern(&rpc::modern_call(4, "echo")), 4),
    ] {
        let mut refused = request.on(connection()).await;
        assert_eq!(refused.status, 503, "{id}");
        assert_eq!(refused.json().await["id"], id);
    }
    assert_eq!(client.get().on(connection()).await.status, 503);
    assert_eq!(client.delete().on(connection()).await.status, 202);

    running.sample.gate.lock().unwrap().open();
    assert_eq!(waiting.response().await.status, 200);
    assert!(last.closed().await.is_empty(), "nothing runs any more");
    tokio::time::timeout(DEADLINE, down)
        .await
        .expect("draining ends")
        .unwrap();
}
