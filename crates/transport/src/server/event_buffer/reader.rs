//! The one reader of a buffer.

use std::fmt;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use thinpipe_proto::sse;

use super::{EventBuffer, Shared, event_id};
use crate::body::{BodyError, BodyStream, Filled};

/// Bytes that one poll of a reader appends before others have their turn.
pub(super) const GULP: usize = 32 << 10;

/// The one reader of an [`EventBuffer`]: the body of an event stream. Dropping it leaves the buffer as
/// it is, for another reader.
pub struct EventReader {
    buffer: EventBuffer,
    generation: u64,
    /// Sequence number of the last event that was read.
    at: u64,
    /// Encoded and not handed out yet: what comes before the first message, the rest of a large one.
    pending: Bytes,
    /// `pending` begins inside an event.
    is_inside: bool,
    /// Runs when the reader is dropped.
    on_end: Option<Box<dyn FnOnce() + Send>>,
}

impl EventReader {
    pub(super) fn new(buffer: EventBuffer, generation: u64, at: u64) -> Self {
        Self {
            buffer,
            generation,
            at,
            pending: Bytes::new(),
            is_inside: false,
            on_end: None,
        }
    }

    /// The same, with these bytes (whole events) before anything else.
    #[must_use]
    pub fn with_prefix(mut self, prefix: Bytes) -> Self {
        self.pending = prefix;
        self
    }

    /// Runs `end` when it is dropped.
    #[must_use]
    pub fn on_end(mut self, end: impl FnOnce() + Send + 'static) -> Self {
        self.on_end = Some(Box::new(end));
        self
    }

    fn hand_out(&mut self, out: &mut Vec<u8>) {
        let length = self.pending.len().min(GULP);
        out.extend_from_slice(&self.pending.split_to(length));
        self.is_inside = !self.pending.is_empty();
    }

    /// Sequence number of the last event that it has read, or that it began after.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.at
    }
}

impl BodyStream for EventReader {
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<Result<Filled, BodyError>> {
        if !self.pending.is_empty() {
            self.hand_out(out);
            return Poll::Ready(Ok(Filled::More));
        }
        let Shared {
            config,
            stream,
            room,
            ..
        } = &*self.buffer.shared;
        let mut state = self.buffer.lock();
        if state.reader != self.generation {
            return Poll::Ready(Ok(Filled::End));
        }
        let mut events = BytesMut::new();
        while events.len() < GULP
            && let Some(message) = state.take(config)
        {
            self.at += 1;
            let id = (!config.retention.is_zero()).then(|| event_id(*stream, self.at));
            let id = id.as_ref().map(String::as_bytes);
            sse::encode(&mut events, Some(b"message"), id, None, Some(&message));
        }
        if !events.is_empty() {
            drop(state);
            room.notify_waiters();
            self.pending = events.freeze();
            self.hand_out(out);
            return Poll::Ready(Ok(Filled::More));
        }
        if state.closed {
            return Poll::Ready(Ok(Filled::End));
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn at_boundary(&self) -> bool {
        !self.is_inside
    }
}

impl Drop for EventReader {
    fn drop(&mut self) {
        let mut state = self.buffer.lock();
        if state.reader == self.generation {
            state.attached = false;
            state.waker = None;
        }
        drop(state);
        // Without a reader a stream that can be resumed makes room in another way.
        self.buffer.shared.room.notify_waiters();
        if let Some(end) = self.on_end.take() {
            end();
        }
    }
}

impl fmt::Debug for EventReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventReader")
            .field("buffer", &self.buffer)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}
