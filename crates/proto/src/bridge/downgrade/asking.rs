//! The server's requests, and the rounds in which clients are asked (protocol notes 5.4.2).

use std::time::Instant;

use crate::bridge::CallId;
use crate::bridge::capabilities::Undeclared;
use crate::bridge::clock::after;
use crate::bridge::downgrade::ability::Abilities;
use crate::bridge::downgrade::exchange::{Exchange, Parked, Receipt, State};
use crate::bridge::downgrade::question::{Question, Questions};
use crate::bridge::downgrade::reply::Failure;
use crate::bridge::downgrade::{
    Attached, AttachmentId, Channel, Content, Downgrading, ExchangeId, InputRequired, Lifetime,
    MAX_ROUNDS, Ticket,
};
use crate::bridge::limits::MAX_KEPT;
use crate::bridge::refused::gateway_error;
use crate::bridge::upstream::EMPTY;
use crate::rpc::{Message, RequestId, code, error_response, response};

/// What a server request is refused with.
#[derive(Debug)]
struct Refusal {
    code: i32,
    text: String,
}

impl Refusal {
    fn internal(text: &str) -> Self {
        Self {
            code: code::INTERNAL_ERROR,
            text: text.to_owned(),
        }
    }
}

impl From<Undeclared> for Refusal {
    fn from(undeclared: Undeclared) -> Self {
        Self {
            code: undeclared.code(),
            text: undeclared.to_string(),
        }
    }
}

impl Downgrading {
    pub(super) fn upstream_request(
        &mut self,
        message: &Message,
        via: Option<CallId>,
        now: Instant,
    ) {
        let (Some(id), Some(method)) = (message.id(), message.method()) else {
            return; // Unreachable: a request has both.
        };
        if self.asked_by(id).is_some() {
            // One answer to this id is owed already, and a second would be taken for it.
            self.dropped.server_requests += 1;
            return;
        }
        if id.as_json().len() > MAX_KEPT {
            // Its answer would have to be as long.
            self.dropped.server_requests += 1;
            return;
        }
        if method == "ping" {
            return self.tell_upstream(response(id, EMPTY));
        }
        if let Err(Refusal { code, text }) = self.asked(message, id, via, now) {
            self.tell_upstream(error_response(Some(id), code, &text, None));
        }
    }

    /// The exchange in which a server request with this id is open.
    fn asked_by(&self, id: &RequestId) -> Option<ExchangeId> {
        let mut exchanges = self.exchanges.iter();
        let found = exchanges.find(|(_, exchange)| {
            let questions = exchange.state.questions();
            questions.is_some_and(|questions| questions.has(id))
        });
        found.map(|(id, _)| *id)
    }

    fn asked(
        &mut self,
        message: &Message,
        id: &RequestId,
        via: Option<CallId>,
        now: Instant,
    ) -> Result<(), Refusal> {
        self.offered.needed_for(message)?;
        let nobody = || Refusal::internal("no client request in progress");
        let asks = self.whose(message, via).ok_or_else(nobody)?;
        let exchange = self.exchanges.get(&asks).ok_or_else(nobody)?;
        let needed = self.check_question(exchange, message, id)?;
        let (key, client) = (exchange.keys + 1, exchange.state.abilities());
        let question = Question::new(message, id.clone(), key, needed, client)?;
        let Some(mut exchange) = self.exchanges.remove(&asks) else {
            return Ok(()); // Unreachable: it was just there.
        };
        exchange.keys = key;
        exchange.state = self.with_question(exchange.state, question, now);
        let is_full = matches!(&exchange.state,
            State::Collecting { questions, .. } if questions.is_full());
        self.put_back(asks, exchange, now);
        if is_full {
            self.ask(asks, now);
        }
        Ok(())
    }

    /// Whose client a server request is for: protocol notes 5.1, "Association", and 5.4.2.
    fn whose(&self, message: &Message, via: Option<CallId>) -> Option<ExchangeId> {
        let named = self
            .of_task(message)
            .or_else(|| via.and_then(|via| self.calls.exchange_of(via)));
        let is_eligible = |id: &ExchangeId| self.is_eligible(*id);
        if named.is_some() || via.is_some() || self.names_task(message) {
            return named.filter(is_eligible);
        }
        if self.config.lifetime == Lifetime::Shared || self.calls.cancelled().next().is_some() {
            return None;
        }
        let mut eligible = self.eligible().filter(|id| {
            self.exchanges
                .get(id)
                .is_some_and(|exchange| exchange.state.running().is_some())
        });
        eligible.next().filter(|_| eligible.next().is_none())
    }

    /// Whether this exchange may take one more question; what that needs.
    fn check_question(
        &self,
        exchange: &Exchange,
        message: &Message,
        id: &RequestId,
    ) -> Result<Abilities, Refusal> {
        let refused = |text| Err(Refusal::internal(text));
        let needed = exchange.state.abilities().needed_for(message)?;
        let size = message.params_len();
        let limits = &self.config.limits;
        match &exchange.state {
            State::Active { .. } if size <= limits.shown => Ok(needed),
            State::Collecting { questions, .. }
                if !questions.is_full() && questions.size() + size <= limits.shown =>
            {
                Ok(needed)
            }
            State::Parked { questions, .. }
                if !questions.is_full()
                    && questions.size() + size + id.as_json().len() <= limits.kept =>
            {
                Ok(needed)
            }
            State::Waiting(_) | State::Held { .. } => refused("no client request in progress"),
            _ => refused("too much is asked of the client already"),
        }
    }

    fn with_question(&self, mut state: State, question: Question, now: Instant) -> State {
        if let Some(questions) = state.questions_mut() {
            questions.push(question);
            return state;
        }
        match state {
            State::Active {
                client,
                mut running,
            } => {
                // It has run far enough to ask: it is never run again.
                running.original = None;
                let questions = Questions::of(question);
                let until = after(now, self.config.limits.collect);
                State::Collecting {
                    client,
                    running,
                    questions,
                    until,
                }
            }
            other => other,
        }
    }

    /// Asks the client for what was collected.
    pub(super) fn ask(&mut self, id: ExchangeId, now: Instant) {
        let rounds = self
            .exchanges
            .get(&id)
            .map_or(0, |exchange| exchange.rounds);
        if rounds >= MAX_ROUNDS {
            let text = format!("the server asked for input in more than {MAX_ROUNDS} rounds");
            let failure = Failure::internal(200, "mrtr_rounds_exceeded", &text);
            return self.fail(id, failure, now);
        }
        let Some(mut exchange) = self.exchanges.remove(&id) else {
            return;
        };
        exchange.state = match exchange.state {
            State::Collecting {
                client,
                running,
                mut questions,
                ..
            } => {
                exchange.rounds += 1;
                let input = InputRequired {
                    ticket: Ticket {
                        exchange: id,
                        round: exchange.rounds,
                    },
                    id: client.id.clone(),
                    requests: questions.show(self.config.limits.kept),
                    server_info: self.server_info(),
                };
                self.deliver(client.attachment, Content::InputRequired(input));
                let abilities = client.abilities;
                let parked = Parked {
                    due: after(now, self.config.limits.parked_age),
                    receipt: Receipt::Pending(client),
                    abilities,
                };
                State::Parked {
                    parked,
                    running,
                    questions,
                }
            }
            other => other,
        };
        self.put_back(id, exchange, now);
    }

    /// The message that asks was handed out on this POST.
    pub(super) fn receipt(&mut self, attachment: AttachmentId) {
        let Some(id) = self.attached(attachment) else {
            return;
        };
        let exchange = self.exchanges.get_mut(&id);
        let Some(State::Parked { parked, .. } | State::Held { parked, .. }) =
            exchange.map(|exchange| &mut exchange.state)
        else {
            return;
        };
        if let Receipt::Pending(client) = &mut parked.receipt {
            let progress = client.progress.take();
            parked.receipt = Receipt::Given { progress };
            self.attachments.remove(&attachment);
        }
    }

    /// The exchange that a POST carries.
    fn attached(&self, attachment: AttachmentId) -> Option<ExchangeId> {
        match self.attachments.get(&attachment)? {
            Attached::Exchange(id) => Some(*id),
            Attached::Listen => None,
        }
    }

    /// A round cannot be shown: its exchange goes on with its POST.
    pub(super) fn refuse_round(
        &mut self,
        ticket: Ticket,
        (reason, text): (&str, &str),
        now: Instant,
    ) {
        let id = ticket.exchange;
        let Some(mut exchange) = self.exchanges.remove(&id) else {
            return;
        };
        let is_it = exchange.rounds == ticket.round;
        exchange.state = match exchange.state {
            State::Parked {
                parked:
                    Parked {
                        receipt: Receipt::Pending(client),
                        ..
                    },
                running,
                mut questions,
            } if is_it => {
                exchange.rounds -= 1;
                for question in questions.take_all() {
                    let (id, code) = (&question.id, code::INTERNAL_ERROR);
                    // The server may give it to its client, who is to know whose word it is.
                    let answer = gateway_error(id, code, text, reason, &self.config.upstream);
                    self.tell_upstream(answer);
                }
                self.unpark(id);
                State::Active { client, running }
            }
            State::Held {
                parked:
                    Parked {
                        receipt: Receipt::Pending(client),
                        ..
                    },
                outcome,
            } if is_it => {
                self.unpark(id);
                self.attachments.remove(&client.attachment);
                return self.answer(id, &exchange.method, &client, &outcome, now);
            }
            other => other,
        };
        self.put_back(id, exchange, now);
    }

    /// The server takes one of its requests back.
    pub(super) fn withdrawn(&mut self, question: &RequestId, now: Instant) {
        let exchange = self.asked_by(question);
        let Some((id, mut exchange)) = exchange.and_then(|id| self.exchanges.remove_entry(&id))
        else {
            self.dropped.cancellations += 1;
            return;
        };
        if let Some(questions) = exchange.state.questions_mut() {
            // In a round that was shown, its key in the retry will name nothing.
            questions.withdraw(question);
        }
        exchange.state = match exchange.state {
            State::Collecting {
                client,
                running,
                questions,
                ..
            } if questions.is_empty() => State::Active { client, running },
            other => other,
        };
        self.put_back(id, exchange, now);
    }

    pub(super) fn refuse_all(&mut self, questions: &mut Questions, why: &str) {
        for question in questions.take_all() {
            self.refuse(&question.id, why);
        }
    }

    pub(super) fn refuse(&mut self, question: &RequestId, why: &str) {
        let answer = error_response(Some(question), code::INTERNAL_ERROR, why, None);
        self.tell_upstream(answer);
    }

    /// Whether messages come in one row, so that what they belong to is told from what is open.
    pub(super) fn is_pipe(&self) -> bool {
        self.config.channel == Channel::Pipe
    }
}
