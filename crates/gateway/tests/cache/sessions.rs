//! Clients with sessions, whose requests are calls of the gateway's (protocol notes 5.3).

use serde_json::{Value, json};
use thinpipe_testkit::{Client, Script, rpc};

use super::Front;

async fn ask(client: &Client, method: &str, params: Value) -> Value {
    let request = rpc::request(7, method, &params);
    client.post(request).await.answer().await
}

/// Protocol notes 5.3, "initialize": discover is cached, and so are lists; of all that the client sees
/// nothing.
#[tokio::test]
async fn clients_with_sessions_are_given_what_was_kept() {
    let front = Front::start("public").await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = front.client.clone();
        client.initialize("2025-11-25").await;
        clients.push(client);
    }
    let discovered = front.asked("server/discover");
    let mut third = front.client.clone();
    third.initialize("2025-06-18").await;
    assert_eq!(front.asked("server/discover"), discovered);
    for client in &clients {
        let prompts = ask(client, "prompts/list", json!({})).await;
        assert!(prompts["result"]["prompts"].is_array());
        for modern in ["ttlMs", "cacheScope", "resultType"] {
            assert!(prompts["result"].get(modern).is_none());
        }
    }
    assert_eq!(front.asked("prompts/list"), 1);
    // A client of 2026-07-28 shares it with them.
    let request = rpc::modern(1, "prompts/list", json!({}));
    let modern = front.client.post_modern(&request).await.answer().await;
    assert_eq!(modern["result"]["cacheScope"], "public");
    assert_eq!(front.asked("prompts/list"), 1);
}

/// R140: `-32020` makes the gateway read the tools anew, from the server, and call once more.
#[tokio::test]
async fn r140_a_refusal_for_headers_reads_the_tools_anew() {
    let front = Front::start("public").await;
    let mut client = front.client.clone();
    client.initialize("2025-11-25").await;
    let tools = ask(&client, "tools/list", json!({})).await;
    assert!(tools["result"]["tools"].is_array());
    let listed = front.asked("tools/list");
    let refusal = Script::error(400, -32020, "Mcp-Param-Region is not the argument");
    front.upstream.once("tools/call", refusal);
    let call = json!({"name": "region", "arguments": {"region": "eu"}});
    let answer = ask(&client, "tools/call", call).await;
    assert_eq!(answer["result"]["content"][0]["text"], "eu", "{answer}");
    assert_eq!(front.asked("tools/list"), listed + 1);
    assert_eq!(front.asked("tools/call"), 2);
    let last = front.upstream.nth("tools/call", 1).await;
    assert_eq!(last.headers.get("Mcp-Param-Region"), Some("eu"));
}

/// R141: the tool that breaks the rules of headers is not shown, and cannot be called.
#[tokio::test]
async fn r141_clients_with_sessions_do_not_see_tools_with_wrong_headers() {
    let front = Front::start("public").await;
    let mut client = front.client.clone();
    client.initialize("2025-11-25").await;
    let answer = ask(&client, "tools/list", json!({})).await;
    let tools = super::tools(&answer);
    assert!(tools.contains(&"region") && !tools.contains(&"bad_header"));
    let call = json!({"name": "bad_header", "arguments": {"ratio": 0.5}});
    let answer = ask(&client, "tools/call", call).await;
    assert_eq!(answer["error"]["code"], -32602);
    assert_eq!(front.asked("tools/call"), 0);
}
