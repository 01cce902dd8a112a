//! The gap after a node was killed (F9, F12).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::cluster::Cluster;
use super::quantile_ms;
use crate::load::client::{Client, Identity};
use crate::message::Call;
use crate::run::measure::{Metrics, named};
use crate::run::target::{Target, Tools};

/// How a session was found again.
struct Found {
    after: Duration,
    /// Calls that got an error before one was answered.
    errors: usize,
    /// Its client was told to start anew.
    is_over: bool,
}

/// Opens sessions at one node, kills it, and calls at once in each of them at another until one call is answered.
pub(super) async fn kills(tools: &Tools, target: Target, kills: usize) -> Result<Metrics> {
    let mut cluster = Cluster::start(tools, target, 2).await?;
    let (mut gaps, mut errors, mut over) = (Vec::new(), 0, 0);
    for _ in 0..kills {
        let mut sessions = Vec::new();
        for _ in 0..SESSIONS {
            let mut client = Client::open(cluster.address(0), false).await?;
            client.json(&Call::SMALL).await?;
            sessions.push(client.leave());
        }
        cluster.nodes[0].kill()?;
        let killed = Instant::now();
        let mut clients = JoinSet::new();
        for session in sessions {
            clients.spawn(until_answered(session, cluster.address(1), killed));
        }
        while let Some(found) = clients.join_next().await {
            let found = found??;
            gaps.push(found.after);
            errors += found.errors;
            over += usize::from(found.is_over);
        }
        cluster.nodes[0] = cluster.node().await?;
    }
    cluster.alive()?;
    let doubled = cluster.counts().await?.duplicates;
    Ok(named([
        ("gap_p50_ms", quantile_ms(&mut gaps, 0.5)),
        ("gap_worst_ms", quantile_ms(&mut gaps, 1.0)),
        ("kills", kills as f64),
        ("sessions", gaps.len() as f64),
        ("errors", errors as f64),
        ("over", over as f64),
        ("doubled", doubled as f64),
    ]))
}

async fn until_answered(
    mut identity: Identity,
    address: SocketAddr,
    killed: Instant,
) -> Result<Found> {
    let mut errors = 0;
    while killed.elapsed() < PATIENCE {
        let mut client = Client::visit(address, identity).await?;
        let answer = client.ask(&Call::SMALL).await;
        if matches!(answer, Ok(200 | 404)) {
            return Ok(Found {
                after: killed.elapsed(),
                errors,
                is_over: matches!(answer, Ok(404)),
            });
        }
        errors += 1;
        identity = client.leave();
        sleep(Duration::from_millis(20)).await;
    }
    bail!("a session was not answered within {PATIENCE:?}")
}

const SESSIONS: usize = 16;
const PATIENCE: Duration = Duration::from_secs(30);
