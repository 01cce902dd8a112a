//! Clients that leave before their answer is whole.

use serde_json::json;

use crate::client::Client;
use crate::gate::Gate;
use crate::rpc;
use crate::scenarios::{
    NEWEST, assert_numbered, filler, in_session, in_session_with_ids, numbered,
};
use crate::upstream::{Outcome, Script, Upstream};

/// R107: with sessions, a client that leaves has not cancelled. If the upstream's events have no ids, its
/// answer is read to the end and thrown away.
pub async fn client_leaves_e1_without_ids_is_drained(gateway: &str, upstream: &Upstream) {
    let client = in_session(gateway).await;
    let (open, gate) = (Gate::new(), Gate::new());
    let script = Script::events()
        .message(rpc::progress(1, 2))
        .wait(&gate)
        .fill(filler().to_bytes(), 200)
        .message(rpc::text_result("done"));
    // In the middle of a stream, by FIN and by RST.
    for (id, reset) in [false, true].into_iter().enumerate() {
        upstream.once("tools/call", script.clone());
        let mut response = client.post(rpc::call(id, "echo")).await;
        assert_eq!(response.next_message().await["params"]["progress"], 1);
        gate.reached_times(id + 1).await;
        if reset {
            response.into_raw().reset();
        } else {
            response.close();
        }
        settle(gateway).await;
        gate.release(1);
        upstream
            .wait_until(|seen| seen.outcome("tools/call") == Some(Outcome::Complete))
            .await;
    }
    // Before there is a head.
    upstream.once(
        "tools/call",
        Script::json(rpc::text_result("late")).late(&open),
    );
    let connection = client.post(rpc::call("headless", "echo")).send().await;
    open.reached().await;
    connection.close();
    settle(gateway).await;
    open.open();
    upstream
        .wait_until(|seen| seen.outcome("tools/call") == Some(Outcome::Complete))
        .await;
    assert_eq!(upstream.record().count("tools/call"), 3);
    assert_eq!(client.post(rpc::call("after", "echo")).await.status, 200);
}

/// R074, B6: a client that leaves before `initialize` is answered never learns of its session: it ends, at
/// the upstream too, which issued an id of its own.
pub async fn client_leaves_initialize_ends_upstream_session(gateway: &str, upstream: &Upstream) {
    for (id, reset) in [("left-by-fin", false), ("left-by-rst", true)] {
        let gate = Gate::new();
        let opened = Script::json(rpc::initialize_result(NEWEST)).header("Mcp-Session-Id", id);
        upstream.once("initialize", opened.late(&gate));
        let connection = Client::new(gateway)
            .post(rpc::initialize(id, NEWEST))
            .send()
            .await;
        gate.reached().await;
        if reset {
            connection.reset();
        } else {
            connection.close();
        }
        settle(gateway).await;
        gate.open();
        upstream
            .wait_until(|seen| seen.all("DELETE").any(|end| end.session() == Some(id)))
            .await;
    }
}

/// R101, R103, R107: with sessions and event ids, the upstream's connection is closed when the client
/// leaves, and the client resumes there what it has not seen.
pub async fn client_leaves_e1_with_ids_closes_upstream(gateway: &str, upstream: &Upstream) {
    let client = in_session_with_ids(gateway, upstream).await;
    let events = numbered("left", 10);
    upstream.open_stream("left", events[..3].to_vec());
    upstream.on("tools/call", Script::stream("left"));
    let mut response = client.post(rpc::call(1, "echo")).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.extend(response.next_event().await);
    }
    response.close();
    upstream
        .wait_until(|seen| seen.outcome("tools/call") == Some(Outcome::Cancelled))
        .await;
    for event in &events[3..] {
        upstream.append("left", event.clone());
    }
    upstream.finish("left");
    let mut resumed = client.resume("left-2").await;
    let (rest, end) = resumed.events_to_end().await;
    assert_eq!(end, Ok(()));
    seen.extend(rest);
    assert_numbered(&seen, "left", 10, 1);
    let record = upstream.record();
    assert_eq!(
        (record.count("tools/call"), record.count("GET")),
        (1, 1),
        "{record}"
    );
    assert_eq!(
        record.last("GET").and_then(|get| get.last_event_id()),
        Some("left-2")
    );
}

/// K7, R134: in the stateless revision leaving is cancelling: the upstream's connection is closed at once,
/// in the middle of a stream and before there is a head.
pub async fn client_leaves_e2_cancels_upstream(gateway: &str, upstream: &Upstream) {
    let client = in_session(gateway).await;
    upstream.on(
        "tools/call",
        Script::events().message(rpc::progress(1, 2)).stall(),
    );
    let mut response = client.post_modern(&rpc::modern_call(1, "echo")).await;
    assert_eq!(response.next_message().await["params"]["progress"], 1);
    response.close();
    upstream
        .wait_until(|seen| seen.outcome("tools/call") == Some(Outcome::Cancelled))
        .await;

    upstream.on("tools/call", Script::silent());
    let connection = client
        .post_modern(&rpc::modern_call(2, "echo"))
        .send()
        .await;
    upstream.nth("tools/call", 1).await;
    connection.reset();
    upstream.wait_until(|seen| seen.cancelled == 2).await;

    let listen = json!({"notifications": {"toolsListChanged": true}});
    let listen = rpc::modern("L", "subscriptions/listen", listen);
    let mut response = client.post_modern(&listen).await;
    assert_eq!(
        response.next_message().await["method"],
        "notifications/subscriptions/acknowledged"
    );
    response.close();
    upstream
        .wait_until(|seen| seen.cancelled == 3 && seen.open_streams == 0)
        .await;
    assert_eq!(upstream.record().count("tools/call"), 2);
}

/// Gives the gateway reason to have noticed whatever happened before: it has served a request from
/// its beginning to its end since then.
async fn settle(gateway: &str) {
    let client = in_session(gateway).await;
    client
        .post(rpc::request("settle", "ping", &json!({})))
        .await
        .read_to_end()
        .await;
}
