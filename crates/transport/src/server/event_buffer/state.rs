//! What an [`EventBuffer`](super::EventBuffer) holds: what was read, kept for a client that resumes, and
//! what was not.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::logged::Progress;
use super::{EventBufferConfig, MAX_NOTICE_BYTES, MAX_NOTICES};
use crate::ByteBudget;
use crate::io::now;
use crate::server::history::Charge;

/// Bytes that an event has beside its message, about.
pub(super) const AROUND: usize = 64;

#[derive(Default)]
pub(super) struct State {
    /// Oldest first. The first `read` of them have been written to some connection.
    pub(super) entries: VecDeque<Entry>,
    pub(super) read: usize,
    pub(super) charge: Charge,
    /// Messages that have not been read.
    messages: Waiting,
    /// Change notices that have not been read.
    notices: Waiting,
    /// Of each key, the sequence number of the last notice that has not been read.
    unread_notices: HashMap<Arc<str>, u64>,
    /// Sequence number of the entry that comes next; the first is 1, as 0 is the beginning itself.
    pub(super) next: u64,
    /// Which reader is the current one; an older one is over.
    pub(super) reader: u64,
    pub(super) attached: bool,
    /// It has had a reader. Until then one is on its way, and nothing may be missing for it.
    begun: bool,
    /// Its reader is to end when it has read all there is, and its client to come back after this.
    pub(super) parting: Option<Duration>,
    pub(super) waker: Option<Waker>,
    pub(super) closed: bool,
    /// How far the log has come, if there is one.
    pub(super) log: Progress,
}

/// How much has not been read.
#[derive(Default, Clone, Copy)]
struct Waiting {
    entries: usize,
    bytes: usize,
}

impl Waiting {
    /// There is always room for one, however large, so that none is stuck.
    fn has_room(self, entries: usize, bytes: usize, length: usize) -> bool {
        self.entries == 0 || (self.entries < entries && self.bytes + length <= bytes)
    }

    fn add(&mut self, length: usize) {
        self.entries += 1;
        self.bytes += length;
    }

    fn subtract(&mut self, length: usize) {
        self.entries -= 1;
        self.bytes -= length;
    }
}

pub(super) struct Entry {
    pub(super) message: Bytes,
    /// Of a change notice.
    key: Option<Arc<str>>,
    at: Instant,
}

impl State {
    pub(super) fn new(charge: Charge) -> Self {
        Self {
            charge,
            next: 1,
            ..Self::default()
        }
    }

    pub(super) fn has_room(
        &self,
        config: &EventBufferConfig,
        is_notice: bool,
        length: usize,
    ) -> bool {
        if is_notice {
            return self.notices.has_room(MAX_NOTICES, MAX_NOTICE_BYTES, length);
        }
        let messages = self.messages;
        messages.has_room(config.max_events, config.max_bytes, length)
    }

    /// Whether a notice of this key waits to be read.
    pub(super) fn has_notice(&self, key: &str) -> bool {
        self.unread_notices.contains_key(key)
    }

    /// Drops what was read already, and, of a stream that can be resumed and that nobody reads any more, the
    /// oldest of the rest: its client will be told that they are gone.
    pub(super) fn make_room(&mut self, config: &EventBufferConfig, length: usize) {
        let keeps = !config.retention.is_zero();
        while (self.read > 0 || (keeps && self.was_left() && self.may_drop_oldest()))
            && (self.entries.len() >= config.max_events
                || self.charge.bytes() + length > config.max_bytes)
        {
            self.drop_oldest();
        }
    }

    pub(super) fn append(&mut self, key: Option<&str>, message: Bytes, at: Instant) {
        let entry = Entry {
            message,
            key: key.map(Arc::from),
            at,
        };
        self.charge.add(entry.message.len());
        self.expect(&entry, self.next);
        self.next += 1;
        self.entries.push_back(entry);
    }

    /// Its client has been there and is away: it may come back for what it has not read.
    pub(super) fn was_left(&self) -> bool {
        self.begun && !self.attached
    }

    /// Whether there is an oldest entry that is not about to be stored.
    fn may_drop_oldest(&self) -> bool {
        !self.entries.is_empty() && !self.log.holds(self.first())
    }

    /// Since when the oldest entry is there, if nobody is about to read it.
    pub(super) fn oldest_evictable(&self) -> Option<Instant> {
        let is_kept = self.read > 0 || (self.was_left() && self.may_drop_oldest());
        self.entries.front().filter(|_| is_kept).map(|e| e.at)
    }

    /// Drops that entry.
    pub(super) fn evict_oldest(&mut self) {
        if self.oldest_evictable().is_some() {
            self.drop_oldest();
        }
    }

    pub(super) fn evict_old(&mut self, config: &EventBufferConfig) {
        let now = now();
        while self.read > 0 || (!self.attached && self.may_drop_oldest()) {
            let is_old = self
                .entries
                .front()
                .is_some_and(|e| now.saturating_duration_since(e.at) >= config.retention);
            if !is_old || config.retention.is_zero() {
                return;
            }
            self.drop_oldest();
        }
    }

    /// Takes back what comes after this event, which nobody has read.
    pub(super) fn truncate(&mut self, newest: u64) {
        while self.next - 1 > newest
            && let Some(entry) = self.entries.pop_back()
        {
            self.next -= 1;
            self.charge.subtract(entry.message.len());
            self.settle(entry.message.len(), entry.key.as_deref(), self.next);
        }
    }

    /// Puts an event before all others. It counts as read.
    pub(super) fn put_back(&mut self, message: Bytes, at: Instant) {
        self.charge.add(message.len());
        let key = None;
        self.entries.push_front(Entry { message, key, at });
        self.read += 1;
    }

    /// The numbers of all entries rise by this.
    pub(super) fn renumber(&mut self, by: u64) {
        self.next += by;
        for sequence in self.unread_notices.values_mut() {
            *sequence += by;
        }
    }

    fn drop_oldest(&mut self) {
        let sequence = self.first();
        let Some(entry) = self.entries.pop_front() else {
            return;
        };
        self.charge.subtract(entry.message.len());
        if self.read > 0 {
            self.read -= 1;
        } else {
            self.settle(entry.message.len(), entry.key.as_deref(), sequence);
        }
        if self.entries.is_empty() {
            // A stream that waits holds nothing.
            self.entries = VecDeque::new();
        }
    }

    /// Reads on at this position, whatever was read before.
    pub(super) fn rewind(&mut self, position: usize) {
        self.read = position;
        (self.messages, self.notices) = Default::default();
        self.unread_notices.clear();
        let first = self.first();
        let entries = std::mem::take(&mut self.entries);
        for (sequence, entry) in (first..).zip(&entries).skip(position) {
            self.expect(entry, sequence);
        }
        self.entries = entries;
    }

    /// Gives the number of a new reader, in whose place any other is over.
    pub(super) fn attach(&mut self) -> u64 {
        self.reader += 1;
        self.attached = true;
        if self.begun {
            // Whoever comes back is not sent away again.
            self.parting = None;
        }
        self.begun = true;
        self.reader
    }

    /// Its reader is to end, if it is there or on its way.
    pub(super) fn part(&mut self, retry: Duration) {
        if !self.was_left() {
            self.parting = Some(retry);
        }
    }

    /// Its reader has come and gone.
    pub(super) fn leave(&mut self) {
        self.reader += 1;
        self.attached = false;
        self.begun = true;
    }

    /// Sequence number of the last entry that was read.
    pub(super) fn position(&self) -> u64 {
        self.first() + self.read as u64 - 1
    }

    /// Reads the next message that has not been read, if it may be; `false`: there is none.
    pub(super) fn take(
        &mut self,
        config: &EventBufferConfig,
        read: impl FnOnce(&Bytes, &Progress),
    ) -> bool {
        let sequence = self.position() + 1;
        if sequence > self.log.readable() {
            return false;
        }
        let Some(entry) = self.entries.get_mut(self.read) else {
            return false;
        };
        read(&entry.message, &self.log);
        let (length, key) = (entry.message.len(), entry.key.clone());
        if !config.retention.is_zero() && length > ByteBudget::FREE {
            // From here on it counts as history alone. A copy, as others count the bytes themselves.
            entry.message = Bytes::copy_from_slice(&entry.message);
        }
        self.settle(length, key.as_deref(), sequence);
        self.read += 1;
        if config.retention.is_zero() {
            self.drop_oldest();
        }
        true
    }

    /// Bytes of messages that have not been read, as events.
    pub(super) fn unread(&self) -> usize {
        self.messages.bytes + self.messages.entries * AROUND
    }

    /// Whether all there is has been read.
    pub(super) fn is_read(&self) -> bool {
        self.read == self.entries.len()
    }

    /// Takes out all that has not been read.
    pub(super) fn take_unread(&mut self) -> Vec<Bytes> {
        let unread: Vec<_> = self.entries.drain(self.read..).map(|e| e.message).collect();
        self.charge
            .subtract(self.messages.bytes + self.notices.bytes);
        (self.messages, self.notices) = Default::default();
        self.unread_notices = HashMap::new();
        unread
    }

    /// Sequence number of the oldest entry.
    pub(super) fn first(&self) -> u64 {
        self.next - self.entries.len() as u64
    }

    /// An entry is to be read.
    fn expect(&mut self, entry: &Entry, sequence: u64) {
        match &entry.key {
            Some(key) => {
                self.notices.add(entry.message.len());
                self.unread_notices.insert(Arc::clone(key), sequence);
            }
            None => self.messages.add(entry.message.len()),
        }
    }

    /// An entry was read, or will not be: from now on a change is told again.
    fn settle(&mut self, length: usize, key: Option<&str>, sequence: u64) {
        let Some(key) = key else {
            return self.messages.subtract(length);
        };
        self.notices.subtract(length);
        // After a client has resumed there may be a later one, and then that will tell of the change.
        if self.unread_notices.get(key) == Some(&sequence) {
            self.unread_notices.remove(key);
        }
        if self.unread_notices.is_empty() {
            self.unread_notices = HashMap::new();
        }
    }
}
