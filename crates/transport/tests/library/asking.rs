//! Asking the client, in either era.

use serde_json::{Value, json};
use thinpipe_testkit::{Client, Response, rpc};
use thinpipe_transport::mcp::config::HttpTransportConfig;

use crate::support::{modern_with, streamable, text};

/// The server's question on a stream: its id and what it asks.
async fn question(stream: &mut Response) -> (Value, String) {
    let message = stream.next_message().await;
    let method = message["method"]
        .as_str()
        .unwrap_or_else(|| panic!("{message}"))
        .to_owned();
    (message["id"].clone(), method)
}

fn accepted(id: Value, name: &str) -> String {
    rpc::response(
        id,
        &json!({ "action": "accept", "content": { "name": name } }),
    )
}

async fn told(client: &Client, answer: String) {
    assert_eq!(client.post(answer).await.status, 202);
}

/// B8, A12, T4, T13: equal ids in different sessions do not get in each other's way.
#[tokio::test]
async fn b8_answers_go_to_the_session_that_asked() {
    let sampled = streamable(HttpTransportConfig::default()).await;
    let (first, second) = (
        sampled.session("2025-11-25").await,
        sampled.session("2025-06-18").await,
    );
    let mut to_first = first.post(rpc::call(1, "elicit")).await;
    let mut to_second = second.post(rpc::call(1, "elicit")).await;
    let (id, method) = question(&mut to_first).await;
    let (other, _) = question(&mut to_second).await;
    assert_eq!((&*method, &id), ("elicitation/create", &other));
    told(&second, accepted(other, "second")).await;
    assert_eq!(text(&to_second.next_message().await), "\"second\"");
    told(&first, accepted(id, "first")).await;
    assert_eq!(text(&to_first.next_message().await), "\"first\"");
}

/// B8, R080: late, second and unknown answers are taken and dropped; errors are answers.
#[tokio::test]
async fn b8_what_nobody_waits_for_is_dropped() {
    let sampled = streamable(HttpTransportConfig::default()).await;
    let client = sampled.session("2025-11-25").await;
    told(&client, accepted(json!(99), "nobody")).await;
    told(&client, accepted(json!("x"), "nobody")).await;
    let mut stream = client.post(rpc::call(1, "elicit")).await;
    let (id, _) = question(&mut stream).await;
    let error = json!({ "jsonrpc": "2.0", "id": id, "error": { "code": -1, "message": "no" } });
    told(&client, error.to_string()).await;
    let answer = stream.next_message().await;
    assert_eq!(answer["error"]["code"], -32603);
    assert_eq!(answer["error"]["message"], "the client refused: no (-1)");
    told(&client, accepted(id, "too late")).await;
}

/// R224, R236: only what was declared is asked; over 2026-07-28 nothing is, in the course of a request.
#[tokio::test]
async fn what_was_not_declared_is_not_asked() {
    let sampled = streamable(HttpTransportConfig::default()).await;
    let mut client = sampled.client();
    let mut opened = client
        .post(rpc::initialize(0, "2025-11-25").replace("elicitation", "x"))
        .await;
    let session = opened.header("Mcp-Session-Id").unwrap().to_owned();
    opened.json().await;
    for tool in ["elicit", "require"] {
        let call = client
            .post(rpc::call(1, tool))
            .header("Mcp-Session-Id", &session);
        let error = call.await.json().await["error"].clone();
        assert_eq!(
            error["data"]["requiredCapabilities"],
            json!({ "elicitation": { "form": {} } })
        );
    }
    client.initialize("2025-11-25").await;
    let mut modern = client.post_modern(&rpc::modern_call(1, "elicit")).await;
    assert_eq!(modern.json().await["error"]["code"], -32603);
    let mut refused = client.post_modern(&rpc::modern_call(1, "require")).await;
    assert_eq!(refused.status, 400);
    assert_eq!(refused.json().await["error"]["code"], -32021);
}

/// R222: in 2026-07-28 the client is told what is required, and calls again with it.
#[tokio::test]
async fn required_input_is_asked_for_by_the_result() {
    let sampled = streamable(HttpTransportConfig::default()).await;
    let (client, can) = (sampled.client(), json!({ "elicitation": {} }));
    let call = |more: Value| {
        let mut params = json!({ "name": "require", "arguments": {} });
        params
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        client.post_modern(&modern_with(1, "tools/call", params, &can))
    };
    let result = call(json!({})).await.json().await["result"].clone();
    assert_eq!(result["resultType"], "input_required");
    assert_eq!(
        result["inputRequests"]["who"]["method"],
        "elicitation/create"
    );
    assert!(
        result.get("ttlMs").is_none() && result.get("content").is_none(),
        "{result}"
    );
    let given = json!({ "who": { "action": "accept", "content": { "name": "Ada" } } });
    let mut done = call(json!({ "inputResponses": given })).await;
    assert_eq!(text(&done.json().await), "\"Ada\"");
    // R158: what is no answer is none.
    for wrong in [
        json!(null),
        json!({ "who": null }),
        json!({ "who": "Ada" }),
        json!([]),
    ] {
        let mut refused = call(json!({ "inputResponses": wrong })).await;
        assert_eq!(refused.json().await["error"]["code"], -32602, "{wrong}");
    }
}

/// The same handler asks in a session, where the library does it.
#[tokio::test]
async fn required_input_is_asked_for_in_the_session() {
    let sampled = streamable(HttpTransportConfig::default()).await;
    let client = sampled.session("2025-06-18").await;
    let mut stream = client.post(rpc::call(1, "require")).await;
    let (id, method) = question(&mut stream).await;
    assert_eq!(method, "elicitation/create");
    told(&client, accepted(id, "Ada")).await;
    assert_eq!(text(&stream.next_message().await), "\"Ada\"");
}

/// B8, protocol notes 5.1, "Cancel": a call that is cancelled while it asks takes its question back, on the
/// stream on which it was asked.
#[tokio::test]
async fn b8_a_cancelled_call_takes_its_question_back() {
    let sampled = streamable(HttpTransportConfig::default()).await;
    let client = sampled.session("2025-11-25").await;
    let mut stream = client.post(rpc::call(1, "elicit")).await;
    let (asked, _) = question(&mut stream).await;
    let cancel = rpc::notification("notifications/cancelled", &json!({ "requestId": 1 }));
    told(&client, cancel).await;
    let taken_back = stream.next_message().await;
    assert_eq!(taken_back["method"], "notifications/cancelled");
    assert_eq!(taken_back["params"]["requestId"], asked);
    assert_eq!(stream.read_to_end().await.len(), 0, "and no answer");
}

/// B8: the end of the session ends the wait.
#[tokio::test]
async fn b8_the_end_of_the_session_ends_the_wait() {
    let sampled = streamable(HttpTransportConfig::default()).await;
    let client = sampled.session("2025-11-25").await;
    let mut stream = client.post(rpc::call(1, "elicit")).await;
    question(&mut stream).await;
    assert_eq!(client.delete().await.status, 200);
    stream.read_to_end().await;
    assert_eq!(client.post(rpc::call(2, "count")).await.status, 404);
}
