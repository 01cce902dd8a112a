//! Calls to the server that are open, and what each is for.

use std::collections::BTreeMap;
use std::time::Instant;

use super::exchange::ExchangeId;
use crate::bridge::action::CallId;

/// What a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A request of the client.
    Exchange(ExchangeId),
    /// The schemas of the tools.
    Tools,
    /// Changes of the server's lists.
    Lists,
    /// Changes of resources.
    Resources,
    /// It is told something, and nobody waits for the answer.
    Aside {
        /// For longer than this.
        until: Instant,
    },
}

/// The table. Bounded: one for each exchange, one for the tools, one for the lists, those for resources, and
/// those aside, which the caller counts.
#[derive(Debug, Default)]
pub(super) struct Calls {
    open: BTreeMap<CallId, Purpose>,
    last: u64,
}

impl Calls {
    /// An id for a call that nobody looks after.
    pub(super) fn next_id(&mut self) -> CallId {
        self.last += 1;
        CallId(self.last)
    }

    pub(super) fn insert(&mut self, purpose: Purpose) -> CallId {
        let id = self.next_id();
        self.open.insert(id, purpose);
        id
    }

    pub(super) fn get(&self, id: CallId) -> Option<Purpose> {
        self.open.get(&id).copied()
    }

    pub(super) fn remove(&mut self, id: CallId) -> Option<Purpose> {
        self.open.remove(&id)
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn aside(&self) -> usize {
        let aside = |purpose: &&Purpose| matches!(purpose, Purpose::Aside { .. });
        self.open.values().filter(aside).count()
    }

    /// Those aside whose time is over.
    pub(super) fn expired(&self, now: Instant) -> Vec<CallId> {
        let late = |purpose: &Purpose| matches!(purpose, Purpose::Aside { until } if *until <= now);
        let open = self.open.iter().filter(|(_, purpose)| late(purpose));
        open.map(|(id, _)| *id).collect()
    }

    pub(super) fn due(&self) -> Option<Instant> {
        let due = |purpose: &Purpose| match purpose {
            Purpose::Aside { until } => Some(*until),
            _ => None,
        };
        self.open.values().filter_map(due).min()
    }

    /// All of them, taken out.
    pub(super) fn drain(&mut self) -> Vec<CallId> {
        std::mem::take(&mut self.open).into_keys().collect()
    }
}
