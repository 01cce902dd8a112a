//! How requests end without an answer of the upstream, and how the session ends.

use std::time::Instant;

use bytes::Bytes;

use crate::bridge::action::{Action, CallId, End, MemberId, Nature};
use crate::bridge::call::{Owner, Purpose, Stage};
use crate::bridge::client::cancellation;
use crate::bridge::clock::after;
use crate::bridge::downgrade::Channel;
use crate::bridge::limits::CANCELLED_AGE;
use crate::bridge::notice::cancelled;
use crate::bridge::question::Question;
use crate::bridge::refused::gateway_error;
use crate::bridge::shared::Outcome;
use crate::bridge::upstream::EMPTY;
use crate::bridge::{Message, Reframing, Sharing};
use crate::rpc::{code, error_response, response};

/// `data.reason` of requests whose upstream went (protocol notes 4.7).
const LOST: &str = "upstream_stream_lost";
/// `data.reason` of requests whose time is over.
const TIMEOUT: &str = "upstream_timeout";

impl Reframing {
    /// The client does not want a request any more: it said so in `notice`, or cannot.
    pub(super) fn give_up(&mut self, id: CallId, notice: Option<&Message>, now: Instant) {
        let Some(call) = self.calls.get(id) else {
            return;
        };
        let owner = match call.purpose {
            Purpose::Initialize => {
                self.dropped.cancellations += 1;
                return;
            }
            Purpose::Plain => {
                let own = notice.and_then(|notice| cancellation(notice, &id.to_request_id()));
                let why = "the client cannot take the answer any more";
                self.cancel(id, own, why, now)
            }
            _ => self.disown(id),
        };
        if let Some(Owner { member, request }) = owner {
            self.actions.push_back(Action::Finish { member, request });
        }
    }

    /// Stops a request: not written yet, it is never written; else the upstream is told. What the
    /// server asked for its sake is refused, and withdrawn at the client. Returns whose it was.
    fn cancel(
        &mut self,
        id: CallId,
        notice: Option<Bytes>,
        why: &str,
        now: Instant,
    ) -> Option<Owner> {
        // A ping is on its stream, and not for its sake.
        let of = |question: &Question| question.related == Some(id) && !question.is_ping;
        while let Some(question) = self.questions.take(of) {
            self.withdraw(&question, "the request it belongs to was cancelled", now);
        }
        let call = self.take_call(id)?;
        if matches!(call.stage, Stage::Written) {
            let notice = notice.unwrap_or_else(|| cancelled(&id.to_request_id(), why));
            self.tell_upstream(notice);
            let until = after(now, CANCELLED_AGE);
            self.calls.keep_cancelled(id, until, call.principal);
            self.wake_at(until);
        }
        call.owner
    }

    /// Nobody waits for a request any more whose outcome the machine must know: it goes on without
    /// its client. Not written yet, it is forgotten. Returns whose it was.
    fn disown(&mut self, id: CallId) -> Option<Owner> {
        let call = self.calls.get_mut(id)?;
        if matches!(call.stage, Stage::Waiting(_)) {
            let call = self.take_call(id)?;
            if let Some(shared) = &mut self.shared {
                shared.forget(id, &call.purpose);
            }
            return call.owner;
        }
        call.progress = None;
        let owner = call.owner.take()?;
        if let Some(member) = self.members.get_mut(&owner.member) {
            member.calls.remove(&owner.request);
        }
        Some(owner)
    }

    /// Refuses a server request, and tells the client that nobody waits for its answer.
    fn withdraw(&mut self, question: &Question, why: &str, now: Instant) {
        self.refuse(question, why, now);
        let related = question.related.and_then(|call| self.request_of(call));
        let message = cancelled(&question.id, why);
        self.deliver(question.member, related, message, Nature::Notification);
    }

    fn refuse(&mut self, question: &Question, why: &str, now: Instant) {
        self.release(question.holds, now);
        let answer = error_response(Some(&question.id), code::INTERNAL_ERROR, why, None);
        self.tell_upstream(answer);
    }

    /// No stream of the client takes a server request.
    pub(super) fn unreached(&mut self, question: &Question, now: Instant) {
        if question.is_ping {
            self.release(question.holds, now);
            self.tell_upstream(response(&question.id, EMPTY));
        } else {
            self.refuse(question, "client not reachable", now);
        }
    }

    /// A client session is over.
    pub(super) fn leave(&mut self, member: MemberId, now: Instant) {
        while let Some(question) = self.questions.take(|q| q.member == member) {
            self.refuse(&question, "the client's session is over", now);
        }
        let of = |owner: &Owner| owner.member == member;
        for id in self.calls.ids(|call| call.owner.as_ref().is_some_and(of)) {
            let purpose = self.calls.get(id).map(|call| &call.purpose);
            match purpose {
                Some(Purpose::Plain) => self.cancel(id, None, "the client's session is over", now),
                _ => self.disown(id),
            };
        }
        self.members.remove(&member);
        if self.shared.is_some() {
            self.forget_tasks(member);
            self.unsubscribe_all(member, now);
            self.close_if_murky();
        } else {
            self.close(End::ClientLeft);
        }
    }

    /// Nobody may use it any more, and nobody does.
    fn close_if_murky(&mut self) {
        let is_murky = self.shared.as_ref().is_some_and(|shared| shared.is_murky);
        if is_murky && self.members.is_empty() {
            self.end("nobody uses it", End::Idle);
        }
    }

    /// Cancelled requests of which no answer is expected any more.
    fn forget_cancelled(&mut self, now: Instant) {
        let expired = self.calls.forget_expired(now);
        if expired.is_empty() {
            return;
        }
        if self.config.channel == Channel::Streams {
            let released = expired.into_iter().map(Action::Release);
            self.actions.extend(released);
        } else if self.config.sharing == Sharing::Pooled
            && let Some(shared) = &mut self.shared
        {
            shared.is_murky = true;
        }
        self.close_if_murky();
    }

    /// Writing a request failed.
    pub(super) fn fail_call(&mut self, id: CallId, reason: &str, text: &str, now: Instant) {
        let Some(call) = self.calls.get(id) else {
            return;
        };
        match call.purpose {
            Purpose::Plain => self.answer_error(id, reason, text),
            Purpose::Initialize => {
                self.answer_error(id, reason, text);
                self.initialize_failed(reason, text);
            }
            _ => {
                let purpose = call.purpose.clone();
                self.answer_error(id, reason, text);
                self.turn_over(id, &purpose, None, Outcome::NotDone, now);
            }
        }
    }

    /// Answers a request with an error of the gateway's own.
    pub(super) fn answer_error(&mut self, id: CallId, reason: &str, text: &str) {
        if let Some(owner) = self.take_call(id).and_then(|call| call.owner) {
            let code = code::INTERNAL_ERROR;
            let upstream = &self.config.upstream;
            let answer = gateway_error(&owner.request, code, text, reason, upstream);
            self.answer(owner, answer);
        }
    }

    /// Does what is due.
    pub(super) fn expire(&mut self, now: Instant) {
        self.forget_cancelled(now);
        while let Some(question) = self.questions.take(|q| q.due <= now) {
            self.withdraw(&question, "the client did not answer in time", now);
        }
        for id in self.calls.ids(|call| call.clock.due() <= now) {
            self.time_out(id, now);
        }
        let due = [self.calls.due(), self.questions.due()];
        self.wake = due.into_iter().flatten().min();
    }

    /// The time of a request is over.
    fn time_out(&mut self, id: CallId, now: Instant) {
        let Some(call) = self.calls.get(id) else {
            return;
        };
        let text = match call.stage {
            Stage::Waiting(_) => "the upstream was busy for too long; the request was not sent",
            Stage::Written => "the upstream did not answer in time; the call may have run",
        };
        match call.purpose {
            Purpose::Plain => {
                if let Some(owner) = self.cancel(id, None, "it took too long", now) {
                    let code = code::INTERNAL_ERROR;
                    let upstream = &self.config.upstream;
                    let answer = gateway_error(&owner.request, code, text, TIMEOUT, upstream);
                    self.answer(owner, answer);
                }
            }
            Purpose::Initialize => {
                self.answer_error(id, TIMEOUT, text);
                self.end(
                    "initialize was not answered in time",
                    End::InitializeUnanswered,
                );
            }
            _ => {
                let (purpose, waiting) = (call.purpose.clone(), call.is_waiting());
                let member = call.owner.as_ref().map(|owner| owner.member);
                self.answer_error(id, TIMEOUT, text);
                match (waiting, &mut self.shared) {
                    (true, Some(shared)) => shared.forget(id, &purpose),
                    _ => self.turn_over(id, &purpose, member, Outcome::Unknown, now),
                }
            }
        }
    }

    /// Answers what is in flight, and ends the session.
    pub(super) fn end(&mut self, why: &str, end: End) {
        for id in self.calls.ids(|_| true) {
            let fate = match self.calls.get(id) {
                Some(call) if call.is_waiting() => "the request was not sent",
                _ => "the call may have run",
            };
            self.answer_error(id, LOST, &format!("{why}; {fate}"));
        }
        self.close(end);
    }

    /// Ends the session, and leaves nothing behind.
    fn close(&mut self, end: End) {
        self.over = true;
        self.members.clear();
        self.calls.clear();
        self.questions.clear();
        self.shared = None;
        self.wake = None;
        self.actions.push_back(Action::Close(end));
    }
}
