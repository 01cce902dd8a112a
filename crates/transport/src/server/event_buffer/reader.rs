//! The one reader of a buffer.

use std::fmt;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use thinpipe_proto::session::EventId;
use thinpipe_proto::sse;

use super::logged::Progress;
use super::state::AROUND;
use super::{EventBuffer, Shared, write_event_id};
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
    /// Comes before everything else, once there is an id for it.
    priming: Option<Priming>,
    /// Encoded and not handed out yet: what comes before the first message, the rest of a large one.
    pending: Bytes,
    /// `pending` begins inside an event.
    is_inside: bool,
    /// The client has an id that it can come back with, and is asked to wait so long before.
    comes_back: Option<Duration>,
    /// Runs when the reader is dropped.
    on_end: Option<Box<dyn FnOnce() + Send>>,
}

/// An event without data that says where a stream stands (2025-11-25).
#[derive(Debug)]
pub(crate) struct Priming {
    /// The id that the client has named; `None`: that of the last event that was read.
    pub(crate) id: Option<EventId>,
    /// How long a client waits that was cut off.
    pub(crate) retry: Option<Duration>,
}

impl EventReader {
    pub(super) fn new(buffer: EventBuffer, generation: u64, at: u64) -> Self {
        Self {
            buffer,
            generation,
            at,
            priming: None,
            pending: Bytes::new(),
            is_inside: false,
            comes_back: None,
            on_end: None,
        }
    }

    /// The same, with these bytes (whole events) before anything else.
    #[must_use]
    pub fn with_prefix(mut self, prefix: Bytes) -> Self {
        self.pending = prefix;
        self
    }

    /// The same, with an event before it that has no data and says where the stream stands.
    #[must_use]
    pub(crate) fn primed(mut self, priming: Priming) -> Self {
        self.priming = Some(priming);
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
        if !state.log.may_begin() {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        // The numbers of a stream that another node had before are known only now.
        self.at = state.position();
        let stream_of = |log: &Progress, at| log.stream_of(*stream, at);
        if let Some(Priming { id: named, retry }) = self.priming.take() {
            let own = || Bytes::from(super::event_id(stream_of(&state.log, self.at), self.at));
            let id = named.map_or_else(own, |named| named.as_bytes().clone());
            let mut events = BytesMut::new();
            sse::encode(&mut events, None, Some(&id), retry, Some(b""));
            self.comes_back = retry;
            self.pending = events.freeze();
            drop(state);
            self.hand_out(out);
            return Poll::Ready(Ok(Filled::More));
        }
        let start = out.len();
        out.reserve(state.unread().min(GULP));
        let (has_ids, mut id) = (!config.retention.is_zero(), Vec::new());
        let (at, large) = (&mut self.at, &mut self.pending);
        let mut encode = |message: &Bytes, log: &Progress| {
            *at += 1;
            if has_ids {
                id.clear();
                write_event_id(&mut id, stream_of(log, *at), *at);
            }
            let (kind, id) = (b"message".as_slice(), has_ids.then_some(&*id));
            if message.len() < GULP {
                sse::encode(out, Some(kind), id, None, Some(message));
            } else {
                let mut event = BytesMut::with_capacity(message.len() + AROUND);
                sse::encode(&mut event, Some(kind), id, None, Some(message));
                *large = event.freeze();
            }
            out.len() - start < GULP && large.is_empty()
        };
        let mut has_room = true;
        while has_room && state.take(config, |message, log| has_room = encode(message, log)) {}
        if out.len() > start || !self.pending.is_empty() {
            drop(state);
            room.notify_waiters();
            self.hand_out(out);
            return Poll::Ready(Ok(Filled::More));
        }
        if state.closed && state.is_read() {
            return Poll::Ready(Ok(Filled::End));
        }
        if let Some(retry) = state.parting.take() {
            drop(state);
            says_retry(retry, out);
            return Poll::Ready(Ok(Filled::End));
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn at_boundary(&self) -> bool {
        !self.is_inside
    }

    /// A stream that another node can go on with ends, and its client comes back to that one: at once if it is the
    /// standalone one, which waits for nothing.
    fn shut_down(&mut self, force: bool, out: &mut Vec<u8>) -> bool {
        let Some(logged) = self.buffer.log().filter(|_| self.at_boundary()) else {
            return force;
        };
        if !force && logged.request.is_some() {
            return false;
        }
        if let Some(retry) = self.comes_back {
            says_retry(retry, out);
        }
        true
    }
}

fn says_retry(retry: Duration, out: &mut Vec<u8>) {
    sse::encode(out, None, None, Some(retry), None);
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
