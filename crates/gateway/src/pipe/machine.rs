//! What decides about the messages of an upstream session, and what waits to go up.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;
use thinpipe_proto::bridge::upgrade::{self, Call, Upgrading};
use thinpipe_proto::bridge::{
    Action, AttachError, CallId, Delivery, Dropped, End, MemberId, Nature, Reframing, Refused,
};
use thinpipe_proto::rpc::{Kind, Message, RequestId};
use thinpipe_proto::session::Principal;
use thinpipe_transport::ByteBudget;

use super::owed::is_too_much_owed;
use super::{Step, Write};
use crate::clock::now;
use crate::failure::Failure;

/// Messages of clients that wait to be written. Beyond, their handlers wait.
const MAX_WAITING: usize = 64;

/// Bytes of them, one message more not counted.
const MAX_WAITING_BYTES: usize = 1 << 20;

/// The machine of a session.
pub(super) enum Machine {
    /// Both sides speak one revision, and the server has a pipe.
    Reframing(Box<Reframing>, Writes),
    /// The server is one of 2026-07-28, and is called.
    Upgrading(Box<Upgrading>, Box<Calls>),
}

/// What waits to be written.
#[derive(Default)]
pub(super) struct Writes {
    queue: VecDeque<Write>,
    bytes: usize,
}

/// What waits to be called.
pub(super) struct Calls {
    /// Name of the upstream.
    upstream: Arc<str>,
    /// For what waits until its client takes it.
    budget: ByteBudget,
    queue: VecDeque<CallStep>,
    /// Headers of the client's requests that are open.
    headers: HashMap<RequestId, HeaderMap>,
    /// Those of what the gateway itself asks.
    own: HeaderMap,
    /// How much of what is said about each request, or about none, is not delivered yet.
    undelivered: HashMap<Option<RequestId>, usize>,
    /// Notifications found no room, and were dropped.
    has_dropped: bool,
}

/// What is next about calls.
pub(super) enum CallStep {
    Open(Call, HeaderMap),
    Close(CallId),
    /// What the server speaks is in doubt.
    Doubt,
}

/// What becomes of a message that waits until its client takes it.
enum Kept {
    Here(Delivery),
    /// Nobody waits for it.
    Dropped,
    /// There is no room for this question.
    NotAsked(RequestId, Failure),
}

/// What one action of the machine comes to.
pub(super) enum Next {
    /// Nobody hears of it.
    Nothing,
    /// It waits to go up.
    Up,
    /// It goes to a client.
    Down(Step),
    /// The stream of this request need not be read any more.
    Released(CallId),
    /// The session is over.
    Over(End),
}

impl Machine {
    /// What its client has not taken yet is held within the budget.
    pub(super) fn called(
        machine: Upgrading,
        own: HeaderMap,
        (upstream, budget): (Arc<str>, ByteBudget),
    ) -> Self {
        let calls = Calls {
            upstream,
            budget,
            queue: VecDeque::new(),
            headers: HashMap::new(),
            own,
            undelivered: HashMap::new(),
            has_dropped: false,
        };
        Self::Upgrading(Box::new(machine), Box::new(calls))
    }

    pub(super) fn attach(
        &mut self,
        member: MemberId,
        principal: &Principal,
    ) -> Result<(), AttachError> {
        match self {
            Self::Reframing(machine, _) => machine.attach_of(member, principal),
            Self::Upgrading(machine, _) if machine.is_over() => Err(AttachError::Over),
            Self::Upgrading(machine, _) if machine.config().member == member => Ok(()),
            Self::Upgrading(..) => Err(AttachError::Full { limit: 1 }),
        }
    }

    /// A message of a client; its headers are kept for as long as it may need them.
    pub(super) fn client(
        &mut self,
        member: MemberId,
        message: &Message,
        headers: &mut Option<HeaderMap>,
        now: Instant,
    ) -> Result<(), Refused> {
        match self {
            Self::Reframing(machine, _) => machine.client(member, message, now),
            Self::Upgrading(machine, calls) => {
                machine.client(message, now)?;
                let request = message.id().filter(|_| message.kind() == Kind::Request);
                if let (Some(id), Some(headers)) = (request, headers.take()) {
                    calls.headers.insert(id.clone(), headers);
                }
                Ok(())
            }
        }
    }

    /// Whether a request of the server with this id waits for the answer of a client.
    pub(super) fn waits_for(&self, member: MemberId, id: &RequestId) -> bool {
        match self {
            Self::Reframing(machine, _) => machine.waits_for(member, id),
            Self::Upgrading(machine, _) => machine.waits_for(id),
        }
    }

    pub(super) fn detach(&mut self, member: MemberId, now: Instant) {
        match self {
            Self::Reframing(machine, _) => machine.detach(member, now),
            Self::Upgrading(machine, _) => machine.detach(),
        }
    }

    pub(super) fn undeliverable(&mut self, member: MemberId, request: &RequestId, now: Instant) {
        match self {
            Self::Reframing(machine, _) => machine.undeliverable(member, request, now),
            Self::Upgrading(machine, _) => machine.undeliverable(request, now),
        }
    }

    pub(super) fn abandon(&mut self, member: MemberId, request: &RequestId, now: Instant) {
        match self {
            Self::Reframing(machine, _) => machine.abandon(member, request, now),
            Self::Upgrading(machine, _) => machine.abandon(request, now),
        }
    }

    /// Something came on the event stream that answers this call.
    pub(super) fn alive(&mut self, call: CallId, now: Instant) {
        match self {
            Self::Reframing(machine, _) => machine.alive(call, now),
            Self::Upgrading(machine, _) => machine.alive(call, now),
        }
    }

    pub(super) fn upstream_lost(&mut self, reason: &str) {
        match self {
            Self::Reframing(machine, _) => machine.upstream_lost(reason),
            Self::Upgrading(machine, _) => machine.upstream_lost(reason),
        }
    }

    pub(super) fn on_timeout(&mut self, now: Instant) {
        match self {
            Self::Reframing(machine, _) => machine.on_timeout(now),
            Self::Upgrading(machine, _) => machine.on_timeout(now),
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Reframing(machine, _) => machine.poll_timeout(),
            Self::Upgrading(machine, _) => machine.poll_timeout(),
        }
    }

    pub(super) fn dropped(&self) -> Dropped {
        match self {
            Self::Reframing(machine, _) => machine.dropped(),
            Self::Upgrading(machine, _) => machine.dropped(),
        }
    }

    /// That of a pipe.
    pub(super) fn reframing(&mut self) -> Option<(&mut Reframing, &mut Writes)> {
        match self {
            Self::Reframing(machine, writes) => Some((machine, writes)),
            Self::Upgrading(..) => None,
        }
    }

    /// That of calls.
    pub(super) fn upgrading(&mut self) -> Option<(&mut Upgrading, &mut Calls)> {
        match self {
            Self::Upgrading(machine, calls) => Some((machine, calls)),
            Self::Reframing(..) => None,
        }
    }

    /// Whether the server may say more. Those that are called answer for themselves.
    pub(super) fn may_say_more(&self) -> bool {
        match self {
            Self::Reframing(_, writes) => writes.may_say_more(),
            Self::Upgrading(..) => true,
        }
    }

    /// How much waits to go up.
    pub(super) fn waiting(&self) -> usize {
        match self {
            Self::Reframing(_, writes) => writes.queue.len(),
            Self::Upgrading(_, calls) => calls.queue.len(),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        match self {
            Self::Reframing(_, writes) => writes.is_full(),
            Self::Upgrading(_, calls) => calls.queue.len() >= MAX_WAITING,
        }
    }

    /// Takes the next action, and queues it if it goes up.
    pub(super) fn next(&mut self) -> Option<Next> {
        match self {
            Self::Reframing(machine, writes) => Some(match machine.poll_action()? {
                Action::Write { message, call } => writes.push(message, call),
                Action::Deliver(delivery) => Next::Down(Step::Deliver(delivery)),
                Action::Finish { member, request } => Next::Down(Step::Finish(member, request)),
                Action::Release(call) => Next::Released(call),
                Action::Close(end) => {
                    if !matches!(end, End::ClientLeft) {
                        *writes = Writes::default();
                    }
                    Next::Over(end)
                }
            }),
            Self::Upgrading(machine, calls) => Some(match machine.poll_action()? {
                upgrade::Action::Call(call) => calls.open(call),
                upgrade::Action::Cancel(call) => calls.close(call),
                upgrade::Action::Doubt => calls.push(CallStep::Doubt),
                upgrade::Action::Deliver(delivery) => match calls.kept(delivery) {
                    Kept::Here(delivery) => calls.deliver(Step::Deliver(delivery)),
                    Kept::Dropped => Next::Nothing,
                    Kept::NotAsked(question, failure) => {
                        let why = (failure.reason.as_str(), &*failure.text);
                        machine.question_failed(&question, why, now());
                        Next::Nothing
                    }
                },
                upgrade::Action::Finish { member, request } => {
                    calls.deliver(Step::Finish(member, request))
                }
                upgrade::Action::Close(end) => Next::Over(end),
            }),
        }
    }
}

impl Writes {
    fn is_full(&self) -> bool {
        self.queue.len() >= MAX_WAITING || self.bytes >= MAX_WAITING_BYTES
    }

    fn push(&mut self, message: Bytes, call: Option<CallId>) -> Next {
        self.bytes += message.len();
        self.queue.push_back(Write {
            message,
            call,
            headers: None,
            is_owed: false,
        });
        Next::Up
    }

    /// One that was taken and not written goes first.
    pub(super) fn put_back(&mut self, write: Write) {
        self.bytes += write.message.len();
        self.queue.push_front(write);
    }

    /// The one at this place, if it is there.
    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut Write> {
        self.queue.get_mut(at)
    }

    /// What was queued from this place on is in answer to something that the server said. Requests are not:
    /// clients have made them.
    pub(super) fn owe(&mut self, from: usize) {
        let answers = self.queue.iter_mut().skip(from);
        answers.for_each(|write| write.is_owed = write.call.is_none());
    }

    /// Whether the server takes the answers to what it said, so that it may say more.
    pub(super) fn may_say_more(&self) -> bool {
        let owed = self.queue.iter().filter(|write| write.is_owed);
        !is_too_much_owed(owed.map(|write| write.message.len()))
    }

    /// The next one; `true`: there is room again.
    pub(super) fn pop(&mut self) -> Option<(Write, bool)> {
        let was_full = self.is_full();
        let write = self.queue.pop_front()?;
        self.bytes -= write.message.len();
        Some((write, was_full && !self.is_full()))
    }
}

impl Calls {
    fn push(&mut self, step: CallStep) -> Next {
        self.queue.push_back(step);
        Next::Up
    }

    fn open(&mut self, call: Call) -> Next {
        let headers = call.request.as_ref().and_then(|id| self.headers.get(id));
        let mut headers = headers.unwrap_or(&self.own).clone();
        for (name, value) in &call.params {
            headers.insert(name, value.clone());
        }
        self.push(CallStep::Open(call, headers))
    }

    /// A call that was not made yet is never made.
    fn close(&mut self, id: CallId) -> Next {
        let before = self.queue.len();
        let is_it = |step: &CallStep| matches!(step, CallStep::Open(call, _) if call.id == id);
        self.queue.retain(|step| !is_it(step));
        if self.queue.len() == before {
            self.queue.push_back(CallStep::Close(id));
        }
        Next::Up
    }

    /// A message for the client, which may take its time: it counts against the budget for as long as it is
    /// anywhere. They are made here, so that what they were made of does not count for them.
    fn kept(&mut self, mut delivery: Delivery) -> Kept {
        let error = match self.budget.hold(Bytes::clone(&delivery.message)) {
            Ok(message) => {
                delivery.message = message.into();
                return Kept::Here(delivery);
            }
            Err(error) => error,
        };
        let failure = Failure::no_room(&error);
        match delivery.nature {
            Nature::Request(question) => Kept::NotAsked(question, failure),
            Nature::Response => {
                let message = failure.message(delivery.related.as_ref(), &self.upstream);
                delivery.message = message.into();
                Kept::Here(delivery)
            }
            Nature::ChangeNotice | Nature::Log | Nature::Notification => {
                // Said once: there may be many of them.
                if !std::mem::replace(&mut self.has_dropped, true) {
                    let upstream = &*self.upstream;
                    tracing::warn!(upstream, %error, "notifications of a session are dropped");
                }
                Kept::Dropped
            }
        }
    }

    fn deliver(&mut self, step: Step) -> Next {
        if let Some(request) = step.ends() {
            self.headers.remove(request);
        }
        *self.undelivered.entry(step.related().cloned()).or_default() += 1;
        Next::Down(step)
    }

    /// The next one; `true`: there is room again.
    pub(super) fn pop(&mut self) -> Option<(CallStep, bool)> {
        let was_full = self.queue.len() >= MAX_WAITING;
        let step = self.queue.pop_front()?;
        Some((step, was_full && self.queue.len() < MAX_WAITING))
    }

    /// Something about this request, or about none, is delivered.
    pub(super) fn delivered(&mut self, about: Option<&RequestId>) {
        let about = about.cloned();
        if let Some(count) = self.undelivered.get_mut(&about) {
            *count -= 1;
            if *count == 0 {
                self.undelivered.remove(&about);
            }
        }
    }

    /// Whether all that was said about this request, or about none, is delivered.
    pub(super) fn is_delivered(&self, about: &Option<RequestId>) -> bool {
        !self.undelivered.contains_key(about)
    }
}

#[cfg(test)]
mod tests;
