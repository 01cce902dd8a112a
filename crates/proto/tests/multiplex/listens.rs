//! `subscriptions/listen`.

use thinpipe_proto::bridge::multiplex::{MAX_LISTEN, MAX_RESENDS, MAX_TOPICS};

use super::*;

const TOOLS: &str = r#"{"toolsListChanged":true}"#;
const BOTH: &str = r#"{"toolsListChanged":true,"resourceSubscriptions":["r:1","r:2"]}"#;
const TOOLS_CHANGED: &str = "notifications/tools/list_changed";
const UPDATED: &str = "notifications/resources/updated";

/// A program with an acknowledged listen `"L"`, its call 1.
fn listening(notifications: &str) -> Pipe {
    let mut pipe = Pipe::new();
    pipe.asks(&listen(r#""L""#, notifications));
    assert_eq!(pipe.hears(&acknowledged("1", notifications)).len(), 1);
    pipe
}

/// R242, R148, invariants 7 and 18: the stamp is the client's id, with its type, in the acknowledgement, in what
/// follows and in the end; each listen gets its own.
#[test]
fn r242_subscription_ids_are_the_clients_own() {
    let mut pipe = Pipe::new();
    let lines = pipe.asks(&listen(r#""L""#, TOOLS));
    assert_eq!(lines, ["start", &up(&listen("1", TOOLS))]);
    assert_eq!(pipe.asks(&listen("1", TOOLS)), [up(&listen("2", TOOLS))]);
    for (own, id) in [("2", "1"), ("1", r#""L""#)] {
        let line = format!("{own}: {}", acknowledged(id, TOOLS));
        assert_eq!(pipe.hears(&acknowledged(own, TOOLS)), [line]);
        let line = format!("{own}~: {}", stamped(TOOLS_CHANGED, "", id));
        assert_eq!(pipe.hears(&stamped(TOOLS_CHANGED, "", own)), [line]);
    }
    for (own, id) in [("1", r#""L""#), ("2", "1")] {
        assert_eq!(
            pipe.hears(&closed(own)),
            [format!("{own}!: {}", closed(id))]
        );
        assert!(pipe.hears(&stamped(TOOLS_CHANGED, "", own)).is_empty());
    }
    assert!(pipe.machine.is_idle());
}

/// R146, invariant 18: nothing before the acknowledgement, one of them, and only kinds that it grants.
#[test]
fn r146_a_listen_hears_what_was_acknowledged() {
    let mut pipe = Pipe::new();
    pipe.asks(&listen(
        "7",
        r#"{"toolsListChanged":true,"promptsListChanged":true}"#,
    ));
    let changed = stamped(TOOLS_CHANGED, "", "1");
    assert!(pipe.hears(&changed).is_empty());
    pipe.hears(&acknowledged("1", TOOLS));
    assert!(pipe.hears(&acknowledged("1", TOOLS)).is_empty());
    let prompts = stamped("notifications/prompts/list_changed", "", "1");
    assert!(pipe.hears(&prompts).is_empty());
    assert!(
        pipe.hears(&stamped(UPDATED, r#""uri":"r:1","#, "1"))
            .is_empty()
    );
    assert_eq!(pipe.hears(&changed).len(), 1);
    let own = stamped("notifications/tasks", "", "1");
    assert_eq!(
        pipe.hears(&own),
        [format!("1: {}", stamped("notifications/tasks", "", "7"))]
    );
}

/// 2.3.7: progress and log lines never appear on a listen, and it does not make lines of others ambiguous.
#[test]
fn r146_a_listen_has_no_progress_and_no_log_lines() {
    let mut pipe = Pipe::new();
    let level = r#""io.modelcontextprotocol/logLevel":"info""#;
    let meta = format!(r#"{{"notifications":{TOOLS},"_meta":{{"progressToken":2,{level}}}}}"#);
    let lines = pipe.asks(&request("1", "subscriptions/listen", &meta));
    assert_eq!(lines, ["start", &up(&listen("1", TOOLS))]);
    pipe.asks(&call("1", &format!(r#"{level},"progressToken":1"#)));
    assert_eq!(pipe.hears(&log("a")), [format!("2: {}", log("a"))]);
    assert!(pipe.hears(&progress("1", "1")).is_empty());
}

/// R243: a client that leaves is cancelled; a program that cancels a listen ends it, as its final result does,
/// whichever comes first.
#[test]
fn r243_a_listen_ends_from_either_side() {
    let mut pipe = listening(TOOLS);
    let lines = pipe.hears(&cancelled("1", "enough"));
    assert_eq!(lines, [format!("1!: {}", closed(r#""L""#))]);
    assert!(pipe.hears(&closed("1")).is_empty());

    let mut pipe = listening(TOOLS);
    assert_eq!(pipe.hears(&closed("1")).len(), 1);
    assert!(pipe.hears(&cancelled("1", "enough")).is_empty());

    let mut pipe = listening(TOOLS);
    assert_eq!(pipe.leaves(1).len(), 1);
    assert!(pipe.hears(&stamped(TOOLS_CHANGED, "", "1")).is_empty());
    assert!(pipe.hears(&closed("1")).is_empty());
    assert!(pipe.machine.is_idle());

    // Who was never told that it listens is told that it does not.
    let mut pipe = Pipe::new();
    pipe.asks(&listen("1", TOOLS));
    let lines = pipe.hears(&cancelled("1", "enough"));
    assert_eq!(lines.len(), 1);
    assert!(lines[0].starts_with("1 x Lost"), "{lines:?}");
}

/// An error is an end like any other.
#[test]
fn r149_a_refused_listen_gets_its_error() {
    let mut pipe = Pipe::new();
    pipe.asks(&request(r#""L""#, "subscriptions/listen", "{}"));
    let line = format!("1!: {}", error(r#""L""#, -32602));
    assert_eq!(pipe.hears(&error("1", -32602)), [line]);
}

/// R250: a listen waits for its acknowledgement as long as a request may be silent, and then for ever.
#[test]
fn r250_a_listen_has_a_deadline_for_its_acknowledgement_only() {
    let mut pipe = Pipe::new();
    pipe.asks(&listen("1", TOOLS));
    pipe.asks(&listen("2", TOOLS));
    pipe.hears(&acknowledged("2", TOOLS));
    let lines = pipe.at(60 * SECOND);
    let notice = cancelled("1", "it was not acknowledged in time");
    assert_eq!(lines, ["1 x TimedOut", &up(&notice)]);
    assert!(pipe.at(10_000 * SECOND).is_empty());
    assert_eq!(pipe.hears(&stamped(TOOLS_CHANGED, "", "2")).len(), 1);
}

/// R244, 5.4.3, invariant 18: another program gets the listen again; its acknowledgement stays inside, and what
/// may have been missed is told once per kind and URI.
#[test]
fn r244_a_listen_outlives_its_program() {
    let mut pipe = listening(BOTH);
    assert_eq!(pipe.dies(), ["start", &up(&listen("1", BOTH))]);
    assert!(pipe.hears(&stamped(TOOLS_CHANGED, "", "1")).is_empty());
    let lines = pipe.hears(&acknowledged("1", BOTH));
    let id = r#""L""#;
    let notices = [
        format!("1~: {}", stamped(UPDATED, r#""uri":"r:1","#, id)),
        format!("1~: {}", stamped(UPDATED, r#""uri":"r:2","#, id)),
        format!("1~: {}", stamped(TOOLS_CHANGED, "", id)),
    ];
    assert_eq!(lines, notices);
    assert_eq!(pipe.hears(&stamped(TOOLS_CHANGED, "", "1")).len(), 1);
}

/// The same: a program that grants less ends the listen. The client may begin anew, and learns what there is.
#[test]
fn r244_a_narrower_acknowledgement_ends_the_listen() {
    let mut pipe = listening(BOTH);
    pipe.dies();
    let lines = pipe.hears(&acknowledged("1", TOOLS));
    let notice = cancelled("1", "the client was promised more than this");
    assert_eq!(lines, [format!("1!: {}", closed(r#""L""#)), up(&notice)]);
    assert!(pipe.hears(&stamped(TOOLS_CHANGED, "", "1")).is_empty());
}

/// The same for one that refuses it, or says nothing.
#[test]
fn r244_a_listen_that_cannot_go_on_ends_with_its_final_result() {
    let end = format!("1!: {}", closed(r#""L""#));
    let mut pipe = listening(TOOLS);
    pipe.dies();
    assert_eq!(pipe.hears(&error("1", -32601)), std::slice::from_ref(&end));
    let mut pipe = listening(TOOLS);
    pipe.dies();
    assert_eq!(pipe.at(60 * SECOND)[0], end);
    let mut pipe = listening(TOOLS);
    for _ in 0..MAX_RESENDS {
        assert_eq!(pipe.dies().len(), 2);
    }
    assert_eq!(pipe.dies(), [end]);
    assert!(pipe.machine.is_idle());
}

/// A client that leaves while no program runs is not heard of again.
#[test]
fn r243_a_listen_that_waits_for_another_program_can_be_left() {
    let mut pipe = listening(TOOLS);
    pipe.starts = false;
    assert_eq!(pipe.dies(), ["start"]);
    assert!(pipe.leaves(1).is_empty());
    pipe.machine.started();
    assert!(pipe.lines().is_empty());
    assert!(pipe.machine.is_idle());
}

/// Invariant 23: what is kept of a listen is bounded, and so is how many there are.
#[test]
fn invariant_23_listens_are_bounded() {
    let limits = Limits {
        listens: 1,
        ..Limits::default()
    };
    let mut pipe = Pipe::with(limits);
    let uris: Vec<_> = (0..=MAX_TOPICS).map(|n| format!("\"{n}\"")).collect();
    let many = format!(r#"{{"resourceSubscriptions":[{}]}}"#, uris.join(","));
    let refused = pipe.asks_as("", &listen("1", &many));
    assert_eq!(
        refused,
        Err(Refused::TooManySubscriptions { limit: MAX_TOPICS })
    );
    let long = format!(
        r#"{{"resourceSubscriptions":["{}"]}}"#,
        "x".repeat(MAX_LISTEN)
    );
    let refused = pipe.asks_as("", &listen("1", &long));
    assert_eq!(refused, Err(Refused::TooLong { limit: MAX_LISTEN }));
    pipe.asks(&listen("1", TOOLS));
    let refused = pipe.asks_as("", &listen("2", TOOLS));
    assert_eq!(refused, Err(Refused::TooManyInFlight { limit: 1 }));
    // Other calls have places of their own.
    pipe.asks(&call("1", ""));
}
