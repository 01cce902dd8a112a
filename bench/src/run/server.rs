//! What a fresh server holds: for clients that stay, and after clients that came and went.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::measure::{Metrics, SETTLE, named};
use super::target::{Process, Target, Tools};
use crate::load::caller::{Caller, Transport};
use crate::load::client::stats;
use crate::load::held::AT_ONCE;
use crate::machine::{self, Memory};
use crate::message::Call;
use crate::server::gauges::Gauges;

/// The transport that a target is asked over.
pub(crate) fn transport(target: Target) -> Transport {
    match target {
        Target::HttpSse => Transport::HttpSse,
        _ => Transport::Streamable,
    }
}

/// Memory for `count` clients that have made a call and stay connected, and whether all of them are still
/// answered.
pub(crate) async fn connections(tools: &Tools, target: Target, count: usize) -> Result<Metrics> {
    let mut server = tools.start(target, None)?;
    server.accepts()?;
    let transport = transport(target);
    let _ = callers(&server, transport, 8).await?;
    sleep(SETTLE).await;
    let before = machine::memory(server.pid())?;
    let descriptors = machine::descriptors(server.pid());
    let start = Instant::now();
    let mut held = callers(&server, transport, count).await?;
    let opened = start.elapsed();
    sleep(SETTLE).await;
    let after = machine::memory(server.pid())?;
    let sockets = machine::descriptors(server.pid()) - descriptors;
    let start = Instant::now();
    for caller in &mut held {
        caller.call(&Call::SMALL).await?;
    }
    let answered = start.elapsed();
    server.alive()?;
    let answering = machine::memory(server.pid())?;
    let highest = after.resident.max(answering.resident);
    Ok(named([
        ("rss_mib", highest as f64 / 1024.0),
        ("kib_per_client", grown(&before, &after) / count as f64),
        ("sockets_per_client", sockets as f64 / count as f64),
        ("rss_before_mib", before.resident as f64 / 1024.0),
        ("opened_s", opened.as_secs_f64()),
        ("answered_s", answered.as_secs_f64()),
    ]))
}

/// What is left after `count` clients have connected, greeted and gone. The base line is taken after as many
/// that a process has allocated what it keeps.
pub(crate) async fn cycles(tools: &Tools, target: Target, count: usize) -> Result<Metrics> {
    let mut server = tools.start(target, None)?;
    server.accepts()?;
    let idle = held(&server).await?;
    churn(&server, transport(target), WARM_CYCLES).await?;
    settle(&server, &idle).await?;
    let before = machine::memory(server.pid())?;
    let descriptors = machine::descriptors(server.pid());
    let start = Instant::now();
    churn(&server, transport(target), count).await?;
    let seconds = start.elapsed().as_secs_f64();
    let left = settle(&server, &idle).await?;
    let after = machine::memory(server.pid())?;
    server.alive()?;
    let more = |after: usize, before: usize| after as f64 - before as f64;
    let now = machine::descriptors(server.pid());
    Ok(named([
        ("descriptors_left", more(now, descriptors)),
        ("tasks_left", more(left.tasks, idle.tasks)),
        ("sessions_left", more(left.sessions, idle.sessions)),
        ("streams_left", more(left.streams, idle.streams)),
        ("connections_left", more(left.connections, idle.connections)),
        ("growth_kib", grown(&before, &after)),
        ("rss_mib", after.resident as f64 / 1024.0),
        ("per_second", count as f64 / seconds),
    ]))
}

/// Connects clients, each of which makes a call.
async fn callers(server: &Process, transport: Transport, count: usize) -> Result<Vec<Caller>> {
    let mut callers = Vec::with_capacity(count);
    each(server, transport, count, |caller| callers.push(caller)).await?;
    Ok(callers)
}

/// Connects clients, each of which makes a call and leaves.
async fn churn(server: &Process, transport: Transport, count: usize) -> Result<()> {
    each(server, transport, count, drop).await
}

async fn each(
    server: &Process,
    transport: Transport,
    count: usize,
    mut done: impl FnMut(Caller),
) -> Result<()> {
    let gate = Arc::new(Semaphore::new(AT_ONCE));
    let mut opening = JoinSet::new();
    for _ in 0..count {
        let (gate, address) = (Arc::clone(&gate), server.address);
        opening.spawn(async move {
            let _permit = gate.acquire().await?;
            let mut caller = Caller::open(address, transport, false).await?;
            caller.call(&Call::SMALL).await?;
            Ok::<_, anyhow::Error>(caller)
        });
    }
    while let Some(caller) = opening.join_next().await {
        done(caller??);
    }
    Ok(())
}

/// What the server holds once it is back at `idle`, or after [`PATIENCE`].
async fn settle(server: &Process, idle: &Gauges) -> Result<Gauges> {
    let end = Instant::now() + PATIENCE;
    loop {
        let held = held(server).await?;
        if held == *idle || Instant::now() > end {
            sleep(SETTLE).await;
            return Ok(held);
        }
        sleep(Duration::from_millis(50)).await;
    }
}

async fn held(server: &Process) -> Result<Gauges> {
    ensure!(
        server.gauges != server.address,
        "this server does not tell what it holds"
    );
    stats(server.gauges).await
}

/// KiB.
fn grown(before: &Memory, after: &Memory) -> f64 {
    after.resident as f64 - before.resident as f64
}

const WARM_CYCLES: usize = 2_000;
/// A heartbeat, after which what has gone is noticed at the latest, and then some.
const PATIENCE: Duration = Duration::from_secs(20);
