//! How the upstream answers.

use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, sleep_until};

use super::{Listening, Tally};
use crate::message::{self, Call, Message, put};
use crate::wire::Wire;

pub(crate) async fn json(
    wire: &mut Wire,
    status: &str,
    session: Option<&str>,
    body: &[u8],
) -> Result<()> {
    let mut out = Vec::with_capacity(body.len() + 192);
    put(
        &mut out,
        format_args!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\n"),
    );
    if let Some(session) = session {
        put(&mut out, format_args!("Mcp-Session-Id: {session}\r\n"));
    }
    put(
        &mut out,
        format_args!("Content-Length: {}\r\n\r\n", body.len()),
    );
    out.extend_from_slice(body);
    Ok(wire.send(&out).await?)
}

pub(crate) async fn empty(wire: &mut Wire, status: &str) -> Result<()> {
    let text = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
    Ok(wire.send(text.as_bytes()).await?)
}

/// Progress events, then the result, then the end of the body.
pub(crate) async fn stream(
    wire: &mut Wire,
    tally: &Tally,
    message: &Message<'_>,
    call: &Call,
    stateless: bool,
) -> Result<()> {
    let _open = tally.stream();
    wire.send(STREAM_HEAD).await?;
    let batch = call.batch.max(1);
    let pause = (call.rate > 0.0).then(|| Duration::from_secs_f64(batch as f64 / call.rate));
    let mut due = Instant::now();
    let (mut event, mut out, mut sent) = (Vec::new(), Vec::new(), 0);
    while sent < call.events {
        let is_early = call.early && sent == 0;
        if let Some(pause) = pause.filter(|_| !is_early) {
            due += pause;
            sleep_until(due).await;
        }
        let count = if is_early {
            1
        } else {
            batch.min(call.events - sent)
        };
        for number in sent..sent + count {
            event.clear();
            if call.ids {
                put(&mut event, format_args!("id: {}-{number}\n", call.sequence));
            }
            message::progress(&mut event, message.token(), number, call.bytes);
            chunk(&mut out, &event);
        }
        write(wire, tally, &mut out).await?;
        tally.event(count);
        sent += count;
    }
    event.clear();
    event.extend_from_slice(b"event: message\ndata: ");
    event.extend_from_slice(&message.answer(stateless));
    event.extend_from_slice(b"\n\n");
    chunk(&mut out, &event);
    out.extend_from_slice(b"0\r\n\r\n");
    write(wire, tally, &mut out).await
}

/// A question to the client, and a call that waits for its answer until the client leaves.
pub(crate) async fn asking(wire: &mut Wire, tally: &Tally) -> Result<()> {
    let _open = tally.stream();
    wire.send(STREAM_HEAD).await?;
    let (mut event, mut out) = (Vec::new(), Vec::new());
    message::question(&mut event, tally.question());
    chunk(&mut out, &event);
    write(wire, tally, &mut out).await?;
    while wire.fill().await? > 0 {}
    anyhow::bail!("the client left")
}

/// A stream that ends when its client leaves.
pub(crate) async fn listening(wire: &mut Wire, tally: &Tally, kind: Listening) -> Result<()> {
    let _open = tally.stream();
    wire.send(STREAM_HEAD).await?;
    let (mut event, mut out) = (Vec::new(), Vec::new());
    message::notice(&mut event, 0);
    chunk(&mut out, &event);
    write(wire, tally, &mut out).await?;
    match kind {
        Listening::Idle => while wire.fill().await? > 0 {},
        Listening::Flood => {
            event.clear();
            message::notice(&mut event, FLOOD_BYTES);
            loop {
                (0..FLOOD_BATCH).for_each(|_| chunk(&mut out, &event));
                write(wire, tally, &mut out).await?;
            }
        }
    }
    anyhow::bail!("the client left")
}

/// Every event is a chunk of its own, as servers that flush each event send it, even where
/// several go into one write.
fn chunk(out: &mut Vec<u8>, event: &[u8]) {
    put(out, format_args!("{:x}\r\n", event.len()));
    out.extend_from_slice(event);
    out.extend_from_slice(b"\r\n");
}

/// Writes all of `out`, counts every byte as soon as the kernel has it, and leaves `out` empty.
async fn write(wire: &mut Wire, tally: &Tally, out: &mut Vec<u8>) -> Result<()> {
    let mut rest = out.as_slice();
    while !rest.is_empty() {
        let count = wire.send_some(rest).await?;
        tally.took(count);
        rest = &rest[count..];
    }
    out.clear();
    Ok(())
}

const STREAM_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nX-Accel-Buffering: no\r\nTransfer-Encoding: chunked\r\n\r\n";
const FLOOD_BYTES: usize = 1000;
const FLOOD_BATCH: usize = 16;
