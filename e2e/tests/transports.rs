//! The clients over one transport, with servers on another: every pair of the eras with
//! `initialize`, through Thinpipe and, where both speak the same, direct.

use thinpipe_e2e::peers::{Binding, Endpoint, Server, Way};
use thinpipe_e2e::scenario::{Client, accepted, assert_events, plan};

/// Declares a test for each client and server, from one function that takes them.
macro_rules! pairs {
    ($($name:ident: $client:ident $over:ident -> $server:ident $reached:ident $way:ident;)+) => {
        $(#[test]
        fn $name() {
            let endpoint = Server::$server.start_over(Binding::$reached);
            check(Client::$client, Binding::$over, Server::$server, endpoint, Way::$way);
        })+
    };
}

// A9, A28: stock clients connect unmodified, and the same logic has the same results on either transport.
pairs! {
    a9_typescript_v1_over_http_sse_direct: TypeScriptV1 HttpSse -> TypeScript HttpSse Direct;
    a9_python_over_http_sse_direct: Python HttpSse -> Python HttpSse Direct;
    a9_fastmcp_over_http_sse_direct: FastMcp HttpSse -> Python HttpSse Direct;
    a28_rmcp_over_streamable_direct: Rmcp Streamable -> TypeScript Streamable Direct;

    a9_typescript_v1_to_the_library_over_http_sse: TypeScriptV1 HttpSse -> Library HttpSse Direct;
    a9_typescript_v2_to_the_library_over_http_sse: TypeScriptV2 HttpSse -> Library HttpSse Direct;
    a9_python_to_the_library_over_http_sse: Python HttpSse -> Library HttpSse Direct;
    a9_fastmcp_to_the_library_over_http_sse: FastMcp HttpSse -> Library HttpSse Direct;
    a28_typescript_v1_to_the_library_over_streamable: TypeScriptV1 Streamable -> Library Streamable Direct;
    a28_typescript_v2_to_the_library_over_streamable: TypeScriptV2 Streamable -> Library Streamable Direct;
    a28_python_to_the_library_over_streamable: Python Streamable -> Library Streamable Direct;
    a28_fastmcp_to_the_library_over_streamable: FastMcp Streamable -> Library Streamable Direct;
    a28_rmcp_to_the_library_over_streamable: Rmcp Streamable -> Library Streamable Direct;

    a28_typescript_v1_sse_to_streamable: TypeScriptV1 HttpSse -> TypeScript Streamable Gateway;
    a28_typescript_v2_sse_to_streamable: TypeScriptV2 HttpSse -> Everything Streamable Gateway;
    a28_python_sse_to_streamable: Python HttpSse -> Python Streamable Gateway;
    a28_fastmcp_sse_to_streamable: FastMcp HttpSse -> TypeScript Streamable Gateway;

    a28_fastmcp_streamable_to_streamable: FastMcp Streamable -> TypeScript Streamable Gateway;
    a28_rmcp_streamable_to_streamable: Rmcp Streamable -> Python Streamable Gateway;

    a28_typescript_v1_sse_to_sse: TypeScriptV1 HttpSse -> Everything HttpSse Gateway;
    a28_typescript_v2_sse_to_sse: TypeScriptV2 HttpSse -> Python HttpSse Gateway;
    a28_python_sse_to_sse: Python HttpSse -> TypeScript HttpSse Gateway;
    a28_fastmcp_sse_to_sse: FastMcp HttpSse -> Everything HttpSse Gateway;

    a33_typescript_v1_streamable_to_sse: TypeScriptV1 Streamable -> Python HttpSse Gateway;
    a33_typescript_v2_streamable_to_sse: TypeScriptV2 Streamable -> TypeScript HttpSse Gateway;
    a33_python_streamable_to_sse: Python Streamable -> Everything HttpSse Gateway;
    a33_fastmcp_streamable_to_sse: FastMcp Streamable -> TypeScript HttpSse Gateway;
    a33_rmcp_streamable_to_sse: Rmcp Streamable -> Python HttpSse Gateway;

    c24_typescript_v1_streamable_to_stdio: TypeScriptV1 Streamable -> Everything Stdio Gateway;
    c24_typescript_v2_streamable_to_stdio: TypeScriptV2 Streamable -> TypeScript Stdio Gateway;
    c24_python_streamable_to_stdio: Python Streamable -> Python Stdio Gateway;
    c24_fastmcp_streamable_to_stdio: FastMcp Streamable -> Everything Stdio Gateway;
    c24_rmcp_streamable_to_stdio: Rmcp Streamable -> TypeScript Stdio Gateway;

    c24_typescript_v1_sse_to_stdio: TypeScriptV1 HttpSse -> Everything Stdio Gateway;
    c24_typescript_v2_sse_to_stdio: TypeScriptV2 HttpSse -> Python Stdio Gateway;
    c24_python_sse_to_stdio: Python HttpSse -> TypeScript Stdio Gateway;
    c24_fastmcp_sse_to_stdio: FastMcp HttpSse -> Python Stdio Gateway;
}

/// Declares a test for each client that asks for 2026-07-28 first, as SDKs do by default, of a server on
/// HTTP+SSE.
macro_rules! probing {
    ($($name:ident: $client:ident -> $server:ident $reached:ident $way:ident;)+) => {
        $(#[test]
        fn $name() {
            let endpoint = Server::$server.start_over(Binding::$reached);
            check_probing(Client::$client, Server::$server, endpoint, Way::$way);
        })+
    };
}

// A9: their probe is refused on the stream, and they go on with `initialize`.
probing! {
    a9_python_probes_direct: Python -> Everything HttpSse Direct;
    a9_python_probes_the_library: Python -> Library HttpSse Direct;
    a9_python_probes_the_gateway: Python -> Everything HttpSse Gateway;
    a9_python_probes_before_streamable: Python -> Library Streamable Gateway;
    a9_typescript_v2_probes_direct: TypeScriptV2 -> Everything HttpSse Direct;
    a9_typescript_v2_probes_the_library: TypeScriptV2 -> Library HttpSse Direct;
    a9_typescript_v2_probes_the_gateway: TypeScriptV2 -> Everything HttpSse Gateway;
    a9_typescript_v2_probes_before_stdio: TypeScriptV2 -> Everything Stdio Gateway;
}

fn check_probing(client: Client, server: Server, endpoint: Endpoint, way: Way) {
    let endpoint = match way {
        Way::Direct => endpoint,
        Way::Gateway => endpoint.behind_gateway(),
    };
    let mut plan = plan(server);
    plan["mode"] = "auto".into();
    let steps = client.run_over(Binding::HttpSse, &endpoint, &plan);
    assert_eq!(steps.one("initialize")["server"], name(server), "{steps:?}");
    steps.assert_asked(&["sampling/createMessage"], "forty-two");
}

fn check(client: Client, over: Binding, server: Server, endpoint: Endpoint, way: Way) {
    let endpoint = match way {
        Way::Direct => endpoint,
        Way::Gateway => endpoint.behind_gateway(),
    };
    let steps = client.run_over(over, &endpoint, &plan(server));
    let opened = steps.one("initialize");
    assert_eq!(opened["server"], name(server), "{opened}");
    let has_session_id = over == Binding::Streamable;
    assert_eq!(opened["session"], has_session_id, "{opened}");
    let least = if client.loses_progress(over) { 2 } else { 3 };
    assert_events(steps.one("progress"), least);
    steps.assert_asked(&["sampling/createMessage"], "forty-two");
    steps.assert_asked(&["elicitation/create"], accepted(server));
    if has_session_id {
        assert_eq!(steps.one("gone")["status"], 404, "{steps:?}");
    }
}

fn name(server: Server) -> &'static str {
    match server {
        Server::Rmcp => "thinpipe-conformance-server",
        Server::Library => "thinpipe-library-server",
        Server::TypeScript => "e2e-typescript",
        Server::Python => "e2e-python",
        Server::Everything => "mcp-servers/everything",
        Server::TypeScriptConformance | Server::PythonConformance => {
            unreachable!("these are for the suite")
        }
    }
}
