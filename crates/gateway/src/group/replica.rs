//! One replica of a server.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use thinpipe_proto::balance::{Condition, Outcome};
use thinpipe_transport::upstream::{Upstream, UpstreamConfig, UpstreamStats};

use crate::config::{HealthConfig, ReplicaConfig};
use crate::health::Health;

/// One replica, with its own connections and its own health.
pub(crate) struct Replica {
    /// `None`: there are no others.
    pub(crate) name: Option<Arc<str>>,
    pub(crate) upstream: Upstream,
    pub(crate) health: Arc<Health>,
    requests: AtomicU64,
    failures: AtomicU64,
    repeated: AtomicU64,
}

/// What is known of a replica.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ReplicaStats {
    /// Its name; `None`: it is the only one, and has none.
    pub name: Option<Arc<str>>,
    /// Whether it answers its health checks.
    pub is_healthy: bool,
    /// What it gets of the requests; `None`: all of them, since there are no others.
    pub condition: Option<Condition>,
    /// Its connections.
    pub connections: UpstreamStats,
    /// Requests it was chosen for. Not counted where it is the only one.
    pub requests: u64,
    /// Those that it failed.
    pub failures: u64,
    /// Those that another one had failed.
    pub repeated: u64,
}

impl Replica {
    /// The only one.
    pub(super) fn alone(config: UpstreamConfig, health: HealthConfig) -> Self {
        Self {
            name: None,
            upstream: Upstream::new(config),
            health: Arc::new(Health::new(health)),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
        }
    }

    /// One of several, with what they have in common.
    pub(super) fn one_of(
        common: &UpstreamConfig,
        replica: &ReplicaConfig,
        health: HealthConfig,
    ) -> Self {
        let config = UpstreamConfig {
            name: format!("{}/{}", common.name, replica.name).into(),
            url: replica.url.clone(),
            ..common.clone()
        };
        Self {
            name: Some(Arc::clone(&replica.name)),
            ..Self::alone(config, health)
        }
    }

    /// A request is sent to it that another one has failed.
    pub(super) fn repeated(&self) {
        self.repeated.fetch_add(1, Ordering::Relaxed);
    }

    /// A request ended so.
    pub(super) fn note(&self, outcome: Outcome) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if outcome == Outcome::Failure {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn stats(&self, condition: Option<Condition>) -> ReplicaStats {
        ReplicaStats {
            name: self.name.clone(),
            is_healthy: self.health.is_healthy(),
            condition,
            connections: self.upstream.stats(),
            requests: self.requests.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            repeated: self.repeated.load(Ordering::Relaxed),
        }
    }
}

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica")
            .field("name", &self.name)
            .field("upstream", &self.upstream)
            .finish_non_exhaustive()
    }
}
