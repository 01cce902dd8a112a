//! What the upstream says.

use std::time::Instant;

use bytes::Bytes;

use crate::bridge::Reframing;
use crate::bridge::action::{CallId, MemberId, Nature};
use crate::bridge::association::{call_of, nature_of};
use crate::bridge::call::{Owner, Purpose, Stage};
use crate::bridge::clock::after;
use crate::bridge::limits::MAX_KEPT;
use crate::bridge::notice::cancelled_of;
use crate::bridge::progress::{Progress, call_named};
use crate::bridge::question::{Holds, Question};
use crate::rpc::{Message, RequestId, code, error_response, response};

/// A server request that a client is asked.
struct Asked {
    member: MemberId,
    id: RequestId,
    related: Option<CallId>,
    is_ping: bool,
}

/// The result of `ping`, and of other requests that have none to speak of.
pub(super) const EMPTY: &[u8] = b"{}";

impl Reframing {
    pub(super) fn upstream_response(&mut self, message: &Message, now: Instant) {
        let id = message.id().and_then(call_of);
        let open = id.and_then(|id| Some((id, self.calls.get(id)?)));
        let Some((id, call)) = open.filter(|(_, call)| matches!(call.stage, Stage::Written)) else {
            self.dropped.upstream_responses += 1;
            if let Some(id) = id {
                self.calls.forget_cancelled(id);
            }
            return;
        };
        match call.purpose {
            Purpose::Plain => self.relay_response(id, message),
            Purpose::Initialize => self.initialize_answered(id, message),
            Purpose::Subscribe(_) | Purpose::Unsubscribe(_) | Purpose::Level(_) => {
                self.turn_answered(id, message, now);
            }
        }
    }

    /// Gives a client the upstream's answer.
    pub(super) fn relay_response(&mut self, id: CallId, message: &Message) {
        let Some(call) = self.take_call(id) else {
            return;
        };
        if let Some(owner) = call.owner {
            let answer = message.with_id(&owner.request);
            let answer = self.read_tasks(call.tells, owner.member, message, answer);
            self.answer(owner, answer);
        }
    }

    pub(super) fn upstream_request(
        &mut self,
        message: &Message,
        via: Option<CallId>,
        now: Instant,
    ) {
        let (Some(id), Some(method)) = (message.id(), message.method()) else {
            return; // Unreachable: a request has both.
        };
        if self.questions.is_open(id) {
            // One answer to this id is owed already, and a second would be taken for it.
            self.dropped.server_requests += 1;
            return;
        }
        let related = self.associate(message, via);
        match self.who_answers(id, message, (related, via)) {
            Ok(member) => {
                let asked = Asked {
                    member,
                    id: id.clone(),
                    related,
                    is_ping: method == "ping",
                };
                self.ask(asked, message, now);
            }
            Err(answer) => self.tell_upstream(answer),
        }
    }

    /// Who answers a server request; if nobody, what the upstream is told (protocol notes 5.1,
    /// "Refusing a server request").
    fn who_answers(
        &self,
        id: &RequestId,
        message: &Message,
        (related, via): (Option<CallId>, Option<CallId>),
    ) -> Result<MemberId, Bytes> {
        if self.shared.is_some() && message.method() == Some("ping") {
            return Err(response(id, EMPTY));
        }
        if self.config.declares_nothing() {
            let text = "no client capability is declared on a shared session";
            return Err(error_response(Some(id), code::METHOD_NOT_FOUND, text, None));
        }
        let refused = |text| Err(error_response(Some(id), code::INTERNAL_ERROR, text, None));
        if self.is_too_late(via) {
            return refused("the request it belongs to was cancelled");
        }
        let member = match related.and_then(|call| self.calls.get(call)) {
            Some(call) => call.owner.as_ref().map(|owner| owner.member),
            None => self.only_member(message),
        };
        let Some((member, known)) = member.and_then(|id| Some((id, self.members.get(&id)?))) else {
            return refused(match self.shared {
                Some(_) => "it cannot be told which of several clients is asked",
                None => "there is no client to ask",
            });
        };
        if let Err(undeclared) = known.allows(message) {
            let (code, text) = (undeclared.code(), undeclared.to_string());
            return Err(error_response(Some(id), code, &text, None));
        }
        if self.questions.len() >= self.config.limits.server_requests {
            return refused("too many requests are open at the client");
        }
        if id.as_json().len() > MAX_KEPT {
            return refused("the id is too long");
        }
        Ok(member)
    }

    fn ask(&mut self, asked: Asked, message: &Message, now: Instant) {
        let Asked {
            member,
            id,
            related,
            is_ping,
        } = asked;
        let holds = match related {
            // Nobody has to think about a ping.
            _ if is_ping => Holds::Nothing,
            Some(call) => Holds::Call(call),
            // On a stream of its own, or of somebody's many, it is about none of them.
            None if self.shared.is_some() => Holds::Nothing,
            None => Holds::Below(self.calls.next_id()),
        };
        self.hold(holds, now);
        let due = after(now, self.config.limits.answer);
        self.wake_at(due);
        self.questions.push(Question {
            member,
            id: id.clone(),
            related,
            holds,
            // With a token that nobody can keep, the server gets no progress.
            progress: Progress::asked(message).unwrap_or_default(),
            is_ping,
            due,
        });
        let related = related.and_then(|call| self.request_of(call));
        let nature = Nature::Request(id);
        self.deliver(member, related, message.clone(), nature);
    }

    fn hold(&mut self, holds: Holds, now: Instant) {
        match holds {
            Holds::Nothing => {}
            Holds::Call(id) => {
                if let Some(call) = self.calls.get_mut(id) {
                    call.clock.hold(now);
                }
            }
            Holds::Below(end) => self.calls.below(end).for_each(|call| call.clock.hold(now)),
        }
    }

    /// A server request is not open any more: the clocks it held go on.
    pub(super) fn release(&mut self, holds: Holds, now: Instant) {
        let mut first = None;
        let mut go_on = |call: &mut super::Call| {
            call.clock.release(now);
            let due = call.clock.due();
            first = Some(first.map_or(due, |first: Instant| first.min(due)));
        };
        match holds {
            Holds::Nothing => {}
            Holds::Call(id) => self.calls.get_mut(id).into_iter().for_each(&mut go_on),
            Holds::Below(end) => self.calls.below(end).for_each(&mut go_on),
        }
        if let Some(due) = first {
            self.wake_at(due);
        }
    }

    pub(super) fn upstream_notification(
        &mut self,
        message: &Message,
        via: Option<CallId>,
        now: Instant,
    ) {
        let Some(method) = message.method() else {
            return; // Unreachable: a notification has one.
        };
        match method {
            "notifications/progress" => self.upstream_progress(message, now),
            "notifications/cancelled" => self.upstream_cancels(message, now),
            _ if self.shared.is_some() => self.fan_out(method, message, via),
            _ if self.is_too_late(via) => self.dropped.notifications += 1,
            _ => {
                let related = self.associate(message, via);
                let related = related.and_then(|call| self.request_of(call));
                match self.members.first_key_value() {
                    Some((&member, _)) => {
                        let nature = nature_of(method);
                        self.deliver(member, related, message.clone(), nature);
                    }
                    None => self.dropped.notifications += 1,
                }
            }
        }
    }

    fn upstream_progress(&mut self, message: &Message, now: Instant) {
        match self.progress_for(message, now) {
            Some((Owner { member, request }, message)) => {
                self.deliver(member, Some(request), message, Nature::Notification);
            }
            None => self.dropped.progress += 1,
        }
    }

    /// Who gets this progress, and with which token.
    fn progress_for(&mut self, message: &Message, now: Instant) -> Option<(Owner, Message)> {
        let call = self.calls.get_mut(call_named(message)?)?;
        let progress = call.progress.as_mut()?;
        if matches!(call.stage, Stage::Waiting(_)) {
            return None;
        }
        call.clock.progress(now, &self.config.limits);
        let message = progress.relayed(message)?;
        Some((call.owner.clone()?, message))
    }

    fn upstream_cancels(&mut self, message: &Message, now: Instant) {
        let asked = cancelled_of(message).and_then(|id| self.questions.take(|open| open.id == id));
        let Some(question) = asked else {
            self.dropped.cancellations += 1;
            return;
        };
        self.release(question.holds, now);
        let related = question.related.and_then(|call| self.request_of(call));
        self.deliver(
            question.member,
            related,
            message.clone(),
            Nature::Notification,
        );
    }
}
