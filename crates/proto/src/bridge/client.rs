//! What clients say.

use std::sync::Arc;
use std::time::Instant;

use crate::bridge::action::{Action, CallId, MemberId};
use crate::bridge::call::{Call, Owner, Purpose, Stage};
use crate::bridge::clock::Clock;
use crate::bridge::limits::{MAX_KEPT, share};
use crate::bridge::notice::{CANCELLED, cancelled_of};
use crate::bridge::progress::{Progress, token_of};
use crate::bridge::refused::Unusable;
use crate::bridge::{Reframing, Refused};
use crate::rpc::{Message, RequestId, splice};

impl Reframing {
    pub(super) fn client_request(
        &mut self,
        member: MemberId,
        message: &Message,
        now: Instant,
    ) -> Result<(), Refused> {
        let (Some(id), Some(method)) = (message.id(), message.method()) else {
            return Ok(()); // Unreachable: a request has both.
        };
        check_length(id.as_json().len())?;
        let Some(known) = self.members.get_mut(&member) else {
            return Err(Refused::Over);
        };
        if known.calls.contains_key(id) {
            return Err(Refused::IdInUse);
        }
        if method != "initialize" && known.early.take(id, now) {
            let request = id.clone();
            self.actions.push_back(Action::Finish { member, request });
            return Ok(());
        }
        if self.shared.is_some() {
            return self.shared_request(member, message, now);
        }
        if method == "initialize" {
            return self.initialize(member, message, now);
        }
        let call = self.open(member, message, Purpose::Plain, now)?;
        self.write(call);
        Ok(())
    }

    /// Takes a request into the tables; it is not written yet.
    pub(super) fn open(
        &mut self,
        member: MemberId,
        message: &Message,
        purpose: Purpose,
        now: Instant,
    ) -> Result<CallId, Refused> {
        let limit = self.config.limits.in_flight;
        if self.calls.len() >= limit {
            return Err(Refused::TooManyInFlight { limit });
        }
        let known = self.members.get(&member);
        let principal = known.and_then(|known| known.principal.clone());
        let limit = share(limit);
        let has_all = |name: &Arc<str>| self.calls.len_of(name) >= limit;
        if principal.as_ref().is_some_and(has_all) {
            return Err(Refused::TooManyOfOne { limit });
        }
        let progress = Progress::asked(message)?;
        let task = match message.method() {
            Some("tasks/result") => {
                check_length(message.param("taskId").map_or(0, |task| task.len()))?;
                message.param_str("taskId")
            }
            _ => None,
        };
        let owner = message.id().map(|id| Owner {
            member,
            request: id.clone(),
        });
        let clock = Clock::start(now, &self.config.limits);
        self.wake_at(clock.due());
        let id = self.calls.insert(Call {
            owner: owner.clone(),
            principal,
            purpose,
            stage: Stage::Waiting(message.clone()),
            progress,
            task,
            tells: self.tells(message),
            clock,
        });
        if let (Some(owner), Some(known)) = (owner, self.members.get_mut(&member)) {
            known.calls.insert(owner.request, id);
        }
        Ok(id)
    }

    pub(super) fn client_notification(
        &mut self,
        member: MemberId,
        message: &Message,
        now: Instant,
    ) {
        match message.method() {
            Some("notifications/cancelled") => self.client_cancels(member, message, now),
            Some("notifications/progress") => {
                let token = token_of(message);
                let progress = token.and_then(|token| self.questions.progress(member, &token));
                if progress.is_some_and(|progress| progress.rises(message)) {
                    self.tell_upstream(message.source().clone());
                } else {
                    self.dropped.progress += 1;
                }
            }
            _ if self.shared.is_some() => self.shared_notification(member, message),
            _ => self.tell_upstream(message.source().clone()),
        }
    }

    fn client_cancels(&mut self, member: MemberId, message: &Message, now: Instant) {
        let id = cancelled_of(message).filter(|id| id.as_json().len() <= MAX_KEPT);
        let known = self.members.get_mut(&member);
        let (Some(id), Some(known)) = (id, known) else {
            self.dropped.cancellations += 1;
            return;
        };
        match known.calls.get(&id).copied() {
            Some(call) => self.give_up(call, Some(message), now),
            None => known.early.remember(id, now),
        }
    }

    pub(super) fn client_response(&mut self, member: MemberId, message: &Message, now: Instant) {
        let asked = message.id().and_then(|id| {
            self.questions
                .take(|question| question.member == member && question.id == *id)
        });
        let Some(question) = asked else {
            self.dropped.client_responses += 1;
            return;
        };
        self.release(question.holds, now);
        // The client may have written the same id in other characters.
        self.tell_upstream(message.with_id(&question.id));
    }
}

/// A client's cancellation, with the id that the request has upstream.
pub(super) fn cancellation(message: &Message, own: &RequestId) -> Option<bytes::Bytes> {
    splice(message.source(), &message.param(CANCELLED)?, own.as_json())
}

/// Whether text of a client may be kept.
pub(super) fn check_length(length: usize) -> Result<(), Unusable> {
    if length > MAX_KEPT {
        return Err(Unusable::TooLong { limit: MAX_KEPT });
    }
    Ok(())
}

/// The resource that a subscription names.
pub(super) fn uri_of(message: &Message) -> Result<String, Unusable> {
    let uri = message.param_str("uri");
    let uri = uri.ok_or(Unusable::InvalidParameter { parameter: "uri" })?;
    check_length(uri.len())?;
    Ok(uri)
}
