//! What every server does alike: negotiation, shapes, methods, levels, headers.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use thinpipe_testkit::rpc;
use thinpipe_transport::mcp::config::HttpTransportConfig;

use crate::support::{modern_with, streamable, text};

/// B16, R213, protocol notes 1.2: what is known is agreed on, and anything else is the newest with sessions.
#[tokio::test]
async fn b16_revisions_are_negotiated() {
    let sampled = streamable(HttpTransportConfig::default()).await;
    for (asked, agreed) in [
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
        ("2031-01-01", "2025-11-25"),
    ] {
        let mut answer = sampled.client().post(rpc::initialize(0, asked)).await;
        assert!(answer.header("Mcp-Session-Id").is_some());
        let result = answer.json().await["result"].clone();
        assert_eq!(result["protocolVersion"], agreed, "{asked}");
        let server = json!({ "name": "sample", "version": "1", "title": "A sample" });
        assert_eq!(result["serverInfo"], server);
        assert_eq!(result["instructions"], "Use it well.");
        let capabilities = json!({
            "tools": { "listChanged": true }, "resources": { "subscribe": true }, "logging": {},
        });
        assert_eq!(
            result["capabilities"], capabilities,
            "nothing of 2026-07-28"
        );
    }
}

/// R128, R150, R154: of each era's methods those that are declared; 404 in 2026-07-28 only.
#[tokio::test]
async fn r154_methods_are_those_of_the_revision_and_the_server() {
    let sampled = streamable(HttpTransportConfig::default()).await;
    let client = sampled.session("2025-11-25").await;
    let mut pong = client.post(rpc::request(1, "ping", &json!({}))).await;
    assert_eq!(pong.json().await["result"], json!({}));
    for method in [
        "prompts/list",
        "server/discover",
        "subscriptions/listen",
        "acme/none",
    ] {
        let mut refused = client.post(rpc::request(2, method, &json!({}))).await;
        assert_eq!(refused.status, 200, "{method}");
        assert_eq!(refused.json().await["error"]["code"], -32601, "{method}");
    }
    for method in [
        "prompts/list",
        "ping",
        "logging/setLevel",
        "resources/subscribe",
        "acme/none",
    ] {
        let mut refused = client.post_modern(&rpc::modern(3, method, json!({}))).await;
        assert_eq!(refused.status, 404, "{method}");
        let answer = refused.json().await;
        assert_eq!(
            (&answer["id"], &answer["error"]["code"]),
            (&json!(3), &json!(-32601))
        );
    }
    let mut discovered = client
        .post_modern(&rpc::modern(4, "server/discover", json!({})))
        .await;
    let result = discovered.json().await["result"].clone();
    assert_eq!(result["supportedVersions"][0], "2026-07-28");
    assert_eq!(result["supportedVersions"].as_array().unwrap().len(), 5);
    assert!(result["capabilities"]["extensions"].is_object(), "{result}");
    assert_eq!(result["resultType"], "complete");
    assert_eq!(
        (&result["ttlMs"], &result["cacheScope"]),
        (&json!(0), &json!("private"))
    );
}

/// R131, R217: a result has the members of its revision, whether it is a value or text.
#[tokio::test]
async fn r131_results_have_the_shape_of_their_revision() {
    let sampled = streamable(HttpTransportConfig::default()).await;
    let client = sampled.session("2025-11-25").await;
    let mut raw = client
        .post(rpc::request(1, "acme/raw", &json!({ "a": [1.50, "é"] })))
        .await;
    assert_eq!(raw.json().await["result"], json!({ "a": [1.5, "é"] }));
    let mut called = client.post_modern(&rpc::modern_call(2, "count")).await;
    let answer = called.answer().await;
    assert_eq!(text(&answer), "counted");
    assert_eq!(answer["result"]["resultType"], "complete");
    let server = &answer["result"]["_meta"]["io.modelcontextprotocol/serverInfo"];
    assert_eq!(server["name"], "sample");
}

/// R155, R153: what does not exist has the code of its revision.
#[tokio::test]
async fn r155_missing_resources_have_the_code_of_the_revision() {
    let sampled = streamable(HttpTransportConfig::default()).await;
    let client = sampled.session("2025-11-25").await;
    let params = json!({ "uri": "test://none" });
    let mut legacy = client
        .post(rpc::request(1, "resources/read", &params))
        .await;
    assert_eq!(legacy.json().await["error"]["code"], -32002);
    let mut modern = client
        .post_modern(&rpc::modern(1, "resources/read", params))
        .await;
    let error = modern.json().await["error"].clone();
    assert_eq!(
        (&error["code"], &error["data"]["uri"]),
        (&json!(-32602), &json!("test://none"))
    );
}

/// R151
#[tokio::test]
async fn r151_a_missing_capability_is_named() {
    let sampled = streamable(HttpTransportConfig::default()).await;
    let mut refused = sampled
        .client()
        .post_modern(&rpc::modern(1, "acme/needs", json!({})))
        .await;
    assert_eq!(refused.status, 400);
    let error = refused.json().await["error"].clone();
    assert_eq!(error["code"], -32021);
    assert_eq!(
        error["data"]["requiredCapabilities"],
        json!({ "sampling": {} })
    );
}

/// R124: the headers of a tool whose schema is known.
#[tokio::test]
async fn r124_param_headers_say_what_the_arguments_say() {
    let sampled = streamable(HttpTransportConfig::default()).await;
    let call = |header: Option<&str>| {
        let params = json!({ "name": "echo", "arguments": { "text": "hi" } });
        let mut request = rpc::modern(1, "tools/call", params);
        if let Some(header) = header {
            request.headers.push("Mcp-Param-Text", header);
        }
        let client = sampled.client();
        async move {
            let mut answer = client.post_modern(&request).await;
            (answer.status, answer.json().await)
        }
    };
    assert_eq!(text(&call(Some("hi")).await.1), "hi");
    for wrong in [None, Some("ho")] {
        let (status, answer) = call(wrong).await;
        assert_eq!(
            (status, &answer["error"]["code"]),
            (400, &json!(-32020)),
            "{answer}"
        );
    }
}

/// R135, R136, R218: log messages of the level that was asked for, and none that was not.
#[tokio::test]
async fn r135_log_messages_respect_the_level() {
    let sampled = streamable(HttpTransportConfig::default()).await;
    let client = sampled.session("2025-11-25").await;
    let logged = async |messages: &[Value]| -> Vec<String> {
        let levels = messages
            .iter()
            .filter(|m| m["method"] == "notifications/message");
        levels
            .map(|m| m["params"]["data"].as_str().unwrap().to_owned())
            .collect()
    };
    let legacy = async || {
        let mut answer = client.post(rpc::call(1, "log")).await;
        let mut messages = Vec::new();
        while answer.is_stream() {
            let message = answer.next_message().await;
            let last = message.get("result").is_some();
            messages.push(message);
            if last {
                break;
            }
        }
        logged(&messages).await
    };
    assert_eq!(
        legacy().await,
        ["info", "error"],
        "until something else is set"
    );
    let set = |level: &str| rpc::request(2, "logging/setLevel", &json!({ "level": level }));
    let mut done = client.post(set("error")).await;
    assert_eq!(done.json().await["result"], json!({}));
    assert_eq!(legacy().await, ["error"]);
    let mut refused = client.post(set("loud")).await;
    assert_eq!(refused.json().await["error"]["code"], -32602);

    let silent = client.post_modern(&rpc::modern_call(3, "log")).await;
    assert!(!silent.is_stream(), "nothing was asked for");
    let mut wanted = rpc::modern_call(4, "log");
    wanted.body = wanted.body.replace(
        r#""progressToken""#,
        r#""io.modelcontextprotocol/logLevel":"error","progressToken""#,
    );
    let mut answer = client.post_modern(&wanted).await;
    assert_eq!(answer.next_message().await["params"]["level"], "error");
    assert_eq!(text(&answer.next_message().await), "logged");
    wanted.body = wanted.body.replace(r#""error""#, r#""loud""#);
    let mut refused = client.post_modern(&wanted).await;
    assert_eq!(refused.json().await["error"]["code"], -32602);
}

/// Progress only gets further, and is told only under a token.
#[tokio::test]
async fn progress_gets_further_only() {
    let sampled = streamable(HttpTransportConfig::default()).await;
    let client = sampled.session("2025-11-25").await;
    let mut answer = client.post(rpc::call(7, "count")).await;
    for step in [1, 2, 3] {
        let params = answer.next_message().await["params"].clone();
        let expected = json!({
            "progressToken": 7, "progress": step, "total": 3, "message": "on the way",
        });
        assert_eq!(params, expected);
    }
    assert_eq!(text(&answer.next_message().await), "counted");
    let silent = rpc::request(8, "tools/call", &json!({ "name": "count" }));
    assert!(
        !client.post(silent).await.is_stream(),
        "without a token there is nothing to stream"
    );
}

/// T9: notifications are passed on and answered 202; `ping` is answered with an empty object.
#[tokio::test]
async fn t9_notifications_reach_the_handler() {
    let sampled = streamable(HttpTransportConfig::default()).await;
    let client = sampled.session("2025-11-25").await;
    let changed = rpc::notification("notifications/roots/list_changed", &json!({}));
    let mut taken = client.post(changed).await;
    assert_eq!((taken.status, taken.read_to_end().await.len()), (202, 0));
    assert_eq!(sampled.seen.told.load(Ordering::SeqCst), 1);
}

/// Tools that do not exist and arguments that do not fit are `-32602`.
#[tokio::test]
async fn what_is_no_call_of_a_tool_is_refused() {
    let sampled = streamable(HttpTransportConfig::default()).await;
    let client = sampled.session("2025-11-25").await;
    for params in [
        json!({ "name": "none" }),
        json!({ "name": "echo" }),
        json!({ "name": "echo", "arguments": { "text": 1 } }),
        json!({ "name": 1 }),
        json!({}),
    ] {
        let mut refused = client.post(rpc::request(1, "tools/call", &params)).await;
        assert_eq!(refused.json().await["error"]["code"], -32602, "{params}");
    }
    let cursor = modern_with(2, "tools/list", json!({ "cursor": "x" }), &json!({}));
    let mut refused = client.post_modern(&cursor).await;
    assert_eq!(refused.json().await["error"]["code"], -32602);
}
