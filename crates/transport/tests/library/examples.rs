//! The examples, as their users run them.

use serde_json::{Value, json};
use thinpipe_testkit::{Client, Process, SseClient, rpc};

use crate::support::{modern_with, text};

/// Starts an example on a free port; where it listens.
async fn start(name: &str) -> (Process, String) {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(|deps| deps.parent()).unwrap();
    let process = Process::start(profile.join("examples").join(name), ["127.0.0.1:0"]);
    let url = process.word_after("listening on").await;
    (process, url)
}

async fn stop(mut process: Process) {
    process.signal("INT").await;
    assert!(process.wait().await.success());
}

/// Its three tools, over both transports and in both eras.
#[tokio::test]
async fn three_tools() {
    let (process, url) = start("three_tools").await;
    let mut client = Client::new(&url);
    client.initialize("2025-11-25").await;
    let add = rpc::call_with(1, "add", &json!({ "a": 1, "b": 2 }));
    assert_eq!(text(&client.post(&add).await.answer().await), "3");
    let mut stream = client
        .post(rpc::call_with(2, "count", &json!({ "to": 2 })))
        .await;
    assert_eq!(stream.next_message().await["params"]["progress"], 1.0);
    let who = client
        .post_modern(&rpc::modern_call(3, "whoami"))
        .await
        .answer()
        .await;
    assert_eq!(who["result"]["structuredContent"]["revision"], "2026-07-28");
    drop(stream);

    let mut legacy = SseClient::open(&url.replace("/mcp", "/sse")).await;
    legacy.initialize("2024-11-05").await;
    assert_eq!(text(&legacy.ask(&add).await), "3");
    let who = legacy.ask(rpc::call(4, "whoami")).await;
    assert_eq!(who["result"]["structuredContent"]["binding"], "HTTP+SSE");
    drop(legacy);
    client.delete().await;
    stop(process).await;
}

#[tokio::test]
async fn elicitation() {
    let (process, url) = start("elicitation").await;
    let mut client = Client::new(&url);
    client.initialize("2025-11-25").await;
    let mut stream = client
        .post(rpc::call_with(1, "book", &json!({ "to": "Rome" })))
        .await;
    let question = stream.next_message().await;
    assert_eq!(question["params"]["message"], "Which seat to Rome?");
    let seat = json!({ "action": "accept", "content": { "seat": "aisle" } });
    client
        .post(rpc::response(question["id"].clone(), &seat))
        .await;
    let booked = "Booked to Rome, aisle seat.";
    assert_eq!(text(&stream.next_message().await), booked);

    let call = |more: Value| {
        let mut params = json!({ "name": "book", "arguments": { "to": "Rome" } });
        params
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        client.post_modern(&modern_with(
            2,
            "tools/call",
            params,
            &json!({ "elicitation": {} }),
        ))
    };
    let asked = call(json!({})).await.answer().await;
    assert!(
        asked["result"]["inputRequests"]["seat"].is_object(),
        "{asked}"
    );
    let given = json!({ "inputResponses": { "seat": seat } });
    assert_eq!(text(&call(given).await.answer().await), booked);
    stop(process).await;
}

#[tokio::test]
async fn axum() {
    let (process, url) = start("axum").await;
    let mut client = Client::new(&url);
    client.initialize("2025-11-25").await;
    let whence = rpc::call(1, "whence");
    assert_eq!(
        text(&client.post(&whence).await.answer().await),
        "127.0.0.1"
    );
    let mut legacy = SseClient::of(
        SseClient::opening(&Client::new(&url.replace("/mcp", "/sse"))).await,
        &client,
    )
    .await;
    assert!(
        legacy.endpoint().starts_with("/tools/messages?"),
        "{}",
        legacy.endpoint()
    );
    legacy.initialize("2024-11-05").await;
    assert_eq!(text(&legacy.ask(&whence).await), "127.0.0.1");
    drop(legacy);
    let page = Client::new(&url.replace("/tools/mcp", "/"))
        .request("GET")
        .await
        .read_to_end()
        .await;
    assert!(page.starts_with(b"The MCP server"));
    stop(process).await;
}

/// A22, A29: the program that the guide begins with warns in the log, and ends with its report.
#[tokio::test]
async fn a29_migrating() {
    let (mut process, url) = start("migrating").await;
    let mut legacy = SseClient::open(&url).await;
    legacy.initialize("2024-11-05").await;
    process
        .line_with("uses HTTP+SSE, which is deprecated")
        .await;
    drop(legacy);
    process.signal("INT").await;
    assert!(process.wait().await.success());
    let lines = process.lines_to_end().await.join("\n");
    let (_, report) = lines.split_once("\n{").unwrap();
    assert!(
        report.contains("\"testkit\"") || report.contains("\"name\""),
        "{lines}"
    );
}
