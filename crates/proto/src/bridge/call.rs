//! The requests on the upstream session, by the ids they have there.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use crate::bridge::action::{CallId, MemberId};
use crate::bridge::clock::Clock;
use crate::bridge::envelope::LogLevel;
use crate::bridge::progress::Progress;
use crate::rpc::{Message, RequestId};

/// Whose request it is.
#[derive(Debug, Clone)]
pub(super) struct Owner {
    pub(super) member: MemberId,
    /// The client's own id.
    pub(super) request: RequestId,
}

/// What the answer to a request means to the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Nothing.
    Plain,
    /// The handshake. Never cancelled.
    Initialize,
    /// On a shared session: a subscription to this resource.
    Subscribe(String),
    /// On a shared session: the end of one.
    Unsubscribe(String),
    /// On a shared session: its client wants log lines from this level on.
    Level(LogLevel),
}

/// What an answer says about tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Tells {
    #[default]
    Nothing,
    /// One that was made.
    Made,
    /// Which there are.
    All,
}

/// A request that is open.
#[derive(Debug)]
pub(super) struct Call {
    /// `None`: nobody waits for the answer, only the machine does.
    pub(super) owner: Option<Owner>,
    /// The principal that it counts for, whether or not that waits.
    pub(super) principal: Option<Arc<str>>,
    pub(super) purpose: Purpose,
    pub(super) stage: Stage,
    pub(super) progress: Option<Progress>,
    /// The task that it asks the result of.
    pub(super) task: Option<String>,
    /// On a shared session: what its answer says about tasks.
    pub(super) tells: Tells,
    pub(super) clock: Clock,
}

impl Call {
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.stage, Stage::Waiting(_))
    }
}

/// How far a request is.
#[derive(Debug)]
pub(super) enum Stage {
    /// It waits for another one.
    Waiting(Message),
    /// The upstream has it.
    Written,
}

/// A place in the table.
#[derive(Debug)]
pub(super) enum Entry {
    Open(Box<Call>),
    /// The upstream was told to stop, and may not have stopped yet.
    Cancelled {
        until: Instant,
        principal: Option<Arc<str>>,
    },
}

/// The table. Bounded by `Limits::in_flight`, which the callers check.
#[derive(Debug, Default)]
pub(super) struct Calls {
    entries: BTreeMap<CallId, Entry>,
    /// How many of them each principal has, where that is told.
    each: HashMap<Arc<str>, usize>,
    last: u64,
}

impl Calls {
    /// A table whose ids come after this one.
    pub(super) fn after(last: u64) -> Self {
        Self {
            last,
            ..Self::default()
        }
    }

    /// The id that the next request gets.
    pub(super) fn next_id(&self) -> CallId {
        CallId(self.last + 1)
    }

    pub(super) fn insert(&mut self, call: Call) -> CallId {
        let id = self.next_id();
        self.last = id.0;
        self.count_in(call.principal.as_ref());
        self.entries.insert(id, Entry::Open(Box::new(call)));
        id
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn len_of(&self, principal: &Arc<str>) -> usize {
        self.each.get(principal).copied().unwrap_or_default()
    }

    fn count_in(&mut self, principal: Option<&Arc<str>>) {
        if let Some(principal) = principal {
            *self.each.entry(Arc::clone(principal)).or_default() += 1;
        }
    }

    fn count_out(&mut self, principal: Option<&Arc<str>>) {
        let Some(principal) = principal else { return };
        if let Some(own) = self.each.get_mut(principal) {
            *own -= 1;
            if *own == 0 {
                self.each.remove(principal);
            }
        }
    }

    pub(super) fn get(&self, id: CallId) -> Option<&Call> {
        match self.entries.get(&id)? {
            Entry::Open(call) => Some(call),
            Entry::Cancelled { .. } => None,
        }
    }

    pub(super) fn get_mut(&mut self, id: CallId) -> Option<&mut Call> {
        match self.entries.get_mut(&id)? {
            Entry::Open(call) => Some(call),
            Entry::Cancelled { .. } => None,
        }
    }

    /// Takes out an open request.
    pub(super) fn remove(&mut self, id: CallId) -> Option<Call> {
        match self.entries.remove(&id)? {
            Entry::Open(call) => {
                self.count_out(call.principal.as_ref());
                Some(*call)
            }
            cancelled @ Entry::Cancelled { .. } => {
                self.entries.insert(id, cancelled);
                None
            }
        }
    }

    /// Keeps the place of a request that was taken out, until the upstream answers it.
    pub(super) fn keep_cancelled(
        &mut self,
        id: CallId,
        until: Instant,
        principal: Option<Arc<str>>,
    ) {
        self.count_in(principal.as_ref());
        self.entries
            .insert(id, Entry::Cancelled { until, principal });
    }

    /// Forgets a cancelled request, as its answer is there.
    pub(super) fn forget_cancelled(&mut self, id: CallId) {
        if !matches!(self.entries.get(&id), Some(Entry::Cancelled { .. })) {
            return;
        }
        if let Some(Entry::Cancelled { principal, .. }) = self.entries.remove(&id) {
            self.count_out(principal.as_ref());
        }
    }

    /// Whether the upstream was told to stop this request, and may not have stopped yet.
    pub(super) fn is_cancelled(&self, id: CallId) -> bool {
        matches!(self.entries.get(&id), Some(Entry::Cancelled { .. }))
    }

    /// Whether there is any such request.
    pub(super) fn has_cancelled(&self) -> bool {
        let mut entries = self.entries.values();
        entries.any(|entry| matches!(entry, Entry::Cancelled { .. }))
    }

    /// Forgets the cancelled requests that no answer is expected to any more, and says which.
    pub(super) fn forget_expired(&mut self, now: Instant) -> Vec<CallId> {
        let expired = self.entries.iter().filter_map(|(id, entry)| match entry {
            Entry::Cancelled { until, .. } if *until <= now => Some(*id),
            _ => None,
        });
        let expired: Vec<_> = expired.collect();
        for id in &expired {
            self.forget_cancelled(*id);
        }
        expired
    }

    /// Ids of the open requests that `wanted` picks, oldest first.
    pub(super) fn ids(&self, wanted: impl Fn(&Call) -> bool) -> Vec<CallId> {
        self.open()
            .filter(|(_, call)| wanted(call))
            .map(|(id, _)| id)
            .collect()
    }

    pub(super) fn open(&self) -> impl Iterator<Item = (CallId, &Call)> {
        self.entries.iter().filter_map(|(id, entry)| match entry {
            Entry::Open(call) => Some((*id, &**call)),
            Entry::Cancelled { .. } => None,
        })
    }

    /// The open requests with an id below `end`.
    pub(super) fn below(&mut self, end: CallId) -> impl Iterator<Item = &mut Call> {
        let entries = self.entries.range_mut(..end);
        entries.filter_map(|(_, entry)| match entry {
            Entry::Open(call) => Some(&mut **call),
            Entry::Cancelled { .. } => None,
        })
    }

    /// The only request in flight, if there is no other, not even one that was cancelled and may be
    /// running still: a late message of the one would be shown as the other's.
    pub(super) fn only(&self) -> Option<CallId> {
        let mut entries = self.entries.iter();
        match (entries.next(), entries.next()) {
            (Some((id, Entry::Open(_))), None) => Some(*id),
            _ => None,
        }
    }

    /// When the first of them is due.
    pub(super) fn due(&self) -> Option<Instant> {
        let due = |entry: &Entry| match entry {
            Entry::Open(call) => call.clock.due(),
            Entry::Cancelled { until, .. } => *until,
        };
        self.entries.values().map(due).min()
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.each.clear();
    }
}
