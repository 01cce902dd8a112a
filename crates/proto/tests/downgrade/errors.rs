//! Errors of the upstream, and results that are none.

use super::*;

/// R232: errors as clients of this revision know them, with their statuses.
#[test]
fn r232_errors_are_those_of_the_revision() {
    for (method, sent, got, status) in [
        ("tools/call", -32602, -32602, 200),
        ("tools/call", -32601, -32601, 404),
        ("tools/call", -32020, -32603, 200),
        ("tools/call", -32099, -32603, 200),
        ("tools/call", 7, 7, 200),
    ] {
        let mut session = Session::pipe();
        session.asks(1, &modern("\"1\"", method, "", NOTHING, ""));
        let lines = session.hears(&error("2", sent, "no"));
        assert_eq!(
            lines,
            [format!("1 {status}: {}", error("\"1\"", got, "no"))]
        );
    }
    let mut session = Session::pipe();
    session.asks(
        1,
        &modern("1", "resources/read", r#","uri":"a:b""#, NOTHING, ""),
    );
    let lines = session.hears(&error("2", -32002, "no"));
    assert!(lines[0].contains(r#""code":-32602"#) && lines[0].contains(r#""uri":"a:b""#));
}

/// R232: results with what the revision wants.
#[test]
fn r232_results_are_those_of_the_revision() {
    let mut session = Session::pipe();
    session.asks(1, &list("1"));
    let tools = r#"{"tools":[{"name":"a","execution":{"taskSupport":"optional"}}]}"#;
    let lines = session.hears(&result("2", tools));
    let shaped = r#"{"tools":[{"name":"a"}],"resultType":"complete","ttlMs":0,"cacheScope":"private","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"1"}}}"#;
    assert_eq!(lines, [format!("1 200: {}", result("1", shaped))]);
    session.asks(2, &call("2"));
    let lines = session.hears(&result("3", r#"{"resultType":"input_required"}"#));
    assert!(lines[0].contains("upstream_invalid"), "{lines:?}");
}

/// What cannot be kept or read is refused, and nothing has changed.
#[test]
fn what_cannot_be_read_is_refused() {
    let mut session = Session::pipe();
    let long = format!("\"{}\"", "x".repeat(5000));
    let refused = session.tries(1, &list(&long)).unwrap_err();
    assert_eq!((refused.status(), refused.code()), (400, -32600));
    for (params, meta) in [
        ("", r#","progressToken":1.5"#),
        ("", r#","io.modelcontextprotocol/logLevel":"loud""#),
    ] {
        let refused = session.tries(1, &modern("1", "x/y", params, NOTHING, meta));
        let refused = refused.unwrap_err();
        assert_eq!((refused.status(), refused.code()), (200, -32602));
    }
    for notifications in [
        "",
        r#","notifications":7"#,
        r#","notifications":{"resourceSubscriptions":[1]}"#,
    ] {
        let listen = modern("1", "subscriptions/listen", notifications, NOTHING, "");
        assert_eq!(session.tries(1, &listen).unwrap_err().code(), -32602);
    }
    assert!(session.machine.is_idle());
}

/// The limits of a session.
#[test]
fn limits_are_kept() {
    let limits = Limits {
        in_flight: 1,
        listens: 1,
        uris: 1,
        ..Limits::default()
    };
    let mut session = Session::new(Channel::Pipe, Lifetime::Pooled, limits);
    session.initialize(TOOLS);
    let uris = |uris: &str| {
        let params = format!(r#","notifications":{{"resourceSubscriptions":{uris}}}"#);
        modern("1", "subscriptions/listen", &params, NOTHING, "")
    };
    let refused = session.tries(1, &uris(r#"["a","b"]"#));
    assert_eq!(refused, Err(Refused::TooManyListens { limit: 1 }));
    session.asks(1, &uris("[]"));
    let refused = session.tries(2, &uris("[]"));
    assert_eq!(refused, Err(Refused::TooManyListens { limit: 1 }));
    session.asks(3, &list("1"));
    let refused = session.tries(4, &list("1"));
    assert_eq!(refused, Err(Refused::TooManyInFlight { limit: 1 }));
}
