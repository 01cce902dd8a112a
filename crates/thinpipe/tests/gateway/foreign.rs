//! A JSON answer that is the response to another request than the one it is given to: interceptors go by the
//! method of a response's request, and it must not get past them under a false one.

use serde_json::json;
use thinpipe_testkit::{Gate, Script, Upstream, rpc};

use crate::support::{Gateway, Mode, Settings};

/// Wants lists of tools, and nothing else that goes to the client.
const LISTS: &str = r#"
[[upstreams.interceptors]]
type = "access"
tools.deny = ["secret"]
"#;

/// A list of tools that answers this request.
fn list(id: impl Into<serde_json::Value>) -> String {
    rpc::response(
        id,
        &json!({"tools": [{"name": "open"}, {"name": "secret"}]}),
    )
}

fn ping(id: u64) -> String {
    rpc::request(id, "ping", &json!({}))
}

/// E1, E11: while a list is waited for, its answer does not come unread under a ping, with whatever status and
/// however the id is hidden; then it comes, filtered.
#[tokio::test]
async fn e1_an_answer_to_another_request_is_refused() {
    for (interceptors, mode) in [(LISTS, Mode::Pass), ("", Mode::Inspect)] {
        let upstream = Upstream::start().await;
        let settings = Settings {
            gateway: "",
            upstream: interceptors,
        };
        let gateway = Gateway::start(&upstream, mode, settings).await;
        let client = gateway.client().await;
        let gate = Gate::new();
        let listed = Script::json(list("$ID")).late(&gate);
        upstream.on("tools/list", listed);
        let waiting = client.post(rpc::request(7, "tools/list", &json!({})));
        let waiting = waiting.send().await;
        upstream
            .wait_until(|seen| seen.count("tools/list") == 1)
            .await;
        let twice = |first: &str, second: &str| {
            format!(
                r#"{{"jsonrpc":"2.0",{first},"result":{{"tools":[{{"name":"secret"}}]}},{second}}}"#
            )
        };
        let own = format!("\"id\":{}", rpc::REQUEST_ID);
        for (status, body) in [
            (200, list(7)),
            (201, list(7)),
            (400, list(7)),
            (500, list(7)),
            (200, list("8")),
            (200, twice(&own, "\"id\":7")),
            (200, twice("\"id\":7", &own)),
        ] {
            let script = Script::status(status).content_type("application/json");
            upstream.once("ping", script.whole(&body));
            let mut response = client.post(ping(8)).await;
            let answer = response.json().await;
            let expected = if status < 400 { 502 } else { status };
            assert_eq!(
                (
                    response.status,
                    &answer["id"],
                    &answer["error"]["data"]["reason"]
                ),
                (expected, &json!(8), &json!("upstream_invalid")),
                "{status} {body}"
            );
            assert!(!answer.to_string().contains("secret"), "{answer}");
        }
        gate.open();
        let answer = waiting.response().await.json().await;
        let tools = answer["result"]["tools"].as_array().map(Vec::len);
        let hidden = usize::from(mode == Mode::Pass);
        assert_eq!((&answer["id"], tools), (&json!(7), Some(2 - hidden)));
    }
}

/// E1: the same for what is not the answer to a request at all: `initialize`, a stream that is asked for, and
/// what is written below the answer to a notification, which is for nobody.
#[tokio::test]
async fn e1_no_other_exchange_brings_an_answer() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with_interceptors(&upstream, LISTS).await;
    let client = gateway.client().await;
    upstream.once("GET", Script::json(list(7)));
    let mut listening = client.get().await;
    assert_eq!(listening.status, 502);
    assert!(!listening.json().await.to_string().contains("secret"));

    let what = "notifications/roots/list_changed";
    upstream.once(what, Script::json(list(7)));
    let mut noted = client.post(rpc::notification(what, &json!({}))).await;
    assert_eq!((noted.status, noted.read_to_end().await.len()), (200, 0));

    let opened = rpc::initialize_result("2025-11-25").replace(rpc::REQUEST_ID, "7");
    upstream.once("initialize", Script::json(opened));
    let mut opening = gateway
        .stranger()
        .post(rpc::initialize(1, "2025-11-25"))
        .await;
    let refused = opening.json().await;
    let reason = &refused["error"]["data"]["reason"];
    assert_eq!((opening.status, reason), (502, &json!("upstream_invalid")));

    let array = format!("[{},{}]", rpc::text_result("own"), list(7));
    let old = gateway.client_of("2025-03-26").await;
    upstream.once("tools/call", Script::json(array));
    let mut split = old.post(rpc::call(2, "echo")).await;
    assert_eq!(split.status, 502);
    assert!(!split.json().await.to_string().contains("secret"));
}

/// C12: below an error status, servers write ids of their own, and clients go by the status.
#[tokio::test]
async fn c12_errors_pass_under_any_id() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with_interceptors(&upstream, LISTS).await;
    let client = gateway.client().await;
    for (status, id) in [(400, "\"server-error\""), (400, "null"), (200, "null")] {
        let error = r#"{"code":-32600,"message":"Bad Request"}"#;
        let body = format!(r#"{{"jsonrpc":"2.0", "id":{id}, "error":{error}}}"#);
        let script = Script::status(status).content_type("application/json");
        upstream.once("tools/call", script.whole(&body));
        let mut response = client.post(rpc::call(1, "echo")).await;
        assert_eq!(
            (response.status, response.read_to_end().await),
            (status, body.into())
        );
    }
}

/// C14, E8: what no interceptor wants goes on byte for byte, whatever else they want; but since it is read to
/// know what it is, it may be no larger than a message.
#[tokio::test]
async fn c14_unwanted_answers_pass_as_they_came() {
    let upstream = Upstream::start().await;
    let settings = Settings {
        gateway: "",
        upstream: &format!("max_message = \"64 KiB\"\n{LISTS}"),
    };
    let gateway = Gateway::start(&upstream, Mode::Pass, settings).await;
    let client = gateway.client().await;
    let spaced =
        r#" { "result" : {"tools":[{"name":"secret"}]} , "id": 1,"x":1e400, "jsonrpc":"2.0" } "#;
    upstream.once("tools/call", Script::json(spaced));
    let mut response = client.post(rpc::call(1, "echo")).await;
    assert_eq!(
        (response.status, response.read_to_end().await),
        (200, spaced.into())
    );
    upstream.once(
        "tools/call",
        Script::json(rpc::text_result(&"x".repeat(65 << 10))),
    );
    let mut large = client.post(rpc::call(2, "echo")).await;
    let reason = &large.json().await["error"]["data"]["reason"];
    assert_eq!((large.status, reason), (502, &json!("message_too_large")));
}
