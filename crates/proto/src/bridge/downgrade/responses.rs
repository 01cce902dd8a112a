//! The upstream's answers.

use std::time::Instant;

use crate::bridge::association::call_of;
use crate::bridge::downgrade::calls::Purpose;
use crate::bridge::downgrade::exchange::{Exchange, State};
use crate::bridge::downgrade::reply::{Failure, Outcome};
use crate::bridge::downgrade::{Action, Downgrading, ExchangeId};
use crate::rpc::{Kind, Message};

impl Downgrading {
    pub(super) fn upstream_response(&mut self, message: &Message, now: Instant) {
        let id = message.id().and_then(call_of);
        let answered = id.and_then(|id| Some((id, self.calls.answered(id)?)));
        let Some((id, answered)) = answered else {
            self.dropped.responses += 1;
            return;
        };
        let Ok(purpose) = answered else {
            self.dropped.responses += 1;
            self.cancelled_task(message, now);
            return;
        };
        match purpose {
            Purpose::Initialize => self.initialized(message),
            Purpose::Run(exchange) => self.ran(exchange, message, now),
            Purpose::Level => self.levels.settled(id),
            Purpose::Subscribe(uri) => {
                self.subscribed(&uri, message.kind() == Kind::Response, now);
            }
            Purpose::Unsubscribe(uri) => self.unsubscribed(&uri, now),
            Purpose::Tools => self.tools_listed(message, now),
            Purpose::Nothing => {}
        }
    }

    /// The call that runs an exchange was answered: it is over, or goes on with another call.
    fn ran(&mut self, id: ExchangeId, message: &Message, now: Instant) {
        if self.goes_on_as_task(id, message) {
            return;
        }
        match self.next_page(id, message) {
            Ok(true) => {}
            Ok(false) => self.conclude(id, Outcome::Answered(message.clone()), now),
            Err(outcome) => self.conclude(id, outcome, now),
        }
    }

    /// An exchange is over: its client gets the outcome, or it is held for the client's retry. Its call
    /// is not open any more.
    pub(super) fn conclude(&mut self, id: ExchangeId, outcome: Outcome, now: Instant) {
        let Some(exchange) = self.exchanges.remove(&id) else {
            return;
        };
        if let Some(running) = exchange.state.running() {
            self.calls.forget_token(running.token);
        }
        let Exchange { state, method, .. } = exchange;
        let exchange = match state {
            State::Waiting(waiting) => {
                self.attachments.remove(&waiting.client.attachment);
                return self.answer(id, &method, &waiting.client, &outcome, now);
            }
            State::Active { client, .. } => {
                self.attachments.remove(&client.attachment);
                return self.answer(id, &method, &client, &outcome, now);
            }
            State::Collecting {
                client,
                mut questions,
                ..
            } => {
                self.attachments.remove(&client.attachment);
                self.answer(id, &method, &client, &outcome, now);
                return self.refuse_all(&mut questions, "the request is over");
            }
            State::Parked {
                parked,
                mut questions,
                ..
            } => {
                self.refuse_all(&mut questions, "the request is over");
                let outcome = self.held(outcome);
                let state = State::Held { parked, outcome };
                Exchange {
                    state,
                    method,
                    ..exchange
                }
            }
            // It has its outcome already.
            state @ State::Held { .. } => Exchange {
                state,
                method,
                ..exchange
            },
        };
        self.put_back(id, exchange, now);
    }

    /// An outcome that may be held.
    fn held(&self, outcome: Outcome) -> Outcome {
        let limit = self.config.limits.held;
        if outcome.len() <= limit {
            return outcome;
        }
        let text = format!("the result came while the client was asked, and is over {limit} bytes");
        Outcome::Failed(Failure::internal(502, "result_too_large", &text))
    }

    /// An exchange that was parked is forgotten.
    pub(super) fn unpark(&mut self, id: ExchangeId) {
        self.actions.push_back(Action::Unparked(id));
    }
}
