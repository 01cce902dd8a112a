//! Retries: a client answers what its exchange was asked.

use std::time::Instant;

use crate::bridge::downgrade::exchange::{Client, Exchange, Parked, Running, State};
use crate::bridge::downgrade::question::Questions;
use crate::bridge::downgrade::{
    Action, AnswerId, Attached, AttachmentId, Downgrading, ExchangeId, RetryError, Ticket, Written,
};
use crate::bridge::progress::Progress;
use crate::bridge::shape::Responses;
use crate::rpc::{Message, error_response, response};

impl Downgrading {
    pub(super) fn take_retry(
        &mut self,
        ticket: Ticket,
        attachment: AttachmentId,
        message: &Message,
        now: Instant,
    ) -> Result<(), RetryError> {
        let id = ticket.exchange;
        let current = self
            .exchanges
            .get(&id)
            .filter(|exchange| exchange.rounds == ticket.round && exchange.state.is_parked())
            .ok_or(RetryError::Stale)?;
        // The caller has refused what is malformed.
        let responses = Responses::of(message).unwrap_or_default();
        if let Some(questions) = current.state.questions() {
            questions.check(&responses)?;
        }
        // With an id or token that cannot be kept, it is no retry that could be served.
        let client = self.client_of(attachment, message);
        let client = client.map_err(|_| RetryError::Stale)?;
        let exchange = self.exchanges.remove(&id).ok_or(RetryError::Stale)?;
        self.actions.push_back(Action::Unparked(id));
        let Exchange { state, .. } = exchange;
        let exchange = Exchange {
            state: match state {
                State::Held { parked, outcome } => {
                    self.forget_attachment(parked.attachment());
                    self.answer(id, &exchange.method, &client, &outcome, now);
                    return Ok(());
                }
                State::Parked {
                    parked,
                    running,
                    questions,
                } => self.go_on((id, client), (parked, running, questions), &responses, now),
                other => other,
            },
            ..exchange
        };
        self.attachments.insert(attachment, Attached::Exchange(id));
        self.put_back(id, exchange, now);
        self.change_level(now);
        Ok(())
    }

    /// The exchange goes on with this client: what it answers is written, what it must not be asked is
    /// refused.
    fn go_on(
        &mut self,
        (id, mut client): (ExchangeId, Client),
        (parked, running, mut questions): (Parked, Running, Questions),
        responses: &Responses,
        now: Instant,
    ) -> State {
        // The message that asked has arrived, whether or not its socket said so yet.
        self.forget_attachment(parked.attachment());
        client.progress = resumed(client.progress, parked.into_progress());
        for (question, answer) in questions.take_answered(responses) {
            let message = response(&question, &answer);
            let again = false;
            let written = Written::Answer(AnswerId {
                exchange: id,
                again,
            });
            self.actions.push_back(Action::Write { message, written });
        }
        let abilities = client.abilities;
        for question in questions.take(|question| !abilities.cover(question.needed)) {
            let text = "the client does not declare the capability for this any more";
            let code = abilities.refusal_code(question.needed);
            let answer = error_response(Some(&question.id), code, text, None);
            self.tell_upstream(answer);
        }
        for question in questions.take_lost() {
            self.refuse(&question.id, "the client did not answer");
        }
        if questions.is_empty() {
            return State::Active { client, running };
        }
        let until = crate::bridge::clock::after(now, self.config.limits.collect);
        State::Collecting {
            client,
            running,
            questions,
            until,
        }
    }

    /// Puts an exchange back whose state changed: its clock stands still while somebody is asked.
    pub(super) fn put_back(&mut self, id: ExchangeId, mut exchange: Exchange, now: Instant) {
        match exchange.state {
            State::Active { .. } | State::Waiting(_) => exchange.clock.release(now),
            _ => exchange.clock.hold_once(now),
        }
        self.wake_at(exchange.due(now));
        self.exchanges.insert(id, exchange);
    }

    pub(super) fn forget_attachment(&mut self, attachment: Option<AttachmentId>) {
        if let Some(attachment) = attachment {
            self.attachments.remove(&attachment);
        }
    }
}

/// Progress of a client that goes on with the token it had rises on; another token starts afresh.
fn resumed(new: Option<Progress>, old: Option<Progress>) -> Option<Progress> {
    match (new, old) {
        (Some(new), Some(old)) if new.token == old.token => Some(old),
        (new, _) => new,
    }
}
