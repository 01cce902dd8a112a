//! Client sessions of one principal on one upstream session (protocol notes 5.2.1, `pooled`).

use thinpipe_proto::bridge::{AttachError, CANCELLED_AGE};

use super::*;

const ASKS: &str = r#"{"elicitation":{},"roots":{}}"#;

fn ask(id: &str) -> String {
    request_with(id, "elicitation/create", r#"{"message":"?"}"#)
}

fn is_refusal(lines: &[String], id: &str, code: i32) -> bool {
    let start = format!(r#"up: {{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"#);
    lines.len() == 1 && lines[0].starts_with(&start)
}

/// Row "initialize": what they all declare is declared, once.
#[test]
fn one_handshake_declares_what_all_declare() {
    let mut pipe = Pipe::new(Sharing::Pooled, Limits::default(), 2);
    let first = pipe.says(1, &initialize("0", ASKS));
    assert_eq!(first, [format!("up: {}", initialize("1", ASKS))]);
    assert!(pipe.says(2, &initialize("0", ASKS)).is_empty(), "it waits");
    assert_eq!(pipe.hears(&initialized(1, "{}")).len(), 2);
}

/// Row "server request": for the only request, for the only client, or for nobody.
#[test]
fn a_question_is_asked_of_whom_it_can_only_be_for() {
    let mut pipe = Pipe::pooled(Channel::Pipe, 2, ASKS);
    assert!(
        is_refusal(&pipe.hears(&ask("7")), "7", -32603),
        "of which of two?"
    );
    pipe.says(1, &request("1", "tools/call"));
    assert_eq!(pipe.hears(&ask("8")), [format!("1/1: {}", ask("8"))]);
    assert_eq!(
        pipe.says(1, &result("8", "{}")),
        [format!("up: {}", result("8", "{}"))]
    );
    assert!(
        pipe.says(2, &result("8", "{}")).is_empty(),
        "it was not asked"
    );
    pipe.says(2, &request("1", "tools/call"));
    assert!(is_refusal(&pipe.hears(&ask("9")), "9", -32603), "two calls");
    // Not declared by anybody.
    let undeclared = pipe.hears(&request("10", "sampling/createMessage"));
    assert!(is_refusal(&undeclared, "10", -32603), "{undeclared:?}");
    assert_eq!(
        pipe.hears(&request("11", "ping")),
        [format!("up: {}", result("11", "{}"))]
    );
    pipe.hears(&result("2", "{}"));
    pipe.hears(&result("3", "{}"));
    pipe.leaves(2);
    assert_eq!(pipe.hears(&ask("12")), [format!("1/-: {}", ask("12"))]);
    let undeclared = pipe.hears(&request("13", "sampling/createMessage"));
    assert!(is_refusal(&undeclared, "13", -32601), "{undeclared:?}");
}

/// What all clients of the principal may know, all are told.
#[test]
fn what_is_about_no_request_is_told_to_all() {
    let mut pipe = Pipe::pooled(Channel::Pipe, 2, "{}");
    for method in ["notifications/elicitation/complete", "notifications/x"] {
        let said = notification(method, "{}");
        assert_eq!(
            pipe.hears(&said),
            [format!("1/-: {said}"), format!("2/-: {said}")]
        );
    }
    pipe.says(2, &request("1", "tools/call"));
    let said = notification("notifications/x", "{}");
    assert_eq!(pipe.hears(&said), [format!("2/1: {said}")]);
}

/// Row "roots": they are those of the principal.
#[test]
fn changes_of_roots_go_up() {
    let mut pipe = Pipe::pooled(Channel::Pipe, 2, ASKS);
    let changed = notification("notifications/roots/list_changed", "{}");
    assert_eq!(pipe.says(2, &changed), [format!("up: {changed}")]);
}

/// Row "after a cancel": while a cancelled request may ask, nobody is asked for its sake, and nobody comes.
#[test]
fn after_a_cancel_nobody_is_taken_for_another() {
    let mut pipe = Pipe::pooled(Channel::Pipe, 1, ASKS);
    pipe.says(1, &request("1", "tools/call"));
    pipe.says(1, &cancelled("1", ""));
    assert_eq!(pipe.machine.attach(MemberId(2)), Err(AttachError::Settling));
    pipe.says(1, &request("2", "tools/call"));
    assert!(is_refusal(&pipe.hears(&ask("7")), "7", -32603));
    let line = notification("notifications/message", r#"{"level":"info"}"#);
    assert_eq!(
        pipe.hears(&line),
        [format!("1/-: {line}")],
        "of neither request"
    );
    // The cancelled one is answered: all is clear again.
    pipe.hears(&result("2", "{}"));
    assert_eq!(pipe.machine.attach(MemberId(2)), Ok(()));
    assert_eq!(pipe.hears(&ask("8")), [format!("1/2: {}", ask("8"))]);
}

/// Never answered, the session takes nobody any more, and closes when it is empty.
#[test]
fn a_cancelled_request_that_is_never_answered_ends_the_session_with_its_clients() {
    let mut pipe = Pipe::pooled(Channel::Pipe, 2, ASKS);
    pipe.says(1, &request("1", "tools/call"));
    pipe.says(1, &cancelled("1", ""));
    assert!(pipe.at(CANCELLED_AGE).is_empty());
    assert_eq!(pipe.machine.attach(MemberId(3)), Err(AttachError::Settling));
    pipe.says(2, &request("1", "tools/call"));
    assert!(
        is_refusal(&pipe.hears(&ask("7")), "7", -32603),
        "whose sake is it for?"
    );
    assert_eq!(pipe.hears(&result("3", "{}")).len(), 1);
    assert!(pipe.leaves(1).is_empty());
    assert_eq!(pipe.leaves(2), ["close Idle"]);
}

/// With streams nothing is murky: a cancelled request has its own.
#[test]
fn streams_tell_cancelled_requests_from_others() {
    let mut pipe = Pipe::pooled(Channel::Streams, 1, ASKS);
    pipe.says(1, &request("1", "tools/call"));
    pipe.says(1, &cancelled("1", ""));
    assert_eq!(pipe.machine.attach(MemberId(2)), Ok(()));
    assert!(is_refusal(&pipe.hears_on("2", &ask("7")), "7", -32603));
    let said = notification("notifications/x", "{}");
    assert!(pipe.hears_on("2", &said).is_empty());
    assert_eq!(pipe.at(CANCELLED_AGE), ["release 2"]);
    assert_eq!(pipe.machine.in_flight(), 0);
}

/// A principal may have all there is of its own session.
#[test]
fn bounds_of_one_principal_are_those_of_the_session() {
    let limits = Limits {
        members: 2,
        ..Limits::default()
    };
    let mut pipe = Pipe::new(Sharing::Pooled, limits, 0);
    let alice = thinpipe_proto::session::Principal::Named("alice".into());
    for member in 1..=2 {
        assert_eq!(pipe.machine.attach_of(MemberId(member), &alice), Ok(()));
    }
    assert_eq!(
        pipe.machine.attach_of(MemberId(3), &alice),
        Err(AttachError::Full { limit: 2 })
    );
}
