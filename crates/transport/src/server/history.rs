//! What streams keep for clients that resume, of all sessions together: swept by the clock, and bounded by
//! one budget for the process, of which the oldest goes first (protocol notes 6.3).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use tokio::sync::Notify;

use super::conversation::Conversation;
use super::event_buffer::EventBuffer;
use super::event_log::LogWriter;

/// Bytes of messages that streams keep together.
pub(crate) const MAX_HISTORY: usize = 256 << 20;

/// When room is made, so much more of it than is needed is made, as a part of the whole: who looks for the
/// oldest message has looked at every stream.
const ROOM_PART: usize = 64;

/// The history of all sessions of one manager. Cheap to clone; clones are the same.
#[derive(Clone)]
pub(crate) struct History {
    shared: Arc<Shared>,
}

struct Shared {
    limit: usize,
    used: AtomicUsize,
    /// Room is made when there is more than this: the limit, or more if there was nothing left to evict.
    due: AtomicUsize,
    /// There is.
    over: Notify,
    kept: Mutex<Kept>,
    /// Where the same is written for other nodes.
    log: OnceLock<LogWriter>,
}

#[derive(Default)]
struct Kept {
    next: u64,
    conversations: BTreeMap<u64, Weak<Conversation>>,
    /// Those that keep more than one may.
    overfull: BTreeSet<u64>,
}

/// Bytes that one conversation keeps, of all its streams.
struct Share {
    number: u64,
    limit: usize,
    used: AtomicUsize,
    /// Room is made when there is more than this.
    due: AtomicUsize,
}

impl Share {
    /// Room was made as far as there was any: some more may be kept before it is made again.
    fn settle(&self) {
        let used = self.used.load(Ordering::Relaxed);
        let due = (used + self.limit / ROOM_PART).max(self.limit);
        self.due.store(due, Ordering::Relaxed);
    }
}

impl History {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                limit,
                used: AtomicUsize::new(0),
                due: AtomicUsize::new(limit),
                over: Notify::new(),
                kept: Mutex::default(),
                log: OnceLock::new(),
            }),
        }
    }

    /// Has streams that begin from now on written to this log too. Only the first call counts.
    pub(crate) fn log_to(&self, writer: LogWriter) -> bool {
        self.shared.log.set(writer).is_ok()
    }

    /// Where streams are written for other nodes, if they are.
    pub(super) fn log(&self) -> Option<&LogWriter> {
        self.shared.log.get()
    }

    /// Bytes that are kept now.
    pub(crate) fn used(&self) -> usize {
        self.shared.used.load(Ordering::Relaxed)
    }

    /// Sweeps and evicts what this conversation keeps, `limit` bytes at most, until the guard is dropped.
    pub(super) fn register(&self, conversation: &Weak<Conversation>, limit: usize) -> Registered {
        let mut kept = self.lock();
        let number = kept.next;
        kept.next += 1;
        kept.conversations.insert(number, Weak::clone(conversation));
        let share = Share {
            number,
            limit,
            used: AtomicUsize::new(0),
            due: AtomicUsize::new(limit),
        };
        Registered {
            history: self.clone(),
            share: Arc::new(share),
        }
    }

    /// Forgets what is older than it is to be kept, and the oldest of the rest if there is too much.
    pub(crate) fn sweep(&self) {
        for conversation in self.conversations() {
            conversation.sweep();
        }
        self.make_room();
    }

    /// Until more is kept than may be.
    pub(crate) async fn overfull(&self) {
        self.shared.over.notified().await;
    }

    /// Evicts the oldest messages of sessions that keep too much, and then of all, whichever stream they are of, if
    /// they keep too much together. What a client is about to read stays; its buffer bounds it.
    pub(crate) fn make_room(&self) {
        for conversation in self.overfull_conversations() {
            conversation.make_room();
        }
        let Shared { limit, due, .. } = &*self.shared;
        let part = limit / ROOM_PART;
        if self.used() <= *limit {
            return;
        }
        let conversations = self.conversations();
        let buffers: Vec<_> = conversations.iter().flat_map(|c| c.buffers()).collect();
        let evicted = evict(&buffers, || self.used() <= limit - part);
        for conversation in conversations {
            conversation.sweep();
        }
        due.store((self.used() + part).max(*limit), Ordering::Relaxed);
        tracing::info!(
            evicted,
            "streams keep too much; the oldest cannot be resumed any more"
        );
    }

    fn overfull_conversations(&self) -> Vec<Arc<Conversation>> {
        let mut kept = self.lock();
        let overfull = std::mem::take(&mut kept.overfull);
        let conversations = overfull.iter().filter_map(|n| kept.conversations.get(n));
        conversations.filter_map(Weak::upgrade).collect()
    }

    fn conversations(&self) -> Vec<Arc<Conversation>> {
        // Not dropped under the lock: the last owner of one takes it out of the table.
        let kept = self.lock();
        kept.conversations
            .values()
            .filter_map(Weak::upgrade)
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.shared.lock()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        // A poisoned lock means a panic elsewhere; what it guards is valid at every step.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History")
            .field("used", &self.used())
            .field("limit", &self.shared.limit)
            .finish_non_exhaustive()
    }
}

/// Evicts the oldest messages of these buffers until there is room; tells how many.
fn evict(buffers: &[EventBuffer], has_room: impl Fn() -> bool) -> usize {
    let oldest = |(number, buffer): (usize, &EventBuffer)| {
        let at = buffer.oldest_evictable()?;
        Some(Reverse((at, number)))
    };
    let mut oldest: BinaryHeap<_> = buffers.iter().enumerate().filter_map(oldest).collect();
    let mut evicted = 0_usize;
    while !has_room()
        && let Some(Reverse((_, number))) = oldest.pop()
    {
        evicted += 1;
        if let Some(at) = buffers[number].evict_oldest() {
            oldest.push(Reverse((at, number)));
        }
    }
    evicted
}

/// A conversation whose history is looked after.
pub(super) struct Registered {
    history: History,
    share: Arc<Share>,
}

impl Registered {
    /// What one of its buffers takes of the history.
    pub(super) fn charge(&self) -> Charge {
        Charge {
            of: Some((self.history.clone(), Arc::clone(&self.share))),
            bytes: 0,
        }
    }

    /// Evicts the oldest of what these buffers, which are all of the conversation, keep, if it is too much.
    pub(super) fn make_room(&self, buffers: &[EventBuffer]) {
        let Share { limit, used, .. } = &*self.share;
        let room = limit - limit / ROOM_PART;
        let evicted = evict(buffers, || used.load(Ordering::Relaxed) <= room);
        self.share.settle();
        tracing::debug!(
            evicted,
            "a session keeps too much; its oldest events cannot be resumed after any more"
        );
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut kept = self.history.lock();
        kept.conversations.remove(&self.share.number);
        kept.overfull.remove(&self.share.number);
    }
}

/// The bytes that one buffer holds; those of streams that can be resumed count together.
#[derive(Default)]
pub(super) struct Charge {
    of: Option<(History, Arc<Share>)>,
    bytes: usize,
}

impl Charge {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        let Some((History { shared }, share)) = &self.of else {
            return;
        };
        let is_over = |used: &AtomicUsize, due: &AtomicUsize| {
            let used = used.fetch_add(bytes, Ordering::Relaxed) + bytes;
            used > due.load(Ordering::Relaxed)
        };
        let share_is_over = is_over(&share.used, &share.due);
        if share_is_over {
            // Once, until room was made.
            share.due.store(usize::MAX, Ordering::Relaxed);
            shared.lock().overfull.insert(share.number);
        }
        if is_over(&shared.used, &shared.due) || share_is_over {
            shared.over.notify_one();
        }
    }

    pub(super) fn subtract(&mut self, bytes: usize) {
        self.bytes -= bytes;
        if let Some((History { shared }, share)) = &self.of {
            shared.used.fetch_sub(bytes, Ordering::Relaxed);
            share.used.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.subtract(self.bytes);
    }
}

#[cfg(test)]
mod tests;
