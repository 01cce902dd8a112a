//! Several gateways with a store, what sessions cost, and what is left after load.

mod cluster;
mod half_open;
mod kill;
mod latency;
mod memory;
mod resume;
mod rolling;
mod scenario;
mod soak;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::time::sleep;

use super::measure::Metrics;
use super::target::{Process, Target, Tools};
use crate::load::client::Client;

pub(crate) use scenario::Scenario;

/// What is measured with processes of its own.
#[derive(Clone, Copy)]
pub(crate) enum Nodes {
    /// Streams are resumed on another node, and on the same.
    Resume,
    /// The node that owns sessions is killed, this often.
    Kills {
        kills: usize,
    },
    /// This many sessions, without a connection.
    Sessions {
        sessions: usize,
    },
    /// Events that are kept.
    Logged,
    /// All of three nodes are restarted in turn while clients call in this many sessions.
    Rolling {
        sessions: usize,
    },
    /// The store is asked by itself.
    Latency {
        sessions: u32,
    },
    /// Clients whose cable is cut.
    HalfOpen {
        clients: usize,
    },
    Scenario(Scenario),
    /// Mixed load for this long.
    Soak {
        lasts: Duration,
    },
}

impl Nodes {
    pub(crate) async fn measure(self, tools: &Tools, target: Target) -> Result<Metrics> {
        match self {
            Self::Resume => resume::resume(tools, target).await,
            Self::Kills { kills } => kill::kills(tools, target, kills).await,
            Self::Sessions { sessions } => memory::sessions(tools, target, sessions).await,
            Self::Logged => memory::logged(tools, target).await,
            Self::Rolling { sessions } => rolling::rolling(tools, target, sessions).await,
            Self::Latency { sessions } => latency::latency(tools, sessions).await,
            Self::HalfOpen { clients } => half_open::half_open(tools, target, clients).await,
            Self::Scenario(scenario) => scenario::play(tools, target, scenario).await,
            Self::Soak { lasts } => soak::soak(tools, target, lasts).await,
        }
    }
}

/// Waits until sessions can be opened: a gateway with a store listens before it has reached that.
pub(super) async fn answers(gateway: &mut Process) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let Err(error) = Client::open(gateway.address, false).await else {
            return Ok(());
        };
        gateway.alive()?;
        if Instant::now() > end {
            return Err(error).context("the gateway takes no sessions");
        }
        sleep(Duration::from_millis(5)).await;
    }
}

/// The part of `times` below which this share of them lies, in milliseconds.
fn quantile_ms(times: &mut [Duration], share: f64) -> f64 {
    times.sort_unstable();
    let last = times.len().saturating_sub(1);
    let at = (share * last as f64).round() as usize;
    times
        .get(at)
        .map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}

const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_sorted_times() {
        let mut times: Vec<_> = [3, 1, 2].into_iter().map(Duration::from_millis).collect();
        assert_eq!(quantile_ms(&mut times, 0.5), 2.0);
        assert_eq!(quantile_ms(&mut times, 1.0), 3.0);
        assert!(quantile_ms(&mut [], 0.5).is_nan());
    }
}
