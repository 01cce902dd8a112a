//! Servers at a URL.

use serde_json::json;
use thinpipe_gateway::{HttpUpstream, Reached};
use thinpipe_proto::revision::Binding;
use thinpipe_testkit::{Era, Script, Upstream, rpc};
use thinpipe_transport::upstream::UpstreamConfig;

use crate::front::{Front, SERVED, call};

pub(crate) fn at(upstream: &Upstream) -> Reached {
    let client = UpstreamConfig::new("up".into(), upstream.url().parse().expect("a URL"));
    Reached::Http(HttpUpstream {
        pin: Some(Binding::Stateless),
        ..HttpUpstream::new(client)
    })
}

/// R245, R126: statuses and bodies, `requestState` and headers that nobody here knows pass unchanged.
#[tokio::test]
async fn r245_what_passes_is_not_changed() {
    let upstream = Upstream::start().await;
    let front = Front::start(at(&upstream)).await;
    for (status, body) in [
        (
            400,
            r#"{"jsonrpc":"2.0", "id":1,"error":{"code":-32602,"message":"m","x":[1.0]}}"#,
        ),
        (
            400,
            r#"{"jsonrpc":"2.0", "id":1,"error":{"code":-32021,"message":"m","data":{"requiredCapabilities":{"roots":{}}}}}"#,
        ),
        (
            404,
            r#"{"jsonrpc":"2.0", "id":1,"error":{"code":-32601,"message":"m"}}"#,
        ),
        (400, "not JSON at all"),
        (
            200,
            r#"{"jsonrpc":"2.0", "id":1,"result":{"resultType":"input_required","requestState":"s/=+"}}"#,
        ),
    ] {
        let script = Script::status(status).content_type("application/json");
        upstream.once("tools/call", script.whole(body));
        let request = front.client.post_modern(&call(1, 1));
        let mut response = request
            .header("X-Anything", "a, b")
            .header("Mcp-Param-Unknown", "=?base64?SGVsbG8=?=")
            .await;
        assert_eq!(response.status, status);
        assert_eq!(response.read_to_end().await, body);
        let seen = upstream.record().last("tools/call").unwrap().clone();
        assert_eq!(seen.headers.get("X-Anything"), Some("a, b"));
        assert_eq!(
            seen.headers.get("Mcp-Param-Unknown"),
            Some("=?base64?SGVsbG8=?=")
        );
    }
    let state =
        json!({"name": "echo", "arguments": {}, "requestState": "s/=+", "inputResponses": {}});
    front.ask(&rpc::modern(1, "tools/call", state)).await;
    let seen = upstream.record().last("tools/call").unwrap().clone();
    assert_eq!(seen.json()["params"]["requestState"], "s/=+");
}

/// K1, 1.5: a server that is replaced by an older one is found out, whatever it says to what it does not know,
/// by clients of both eras.
#[tokio::test]
async fn k1_a_server_that_goes_back_to_sessions_is_asked_anew() {
    let not_initialized = r#"{"jsonrpc":"2.0","error":{"code":-32000,"message":"Bad Request: Server not initialized"},"id":null}"#;
    for (content, body) in [
        ("application/json", not_initialized),
        ("text/plain", "Missing session ID"),
    ] {
        let upstream = Upstream::start().await;
        upstream.set(|behaviour| behaviour.era = Era::Stateless);
        let mut reached = at(&upstream);
        if let Reached::Http(http) = &mut reached {
            http.pin = None;
        }
        let front = Front::start(reached).await;
        assert_eq!(front.ask(&call(1, 1)).await.status, 200);
        upstream.set(|behaviour| behaviour.era = Era::Sessions);
        let script = Script::status(400).content_type(content);
        upstream.once("tools/call", script.whole(body));
        let mut refused = front.ask(&call(2, 2)).await;
        assert_eq!(refused.status, 400);
        assert_eq!(refused.read_to_end().await, body);
        let mut answered = front.ask(&call(3, 3)).await;
        let answer = answered.json().await;
        assert_eq!(
            (answered.status, &answer["id"]),
            (200, &json!(3)),
            "{answer}"
        );
        assert!(upstream.requests("tools/call")[2].session().is_some());
    }
}

/// R193: that nothing is at the URL has one name, whoever asks.
#[tokio::test]
async fn r193_a_url_without_an_endpoint_has_one_name() {
    let upstream = Upstream::start().await;
    let nothing = Script::status(404).content_type("text/plain");
    upstream.on("initialize", nothing.whole("no such path"));
    let mut reached = at(&upstream);
    if let Reached::Http(http) = &mut reached {
        http.pin = Some(Binding::Sessions);
    }
    let front = Front::start(reached).await;
    let modern = front.ask(&call(1, 1)).await;
    let legacy = front.client.post(rpc::initialize(1, "2025-11-25")).await;
    for mut response in [modern, legacy] {
        let answer = response.json().await;
        let reason = &answer["error"]["data"]["reason"];
        assert_eq!(
            (response.status, reason),
            (502, &json!("upstream_not_found")),
            "{answer}"
        );
    }
}

/// K5, R004: a description and a refusal name what is served here, as the gateway's own refusal does.
#[tokio::test]
async fn k5_revisions_are_narrowed() {
    let upstream = Upstream::start().await;
    let front = Front::start(at(&upstream)).await;
    let named = json!(["2030-01-01", "2026-07-28", "2025-11-25"]);
    let ours = json!(SERVED);
    let result = json!({"resultType": "complete", "supportedVersions": named, "capabilities": {}});
    upstream.on("server/discover", Script::json(rpc::result(result)));
    let mut answer = front
        .ask(&rpc::modern(1, "server/discover", json!({})))
        .await;
    assert_eq!(answer.json().await["result"]["supportedVersions"], ours);
    let data = json!({"supported": named, "requested": "x"});
    let script = Script::status(400).content_type("application/json");
    upstream.on(
        "tools/call",
        script.whole(rpc::error_with(-32022, "m", &data)),
    );
    let mut answer = front.ask(&call(1, 1)).await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.json().await["error"]["data"]["supported"], ours);
    let unknown = rpc::modern_at("2030-01-01", 1, "tools/list", json!({}));
    let mut answer = front.ask(&unknown).await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.json().await["error"]["data"]["supported"], ours);
}

/// 5.5: a cancellation cannot be of another POST; it is taken and goes nowhere.
#[tokio::test]
async fn r130_a_cancellation_goes_nowhere() {
    let upstream = Upstream::start().await;
    let front = Front::start(at(&upstream)).await;
    for (method, count) in [("notifications/cancelled", 0), ("notifications/x", 1)] {
        let mut notification = rpc::modern(1, method, json!({"requestId": 1}));
        notification.body = rpc::notification(method, &json!({"requestId": 1}));
        assert_eq!(front.ask(&notification).await.status, 202);
        assert_eq!(upstream.record().count(method), count, "{method}");
    }
}

/// K5: the same in a stream. What no client of this revision gets is left out wherever it is read: requests,
/// and progress of others (5.5, "other notifications, server requests").
#[tokio::test]
async fn k5_what_is_read_is_narrowed_and_left_out() {
    let upstream = Upstream::start().await;
    let front = Front::start(at(&upstream)).await;
    let result = json!({"resultType": "complete", "supportedVersions": ["2030-01-01", "2026-07-28"], "capabilities": {}});
    let foreign = json!({"progressToken": "other", "progress": 1});
    let script = Script::events()
        .message(rpc::request("s", "roots/list", &json!({})))
        .message(rpc::notification("notifications/progress", &foreign))
        .message(rpc::result(result));
    upstream.on("server/discover", script);
    let mut answer = front
        .ask(&rpc::modern(1, "server/discover", json!({})))
        .await;
    let message = answer.next_message().await;
    assert_eq!(message["result"]["supportedVersions"], json!(SERVED));
    assert_eq!(answer.next_event().await, None);
}
