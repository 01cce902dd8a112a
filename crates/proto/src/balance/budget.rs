//! How many requests may be sent a second time: repeating everything doubles the load of who fails under it.

use std::time::{Duration, Instant};

/// Over so many seconds requests are counted.
const WINDOW: usize = 10;

/// How many requests may be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryConfig {
    /// Of a hundred requests of the last 10 s so many, 0 to 100. Default: 20.
    pub percent: u32,
    /// So many a second in any case. Default: 1.
    pub min_per_second: u32,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            percent: 20,
            min_per_second: 1,
        }
    }
}

/// Counts requests and their repetitions of the last 10 s.
#[derive(Debug)]
pub struct RetryBudget {
    config: RetryConfig,
    since: Instant,
    /// The second that is counted now.
    second: u64,
    requests: [u32; WINDOW],
    repeated: [u32; WINDOW],
}

impl RetryBudget {
    /// Nothing was asked so far.
    #[must_use]
    pub fn new(config: RetryConfig, now: Instant) -> Self {
        Self {
            config,
            since: now,
            second: 0,
            requests: [0; WINDOW],
            repeated: [0; WINDOW],
        }
    }

    /// A request was made, for the first time.
    pub fn note(&mut self, now: Instant) {
        let slot = self.slot(now);
        self.requests[slot] = self.requests[slot].saturating_add(1);
    }

    /// Whether one may be repeated; if so, it counts as repeated.
    pub fn take(&mut self, now: Instant) -> bool {
        let slot = self.slot(now);
        let sum = |counts: &[u32; WINDOW]| counts.iter().map(|it| u64::from(*it)).sum::<u64>();
        let always = u64::from(self.config.min_per_second) * WINDOW as u64;
        let part = sum(&self.requests) * u64::from(self.config.percent.min(100)) / 100;
        let is_allowed = sum(&self.repeated) < part + always;
        if is_allowed {
            self.repeated[slot] = self.repeated[slot].saturating_add(1);
        }
        is_allowed
    }

    /// The place of this second, without what was counted there before.
    fn slot(&mut self, now: Instant) -> usize {
        let second = now
            .saturating_duration_since(self.since)
            .as_secs()
            .max(self.second);
        let passed = usize::try_from(second - self.second).map_or(WINDOW, |it| it.min(WINDOW));
        for ago in 0..passed {
            let slot = place(second - ago as u64);
            self.requests[slot] = 0;
            self.repeated[slot] = 0;
        }
        self.second = second;
        place(second)
    }

    /// After this, nothing that is counted now counts any more.
    pub const WINDOW: Duration = Duration::from_secs(WINDOW as u64);
}

fn place(second: u64) -> usize {
    (second % WINDOW as u64) as usize
}
