//! Connections that wait for their next request: one pool for each upstream and its credentials,
//! never one for each client, and no other pool beneath it.

use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use tokio::runtime;

use super::{UpstreamConfig, after, later};
use crate::io::{Io, LazyTimer, now, poll_read_scratch};

/// One connection with what belongs to it for life. Dropping it closes it.
pub(super) struct Connection {
    pub(super) io: Box<dyn Io>,
    pub(super) timer: LazyTimer,
    /// Requests it has carried.
    requests: u64,
    max_requests: u64,
    retire_at: Instant,
    runtime: runtime::Id,
    /// How long it may wait unused.
    idle_for: Duration,
    _open: Open,
}

/// Unused connections, newest last.
///
/// A connection is driven by the reactor of the runtime it was opened on, so it is kept for that
/// runtime: with one runtime for each worker thread no request wakes another thread.
#[derive(Default)]
pub(super) struct Pool {
    shards: [Mutex<Vec<Idle>>; SHARDS],
}

struct Idle {
    connection: Box<Connection>,
    until: Instant,
}

/// What is counted of an upstream. Idle connections share this and not the upstream itself, which
/// would keep it alive for ever.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) open: AtomicUsize,
    pub(super) connects: AtomicU64,
    pub(super) reused: AtomicU64,
}

/// Counts one open connection while it lives.
pub(super) struct Open(Arc<Counters>);

/// Runtimes share a shard if there are more of them than this; each still gets its own connections.
const SHARDS: usize = 32;

impl Connection {
    pub(super) fn new(io: Box<dyn Io>, config: &UpstreamConfig, counters: &Arc<Counters>) -> Self {
        let random = config.random.chance();
        Self {
            io,
            timer: LazyTimer::default(),
            requests: 0,
            max_requests: jittered(config.rotate_after_requests, random).max(1),
            retire_at: retire_at(config, random),
            runtime: runtime::Handle::current().id(),
            idle_for: config.pool_idle_timeout,
            _open: Open::new(counters),
        }
    }

    /// Takes note of one more answer, and of how long the server keeps the connection: a second
    /// less, since the clock there started earlier.
    pub(super) fn served(&mut self, told: Option<Duration>) {
        self.requests += 1;
        if let Some(told) = told {
            let told = told.saturating_sub(Duration::from_secs(1));
            self.idle_for = self.idle_for.min(told);
        }
    }

    /// Whether nothing has been heard of it, as it should be between two exchanges. Never waits.
    fn is_quiet(&mut self, cx: &mut Context<'_>) -> bool {
        poll_read_scratch(&mut self.io, cx, 1, |_| ()).is_pending()
    }
}

/// When a connection opened now is to be replaced: up to a tenth early, lest all of them go at once.
pub(super) fn retire_at(config: &UpstreamConfig, random: u64) -> Instant {
    let millis = u64::try_from(config.rotate_after.as_millis()).unwrap_or(u64::MAX);
    let age = Duration::from_millis(jittered(millis, random));
    after(age)
}

/// `most`, less up to a tenth.
pub(super) fn jittered(most: u64, random: u64) -> u64 {
    most - random % (most / 10 + 1)
}

impl Pool {
    /// The connection used last that is still good. Those found to be spent are closed.
    pub(super) fn checkout(&self) -> Option<Box<Connection>> {
        let runtime = runtime::Handle::current().id();
        let mut cx = Context::from_waker(Waker::noop());
        let now = now();
        loop {
            let mut idle = {
                let mut shard = self.shard(runtime);
                let at = shard
                    .iter()
                    .rposition(|idle| idle.connection.runtime == runtime)?;
                shard.remove(at)
            };
            if idle.is_good(now, &mut cx) {
                return Some(idle.connection);
            }
        }
    }

    /// Takes a connection back unless it has served its time or `max_idle` of them wait already.
    pub(super) fn put(&self, connection: Box<Connection>, max_idle: usize) {
        let now = now();
        let until = connection.retire_at.min(later(now, connection.idle_for));
        if until <= now || connection.requests >= connection.max_requests {
            return;
        }
        let runtime = connection.runtime;
        let mut shard = self.shard(runtime);
        let ours = |idle: &&Idle| idle.connection.runtime == runtime;
        if shard.iter().filter(ours).count() < max_idle {
            shard.push(Idle { connection, until });
        }
    }

    /// Closes connections that are spent, or that their server has closed.
    pub(super) fn prune(&self) {
        let mut cx = Context::from_waker(Waker::noop());
        let now = now();
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let spent: Vec<_> = shard
                .extract_if(.., |idle| !idle.is_good(now, &mut cx))
                .collect();
            if shard.is_empty() {
                *shard = Vec::new();
            }
            drop(shard);
            // Closing sockets takes system calls, so it is done without the lock.
            drop(spent);
        }
    }

    /// How many connections wait.
    pub(super) fn idle(&self) -> usize {
        let length =
            |shard: &Mutex<Vec<_>>| shard.lock().unwrap_or_else(PoisonError::into_inner).len();
        self.shards.iter().map(length).sum()
    }

    fn shard(&self, runtime: runtime::Id) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        let mut number = Number(0);
        runtime.hash(&mut number);
        let index = usize::try_from(number.0 % SHARDS as u64).unwrap_or(0);
        self.shards[index]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Idle {
    fn is_good(&mut self, now: Instant, cx: &mut Context<'_>) -> bool {
        now < self.until && self.connection.is_quiet(cx)
    }
}

impl Open {
    pub(super) fn new(counters: &Arc<Counters>) -> Self {
        counters.open.fetch_add(1, Ordering::Relaxed);
        counters.connects.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(counters))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A runtime's id is a number; this takes it out.
struct Number(u64);

impl Hasher for Number {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.wrapping_mul(31).wrapping_add(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}
