//! What idle sessions (F16, J5) and logged events (G5) take.

use anyhow::{Context, Result};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::cluster::Cluster;
use crate::histogram::Histogram;
use crate::load::client::Client;
use crate::load::held;
use crate::machine;
use crate::message::Call;
use crate::run::measure::{Metrics, SETTLE, named};
use crate::run::target::{Target, Tools};

/// Memory at one moment, KiB.
struct Held {
    gateway: f64,
    store: f64,
}

impl Held {
    async fn of(cluster: &Cluster<'_>) -> Result<Self> {
        sleep(SETTLE).await;
        let gateway = machine::memory(cluster.nodes[0].pid())?.resident;
        Ok(Self {
            gateway: gateway as f64,
            store: cluster.store_bytes()? as f64 / 1024.0,
        })
    }
}

/// Memory of a gateway and its store for sessions whose clients have gone, and left them open.
pub(super) async fn sessions(tools: &Tools, target: Target, count: usize) -> Result<Metrics> {
    let mut cluster = Cluster::start(tools, target, 1).await?;
    let address = cluster.address(0);
    held::warm(address).await?;
    held::streams_end(cluster.upstream.address).await?;
    let before = Held::of(&cluster).await?;
    let mut opening = JoinSet::new();
    for _ in 0..CONNECTIONS {
        opening.spawn(async move {
            let mut client = Client::open(address, false).await?;
            for _ in 1..count / CONNECTIONS {
                client.renew().await?;
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    while let Some(opened) = opening.join_next().await {
        opened??;
    }
    let after = Held::of(&cluster).await?;
    cluster.alive()?;
    let each = |before: f64, after: f64| (after - before) / count as f64;
    let mut metrics = named([
        ("rss_kib_per_session", each(before.gateway, after.gateway)),
        ("rss_before_mib", before.gateway / 1024.0),
        ("rss_mib", after.gateway / 1024.0),
    ]);
    if target.has_store() {
        let kib = each(before.store, after.store);
        metrics.insert("store_kib_per_session".into(), kib);
    }
    Ok(metrics)
}

/// Memory of a gateway and its store for a thousand events that are kept of a stream.
pub(super) async fn logged(tools: &Tools, target: Target) -> Result<Metrics> {
    let mut cluster = Cluster::start(tools, target, 1).await?;
    held::warm(cluster.address(0)).await?;
    streams(&cluster, WARM_STREAMS).await?;
    let before = Held::of(&cluster).await?;
    streams(&cluster, STREAMS).await?;
    let after = Held::of(&cluster).await?;
    cluster.alive()?;
    let mib = |before: f64, after: f64| (after - before) / 1024.0 / STREAMS as f64;
    let mut metrics = named([
        ("rss_mib_per_1000", mib(before.gateway, after.gateway)),
        ("rss_before_mib", before.gateway / 1024.0),
    ]);
    if target.has_store() {
        let mib = mib(before.store, after.store);
        metrics.insert("store_mib_per_1000".into(), mib);
    }
    Ok(metrics)
}

/// Clients that each read a stream to its end, which is kept for a while.
async fn streams(cluster: &Cluster<'_>, count: usize) -> Result<()> {
    let mut unused = Histogram::default();
    for _ in 0..count {
        let mut client = Client::open(cluster.address(0), false).await?;
        let read = client.stream(&LOGGED, |_| false, &mut unused);
        read.await.context("a stream that is kept")?;
    }
    Ok(())
}

const CONNECTIONS: usize = 16;
const WARM_STREAMS: usize = 4;
const STREAMS: usize = 48;
/// With the answer, a thousand messages: what is kept of a stream.
const LOGGED: Call = Call {
    bytes: 200,
    events: 999,
    ..Call::SMALL
};
