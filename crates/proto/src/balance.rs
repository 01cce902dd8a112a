//! Which of several replicas of one server a request goes to, and which of them get none for now.
//!
//! No clock and no chance here: the time and random numbers come in as arguments, and so does how busy each
//! replica is. Whoever sends requests tells how each of them ended ([`Group::end`]) and what its health checks
//! found ([`Group::checked`]).

use std::time::{Duration, Instant};

mod breaker;
mod budget;
mod replica;
mod strategy;

pub use breaker::{Breaker, BreakerConfig, Change, Outcome};
pub use budget::{RetryBudget, RetryConfig};
pub use replica::Condition;
pub use strategy::Strategy;

use replica::Replica;
use strategy::Candidate;

/// Replicas that one group may have.
pub const MAX_REPLICAS: usize = 64;

/// The largest weight of a replica.
pub const MAX_WEIGHT: u32 = 1000;

/// How a group behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// How one of those that may serve is chosen.
    pub strategy: Strategy,
    /// When a replica whose requests fail gets no more of them. `None`: never.
    pub breaker: Option<BreakerConfig>,
    /// How long a replica that has come back gets less than its share, growing evenly. Zero: it gets all of it
    /// at once. Default: 30 s.
    pub slow_start: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            breaker: Some(BreakerConfig::default()),
            slow_start: Duration::from_secs(30),
        }
    }
}

/// A request at a replica. [`Group::end`] wants it back, however the request ends.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Permit {
    replica: usize,
    round: u64,
}

impl Permit {
    /// The number of the replica.
    #[must_use]
    pub fn replica(&self) -> usize {
        self.replica
    }
}

/// Replicas that are out of the question for a request, since it was tried there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tried(u64);

impl Tried {
    /// Adds a replica.
    pub fn add(&mut self, replica: usize) {
        self.0 |= bit(replica);
    }

    fn contains(self, replica: usize) -> bool {
        self.0 & bit(replica) != 0
    }
}

/// The replicas of one server.
#[derive(Debug)]
pub struct Group {
    config: Config,
    replicas: Vec<Replica>,
}

impl Group {
    /// Replicas of these weights, all of which count as healthy. Of more than [`MAX_REPLICAS`] the last ones are
    /// left out; a weight is 1 to [`MAX_WEIGHT`].
    #[must_use]
    pub fn new(config: Config, weights: &[u32]) -> Self {
        let weights = weights.iter().take(MAX_REPLICAS);
        let replica = |weight: &u32| Replica::new((*weight).clamp(1, MAX_WEIGHT), config.breaker);
        Self {
            replicas: weights.map(replica).collect(),
            config,
        }
    }

    /// How many replicas there are.
    #[must_use]
    pub fn size(&self) -> usize {
        self.replicas.len()
    }

    /// Chooses a replica for a request that begins now. `load` tells how many requests and streams run at a
    /// replica. `None`: none of them may be asked.
    ///
    /// `random` is a number drawn from the whole range of `u64`.
    pub fn choose(
        &mut self,
        now: Instant,
        random: u64,
        tried: Tried,
        load: impl Fn(usize) -> usize,
    ) -> Option<Permit> {
        let slow_start = self.config.slow_start;
        let mut candidates = [Candidate::default(); MAX_REPLICAS];
        let mut count = 0;
        for (index, replica) in self.replicas.iter().enumerate() {
            if !tried.contains(index) && replica.admits(now) {
                candidates[count] = Candidate {
                    index,
                    weight: replica.weight(now, slow_start),
                    load: load(index),
                };
                count += 1;
            }
        }
        let chosen =
            self.config
                .strategy
                .choose(&candidates[..count], &mut self.replicas, random)?;
        Some(self.begin(chosen, now))
    }

    /// A request that only this replica can serve begins now. `None`: it may not be asked.
    pub fn enter(&mut self, replica: usize, now: Instant) -> Option<Permit> {
        let admits = self.replicas.get(replica)?.admits(now);
        admits.then(|| self.begin(replica, now))
    }

    fn begin(&mut self, replica: usize, now: Instant) -> Permit {
        Permit {
            replica,
            round: self.replicas[replica].begin(now),
        }
    }

    /// A request has ended; tells what of its replica has changed by that.
    pub fn end(&mut self, permit: Permit, outcome: Outcome, now: Instant) -> Option<Change> {
        let replica = self.replicas.get_mut(permit.replica)?;
        replica.end(permit.round, outcome, now)
    }

    /// The health checks have found that a replica answers, or that it does not.
    pub fn checked(&mut self, replica: usize, answers: bool, now: Instant) {
        if let Some(replica) = self.replicas.get_mut(replica) {
            replica.checked(answers, now);
        }
    }

    /// What a replica gets now.
    #[must_use]
    pub fn condition(&self, replica: usize, now: Instant) -> Condition {
        let replica = self.replicas.get(replica);
        replica.map_or(Condition::Down, |it| {
            it.condition(now, self.config.slow_start)
        })
    }

    /// When a request may find a replica again, if none may be asked now: how long until a breaker lets somebody
    /// try. Zero if that is not known.
    #[must_use]
    pub fn retry_after(&self, now: Instant) -> Duration {
        let waits = self.replicas.iter().filter_map(|it| it.opens_in(now));
        waits.min().unwrap_or_default()
    }
}

fn bit(replica: usize) -> u64 {
    u32::try_from(replica)
        .ok()
        .and_then(|it| 1_u64.checked_shl(it))
        .unwrap_or(0)
}
