//! Keeps calls from a server that does not answer, so that they fail at once: five failures in a row do it, then
//! one call a second finds out whether the server is back.

use std::time::Duration;

use thinpipe_proto::balance::{Breaker, BreakerConfig};

/// One that lets all calls through.
pub(super) fn closed() -> Breaker {
    Breaker::new(CONFIG)
}

const CONFIG: BreakerConfig = BreakerConfig {
    failures: 5,
    open: PROBE_AFTER,
    max_open: PROBE_AFTER,
    probes: 3,
    successes: 3,
};

/// How soon it is seen that the server is back.
const PROBE_AFTER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use thinpipe_proto::balance::Outcome;

    use super::*;

    fn call(breaker: &mut Breaker, outcome: Outcome, now: Instant) -> bool {
        let Some(round) = breaker.admit(now) else {
            return false;
        };
        let _ = breaker.end(round, outcome, now);
        true
    }

    fn opened(now: Instant) -> Breaker {
        let mut breaker = closed();
        for _ in 0..CONFIG.failures {
            assert!(call(&mut breaker, Outcome::Failure, now));
        }
        breaker
    }

    /// F17: failures one after another open it, and a success between them starts the count again.
    #[test]
    fn f17_it_opens_after_five_failures_in_a_row() {
        let now = Instant::now();
        let mut breaker = closed();
        for outcome in [Outcome::Failure; 4] {
            assert!(call(&mut breaker, outcome, now));
        }
        assert!(call(&mut breaker, Outcome::Success, now));
        for outcome in [Outcome::Failure; 5] {
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
        let probes: Vec<_> = (0..CONFIG.probes)
            .filter_map(|_| breaker.admit(now))
            .collect();
        assert_eq!(probes.len(), 3);
        assert_eq!(breaker.admit(now), None, "there are enough of them");
        let _ = breaker.end(probes[0], Outcome::Success, now);
        let _ = breaker.end(probes[1], Outcome::Failure, now);
        assert_eq!(breaker.admit(now), None, "it is open");
        let _ = breaker.end(probes[2], Outcome::Success, now);
        let now = now + PROBE_AFTER;
        for _ in 0..2 {
            assert!(call(&mut breaker, Outcome::Success, now));
        }
        assert!(!breaker.is_closed(), "two are not three");
        assert_eq!(breaker.open_for(now), None, "nor is it open");
        assert!(call(&mut breaker, Outcome::Success, now));
        assert!(breaker.is_closed());
        for outcome in [Outcome::Failure; 4] {
            assert!(call(&mut breaker, outcome, now));
        }
        assert!(breaker.is_closed(), "failures are counted anew");
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
        assert!(!breaker.is_closed(), "nothing was said");
        let probes = (0..=CONFIG.probes).filter_map(|_| breaker.admit(now));
        assert_eq!(probes.count(), 3, "all places are free");
    }
}
