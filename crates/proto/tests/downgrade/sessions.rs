//! Opening sessions, discovering, and how they end.

use thinpipe_proto::bridge::downgrade::STREAM_WAIT;

use super::*;

/// R230: one handshake with the configured capabilities, and requests without the envelope.
#[test]
fn r230_requests_wait_for_the_handshake_and_lose_their_envelope() {
    let mut session = Session::new(Channel::Pipe, Lifetime::Pooled, Limits::default());
    session.machine.start(session.now);
    let initialize = format!(
        r#"{{"protocolVersion":"2025-11-25","capabilities":{ALL},"clientInfo":{{"name":"g","version":"1"}}}}"#
    );
    assert_eq!(
        session.actions(),
        [up(&request("1", "initialize", &initialize))]
    );
    let meta =
        r#","traceparent":"00-1","progressToken":"mine","io.modelcontextprotocol/clientInfo":{}"#;
    let params = r#","name":"t","n":1e400,"task":{},"requestState":"x","inputResponses":{}"#;
    assert_eq!(
        session.asks(1, &modern("1", "tools/call", params, NOTHING, meta)),
        [""; 0]
    );
    assert_eq!(session.asks(2, &list("\"2\"")), [""; 0]);
    let call = r#"{"_meta":{"traceparent":"00-1","progressToken":2},"name":"t","n":1e400}"#;
    assert_eq!(
        session.hears(&result("1", &initialized(TOOLS))),
        [
            r#"up: {"jsonrpc":"2.0","method":"notifications/initialized"}"#.to_owned(),
            up(&request("2", "tools/call", call)),
            up(&request(
                "3",
                "tools/list",
                r#"{"_meta":{"progressToken":3}}"#
            )),
        ]
    );
}

/// R232: what the server lacks is answered here, and so is what clients of this revision do not have.
#[test]
fn r232_what_the_server_lacks_is_not_found() {
    let mut session = Session::open(
        Channel::Pipe,
        Lifetime::Pooled,
        r#"{"tools":{},"tasks":{}}"#,
    );
    let text = "the server does not have this method";
    for (post, method) in [
        (1, "prompts/list"),
        (2, "resources/read"),
        (3, "completion/complete"),
        (4, "tasks/get"),
        (5, "ping"),
        (6, "resources/subscribe"),
        (7, "logging/setLevel"),
    ] {
        let lines = session.asks(post, &modern("1", method, "", NOTHING, ""));
        let error = own_error("1", -32601, text, "method_not_found");
        assert_eq!(lines, [format!("{post} 404: {error}")], "{method}");
    }
    assert_eq!(
        session.asks(9, &modern("1", "x/y", "", NOTHING, "")).len(),
        1
    );
}

/// R232: `server/discover` from the handshake, without tasks.
#[test]
fn r232_discover_is_answered_from_the_handshake() {
    let mut session = Session::open(
        Channel::Pipe,
        Lifetime::Pooled,
        r#"{"tools":{"listChanged":true},"tasks":{}}"#,
    );
    let lines = session.asks(1, &modern("1", "server/discover", "", NOTHING, ""));
    let discovered = r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true}},"ttlMs":0,"cacheScope":"private","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"1"}}}"#;
    assert_eq!(lines, [format!("1 200: {}", result("1", discovered))]);
}

/// R239: a server without a standing stream tells of no changes, and discover says so.
#[test]
fn r239_discover_waits_for_the_verdict_on_the_standing_stream() {
    let discover = modern("1", "server/discover", "", NOTHING, "");
    let mut session = Session::streams();
    assert_eq!(session.asks(1, &discover), ["open stream"]);
    session.machine.stream_refused(session.now);
    let lines = session.actions();
    assert!(
        !lines[0].contains("listChanged") && !lines[0].contains("subscribe"),
        "{lines:?}"
    );

    let mut session = Session::streams();
    session.asks(1, &discover);
    let lines = session.at(STREAM_WAIT);
    assert!(lines[0].contains("listChanged"), "{lines:?}");
    assert_eq!(lines[1], "close stream");
}

/// A session per request takes one, and ends with it.
#[test]
fn a_session_per_request_ends_with_it() {
    let mut session = Session::open(Channel::Pipe, Lifetime::PerRequest, TOOLS);
    session.asks(1, &call("1"));
    assert_eq!(session.tries(2, &list("2")), Err(Refused::Over));
    let lines = session.hears(&result("2", "{}"));
    assert_eq!(lines[1], "close Done");
    assert!(session.machine.is_finished());
}

/// A session per request whose outcome is held is closed, and the outcome is there still.
#[test]
fn a_session_per_request_holds_its_outcome() {
    let mut session = Session::open(Channel::Pipe, Lifetime::PerRequest, TOOLS);
    session.asks(1, &call("1"));
    session.hears(&elicit("1"));
    session.collects();
    let lines = session.hears(&result("2", "{}"));
    assert_eq!(lines[1], "close Done");
    assert!(!session.machine.is_finished());
    let lines = session.retries(1, 1, 2, &retry("8", "{}")).unwrap();
    assert_eq!(lines[1], format!("2 200: {}", complete("8", "")));
    assert!(session.machine.is_finished());
}

/// A session per request fetches all pages of a list, as its cursors would be of no use.
#[test]
fn a_session_per_request_fetches_all_pages() {
    let mut session = Session::open(Channel::Pipe, Lifetime::PerRequest, TOOLS);
    session.asks(1, &list("1"));
    let lines = session.hears(&result("2", r#"{"tools":[{"name":"a"}],"nextCursor":"c"}"#));
    let next = r#"{"_meta":{"progressToken":3},"cursor":"c"}"#;
    assert_eq!(lines, [up(&request("3", "tools/list", next))]);
    let lines = session.hears(&result("3", r#"{"tools":[{"name":"b"}]}"#));
    let all = r#"{"tools":[{"name":"a"},{"name":"b"}],"resultType":"complete","ttlMs":0"#;
    assert!(lines[0].contains(all), "{lines:?}");
    assert!(!lines[0].contains("nextCursor"));
    assert_eq!(lines[1], "close Done");
}

/// A handshake that fails fails what waits for it.
#[test]
fn a_session_that_is_not_opened_fails_what_waits() {
    for answer in [
        error("1", -32602, "no"),
        result("1", r#"{"protocolVersion":"2026-07-28","capabilities":{}}"#),
    ] {
        let mut session = Session::new(Channel::Pipe, Lifetime::Pooled, Limits::default());
        session.machine.start(session.now);
        session.actions();
        session.asks(1, &call("1"));
        session.asks(
            2,
            &modern(
                "2",
                "subscriptions/listen",
                r#","notifications":{}"#,
                "{}",
                "",
            ),
        );
        let lines = session.hears(&answer);
        assert!(lines[0].starts_with("1 502: ") && lines[0].contains("upstream_unavailable"));
        assert!(lines[1].starts_with("2 502: "), "{lines:?}");
        assert!(lines[2].starts_with("close NotInitialized"), "{lines:?}");
        assert!(session.machine.is_finished());
    }
}

/// An upstream that does not answer the handshake is given up.
#[test]
fn an_unanswered_handshake_is_given_up() {
    let mut session = Session::new(Channel::Pipe, Lifetime::Pooled, Limits::default());
    session.machine.start(session.now);
    session.actions();
    let lines = session.at(60 * SECOND);
    assert!(lines[0].starts_with("close NotInitialized"), "{lines:?}");
}

/// A shared pipe can tie no question to a client; over streams it can, but for roots.
#[test]
fn shared_sessions_ask_only_where_the_stream_tells() {
    let mut session = Session::open(Channel::Pipe, Lifetime::Shared, TOOLS);
    session.asks(1, &call("1"));
    assert_eq!(session.asks(2, &call("2")).len(), 1, "any number");
    assert!(session.hears(&elicit("5"))[0].contains("-32601"));

    let mut session = Session::open(Channel::Streams, Lifetime::Shared, TOOLS);
    session.asks(1, &call("1"));
    session.stream_opened();
    assert!(
        session.hears(&elicit("5"))[0].contains("-32603"),
        "on no stream of a request"
    );
    assert!(session.hears_on(2, &request("6", "roots/list", "{}"))[0].contains("-32601"));
    assert_eq!(session.hears_on(2, &elicit("7")), [""; 0]);
}

/// The server's ping is answered here; what no modern client can get is dropped.
#[test]
fn pings_are_answered_and_strangers_dropped() {
    let mut session = Session::pipe();
    assert_eq!(
        session.hears(&request("\"p\"", "ping", "{}")),
        [up(&result("\"p\"", "{}"))]
    );
    assert_eq!(
        session.hears(&notification("notifications/x", "{}")),
        [""; 0]
    );
    assert_eq!(session.machine.dropped().notifications, 1);
    assert_eq!(session.hears(&result("9", "{}")), [""; 0]);
    assert_eq!(session.machine.dropped().responses, 1);
}

/// Draining: no new requests; when the last is over, the session is.
#[test]
fn a_drained_session_ends_when_it_is_quiet() {
    let mut session = Session::pipe();
    session.asks(1, &call("1"));
    let listen = modern(
        "\"l\"",
        "subscriptions/listen",
        r#","notifications":{}"#,
        "{}",
        "",
    );
    session.asks(2, &listen);
    session.machine.drain(session.now);
    let ended =
        r#"{"resultType":"complete","_meta":{"io.modelcontextprotocol/subscriptionId":"l"}}"#;
    assert_eq!(
        session.actions(),
        [format!("2 200: {}", result("\"l\"", ended))]
    );
    assert_eq!(session.tries(3, &list("3")), Err(Refused::Over));
    let lines = session.hears(&result("2", "{}"));
    assert_eq!(lines[1], "close Shutdown");
}

/// The time of grace is over: what runs gets an error, what is parked is forgotten.
#[test]
fn shutting_down_cancels_everything() {
    let mut session = Session::pipe();
    session.asks(1, &call("1"));
    session.hears(&elicit("1"));
    session.collects();
    session.handed_out(1);
    session.asks(2, &list("2"));
    session.machine.shut_down(session.now);
    let lines = session.actions();
    assert_eq!(lines.len(), 6, "{lines:?}");
    assert!(lines[0].contains(r#""id":1,"error""#) && lines[1].contains(r#""requestId":2"#));
    assert_eq!(lines[2], "unparked 1");
    assert!(lines[3].contains(r#""requestId":3"#));
    assert!(lines[4].starts_with("2 503: ") && lines[4].contains("shutting_down"));
    assert_eq!(lines[5], "close Shutdown");
    assert!(session.machine.is_finished() && session.machine.poll_timeout().is_none());
}

/// Memory: what a server is answered is no longer than what is kept of it.
#[test]
fn a_ping_with_an_endless_id_is_not_answered() {
    let mut session = Session::pipe();
    let long = "x".repeat(thinpipe_proto::bridge::MAX_KEPT);
    let ping = |id: &str| format!(r#"{{"jsonrpc":"2.0","id":"{id}","method":"ping"}}"#);
    assert_eq!(session.hears(&ping(&long)), [""; 0]);
    assert_eq!(session.machine.dropped().server_requests, 1);
    assert_eq!(session.hears(&ping("p")), [up(&result("\"p\"", "{}"))]);
}
