//! Clients that hold a listening stream: idle ones, and ones that stop reading.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::caller::{Caller, Transport};
use super::client::{Client, counts};
use crate::message::Call;

/// Open streams, each with a session and connections of its own, that read whatever comes. Dropping it
/// closes them.
pub(crate) struct Held(JoinSet<Result<()>>);

impl Held {
    /// Opens `count` streams, at most [`AT_ONCE`] at a time: the listening stream of Streamable HTTP, or that
    /// of HTTP+SSE, whose client keeps the connection that it sends over.
    ///
    /// # Errors
    /// A stream was refused or ended, or not all were open within 120 seconds.
    pub(crate) async fn open(
        target: SocketAddr,
        transport: Transport,
        count: usize,
    ) -> Result<Self> {
        let gate = Arc::new(Semaphore::new(AT_ONCE));
        let open = Arc::new(AtomicUsize::new(0));
        let mut held = Self(JoinSet::new());
        for _ in 0..count {
            let (gate, open) = (Arc::clone(&gate), Arc::clone(&open));
            held.0.spawn(async move {
                let permit = gate.acquire().await?;
                let mut client = Caller::open(target, transport, false).await?;
                client.listen().await?;
                drop(permit);
                open.fetch_add(1, Relaxed);
                client.drain().await
            });
        }
        let end = Instant::now() + Duration::from_secs(120);
        while open.load(Relaxed) < count {
            held.check()?;
            if Instant::now() > end {
                bail!(
                    "{} of {count} streams were open after 120 s",
                    open.load(Relaxed)
                );
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(held)
    }

    /// Fails if any stream has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.0.try_join_next() {
            None => Ok(()),
            Some(Ok(Ok(()))) => bail!("a stream ended"),
            Some(result) => result?,
        }
    }
}

/// Clients that opened the listening stream, read its first event and then nothing more.
pub(crate) async fn stalled(target: SocketAddr, count: usize) -> Result<Vec<Client>> {
    let mut clients = Vec::with_capacity(count);
    for _ in 0..count {
        let mut client = Client::open(target, false).await?;
        client.listen().await?;
        clients.push(client);
    }
    Ok(clients)
}

/// Runs everything once, so that what a process loads or allocates once is not charged to the
/// streams that follow: calls on eight connections, and a stream on each.
pub(crate) async fn warm(target: SocketAddr) -> Result<()> {
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        tasks.spawn(async move {
            let mut client = Client::open(target, false).await?;
            for _ in 0..100 {
                client
                    .json(&Call {
                        bytes: 200,
                        ..Call::default()
                    })
                    .await?;
            }
            client.listen().await
        });
    }
    while let Some(result) = tasks.join_next().await {
        result??;
    }
    Ok(())
}

/// Waits until the upstream holds no stream any more.
///
/// # Errors
/// It still does after 20 seconds.
pub(crate) async fn streams_end(upstream: SocketAddr) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let left = counts(upstream)
            .await
            .context("the upstream's counters")?
            .open_streams;
        if left == 0 {
            return Ok(());
        }
        if Instant::now() > end {
            bail!("{left} streams were left at the upstream after their clients had gone");
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Clients that connect at one time.
pub(crate) const AT_ONCE: usize = 64;
