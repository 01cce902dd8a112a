//! Load as users bring it, and what is left of it (J9).

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, sleep, sleep_until};

use super::cluster::Cluster;
use crate::load::crowd::{Crowd, Outcome, Stay};
use crate::machine::{self, Memory};
use crate::message::Call;
use crate::run::measure::{Metrics, SETTLE, named};
use crate::run::target::{Target, Tools};

/// How clients come and stay.
#[derive(Clone, Copy)]
pub(crate) enum Scenario {
    /// From 10 clients to 1,000, which call without a pause, and all leave at the end.
    Ramp { lasts: Duration },
    /// 1,000 clients at once, three times, each with ten calls.
    Burst,
    /// 500 clients that call once a second.
    Hold { lasts: Duration },
    /// 100 new clients a second, with a call each.
    Churn { lasts: Duration },
    /// 100 streams of ten events a second each.
    Streams { lasts: Duration },
}

impl Scenario {
    async fn play(self, address: SocketAddr) -> Outcome {
        let mut crowd = Crowd::new(address);
        let start = Instant::now();
        match self {
            Self::Ramp { lasts } => {
                let end = start + lasts;
                let stay = Stay::Until {
                    end,
                    every: Duration::ZERO,
                };
                let mut here = 0;
                for (step, clients) in RAMP.into_iter().enumerate() {
                    sleep_until(start + lasts * step as u32 / RAMP.len() as u32).await;
                    (here..clients).for_each(|_| crowd.add(stay));
                    here = clients;
                }
            }
            Self::Burst => {
                for burst in 0..3 {
                    sleep_until(start + Duration::from_secs(burst)).await;
                    (0..1_000).for_each(|_| crowd.add(Stay::Calls(10)));
                }
            }
            Self::Hold { lasts } => {
                let (end, every) = (start + lasts, Duration::from_secs(1));
                for client in 0..500 {
                    // Spread over the second, as people are.
                    sleep_until(start + every * client / 500).await;
                    crowd.add(Stay::Until { end, every });
                }
            }
            Self::Churn { lasts } => {
                let pause = Duration::from_millis(10);
                for client in 0..(lasts.as_millis() / pause.as_millis()) as u32 {
                    sleep_until(start + pause * client).await;
                    crowd.add(Stay::Calls(1));
                }
            }
            Self::Streams { lasts } => {
                let call = Call {
                    events: lasts.as_secs() * 10,
                    rate: 10.0,
                    batch: 1,
                    ..Call::SMALL
                };
                (0..100).for_each(|_| crowd.add(Stay::Stream(call)));
            }
        }
        crowd.outcome().await
    }

    /// A short one of the same kind, after which a process has allocated what it keeps.
    fn rehearsal(self) -> Self {
        let lasts = Duration::from_secs(2);
        match self {
            Self::Ramp { .. } => Self::Ramp { lasts },
            Self::Burst => Self::Burst,
            Self::Hold { .. } => Self::Hold { lasts },
            Self::Churn { .. } => Self::Churn { lasts },
            Self::Streams { .. } => Self::Streams { lasts },
        }
    }
}

/// What a gateway and its upstream hold.
struct Held {
    memory: Memory,
    descriptors: usize,
    sessions: u64,
    streams: u64,
}

impl Held {
    async fn of(cluster: &Cluster<'_>) -> Result<Self> {
        let counts = cluster.counts().await?;
        let gateway = cluster.nodes[0].pid();
        Ok(Self {
            memory: machine::memory(gateway)?,
            descriptors: machine::descriptors(gateway),
            sessions: counts.sessions,
            streams: counts.open_streams,
        })
    }

    /// What is held once it is no more than before, or after [`PATIENCE`].
    async fn again(&self, cluster: &Cluster<'_>) -> Result<Self> {
        let end = Instant::now() + PATIENCE;
        loop {
            sleep(SETTLE).await;
            let now = Self::of(cluster).await?;
            let is_back = now.descriptors <= self.descriptors
                && now.sessions <= self.sessions
                && now.streams <= self.streams;
            if is_back || Instant::now() > end {
                return Ok(now);
            }
        }
    }
}

pub(super) async fn play(tools: &Tools, target: Target, scenario: Scenario) -> Result<Metrics> {
    let mut cluster = Cluster::start(tools, target, 1).await?;
    let address = cluster.address(0);
    let idle = Held::of(&cluster).await?;
    let rehearsed = scenario.rehearsal().play(address).await;
    let before = idle.again(&cluster).await?;
    let calls = cluster.counts().await?.calls;
    let outcome = scenario.play(address).await;
    let busy = machine::memory(cluster.nodes[0].pid())?;
    let after = before.again(&cluster).await?;
    cluster.alive()?;
    let counts = cluster.counts().await?;
    if let Some(reason) = rehearsed.reason.or(outcome.reason) {
        eprintln!("a client had an error: {reason:#}");
    }
    let more = |before: u64, after: u64| after as f64 - before as f64;
    let micros = |share| {
        outcome
            .latencies
            .quantile(share)
            .map_or(f64::NAN, |nanos| nanos as f64 / 1e3)
    };
    Ok(named([
        ("errors", (rehearsed.errors + outcome.errors) as f64),
        ("doubled", counts.duplicates as f64),
        ("calls", more(calls, counts.calls)),
        ("latency_p50_us", micros(0.5)),
        ("latency_p99_us", micros(0.99)),
        ("rss_mib", busy.resident as f64 / 1024.0),
        (
            "growth_kib",
            more(before.memory.resident, after.memory.resident),
        ),
        (
            "descriptors_left",
            more(before.descriptors as u64, after.descriptors as u64),
        ),
        ("sessions_left", more(before.sessions, after.sessions)),
        ("streams_left", more(before.streams, after.streams)),
    ]))
}

/// Clients at each step of a ramp.
const RAMP: [u32; 5] = [10, 30, 100, 300, 1_000];
/// The gateway keeps connections to its server for a while.
const PATIENCE: Duration = Duration::from_secs(20);
