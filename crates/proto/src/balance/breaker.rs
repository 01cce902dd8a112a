//! A circuit breaker: who fails time and again is not asked for a while, then by a few, then by all.

use std::time::{Duration, Instant};

/// When a breaker opens and closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerConfig {
    /// Failures in a row that open it. Default: 3.
    pub failures: u32,
    /// How long it stays open. Each time that it opens again without having closed in between, twice as long.
    /// Default: 60 s.
    pub open: Duration,
    /// The longest time that it stays open. Default: 10 min.
    pub max_open: Duration,
    /// Requests that may run at one time while it is half-open. Default: 2.
    pub probes: u32,
    /// Of those, successes in a row that close it. Default: 2.
    pub successes: u32,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            failures: 3,
            open: Duration::from_secs(60),
            max_open: Duration::from_secs(600),
            probes: 2,
            successes: 2,
        }
    }
}

/// How a request ended, as far as that says something about who was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered.
    Success,
    /// It was not, or not by the server.
    Failure,
    /// It says nothing: nobody waited for the answer, or the fault was here.
    Unknown,
}

/// What an outcome has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nobody is asked for so long.
    Opened(Duration),
    /// All are asked again.
    Closed,
}

/// The breaker of one replica, or of whatever else is asked and may not answer.
#[derive(Debug)]
pub struct Breaker {
    config: BreakerConfig,
    state: State,
    /// Counts states: what began in an earlier one says nothing about this one.
    round: u64,
    /// How often it has opened since it was closed last.
    opened: u32,
}

#[derive(Debug)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant },
    HalfOpen { in_flight: u32, successes: u32 },
}

impl Breaker {
    /// A closed one.
    #[must_use]
    pub fn new(config: BreakerConfig) -> Self {
        Self {
            config,
            state: State::Closed { failures: 0 },
            round: 0,
            opened: 0,
        }
    }

    /// Whether a request may begin.
    #[must_use]
    pub fn admits(&self, now: Instant) -> bool {
        match self.state {
            State::Closed { .. } => true,
            State::Open { until } => now >= until,
            State::HalfOpen { in_flight, .. } => in_flight < self.config.probes.max(1),
        }
    }

    /// Whether all requests may begin.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed { .. })
    }

    /// How long it is still open; `None`: it is not.
    #[must_use]
    pub fn open_for(&self, now: Instant) -> Option<Duration> {
        match self.state {
            State::Open { until } => {
                Some(until.saturating_duration_since(now)).filter(|it| !it.is_zero())
            }
            _ => None,
        }
    }

    /// A request begins, which [`admits`](Self::admits) was asked about. What this returns is given back when it
    /// has [ended](Self::end).
    #[must_use]
    pub fn begin(&mut self, now: Instant) -> u64 {
        if matches!(self.state, State::Open { until } if now >= until) {
            self.half_open();
        }
        if let State::HalfOpen { in_flight, .. } = &mut self.state {
            *in_flight += 1;
        }
        self.round
    }

    /// Begins a request, if one may begin: [`admits`](Self::admits) and [`begin`](Self::begin) in one.
    #[must_use]
    pub fn admit(&mut self, now: Instant) -> Option<u64> {
        self.admits(now).then(|| self.begin(now))
    }

    /// A request has ended that began in this round.
    pub fn end(&mut self, round: u64, outcome: Outcome, now: Instant) -> Option<Change> {
        if round != self.round {
            return None;
        }
        match (&mut self.state, outcome) {
            (State::Closed { failures }, Outcome::Success) => *failures = 0,
            (State::Closed { failures }, Outcome::Failure) => {
                *failures += 1;
                if *failures >= self.config.failures.max(1) {
                    return Some(self.open(now));
                }
            }
            (
                State::HalfOpen {
                    in_flight,
                    successes,
                },
                outcome,
            ) => {
                *in_flight = in_flight.saturating_sub(1);
                match outcome {
                    Outcome::Success => *successes += 1,
                    Outcome::Failure => return Some(self.open(now)),
                    Outcome::Unknown => {}
                }
                if *successes >= self.config.successes.max(1) {
                    self.enter(State::Closed { failures: 0 });
                    self.opened = 0;
                    return Some(Change::Closed);
                }
            }
            (State::Closed { .. }, Outcome::Unknown) | (State::Open { .. }, _) => {}
        }
        None
    }

    /// There is reason to believe that it would be answered: an open one lets requests try at once.
    pub fn try_again(&mut self) {
        if matches!(self.state, State::Open { .. }) {
            self.half_open();
        }
    }

    fn half_open(&mut self) {
        self.enter(State::HalfOpen {
            in_flight: 0,
            successes: 0,
        });
    }

    fn open(&mut self, now: Instant) -> Change {
        let factor = 1_u32.checked_shl(self.opened).unwrap_or(u32::MAX);
        let longest = self.config.max_open.max(self.config.open);
        let time = self.config.open.saturating_mul(factor).min(longest);
        self.opened = self.opened.saturating_add(1);
        self.enter(State::Open { until: now + time });
        Change::Opened(time)
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.round += 1;
    }
}
