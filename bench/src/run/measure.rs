//! One run of one set against one target.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::set::{Drive, Load};
use super::target::{Process, Target, Tools};
use crate::clock;
use crate::histogram::Histogram;
use crate::load::caller::Transport;
use crate::load::client::{Client, counts};
use crate::load::held::{self, Held};
use crate::load::meter::Meter;
use crate::load::workers;
use crate::machine;
use crate::upstream::{Counts, Listening};

/// What one run found, by name. The names end with the unit.
pub(crate) type Metrics = BTreeMap<String, f64>;

/// How long a run takes.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) warm: Duration,
    pub(crate) least: Duration,
    /// A run goes on up to this long while the proxy has used less than [`ENOUGH_TICKS`].
    pub(crate) most: Duration,
}

/// Who is measured: the address asked, the process if it is one beside the upstream, and the upstream and the store
/// if there are any.
pub(crate) struct Measured<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) transport: Transport,
    pub(crate) proxy: Option<u32>,
    pub(crate) upstream: Option<&'a Process>,
    pub(crate) store: Option<u32>,
}

/// Counters at one moment.
struct Mark {
    at: Instant,
    operations: u64,
    proxy: u64,
    /// The part of it that is not its children's.
    alone: u64,
    upstream: u64,
    store: u64,
    own: u64,
    busy: u64,
}

impl Measured<'_> {
    fn mark(&self, meter: &Meter) -> Result<Mark> {
        Ok(Mark {
            at: Instant::now(),
            operations: meter.operations(),
            proxy: self.proxy.map_or(Ok(0), machine::ticks)?,
            alone: self.proxy.map_or(Ok(0), machine::ticks_alone)?,
            upstream: self
                .upstream
                .map_or(Ok(0), |upstream| machine::ticks(upstream.pid()))?,
            store: self.store.map_or(Ok(0), machine::ticks)?,
            own: machine::own_ticks()?,
            busy: machine::busy_ticks()?,
        })
    }

    /// Drives `load` and checks that the upstream saw exactly the calls that were made.
    pub(crate) async fn load(&self, load: Load, plan: Plan) -> Result<Metrics> {
        let before = self.counts().await?;
        let meter = Arc::new(Meter::default());
        let workers = workers::start(self.address, load, self.transport, &meter);
        sleep(plan.warm).await;
        let warm = self.counts().await?;
        meter.measure();
        let start = self.mark(&meter)?;
        let end = self.until_enough(&meter, &start, plan).await?;
        let memory = self.proxy.map(machine::memory).transpose()?;
        meter.stop();
        let latencies = finish(workers).await?;
        let mut metrics = rates(&start, &end, self.proxy.is_some())?;
        if self.store.is_some() {
            let operations = (end.operations - start.operations) as f64;
            let used = machine::seconds(end.store - start.store);
            metrics.insert("store_us".into(), used * 1e6 / operations);
        }
        if let (Some(upstream), Some(before)) = (self.upstream, before) {
            if load.drive == Drive::Stream {
                held::streams_end(upstream.address).await?;
            }
            let after = saw(upstream, &before, meter.calls()).await?;
            let warm = warm.map_or(0, |counts| counts.handshakes);
            let handshakes = after.handshakes - warm;
            metrics.insert("handshakes".into(), handshakes as f64);
        }
        quantiles(&mut metrics, &latencies, load.drive);
        if let Some(memory) = memory {
            metrics.insert("rss_mib".into(), memory.resident as f64 / 1024.0);
        }
        Ok(metrics)
    }

    async fn counts(&self) -> Result<Option<Counts>> {
        match self.upstream {
            Some(upstream) => counts(upstream.address).await.map(Some),
            None => Ok(None),
        }
    }

    /// Waits until the measured process has used so much time that a tick more or less does not matter.
    async fn until_enough(&self, meter: &Meter, start: &Mark, plan: Plan) -> Result<Mark> {
        sleep(plan.least).await;
        while let Some(pid) = self.proxy {
            let enough = machine::ticks(pid)? >= start.proxy + ENOUGH_TICKS;
            if enough || start.at.elapsed() >= plan.most || meter.is_broken() {
                break;
            }
            sleep(Duration::from_millis(100)).await;
        }
        self.mark(meter)
    }
}

/// Fails unless the upstream saw these calls, each of them once.
async fn saw(upstream: &Process, before: &Counts, calls: u64) -> Result<Counts> {
    let after = counts(upstream.address).await?;
    ensure!(
        after.duplicates == before.duplicates,
        "the upstream saw a call twice"
    );
    let seen = after.calls - before.calls;
    ensure!(seen == calls, "{calls} calls made, {seen} seen upstream");
    Ok(after)
}

/// Memory of a fresh proxy that holds `streams` idle streams.
pub(crate) async fn idle(tools: &Tools, target: Target, streams: usize) -> Result<Metrics> {
    let upstream = tools.upstream(Listening::Idle)?;
    let mut proxy = tools.start(target, Some(&upstream))?;
    proxy.accepts()?;
    held::warm(proxy.address).await?;
    held::streams_end(upstream.address).await?;
    sleep(SETTLE).await;
    let before = machine::memory(proxy.pid())?;
    let start = Instant::now();
    let mut held = Held::open(proxy.address, Transport::Streamable, streams).await?;
    let opened = start.elapsed();
    sleep(SETTLE).await;
    let after = machine::memory(proxy.pid())?;
    let ticks = machine::ticks(proxy.pid())?;
    sleep(SETTLE).await;
    let ticks = machine::ticks(proxy.pid())? - ticks;
    let descriptors = machine::descriptors(proxy.pid());
    held.check()?;
    let open = counts(upstream.address).await?.open_streams;
    ensure!(
        open == streams as u64,
        "the upstream holds {open} streams, not {streams}"
    );
    drop(held);
    held::streams_end(upstream.address).await?;
    proxy.alive()?;
    let each = |before: u64, after: u64| (after as f64 - before as f64) / streams as f64;
    Ok(named([
        ("kib_per_stream", each(before.resident, after.resident)),
        (
            "anonymous_kib_per_stream",
            each(before.anonymous, after.anonymous),
        ),
        ("rss_before_mib", before.resident as f64 / 1024.0),
        ("descriptors", descriptors as f64),
        ("opened_s", opened.as_secs_f64()),
        (
            "idle_cpu_percent",
            machine::seconds(ticks) / SETTLE.as_secs_f64() * 100.0,
        ),
    ]))
}

/// Memory of a fresh gateway in which `calls` calls wait for their retries. One client makes them all: what a
/// connection of a client costs is another figure.
pub(crate) async fn parked(tools: &Tools, target: Target, calls: usize) -> Result<Metrics> {
    let upstream = tools.upstream(Listening::Idle)?;
    let mut proxy = tools.start(target, Some(&upstream))?;
    proxy.accepts()?;
    let mut client = Client::open(proxy.address, true).await?;
    for _ in 0..WARM_CALLS {
        client.json(&crate::message::Call::SMALL).await?;
    }
    client.parked().await?;
    sleep(SETTLE).await;
    let before = machine::memory(proxy.pid())?.resident;
    let start = Instant::now();
    for _ in 0..calls {
        client.parked().await?;
    }
    let parked = start.elapsed();
    sleep(SETTLE).await;
    let after = machine::memory(proxy.pid())?.resident;
    let open = counts(upstream.address).await?.open_streams;
    // The gateway may hold a stream of its own beside them.
    ensure!(
        open > calls as u64,
        "the upstream holds {open} calls, not {calls} and one"
    );
    proxy.alive()?;
    Ok(named([
        (
            "kib_per_call",
            (after as f64 - before as f64) / calls as f64,
        ),
        ("rss_before_mib", before as f64 / 1024.0),
        ("descriptors", machine::descriptors(proxy.pid()) as f64),
        ("parked_s", parked.as_secs_f64()),
    ]))
}

/// Memory of a fresh proxy, and what its upstream could write, while clients do not read.
pub(crate) async fn stalled(tools: &Tools, target: Target, streams: usize) -> Result<Metrics> {
    let upstream = tools.upstream(Listening::Flood)?;
    let mut proxy = tools.start(target, Some(&upstream))?;
    proxy.accepts()?;
    held::warm(proxy.address).await?;
    held::streams_end(upstream.address).await?;
    sleep(SETTLE).await;
    let before = machine::memory(proxy.pid())?.resident;
    let written_before = counts(upstream.address).await?.stream_bytes;
    let clients = held::stalled(proxy.address, streams).await?;
    let (mut peak, mut half) = (before, 0);
    for step in 0..STALL_STEPS {
        sleep(STALL_STEP).await;
        proxy.alive()?;
        peak = peak.max(machine::memory(proxy.pid())?.resident);
        if step == STALL_STEPS / 2 {
            half = counts(upstream.address).await?.stream_bytes;
        }
        // A proxy that takes in everything is stopped before it has taken the machine.
        if peak - before > 2 * 1024 * 1024 {
            bail!("the proxy grew by more than 2 GiB");
        }
    }
    let written = counts(upstream.address).await?.stream_bytes;
    // Whoever still reads must be answered.
    Client::open(proxy.address, false)
        .await?
        .json(&crate::message::Call::default())
        .await?;
    drop(clients);
    held::streams_end(upstream.address).await?;
    proxy.alive()?;
    let each = |kib: f64| kib / streams as f64;
    Ok(named([
        ("growth_kib_per_stream", each((peak - before) as f64)),
        (
            "written_kib_per_stream",
            each((written - written_before) as f64 / 1024.0),
        ),
        (
            "written_late_kib_per_stream",
            each(written.saturating_sub(half) as f64 / 1024.0),
        ),
    ]))
}

/// Time from the start of the process to its first answer, memory after that, size on disk.
pub(crate) async fn start(tools: &Tools, target: Target) -> Result<Metrics> {
    let upstream = target
        .is_proxy()
        .then(|| tools.upstream(Listening::Idle))
        .transpose()?;
    let mut times = Vec::new();
    let mut resident = 0;
    for number in 1..=STARTS {
        let started = clock::now();
        let mut proxy = tools.start(target, upstream.as_ref())?;
        while Client::open(proxy.address, false).await.is_err() {
            proxy.alive()?;
            ensure!(
                clock::now() - started < 10_000_000_000,
                "no answer within 10 s"
            );
            // Nothing else is going on, and the runtime's own timers are too coarse.
            std::thread::sleep(Duration::from_micros(200));
        }
        times.push(clock::now() - started);
        if number == STARTS {
            sleep(SETTLE).await;
            resident = machine::memory(proxy.pid())?.resident;
        }
    }
    times.sort_unstable();
    let mut metrics = named([
        ("first_answer_ms", times[STARTS / 2] as f64 / 1e6),
        ("rest_mib", resident as f64 / 1024.0),
    ]);
    if let Some(program) = tools.program(target) {
        let bytes = fs::metadata(program)?.len() as f64;
        metrics.insert("binary_mib".into(), bytes / 1_048_576.0);
    }
    Ok(metrics)
}

async fn finish(mut workers: JoinSet<Result<Histogram>>) -> Result<Histogram> {
    let mut all = Histogram::default();
    let join = async {
        while let Some(result) = workers.join_next().await {
            all.merge(&result??);
        }
        Ok::<_, anyhow::Error>(())
    };
    timeout(Duration::from_secs(15), join)
        .await
        .context("workers hung")??;
    Ok(all)
}

fn rates(start: &Mark, end: &Mark, proxied: bool) -> Result<Metrics> {
    let seconds = (end.at - start.at).as_secs_f64();
    let operations = (end.operations - start.operations) as f64;
    ensure!(operations > 0.0, "nothing was answered");
    let used = |from: u64, to: u64| machine::seconds(to.saturating_sub(from));
    let proxy = used(start.proxy, end.proxy);
    let upstream = used(start.upstream, end.upstream);
    let own = used(start.own, end.own);
    let store = used(start.store, end.store);
    let others = used(start.busy, end.busy) - proxy - upstream - store - own;
    let mut metrics = named([
        ("per_second", operations / seconds),
        ("upstream_us", upstream * 1e6 / operations),
        ("client_us", own * 1e6 / operations),
        ("other_cores", (others / seconds).max(0.0)),
        ("seconds", seconds),
    ]);
    if proxied {
        metrics.insert("cpu_us".into(), proxy * 1e6 / operations);
        let alone = used(start.alone, end.alone);
        metrics.insert("alone_us".into(), alone * 1e6 / operations);
        metrics.insert("ticks".into(), (end.proxy - start.proxy) as f64);
    }
    Ok(metrics)
}

fn quantiles(metrics: &mut Metrics, latencies: &Histogram, drive: Drive) {
    let what = if drive == Drive::Stream {
        "age"
    } else {
        "latency"
    };
    metrics.insert("samples".into(), latencies.total() as f64);
    for (name, share) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("p99.9", 0.999)] {
        if let Some(nanos) = latencies.quantile(share) {
            metrics.insert(format!("{what}_{name}_us"), nanos as f64 / 1e3);
        }
    }
}

pub(super) fn named<const N: usize>(pairs: [(&str, f64); N]) -> Metrics {
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// A hundredth of the processor time of a run is one tick or more.
pub(crate) const ENOUGH_TICKS: u64 = 110;
pub(super) const SETTLE: Duration = Duration::from_secs(1);
/// So that what a process allocates once is not charged to what follows.
const WARM_CALLS: usize = 200;
const STALL_STEP: Duration = Duration::from_millis(500);
const STALL_STEPS: u32 = 12;
const STARTS: usize = 5;
