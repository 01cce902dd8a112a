//! Requests of a server that interceptors refuse: it hears of each, within bounds.

use serde_json::json;
use thinpipe_testkit::{Gate, Outcome, Script, Upstream, rpc};

use crate::support::{Gateway, Mode, Settings};

const DENYING: &str = "[[upstreams.interceptors]]\ntype = \"access\"\nserver_methods = { deny = [\"elicitation/*\"] }";

/// Refusals that may be on their way at one time.
const PLACES: usize = 32;

fn question(id: usize) -> String {
    rpc::request(
        format!("q-{id}"),
        "elicitation/create",
        &json!({"message": "?"}),
    )
}

fn questions(count: usize) -> Script {
    (0..count).fold(Script::events(), |script, id| script.message(question(id)))
}

/// E2, H4: a server that asks faster than it takes refusals loses its stream, with an error for the call that it
/// answers; what is on its way is bounded for the whole session, and other sessions do not notice.
#[tokio::test]
async fn e2_a_flood_of_refused_requests_ends_its_stream() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with_interceptors(&upstream, DENYING).await;
    let (client, other) = (gateway.client().await, gateway.client().await);
    let gate = Gate::new();
    let stuck = gate.clone();
    upstream.on_each("POST", move |request| {
        let refusal = request.rpc_method().is_none();
        refusal.then(|| Script::accepted().late(&stuck))
    });
    // Half of them on one stream, and the others on another.
    let half = questions(PLACES / 2).stall();
    upstream.once("tools/call", half);
    let first = client.post(rpc::call("first", "echo")).await;
    gate.reached_times(PLACES / 2).await;
    upstream.once("tools/call", questions(PLACES).stall());
    let mut flooded = client.post(rpc::call("flooded", "echo")).await;
    let answer = flooded.next_message().await;
    let reason = &answer["error"]["data"]["reason"];
    assert_eq!(
        (&answer["id"], reason),
        (&json!("flooded"), &json!("too_many_server_requests")),
        "{answer}"
    );
    assert_eq!(flooded.next_event().await, None);
    upstream
        .wait_until(|seen| seen.outcome("tools/call") == Some(Outcome::Cancelled))
        .await;
    gate.reached_times(PLACES).await;
    upstream.once(
        "tools/call",
        questions(1).message(rpc::text_result("asked")),
    );
    let mut asked = other.post(rpc::call("other", "echo")).await;
    assert_eq!(asked.answer().await["id"], "other");
    gate.reached_times(PLACES + 1).await;
    // The places are there again when the refusals have arrived.
    gate.open();
    drop(first);
    let mut again = client.post(rpc::call("again", "ask")).await;
    assert_eq!(again.answer().await["id"], "again");
}

/// E2: so does one whose requests come in a JSON array.
#[tokio::test]
async fn e2_a_flood_in_an_array_is_an_error() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with_interceptors(&upstream, DENYING).await;
    let client = gateway.client_of("2025-03-26").await;
    upstream.on_each("POST", |request| {
        let refusal = request.rpc_method().is_none();
        refusal.then(Script::silent)
    });
    let array = |count: usize| {
        let mut messages: Vec<_> = (0..count).map(question).collect();
        messages.push(rpc::text_result("asked"));
        Script::json(format!("[{}]", messages.join(",")))
    };
    upstream.once("tools/call", array(PLACES + 1));
    let mut flooded = client.post(rpc::call(1, "echo")).await;
    let answer = flooded.json().await;
    let reason = &answer["error"]["data"]["reason"];
    assert_eq!(
        (flooded.status, &answer["id"], reason),
        (502, &json!(1), &json!("too_many_server_requests")),
        "{answer}"
    );
}

/// E2: outside of any session the server gets its refusal, too.
#[tokio::test]
async fn e2_refusals_without_a_session_arrive() {
    let upstream = Upstream::start().await;
    upstream.set(|behaviour| behaviour.sessions = false);
    let settings = Settings {
        gateway: "allow_sessionless = true",
        upstream: DENYING,
    };
    let gateway = Gateway::start(&upstream, Mode::Pass, settings).await;
    let stranger = gateway.stranger();
    let call = stranger.post(rpc::call(1, "ask"));
    let mut response = call.header("MCP-Protocol-Version", "2025-06-18").await;
    assert_eq!(response.answer().await["id"], 1, "its server was answered");
    let record = upstream.record();
    let mut refusals = record.all("POST").filter(|r| r.rpc_method().is_none());
    let refusal = refusals.next().expect("a refusal");
    assert_eq!(refusal.json()["id"], "ask-1");
    assert_eq!(refusal.session(), None);
    assert_eq!(
        refusal.headers.get("MCP-Protocol-Version"),
        Some("2025-06-18")
    );
}

/// E2: a refusal for which there is no connection waits for one.
#[tokio::test]
async fn e2_refusals_wait_for_a_connection() {
    let upstream = Upstream::start().await;
    let settings = Settings {
        gateway: "",
        upstream: &format!(
            "pool = {{ max_connections = 1 }}\ntimeouts = {{ connect = \"100ms\" }}\nhealth = {{ interval = \"0\" }}\n{DENYING}"
        ),
    };
    let gateway = Gateway::start(&upstream, Mode::Pass, settings).await;
    gateway.knows_upstream().await;
    let client = gateway.client().await;
    let gate = Gate::new();
    let asking = Script::events()
        .wait(&gate)
        .message(question(7))
        .wait_for_answer("\"q-7\"")
        .message(rpc::text_result("asked"));
    upstream.once("tools/call", asking);
    let mut response = client.post(rpc::call("asking", "echo")).await;
    let slow = client.post(rpc::call("slow", "slow")).send().await;
    upstream.gate("slow").reached().await;
    gate.open();
    // Each of these waits as long as the refusal does, and has come later.
    for id in 0..3 {
        assert_eq!(client.post(rpc::call(id, "echo")).await.status, 503);
    }
    upstream.gate("slow").open();
    assert_eq!(slow.response().await.status, 200);
    assert_eq!(response.answer().await["id"], "asking");
}
