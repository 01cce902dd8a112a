//! A bounded queue of messages between whoever says them and the one connection that writes them as
//! events. With retention, what was written is kept for a while, so that a client that was cut off can
//! read on where it was.
//!
//! A reader reads from the buffer itself and never from anything beside it, so replaying and going live
//! are one thing: there is no gap between them and nothing comes twice.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::Bytes;
use thinpipe_proto::rpc::Message;
use thinpipe_proto::session::StreamId;
use tokio::sync::Notify;

use super::history::Charge;
use crate::ByteBudget;
use crate::http1::fields::decimal;
use crate::io::now;

mod logged;
mod reader;
mod state;

pub(crate) use logged::{END, Logged, Step, Writer, random_stream};
pub use reader::EventReader;
pub(crate) use reader::Priming;

use state::State;

/// How much an [`EventBuffer`] holds, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventBufferConfig {
    /// Messages. Default: 100. Change notices (`list_changed`, `updated`) wait beside them: one of each kind
    /// and URI, 1,088 and 1 MiB at most.
    pub max_events: usize,
    /// Bytes of messages; a single message may be larger. Default: 1 MiB.
    pub max_bytes: usize,
    /// How long a message that was written is kept for a client that resumes. Default: zero, nothing is
    /// kept and events have no ids.
    pub retention: Duration,
}

/// Change notices that wait to be read in one buffer, beside its other messages: one for each kind and
/// each URI. A client subscribes to 1,000 URIs at most, in front of a shared upstream session to 1,024.
pub(crate) const MAX_NOTICES: usize = 1_088;

/// Bytes of those notices; a single one may be larger.
pub(crate) const MAX_NOTICE_BYTES: usize = 1 << 20;

impl Default for EventBufferConfig {
    fn default() -> Self {
        Self {
            max_events: 100,
            max_bytes: 1 << 20,
            retention: Duration::ZERO,
        }
    }
}

impl EventBufferConfig {
    /// For streams that can be resumed (protocol notes 6.3): 1,000 events, 1 MiB, 5 min.
    #[must_use]
    pub fn resumable() -> Self {
        Self {
            max_events: 1_000,
            retention: Duration::from_secs(300),
            ..Self::default()
        }
    }

    /// A message for as long as it is kept. It may be a part of what was read with it, all of which would stay, and is
    /// not counted; a large one is most of that, and counted elsewhere until it is read.
    fn own(&self, message: Bytes) -> Bytes {
        if self.retention.is_zero() || message.len() > ByteBudget::FREE {
            return message;
        }
        Bytes::copy_from_slice(&message)
    }
}

/// The stream takes no more messages: it was closed, or its client has gone for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stream is closed")]
pub struct Closed;

/// Why a message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotPushed {
    /// There is no room until its reader has read.
    #[error("the stream is full")]
    Full,
    /// See [`Closed`].
    #[error(transparent)]
    Closed(#[from] Closed),
}

/// What comes after an event cannot be given (any more); nothing is skipped over in silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what came after this event is not kept any more")]
pub struct Evicted;

/// The queue. Cheap to clone; clones are the same queue.
#[derive(Clone)]
pub struct EventBuffer {
    shared: Arc<Shared>,
}

struct Shared {
    config: EventBufferConfig,
    stream: StreamId,
    state: Mutex<State>,
    /// There may be room, or the log has come on.
    room: Notify,
    log: Option<Box<Logged>>,
}

impl EventBuffer {
    /// An empty buffer. Its ids are those of `stream`, which is unique in its session.
    #[must_use]
    pub fn new(config: EventBufferConfig, stream: StreamId) -> Self {
        Self::charged(config, stream, Charge::default())
    }

    /// The same, of which what it holds is charged here.
    pub(super) fn charged(config: EventBufferConfig, stream: StreamId, charge: Charge) -> Self {
        Self::build(config, stream, charge, None)
    }

    fn build(
        config: EventBufferConfig,
        stream: StreamId,
        charge: Charge,
        log: Option<Box<Logged>>,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                config,
                stream,
                state: Mutex::new(State::new(charge)),
                room: Notify::new(),
                log,
            }),
        }
    }

    /// Its number in the session.
    #[must_use]
    pub fn stream(&self) -> StreamId {
        self.shared.stream
    }

    /// Adds a message (JSON text), and waits for room if there is none.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn push(&self, message: Bytes) -> Result<(), Closed> {
        self.put(None, message).await
    }

    /// Adds a message if there is room.
    ///
    /// # Errors
    /// [`NotPushed`].
    pub fn try_push(&self, message: Bytes) -> Result<(), NotPushed> {
        self.try_put(None, message)
    }

    /// As [`push`](Self::push). With a key it is a change notice: while one of the same key waits to be
    /// read, it says nothing new and is not added. Notices do not count against
    /// [`max_events`](EventBufferConfig::max_events), but against [`MAX_NOTICES`].
    pub(crate) async fn put(&self, key: Option<&str>, message: Bytes) -> Result<(), Closed> {
        self.wait_for_room(|| self.try_put(key, message.clone()))
            .await
    }

    /// As [`try_push`](Self::try_push), and with a key as [`put`](Self::put).
    pub(crate) fn try_put(&self, key: Option<&str>, message: Bytes) -> Result<(), NotPushed> {
        self.try_add(key, message, false)
    }

    /// Adds those messages that come first, as far as there is room, and takes them out: so many at most.
    pub(crate) fn put_some(&self, messages: &mut VecDeque<Message>, most: usize) {
        let config = &self.shared.config;
        let mut state = self.lock();
        let now = now();
        let before = state.next;
        for _ in 0..most {
            let length = messages.front().map(|message| message.source().len());
            let Some(length) = length.filter(|_| !state.closed) else {
                break;
            };
            state.make_room(config, length);
            if !state.has_room(config, false, length) {
                break;
            }
            let message = messages.pop_front();
            if let Some(message) = message.map(Message::into_source) {
                state.append(None, config.own(message), now);
            }
        }
        if state.next > before {
            self.let_go(state);
        }
    }

    fn try_add(&self, key: Option<&str>, message: Bytes, is_last: bool) -> Result<(), NotPushed> {
        let config = &self.shared.config;
        let mut state = self.lock();
        if state.closed {
            return Err(Closed.into());
        }
        if key.is_some_and(|key| state.has_notice(key)) {
            return Ok(());
        }
        state.make_room(config, message.len());
        if !state.has_room(config, key.is_some(), message.len()) {
            return Err(NotPushed::Full);
        }
        state.append(key, config.own(message), now());
        if is_last {
            state.answer();
        }
        self.let_go(state);
        Ok(())
    }

    /// Wakes the reader, and tells the writer of the log, of what has changed.
    fn let_go(&self, mut state: MutexGuard<'_, State>) {
        let is_due = state.queue();
        let waker = state.waker.take();
        drop(state);
        if is_due {
            self.tell_writer();
        }
        wake(waker);
    }

    /// Takes no more messages. A reader still gets those that are there, and is at its end then.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        self.let_go(state);
        self.shared.room.notify_waiters();
    }

    /// Takes out what no reader has taken, when there will be none any more.
    pub(crate) fn take_unread(&self) -> Vec<Bytes> {
        self.lock().take_unread()
    }

    /// Whether it takes no more messages.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Whether what was written is kept for a client that resumes.
    #[must_use]
    pub fn keeps(&self) -> bool {
        !self.shared.config.retention.is_zero()
    }

    /// Whether a connection reads it.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.lock().attached
    }

    /// Whether its client was there and is away, and finds what it missed when it resumes.
    pub(crate) fn awaits_return(&self) -> bool {
        let state = self.lock();
        self.keeps() && state.was_left()
    }

    /// Bytes it holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.lock().charge.bytes()
    }

    /// Sequence number of the last message.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.lock().next - 1
    }

    /// Reads what has not been read yet, and goes on with what comes. A reader there was before is over.
    pub fn reader(&self) -> EventReader {
        let state = self.lock();
        let at = state.position();
        self.attach(state, at)
    }

    /// Reads what came after the event with this sequence number (0: from the beginning).
    ///
    /// # Errors
    /// [`Evicted`] if not all of it is there, or the number is of no event yet.
    pub fn reader_after(&self, sequence: u64) -> Result<EventReader, Evicted> {
        let mut state = self.lock();
        state.evict_old(&self.shared.config);
        let first = state.first();
        if sequence + 1 < first || sequence >= state.next {
            return Err(Evicted);
        }
        let position = usize::try_from(sequence + 1 - first).map_err(|_| Evicted)?;
        state.rewind(position);
        Ok(self.attach(state, sequence))
    }

    fn attach(&self, mut state: MutexGuard<'_, State>, at: u64) -> EventReader {
        let generation = state.attach();
        self.let_go(state);
        EventReader::new(self.clone(), generation, at)
    }

    /// Its reader will not come: what is said from here on may push out what was.
    pub(crate) fn leave(&self) {
        self.lock().leave();
        self.changed();
    }

    /// Drops what is older than it is kept for; `true` if nothing is left and no more will come.
    pub(super) fn sweep(&self) -> bool {
        let mut state = self.lock();
        state.evict_old(&self.shared.config);
        state.closed && state.entries.is_empty()
    }

    /// Since when its oldest message is there, if it is kept only for a client that may resume.
    pub(super) fn oldest_evictable(&self) -> Option<Instant> {
        self.lock().oldest_evictable()
    }

    /// Drops that message, and tells of the next one.
    pub(super) fn evict_oldest(&self) -> Option<Instant> {
        let mut state = self.lock();
        state.evict_oldest();
        state.oldest_evictable()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A poisoned lock means a panic elsewhere; what it guards is valid at every step.
        let state = self.shared.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for EventBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("EventBuffer")
            .field("stream", &self.shared.stream)
            .field("events", &state.entries.len())
            .field("bytes", &state.charge.bytes())
            .finish_non_exhaustive()
    }
}

/// The id of an event: its stream, and its number there (protocol notes 6.2).
#[must_use]
pub fn event_id(stream: StreamId, sequence: u64) -> String {
    format!("{}-{sequence}", stream.0)
}

/// The same, for each event of a stream.
fn write_event_id(id: &mut Vec<u8>, stream: StreamId, sequence: u64) {
    let mut digits = [0; 20];
    id.extend_from_slice(decimal(stream.0, &mut digits));
    id.push(b'-');
    id.extend_from_slice(decimal(sequence, &mut digits));
}

/// What [`event_id`] wrote.
#[must_use]
pub fn parse_event_id(id: &[u8]) -> Option<(StreamId, u64)> {
    let (stream, sequence) = std::str::from_utf8(id).ok()?.split_once('-')?;
    let number = |text: &str| {
        // One way to write a number only: another would be another id.
        let plain = text == "0" || !text.starts_with(['0', '+']);
        plain.then(|| text.parse::<u64>().ok()).flatten()
    };
    Some((StreamId(number(stream)?), number(sequence)?))
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests;
