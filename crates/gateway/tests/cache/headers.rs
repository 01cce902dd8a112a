//! Headers that repeat arguments, where a list has shown the tool.

use serde_json::{Value, json};
use thinpipe_gateway::UpstreamSpec;
use thinpipe_testkit::{Script, rpc};

use super::{Front, nothing};
use crate::hiding::hide;

/// Calls `region`; the status, and the code of the error if it is one.
async fn region(front: &Front, argument: Value, headers: &[&str]) -> (u16, Option<i64>) {
    let params = json!({"name": "region", "arguments": {"region": argument}});
    let request = rpc::modern(7, "tools/call", params);
    let mut posting = front.client.post_modern(&request);
    for value in headers {
        posting = posting.header("Mcp-Param-Region", value);
    }
    let mut response = posting.await;
    let answer = response.answer().await;
    assert_eq!(answer["id"], 7);
    (response.status, answer["error"]["code"].as_i64())
}

const MISMATCH: (u16, Option<i64>) = (400, Some(-32020));

/// R124, R125: a call that says two things does not reach the server.
#[tokio::test]
async fn r124_headers_of_known_tools_are_checked() {
    let front = Front::start("public").await;
    // Nothing is known yet, so that the server has to say it.
    assert_eq!(region(&front, json!("eu"), &["us"]).await, MISMATCH);
    assert_eq!(front.asked("tools/call"), 1);
    front.ask("tools/list", nothing()).await;
    for (argument, headers) in [
        (json!("eu"), &["us"][..]),
        (json!("eu"), &[]),
        (json!("eu"), &["eu", "eu"]),
        (json!("eu"), &["=?base64?!?="]),
        (json!(null), &["eu"]),
    ] {
        assert_eq!(
            region(&front, argument.clone(), headers).await,
            MISMATCH,
            "{argument} {headers:?}"
        );
    }
    assert_eq!(front.asked("tools/call"), 1);
    assert_eq!(region(&front, json!("eu"), &["eu"]).await, (200, None));
    assert_eq!(region(&front, json!(null), &[]).await, (200, None));
    assert_eq!(front.asked("tools/call"), 3);
}

/// R126: what no schema names is nobody's affair.
#[tokio::test]
async fn r126_headers_that_no_schema_names_pass() {
    let front = Front::start("public").await;
    front.ask("tools/list", nothing()).await;
    let params = json!({"name": "echo", "arguments": {"region": "eu"}});
    let request = rpc::modern(1, "tools/call", params);
    let posting = front.client.post_modern(&request);
    let response = posting.header("Mcp-Param-Other", "x").await;
    assert_eq!(response.status, 200);
    let asked = front.upstream.nth("tools/call", 0).await;
    assert_eq!(asked.headers.get("Mcp-Param-Other"), Some("x"));
}

/// Protocol notes 4.2: known ones are rebuilt if arguments were changed on the way.
#[tokio::test]
async fn headers_of_known_tools_follow_a_change_of_the_arguments() {
    let redact = |spec: &mut UpstreamSpec| hide(spec, "/params/arguments/region");
    let front = Front::with("public", &[], redact).await;
    front.ask("tools/list", nothing()).await;
    assert_eq!(
        region(&front, json!("é"), &["=?base64?w6k=?="]).await,
        (200, None)
    );
    let asked = front.upstream.nth("tools/call", 0).await;
    assert_eq!(asked.headers.get("Mcp-Param-Region"), Some("hidden"));
}

/// R140: what interceptors leave in the arguments may be a number that no header can carry. The call is refused
/// then, and not sent without its headers.
#[tokio::test]
async fn r140_a_call_whose_headers_cannot_be_rebuilt_is_refused() {
    let redact = |spec: &mut UpstreamSpec| hide(spec, "/params/arguments/other");
    let front = Front::with("public", &[], redact).await;
    front.ask("tools/list", nothing()).await;
    let call = |number: i64| {
        let arguments = json!({"region": number, "other": "secret"});
        let params = json!({"name": "region", "arguments": arguments});
        let request = rpc::modern(7, "tools/call", params);
        let posting = front.client.post_modern(&request);
        posting.header("Mcp-Param-Region", &number.to_string())
    };
    let mut refused = call(1 << 53).await;
    let answer = refused.answer().await;
    assert_eq!((refused.status, answer["id"].clone()), (200, json!(7)));
    assert_eq!(answer["error"]["code"], -32602);
    assert_eq!(answer["error"]["data"]["reason"], "invalid_parameter");
    let text = answer["error"]["message"].as_str().unwrap();
    assert!(text.contains("\"region\""), "{text}");
    assert_eq!(front.asked("tools/call"), 0);
    // What the server says to a number is its own affair.
    call((1 << 53) - 1).await;
    let asked = front.upstream.nth("tools/call", 0).await;
    assert_eq!(
        asked.headers.get("Mcp-Param-Region"),
        Some("9007199254740991")
    );
}

/// R140: a client that is refused for its headers asks for the tools again, and has to hear of the new ones,
/// however long the old list was to be good.
#[tokio::test]
async fn r140_after_a_refusal_the_list_comes_from_the_server() {
    let front = Front::start("public").await;
    front.ask("tools/list", nothing()).await;
    front.ask("tools/list", nothing()).await;
    assert_eq!(front.asked("tools/list"), 1);
    // Of the gateway, which may know an old schema.
    assert_eq!(region(&front, json!("eu"), &[]).await, MISMATCH);
    front.ask("tools/list", nothing()).await;
    assert_eq!(front.asked("tools/list"), 2);
    // Of the server, which may have a new one.
    let refusal = Script::error(400, -32020, "Mcp-Param-New is missing");
    front.upstream.once("tools/call", refusal);
    assert_eq!(region(&front, json!("eu"), &["eu"]).await, MISMATCH);
    front.ask("tools/list", nothing()).await;
    assert_eq!(front.asked("tools/list"), 3);
    // For something else, which says nothing of the tools.
    let refusal = Script::error(400, -32602, "no such region");
    front.upstream.once("tools/call", refusal);
    let refused = region(&front, json!("eu"), &["eu"]).await;
    assert_eq!(refused, (400, Some(-32602)));
    front.ask("tools/list", nothing()).await;
    assert_eq!(front.asked("tools/list"), 3);
}
