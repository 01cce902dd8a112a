//! Clients of one era with servers of the other, through Thinpipe: none of them knows it.

use serde_json::{Value, json};
use thinpipe_e2e::peers::{Binding, Endpoint, Server};
use thinpipe_e2e::scenario::{Client, Steps, accepted, assert_events, plan};

/// Declares a test for each client and server, from one function that takes them.
macro_rules! pairs {
    ($check:ident: $($name:ident: $client:ident $over:ident -> $server:ident $reached:ident $era:literal;)+) => {
        $(#[test]
        fn $name() {
            let endpoint = Server::$server.start_over(Binding::$reached).behind_gateway_in($era);
            $check(Client::$client, Binding::$over, Server::$server, &endpoint);
        })+
    };
}

// K9, R216, R222: clients with `initialize`, and servers without it.
pairs! {
    to_modern:
    k9_typescript_v1_sessions_to_stateless: TypeScriptV1 Streamable -> Rmcp Streamable "stateless";
    k9_typescript_v2_sessions_to_stateless: TypeScriptV2 Streamable -> Library Streamable "stateless";
    k9_python_sessions_to_stateless: Python Streamable -> Rmcp Streamable "stateless";
    k9_fastmcp_sessions_to_stateless: FastMcp Streamable -> Library Streamable "stateless";
    k9_rmcp_sessions_to_stateless: Rmcp Streamable -> Library Streamable "stateless";

    k9_typescript_v1_http_sse_to_stateless: TypeScriptV1 HttpSse -> Library Streamable "stateless";
    k9_typescript_v2_http_sse_to_stateless: TypeScriptV2 HttpSse -> Rmcp Streamable "stateless";
    k9_python_http_sse_to_stateless: Python HttpSse -> Library Streamable "stateless";
    k9_fastmcp_http_sse_to_stateless: FastMcp HttpSse -> Rmcp Streamable "stateless";

    k9_typescript_v1_sessions_to_stdio_modern: TypeScriptV1 Streamable -> Rmcp Stdio "modern";
    k9_typescript_v2_sessions_to_stdio_modern: TypeScriptV2 Streamable -> Rmcp Stdio "modern";
    k9_python_sessions_to_stdio_modern: Python Streamable -> Rmcp Stdio "modern";
    k9_fastmcp_sessions_to_stdio_modern: FastMcp Streamable -> Rmcp Stdio "modern";
    k9_rmcp_sessions_to_stdio_modern: Rmcp Streamable -> Rmcp Stdio "modern";

    k9_typescript_v1_http_sse_to_stdio_modern: TypeScriptV1 HttpSse -> Rmcp Stdio "modern";
    k9_typescript_v2_http_sse_to_stdio_modern: TypeScriptV2 HttpSse -> Rmcp Stdio "modern";
    k9_python_http_sse_to_stdio_modern: Python HttpSse -> Rmcp Stdio "modern";
    k9_fastmcp_http_sse_to_stdio_modern: FastMcp HttpSse -> Rmcp Stdio "modern";
}

// K9, R230, R233: clients without `initialize`, and servers that know nothing else.
pairs! {
    to_legacy:
    k9_typescript_v2_stateless_to_http_sse: TypeScriptV2 Streamable -> Everything HttpSse "http+sse";
    k9_python_stateless_to_http_sse: Python Streamable -> TypeScript HttpSse "http+sse";
    k9_fastmcp_stateless_to_http_sse: FastMcp Streamable -> Python HttpSse "http+sse";
    k9_rmcp_stateless_to_http_sse: Rmcp Streamable -> TypeScript HttpSse "http+sse";

    k9_typescript_v2_stateless_to_sessions: TypeScriptV2 Streamable -> TypeScript Streamable "streamable";
    k9_python_stateless_to_sessions: Python Streamable -> Everything Streamable "streamable";
    k9_fastmcp_stateless_to_sessions: FastMcp Streamable -> TypeScript Streamable "streamable";
    k9_rmcp_stateless_to_sessions: Rmcp Streamable -> Python Streamable "streamable";

    k9_typescript_v2_stateless_to_stdio_legacy: TypeScriptV2 Streamable -> Python Stdio "legacy";
    k9_python_stateless_to_stdio_legacy: Python Streamable -> TypeScript Stdio "legacy";
    k9_fastmcp_stateless_to_stdio_legacy: FastMcp Streamable -> Everything Stdio "legacy";
    k9_rmcp_stateless_to_stdio_legacy: Rmcp Streamable -> TypeScript Stdio "legacy";
}

// K9, R242: clients of 2026-07-28, and a program that speaks it.
pairs! {
    between_modern:
    k9_typescript_v2_stateless_to_stdio_modern: TypeScriptV2 Streamable -> Rmcp Stdio "modern";
    k9_python_stateless_to_stdio_modern: Python Streamable -> Rmcp Stdio "modern";
    k9_fastmcp_stateless_to_stdio_modern: FastMcp Streamable -> Rmcp Stdio "modern";
    k9_rmcp_stateless_to_stdio_modern: Rmcp Streamable -> Rmcp Stdio "modern";
}

fn to_modern(client: Client, over: Binding, server: Server, endpoint: &Endpoint) {
    let steps = client.run_over(over, endpoint, &asking_in_results());
    let opened = steps.one("initialize");
    assert_eq!(opened["server"], name(server), "{opened}");
    let has_session_id = over == Binding::Streamable;
    assert_eq!(opened["session"], has_session_id, "{opened}");
    check_asking_in_results(&steps, client.loses_progress(over));
    if has_session_id {
        assert_eq!(steps.one("gone")["status"], 404, "{steps:?}");
    }
}

fn between_modern(client: Client, over: Binding, _server: Server, endpoint: &Endpoint) {
    let mut plan = asking_in_results();
    plan["revision"] = "2026-07-28".into();
    let steps = client.run_over(over, endpoint, &plan);
    assert_stateless(&steps);
    check_asking_in_results(&steps, false);
}

fn to_legacy(client: Client, over: Binding, server: Server, endpoint: &Endpoint) {
    let mut plan = plan(server);
    plan["revision"] = "2026-07-28".into();
    let steps = client.run_over(over, endpoint, &plan);
    assert_stateless(&steps);
    assert_events(steps.one("progress"), 3);
    steps.assert_asked(&["sampling/createMessage"], "forty-two");
    steps.assert_asked(&["elicitation/create"], accepted(server));
}

/// Tools of a server that asks by `input_required`.
fn asking_in_results() -> Value {
    json!({
        "progress": { "name": "test_tool_with_progress" },
        "ask": [
            { "name": "test_input_required_result_sampling" },
            { "name": "test_input_required_result_multi_round" },
        ],
        "elicited": { "name": "ada", "color": "blue" },
    })
}

fn check_asking_in_results(steps: &Steps, loses_progress: bool) {
    assert_events(steps.one("progress"), if loses_progress { 2 } else { 3 });
    steps.assert_asked(&["sampling/createMessage"], "forty-two");
    steps.assert_asked(&["elicitation/create", "elicitation/create"], "");
}

fn assert_stateless(steps: &Steps) {
    let opened = steps.one("initialize");
    assert_eq!(opened["revision"], "2026-07-28", "{opened}");
    assert_eq!(opened["session"], false, "{opened}");
}

fn name(server: Server) -> &'static str {
    match server {
        Server::Rmcp => "thinpipe-conformance-server",
        Server::Library => "thinpipe-library-server",
        other => unreachable!("{other:?} is not reached as a modern server"),
    }
}
