//! A conversation whose streams are written to a log, and those that other nodes have written there.

use std::sync::Arc;

use bytes::Bytes;
use thinpipe_proto::rpc::RequestId;
use thinpipe_proto::session::{SessionId, StreamId};
use thinpipe_store::StreamKey;

use super::exchange::Stream;
use super::{Conversation, Inner, ListenError, STANDALONE, charge};
use crate::io::now;
use crate::server::event_buffer::{EventBuffer, EventBufferConfig, Logged, Writer};
use crate::server::event_log::{LogWriter, Lost, begun, earlier, replay};
use crate::server::history::Charge;

/// Where the streams of one session are written.
#[derive(Debug)]
pub(super) struct Log {
    writer: LogWriter,
    session: SessionId,
}

impl Log {
    pub(super) fn new(writer: LogWriter, session: SessionId) -> Self {
        Self { writer, session }
    }

    fn key(&self, stream: StreamId) -> StreamKey {
        let session = self.session.clone();
        StreamKey { session, stream }
    }
}

impl From<Lost> for ListenError {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Unknown => Self::UnknownEvent,
            Lost::Unavailable => Self::Unavailable,
        }
    }
}

/// The buffer of a stream, which is written to the log if there is one.
pub(super) fn buffer(
    log: Option<&Log>,
    config: EventBufferConfig,
    stream: StreamId,
    request: Option<&RequestId>,
    charge: Charge,
) -> EventBuffer {
    let Some(log) = log else {
        return EventBuffer::charged(config, stream, charge);
    };
    let logged = Logged {
        writer: Arc::new(log.writer.clone()),
        key: log.key(stream),
        request: request.map(|id| Bytes::copy_from_slice(id.as_json())),
    };
    EventBuffer::logged(config, charge, logged)
}

impl Inner {
    /// The number of a new stream: with a log one that no node has given, as long as the log is to be had for it.
    pub(super) fn number<'a>(&mut self, log: Option<&'a Log>) -> (StreamId, Option<&'a Log>) {
        let random = log.and_then(|log| log.writer.draw_stream());
        if let Some(stream) = random.filter(|stream| !self.open.contains_key(stream)) {
            return (stream, log);
        }
        let counted = StreamId(self.next);
        self.next += 1;
        (counted, None)
    }
}

impl Inner {
    /// Whether another node has gone on with a stream that runs here, which is not known here yet.
    fn is_elsewhere(&self, stream: StreamId, after: u64) -> bool {
        let mut running = self.open.values().map(|open| open.buffer());
        running.any(|open| open.was_given_elsewhere(stream, after))
    }

    /// Whether a stream is here as far as it can be. What was brought in before may have been less.
    fn has(&self, stream: StreamId, after: u64) -> bool {
        let mut running = self.open.values().map(|open| open.buffer());
        running.any(|open| open.is_known_as(stream) && !open.is_fenced())
            || self
                .buffer_of(stream)
                .is_some_and(|known| known.oldest() <= after + 1)
    }
}

impl Conversation {
    /// Leaves the session to another node, or lets go of it as another node has taken it: what clients read here ends
    /// behind what was said, and what a log has of its streams stays for those who come back to them there. Requests
    /// that are being answered should be over: the outcome of others will not be known there. A
    /// [`close`](Self::close) after it does nothing.
    pub fn hand_over(&self) {
        self.end_streams(true);
    }

    /// Goes on with the standalone stream of a session that another node had, if a client has ever opened it: what
    /// is said from now on waits for it. Without a log it does nothing. Whoever adopts a session calls it before
    /// anything is said in it.
    pub async fn take_over(&self) {
        let Some(log) = &self.log else {
            return;
        };
        let standalone = self.lock().standalone.clone();
        match begun(&log.writer, &log.key(STANDALONE)).await {
            Ok(true) if standalone.open_log().await => standalone.leave(),
            Ok(false) => {}
            Ok(true) | Err(_) => tracing::warn!(
                session = ?log.session,
                "the log does not answer: a client may miss what is said until it listens here"
            ),
        }
    }

    /// Forgets what the log has of the session.
    pub(super) fn forget_log(&self) {
        let Some(log) = &self.log else {
            return;
        };
        for buffer in self.buffers() {
            buffer.end_log();
        }
        log.writer.forget(log.session.clone());
    }

    /// Sees to it that a stream can be read after an event of it here, if only the log of other nodes has it. Of the
    /// standalone stream, which goes on here, what came before is read from there. `false`: it has ended there, and
    /// nothing comes after that event.
    ///
    /// # Errors
    /// [`ListenError`].
    pub(super) async fn bring_in(&self, stream: StreamId, after: u64) -> Result<bool, ListenError> {
        let Some(log) = &self.log else {
            return Ok(true);
        };
        if stream == STANDALONE {
            self.bring_in_standalone(log, after).await?;
            return Ok(true);
        }
        let ended_with = {
            let inner = self.lock();
            if inner.is_elsewhere(stream, after) {
                return Err(ListenError::Unavailable);
            }
            if inner.has(stream, after) {
                return Ok(true);
            }
            inner.buffer_of(stream).map(|buffer| buffer.last())
        };
        let replayed = replay(log.writer.log(), &log.key(stream), after, ended_with).await?;
        if replayed.entries.is_empty() {
            return Ok(false);
        }
        let charge = charge(self.history.as_ref());
        let config = self.config.buffer;
        let (entries, newest) = (replayed.entries, replayed.newest);
        let buffer = EventBuffer::restored(config, stream, charge, entries, newest);
        let mut inner = self.lock();
        // Whoever asked at the same time has brought in the same, if perhaps less of it.
        inner.finished.retain(|(known, _)| known.id() != stream);
        let stream = Arc::new(Stream::restored(replayed.request, buffer));
        if !inner.closed {
            inner.finished.push((stream, now()));
        }
        Ok(true)
    }

    async fn bring_in_standalone(&self, log: &Log, after: u64) -> Result<(), ListenError> {
        let standalone = self.lock().standalone.clone();
        if !standalone.open_log().await {
            return Err(ListenError::Unavailable);
        }
        if standalone.was_given_elsewhere(STANDALONE, after) {
            return Err(ListenError::Unavailable);
        }
        let oldest = standalone.oldest();
        if after + 1 >= oldest {
            return Ok(());
        }
        let entries = earlier(&log.writer, &log.key(STANDALONE), after, oldest).await?;
        standalone.restore(entries);
        Ok(())
    }
}
