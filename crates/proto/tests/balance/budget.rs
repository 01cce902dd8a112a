//! How much may be repeated.

use std::time::{Duration, Instant};

use thinpipe_proto::balance::{RetryBudget, RetryConfig};

use crate::start;

fn granted(budget: &mut RetryBudget, asked: usize, now: Instant) -> usize {
    (0..asked).filter(|_| budget.take(now)).count()
}

/// Failover: a fifth of the requests of the last 10 s, and one a second in any case.
#[test]
fn g9_so_many_are_repeated_and_no_more() {
    let now = start();
    let mut budget = RetryBudget::new(RetryConfig::default(), now);
    assert_eq!(granted(&mut budget, 50, now), 10, "one a second");
    for _ in 0..1000 {
        budget.note(now);
    }
    let later = now + Duration::from_secs(5);
    assert_eq!(
        granted(&mut budget, 1000, later),
        200,
        "and a fifth of 1000"
    );
    // What is older than the window counts no more, on either side.
    let later = now + RetryBudget::WINDOW;
    assert_eq!(granted(&mut budget, 1000, later), 0, "200 of 10 were used");
    let later = later + Duration::from_secs(5);
    assert_eq!(granted(&mut budget, 1000, later), 10);
}

#[test]
fn g9_nothing_may_be_repeated_if_that_is_configured() {
    let now = start();
    let config = RetryConfig {
        percent: 0,
        min_per_second: 0,
    };
    let mut budget = RetryBudget::new(config, now);
    budget.note(now);
    assert_eq!(granted(&mut budget, 10, now), 0);
    // A clock that seems to stand still or go back does no harm.
    budget.note(now + Duration::from_secs(9));
    budget.note(now);
    assert_eq!(granted(&mut budget, 10, now), 0);
}
