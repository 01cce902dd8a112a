//! The requests on the upstream session, by the ids they have there.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::bridge::CallId;
use crate::bridge::downgrade::ExchangeId;

/// What the answer to a request means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The handshake. Never cancelled.
    Initialize,
    /// It runs an exchange.
    Run(ExchangeId),
    /// `logging/setLevel`.
    Level,
    /// `resources/subscribe`.
    Subscribe(String),
    /// `resources/unsubscribe`.
    Unsubscribe(String),
    /// `tools/list`: which tools run as tasks.
    Tools,
    /// Nothing: `tasks/cancel`.
    Nothing,
}

/// A request that was cancelled, and may be running still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cancelled {
    /// It is forgotten then.
    pub(super) until: Instant,
    /// Until when its stream is read on, or the session that was made for it; `None`: it has neither, or that
    /// is over.
    pub(super) release: Option<Instant>,
    /// The server may ask something for its sake.
    pub(super) eligible: bool,
}

#[derive(Debug)]
enum Entry {
    Open {
        purpose: Purpose,
        /// Exchanges have a clock of their own.
        due: Option<Instant>,
    },
    Cancelled(Cancelled),
}

/// The table. Bounded by `Limits::in_flight`, and a few of the machine's own.
#[derive(Debug, Default)]
pub(super) struct Calls {
    entries: BTreeMap<CallId, Entry>,
    /// Progress tokens are the ids of the requests that they were given with. That of a request that runs
    /// as a task outlives it.
    tokens: BTreeMap<CallId, ExchangeId>,
    last: u64,
}

impl Calls {
    pub(super) fn open(&mut self, purpose: Purpose, due: Option<Instant>) -> CallId {
        self.last += 1;
        let id = CallId(self.last);
        self.entries.insert(id, Entry::Open { purpose, due });
        id
    }

    /// Opens a request that runs an exchange, with its id as the progress token.
    pub(super) fn open_run(&mut self, exchange: ExchangeId) -> CallId {
        let id = self.open(Purpose::Run(exchange), None);
        self.tokens.insert(id, exchange);
        id
    }

    /// How many there are, cancelled ones included.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is open. Cancelled ones do not count.
    pub(super) fn is_idle(&self) -> bool {
        !self
            .entries
            .values()
            .any(|e| matches!(e, Entry::Open { .. }))
    }

    /// Whether the answer to a cancelled one is worth reading on for.
    pub(super) fn reads_on(&self) -> bool {
        let mut cancelled = self.cancelled();
        cancelled.any(|cancelled| cancelled.release.is_some())
    }

    /// Whose request it is, while it is open.
    pub(super) fn exchange_of(&self, id: CallId) -> Option<ExchangeId> {
        match self.entries.get(&id)? {
            Entry::Open {
                purpose: Purpose::Run(exchange),
                ..
            } => Some(*exchange),
            _ => None,
        }
    }

    pub(super) fn of_token(&self, token: CallId) -> Option<ExchangeId> {
        self.tokens.get(&token).copied()
    }

    pub(super) fn forget_token(&mut self, token: CallId) {
        self.tokens.remove(&token);
    }

    /// Takes out what was answered: what it was for, or that it was cancelled.
    pub(super) fn answered(&mut self, id: CallId) -> Option<Result<Purpose, Cancelled>> {
        match self.entries.remove(&id)? {
            Entry::Open { purpose, .. } => Some(Ok(purpose)),
            Entry::Cancelled(cancelled) => Some(Err(cancelled)),
        }
    }

    /// Takes out an open request that gets no answer.
    pub(super) fn forget(&mut self, id: CallId) {
        if let Some(Entry::Open { .. }) = self.entries.get(&id) {
            self.entries.remove(&id);
        }
    }

    /// Keeps the place of a request that the upstream was told to stop.
    pub(super) fn cancel(&mut self, id: CallId, cancelled: Cancelled) {
        self.entries.insert(id, Entry::Cancelled(cancelled));
    }

    /// Takes out a cancelled request that the upstream never got.
    pub(super) fn forget_cancelled(&mut self, id: CallId) {
        if let Some(Entry::Cancelled(_)) = self.entries.get(&id) {
            self.entries.remove(&id);
        }
    }

    pub(super) fn cancelled(&self) -> impl Iterator<Item = Cancelled> {
        self.entries.values().filter_map(|entry| match entry {
            Entry::Cancelled(cancelled) => Some(*cancelled),
            Entry::Open { .. } => None,
        })
    }

    /// The only request in flight, if there is no other, not even one that was cancelled and may be
    /// running still: a late message of the one would be shown as the other's.
    pub(super) fn only(&self) -> Option<ExchangeId> {
        let mut ids = self.entries.keys();
        match (ids.next(), ids.next()) {
            (Some(id), None) => self.exchange_of(*id),
            _ => None,
        }
    }

    /// Takes out the cancelled requests whose answer is not expected any more; says whether the server
    /// could ask something for one of them.
    pub(super) fn expire_cancelled(&mut self, now: Instant) -> bool {
        let is_over =
            |entry: &Entry| matches!(entry, Entry::Cancelled(cancelled) if cancelled.until <= now);
        let is_expired = |cancelled: Cancelled| cancelled.until <= now && cancelled.eligible;
        let eligible = self.cancelled().any(is_expired);
        self.entries.retain(|_, entry| !is_over(entry));
        eligible
    }

    /// Cancelled requests that are read on for no longer, once each.
    pub(super) fn releases(&mut self, now: Instant) -> Vec<CallId> {
        let due = self
            .entries
            .iter_mut()
            .filter_map(|(id, entry)| match entry {
                Entry::Cancelled(cancelled) if cancelled.release.is_some_and(|at| at <= now) => {
                    cancelled.release = None;
                    Some(*id)
                }
                _ => None,
            });
        due.collect()
    }

    /// The machine's own requests whose time is over.
    pub(super) fn overdue(&self, now: Instant) -> Vec<(CallId, Purpose)> {
        let overdue = self.entries.iter().filter_map(|(id, entry)| match entry {
            Entry::Open {
                purpose,
                due: Some(due),
            } if *due <= now => Some((*id, purpose.clone())),
            _ => None,
        });
        overdue.collect()
    }

    /// When the first of them is due.
    pub(super) fn due(&self) -> Option<Instant> {
        let due = self.entries.values().filter_map(|entry| match entry {
            Entry::Open { due, .. } => *due,
            Entry::Cancelled(cancelled) => Some(
                cancelled
                    .release
                    .unwrap_or(cancelled.until)
                    .min(cancelled.until),
            ),
        });
        due.min()
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.tokens.clear();
    }
}
