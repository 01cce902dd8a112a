//! The calls on a program, by the ids they have there.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::bridge::action::CallId;
use crate::bridge::clock::after;
use crate::bridge::multiplex::listen::Listen;
use crate::bridge::progress::Progress;
use crate::rpc::{Message, RequestId};
use crate::session::Principal;

/// A call that is open.
#[derive(Debug)]
pub(super) struct Call {
    /// The client's own id.
    pub(super) id: RequestId,
    pub(super) principal: Principal,
    pub(super) progress: Option<Progress>,
    /// It asked for log lines, and was written with its level.
    pub(super) logs: bool,
    pub(super) stage: Stage,
    /// `Some`: it is `subscriptions/listen`.
    pub(super) listen: Option<Listen>,
    pub(super) clock: Clock,
}

/// How far a call is.
#[derive(Debug)]
pub(super) enum Stage {
    /// It waits to be written.
    Waiting(Message),
    /// The program has it.
    Written,
}

impl Call {
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.stage, Stage::Waiting(_))
    }

    /// Whether no program has ever got it.
    pub(super) fn is_new(&self) -> bool {
        self.is_waiting()
            && self
                .listen
                .as_ref()
                .is_none_or(|listen| listen.resends == 0)
    }
}

/// The deadlines of a call. Nobody is asked anything in it, so they never stand still.
#[derive(Debug)]
pub(super) struct Clock {
    /// `None`: it may be silent for as long as it likes.
    pub(super) idle_at: Option<Instant>,
    /// `None`: it may go on for as long as it likes.
    pub(super) cap_at: Option<Instant>,
}

impl Clock {
    pub(super) fn idle(&mut self, now: Instant, wait: Duration) -> Instant {
        let at = after(now, wait);
        self.idle_at = Some(at);
        at
    }

    pub(super) fn due(&self) -> Option<Instant> {
        [self.idle_at, self.cap_at].into_iter().flatten().min()
    }
}

/// A place in the table.
#[derive(Debug)]
enum Entry {
    Open(Box<Call>),
    /// The program was told to stop, and may not have stopped yet.
    Cancelled(Cancelled),
}

/// A call that was written and is not wanted any more.
#[derive(Debug)]
pub(super) struct Cancelled {
    pub(super) principal: Principal,
    /// Until then it counts as one that may be running.
    pub(super) until: Instant,
    pub(super) logs: bool,
    pub(super) is_listen: bool,
}

/// The table. Bounded by the limits, which [`Multiplexing::call`](super::Multiplexing::call) checks.
#[derive(Debug, Default)]
pub(super) struct Calls {
    entries: BTreeMap<CallId, Entry>,
    listens: usize,
    /// What of them each principal has that has a name.
    each: HashMap<Arc<str>, Count>,
    last: u64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    listens: usize,
    others: usize,
}

impl Count {
    fn of(&mut self, is_listen: bool) -> &mut usize {
        match is_listen {
            true => &mut self.listens,
            false => &mut self.others,
        }
    }
}

impl Calls {
    pub(super) fn insert(&mut self, call: Call) -> CallId {
        self.last += 1;
        let id = CallId(self.last);
        self.count_in(&call.principal, call.listen.is_some());
        self.entries.insert(id, Entry::Open(Box::new(call)));
        id
    }

    /// Listens, and everything else.
    pub(super) fn len(&self) -> (usize, usize) {
        (self.listens, self.entries.len() - self.listens)
    }

    /// Listens, or everything else, of one principal. Who has no name is told from nobody, and has none here.
    pub(super) fn len_of(&self, principal: &Principal, is_listen: bool) -> usize {
        let each = match principal {
            Principal::Named(name) => self.each.get(name).copied(),
            Principal::Anonymous => None,
        };
        *each.unwrap_or_default().of(is_listen)
    }

    fn count_in(&mut self, principal: &Principal, is_listen: bool) {
        self.listens += usize::from(is_listen);
        if let Principal::Named(name) = principal {
            *self.each.entry(Arc::clone(name)).or_default().of(is_listen) += 1;
        }
    }

    fn count_out(&mut self, principal: &Principal, is_listen: bool) {
        self.listens -= usize::from(is_listen);
        if let Principal::Named(name) = principal
            && let Some(own) = self.each.get_mut(name)
        {
            *own.of(is_listen) -= 1;
            if own.listens + own.others == 0 {
                self.each.remove(name);
            }
        }
    }

    pub(super) fn get(&self, id: CallId) -> Option<&Call> {
        match self.entries.get(&id)? {
            Entry::Open(call) => Some(call),
            Entry::Cancelled(_) => None,
        }
    }

    pub(super) fn get_mut(&mut self, id: CallId) -> Option<&mut Call> {
        match self.entries.get_mut(&id)? {
            Entry::Open(call) => Some(call),
            Entry::Cancelled(_) => None,
        }
    }

    /// Takes out an open call.
    pub(super) fn remove(&mut self, id: CallId) -> Option<Call> {
        self.get(id)?;
        let Entry::Open(call) = self.entries.remove(&id)? else {
            return None; // Unreachable: it is open.
        };
        self.count_out(&call.principal, call.listen.is_some());
        Some(*call)
    }

    /// Keeps the place of a call that was taken out, until the program answers it.
    pub(super) fn keep_cancelled(&mut self, id: CallId, call: Cancelled) {
        self.count_in(&call.principal, call.is_listen);
        self.entries.insert(id, Entry::Cancelled(call));
    }

    /// Forgets a cancelled call, as its answer is there.
    pub(super) fn forget_cancelled(&mut self, id: CallId) {
        if !matches!(self.entries.get(&id), Some(Entry::Cancelled(_))) {
            return;
        }
        if let Some(Entry::Cancelled(call)) = self.entries.remove(&id) {
            self.count_out(&call.principal, call.is_listen);
        }
    }

    /// Forgets the cancelled calls that no answer is expected to after `now`; all of them, without it.
    pub(super) fn forget_expired(&mut self, now: Option<Instant>) {
        let is_over = |until: Instant| now.is_none_or(|now| until <= now);
        let over = self.entries.iter().filter_map(|(id, entry)| match entry {
            Entry::Cancelled(call) if is_over(call.until) => Some(*id),
            _ => None,
        });
        for id in over.collect::<Vec<_>>() {
            self.forget_cancelled(id);
        }
    }

    /// Ids of the open calls that `wanted` picks, oldest first.
    pub(super) fn ids(&self, wanted: impl Fn(&Call) -> bool) -> Vec<CallId> {
        let open = self.entries.iter().filter_map(|(id, entry)| match entry {
            Entry::Open(call) => Some((*id, call)),
            Entry::Cancelled(_) => None,
        });
        let open = open.filter(|(_, call)| wanted(call));
        open.map(|(id, _)| id).collect()
    }

    /// The only call that asked for log lines, if there is no other, not even a cancelled one that may be
    /// running still: a late line of the one would be shown to the other.
    pub(super) fn only_with_logs(&self) -> Option<CallId> {
        let logs = |entry: &Entry| match entry {
            Entry::Open(call) => call.logs,
            Entry::Cancelled(call) => call.logs,
        };
        let mut asked = self.entries.iter().filter(|(_, entry)| logs(entry));
        match (asked.next(), asked.next()) {
            (Some((id, Entry::Open(_))), None) => Some(*id),
            _ => None,
        }
    }

    /// When the first of them is due.
    pub(super) fn due(&self) -> Option<Instant> {
        let due = |entry: &Entry| match entry {
            Entry::Open(call) => call.clock.due(),
            Entry::Cancelled(call) => Some(call.until),
        };
        self.entries.values().filter_map(due).min()
    }
}
