//! How long it takes to resume a stream (G5).

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::{Instant, sleep};

use super::cluster::Cluster;
use super::quantile_ms;
use crate::load::client::resuming::timed;
use crate::load::client::{Client, Identity};
use crate::message::Call;
use crate::run::measure::{Metrics, named};
use crate::run::target::{Target, Tools};

/// Clients leave streams, come back [`BEHIND`] events later, and wait for the last of these: at the node that holds
/// their session, and at another if there are several.
pub(super) async fn resume(tools: &Tools, target: Target) -> Result<Metrics> {
    let nodes = if target.has_store() { 2 } else { 1 };
    let mut cluster = Cluster::start(tools, target, nodes).await?;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = Client::open(cluster.address(0), false).await?;
        client.json(&Call::SMALL).await?;
        clients.push(client.leave());
    }
    let mut metrics = Metrics::new();
    for (node, place) in ["same", "other"].into_iter().enumerate().take(nodes) {
        let mut times = Vec::new();
        for _ in 0..TURNS {
            clients = turn(&cluster, node, clients, &mut times).await?;
        }
        for (name, share) in [("p50", 0.5), ("p95", 0.95)] {
            let time = quantile_ms(&mut times, share);
            metrics.insert(format!("{place}_{name}_ms"), time);
        }
        metrics.insert("samples".into(), times.len() as f64);
    }
    cluster.alive()?;
    let doubled = cluster.counts().await?.duplicates;
    metrics.extend(named([("doubled", doubled as f64)]));
    Ok(metrics)
}

/// Every client begins a stream at the first node; then one after the other resumes at `node`.
async fn turn(
    cluster: &Cluster<'_>,
    node: usize,
    clients: Vec<Identity>,
    times: &mut Vec<Duration>,
) -> Result<Vec<Identity>> {
    let before = cluster.counts().await?.events;
    let mut left = Vec::new();
    for identity in clients {
        let client = Client::visit(cluster.address(0), identity).await?;
        left.push(client.begin(&CALL).await?);
    }
    let end = Instant::now() + PATIENCE;
    while cluster.counts().await?.events < before + (1 + BEHIND) * CLIENTS as u64 {
        ensure!(Instant::now() < end, "the upstream says too little");
        sleep(Duration::from_millis(2)).await;
    }
    // What the upstream has written, the gateway has read by now.
    sleep(ARRIVAL).await;
    let mut resumed = Vec::new();
    for left in left {
        let resume = Client::resume(cluster.address(node), left, BEHIND);
        let (stream, time) = timed(resume).await?;
        times.push(time);
        resumed.push(stream);
    }
    let mut clients = Vec::new();
    for stream in resumed {
        clients.push(stream.end(&CALL).await?);
    }
    Ok(clients)
}

const CLIENTS: usize = 8;
const TURNS: usize = 8;
const BEHIND: u64 = 100;
/// One event at once, [`BEHIND`] of 200 bytes 0.4 s later, and the last one as much later.
const CALL: Call = Call {
    bytes: 200,
    events: BEHIND + 2,
    rate: 250.0,
    batch: BEHIND,
    early: true,
    ..Call::SMALL
};
const ARRIVAL: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(10);
