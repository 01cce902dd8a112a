//! Deadlines (protocol notes 5.1, "Deadlines").

use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const UNANSWERED: &str = "the upstream did not answer in time; the call may have run";

/// The lines of request 5, which is 1 upstream, when its time is over.
fn timed_out() -> [String; 2] {
    timed_out_as("1")
}

/// The same if it is another one upstream.
fn timed_out_as(id: &str) -> [String; 2] {
    [
        format!("up: {}", cancelled(id, "it took too long")),
        format!("1/5!: {}", own_error("5", UNANSWERED, "upstream_timeout")),
    ]
}

/// R250
#[test]
fn r250_a_request_without_progress_ends_when_it_was_idle() {
    let mut pipe = Pipe::per_client();
    pipe.says(1, &request("5", "m"));
    assert!(pipe.at(MINUTE - SECOND).is_empty());
    assert_eq!(pipe.at(MINUTE), timed_out());
    assert!(pipe.hears(&result("1", "{}")).is_empty());
    assert_eq!(pipe.machine.poll_timeout(), None);
}

/// R250: progress keeps it going, to the cap; dropped progress shows life as well.
#[test]
fn r250_progress_resets_the_idle_timer_and_not_the_cap() {
    let mut pipe = Pipe::per_client();
    pipe.says(1, &tracked("5", "5"));
    for n in 1..20 {
        let lines = pipe.at(n * MINUTE / 2);
        assert!(lines.is_empty(), "{lines:?}");
        pipe.hears(&progress("1", "1"));
    }
    assert_eq!(pipe.at(10 * MINUTE), timed_out());
}

/// R250: a request that an event stream answers may be silent for as long as a stream may, and whatever comes on it
/// shows life; the cap holds.
#[test]
fn r250_a_request_on_a_stream_ends_when_that_was_silent() {
    let limits = Limits::default();
    let mut pipe = Pipe::over(Channel::Streams, Sharing::PerClient, limits, 1);
    pipe.says(1, &request("5", "m"));
    pipe.alive("1");
    assert!(pipe.at(5 * MINUTE - SECOND).is_empty());
    pipe.hears_on("1", &notification("notifications/message", "{}"));
    assert!(pipe.at(10 * MINUTE - 2 * SECOND).is_empty());
    pipe.alive("1");
    assert_eq!(pipe.at(10 * MINUTE), timed_out());

    let limits = Limits::default();
    let mut pipe = Pipe::over(Channel::Streams, Sharing::PerClient, limits, 1);
    pipe.says(1, &request("5", "m"));
    pipe.alive("1");
    assert!(pipe.at(5 * MINUTE - SECOND).is_empty());
    assert_eq!(pipe.at(5 * MINUTE), timed_out());
    // Nothing is left that could be put off.
    pipe.alive("1");
    assert_eq!(pipe.at(5 * MINUTE + SECOND), [""; 0]);
}

/// Invariant 22: while a human is asked, nothing is idle; the absolute cap holds.
#[test]
fn a_question_stops_the_clocks_of_its_request() {
    let limits = Limits {
        answer: 60 * MINUTE,
        ..Limits::default()
    };
    let mut pipe = Pipe::new(Sharing::PerClient, limits, 1).declaring(EVERYTHING);
    pipe.says(1, &request("5", "m"));
    pipe.at(MINUTE / 2);
    pipe.hears(&request("\"q\"", "elicitation/create"));
    assert!(pipe.at(20 * MINUTE).is_empty());
    pipe.says(1, &result("\"q\"", "{}"));
    // Half a minute of its idle time was left.
    assert!(pipe.at(20 * MINUTE + MINUTE / 2 - SECOND).is_empty());
    pipe.hears(&request("\"r\"", "elicitation/create"));
    let lines = pipe.at(30 * MINUTE);
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert_eq!(lines[2..], timed_out_as("2"));
}

/// Invariant 22: a question that may be anybody's stops all clocks that ran when it came, a ping none.
#[test]
fn a_question_of_unknown_origin_stops_all_clocks() {
    let mut pipe = Pipe::per_client().declaring(EVERYTHING);
    pipe.says(1, &request("5", "m"));
    pipe.says(1, &request("6", "m"));
    pipe.hears(&request("\"q\"", "elicitation/create"));
    pipe.says(1, &request("7", "m"));
    let lines = pipe.at(9 * MINUTE);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[1].starts_with("1/7!"));
    pipe.hears(&result("2", "{}"));
    pipe.says(1, &result("\"q\"", "{}"));
    let lines = pipe.at(10 * MINUTE);
    assert!(lines[1].starts_with("1/6!"), "{lines:?}");

    let mut pipe = Pipe::per_client();
    pipe.says(1, &request("5", "m"));
    pipe.hears(&request("\"p\"", "ping"));
    assert_eq!(pipe.at(MINUTE), timed_out());
    // The ping is not for the sake of that request, and is answered still.
    assert_eq!(pipe.says(1, &result("\"p\"", "{}")).len(), 1);
}

/// Protocol notes 5.1: human steps have 10 minutes.
#[test]
fn a_question_that_nobody_answers_is_refused_and_withdrawn() {
    let mut pipe = Pipe::per_client().declaring(EVERYTHING);
    pipe.says(1, &request("5", "m"));
    pipe.hears(&request("\"q\"", "elicitation/create"));
    let why = "the client did not answer in time";
    assert_eq!(
        pipe.at(10 * MINUTE),
        [
            format!("up: {}", error("\"q\"", -32603, why)),
            format!("1/5: {}", cancelled("\"q\"", why)),
        ]
    );
    // Then the clock goes on with what was left: all of its minute.
    assert!(pipe.at(11 * MINUTE - SECOND).is_empty());
    assert_eq!(pipe.at(11 * MINUTE), timed_out_as("2"));
}

/// `initialize` is never cancelled: what did not answer it is closed.
#[test]
fn an_unanswered_initialize_ends_the_session() {
    let mut pipe = Pipe::per_client();
    pipe.says(1, &initialize("5", "{}"));
    pipe.says(1, &request("6", "ping"));
    let lines = pipe.at(MINUTE);
    assert_eq!(lines[0], timed_out()[1]);
    let text = "initialize was not answered in time; the call may have run";
    assert_eq!(
        lines[1],
        format!("1/6!: {}", own_error("6", text, "upstream_stream_lost"))
    );
    assert_eq!(lines[2..], ["close InitializeUnanswered"]);
}

/// A timer that fires too early does nothing, and none is left behind.
#[test]
fn timers_come_and_go_with_what_they_are_for() {
    let mut pipe = Pipe::per_client();
    assert_eq!(pipe.machine.poll_timeout(), None);
    pipe.says(1, &request("5", "m"));
    assert_eq!(pipe.machine.poll_timeout(), Some(pipe.start + MINUTE));
    pipe.machine.on_timeout(pipe.now);
    assert!(pipe.actions().is_empty());
    pipe.hears(&result("1", "{}"));
    assert_eq!(pipe.machine.poll_timeout(), None);
    pipe.at(MINUTE / 2);
    pipe.says(1, &request("5", "m"));
    assert_eq!(pipe.machine.poll_timeout(), Some(pipe.now + MINUTE));
}

/// Invariant 22: two questions hold a request, and both must be answered.
#[test]
fn a_clock_that_two_questions_hold_waits_for_both() {
    let mut pipe = Pipe::per_client().declaring(EVERYTHING);
    pipe.says(1, &tracked("5", "5"));
    pipe.at(10 * SECOND);
    pipe.hears(&request("\"q\"", "elicitation/create"));
    pipe.at(20 * SECOND);
    pipe.hears(&request("\"r\"", "elicitation/create"));
    pipe.at(100 * SECOND);
    pipe.says(1, &result("\"q\"", "{}"));
    assert!(pipe.at(200 * SECOND).is_empty());
    pipe.says(1, &result("\"r\"", "{}"));
    // It stood still for 190 s of these 200.
    assert!(pipe.at(249 * SECOND).is_empty());
    assert_eq!(pipe.at(250 * SECOND), timed_out_as("2"));
}

/// Progress while the clock stands still leaves a whole idle time.
#[test]
fn progress_counts_while_a_question_is_open() {
    let mut pipe = Pipe::per_client().declaring(EVERYTHING);
    pipe.says(1, &tracked("5", "5"));
    pipe.at(50 * SECOND);
    pipe.hears(&request("\"q\"", "elicitation/create"));
    pipe.at(55 * SECOND);
    pipe.hears(&progress("2", "1"));
    pipe.at(70 * SECOND);
    pipe.says(1, &result("\"q\"", "{}"));
    assert!(pipe.at(129 * SECOND).is_empty());
    assert_eq!(pipe.at(130 * SECOND), timed_out_as("2"));
}

/// A limit that no clock can show is a long one, and not a panic.
#[test]
fn a_limit_beyond_all_clocks_is_a_long_one() {
    let limits = Limits {
        idle: Duration::MAX,
        cap: Duration::MAX,
        absolute_cap: Duration::MAX,
        ..Limits::default()
    };
    let mut pipe = Pipe::new(Sharing::PerClient, limits, 1);
    pipe.says(1, &request("5", "m"));
    assert!(pipe.at(1_000_000 * MINUTE).is_empty());
    assert_eq!(pipe.hears(&result("1", "{}")).len(), 1);
}
