//! Rounds: what the server needs to know, asked of the client (protocol notes 5.3.1).

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;

use super::Upgrading;
use super::config::{FIRST_PAUSE, LONGEST_PAUSE, MAX_ROUNDS, MAX_STATE};
use super::exchange::{Exchange, ExchangeId, Input, Leg, Round, Then};
use super::prompt::Prompt;
use crate::bridge::action::Nature;
use crate::bridge::clock::after;
use crate::bridge::limits::MAX_KEPT;
use crate::bridge::notice::{cancelled, error_answer};
use crate::bridge::refused::{INVALID, gateway_data, gateway_error};
use crate::bridge::shape::{InputRequest, InputRequired, is_round_method};
use crate::revision::Revision;
use crate::rpc::{Kind, Message, Object, code, is_object, quoted, response, string};

/// `data.reason` where the client did not say what was needed.
const NO_INPUT: &str = "input_not_given";

impl Upgrading {
    /// The server needs to know more. The whole round is checked before anything of it is asked.
    pub(super) fn input_required(&mut self, id: ExchangeId, result: &Bytes, now: Instant) {
        let Some(exchange) = self.exchanges.get(id) else {
            return;
        };
        if !is_round_method(exchange.method()) {
            let text = format!(
                "invalid upstream result: {} asks for input",
                exchange.method()
            );
            return self.fail(id, INVALID, &text);
        }
        let round = match self.checked_round(result) {
            Ok(round) => round,
            Err(text) => return self.fail(id, INVALID, &text),
        };
        if exchange.rounds > MAX_ROUNDS {
            return self.no_input(id, "the server asked in too many rounds", None, now);
        }
        if round.requests.len() + self.prompts.len() > self.config.limits.server_requests {
            return self.no_input(id, "too many questions are open at the client", None, now);
        }
        // In memory of its own: the client may take its time.
        let state = round.state.map(|state| Bytes::copy_from_slice(&state));
        match (round.requests.is_empty(), state) {
            (true, Some(state)) => self.pace(id, state, now),
            (_, state) => {
                self.set_paced(id, None);
                self.ask(id, &round.requests, Then::Retry(state), now);
            }
        }
    }

    /// What a round asks, if this client may be asked all of it.
    fn checked_round(&self, result: &Bytes) -> Result<InputRequired, String> {
        let round = InputRequired::of(result).map_err(|error| error.to_string())?;
        let undeclared = round.allowed_by(&self.session.declared);
        undeclared.map_err(|error| format!("invalid upstream result: {error}"))?;
        if round
            .state
            .as_ref()
            .is_some_and(|state| state.len() > MAX_STATE)
        {
            return Err("invalid upstream result: requestState is too long".to_owned());
        }
        if round
            .requests
            .iter()
            .any(|asked| asked.key.len() > MAX_KEPT)
        {
            return Err("invalid upstream result: a key is too long".to_owned());
        }
        Ok(round)
    }

    fn set_paced(&mut self, id: ExchangeId, paced: Option<std::time::Duration>) {
        if let Some(exchange) = self.exchanges.get_mut(id) {
            exchange.paced = paced;
        }
    }

    /// A round without questions: the server is called again after a while.
    fn pace(&mut self, id: ExchangeId, state: Bytes, now: Instant) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        let doubled = exchange.paced.map(|paced| paced.saturating_mul(2));
        let pause = doubled.map_or(FIRST_PAUSE, |pause| pause.min(LONGEST_PAUSE));
        exchange.paced = Some(pause);
        let until = after(now, pause);
        exchange.leg = Leg::Pacing { until, state };
        self.wake_at(until);
    }

    /// Asks the client, all at one time.
    pub(super) fn ask(
        &mut self,
        id: ExchangeId,
        questions: &[InputRequest],
        then: Then,
        now: Instant,
    ) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        exchange.leg = Leg::Asking(Round {
            answers: BTreeMap::new(),
            open: questions.len(),
            then,
        });
        let request = exchange.request.clone();
        let due = after(now, self.config.limits.answer);
        for question in questions {
            if let Some(exchange) = self.exchanges.get_mut(id) {
                exchange.clock.hold(now);
            }
            let prompt_id = self.prompts.next_id();
            let revision = self.session.revision;
            let elicitation = self.leads_away(question);
            let message = question.prompt(
                &prompt_id,
                revision,
                Some(&prompt_id),
                elicitation.as_deref(),
            );
            self.prompts.push(Prompt {
                id: prompt_id.clone(),
                exchange: id,
                key: question.key.clone(),
                elicitation,
                due,
            });
            self.deliver(Some(request.clone()), message, Nature::Request(prompt_id));
        }
        self.wake_at(due);
        self.wake_for(id);
    }

    /// The id of an elicitation that leads to a page, which 2025-11-25 wants (R226).
    fn leads_away(&mut self, question: &InputRequest) -> Option<String> {
        let params = question
            .params
            .as_ref()
            .and_then(|p| Object::parse(p).ok())?;
        let mode = string(params.get("mode")?)?;
        let has_ids = self.session.revision >= Revision::V2025_11_25;
        let leads_away = question.method == "elicitation/create" && mode == "url" && has_ids;
        leads_away.then(|| self.chance.uuid())
    }

    /// The client answered a question, which is in no table any more.
    pub(super) fn prompt_answered(&mut self, prompt: &Prompt, message: &Message, now: Instant) {
        if message.kind() == Kind::ErrorResponse {
            let error = message.error().unwrap_or_default();
            let text = Object::parse(&error).ok();
            let text = text.and_then(|error| string(error.get("message")?).map(Into::into));
            let text: String = text.unwrap_or_default();
            let text = format!("the client refused to answer: {text}");
            return self.unanswered(prompt, &text, Some(error), now);
        }
        let result = message.result().filter(|result| is_object(result));
        let Some(result) = result else {
            let text = "the client's answer is no object";
            return self.unanswered(prompt, text, None, now);
        };
        let Some(exchange) = self.exchanges.get_mut(prompt.exchange) else {
            return; // Unreachable: its questions end with it.
        };
        exchange.clock.release(now);
        if let Some(id) = prompt.elicitation.clone().filter(|_| is_accepted(&result)) {
            exchange.elicitations.push(id);
        }
        let Leg::Asking(round) = &mut exchange.leg else {
            return; // Unreachable: the same.
        };
        round.answers.insert(prompt.key.clone(), result);
        round.open -= 1;
        if round.open == 0 {
            self.round_answered(prompt.exchange, now);
        } else {
            self.wake_for(prompt.exchange);
        }
    }

    fn round_answered(&mut self, id: ExchangeId, now: Instant) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        let leg = std::mem::replace(&mut exchange.leg, Leg::Schema(Input::default()));
        let Leg::Asking(round) = leg else {
            exchange.leg = leg;
            return;
        };
        // The time of the call begins now: nothing ran while the client was asked.
        exchange.clock.progress(now, &self.config.limits);
        let responses = round.answers;
        match round.then {
            Then::Retry(state) => self.call(id, Input { responses, state }),
            Then::Update(task) => self.update_task(id, task, responses),
        }
        self.wake_for(id);
    }

    /// A question will not be answered: neither can the request be.
    pub(super) fn unanswered(
        &mut self,
        prompt: &Prompt,
        why: &str,
        cause: Option<Bytes>,
        now: Instant,
    ) {
        if let Some(exchange) = self.exchanges.get_mut(prompt.exchange) {
            exchange.clock.release(now);
        }
        self.no_input(prompt.exchange, why, cause, now);
    }

    /// Ends a request for which the client did not say what the server needs; its other questions are
    /// withdrawn. No slot of the protocol says so to the server.
    pub(super) fn no_input(
        &mut self,
        id: ExchangeId,
        why: &str,
        cause: Option<Bytes>,
        now: Instant,
    ) {
        self.withdraw(id, "the request it belongs to is over");
        self.drop_task(id, now);
        let Some(exchange) = self.exchanges.get(id) else {
            return;
        };
        let answer = without_input(exchange, why, cause, &self.config.upstream);
        self.complete(id, answer);
    }

    /// Takes back the questions of a request that are open at the client.
    pub(super) fn withdraw(&mut self, id: ExchangeId, why: &str) {
        let request = self.exchanges.get(id).map(|e| e.request.clone());
        while let Some(prompt) = self.prompts.take(|prompt| prompt.exchange == id) {
            let message = cancelled(&prompt.id, why);
            self.deliver(request.clone(), message, Nature::Notification);
        }
    }

    /// Has the timer not miss what is due about a request.
    pub(super) fn wake_for(&mut self, id: ExchangeId) {
        if let Some(due) = self.exchanges.get(id).map(Exchange::due) {
            self.wake_at(due);
        }
    }
}

/// What the client gets: for a tool, what most servers would have said themselves.
fn without_input(exchange: &Exchange, why: &str, cause: Option<Bytes>, upstream: &str) -> Bytes {
    let request = &exchange.request;
    if exchange.method() == "tools/call" {
        let text = quoted(why);
        let result = format!(r#"{{"content":[{{"type":"text","text":{text}}}],"isError":true}}"#);
        return response(request, result.as_bytes());
    }
    let Some(cause) = cause else {
        return gateway_error(request, code::INTERNAL_ERROR, why, NO_INPUT, upstream);
    };
    let mut data = gateway_data(NO_INPUT, upstream);
    data.set("cause", cause);
    let mut error = Object::new();
    error.set("code", code::INTERNAL_ERROR.to_string());
    error.set("message", quoted(why));
    error.set("data", data.into_bytes());
    error_answer(request, &error.into_bytes())
}

fn is_accepted(result: &Bytes) -> bool {
    let action = Object::parse(result).ok();
    let action = action.and_then(|result| string(result.get("action")?).map(|a| a == "accept"));
    action == Some(true)
}
