//! `initialize`: its answer goes the way of all others.

use serde_json::json;
use thinpipe_testkit::{Event, Gate, Script, Upstream, rpc};

use crate::support::{Gateway, Mode, Settings};

const NEWEST: &str = rpc::LEGACY[0];

fn note(text: &str) -> String {
    rpc::notification(
        "notifications/message",
        &json!({"level": "info", "data": text}),
    )
}

const RULES: &str = r#"
[[upstreams.interceptors]]
type = "headers"
response.set = { x-answer = "told" }

[[upstreams.interceptors]]
type = "rules"
rules = [
    { when = { methods = ["notifications/message"] }, then = [{ set = { pointer = "/params/data", value = "changed" } }] },
    { when = { methods = ["initialize"], kinds = ["response"] }, then = [{ set = { pointer = "/result/serverInfo/name", value = "changed" } }] },
]

[[upstreams.interceptors]]
type = "redact"
rules = [{ pointer = "/error/message", replace = "changed", methods = ["initialize"] }]
"#;

/// C6, E1: interceptors see every message on the stream that answers `initialize`, those before the answer and
/// those after it, in one order; ids stay, and the session is there when the head is.
#[tokio::test]
async fn c6_every_message_of_the_opening_stream_is_read() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with_interceptors(&upstream, RULES).await;
    let gate = Gate::new();
    let answer = Event::message(rpc::initialize_result(NEWEST)).with_id("open-1");
    let script = Script::events()
        .header("Mcp-Session-Id", "opened")
        .event(Event::message(note("before")).with_id("open-0"))
        .event(answer)
        .part_of(Event::message(note("half")), 20)
        .wait(&gate)
        .rest_of(Event::message(note("half")), 20)
        .message(note("after"));
    upstream.once("initialize", script.stall());
    let mut response = gateway.stranger().post(rpc::initialize(1, NEWEST)).await;
    assert!(response.header("Mcp-Session-Id").is_some());
    let first = response.next_event().await.expect("what came before");
    assert_eq!(first.id.as_deref(), Some("open-0"));
    assert_eq!(first.json()["params"]["data"], "changed");
    let second = response.next_event().await.expect("the answer");
    assert_eq!(second.id.as_deref(), Some("open-1"));
    assert_eq!(second.json()["result"]["serverInfo"]["name"], "changed");
    gate.open();
    for _ in ["half", "after"] {
        let message = response.next_message().await;
        assert_eq!(message["params"]["data"], "changed", "{message}");
    }
}

/// E1: an error that answers `initialize` is read as well, as JSON and on a stream.
#[tokio::test]
async fn e1_errors_that_answer_initialize_are_read() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with_interceptors(&upstream, RULES).await;
    let error = rpc::error(-32602, "secret");
    let stream = Script::events().message(note("secret")).message(&error);
    for script in [Script::json(&error), stream] {
        upstream.once("initialize", script);
        let mut response = gateway.stranger().post(rpc::initialize(1, NEWEST)).await;
        assert_eq!(response.header("Mcp-Session-Id"), None);
        let body = response.read_to_end().await;
        let body = String::from_utf8_lossy(&body);
        assert!(
            body.contains("changed") && !body.contains("secret"),
            "{body}"
        );
    }
}

/// C15: rules for the headers of answers hold for the one to `initialize`, however it comes.
#[tokio::test]
async fn c15_header_rules_reach_the_answer_to_initialize() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with_interceptors(&upstream, RULES).await;
    for stream in [false, true] {
        upstream.set(|behaviour| behaviour.always_stream = stream);
        let opened = gateway.stranger().post(rpc::initialize(1, NEWEST)).await;
        assert_eq!(opened.is_stream(), stream);
        assert_eq!(opened.header("x-answer"), Some("told"));
    }
}

/// B15: an id that cannot be said back is not "no session": whoever went on without it would be refused by the
/// server at every turn.
#[tokio::test]
async fn b15_a_session_id_that_cannot_be_one_is_refused() {
    for mode in [Mode::Pass, Mode::Inspect] {
        let upstream = Upstream::start().await;
        let gateway = Gateway::start(&upstream, mode, Settings::default()).await;
        let opened = || Script::json(rpc::initialize_result(NEWEST));
        let long = "x".repeat(2000);
        for script in [
            opened().header("Mcp-Session-Id", "two words"),
            opened().header("Mcp-Session-Id", &long),
            opened()
                .header("Mcp-Session-Id", "one")
                .header("Mcp-Session-Id", "another"),
        ] {
            upstream.once("initialize", script);
            let mut refused = gateway.stranger().post(rpc::initialize(1, NEWEST)).await;
            let answer = refused.json().await;
            let reason = &answer["error"]["data"]["reason"];
            assert_eq!(
                (refused.status, reason),
                (502, &json!("upstream_invalid")),
                "{answer}"
            );
            assert_eq!(refused.header("Mcp-Session-Id"), None);
        }
        assert_eq!(gateway.status().await["sessions"]["live"], 0);
    }
}
