//! Streams and sessions that are lost, and writes that fail.

use thinpipe_proto::bridge::downgrade::{Attempt, WriteFailure};

use super::*;

/// R241: a stream that is lost for good is an error that says that the call may have run, and a cancel;
/// what may run twice does, once.
#[test]
fn r241_a_lost_stream_is_an_error() {
    let mut session = Session::streams();
    session.asks(1, &call("1"));
    session.stream_opened();
    let two = session.call(2);
    session.machine.stream_lost(two, "gone", session.now);
    let text = "gone; the call may have run";
    assert_eq!(
        session.actions(),
        [
            up(&cancelled("2", text)),
            format!(
                "1 502: {}",
                own_error("1", -32603, text, "upstream_stream_lost")
            ),
        ]
    );

    let mut session = Session::streams();
    session.asks(1, &list("1"));
    session
        .machine
        .stream_lost(session.call(2), "gone", session.now);
    let lines = session.actions();
    assert_eq!(lines[0], up(&cancelled("2", "its stream was lost")));
    assert!(lines[1].contains(r#""id":3,"method":"tools/list""#));
    session
        .machine
        .stream_lost(session.call(3), "gone", session.now);
    let lines = session.actions();
    assert!(lines[1].contains("upstream_stream_lost"), "once: {lines:?}");
}

/// R241: lost while parked, the error waits for the retry; the call is never run again.
#[test]
fn r241_what_is_lost_while_parked_is_an_error_for_the_retry() {
    let mut session = Session::streams();
    session.asks(1, &modern("7", "resources/read", r#","uri":"a""#, ALL, ""));
    session.stream_opened();
    session.hears_on(2, &elicit("1"));
    session.collects();
    session.handed_out(1);
    session
        .machine
        .stream_lost(session.call(2), "gone", session.now);
    let lines = session.actions();
    assert_eq!(lines.len(), 2, "refused and cancelled: {lines:?}");
    let lines = session
        .retries(1, 1, 2, &retry("8", r#"{"k1":{"action":"cancel"}}"#))
        .unwrap();
    assert!(lines[1].starts_with("2 502: ") && lines[1].contains("upstream_stream_lost"));
}

/// Open choice O18: 404 to the request itself is proof that it did not run: another session, once.
#[test]
fn a_forgotten_session_gives_the_request_away_once() {
    let mut session = Session::streams();
    session.asks(1, &list("1"));
    session.asks(2, &modern("2", "tools/call", "", NOTHING, ""));
    session.asks(3, &modern("3", "tools/call", "", NOTHING, ""));
    session.machine.write_failed(
        session.call(3),
        WriteFailure::SessionGone,
        "404",
        session.now,
    );
    let lines = session.actions();
    assert_eq!(lines[0], "resend 2");
    // What was in flight otherwise: the list may be read again, the call may have run.
    assert_eq!(lines[1], "resend 1");
    assert!(
        lines[2].starts_with("3 502: ") && lines[2].contains("session_lost"),
        "{lines:?}"
    );
    assert!(lines[3].starts_with("close UpstreamLost"));
    let again = session.resent.remove(0);
    assert_eq!(again.attempt, Attempt::Again);

    let mut session = Session::streams();
    session.gives(again).unwrap();
    session.machine.write_failed(
        session.call(2),
        WriteFailure::SessionGone,
        "404",
        session.now,
    );
    let lines = session.actions();
    assert!(
        lines[0].starts_with("2 502: ") && lines[0].contains("session_lost"),
        "{lines:?}"
    );
}

/// What was certainly not delivered is written once more.
#[test]
fn what_was_not_delivered_is_written_once_more() {
    let mut session = Session::pipe();
    session.asks(1, &call("1"));
    session.machine.write_failed(
        session.call(2),
        WriteFailure::Undelivered,
        "no",
        session.now,
    );
    assert_eq!(session.actions(), [written(3)]);
    session.machine.write_failed(
        session.call(3),
        WriteFailure::Undelivered,
        "no",
        session.now,
    );
    let failed = own_error("1", -32603, "no", "upstream_unavailable");
    assert_eq!(session.actions(), [format!("1 502: {failed}")]);
    for (failure, status, reason) in [
        (WriteFailure::Overloaded, 503, "upstream_overloaded"),
        (WriteFailure::Unknown, 502, "upstream_stream_lost"),
        (WriteFailure::Unauthorized, 502, "upstream_auth"),
        (WriteFailure::Refused, 502, "upstream_refused"),
    ] {
        let mut session = Session::pipe();
        session.asks(1, &call("1"));
        session
            .machine
            .write_failed(session.call(2), failure, "no", session.now);
        let failed = own_error("1", -32603, "no", reason);
        assert_eq!(session.actions(), [format!("1 {status}: {failed}")]);
    }
}

/// A client's answer that was not delivered is written once more; else the call is lost.
#[test]
fn an_answer_is_written_once_more_or_the_call_is_lost() {
    let mut session = Session::pipe();
    session.asks(1, &call("1"));
    session.hears(&elicit("1"));
    session.collects();
    session
        .retries(1, 1, 2, &retry("8", r#"{"k1":{"action":"cancel"}}"#))
        .unwrap();
    let (answer, message) = session.answers.remove(0);
    session
        .machine
        .answer_failed(answer, message, true, session.now);
    assert_eq!(
        session.actions(),
        [up(&result("1", r#"{"action":"cancel"}"#))]
    );
    let (answer, message) = session.answers.remove(0);
    session
        .machine
        .answer_failed(answer, message, true, session.now);
    let lines = session.actions();
    assert!(lines[0].contains("notifications/cancelled"), "{lines:?}");
    assert!(lines[1].starts_with("2 502: ") && lines[1].contains("may have run"));
}

/// The upstream is gone: what waits is given away, what ran is an error, what is parked holds one.
#[test]
fn a_lost_session_says_what_may_have_run() {
    let mut session = Session::pipe();
    session.asks(1, &call("1"));
    session.hears(&elicit("1"));
    session.collects();
    session.handed_out(1);
    session.asks(2, &modern("2", "tools/call", "", NOTHING, ""));
    let waits = modern(
        "3",
        "tools/call",
        "",
        NOTHING,
        r#","io.modelcontextprotocol/logLevel":"info""#,
    );
    session.asks(3, &waits);
    session.machine.upstream_lost("it exited", session.now);
    let lines = session.actions();
    assert!(
        lines[0].starts_with("2 502: ") && lines[0].contains("may have run"),
        "{lines:?}"
    );
    assert_eq!(lines[1], "resend 3");
    assert_eq!(lines[2], "close UpstreamLost(\"it exited\")");
    assert!(session.machine.is_over() && !session.machine.is_finished());
    assert_eq!(session.tries(4, &list("4")), Err(Refused::Over));
    assert_eq!(session.hears(&result("2", "{}")), [""; 0]);
    let lines = session.retries(1, 1, 5, &retry("8", "{}")).unwrap();
    assert!(lines[1].starts_with("5 502: ") && lines[1].contains("session_lost"));
    assert!(session.machine.is_finished());
}

/// What is held for nobody is forgotten when its time is over.
#[test]
fn a_held_outcome_expires() {
    let mut session = Session::pipe();
    session.asks(1, &call("1"));
    session.hears(&elicit("1"));
    session.collects();
    session.machine.upstream_lost("it exited", session.now);
    session.actions();
    assert_eq!(session.at(601 * SECOND), ["unparked 1"]);
    assert!(session.machine.is_finished() && session.machine.poll_timeout().is_none());
}
