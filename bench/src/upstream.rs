//! A fast MCP server: raw sockets, one thread, and counters of what really arrived.

pub(crate) mod reply;
mod tally;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;

use crate::message::Message;
use crate::server;
use crate::wire::{Head, Start, Wire};

pub(crate) use tally::Counts;
use tally::Tally;

/// What a GET stream carries.
#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
pub(crate) enum Listening {
    /// One event, then nothing.
    Idle,
    /// Events of 1,000 bytes, sixteen a write, as fast as they are taken, without end.
    Flood,
}

/// Serves until the process is ended.
pub(crate) async fn serve(listen: SocketAddr, listening: Listening) -> Result<()> {
    let listener = server::listen(listen)?;
    let tally = Arc::new(Tally::default());
    let connections = TaskTracker::new();
    loop {
        let (socket, _) = listener.accept().await?;
        let tally = Arc::clone(&tally);
        connections.spawn(async move {
            // A connection that breaks is its client's to report.
            let _ = connection(socket, &tally, listening).await;
        });
    }
}

async fn connection(socket: TcpStream, tally: &Tally, listening: Listening) -> Result<()> {
    let mut wire = Wire::new(socket)?;
    let mut body = Vec::new();
    while let Some(head) = wire.head().await? {
        body.clear();
        wire.whole(head.body, &mut body).await?;
        match head.start {
            Start::Stats => {
                let counts = serde_json::to_vec(&tally.counts())?;
                reply::json(&mut wire, "200 OK", None, &counts).await?;
            }
            Start::Post => post(&mut wire, &head, &body, tally).await?,
            Start::Get => {
                tally.request();
                reply::listening(&mut wire, tally, listening).await?;
            }
            Start::Delete => {
                tally.request();
                let status = if tally.close(head.session.as_deref()) {
                    OK
                } else {
                    NOT_FOUND
                };
                reply::empty(&mut wire, status).await?;
            }
            Start::Unknown | Start::Status(_) => {
                tally.request();
                reply::empty(&mut wire, "405 Method Not Allowed").await?;
            }
        }
    }
    Ok(())
}

async fn post(wire: &mut Wire, head: &Head, body: &[u8], tally: &Tally) -> Result<()> {
    tally.request();
    let Ok(message) = serde_json::from_slice::<Message<'_>>(body) else {
        return reply::empty(wire, "400 Bad Request").await;
    };
    let method = message.method.unwrap_or_default();
    if matches!(method, "initialize" | "server/discover") {
        tally.handshake();
    }
    if method == "initialize" {
        let session = tally.open();
        return reply::json(wire, OK, Some(&session), &message.answer(false)).await;
    }
    if !head.stateless && method != "server/discover" && !tally.knows(head.session.as_deref()) {
        return reply::empty(wire, NOT_FOUND).await;
    }
    if message.id.is_none() || method.is_empty() {
        return reply::empty(wire, "202 Accepted").await;
    }
    if method == "tools/call" {
        let call = message.call().context("a call without arguments")?;
        tally.call(&call);
        if call.asks {
            return reply::asking(wire, tally).await;
        }
        if call.events > 0 {
            return reply::stream(wire, tally, &message, &call, head.stateless).await;
        }
    }
    reply::json(wire, OK, None, &message.answer(head.stateless)).await
}

const OK: &str = "200 OK";
const NOT_FOUND: &str = "404 Not Found";
