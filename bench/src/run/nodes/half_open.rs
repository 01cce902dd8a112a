//! How long a client is taken to be there that is not (F12).

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::time::sleep;

use super::cluster::Cluster;
use super::quantile_ms;
use crate::load::client::Client;
use crate::run::measure::{Metrics, named};
use crate::run::target::{Target, Tools};

/// Clients that listen to a stream on which nothing happens are cut off: their kernel takes in nothing any more, and so
/// acknowledges nothing. They are found when the gateway ends their streams at the upstream.
pub(super) async fn half_open(tools: &Tools, target: Target, clients: usize) -> Result<Metrics> {
    let mut cluster = Cluster::start(tools, target, 1).await?;
    let mut listening = Vec::new();
    for _ in 0..clients {
        let mut client = Client::open(cluster.address(0), false).await?;
        client.listen().await?;
        listening.push(client);
    }
    let open = cluster.counts().await?.open_streams;
    ensure!(open == clients as u64, "{open} streams are open");
    let start = Instant::now();
    listening.iter().try_for_each(Client::cut)?;
    let mut found = Vec::new();
    while found.len() < clients && start.elapsed() < PATIENCE {
        sleep(Duration::from_millis(50)).await;
        let left = cluster.counts().await?.open_streams as usize;
        found.resize(clients.saturating_sub(left), start.elapsed());
    }
    cluster.alive()?;
    let unfound = clients - found.len();
    found.resize(clients, PATIENCE);
    Ok(named([
        ("found_p50_s", quantile_ms(&mut found, 0.5) / 1e3),
        ("found_last_s", quantile_ms(&mut found, 1.0) / 1e3),
        ("unfound", unfound as f64),
    ]))
}

/// After this they are not found.
const PATIENCE: Duration = Duration::from_secs(75);
