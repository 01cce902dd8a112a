//! What a route has counted.

use super::Route;
use crate::pipe::Joined;
use crate::stats::{Counters, MethodStats, RouteStats};

impl Route {
    /// What it has counted.
    #[must_use]
    pub fn route_stats(&self) -> RouteStats {
        RouteStats {
            sessions_pooled: (self.downgrade.pooled() + self.joined_sessions()) as u64,
            calls_parked: self.downgrade.parked() as u64,
            ..self.counters.snapshot()
        }
    }

    fn joined_sessions(&self) -> usize {
        self.joined.as_ref().map_or(0, Joined::count)
    }

    /// How many exchanges of each method there were, and how long they took.
    #[must_use]
    pub fn method_stats(&self) -> Vec<MethodStats> {
        self.latencies.snapshot()
    }

    pub(crate) fn stats(&self) -> &Counters {
        &self.counters
    }
}
