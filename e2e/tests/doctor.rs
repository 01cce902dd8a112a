//! What `thinpipe doctor` says of servers nobody here wrote.

use serde_json::Value;
use thinpipe_e2e::peers::{Binding, Server};

/// The worst level of a check; `None`: it was not made.
fn level<'a>(report: &'a Value, check: &str) -> Option<&'a str> {
    const LEVELS: [&str; 4] = ["ok", "note", "warning", "failure"];
    let checks = report["checks"].as_array()?.iter();
    let found = checks.filter(|found| found["check"] == check);
    let levels = found.filter_map(|found| found["level"].as_str());
    levels.max_by_key(|level| LEVELS.iter().position(|known| known == level))
}

/// Each check, and how it has to come out.
fn examined(server: Server, binding: Binding, speaks: &str, checks: &[(&str, &str)]) {
    let report = server.start_over(binding).examined();
    assert_eq!(report["usable"], true, "{report:#}");
    let bindings = report["bindings"].as_array().into_iter().flatten();
    assert!(bindings.clone().any(|found| found == speaks), "{report:#}");
    let tools = report["lists"]["tools/list"].as_array();
    assert!(tools.is_some_and(|tools| !tools.is_empty()), "{report:#}");
    for (check, expected) in checks {
        assert_eq!(
            level(&report, check),
            Some(*expected),
            "{check}: {report:#}"
        );
    }
}

const SESSIONS: &str = "Streamable HTTP with sessions";

/// Its 400 for unknown sessions is the known fault of server-everything.
#[test]
fn server_everything_over_streamable_http() {
    let checks = [
        ("session", "ok"),
        ("unknown_session", "warning"),
        ("resume", "ok"),
        ("second_session", "ok"),
    ];
    examined(Server::Everything, Binding::Streamable, SESSIONS, &checks);
}

#[test]
fn server_everything_over_http_sse() {
    let checks = [("binding", "note"), ("second_session", "ok")];
    examined(Server::Everything, Binding::HttpSse, "HTTP+SSE", &checks);
}

#[test]
fn c24_server_everything_over_stdio() {
    let checks = [("stdout", "ok"), ("shutdown", "ok"), ("lists", "ok")];
    examined(Server::Everything, Binding::Stdio, "stdio", &checks);
}

#[test]
fn servers_on_the_official_sdks() {
    for server in [Server::TypeScript, Server::Python] {
        let checks = [("session", "ok"), ("second_session", "ok")];
        examined(server, Binding::Streamable, SESSIONS, &checks);
        examined(
            server,
            Binding::HttpSse,
            "HTTP+SSE",
            &[("second_session", "ok")],
        );
        examined(server, Binding::Stdio, "stdio", &[("stdout", "ok")]);
    }
}
