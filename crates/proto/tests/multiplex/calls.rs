//! Requests that are answered once.

use super::*;

const TOKEN: &str = r#""progressToken":1"#;
const LEVEL: &str = r#""io.modelcontextprotocol/logLevel":"info""#;
const LEFT: &str = "the client does not wait any more";

/// R242, R249, invariants 1 and 7: clients choose the same ids and tokens, and nothing crosses; they get them
/// back with their type.
#[test]
fn r242_equal_ids_and_tokens_of_clients_never_cross() {
    let mut pipe = Pipe::new();
    let one = pipe.asks(&call("1", TOKEN));
    assert_eq!(one, ["start", &up(&call("1", TOKEN))]);
    let two = pipe.asks(&call("1", TOKEN));
    assert_eq!(two, [up(&call("2", r#""progressToken":2"#))]);
    let three = pipe.asks(&call(r#""1""#, r#""progressToken":"1""#));
    assert_eq!(three, [up(&call("3", r#""progressToken":3"#))]);
    for (own, token) in [("2", "1"), ("3", r#""1""#), ("1", "1")] {
        let line = format!("{own}: {}", progress(token, "1"));
        assert_eq!(pipe.hears(&progress(own, "1")), [line]);
    }
    assert_eq!(
        pipe.hears(&result("3", "{}")),
        [format!("3!: {}", result(r#""1""#, "{}"))]
    );
    assert_eq!(
        pipe.hears(&error("1", -32603)),
        [format!("1!: {}", error("1", -32603))]
    );
    assert_eq!(
        pipe.hears(&result("2", "{}")),
        [format!("2!: {}", result("1", "{}"))]
    );
    assert_eq!(pipe.machine.in_flight(), 0);
}

/// Invariants 1, 2 and 17: the first response wins, and nothing follows it; progress rises.
#[test]
fn r242_nothing_follows_a_response() {
    let mut pipe = Pipe::new();
    pipe.asks(&call("1", TOKEN));
    assert_eq!(pipe.hears(&progress("1", "2")).len(), 1);
    assert!(pipe.hears(&progress("1", "2")).is_empty());
    assert_eq!(pipe.hears(&result("1", "{}")).len(), 1);
    assert!(pipe.hears(&result("1", "{}")).is_empty());
    assert!(pipe.hears(&progress("1", "3")).is_empty());
    let dropped = pipe.machine.dropped();
    assert_eq!((dropped.upstream_responses, dropped.progress), (1, 2));
}

/// A call without a token gets no progress, whoever uses its id as one.
#[test]
fn r242_progress_goes_to_calls_that_ask_for_it() {
    let mut pipe = Pipe::new();
    pipe.asks(&call("1", ""));
    assert!(pipe.hears(&progress("1", "1")).is_empty());
    assert!(pipe.hears(&progress(r#""1""#, "1")).is_empty());
}

/// R243, invariants 2 and 14: who leaves is cancelled once, by the id of the pipe; what comes later is
/// dropped.
#[test]
fn r243_a_client_that_leaves_is_cancelled_once() {
    let mut pipe = Pipe::new();
    pipe.asks(&call(r#""a""#, TOKEN));
    pipe.asks(&call(r#""a""#, TOKEN));
    assert_eq!(pipe.leaves(1), [up(&cancelled("1", LEFT))]);
    assert!(pipe.leaves(1).is_empty());
    for late in [progress("1", "1"), result("1", "{}"), result("1", "{}")] {
        assert!(pipe.hears(&late).is_empty());
    }
    assert_eq!(pipe.hears(&result("2", "{}")).len(), 1);
    assert!(pipe.leaves(2).is_empty());
    assert!(pipe.machine.is_idle());
}

/// 5.1, "Cancel": what was not written is never written.
#[test]
fn r243_what_was_not_written_is_never_written() {
    let mut pipe = Pipe::new();
    pipe.starts = false;
    assert_eq!(pipe.asks(&call("1", "")), ["start"]);
    pipe.asks(&call("2", ""));
    assert!(pipe.leaves(1).is_empty());
    pipe.machine.started();
    assert_eq!(pipe.lines(), [up(&call("2", ""))]);
    assert_eq!(pipe.machine.in_flight(), 1);
}

/// A program has nothing to ask, and cancels no calls; what is tied to no call is nobody's (invariants 5
/// and 11).
#[test]
fn r133_requests_of_the_program_and_what_is_nobodys_is_dropped() {
    let mut pipe = Pipe::new();
    pipe.asks(&call("1", ""));
    for said in [
        request("1", "roots/list", "{}"),
        request("9", "ping", "{}"),
        cancelled("1", "no"),
        notification("notifications/tools/list_changed", "{}"),
        notification("notifications/anything", "{}"),
        stamped("notifications/tools/list_changed", "", "1"),
        result("7", "{}"),
        error("null", -32700),
    ] {
        assert!(pipe.hears(&said).is_empty(), "{said}");
    }
    let dropped = pipe.machine.dropped();
    assert_eq!((dropped.server_requests, dropped.cancellations), (2, 1));
    assert_eq!((dropped.notifications, dropped.upstream_responses), (3, 2));
    assert_eq!(pipe.hears(&result("1", "{}")).len(), 1);
}

/// R240, invariant 9: a line names no request, so it goes to the only one that asked for lines, or to nobody.
#[test]
fn r240_a_log_line_goes_to_the_only_call_that_set_a_level() {
    let mut pipe = Pipe::new();
    pipe.asks(&call("1", ""));
    assert!(pipe.hears(&log("a")).is_empty());
    assert_eq!(pipe.asks(&call("2", LEVEL)), [up(&call("2", LEVEL))]);
    assert_eq!(pipe.hears(&log("b")), [format!("2: {}", log("b"))]);
    pipe.asks(&call("3", LEVEL));
    assert!(pipe.hears(&log("c")).is_empty());
    // A late line of the one would be shown to the other.
    pipe.leaves(2);
    assert!(pipe.hears(&log("d")).is_empty());
    pipe.hears(&result("2", "{}"));
    assert_eq!(pipe.hears(&log("e")), [format!("3: {}", log("e"))]);
}

/// 5.5, invariants 8 and 9: nobody knows how many clients without a name there are, so that none of them is told
/// what the program says of another one, not even who is alone now.
#[test]
fn r240_clients_without_a_name_get_no_log_lines() {
    let mut pipe = Pipe::new();
    pipe.machine = Multiplexing::new(Limits::default());
    let lines = pipe.asks_as("ann", &call("1", LEVEL)).unwrap();
    assert_eq!(lines, ["start", &up(&call("1", LEVEL))]);
    assert_eq!(pipe.hears(&log("a")).len(), 1);
    assert_eq!(pipe.asks(&call("2", LEVEL)), [up(&call("2", ""))]);
    assert!(pipe.hears(&log("b")).is_empty());
    pipe.hears(&result("1", "{}"));
    pipe.hears(&result("2", "{}"));
    assert_eq!(pipe.asks(&call("3", LEVEL)), [up(&call("3", ""))]);
    assert!(pipe.hears(&log("c")).is_empty());
}

/// Invariant 8: a program that serves several principals is sent no level, and its lines are dropped.
#[test]
fn r240_several_principals_get_no_log_lines() {
    let mut pipe = Pipe::new();
    pipe.asks_as("ann", &call("1", LEVEL)).unwrap();
    assert_eq!(pipe.hears(&log("a")).len(), 1);
    let lines = pipe
        .asks_as("bob", &call("2", &format!("{LEVEL},{TOKEN}")))
        .unwrap();
    assert_eq!(lines, [up(&call("2", r#""progressToken":2"#))]);
    assert!(pipe.hears(&log("b")).is_empty());
    pipe.hears(&result("1", "{}"));
    pipe.hears(&result("2", "{}"));
    assert_eq!(
        pipe.asks_as("ann", &call("3", LEVEL)).unwrap(),
        [up(&call("3", ""))]
    );
    assert!(pipe.hears(&log("c")).is_empty());
    // Another one has served nobody yet.
    pipe.dies();
    let lines = pipe.asks_as("ann", &call("4", LEVEL)).unwrap();
    assert_eq!(lines, ["start", &up(&call("4", LEVEL))]);
}

/// R250, invariant 22: silence ends a call, progress keeps it, the cap ends it.
#[test]
fn r250_deadlines_end_a_call_and_cancel_it() {
    let mut pipe = Pipe::new();
    pipe.asks(&call("1", ""));
    pipe.asks(&call("2", TOKEN));
    for step in 1..=10 {
        pipe.at(55 * step * SECOND);
        assert_eq!(pipe.hears(&progress("2", &step.to_string())).len(), 1);
        if step == 1 {
            let lines = pipe.at(60 * SECOND);
            assert_eq!(
                lines,
                ["1 x TimedOut", &up(&cancelled("1", "it took too long"))]
            );
        }
    }
    let lines = pipe.at(600 * SECOND);
    assert_eq!(
        lines,
        ["2 x TimedOut", &up(&cancelled("2", "it took too long"))]
    );
    assert!(pipe.hears(&result("2", "{}")).is_empty());
    assert_eq!(pipe.at(700 * SECOND), [""; 0]);
    assert!(pipe.machine.is_idle());
    assert_eq!(pipe.machine.poll_timeout(), None);
}

/// A call that cannot be written in time certainly was not delivered.
#[test]
fn r250_a_call_that_waits_too_long_was_not_delivered() {
    let mut pipe = Pipe::new();
    pipe.starts = false;
    pipe.asks(&call("1", ""));
    assert_eq!(pipe.at(60 * SECOND), ["1 x- TimedOut"]);
    pipe.machine.started();
    assert!(pipe.lines().is_empty());
}

/// Invariant 23: no principal takes all there is, not with calls that it cancels either. Who has no name is
/// told from nobody.
#[test]
fn invariant_23_one_principal_leaves_something_for_others() {
    let limits = Limits {
        in_flight: 4,
        listens: 3,
        ..Limits::default()
    };
    let listen = |id: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"subscriptions/listen","params":{{"notifications":{{}}}}}}"#
        )
    };
    let mut pipe = Pipe::with(limits.clone());
    let of_one = Err(Refused::TooManyOfOne { limit: 2 });
    for id in ["1", "2"] {
        pipe.asks_as("ann", &call(id, "")).unwrap();
        pipe.asks_as("ann", &listen(id)).unwrap();
    }
    assert_eq!(pipe.asks_as("ann", &listen("3")), of_one);
    pipe.asks_as("bob", &listen("3")).unwrap();
    pipe.leaves(1);
    assert_eq!(
        pipe.asks_as("ann", &call("3", "")),
        of_one,
        "it may be running"
    );
    pipe.asks_as("bob", &call("3", "")).unwrap();
    pipe.hears(&result("1", "{}"));
    pipe.asks_as("ann", &call("3", "")).unwrap();
    assert_eq!(pipe.asks_as("ann", &call("4", "")), of_one);
    let mut pipe = Pipe::with(limits);
    for id in ["1", "2", "3", "4"] {
        pipe.asks(&call(id, ""));
    }
}

/// Invariant 23: the tables are bounded, and what cannot be mapped is refused.
#[test]
fn invariant_23_what_exceeds_a_bound_is_refused() {
    let limits = Limits {
        in_flight: 2,
        ..Limits::default()
    };
    let mut pipe = Pipe::with(limits);
    pipe.asks(&call("1", ""));
    pipe.asks(&call("2", ""));
    let full = Err(Refused::TooManyInFlight { limit: 2 });
    assert_eq!(pipe.asks_as("", &call("3", "")), full);
    // A cancelled one may be running still.
    pipe.leaves(1);
    assert_eq!(pipe.asks_as("", &call("3", "")), full);
    pipe.hears(&result("1", "{}"));
    assert!(pipe.asks_as("", &call("3", "")).is_ok());
    pipe.hears(&result("2", "{}"));
    let long = format!("\"{}\"", "x".repeat(5000));
    let refused = pipe.asks_as("", &call(&long, ""));
    assert_eq!(refused, Err(Refused::TooLong { limit: 4096 }));
    let refused = pipe.asks_as("", &call("4", r#""progressToken":{}"#));
    assert_eq!(refused.map_err(|refused| refused.code()), Err(-32602));
    assert_eq!(pipe.machine.in_flight(), 1);
}
