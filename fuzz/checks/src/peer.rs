//! The same stream read by the crate `sse-stream`.
//!
//! Where the two are known to differ, both are brought to common ground, or the stream is skipped:
//! - It refuses invalid UTF-8 in the fields it knows; we replace it. Such streams are skipped.
//! - It gives no event for a block with unknown or ignored fields only; we give one that says
//!   nothing. Events that say nothing are left out on both sides.
//! - It takes an empty `event` for a type; we take it for none, as the specification has it.
//! - It neither clamps `retry`, nor takes one beyond 64 bits; we clamp. Streams with so many digits
//!   are skipped, others are clamped.

use std::convert::Infallible;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream as _, stream};
use sse_stream::{Sse, SseByteStream};

use crate::model::Block;

/// The events that say something, as `sse-stream` reads them; `None` for a stream to skip.
#[must_use]
pub fn read(chunks: &[&[u8]]) -> Option<Vec<Block>> {
    let whole = chunks.concat();
    let many_digits = |run: &[u8]| run.len() > 19 && run.iter().all(u8::is_ascii_digit);
    if std::str::from_utf8(&whole).is_err()
        || whole.split(|byte| !byte.is_ascii_digit()).any(many_digits)
    {
        return None;
    }
    let chunks = chunks
        .iter()
        .map(|chunk| Ok::<_, Infallible>(Bytes::copy_from_slice(chunk)));
    let mut events = pin!(SseByteStream::new(stream::iter(chunks)));
    let mut blocks = Vec::new();
    loop {
        match events
            .as_mut()
            .poll_next(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(Some(Ok(event))) => blocks.push(block(event)),
            Poll::Ready(Some(Err(error))) => panic!("sse-stream refuses UTF-8 text: {error}"),
            Poll::Ready(None) => break,
            Poll::Pending => panic!("sse-stream waits for a stream that is always ready"),
        }
    }
    blocks.retain(|block| *block != Block::default());
    Some(blocks)
}

fn block(event: Sse) -> Block {
    let retry = event.retry.map(Duration::from_millis);
    Block {
        kind: event.event.filter(|kind| !kind.is_empty()),
        data: event.data,
        id: event.id,
        retry: retry.map(|retry| retry.min(Duration::from_secs(300))),
    }
}
