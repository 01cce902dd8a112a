//! What an upstream session keeps: its machine, its clients, and what waits to be delivered.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use thinpipe_proto::bridge::{CallId, Delivery, End, MemberId};
use thinpipe_proto::rpc::RequestId;

use super::Member;
use super::machine::{Machine, Next};
use super::row::Row;

/// What waits to be delivered, from which on what was read waits, too. One message to many clients is many.
const MAX_DELIVERIES: usize = 64;

/// The changing part of one.
pub(super) struct State {
    pub(super) machine: Machine,
    /// What one message made the machine say: the next one is read when this is out.
    pub(super) deliveries: VecDeque<Step>,
    pub(super) is_delivering: bool,
    /// Whether the client of calls can be told what belongs to no request.
    pub(super) is_listening: bool,
    /// Whether the server's standalone stream is wanted.
    pub(super) wants_stream: bool,
    /// Whether it ever was.
    pub(super) listens: bool,
    /// The session is to go on over another pipe.
    pub(super) leaving: Option<Leaving>,
    /// Calls whose client has left their stream, and since when. No more than are open.
    pub(super) left: HashMap<(MemberId, RequestId), Instant>,
    /// Requests whose streams nobody reads any more.
    pub(super) released: Vec<CallId>,
    pub(super) members: BTreeMap<MemberId, Arc<Member>>,
    pub(super) next_member: u64,
    /// What the timer waits for.
    pub(super) armed: Option<Instant>,
    /// Since when a shared session has no client.
    pub(super) idle_since: Option<Instant>,
    pub(super) end: Option<End>,
}

/// A session that leaves its pipe.
pub(super) struct Leaving {
    /// Messages that did not run, and are sent over the next one: no more than were on their way at one time.
    pub(super) unsent: Vec<Write>,
    /// The replica that knows the session as well. `None`: the server has forgotten it, and it is opened again.
    pub(super) to: Option<usize>,
}

/// A message on its way up.
#[derive(Clone)]
pub(super) struct Write {
    pub(super) message: Bytes,
    pub(super) call: Option<CallId>,
    /// Those of the client's message that it is, where messages have headers.
    pub(super) headers: Option<HeaderMap>,
    /// The server itself has brought it about.
    pub(super) is_owed: bool,
}

/// What is next on the way down.
pub(super) enum Step {
    Deliver(Delivery),
    /// Has found no room yet.
    Say(Row),
    Finish(MemberId, RequestId),
}

impl Step {
    /// The client's request that it is about.
    pub(super) fn related(&self) -> Option<&RequestId> {
        match self {
            Self::Deliver(delivery) => delivery.related.as_ref(),
            Self::Say(row) => Some(row.request()),
            Self::Finish(_, request) => Some(request),
        }
    }

    /// The client's request that is over with it.
    pub(super) fn ends(&self) -> Option<&RequestId> {
        match self {
            Self::Deliver(delivery) if !delivery.is_last() => None,
            Self::Say(_) => None,
            Self::Deliver(_) | Self::Finish(..) => self.related(),
        }
    }

    pub(super) fn member(&self) -> MemberId {
        match self {
            Self::Deliver(delivery) => delivery.member,
            Self::Say(row) => row.member(),
            Self::Finish(member, _) => *member,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Deliver(delivery) => delivery.message.len(),
            Self::Say(row) => row.bytes(),
            Self::Finish(..) => 0,
        }
    }
}

impl State {
    /// Until when it is kept though nobody uses it, if nobody does.
    pub(super) fn idle_until(&self, idle: Duration) -> Option<Instant> {
        self.idle_since?.checked_add(idle)
    }

    /// What is delivered next, if anything waits.
    pub(super) fn next_step(&mut self) -> Option<Step> {
        let step = self.deliveries.pop_front()?;
        self.is_delivering = true;
        Some(step)
    }

    /// Whether what waits, together with these, has to be delivered, or answered, before more is looked at.
    pub(super) fn is_full(&self, steps: &VecDeque<Step>) -> bool {
        steps.len() + self.deliveries.len() >= MAX_DELIVERIES || !self.machine.may_say_more()
    }

    pub(super) fn take_actions(&mut self) {
        while let Some(next) = self.machine.next() {
            match next {
                Next::Nothing | Next::Up => {}
                Next::Down(step) => self.deliveries.push_back(step),
                Next::Released(call) => self.released.push(call),
                Next::Over(end) => self.end = Some(end),
            }
        }
    }
}
