//! The official conformance suite, direct and through Thinpipe.

use thinpipe_e2e::conformance::{self, Checks, Verdict};
use thinpipe_e2e::peers::{Binding, Endpoint, Server, Way};

/// Declares a test for each pair of bindings: what a suite of one revision finds of a server that is reached
/// in one era, and a list of what cannot cross between them.
macro_rules! pairs {
    ($($name:ident: $revision:literal, $server:ident over $binding:ident in $era:literal
        $(sharing $sessions:literal)?;)+) => {
        $(#[test]
        fn $name() {
            let settings = ["--era", $era $(, "--sessions", $sessions)?];
            let server = Server::$server.start_over(Binding::$binding);
            let endpoint = server.behind_gateway_with(&settings);
            let checks = found(Server::$server, &endpoint, $revision, stringify!($name));
            let list = include_str!(concat!("../expected/", stringify!($name), ".txt"));
            conformance::assert_only_expected(&checks, list);
            conformance::assert_told_apart(list, known_direct(Server::$server, $revision));
            assert_all_made(&checks, $revision);
        })+
    };
}

// K9: the suite speaks Streamable HTTP, in either era; the server is reached over everything. Log lines of a program
// of 2026-07-28 that all clients share reach nobody who might be somebody else, hence `pooled`; a process on
// Python or Node for each session takes up to a second to start, hence `shared`.
pairs! {
    k9_sessions_to_http_sse: "2025-11-25", Library over HttpSse in "http+sse";
    k9_sessions_to_http_sse_everything: "2025-11-25", Everything over HttpSse in "http+sse";
    k9_sessions_to_http_sse_python: "2025-11-25", PythonConformance over HttpSse in "http+sse";
    k9_sessions_to_stdio_legacy: "2025-11-25", Rmcp over Stdio in "legacy";
    k9_sessions_to_stdio_legacy_everything: "2025-11-25", Everything over Stdio in "legacy" sharing "shared";
    k9_sessions_to_stdio_legacy_python: "2025-11-25", PythonConformance over Stdio in "legacy" sharing "shared";
    k9_sessions_to_stateless: "2025-11-25", Rmcp over Streamable in "stateless";
    k9_sessions_to_stateless_library: "2025-11-25", Library over Streamable in "stateless";
    k9_sessions_to_stateless_typescript: "2025-11-25", TypeScriptConformance over Streamable in "stateless";
    k9_sessions_to_stdio_modern: "2025-11-25", Rmcp over Stdio in "modern" sharing "pooled";
    k9_sessions_to_stdio_modern_python: "2025-11-25", PythonConformance over Stdio in "modern" sharing "pooled";
    k9_stateless_to_http_sse: "2026-07-28", Library over HttpSse in "http+sse";
    k9_stateless_to_http_sse_python: "2026-07-28", PythonConformance over HttpSse in "http+sse";
    k9_stateless_to_sessions: "2026-07-28", Rmcp over Streamable in "streamable";
    k9_stateless_to_sessions_library: "2026-07-28", Library over Streamable in "streamable";
    k9_stateless_to_sessions_typescript: "2026-07-28", TypeScriptConformance over Streamable in "streamable";
    k9_stateless_to_stdio_legacy: "2026-07-28", Rmcp over Stdio in "legacy";
    k9_stateless_to_stdio_legacy_python: "2026-07-28", PythonConformance over Stdio in "legacy" sharing "shared";
    k9_stateless_to_stdio_modern: "2026-07-28", Rmcp over Stdio in "modern" sharing "pooled";
    k9_stateless_to_stdio_modern_python: "2026-07-28", PythonConformance over Stdio in "modern" sharing "pooled";
}

/// Declares a test for each server: what the suite finds of it without Thinpipe.
macro_rules! direct {
    ($($(#[$about:meta])* $name:ident: $revision:literal, $server:ident;)+) => {
        $($(#[$about])*
        #[test]
        fn $name() {
            let server = Server::$server;
            let checks = found(server, &server.start(), $revision, stringify!($name));
            conformance::assert_only_expected(&checks, known_direct(server, $revision));
            assert_all_made(&checks, $revision);
        })+
    };
}

// What passes here is what must pass through the gateway.
direct! {
    the_server_conforms_to_2025_11_25: "2025-11-25", Rmcp;
    the_server_conforms_to_2026_07_28: "2026-07-28", Rmcp;
    /// B14: everything, of a server that is built on the library
    b14_the_library_conforms_to_2025_11_25: "2025-11-25", Library;
    /// B14: everything, of a server that is built on the library
    b14_the_library_conforms_to_2026_07_28: "2026-07-28", Library;
    the_official_example_has_some_of_2025_11_25: "2025-11-25", Everything;
    the_typescript_server_conforms_to_2025_11_25: "2025-11-25", TypeScriptConformance;
    the_typescript_server_conforms_to_2026_07_28: "2026-07-28", TypeScriptConformance;
    the_python_server_conforms_to_2025_11_25: "2025-11-25", PythonConformance;
    the_python_server_conforms_to_2026_07_28: "2026-07-28", PythonConformance;
}

/// What the suite finds, as far as it is the same each time.
fn found(server: Server, endpoint: &Endpoint, revision: &str, name: &str) -> Checks {
    let mut checks = conformance::run(endpoint, revision, name);
    if server == Server::Everything {
        // It has no tool that ends a stream. The error for that comes on a stream or as JSON, as a notice of the
        // server's happens to come before it or not, and the suite looks at streams only.
        checks.retain(|check, _| !check.starts_with("server-sse-polling/"));
    }
    checks
}

/// What a server does not pass by itself.
fn known_direct(server: Server, revision: &str) -> &'static str {
    let (of_2025_11_25, of_2026_07_28) = match server {
        Server::Rmcp => (
            include_str!("../expected/direct-2025-11-25.txt"),
            include_str!("../expected/direct-2026-07-28.txt"),
        ),
        Server::Library => (
            include_str!("../expected/library-2025-11-25.txt"),
            include_str!("../expected/library-2026-07-28.txt"),
        ),
        Server::TypeScriptConformance => (
            include_str!("../expected/typescript-2025-11-25.txt"),
            include_str!("../expected/typescript-2026-07-28.txt"),
        ),
        Server::PythonConformance => (
            include_str!("../expected/python-2025-11-25.txt"),
            include_str!("../expected/python-2026-07-28.txt"),
        ),
        // It has tools of its own, and knows nothing of 2026-07-28.
        Server::Everything => (include_str!("../expected/everything-2025-11-25.txt"), ""),
        other => unreachable!("{other:?} has nothing of what the suite expects"),
    };
    match revision {
        "2025-11-25" => of_2025_11_25,
        _ => of_2026_07_28,
    }
}

/// Nothing is lost because the suite gave up early.
fn assert_all_made(checks: &Checks, revision: &str) {
    let least = if revision == "2025-11-25" { 60 } else { 140 };
    assert!(checks.len() >= least, "only {} checks", checks.len());
}

/// B14, C12, C14
#[test]
fn what_conforms_to_2025_11_25_does_so_through_the_gateway() {
    assert_same(
        "2025-11-25",
        include_str!("../expected/gateway-2025-11-25.txt"),
    );
}

/// B14, C12, C14, R245
#[test]
fn what_conforms_to_2026_07_28_does_so_through_the_gateway() {
    assert_same(
        "2026-07-28",
        include_str!("../expected/gateway-2026-07-28.txt"),
    );
}

fn run(revision: &str, way: Way) -> Checks {
    conformance::run(&Server::Rmcp.reached(way), revision, &format!("{way:?}"))
}

/// Every check that passes direct passes through the gateway, or is on the list.
fn assert_same(revision: &str, list: &str) {
    let direct = conformance::run(&Server::Rmcp.start(), revision, "Beside");
    let mut through: Checks = run(revision, Way::Gateway)
        .into_iter()
        .filter(|(check, _)| {
            direct
                .get(check)
                .is_none_or(|direct| *direct <= Verdict::Passed)
        })
        .collect();
    // What is made direct, but not through the gateway, is lost, which is to be explained too.
    for (check, verdict) in direct {
        if verdict <= Verdict::Passed {
            through.entry(check).or_insert(Verdict::Failed);
        }
    }
    conformance::assert_only_expected(&through, list);
}
