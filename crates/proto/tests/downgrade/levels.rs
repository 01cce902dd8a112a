//! Log levels and log lines (R240).

use super::*;

fn wants(id: &str, level: &str) -> String {
    let meta = format!(r#","io.modelcontextprotocol/logLevel":"{level}""#);
    modern(id, "tools/list", "", NOTHING, &meta)
}

fn set(id: &str, level: &str) -> String {
    up(&request(
        id,
        "logging/setLevel",
        &format!(r#"{{"level":"{level}"}}"#),
    ))
}

fn logs(level: &str) -> String {
    notification(
        "notifications/message",
        &format!(r#"{{"level":"{level}","data":1}}"#),
    )
}

/// R240: the level is set, and answered, before the request that needs it is written; lines go to the
/// request that asked, filtered.
#[test]
fn r240_the_level_is_set_before_the_request() {
    let mut session = Session::pipe();
    assert_eq!(
        session.asks(1, &wants("1", "warning")),
        [set("2", "warning")]
    );
    assert_eq!(session.hears(&result("2", "{}")).len(), 1);
    assert_eq!(session.hears(&logs("info")), [""; 0]);
    assert_eq!(
        session.hears(&logs("warning")),
        [format!("1: {}", logs("warning"))]
    );
    assert_eq!(session.hears(&logs("loud")), [""; 0]);
    // Another request is in flight: nobody can tell whose the line is.
    assert_eq!(session.asks(2, &wants("2", "debug")), [set("4", "debug")]);
    session.hears(&result("4", "{}"));
    assert_eq!(session.hears(&logs("error")), [""; 0]);
    assert_eq!(session.machine.dropped().logs, 3);
}

/// A level that is none is answered with those that there are.
#[test]
fn a_level_that_is_none_is_answered_with_the_levels() {
    let mut session = Session::pipe();
    let refused = session.tries(1, &wants("1", "loud")).unwrap_err();
    assert_eq!(refused.code(), -32602);
    let text = refused.to_string();
    for level in ["logLevel", "debug", "notice", "emergency"] {
        assert!(text.contains(level), "{text}");
    }
}

/// A request that asked for none gets none, and a server without logging is not asked.
#[test]
fn r240_who_did_not_ask_gets_none() {
    let mut session = Session::pipe();
    session.asks(1, &list("1"));
    assert_eq!(session.hears(&logs("error")), [""; 0]);
    let mut session = Session::open(Channel::Pipe, Lifetime::Pooled, r#"{"tools":{}}"#);
    let lines = session.asks(1, &wants("1", "debug"));
    assert!(lines[0].contains("tools/list"), "{lines:?}");
}

/// The most verbose level wins, waiting for what runs; it is lowered when somebody asks for less.
#[test]
fn the_most_verbose_level_is_set() {
    let mut session = Session::pipe();
    assert_eq!(session.asks(1, &wants("1", "error")), [set("2", "error")]);
    assert_eq!(
        session.asks(2, &wants("2", "info")),
        [""; 0],
        "one at a time"
    );
    let lines = session.hears(&result("2", "{}"));
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(lines[0], set("3", "info"));
    let lines = session.hears(&error("3", -32602, "no"));
    assert_eq!(lines.len(), 1, "asking again helps nobody: {lines:?}");
    session.hears(&result("4", "{}"));
    session.hears(&result("5", "{}"));
    let lines = session.asks(3, &wants("3", "alert"));
    assert_eq!(lines.len(), 2, "nobody waits for less: {lines:?}");
    assert_eq!(lines[0], set("6", "alert"));
}

/// A server that does not answer delays a request for a while only.
#[test]
fn an_unanswered_level_delays_for_a_while() {
    let mut session = Session::pipe();
    session.asks(1, &wants("1", "error"));
    assert_eq!(session.at(9 * SECOND), [""; 0]);
    assert_eq!(session.at(10 * SECOND).len(), 1);
}

/// On Streamable HTTP the stream tells whose a line is.
#[test]
fn r240_on_streams_lines_are_told_by_their_stream() {
    let mut session = Session::streams();
    session.asks(1, &wants("1", "info"));
    session.hears(&result("2", "{}"));
    session.asks(2, &wants("2", "info"));
    let lines = session.hears_on(4, &logs("info"));
    assert_eq!(lines, [format!("2: {}", logs("info"))]);
    assert_eq!(session.hears(&logs("info")), [""; 0]);
    session.leaves(2);
    assert_eq!(session.hears_on(4, &logs("info")), [""; 0]);
}
