//! Cancellation, and the end of sessions.

use thinpipe_proto::bridge::{CANCELLED_AGE, EARLY_CANCEL_AGE, End, MAX_EARLY_CANCELS};

use super::*;

/// Protocol notes 5.1 "Cancel": once, with our id, every other byte kept; the stream ends without a
/// response, and what comes late is dropped.
#[test]
fn a_cancelled_request_gets_no_response() {
    let mut pipe = Pipe::per_client();
    pipe.says(1, &tracked("\"a\"", "1"));
    let cancel = |id: &str| {
        notification(
            "notifications/cancelled",
            &format!(r#"{{"x":1.0,"requestId":{id}}}"#),
        )
    };
    let lines = pipe.says(1, &cancel("\"a\""));
    assert_eq!(
        lines,
        [format!("up: {}", cancel("1")), "finish 1/\"a\"".to_owned()]
    );
    assert!(pipe.hears(&progress("1", "1")).is_empty());
    assert!(pipe.hears(&result("1", "{}")).is_empty());
    assert_eq!(pipe.machine.in_flight(), 0);
    assert_eq!(pipe.machine.dropped().upstream_responses, 1);
}

/// What the server asked for its sake is refused there and withdrawn here.
#[test]
fn cancelling_takes_its_questions_along() {
    let mut pipe = Pipe::per_client().declaring(EVERYTHING);
    pipe.says(1, &request("5", "m"));
    pipe.hears(&request("\"q\"", "elicitation/create"));
    let why = "the request it belongs to was cancelled";
    let lines = pipe.says(1, &cancelled("5", "no"));
    assert_eq!(
        lines,
        [
            format!("up: {}", error("\"q\"", -32603, why)),
            format!("1/5: {}", cancelled("\"q\"", why)),
            format!("up: {}", cancelled("2", "no")),
            "finish 1/5".to_owned(),
        ]
    );
    assert!(pipe.says(1, &result("\"q\"", "{}")).is_empty());
}

/// While a cancelled request may be running still, the only other one is not shown its messages.
#[test]
fn nothing_is_associated_while_a_cancelled_request_is_unanswered() {
    let log = notification("notifications/message", "{}");
    let mut pipe = Pipe::per_client();
    pipe.says(1, &request("1", "m"));
    pipe.says(1, &cancelled("1", ""));
    pipe.says(1, &request("2", "m"));
    assert_eq!(pipe.hears(&log), [format!("1/-: {log}")]);
    pipe.hears(&result("1", "{}"));
    assert_eq!(pipe.hears(&log), [format!("1/2: {log}")]);
    // Most servers never answer what was cancelled.
    pipe.says(1, &request("3", "m"));
    pipe.says(1, &cancelled("3", ""));
    assert_eq!(pipe.machine.in_flight(), 2);
    assert!(pipe.at(CANCELLED_AGE).is_empty());
    assert_eq!(pipe.hears(&log), [format!("1/2: {log}")]);
}

/// R250: cancelled requests count as in flight, so that cancelling is no way around the limit.
#[test]
fn cancelled_requests_count_until_they_are_answered_or_old() {
    let limits = Limits {
        in_flight: 1,
        ..Limits::default()
    };
    let mut pipe = Pipe::new(Sharing::PerClient, limits, 1);
    pipe.says(1, &request("1", "m"));
    pipe.says(1, &cancelled("1", ""));
    assert!(pipe.tries(1, &request("2", "m")).is_err());
    pipe.at(CANCELLED_AGE);
    assert!(pipe.tries(1, &request("2", "m")).is_ok());
}

/// Protocol notes 5.1: a cancellation that overtakes its request is remembered for 2 s, 32 of them.
#[test]
fn a_cancellation_that_overtakes_its_request_stops_it() {
    let mut pipe = Pipe::per_client();
    assert!(pipe.says(1, &cancelled("1", "")).is_empty());
    assert_eq!(pipe.says(1, &request("1", "m")), ["finish 1/1"]);
    assert_eq!(pipe.says(1, &request("1", "m")).len(), 1, "it counts once");
    assert!(pipe.says(1, &cancelled("2", "")).is_empty());
    pipe.at(EARLY_CANCEL_AGE);
    assert_eq!(pipe.says(1, &request("2", "m")).len(), 1, "it is forgotten");
    for id in 100..=100 + MAX_EARLY_CANCELS {
        pipe.says(1, &cancelled(&id.to_string(), ""));
    }
    assert_ne!(pipe.says(1, &request("100", "m")), ["finish 1/100"]);
    assert_eq!(pipe.says(1, &request("101", "m")), ["finish 1/101"]);
}

/// `initialize` is never cancelled, not even before it comes.
#[test]
fn initialize_is_never_cancelled() {
    let mut pipe = Pipe::per_client();
    pipe.says(1, &cancelled("0", ""));
    assert_eq!(pipe.says(1, &initialize("0", "{}")).len(), 1);
    assert!(pipe.says(1, &cancelled("0", "")).is_empty());
    pipe.machine.abandon(MemberId(1), &id_of("0"), pipe.now);
    assert!(pipe.actions().is_empty());
    assert_eq!(pipe.hears(&initialized(1, "{}")).len(), 1);
}

/// A cancellation without a readable id.
#[test]
fn a_cancellation_that_names_nothing_is_dropped() {
    let mut pipe = Pipe::per_client();
    for params in ["{}", r#"{"requestId":null}"#, r#"{"requestId":[1]}"#] {
        assert!(
            pipe.says(1, &notification("notifications/cancelled", params))
                .is_empty()
        );
        assert!(
            pipe.hears(&notification("notifications/cancelled", params))
                .is_empty()
        );
    }
    assert_eq!(pipe.machine.dropped().cancellations, 6);
}

/// Retention is over: the transport gives up what nobody can read.
#[test]
fn an_abandoned_request_is_cancelled_upstream() {
    let mut pipe = Pipe::per_client();
    pipe.says(1, &request("5", "m"));
    pipe.machine.abandon(MemberId(1), &id_of("5"), pipe.now);
    let up = cancelled("1", "the client cannot take the answer any more");
    assert_eq!(
        pipe.actions(),
        [format!("up: {up}"), "finish 1/5".to_owned()]
    );
    pipe.machine.abandon(MemberId(1), &id_of("5"), pipe.now);
    assert!(pipe.actions().is_empty());
}

/// Invariants 14 and 24: a client session that ends takes its upstream session along.
#[test]
fn a_client_that_leaves_ends_the_session_and_leaves_nothing() {
    let mut pipe = Pipe::per_client();
    pipe.says(1, &request("5", "m"));
    pipe.says(1, &initialize("6", EVERYTHING));
    pipe.hears(&request("\"q\"", "roots/list"));
    let why = "the client's session is over";
    assert_eq!(
        pipe.leaves(1),
        [
            format!("up: {}", error("\"q\"", -32603, why)),
            format!("up: {}", cancelled("1", why)),
            "close ClientLeft".to_owned(),
        ]
    );
    assert!(pipe.machine.is_over());
    let left = [
        pipe.machine.in_flight(),
        pipe.machine.server_requests(),
        pipe.machine.members(),
    ];
    assert_eq!(left, [0, 0, 0]);
    assert_eq!(pipe.machine.poll_timeout(), None);
    assert!(pipe.leaves(1).is_empty());
    assert!(pipe.hears(&result("1", "{}")).is_empty());
    assert_eq!(pipe.tries(1, &request("7", "m")), Err(Refused::Over));
}

/// R212: the child is gone, and with it what ran in it.
#[test]
fn r212_a_lost_upstream_answers_what_is_in_flight_once() {
    let mut pipe = Pipe::per_client().declaring(EVERYTHING);
    pipe.says(1, &request("5", "m"));
    pipe.says(1, &request("6", "m"));
    pipe.says(1, &cancelled("6", ""));
    pipe.hears(&request("\"q\"", "roots/list"));
    pipe.machine.upstream_lost("it exited with status 1");
    let text = "the upstream was lost: it exited with status 1; the call may have run";
    let end = End::UpstreamLost("it exited with status 1".to_owned());
    assert_eq!(
        pipe.actions(),
        [
            format!("1/5!: {}", own_error("5", text, "upstream_stream_lost")),
            format!("close {end:?}"),
        ]
    );
    pipe.machine.upstream_lost("again");
    assert!(pipe.actions().is_empty());
}

/// R211: one POST to the upstream fails, the session lives on.
#[test]
fn r211_a_request_that_could_not_be_written_is_answered() {
    let mut pipe = Pipe::per_client();
    let message = parse(&request("5", "m"));
    pipe.machine
        .client(MemberId(1), &message, pipe.now)
        .unwrap();
    let Some(Action::Write {
        call: Some(call), ..
    }) = pipe.machine.poll_action()
    else {
        panic!("not written");
    };
    pipe.machine
        .write_failed(call, "upstream_unavailable", "no", pipe.now);
    let lines = pipe.actions();
    assert_eq!(
        lines,
        [format!(
            "1/5!: {}",
            own_error("5", "no", "upstream_unavailable")
        )]
    );
    pipe.machine
        .write_failed(call, "upstream_unavailable", "no", pipe.now);
    assert!(pipe.actions().is_empty());
    assert!(pipe.hears(&result("1", "{}")).is_empty());
}
