//! The official conformance suite, direct and through Thinpipe.

use thinpipe_e2e::conformance::{self, Checks, Verdict};
use thinpipe_e2e::peers::{Binding, Server, Way};

/// Declares a test for each pair of bindings: what a suite of one revision finds of a server that is reached
/// in one era, and a list of what cannot cross between them.
macro_rules! pairs {
    ($($name:ident: $revision:literal, $server:ident over $binding:ident in $era:literal;)+) => {
        $(#[test]
        fn $name() {
            let endpoint = Server::$server.start_over(Binding::$binding).behind_gateway_in($era);
            let checks = conformance::run(&endpoint, $revision, stringify!($name));
            let list = include_str!(concat!("../expected/", stringify!($name), ".txt"));
            conformance::assert_only_expected(&checks, list);
            let least = if $revision == "2025-11-25" { 60 } else { 140 };
            assert!(checks.len() >= least, "only {} checks", checks.len());
        })+
    };
}

// K9: the suite speaks Streamable HTTP, in either era; the server is reached over everything.
pairs! {
    k9_sessions_to_http_sse: "2025-11-25", Library over HttpSse in "http+sse";
    k9_sessions_to_stdio_legacy: "2025-11-25", Rmcp over Stdio in "legacy";
    k9_sessions_to_stateless: "2025-11-25", Rmcp over Streamable in "stateless";
    k9_sessions_to_stateless_library: "2025-11-25", Library over Streamable in "stateless";
    k9_sessions_to_stdio_modern: "2025-11-25", Rmcp over Stdio in "modern";
    k9_stateless_to_http_sse: "2026-07-28", Library over HttpSse in "http+sse";
    k9_stateless_to_sessions: "2026-07-28", Rmcp over Streamable in "streamable";
    k9_stateless_to_sessions_library: "2026-07-28", Library over Streamable in "streamable";
    k9_stateless_to_stdio_legacy: "2026-07-28", Rmcp over Stdio in "legacy";
    k9_stateless_to_stdio_modern: "2026-07-28", Rmcp over Stdio in "modern";
}

/// What passes here is what must pass through the gateway.
#[test]
fn the_server_conforms_to_2025_11_25() {
    let checks = run("2025-11-25", Way::Direct);
    conformance::assert_only_expected(&checks, include_str!("../expected/direct-2025-11-25.txt"));
    assert!(checks.len() >= 60, "only {} checks", checks.len());
}

#[test]
fn the_server_conforms_to_2026_07_28() {
    let checks = run("2026-07-28", Way::Direct);
    conformance::assert_only_expected(&checks, include_str!("../expected/direct-2026-07-28.txt"));
    assert!(checks.len() >= 140, "only {} checks", checks.len());
}

/// B14: everything, of a server that is built on the library
#[test]
fn b14_the_library_conforms_to_2025_11_25() {
    let checks = conformance::run(&Server::Library.start(), "2025-11-25", "Library");
    conformance::assert_only_expected(&checks, include_str!("../expected/library-2025-11-25.txt"));
    assert!(checks.len() >= 60, "only {} checks", checks.len());
}

/// B14: everything, of a server that is built on the library
#[test]
fn b14_the_library_conforms_to_2026_07_28() {
    let checks = conformance::run(&Server::Library.start(), "2026-07-28", "Library");
    conformance::assert_only_expected(&checks, include_str!("../expected/library-2026-07-28.txt"));
    assert!(checks.len() >= 140, "only {} checks", checks.len());
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
