//! Clients of one era are told of changes by servers of the other, cancel calls there and resume streams, through
//! Thinpipe.

use serde_json::{Value, json};
use thinpipe_e2e::peers::{Binding, Endpoint, Server};
use thinpipe_e2e::scenario::{Client, assert_events};

/// Declares a test for each client and server.
macro_rules! pairs {
    ($check:ident, $revision:expr; $($name:ident: $client:ident $over:ident -> $server:ident $reached:ident $era:literal;)+) => {
        $(#[test]
        fn $name() {
            let endpoint = Server::$server.start_over(Binding::$reached).behind_gateway_in($era);
            $check(Client::$client, Binding::$over, $revision, &endpoint);
        })+
    };
}

// K9, R220: `resources/subscribe` is a listen at the server, and so is the stream that changes come on.
pairs! {
    changes, None;
    k9_changes_typescript_v1_sessions_to_stateless: TypeScriptV1 Streamable -> Rmcp Streamable "stateless";
    k9_changes_typescript_v2_sessions_to_stateless: TypeScriptV2 Streamable -> TypeScriptConformance Streamable "stateless";
    k9_changes_python_sessions_to_stateless: Python Streamable -> Library Streamable "stateless";
    k9_changes_fastmcp_sessions_to_stateless: FastMcp Streamable -> PythonConformance Streamable "stateless";
    k9_changes_rmcp_sessions_to_stateless: Rmcp Streamable -> TypeScriptConformance Streamable "stateless";
    k9_changes_typescript_v1_http_sse_to_stdio_modern: TypeScriptV1 HttpSse -> Rmcp Stdio "modern";
    k9_changes_python_http_sse_to_stdio_modern: Python HttpSse -> Rmcp Stdio "modern";
}

// K9, R239: `subscriptions/listen` is a stream of a session at the server, and `resources/subscribe`.
pairs! {
    changes, Some("2026-07-28");
    k9_changes_typescript_v2_stateless_to_sessions: TypeScriptV2 Streamable -> TypeScriptConformance Streamable "streamable";
    k9_changes_python_stateless_to_sessions: Python Streamable -> Rmcp Streamable "streamable";
    k9_changes_typescript_v2_stateless_to_http_sse: TypeScriptV2 Streamable -> PythonConformance HttpSse "http+sse";
    k9_changes_fastmcp_stateless_to_sessions: FastMcp Streamable -> TypeScriptConformance Streamable "streamable";
    k9_changes_rmcp_stateless_to_sessions: Rmcp Streamable -> TypeScriptConformance Streamable "streamable";
    k9_changes_python_stateless_to_http_sse: Python Streamable -> Library HttpSse "http+sse";
    k9_changes_typescript_v2_stateless_to_stdio_modern: TypeScriptV2 Streamable -> Rmcp Stdio "modern";
    k9_changes_python_stateless_to_stdio_modern: Python Streamable -> Rmcp Stdio "modern";
}

// K9, R238: `notifications/cancelled` and the end of a stream stand for each other.
pairs! {
    cancels, None;
    k9_cancels_typescript_v1_sessions_to_stateless: TypeScriptV1 Streamable -> TypeScriptConformance Streamable "stateless";
    k9_cancels_typescript_v2_sessions_to_stateless: TypeScriptV2 Streamable -> TypeScriptConformance Streamable "stateless";
    k9_cancels_python_sessions_to_stateless: Python Streamable -> TypeScriptConformance Streamable "stateless";
    k9_cancels_rmcp_sessions_to_stateless: Rmcp Streamable -> TypeScriptConformance Streamable "stateless";
    k9_cancels_fastmcp_http_sse_to_stateless: FastMcp HttpSse -> TypeScriptConformance Streamable "stateless";
    k9_cancels_typescript_v1_http_sse_to_stdio_modern: TypeScriptV1 HttpSse -> TypeScriptConformance Stdio "modern";
}

pairs! {
    cancels, Some("2026-07-28");
    k9_cancels_typescript_v2_stateless_to_sessions: TypeScriptV2 Streamable -> TypeScriptConformance Streamable "streamable";
    k9_cancels_python_stateless_to_sessions: Python Streamable -> TypeScriptConformance Streamable "streamable";
    k9_cancels_fastmcp_stateless_to_sessions: FastMcp Streamable -> TypeScriptConformance Streamable "streamable";
    k9_cancels_rmcp_stateless_to_sessions: Rmcp Streamable -> TypeScriptConformance Streamable "streamable";
    k9_cancels_typescript_v2_stateless_to_stdio_modern: TypeScriptV2 Streamable -> TypeScriptConformance Stdio "modern";
    k9_cancels_python_stateless_to_stdio_modern: Python Streamable -> TypeScriptConformance Stdio "modern";
}

// K9, 5.3: a stream that the server cannot resume is resumed by the client all the same.
pairs! {
    resumes, None;
    k9_resumes_typescript_v1_sessions_to_stateless: TypeScriptV1 Streamable -> TypeScriptConformance Streamable "stateless";
    k9_resumes_typescript_v2_sessions_to_stateless: TypeScriptV2 Streamable -> TypeScriptConformance Streamable "stateless";
    k9_resumes_python_sessions_to_stateless: Python Streamable -> TypeScriptConformance Streamable "stateless";
    k9_resumes_typescript_v1_sessions_to_stdio_modern: TypeScriptV1 Streamable -> TypeScriptConformance Stdio "modern";
}

fn changes(client: Client, over: Binding, revision: Option<&str>, endpoint: &Endpoint) {
    let uri = "test://watched-resource";
    let plan = json!({ "change": { "name": "test_trigger_tool_change", "uri": uri } });
    let steps = client.run_over(over, endpoint, &with_revision(plan, revision));
    assert_eq!(steps.one("change")["uri"], uri, "{steps:?}");
}

fn cancels(client: Client, over: Binding, revision: Option<&str>, endpoint: &Endpoint) {
    let plan = json!({
        "cancel": { "call": { "name": "wait_for_cancel" }, "proof": { "name": "was_cancelled" } },
    });
    let steps = client.run_over(over, endpoint, &with_revision(plan, revision));
    let cancel = steps.one("cancel");
    assert_eq!(cancel["isRefused"], true, "{cancel}");
    assert_eq!(cancel["text"], "cancelled", "{cancel}");
}

fn resumes(client: Client, over: Binding, revision: Option<&str>, endpoint: &Endpoint) {
    let plan =
        json!({ "resume": { "call": { "name": "hold" }, "release": { "name": "release" } } });
    let steps = client.run_over(over, endpoint, &with_revision(plan, revision));
    let resume = steps.one("resume");
    assert_events(resume, 3);
    assert_eq!(resume["seenBefore"], 1, "{resume}");
    assert_eq!(resume["resumes"], 1, "{resume}");
    assert_eq!(resume["text"], "held and released", "{resume}");
}

fn with_revision(mut plan: Value, revision: Option<&str>) -> Value {
    if let Some(revision) = revision {
        plan["revision"] = revision.into();
    }
    plan
}
