//! One breaker.

use std::time::{Duration, Instant};

use thinpipe_proto::balance::{Breaker, BreakerConfig, Change, Outcome};

use crate::start;

const OPEN: Duration = Duration::from_secs(60);

fn breaker() -> (Breaker, Instant) {
    (Breaker::new(BreakerConfig::default()), start())
}

fn run(breaker: &mut Breaker, outcome: Outcome, now: Instant) -> Option<Change> {
    assert!(breaker.admits(now));
    let round = breaker.begin(now);
    breaker.end(round, outcome, now)
}

fn opened(now: Instant) -> Breaker {
    let mut breaker = Breaker::new(BreakerConfig::default());
    for _ in 0..2 {
        assert_eq!(run(&mut breaker, Outcome::Failure, now), None);
    }
    let change = run(&mut breaker, Outcome::Failure, now);
    assert_eq!(change, Some(Change::Opened(OPEN)));
    breaker
}

/// C20: three failures in a row open it; a success in between begins the count anew, and what says nothing does
/// neither.
#[test]
fn c20_three_failures_in_a_row_open_it() {
    let (mut breaker, now) = breaker();
    for outcome in [
        Outcome::Failure,
        Outcome::Failure,
        Outcome::Success,
        Outcome::Failure,
        Outcome::Unknown,
        Outcome::Failure,
    ] {
        assert_eq!(run(&mut breaker, outcome, now), None);
    }
    let change = run(&mut breaker, Outcome::Failure, now);
    assert_eq!(change, Some(Change::Opened(OPEN)));
    assert!(!breaker.admits(now + OPEN - Duration::from_millis(1)));
    assert_eq!(breaker.open_for(now), Some(OPEN));
    assert!(breaker.admits(now + OPEN));
    assert_eq!(breaker.open_for(now + OPEN), None);
}

/// C20, trap 25: half-open lets so many try at one time, and counts them.
#[test]
fn c20_half_open_is_bounded() {
    let now = start();
    let mut breaker = opened(now);
    let later = now + OPEN;
    let first = breaker.begin(later);
    assert!(breaker.admits(later));
    let second = breaker.begin(later);
    assert!(!breaker.admits(later) && !breaker.admits(later + OPEN));
    assert_eq!(breaker.end(first, Outcome::Unknown, later), None);
    assert!(
        breaker.admits(later),
        "who says nothing gives its place back"
    );
    assert_eq!(breaker.end(second, Outcome::Success, later), None);
    assert_eq!(
        run(&mut breaker, Outcome::Success, later),
        Some(Change::Closed)
    );
    assert!(breaker.is_closed());
}

/// Trap 25: one failure in half-open opens it at once, for twice as long, and what succeeded before counts no
/// more.
#[test]
fn c20_one_failure_in_half_open_opens_it_at_once() {
    let mut now = start();
    let mut breaker = opened(now);
    for times in [2, 4, 8, 10, 10] {
        now += breaker.open_for(now).unwrap();
        assert_eq!(run(&mut breaker, Outcome::Success, now), None);
        let late = breaker.begin(now);
        let change = run(&mut breaker, Outcome::Failure, now);
        assert_eq!(change, Some(Change::Opened(OPEN * times)));
        assert!(!breaker.admits(now));
        // Of the round that is over, nothing counts.
        assert_eq!(breaker.end(late, Outcome::Success, now), None);
    }
    now += breaker.open_for(now).unwrap();
    assert_eq!(run(&mut breaker, Outcome::Success, now), None, "one of two");
    assert_eq!(
        run(&mut breaker, Outcome::Success, now),
        Some(Change::Closed)
    );
    // Closed, it knows nothing of what was before.
    for _ in 0..2 {
        assert_eq!(run(&mut breaker, Outcome::Failure, now), None);
    }
    let change = run(&mut breaker, Outcome::Failure, now);
    assert_eq!(change, Some(Change::Opened(OPEN)));
}

/// Requests that were running when it opened say nothing about the server that came back.
#[test]
fn c20_what_began_before_counts_no_more() {
    let (mut breaker, now) = breaker();
    let slow: Vec<_> = (0..5).map(|_| breaker.begin(now)).collect();
    for _ in 0..3 {
        let _ = run(&mut breaker, Outcome::Failure, now);
    }
    breaker.try_again();
    for round in slow {
        assert_eq!(breaker.end(round, Outcome::Failure, now), None);
    }
    assert_eq!(run(&mut breaker, Outcome::Success, now), None);
    assert_eq!(
        run(&mut breaker, Outcome::Success, now),
        Some(Change::Closed)
    );
}
