//! What a buffer has to do with the log that other nodes can read: an event is stored there before any reader
//! sees it here (protocol notes 6.2).
//!
//! When the log fails, readers go on without it. What they see meanwhile has ids that no log knows, so that
//! another node refuses them: its own numbers may begin again before them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use thinpipe_proto::session::StreamId;
use thinpipe_store::{LogEntry, StreamKey};

use super::state::State;
use super::{Closed, EventBuffer, EventBufferConfig, NotPushed, wake};
use crate::Random;
use crate::io::now;
use crate::server::history::Charge;

/// Events that one append carries.
const BATCH_EVENTS: usize = 256;

/// Bytes of messages that one append carries; a single one may be larger.
const BATCH_BYTES: usize = 256 << 10;

/// Who stores events.
pub(crate) trait Writer: Send + Sync {
    /// Takes a buffer that has something to be stored. `false`: nothing is stored any more.
    fn take(&self, buffer: &EventBuffer) -> bool;

    /// A number of a stream that no other of its session has, on any node. `None`: there are no random numbers.
    fn draw_stream(&self) -> Option<StreamId>;
}

/// Where the events of a buffer are stored.
pub(crate) struct Logged {
    pub(crate) writer: Arc<dyn Writer>,
    pub(crate) key: StreamKey,
    /// The request it answers, its id as JSON text.
    pub(crate) request: Option<Bytes>,
}

/// How far the log has come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    stage: Stage,
    /// The log knows the stream.
    is_open: bool,
    /// Number of the newest event that is stored.
    stored: u64,
    /// Its writer has it, and looks at it again.
    is_queued: bool,
    /// The stream that events are of, for readers, while they are not stored.
    alias: Option<StreamId>,
    /// The stream answers a request, and ends.
    is_finite: bool,
    /// The last event of the stream is there.
    is_answered: bool,
    /// The log knows that the stream has ended without one.
    is_marked: bool,
    /// Another node has answered it.
    is_fenced: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Stage {
    /// There is no log.
    #[default]
    Absent,
    /// Nothing is read before it is stored.
    Strict,
    /// The log did not answer in time: readers go on, and it is to catch up.
    Behind,
    /// It cannot follow any more: something is missing in it, or the session is over.
    Over,
}

/// What the writer does next for a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Begin it, or take it over.
    Open,
    /// Append these.
    Append(Vec<LogEntry>),
    /// Say that it has ended without a response.
    Mark,
    /// Give up: what the log lacks is not here any more either.
    GiveUp,
}

impl Progress {
    /// Number of the newest event that may be read.
    pub(super) fn readable(&self) -> u64 {
        match self.stage {
            Stage::Strict => self.stored,
            _ => u64::MAX,
        }
    }

    /// Whether a reader may begin: what it writes first has an id already.
    pub(super) fn may_begin(&self) -> bool {
        self.stage != Stage::Strict || self.is_open
    }

    /// Which stream an event is of, if it is read now.
    pub(super) fn stream_of(&self, stream: StreamId, sequence: u64) -> StreamId {
        match self.alias {
            // The log may have the numbers of another node, which come before these.
            Some(alias) if sequence > self.stored || !self.is_open => alias,
            _ => stream,
        }
    }

    /// Whether this event is about to be stored, and may not go before.
    pub(super) fn holds(&self, sequence: u64) -> bool {
        self.stage == Stage::Strict && sequence > self.stored
    }

    /// Whether the writer has to be told of it.
    fn is_due(&self, newest: u64, is_closed: bool) -> bool {
        let follows = matches!(self.stage, Stage::Strict | Stage::Behind);
        let lacks = !self.is_open || self.stored < newest;
        follows && !self.is_queued && (lacks || self.is_unmarked(is_closed))
    }

    /// With all there is stored, readers wait for the log again.
    fn catch_up(&mut self, newest: u64) {
        if self.stage == Stage::Behind && self.stored == newest {
            self.stage = Stage::Strict;
        }
    }

    fn is_unmarked(&self, is_closed: bool) -> bool {
        is_closed && self.is_finite && self.is_open && !self.is_answered && !self.is_marked
    }
}

impl State {
    /// Notes that the writer is told of the stream now, if it has to be.
    pub(super) fn queue(&mut self) -> bool {
        let has_begun = self.next > 1 || self.attached || self.log.is_open;
        let is_due = has_begun && self.log.is_due(self.next - 1, self.closed);
        self.log.is_queued |= is_due;
        is_due
    }

    /// The event that was added last is the last of the stream.
    pub(super) fn answer(&mut self) {
        self.closed = true;
        self.log.is_answered = true;
    }

    /// What is to be done for the log.
    fn step(&self) -> Option<Step> {
        if !matches!(self.log.stage, Stage::Strict | Stage::Behind) {
            return None;
        }
        if !self.log.is_open {
            return Some(Step::Open);
        }
        if self.log.stored < self.next - 1 {
            return Some(self.batch().map_or(Step::GiveUp, Step::Append));
        }
        self.log.is_unmarked(self.closed).then_some(Step::Mark)
    }

    /// The next events to be stored; `None` if they are gone.
    fn batch(&self) -> Option<Vec<LogEntry>> {
        let skipped = usize::try_from((self.log.stored + 1).checked_sub(self.first())?).ok()?;
        let newest = self.next - 1;
        let mut bytes = 0;
        let mut batch = Vec::new();
        for (entry, sequence) in self.entries.iter().skip(skipped).zip(self.log.stored + 1..) {
            bytes += entry.message.len();
            if batch.len() == BATCH_EVENTS || (bytes > BATCH_BYTES && !batch.is_empty()) {
                break;
            }
            batch.push(LogEntry {
                sequence,
                message: entry.message.clone(),
                is_last: self.log.is_answered && sequence == newest,
            });
        }
        Some(batch)
    }

    /// The log knows the stream, and this many events of it. `false`: it does not fit what is here.
    fn opened(&mut self, newest: u64) -> bool {
        let is_untouched = self.read == 0 && self.first() == 1;
        if !self.log.is_open && newest > 0 && is_untouched {
            // The stream of another node, which goes on here.
            self.renumber(newest);
            self.log.stored = newest;
        }
        self.log.is_open = true;
        let fits = self.log.stored == newest;
        self.log.catch_up(self.next - 1);
        fits
    }

    /// Whoever reads need not wait for the log any more.
    fn go_on(&mut self, stage: Stage, alias: Option<StreamId>) {
        self.log.stage = stage;
        self.log.alias = self.log.alias.or(alias);
    }
}

impl EventBuffer {
    /// An empty buffer whose events are stored in a log before they can be read.
    pub(in crate::server) fn logged(
        config: EventBufferConfig,
        charge: Charge,
        logged: Logged,
    ) -> Self {
        let is_finite = logged.request.is_some();
        let buffer = Self::build(config, logged.key.stream, charge, Some(Box::new(logged)));
        let mut state = buffer.lock();
        state.log.stage = Stage::Strict;
        state.log.is_finite = is_finite;
        drop(state);
        buffer
    }

    /// The stream of a node that is gone, as the log has it: nothing is added to it any more.
    pub(in crate::server) fn restored(
        config: EventBufferConfig,
        stream: StreamId,
        charge: Charge,
        entries: Vec<LogEntry>,
        newest: u64,
    ) -> Self {
        let buffer = Self::charged(config, stream, charge);
        let mut state = buffer.lock();
        state.renumber(newest);
        state.restore(entries, now());
        state.closed = true;
        drop(state);
        buffer
    }

    /// Adds the last message, and takes no more. Waits for room if there is none.
    ///
    /// # Errors
    /// [`Closed`].
    pub(crate) async fn finish(&self, message: Bytes) -> Result<(), Closed> {
        self.wait_for_room(|| self.try_add(None, message.clone(), true))
            .await
    }

    /// Adds the last message, room or not, and takes no more: the session is over, and so is its log.
    pub(crate) fn break_off(&self, message: Bytes) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        state.append(None, message, now());
        state.answer();
        if state.log.stage != Stage::Absent {
            state.go_on(Stage::Over, None);
        }
        self.let_go(state);
        self.shared.room.notify_waiters();
    }

    pub(super) async fn wait_for_room(
        &self,
        mut add: impl FnMut() -> Result<(), NotPushed>,
    ) -> Result<(), Closed> {
        let mut added = || match add() {
            Ok(()) => Some(Ok(())),
            Err(NotPushed::Closed(closed)) => Some(Err(closed)),
            Err(NotPushed::Full) => None,
        };
        loop {
            // Mostly there is room.
            if let Some(done) = added() {
                return done;
            }
            let mut room = std::pin::pin!(self.shared.room.notified());
            // Registered before looking again, or room that is made in between would be missed.
            room.as_mut().enable();
            if let Some(done) = added() {
                return done;
            }
            room.await;
        }
    }

    /// Whether this is its number, or that of its events which were not stored.
    pub(crate) fn is_known_as(&self, stream: StreamId) -> bool {
        self.shared.stream == stream || self.lock().log.alias == Some(stream)
    }

    /// Whether an id with the number of the stream itself was given by another node, as here no event with this one can
    /// have been read: that node goes on with the stream, and what came after the event here is not what came after it
    /// there.
    pub(crate) fn was_given_elsewhere(&self, stream: StreamId, sequence: u64) -> bool {
        let state = self.lock();
        let log = &state.log;
        let is_ours = match log.stage {
            Stage::Absent => true,
            // What is not even here may be anybody's invention.
            Stage::Strict => sequence <= log.stored || sequence >= state.next,
            Stage::Behind => sequence <= log.stored || log.alias.is_none(),
            Stage::Over => sequence <= log.stored || log.alias.is_none() || sequence >= state.next,
        };
        self.shared.stream == stream && !log.is_fenced && !is_ours
    }

    /// Where its events are stored.
    pub(crate) fn log(&self) -> Option<&Logged> {
        self.shared.log.as_deref()
    }

    /// Tells the writer, after [`State::queue`] has said so.
    pub(super) fn tell_writer(&self) {
        if let Some(logged) = self.log()
            && !logged.writer.take(self)
        {
            self.end_log();
        }
    }

    /// Begins it in the log, if there is one, and waits until it is there. `false`: the log did not answer.
    pub(crate) async fn open_log(&self) -> bool {
        loop {
            let mut change = std::pin::pin!(self.shared.room.notified());
            // Registered before looking, or a change in between would be missed.
            change.as_mut().enable();
            if let Some(answers) = self.ask_to_open() {
                return answers;
            }
            change.await;
        }
    }

    /// Whether the log answers, unless that is to be seen.
    fn ask_to_open(&self) -> Option<bool> {
        let mut state = self.lock();
        match state.log.stage {
            Stage::Strict if !state.log.is_open => {}
            Stage::Behind => return Some(state.log.is_open),
            Stage::Absent | Stage::Strict | Stage::Over => return Some(true),
        }
        let is_queued = std::mem::replace(&mut state.log.is_queued, true);
        drop(state);
        if !is_queued {
            self.tell_writer();
        }
        None
    }

    /// What its writer has to do. `None`: nothing, until it is told again.
    pub(crate) fn step(&self) -> Option<Step> {
        let mut state = self.lock();
        let step = state.step();
        state.log.is_queued = step.is_some();
        step
    }

    /// The log has begun it, or taken it over from another node, with this many events.
    pub(crate) fn opened(&self, newest: u64) {
        let fits = self.lock().opened(newest);
        if !fits {
            self.end_log();
        }
        self.changed();
    }

    /// Events up to this one are stored.
    pub(crate) fn stored(&self, sequence: u64) {
        let mut state = self.lock();
        state.log.stored = sequence;
        let newest = state.next - 1;
        state.log.catch_up(newest);
        drop(state);
        self.changed();
    }

    /// The log knows that it has ended.
    pub(crate) fn marked(&self) {
        self.lock().log.is_marked = true;
    }

    /// If it ends here without a response, the log is not told: there may be one elsewhere.
    pub(crate) fn leave_unended(&self) {
        self.marked();
    }

    /// The log does not answer in time: readers go on without it, until it has caught up.
    pub(crate) fn go_on_behind(&self) {
        self.go_on(Stage::Behind);
    }

    /// Has the connection that carries it end behind what there is: the client comes back after `retry`, while more
    /// may be said. One that has left need not be told.
    pub(crate) fn part(&self, retry: Duration) {
        self.lock().part(retry);
        self.changed();
    }

    /// Whether the log has begun it in the name of this node.
    pub(crate) fn is_in_log(&self) -> bool {
        self.lock().log.is_open
    }

    /// Whether readers go on without the log, and it is to catch up.
    pub(crate) fn is_behind(&self) -> bool {
        self.lock().log.stage == Stage::Behind
    }

    /// The log is not told of it any more.
    pub(crate) fn end_log(&self) {
        self.go_on(Stage::Over);
    }

    fn go_on(&self, stage: Stage) {
        // Drawn here: it needs to be unknown elsewhere, no more.
        let alias = self.log().and_then(|log| log.writer.draw_stream());
        let mut state = self.lock();
        if matches!(state.log.stage, Stage::Strict | Stage::Behind) {
            state.go_on(stage, alias);
        }
        drop(state);
        self.changed();
    }

    /// Another node answers here: nothing more is read that is not stored, and nothing added.
    pub(crate) fn fence(&self) {
        let mut state = self.lock();
        state.closed = true;
        if state.log.stage == Stage::Strict {
            let stored = state.log.stored;
            state.truncate(stored);
        }
        state.log.stage = Stage::Over;
        state.log.is_fenced = true;
        drop(state);
        self.changed();
    }

    /// Whether another node has answered here, so that this is not all there is.
    pub(crate) fn is_fenced(&self) -> bool {
        self.lock().log.is_fenced
    }

    pub(super) fn changed(&self) {
        let waker = self.lock().waker.take();
        wake(waker);
        self.shared.room.notify_waiters();
    }

    /// Number of its oldest event that is here, or of the one that comes next.
    pub(crate) fn oldest(&self) -> u64 {
        self.lock().first()
    }

    /// Takes events back that came before the oldest one here, as a log has them.
    pub(crate) fn restore(&self, mut entries: Vec<LogEntry>) {
        let mut state = self.lock();
        let first = state.first();
        // Whoever asked at the same time may have done it.
        entries.retain(|entry| entry.sequence < first);
        if entries.last().is_some_and(|e| e.sequence + 1 == first) {
            state.restore(entries, now());
        }
    }
}

impl State {
    /// Puts events before those that are here. They count as read, until somebody reads them again.
    fn restore(&mut self, entries: Vec<LogEntry>, at: Instant) {
        for entry in entries.into_iter().rev() {
            self.put_back(entry.message, at);
        }
    }
}

/// What no stored message is: the end of a stream that has no response.
pub(crate) const END: Bytes = Bytes::from_static(b"");

/// A number of a stream that no other of its session has, on any node: 53 bits, as many as every reader of JSON
/// keeps. `None`: there are no random numbers.
pub(crate) fn random_stream(random: &Random) -> Option<StreamId> {
    let random = random
        .bytes()
        .inspect_err(|error| tracing::warn!(%error, "a stream gets no number of its own"))
        .ok()?;
    let random = u64::from_le_bytes(random);
    // 0 is the standalone stream.
    Some(StreamId((random >> 11).max(1)))
}
