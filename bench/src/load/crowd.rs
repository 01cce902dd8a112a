//! Clients that come, do something for a while, and go.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::client::Client;
use crate::clock;
use crate::histogram::Histogram;
use crate::message::Call;

/// Clients, and what came of those that have gone.
pub(crate) struct Crowd {
    address: SocketAddr,
    here: JoinSet<Result<Histogram>>,
    outcome: Outcome,
}

#[derive(Default)]
pub(crate) struct Outcome {
    /// Of calls, or the ages of events.
    pub(crate) latencies: Histogram,
    /// Clients that did not get what they asked for, and the first reason.
    pub(crate) errors: u64,
    pub(crate) reason: Option<anyhow::Error>,
}

/// What a client does before it ends its session.
#[derive(Clone, Copy)]
pub(crate) enum Stay {
    /// So many calls, one after the other.
    Calls(u32),
    /// Calls until then, each so long after the last one was sent, or as soon as that is answered.
    Until { end: Instant, every: Duration },
    /// One call that is answered by events.
    Stream(Call),
}

impl Crowd {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            here: JoinSet::new(),
            outcome: Outcome::default(),
        }
    }

    /// Brings one more client in.
    pub(crate) fn add(&mut self, stay: Stay) {
        self.here.spawn(client(self.address, stay));
        while let Some(gone) = self.here.try_join_next() {
            self.outcome.add(gone.map_err(Into::into).flatten());
        }
    }

    /// Waits until all have gone.
    pub(crate) async fn outcome(mut self) -> Outcome {
        while let Some(gone) = self.here.join_next().await {
            self.outcome.add(gone.map_err(Into::into).flatten());
        }
        self.outcome
    }
}

impl Outcome {
    pub(crate) fn add(&mut self, of_one: Result<Histogram>) {
        match of_one {
            Ok(latencies) => self.latencies.merge(&latencies),
            Err(error) => {
                self.errors += 1;
                self.reason.get_or_insert(error);
            }
        }
    }
}

async fn client(address: SocketAddr, stay: Stay) -> Result<Histogram> {
    let mut client = Client::open(address, false).await?;
    let mut latencies = Histogram::default();
    match stay {
        Stay::Calls(count) => {
            for _ in 0..count {
                timed(&mut client, &mut latencies).await?;
            }
        }
        Stay::Until { end, every } => {
            let mut due = Instant::now();
            while due < end {
                sleep_until(due).await;
                timed(&mut client, &mut latencies).await?;
                due = Instant::now().max(due + every);
            }
        }
        Stay::Stream(call) => client.stream(&call, |_| true, &mut latencies).await?,
    }
    client.end().await?;
    Ok(latencies)
}

async fn timed(client: &mut Client, latencies: &mut Histogram) -> Result<()> {
    let sent = clock::now();
    client.json(&Call::SMALL).await?;
    latencies.record(clock::now() - sent);
    Ok(())
}
