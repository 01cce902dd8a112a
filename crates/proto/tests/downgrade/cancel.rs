//! Clients that leave, and time that passes.

use super::*;

/// R238: closing the POST cancels once, with our id; what comes late is dropped.
#[test]
fn r238_closing_the_post_cancels() {
    let mut session = Session::pipe();
    session.asks(1, &call("1"));
    let cancel = up(&cancelled("2", "the client closed its request"));
    assert_eq!(session.leaves(1), [cancel]);
    assert_eq!(session.leaves(1), [""; 0]);
    assert_eq!(session.hears(&result("2", "{}")), [""; 0]);
    assert!(session.machine.is_idle());
}

/// Not written yet: never written.
#[test]
fn what_waits_is_never_written() {
    let mut session = Session::new(Channel::Pipe, Lifetime::Pooled, Limits::default());
    session.machine.start(session.now);
    session.actions();
    session.asks(1, &call("1"));
    assert_eq!(session.leaves(1), [""; 0]);
    assert_eq!(session.hears(&result("1", &initialized(TOOLS))).len(), 1);
}

/// What was asked for its sake is refused.
#[test]
fn cancelling_refuses_what_was_asked() {
    let mut session = Session::pipe();
    session.asks(1, &call("1"));
    session.hears(&elicit("5"));
    let refused = error("5", -32603, "the request it belongs to was cancelled");
    let lines = session.leaves(1);
    assert_eq!(lines[0], up(&refused));
    assert_eq!(lines.len(), 2);
    assert_eq!(session.collects(), [""; 0]);
}

/// A cancelled request may run still: nothing is guessed until it is answered; unanswered, the session
/// takes none any more that may be asked.
#[test]
fn a_pipe_waits_for_the_answer_to_what_was_cancelled() {
    let mut session = Session::pipe();
    session.asks(1, &call("1"));
    session.leaves(1);
    assert_eq!(session.tries(2, &call("2")), Err(Refused::Busy));
    session.hears(&result("2", "{}"));
    session.asks(2, &call("2"));
    session.asks(3, &list("3"));
    session.leaves(3);
    let refused = error("5", -32603, "no client request in progress");
    assert_eq!(session.hears(&elicit("5")), [up(&refused)]);
    session.hears(&result("4", "{}"));
    assert_eq!(session.hears(&elicit("5")), [""; 0]);
    session.leaves(2);
    let lines = session.at(31 * SECOND);
    assert_eq!(lines, ["close Retired"]);
    assert_eq!(session.tries(4, &list("4")), Err(Refused::Over));
}

/// The stream of a cancelled request is read on for a while, then dropped.
#[test]
fn the_stream_of_a_cancelled_request_is_released() {
    let mut session = Session::streams();
    session.asks(1, &list("1"));
    session.leaves(1);
    assert_eq!(session.at(5 * SECOND), ["release 2"]);
    assert_eq!(session.at(60 * SECOND), [""; 0]);
    assert!(!session.machine.is_over(), "the stream told whose it was");
}

/// R238: a session that was made for a cancelled request is read on for a while: it ends with the answer, or
/// without one after that.
#[test]
fn r238_a_session_per_request_outlives_its_cancellation() {
    for channel in [Channel::Pipe, Channel::Streams] {
        let cancel = cancelled("2", "the client closed its request");
        let left = || {
            let mut session = Session::open(channel, Lifetime::PerRequest, TOOLS);
            session.asks(1, &call("1"));
            session.stream_opened();
            let lines = session.leaves(1);
            assert!(lines.contains(&up(&cancel)), "{lines:?}");
            assert!(!session.machine.is_over(), "{channel:?}");
            session
        };
        let mut session = left();
        assert_eq!(session.hears(&result("2", "{}")), ["close Done"]);
        let mut session = left();
        let lines = session.at(5 * SECOND);
        assert_eq!(lines.last().unwrap(), "close Done", "{channel:?}");
        assert_eq!(lines.len(), if channel == Channel::Pipe { 1 } else { 2 });
        // A place that somebody else needs is not kept for it.
        let mut session = left();
        session.machine.close_idle();
        assert!(session.machine.is_over(), "{channel:?}");
    }
}

/// R250: idle and cap end a request with an error and a cancel; progress feeds the idle timer, whether or
/// not the client wants it.
#[test]
fn r250_deadlines_end_requests() {
    let text = "the upstream did not answer in time; the call may have run";
    let mut session = Session::pipe();
    session.asks(1, &call("1"));
    session.at(50 * SECOND);
    let progress = r#"{"progressToken":2,"progress":1}"#;
    assert_eq!(
        session.hears(&notification("notifications/progress", progress)),
        [""; 0]
    );
    assert_eq!(session.at(109 * SECOND), [""; 0]);
    let expected = [
        up(&cancelled("2", text)),
        format!(
            "1 504: {}",
            own_error("1", -32603, text, "upstream_timeout")
        ),
    ];
    assert_eq!(session.at(110 * SECOND), expected);
}

/// R250: a request that an event stream answers may be silent for as long as a stream may, and whatever comes on it
/// shows life.
#[test]
fn r250_a_request_on_a_stream_ends_when_that_was_silent() {
    let mut session = Session::open(Channel::Streams, Lifetime::Pooled, r#"{"tools":{}}"#);
    session.asks(1, &call("1"));
    session.stream_opened();
    session.alive(2);
    assert_eq!(session.at(299 * SECOND), [""; 0]);
    session.hears_on(2, &notification("notifications/message", "{}"));
    assert_eq!(session.at(598 * SECOND), [""; 0]);
    session.asks(2, &call("2"));
    session.alive(3);
    // The cap of the first.
    assert_eq!(session.at(600 * SECOND).len(), 2);
    assert_eq!(session.at(897 * SECOND), ["release 2"]);
    assert_eq!(session.at(898 * SECOND).len(), 2);
}

/// Invariant 22: while the client is asked, idle timer and cap stand still; the absolute cap does not.
#[test]
fn nothing_is_idle_while_a_client_is_asked() {
    let limits = Limits {
        parked_age: 3000 * SECOND,
        ..Limits::default()
    };
    let mut session = Session::new(Channel::Pipe, Lifetime::Pooled, limits);
    session.initialize(TOOLS);
    session.asks(1, &call("1"));
    session.at(50 * SECOND);
    session.hears(&elicit("1"));
    session.collects();
    session.handed_out(1);
    assert_eq!(session.at(1000 * SECOND), [""; 0]);
    session
        .retries(1, 1, 2, &retry("8", r#"{"k1":{"action":"cancel"}}"#))
        .unwrap();
    assert_eq!(session.at(1009 * SECOND), [""; 0]);
    assert_eq!(session.at(1011 * SECOND).len(), 2, "ten seconds were left");

    session.hears(&result("2", "{}"));
    session.asks(3, &call("3"));
    session.hears(&elicit("2"));
    session.collects();
    let lines = session.at((1011 + 1800) * SECOND);
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert_eq!(lines[2], "unparked 3");
}

/// R249: tokens are the gateway's own; progress rises for each token of a client, over its rounds too.
#[test]
fn r249_progress_goes_to_whose_request_it_is() {
    let mut session = Session::pipe();
    let progress = |token: u64, value: u64| {
        let params = format!(r#"{{"progressToken":{token},"progress":{value}}}"#);
        notification("notifications/progress", &params)
    };
    let got = |token: &str, value: u64| {
        let params = format!(r#"{{"progressToken":{token},"progress":{value}}}"#);
        notification("notifications/progress", &params)
    };
    let token = r#","progressToken":"t""#;
    session.asks(1, &modern("1", "tools/call", "", ALL, token));
    session.asks(2, &modern("1", "tools/list", "", ALL, token));
    assert_eq!(
        session.hears(&progress(3, 1)),
        [format!("2: {}", got("\"t\"", 1))]
    );
    assert_eq!(
        session.hears(&progress(2, 5)),
        [format!("1: {}", got("\"t\"", 5))]
    );
    assert_eq!(session.hears(&progress(2, 5)), [""; 0]);
    session.hears(&elicit("1"));
    session.collects();
    assert_eq!(session.hears(&progress(2, 6)), [""; 0], "nobody has it");
    let params = r#","inputResponses":{"k1":{"action":"cancel"}}"#;
    session
        .retries(1, 1, 3, &modern("9", "tools/call", params, ALL, token))
        .unwrap();
    assert_eq!(session.hears(&progress(2, 5)), [""; 0], "the client saw it");
    assert_eq!(
        session.hears(&progress(2, 7)),
        [format!("3: {}", got("\"t\"", 7))]
    );
    session.hears(&result("2", "{}"));
    assert_eq!(session.hears(&progress(2, 8)), [""; 0]);
}
