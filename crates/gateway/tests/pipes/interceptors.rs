//! Interceptors see over a pipe what they see over anything else.

use serde_json::{Value, json};
use thinpipe_gateway::UpstreamSpec;
use thinpipe_testkit::rpc;

use crate::client::{Binding, Caller};
use crate::front::Front;
use crate::server::{Carrier, Scripted};

/// Refuses a tool, a question of the server and a notification, and hides a part of an answer.
fn intercept(spec: &mut UpstreamSpec) {
    let reject = |when: Value| json!({"when": when, "then": [{"reject": {"message": "no"}}]});
    let rules = json!({"type": "rules", "rules": [
        reject(json!({"methods": ["tools/call"], "names": ["forbidden"]})),
        reject(json!({"methods": ["sampling/createMessage"]})),
        reject(json!({"methods": ["notifications/message"]})),
        reject(json!({"methods": ["roots/list"], "direction": "to_upstream"})),
    ]});
    let redact = json!({"type": "redact", "rules": [
        {"pointer": "/result/secret", "methods": ["tools/call"]},
    ]});
    for config in [rules, redact] {
        let config = serde_json::from_value(config).expect("an interceptor");
        spec.interceptors.push(config);
    }
}

async fn run(binding: Binding, carrier: Carrier) {
    let mut server = Scripted::start(carrier).await;
    let front = Front::with(server.reached(), intercept, |_| {}).await;
    let (mut caller, mut speaker) = Caller::begin(&front, &mut server, binding, "2025-06-18").await;
    let mut refused = caller.ask(rpc::call(1, "forbidden")).await;
    let answer = caller.next(&mut refused).await;
    assert_eq!(
        (&answer["id"], &answer["error"]["message"]),
        (&json!(1), &json!("no"))
    );

    let mut asked = caller.ask(rpc::call(2, "allowed")).await;
    let call = speaker.hears("tools/call").await;
    assert_eq!(
        call["params"]["name"], "allowed",
        "the other was never written"
    );
    let log = json!({"level": "info", "data": "hidden"});
    speaker
        .say(rpc::notification("notifications/message", &log))
        .await;
    speaker
        .say(rpc::request("q", "sampling/createMessage", &json!({})))
        .await;
    let refused = speaker.hears_any().await;
    assert_eq!(
        (&refused["id"], &refused["error"]["message"]),
        (&json!("q"), &json!("no"))
    );
    // The client answers this one, and the server gets the refusal of the answer.
    speaker
        .say(rpc::request("r", "roots/list", &json!({})))
        .await;
    let question = caller.next(&mut asked).await;
    assert_eq!(
        question["method"], "roots/list",
        "nothing before it was shown"
    );
    caller
        .tell(rpc::response(question["id"].clone(), &json!({"roots": []})))
        .await;
    let refused = speaker.hears_any().await;
    assert_eq!(
        (&refused["id"], &refused["error"]["message"]),
        (&json!("r"), &json!("no"))
    );
    speaker
        .answer(&call, json!({"secret": 42, "open": 1}))
        .await;
    let answer = caller.next(&mut asked).await;
    assert_eq!(answer["result"], json!({"secret": "[redacted]", "open": 1}));
    assert!(front.route().route_stats().inspected >= 2);
}

#[tokio::test]
async fn from_streamable_to_stdio() {
    run(Binding::Streamable, Carrier::Stdio).await;
}

#[tokio::test]
async fn from_http_sse_to_http_sse() {
    run(Binding::HttpSse, Carrier::HttpSse).await;
}

/// A server whose answer to `initialize` is refused has no session.
#[tokio::test]
async fn a_refused_answer_opens_no_session() {
    let mut server = Scripted::start(Carrier::Stdio).await;
    let reject = |spec: &mut UpstreamSpec| {
        let config = json!({"type": "rules", "rules": [{
            "when": {"methods": ["initialize"], "direction": "to_client"},
            "then": [{"reject": {"message": "no"}}],
        }]});
        spec.interceptors
            .push(serde_json::from_value(config).expect("an interceptor"));
    };
    let front = Front::with(server.reached(), reject, |_| {}).await;
    let client = thinpipe_testkit::Client::new(&front.mcp);
    let opening = client.post(rpc::initialize(1, "2025-06-18")).send().await;
    let mut speaker = server.session().await;
    let initialize = speaker.hears("initialize").await;
    let result = json!({"protocolVersion": "2025-06-18", "capabilities": {}});
    speaker.answer(&initialize, result).await;
    let mut response = opening.response().await;
    assert_eq!(response.header("Mcp-Session-Id"), None);
    assert_eq!(response.json().await["error"]["message"], "no");
    assert_eq!(speaker.ends().await, Vec::<Value>::new());
    front.no_child_runs().await;
}
