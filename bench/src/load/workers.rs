//! The loops that drive a target: closed, open and streaming.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::sync::mpsc::{self, Receiver};
use tokio::task::JoinSet;

use super::caller::{Caller, Transport};
use super::client::Client;
use super::meter::Meter;
use crate::clock;
use crate::histogram::Histogram;
use crate::message::Call;
use crate::run::set::{Drive, Load};

/// Starts one worker for each connection of `load`. Each returns the latencies (or the ages of
/// events) it saw, or what went wrong.
pub(crate) fn start(
    target: SocketAddr,
    load: Load,
    transport: Transport,
    meter: &Arc<Meter>,
) -> JoinSet<Result<Histogram>> {
    let mut workers = JoinSet::new();
    let mut queues = Vec::new();
    for index in 0..load.connections {
        let (queue, due) = mpsc::channel(BACKLOG);
        queues.push(queue);
        let meter = Arc::clone(meter);
        workers.spawn(async move {
            let result = worker(target, load, transport, (index, due), &meter).await;
            if result.is_err() {
                meter.broke();
            }
            result
        });
    }
    if let Drive::Open { rate } = load.drive {
        let meter = Arc::clone(meter);
        std::thread::spawn(move || clock::pace(&queues, rate, || meter.is_stopped()));
    }
    workers
}

async fn worker(
    target: SocketAddr,
    load: Load,
    transport: Transport,
    (index, due): (u32, Receiver<u64>),
    meter: &Meter,
) -> Result<Histogram> {
    let caller = || Caller::open(target, transport, load.stateless);
    match load.drive {
        Drive::Closed => closed(caller().await?, load.call, meter).await,
        Drive::Open { .. } => open(caller().await?, load.call, due, meter).await,
        Drive::Stream => {
            let client = Client::open(target, load.stateless).await?;
            if load.call.rate > 0.0 {
                // The streams' clocks are spread over the pause between two events.
                let share = f64::from(index) / f64::from(load.connections);
                tokio::time::sleep(Duration::from_secs_f64(share / load.call.rate)).await;
            }
            stream(client, load.call, meter).await
        }
    }
}

/// The next call leaves when the last one is answered.
async fn closed(mut client: Caller, call: Call, meter: &Meter) -> Result<Histogram> {
    let mut latencies = Histogram::default();
    while !meter.is_stopped() {
        let sent = clock::now();
        client.call(&call).await?;
        if meter.is_measuring() {
            latencies.record(clock::now() - sent);
        }
        meter.call();
        meter.operation(1);
    }
    Ok(latencies)
}

/// Calls leave by the clock. One that had to wait for the connection is counted from when it was
/// due, so that a slow answer is charged for the calls it held up.
async fn open(
    mut client: Caller,
    call: Call,
    mut due: Receiver<u64>,
    meter: &Meter,
) -> Result<Histogram> {
    let mut latencies = Histogram::default();
    while let Some(due) = due.recv().await
        && !meter.is_stopped()
    {
        client.call(&call).await?;
        if meter.is_measuring() {
            latencies.record(clock::now() - due);
        }
        meter.call();
        meter.operation(1);
    }
    ensure!(
        meter.is_stopped(),
        "more than {BACKLOG} calls waited for one connection"
    );
    Ok(latencies)
}

/// One streamed call after another.
async fn stream(mut client: Client, call: Call, meter: &Meter) -> Result<Histogram> {
    let mut ages = Histogram::default();
    while !meter.is_stopped() {
        let each = |events| {
            meter.operation(events);
            meter.is_measuring()
        };
        client.stream(&call, each, &mut ages).await?;
        meter.call();
    }
    Ok(ages)
}

const BACKLOG: usize = 1024;
