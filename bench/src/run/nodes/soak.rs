//! Mixed load for long, and whether the gateway grows (J10).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::cluster::Cluster;
use crate::histogram::Histogram;
use crate::load::client::Client;
use crate::machine;
use crate::message::Call;
use crate::run::measure::{Metrics, named};
use crate::run::target::{Target, Tools};

/// Of 100 turns of a client: 60 calls, 20 lists, 10 streamed calls, 5 new sessions, and 5 streams that the client
/// leaves before their end.
pub(super) async fn soak(tools: &Tools, target: Target, lasts: Duration) -> Result<Metrics> {
    let mut cluster = Cluster::start(tools, target, 1).await?;
    let (address, gateway) = (cluster.address(0), cluster.nodes[0].pid());
    let turns = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let end = start + lasts;
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(client(address, number, end, Arc::clone(&turns)));
    }
    let (mut resident, mut descriptors) = (Line::default(), Line::default());
    for sample in 1..=SAMPLES {
        sleep_until(start + lasts * sample / (SAMPLES + 1)).await;
        cluster.alive()?;
        // Until then, what is allocated once is allocated.
        if sample > SAMPLES / 3 {
            let minutes = start.elapsed().as_secs_f64() / 60.0;
            resident.add(minutes, machine::memory(gateway)?.resident as f64);
            descriptors.add(minutes, machine::descriptors(gateway) as f64);
        }
    }
    while let Some(done) = clients.join_next().await {
        done??;
    }
    let memory = machine::memory(gateway)?;
    let doubled = cluster.counts().await?.duplicates;
    Ok(named([
        ("rss_kib_per_minute", resident.slope()),
        ("descriptors_per_minute", descriptors.slope()),
        ("rss_mib", memory.resident as f64 / 1024.0),
        ("turns", turns.load(Relaxed) as f64),
        ("minutes", lasts.as_secs_f64() / 60.0),
        ("doubled", doubled as f64),
    ]))
}

async fn client(
    address: SocketAddr,
    number: usize,
    end: Instant,
    turns: Arc<AtomicU64>,
) -> Result<()> {
    let mut client = Client::open(address, false).await?;
    let mut due = Instant::now();
    let mut unused = Histogram::default();
    // Clients are at different places of the mix.
    for turn in number * MIX / CLIENTS.. {
        if due >= end {
            break;
        }
        sleep_until(due).await;
        due = Instant::now().max(due + PAUSE);
        match turn % MIX {
            0..12 => client.json(&Call::SMALL).await?,
            12..16 => client.list().await?,
            16..18 => client.stream(&STREAM, |_| false, &mut unused).await?,
            18 => {
                client.end().await?;
                client = Client::open(address, false).await?;
            }
            _ => client = client.leave_within(&LEFT).await?,
        }
        turns.fetch_add(1, Relaxed);
    }
    client.end().await
}

/// Points to lay a straight line through.
#[derive(Default)]
struct Line(Vec<(f64, f64)>);

impl Line {
    fn add(&mut self, x: f64, y: f64) {
        self.0.push((x, y));
    }

    /// By least squares.
    fn slope(&self) -> f64 {
        let count = self.0.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| self.0.iter().map(of).sum::<f64>() / count;
        let (x, y) = (mean(|point| point.0), mean(|point| point.1));
        let above: f64 = self
            .0
            .iter()
            .map(|point| (point.0 - x) * (point.1 - y))
            .sum();
        let below: f64 = self.0.iter().map(|point| (point.0 - x).powi(2)).sum();
        above / below
    }
}

/// Twentieths: 60, 20, 10, 5 and 5 of 100.
const MIX: usize = 20;
const CLIENTS: usize = 40;
/// From one turn of a client to the next.
const PAUSE: Duration = Duration::from_millis(50);
const STREAM: Call = Call {
    events: 20,
    batch: 1,
    ..Call::SMALL
};
/// Takes a second.
const LEFT: Call = Call {
    rate: 20.0,
    ..STREAM
};
const SAMPLES: u32 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    /// J10: growth is seen, and noise around a level is none.
    #[test]
    fn j10_a_slope_is_that_of_the_line() {
        let line = |points: &[(f64, f64)]| Line(points.to_vec()).slope();
        assert_eq!(line(&[(0.0, 5.0), (1.0, 7.0), (2.0, 9.0)]), 2.0);
        assert_eq!(line(&[(0.0, 5.0), (1.0, 6.0), (2.0, 5.0)]), 0.0);
    }
}
