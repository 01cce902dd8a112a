//! Keeps calls from a server that does not answer, so that they fail at once.

use std::time::Duration;

use tokio::time::Instant;

/// Counts what came of calls. Closed, it lets all of them through; open, one each second to see whether the
/// server is back; half-open, a few until enough of them have succeeded.
#[derive(Debug)]
pub(super) struct Breaker {
    state: State,
    /// Counts changes of the state: what came of a call that was let through before one says nothing.
    epoch: u64,
}

#[derive(Debug)]
enum State {
    Closed { failures: u32 },
    Open { probe_at: Instant },
    HalfOpen { probes: u32, successes: u32 },
}

/// Leave to call, to be given back with what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leave {
    epoch: u64,
}

/// What came of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The server answered.
    Answered,
    /// It did not, or not as it should.
    Failed,
    /// Nobody waited for it.
    Unknown,
}

impl Breaker {
    pub(super) fn new() -> Self {
        Self {
            state: State::Closed { failures: 0 },
            epoch: 0,
        }
    }

    /// Whether a call may be made now.
    pub(super) fn admit(&mut self, now: Instant) -> Option<Leave> {
        match &mut self.state {
            State::Closed { .. } => {}
            State::Open { probe_at } if *probe_at > now => return None,
            State::Open { .. } => self.turn(State::HalfOpen {
                probes: 1,
                successes: 0,
            }),
            State::HalfOpen { probes, .. } if *probes >= MAX_PROBES => return None,
            State::HalfOpen { probes, .. } => *probes += 1,
        }
        Some(Leave { epoch: self.epoch })
    }

    /// Takes what came of a call.
    pub(super) fn settle(&mut self, leave: Leave, outcome: Outcome, now: Instant) {
        if leave.epoch != self.epoch {
            return;
        }
        let next = match (&mut self.state, outcome) {
            (State::Closed { failures }, Outcome::Answered) => {
                *failures = 0;
                None
            }
            (State::Closed { failures }, Outcome::Failed) => {
                *failures += 1;
                (*failures >= FAILURES).then(|| State::open(now))
            }
            (State::HalfOpen { probes, successes }, Outcome::Answered) => {
                *probes -= 1;
                *successes += 1;
                (*successes >= SUCCESSES).then_some(State::Closed { failures: 0 })
            }
            (State::HalfOpen { .. }, Outcome::Failed) => Some(State::open(now)),
            (State::HalfOpen { probes, .. }, Outcome::Unknown) => {
                *probes -= 1;
                None
            }
            // Opening raises the epoch, so that nothing is settled that was let through before.
            (State::Closed { .. }, Outcome::Unknown) | (State::Open { .. }, _) => None,
        };
        if let Some(next) = next {
            self.turn(next);
        }
    }

    fn turn(&mut self, state: State) {
        self.state = state;
        self.epoch += 1;
    }
}

impl State {
    fn open(now: Instant) -> Self {
        Self::Open {
            probe_at: now + PROBE_AFTER,
        }
    }
}

/// One after another, that open it.
const FAILURES: u32 = 5;
/// That close it again.
const SUCCESSES: u32 = 3;
/// At the same time while it is half-open.
const MAX_PROBES: u32 = 3;
/// How soon it is seen that the server is back.
const PROBE_AFTER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn call(breaker: &mut Breaker, outcome: Outcome, now: Instant) -> bool {
        let Some(leave) = breaker.admit(now) else {
            return false;
        };
        breaker.settle(leave, outcome, now);
        true
    }

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::new();
        for _ in 0..FAILURES {
            assert!(call(&mut breaker, Outcome::Failed, now));
        }
        breaker
    }

    /// F17: failures one after another open it, and a success between them starts the count again.
    #[test]
    fn f17_it_opens_after_five_failures_in_a_row() {
        let now = Instant::now();
        let mut breaker = Breaker::new();
        for outcome in [Outcome::Failed; 4] {
            assert!(call(&mut breaker, outcome, now));
        }
        assert!(call(&mut breaker, Outcome::Answered, now));
        for outcome in [Outcome::Failed; 5] {
            assert!(call(&mut breaker, outcome, now));
        }
        assert_eq!(breaker.admit(now), None);
        assert_eq!(breaker.admit(now + PROBE_AFTER / 2), None);
    }

    /// F17, trap 25: probes are bounded, a failure of one opens it at once, and successes are counted anew.
    #[test]
    fn f17_half_open_it_lets_few_through_and_opens_at_one_failure() {
        let start = Instant::now();
        let mut breaker = opened(start);
        let now = start + PROBE_AFTER;
        let probes: Vec<_> = (0..MAX_PROBES).filter_map(|_| breaker.admit(now)).collect();
        assert_eq!(probes.len(), 3);
        assert_eq!(breaker.admit(now), None, "there are enough of them");
        breaker.settle(probes[0], Outcome::Answered, now);
        breaker.settle(probes[1], Outcome::Failed, now);
        assert_eq!(breaker.admit(now), None, "it is open");
        breaker.settle(probes[2], Outcome::Answered, now);
        let now = now + PROBE_AFTER;
        for _ in 0..2 {
            assert!(call(&mut breaker, Outcome::Answered, now));
        }
        assert!(
            matches!(breaker.state, State::HalfOpen { .. }),
            "two are not three"
        );
        assert!(call(&mut breaker, Outcome::Answered, now));
        assert!(matches!(breaker.state, State::Closed { failures: 0 }));
    }

    /// F17: a probe that nobody waits for gives its place back.
    #[test]
    fn f17_a_call_given_up_says_nothing() {
        let start = Instant::now();
        let mut breaker = opened(start);
        let now = start + PROBE_AFTER;
        for _ in 0..10 {
            assert!(call(&mut breaker, Outcome::Unknown, now));
        }
        assert!(matches!(
            breaker.state,
            State::HalfOpen {
                probes: 0,
                successes: 0
            }
        ));
    }
}
