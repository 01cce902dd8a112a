//! One replica: whether it may be asked, and how large its share is.

use std::time::{Duration, Instant};

use super::breaker::{Breaker, BreakerConfig, Change, Outcome};

/// Parts of a share, so that a growing one grows smoothly.
const FULL: u64 = 1000;

/// The smallest part: whoever gets nothing never shows that it works.
const LEAST: u64 = FULL / 10;

/// What a replica gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Its share.
    Serving,
    /// It has come back, and its share grows: so many percent of it now.
    Recovering(u8),
    /// Its breaker is half-open: a few requests at a time.
    Trial,
    /// Its breaker is open: nothing for so long.
    Open(Duration),
    /// It does not answer its health checks: nothing.
    Down,
}

impl Condition {
    /// A name for labels and logs: `serving`, `recovering`, `trial`, `open`, `down`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Recovering(_) => "recovering",
            Self::Trial => "trial",
            Self::Open(_) => "open",
            Self::Down => "down",
        }
    }
}

#[derive(Debug)]
pub(super) struct Replica {
    weight: u32,
    answers: bool,
    breaker: Option<Breaker>,
    /// When it came back; `None`: it never was away.
    back: Option<Instant>,
    /// What smooth round robin owes it.
    pub(super) credit: i64,
}

impl Replica {
    pub(super) fn new(weight: u32, breaker: Option<BreakerConfig>) -> Self {
        Self {
            weight,
            answers: true,
            breaker: breaker.map(Breaker::new),
            back: None,
            credit: 0,
        }
    }

    pub(super) fn admits(&self, now: Instant) -> bool {
        self.answers && self.breaker.as_ref().is_none_or(|it| it.admits(now))
    }

    pub(super) fn begin(&mut self, now: Instant) -> u64 {
        self.breaker.as_mut().map_or(0, |it| it.begin(now))
    }

    pub(super) fn end(&mut self, round: u64, outcome: Outcome, now: Instant) -> Option<Change> {
        let change = self.breaker.as_mut()?.end(round, outcome, now);
        if change == Some(Change::Closed) {
            self.back = Some(now);
        }
        change
    }

    pub(super) fn checked(&mut self, answers: bool, now: Instant) {
        if answers && !self.answers {
            self.back = Some(now);
            // What opened the breaker was the outage that has ended.
            if let Some(breaker) = &mut self.breaker {
                breaker.try_again();
            }
        }
        self.answers = answers;
    }

    /// Its share beside those of others, never nothing.
    pub(super) fn weight(&self, now: Instant, slow_start: Duration) -> u64 {
        u64::from(self.weight) * self.part(now, slow_start)
    }

    /// How much of its share it gets, of [`FULL`].
    fn part(&self, now: Instant, slow_start: Duration) -> u64 {
        if self.breaker.as_ref().is_some_and(|it| !it.is_closed()) {
            return LEAST;
        }
        let Some(back) = self.back else {
            return FULL;
        };
        let since = now.saturating_duration_since(back);
        if since >= slow_start {
            return FULL;
        }
        let part = since.as_millis() * u128::from(FULL) / slow_start.as_millis().max(1);
        u64::try_from(part).unwrap_or(FULL).clamp(LEAST, FULL)
    }

    pub(super) fn opens_in(&self, now: Instant) -> Option<Duration> {
        self.breaker
            .as_ref()?
            .open_for(now)
            .filter(|_| self.answers)
    }

    pub(super) fn condition(&self, now: Instant, slow_start: Duration) -> Condition {
        if !self.answers {
            return Condition::Down;
        }
        if let Some(breaker) = self.breaker.as_ref().filter(|it| !it.is_closed()) {
            return breaker
                .open_for(now)
                .map_or(Condition::Trial, Condition::Open);
        }
        match self.part(now, slow_start) {
            FULL => Condition::Serving,
            part => Condition::Recovering(u8::try_from(part * 100 / FULL).unwrap_or(100)),
        }
    }
}
