//! Headers: what the rules for them reach, and what repeats the body.

use serde_json::json;
use thinpipe_testkit::{Cut, Event, Script, Upstream, rpc};

use crate::support::{Gateway, Mode, Settings};

const RULES: &str = r#"
session_lost = "reestablish"
health = { interval = "200ms" }

[[upstreams.interceptors]]
type = "headers"
request.set = { x-rule = "told" }

[[upstreams.interceptors]]
type = "access"
server_methods = { deny = ["elicitation/*"] }

[[upstreams.interceptors]]
type = "rules"
rules = [{ when = { kinds = ["response"], direction = "to_upstream" }, then = [{ reject = {} }] }]
"#;

/// C15: a rule for the headers of requests holds for every request to the server: those that carry a
/// client's message and those that carry none, and what the gateway asks by itself.
#[tokio::test]
async fn c15_header_rules_reach_every_request() {
    let upstream = Upstream::start().await;
    upstream.set(|behaviour| behaviour.event_ids = true);
    let settings = Settings {
        gateway: "",
        upstream: RULES,
    };
    let gateway = Gateway::start(&upstream, Mode::Pass, settings).await;
    gateway.knows_upstream().await;
    let client = gateway.client().await;
    drop(client.get().await);
    // Resumed by the gateway, then by its client.
    let first = Event::message(rpc::progress(1, 2)).with_retry(10);
    let last = Event::message(rpc::text_result("done"));
    upstream.publish("cut", vec![first.with_id("cut-0"), last.with_id("cut-1")]);
    let part = Script::stream_part("cut", 1).read_by_peer().cut(Cut::Fin);
    upstream.once("tools/call", part);
    let call = client.post(rpc::call(1, "echo"));
    assert_eq!(call.await.events_to_end().await.1, Ok(()));
    assert_eq!(client.resume("cut-0").await.status, 200);
    // A server's request that is refused, and a client's answer that is.
    let asked = client.post(rpc::call(2, "ask"));
    assert_eq!(asked.await.events_to_end().await.1, Ok(()));
    let answer = client.post(rpc::response("unasked", &json!({})));
    assert_eq!(answer.await.status, 202);
    // A session that is lost, and opened anew with its state.
    let level = rpc::request(3, "logging/setLevel", &json!({"level": "error"}));
    assert_eq!(client.post(level).await.status, 200);
    upstream.forget(&upstream.sessions().pop().expect("a session"));
    assert_eq!(client.post(rpc::call(4, "echo")).await.status, 200);
    assert_eq!(client.delete().await.status, 200);
    // And one more check of its health.
    let checks = upstream.record().count("server/discover");
    upstream
        .wait_until(|seen| seen.count("server/discover") > checks)
        .await;
    let record = upstream.record();
    for (what, times) in [("GET", 3), ("DELETE", 1), ("initialize", 2)] {
        assert!(record.count(what) >= times, "{what}: {record}");
    }
    assert_eq!(record.count("logging/setLevel"), 2, "{record}");
    let answers = record.all("POST").filter(|r| r.rpc_method().is_none());
    assert_eq!(answers.count(), 2, "{record}");
    for request in &record.received {
        let told: Vec<_> = request.headers.all("x-rule").collect();
        assert_eq!(told, ["told"], "{}", request.to_text());
    }
}
