//! The program starts, dies and does not start.

use thinpipe_proto::bridge::multiplex::MAX_FAILED_STARTS;

use super::*;

const TOOLS: &str = r#"{"toolsListChanged":true}"#;

/// R244, invariant 3: what a program that died was given may have run, and is not written again; what it was not
/// given waits for another one.
#[test]
fn r244_a_crash_fails_what_is_in_flight() {
    let mut pipe = Pipe::new();
    pipe.asks(&call("1", ""));
    pipe.asks(&call("2", ""));
    pipe.leaves(2);
    let now = pipe.now;
    let waiting = parse(&call("3", ""));
    pipe.machine
        .call(&waiting, &Principal::Anonymous, now)
        .unwrap();
    let lines = pipe.dies();
    assert_eq!(
        lines,
        [r#"1 x Lost("it died")"#, "start", &up(&call("3", ""))]
    );
    assert_eq!(pipe.hears(&result("3", "{}")).len(), 1);
    assert!(pipe.machine.is_idle());
}

/// A program that nobody needs is not started again.
#[test]
fn r244_a_program_is_started_when_it_is_needed() {
    let mut pipe = Pipe::new();
    pipe.asks(&call("1", ""));
    assert_eq!(pipe.dies().len(), 1);
    assert!(pipe.dies().is_empty());
    assert_eq!(pipe.asks(&call("2", ""))[0], "start");
}

/// A program that does not start: who waits for it is told at once, and the next one tries again.
#[test]
fn r244_calls_fail_when_the_program_does_not_start() {
    let mut pipe = Pipe::new();
    pipe.starts = false;
    assert_eq!(pipe.asks(&call("1", "")), ["start"]);
    assert!(pipe.asks(&call("2", "")).is_empty());
    pipe.machine.start_failed(pipe.now + SECOND);
    assert_eq!(pipe.lines(), ["1 x- NotStarted", "2 x- NotStarted"]);
    assert_eq!(pipe.asks(&call("3", "")), ["start"]);
    pipe.machine.started();
    assert_eq!(pipe.lines(), [up(&call("3", ""))]);
}

/// Listens wait through the pauses, and calls that come in one do not; in the end they end too.
#[test]
fn r244_listens_wait_for_a_program_for_a_while() {
    let mut pipe = Pipe::new();
    pipe.asks(&listen("1", TOOLS));
    pipe.hears(&acknowledged("1", TOOLS));
    pipe.starts = false;
    assert_eq!(pipe.dies(), ["start"]);
    for failed in 1..MAX_FAILED_STARTS {
        pipe.machine.start_failed(pipe.now + 100 * SECOND);
        assert!(pipe.lines().is_empty());
        let number = failed + 1;
        assert_eq!(
            pipe.asks(&call("1", "")),
            [format!("{number} x- NotStarted")]
        );
        assert_eq!(pipe.at(100 * failed * SECOND), ["start"]);
    }
    pipe.machine.start_failed(pipe.now + 100 * SECOND);
    assert_eq!(pipe.lines(), [format!("1!: {}", closed("1"))]);
    assert!(pipe.machine.is_idle());
    assert_eq!(pipe.machine.poll_timeout(), None);
}

/// One that starts after all goes on where the last one stopped.
#[test]
fn r244_listens_go_on_after_a_pause() {
    let mut pipe = Pipe::new();
    pipe.asks(&listen("1", TOOLS));
    pipe.hears(&acknowledged("1", TOOLS));
    pipe.starts = false;
    pipe.dies();
    pipe.machine.start_failed(pipe.now + SECOND);
    pipe.starts = true;
    assert_eq!(pipe.at(SECOND), ["start", &up(&listen("1", TOOLS))]);
    assert_eq!(pipe.hears(&acknowledged("1", TOOLS)).len(), 1);
}

/// Invariant 24: the end leaves nothing behind, and listens are told.
#[test]
fn invariant_24_the_end_leaves_nothing_behind() {
    let mut pipe = Pipe::new();
    pipe.asks(&call("1", ""));
    pipe.asks(&listen("2", TOOLS));
    pipe.hears(&acknowledged("2", TOOLS));
    pipe.asks(&call("3", ""));
    pipe.leaves(3);
    let now = pipe.now;
    let waiting = parse(&call("4", ""));
    pipe.machine
        .call(&waiting, &Principal::Anonymous, now)
        .unwrap();
    pipe.machine.end("bye");
    let expected = [
        r#"1 x Lost("bye")"#.to_owned(),
        format!("2!: {}", closed("2")),
        r#"4 x- Lost("bye")"#.to_owned(),
    ];
    assert_eq!(pipe.lines(), expected);
    assert!(pipe.machine.is_idle());
    assert_eq!(pipe.machine.poll_timeout(), None);
    assert_eq!(pipe.asks_as("", &call("5", "")), Err(Refused::Over));
    pipe.machine.end("again");
    assert!(pipe.dies().is_empty());
}

/// What the pipe certainly did not take was not delivered.
#[test]
fn what_could_not_be_written_was_not_delivered() {
    let mut pipe = Pipe::new();
    pipe.asks(&call("1", ""));
    pipe.machine.not_written(pipe.calls[0], "closed");
    assert_eq!(pipe.lines(), [r#"1 x- Lost("closed")"#]);
    assert!(pipe.dies().is_empty());
}
