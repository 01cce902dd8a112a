//! Programs of 2026-07-28, which have neither headers nor statuses (protocol notes 5.5).

use serde_json::json;
use thinpipe_testkit::rpc;

use super::{Front, nothing};

/// R189, R191: kept as those of servers at a URL are, for whom they are.
#[tokio::test]
async fn r189_answers_of_programs_are_kept() {
    let front = Front::of_a_program("private", &["ann", "bob"]).await;
    let mut last = json!(null);
    for _ in 0..2 {
        last = front.ask_as("ann", "prompts/list", nothing()).await;
        front.ask_as("bob", "prompts/list", nothing()).await;
    }
    assert_eq!(front.asked("prompts/list"), 2);
    let left = last["result"]["ttlMs"].as_u64().unwrap();
    assert!(left > 0 && left <= 60_000);
    for _ in 0..2 {
        let call = json!({"name": "echo", "arguments": {}});
        front.ask_as("ann", "tools/call", call).await;
    }
    assert_eq!(front.asked("tools/call"), 2);
}

/// R124: the client's headers are checked, although the program gets none.
#[tokio::test]
async fn r124_headers_for_programs_are_checked() {
    let front = Front::of_a_program("public", &[]).await;
    front.ask("tools/list", nothing()).await;
    let params = json!({"name": "region", "arguments": {"region": "eu"}});
    let call = rpc::modern(1, "tools/call", params);
    let mut refused = front.client.post_modern(&call).await;
    assert_eq!(refused.status, 400);
    assert_eq!(refused.answer().await["error"]["code"], -32020);
    assert_eq!(front.asked("tools/call"), 0);
    let posting = front.client.post_modern(&call);
    let mut taken = posting.header("Mcp-Param-Region", "eu").await;
    assert_eq!(taken.status, 200);
    let answer = taken.answer().await;
    assert_eq!(answer["result"]["content"][0]["text"], "eu");
}
