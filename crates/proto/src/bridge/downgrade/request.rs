//! New requests, up to the moment they are written.

use std::time::Instant;

use bytes::Bytes;

use crate::bridge::client::check_length;
use crate::bridge::clock::{Clock, after};
use crate::bridge::downgrade::ability::Abilities;
use crate::bridge::downgrade::exchange::{Client, Exchange, Running, State, Task, Waiting};
use crate::bridge::downgrade::reply::{Failure, Outcome};
use crate::bridge::downgrade::{
    Action, Attached, AttachmentId, Downgrading, ExchangeId, Lifetime, Refused, Request, Written,
    level,
};
use crate::bridge::limits::MAX_KEPT;
use crate::bridge::notice;
use crate::bridge::progress::{Progress, TOKEN_IN_META};
use crate::bridge::shape::is_round_method;
use crate::rpc::{Message, RequestId, code, meta_key};

/// Members of `params` that a legacy server must not see: tasks are off, and rounds are the gateway's.
const LEFT_OUT: [&str; 3] = ["task", "inputResponses", "requestState"];
/// Members of `params._meta` that no legacy server knows.
const ENVELOPE: [&str; 4] = [
    meta_key::PROTOCOL_VERSION,
    meta_key::CLIENT_INFO,
    meta_key::CLIENT_CAPABILITIES,
    meta_key::LOG_LEVEL,
];

impl Downgrading {
    /// Whether a request can be taken. `completes`: it comes after the elicitations that its session saw.
    pub(super) fn check_admission(
        &self,
        request: &Message,
        completes: bool,
    ) -> Result<(), Refused> {
        if self.phase.is_over() || self.draining || self.retired {
            return Err(Refused::Over);
        }
        if self.config.lifetime == Lifetime::PerRequest && self.used && !completes {
            return Err(Refused::Over);
        }
        let limit = self.config.limits.in_flight;
        if self.exchanges.len() >= limit || self.calls.len() >= limit {
            return Err(Refused::TooManyInFlight { limit });
        }
        let method = request.method().unwrap_or_default();
        let may_be_asked = || Abilities::of_request(request).and(self.offered).any();
        if self.is_pipe() && is_round_method(method) && may_be_asked() {
            let cancelled = self.calls.cancelled().any(|cancelled| cancelled.eligible);
            if cancelled || self.eligible().next().is_some() {
                return Err(Refused::Busy);
            }
        }
        Ok(())
    }

    pub(super) fn is_eligible(&self, id: ExchangeId) -> bool {
        let exchange = self.exchanges.get(&id);
        exchange.is_some_and(|exchange| exchange.is_eligible(self.offered))
    }

    /// The exchanges whose clients the server may ask for something.
    pub(super) fn eligible(&self) -> impl Iterator<Item = ExchangeId> {
        let eligible = self
            .exchanges
            .iter()
            .filter(|(_, exchange)| exchange.is_eligible(self.offered));
        eligible.map(|(id, _)| *id)
    }

    pub(super) fn take_request(&mut self, request: Request, now: Instant) -> Result<(), Refused> {
        let message = &request.message;
        self.check_admission(message, !request.elicitations.is_empty())?;
        let method = message.method().unwrap_or_default();
        check_length(method.len())?;
        if method == "subscriptions/listen" {
            return self.take_listen(request.attachment, message);
        }
        let client = self.client_of(request.attachment, message)?;
        let clock = Clock::start(now, &self.config.limits);
        let completion = match request.elicitations.is_empty() {
            true => now,
            false => after(now, self.config.limits.completion),
        };
        let exchange = Exchange {
            method: method.to_owned(),
            clock,
            rounds: 0,
            keys: 0,
            state: State::Waiting(Box::new(Waiting {
                client,
                completion,
                request: request.clone(),
            })),
        };
        let id = request.exchange;
        if self.exchanges.contains_key(&id) {
            return Err(Refused::Busy);
        }
        self.wake_at(exchange.due(now));
        self.exchanges.insert(id, exchange);
        self.attachments
            .insert(request.attachment, Attached::Exchange(id));
        self.waiting.push_back(id);
        self.used = true;
        self.may_be_asked |= self.is_eligible(id);
        Ok(())
    }

    /// What the machine has to know of the client that sent this.
    pub(super) fn client_of(
        &self,
        attachment: AttachmentId,
        message: &Message,
    ) -> Result<Client, Refused> {
        let missing = Refused::InvalidParameter { parameter: "id" };
        let id = message.id().cloned().ok_or(missing)?;
        check_length(id.as_json().len())?;
        Ok(Client {
            attachment,
            id,
            progress: Progress::asked(message)?,
            level: level::asked(message)?,
            abilities: Abilities::of_request(message).and(self.offered),
            uri: message.param_str("uri").filter(|uri| uri.len() <= MAX_KEPT),
        })
    }

    /// Writes or answers those that need not wait any more, in order.
    pub(super) fn run_waiting(&mut self, now: Instant) {
        for id in std::mem::take(&mut self.waiting) {
            let exchange = self.exchanges.get(&id);
            let Some(Exchange {
                state: State::Waiting(waiting),
                ..
            }) = exchange
            else {
                continue;
            };
            let (method, level) = (
                exchange.map_or("", |exchange| exchange.method.as_str()),
                waiting.client.level,
            );
            let step = self.step(method, waiting, now);
            match step {
                Step::Stay => self.waiting.push_back(id),
                Step::Answer(outcome) => self.conclude(id, outcome, now),
                Step::Tools => {
                    self.list_tools(now);
                    self.waiting.push_back(id);
                }
                Step::Write if self.level_is_set(level, now) => self.run(id, now),
                Step::Write => self.waiting.push_back(id),
            }
        }
    }

    /// What comes next for a request that is not written.
    fn step(&self, method: &str, waiting: &Waiting, now: Instant) -> Step {
        let Some(server) = self.phase.server() else {
            return Step::Stay;
        };
        if let Some(outcome) = self.unsupported(method) {
            return Step::Answer(outcome);
        }
        let request = &waiting.request;
        if method == "server/discover" {
            return match self.standing.is_undecided(now) && server.features.tells() {
                true => Step::Stay,
                false => Step::Answer(self.discovered(server)),
            };
        }
        let incomplete = !self.completions.are_complete(&request.elicitations);
        if incomplete && now < waiting.completion {
            return Step::Stay;
        }
        if self.standing.is_undecided(now)
            && is_round_method(method)
            && waiting.client.abilities.any()
        {
            return Step::Stay;
        }
        if method == "tools/call" && server.features.tool_tasks && !self.task_tools.are_known() {
            return Step::Tools;
        }
        Step::Write
    }

    /// The answer to what this server cannot do.
    fn unsupported(&self, method: &str) -> Option<Outcome> {
        let has = self.features();
        let is_there = match method {
            "tools/list" | "tools/call" => has.tools,
            "prompts/list" | "prompts/get" => has.prompts,
            "completion/complete" => has.completions,
            "resources/list" | "resources/templates/list" | "resources/read" => has.resources,
            // What clients of 2026-07-28 do not have.
            "initialize"
            | "ping"
            | "logging/setLevel"
            | "resources/subscribe"
            | "resources/unsubscribe" => false,
            _ => !method.starts_with("tasks/"),
        };
        let failure = Failure {
            code: code::METHOD_NOT_FOUND,
            status: 404,
            reason: "method_not_found",
            text: "the server does not have this method".to_owned(),
        };
        (!is_there).then_some(Outcome::Failed(failure))
    }

    /// Writes a request that waits.
    fn run(&mut self, id: ExchangeId, now: Instant) {
        let Some(mut exchange) = self.exchanges.remove(&id) else {
            return;
        };
        // Its time to answer begins.
        exchange.clock.progress(now, &self.config.limits);
        exchange.state = match exchange.state {
            State::Waiting(waiting) => {
                let Waiting {
                    client, request, ..
                } = *waiting;
                self.completions.forget(&request.elicitations);
                let pages = self.pages_for(&exchange.method, &request.message);
                let task = self.task_tools.task_for(&exchange.method, &request.message);
                let mut running = self.write_run(id, &request.message, task);
                running.pages = pages;
                running.original = Some(Box::new(request));
                State::Active { client, running }
            }
            other => other,
        };
        self.wake_at(exchange.due(now));
        self.exchanges.insert(id, exchange);
    }

    /// Writes the request of an exchange, under a new id.
    pub(super) fn write_run(&mut self, id: ExchangeId, message: &Message, task: Task) -> Running {
        let call = self.calls.open_run(id);
        let own = call.to_request_id();
        let message = upstream_request(message, &own, task == Task::Asked);
        let written = Written::Request(call);
        self.actions.push_back(Action::Write { message, written });
        Running {
            call,
            token: call,
            task,
            original: None,
            pages: None,
        }
    }
}

enum Step {
    Stay,
    /// The list of tools is needed first.
    Tools,
    Write,
    Answer(Outcome),
}

/// A client's request as a legacy server gets it: without the envelope, with the gateway's id and, as an
/// id is never used twice, with that as the progress token.
fn upstream_request(message: &Message, id: &RequestId, as_task: bool) -> Bytes {
    let mut params = message.params_object();
    params.retain(|name, _| !LEFT_OUT.contains(&name));
    let mut meta = message.meta_object().unwrap_or_default();
    meta.retain(|name, _| !ENVELOPE.contains(&name));
    meta.set(TOKEN_IN_META, Bytes::copy_from_slice(id.as_json()));
    params.set("_meta", meta.into_bytes());
    if as_task {
        params.set("task", "{}");
    }
    let method = message.method().unwrap_or_default();
    notice::request(id, method, &params.into_bytes())
}
