//! Calls that the server wants to run as tasks, where tasks are not translated: the gateway asks for the
//! outcome, and the client knows nothing of it (protocol notes 5.6, "Off", B).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Upgrading;
use super::action::{Action, Call};
use super::calls::Purpose;
use super::config::{ASIDE, MAX_ASIDE, MAX_ROUNDS, POLL_BOUNDS, POLL_INTERVAL};
use super::exchange::{ExchangeId, Input, Leg, Step, Task, Then};
use super::session::text_of;
use crate::bridge::clock::after;
use crate::bridge::limits::MAX_KEPT;
use crate::bridge::notice::error_answer;
use crate::bridge::refused::INVALID;
use crate::bridge::shape::{InputRequest, InputRequired, error_to_legacy};
use crate::rpc::{Kind, Message, Object};

impl Upgrading {
    /// The server has made a task of a request.
    pub(super) fn became_task(&mut self, id: ExchangeId, result: &Bytes, now: Instant) {
        let told = Object::parse(result).unwrap_or_default();
        let name = text_of(&told, "taskId").filter(|name| name.len() <= MAX_KEPT);
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        let (true, Some(name)) = (exchange.spent.tasks, name) else {
            let text = "invalid upstream result: a task that nobody asked for";
            return self.fail(id, INVALID, text);
        };
        let interval = interval(&told).unwrap_or(POLL_INTERVAL);
        let until = after(now, interval);
        let task = Task {
            id: name,
            interval,
            asked: BTreeSet::new(),
        };
        exchange.spent.lost = false;
        exchange.leg = Leg::Task(task, Step::Waiting(until));
        self.wake_at(until);
    }

    /// Asks for a task whose time has come.
    pub(super) fn get_task(&mut self, id: ExchangeId) {
        self.about_task(id, "tasks/get", None, Step::Getting);
    }

    /// Gives a task what its client has answered.
    pub(super) fn update_task(
        &mut self,
        id: ExchangeId,
        task: Task,
        answers: BTreeMap<String, Bytes>,
    ) {
        let mut responses = Object::new();
        for (key, answer) in answers {
            responses.set(&key, answer);
        }
        if let Some(exchange) = self.exchanges.get_mut(id) {
            exchange.rounds += 1;
            // The step is set below.
            exchange.leg = Leg::Task(task, Step::Waiting(exchange.clock.due()));
        }
        self.about_task(id, "tasks/update", Some(responses), Step::Updating);
    }

    fn about_task(
        &mut self,
        id: ExchangeId,
        method: &str,
        responses: Option<Object>,
        step_of: fn(super::CallId) -> Step,
    ) {
        let call = self.calls.insert(Purpose::Exchange(id));
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        let Leg::Task(task, step) = &mut exchange.leg else {
            self.calls.remove(call);
            return;
        };
        *step = step_of(call);
        let (name, request) = (task.id.clone(), exchange.request.clone());
        let message = self.task_request(call, method, &name, responses);
        self.actions.push_back(Action::Call(Call {
            id: call,
            message,
            params: Vec::new(),
            // What is lost is asked for again by `leg_failed`.
            repeatable: false,
            request: Some(request),
        }));
    }

    /// The task took the answers; it is asked for again.
    pub(super) fn task_updated(&mut self, id: ExchangeId, now: Instant) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        if let Leg::Task(task, step) = &mut exchange.leg {
            let until = after(now, task.interval);
            *step = Step::Waiting(until);
            self.wake_at(until);
        }
    }

    /// What the server says of a task.
    pub(super) fn task_told(&mut self, id: ExchangeId, message: &Message, now: Instant) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        if message.kind() == Kind::ErrorResponse {
            let error = error_to_legacy(&message.error().unwrap_or_default());
            let answer = error_answer(&exchange.request, &error);
            // It is not there any more: nothing is left to be cancelled.
            return self.complete(id, answer);
        }
        exchange.spent.lost = false;
        let result = message.result().unwrap_or_default();
        let told = Object::parse(&result).unwrap_or_default();
        match text_of(&told, "status").as_deref() {
            Some("working") => self.wait_for_task(id, &told, now),
            Some("input_required") => self.task_asks(id, &told, now),
            Some("completed") => match told.get("result") {
                Some(result) => self.complete_with(id, &result.clone()),
                None => self.fail(id, INVALID, "invalid upstream result: a task without one"),
            },
            Some("failed") => {
                let error = error_to_legacy(&told.get("error").cloned().unwrap_or_default());
                let answer = error_answer(&exchange.request, &error);
                self.complete(id, answer);
            }
            Some("cancelled") => {
                self.fail(id, "task_cancelled", "the server has cancelled the task");
            }
            _ => self.fail(
                id,
                INVALID,
                "invalid upstream result: a task in no known state",
            ),
        }
    }

    fn wait_for_task(&mut self, id: ExchangeId, told: &Object, now: Instant) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        if let Leg::Task(task, step) = &mut exchange.leg {
            task.interval = interval(told).unwrap_or(task.interval);
            let until = after(now, task.interval);
            *step = Step::Waiting(until);
            self.wake_at(until);
        }
    }

    /// A task waits for input: each key is asked once over its life.
    fn task_asks(&mut self, id: ExchangeId, told: &Object, now: Instant) {
        let Some(exchange) = self.exchanges.get(id) else {
            return;
        };
        let rounds = exchange.rounds;
        let questions = match self.task_questions(id, told) {
            Ok(questions) => questions,
            Err(text) => {
                self.drop_task(id, now);
                return self.fail(id, INVALID, &text);
            }
        };
        if questions.is_empty() {
            return self.wait_for_task(id, told, now);
        }
        if rounds > MAX_ROUNDS {
            return self.no_input(id, "the server asked in too many rounds", None, now);
        }
        if questions.len() + self.prompts.len() > self.config.limits.server_requests {
            return self.no_input(id, "too many questions are open at the client", None, now);
        }
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        let leg = std::mem::replace(&mut exchange.leg, Leg::Schema(Input::default()));
        let Leg::Task(mut task, _) = leg else {
            exchange.leg = leg;
            return;
        };
        task.asked
            .extend(questions.iter().map(|asked| asked.key.clone()));
        self.ask(id, &questions, Then::Update(task), now);
    }

    /// What a task asks that was not asked before.
    fn task_questions(&self, id: ExchangeId, told: &Object) -> Result<Vec<InputRequest>, String> {
        let mut asked = Object::new();
        if let Some(requests) = told.get("inputRequests") {
            asked.set("inputRequests", requests.clone());
        }
        // Where none is open the server waits for what it was given.
        asked.set("requestState", "\"\"");
        let round = InputRequired::of(&asked.into_bytes()).map_err(|error| error.to_string())?;
        let task = self.exchanges.get(id).and_then(|exchange| exchange.task());
        let is_new = |asked: &InputRequest| task.is_some_and(|t| !t.asked.contains(&asked.key));
        let requests: Vec<_> = round.requests.into_iter().filter(is_new).collect();
        if requests.iter().any(|asked| asked.key.len() > MAX_KEPT) {
            return Err("invalid upstream result: a key is too long".to_owned());
        }
        let round = InputRequired {
            requests,
            state: None,
        };
        let undeclared = round.allowed_by(&self.session.declared);
        undeclared.map_err(|error| format!("invalid upstream result: {error}"))?;
        Ok(round.requests)
    }

    /// The task of a request is not wanted any more: the server is told, and nobody waits for its answer.
    pub(super) fn drop_task(&mut self, id: ExchangeId, now: Instant) {
        let Some(task) = self.exchanges.get(id).and_then(|exchange| exchange.task()) else {
            return;
        };
        let name = task.id.clone();
        if self.over || self.calls.aside() >= MAX_ASIDE {
            return;
        }
        let until = after(now, ASIDE);
        let call = self.calls.insert(Purpose::Aside { until });
        let message = self.task_request(call, "tasks/cancel", &name, None);
        self.wake_at(until);
        self.push_call(call, message, None);
    }
}

/// How often the server wants to be asked.
fn interval(told: &Object) -> Option<Duration> {
    let millis = std::str::from_utf8(told.get("pollIntervalMs")?).ok()?;
    let [least, most] = POLL_BOUNDS;
    Some(Duration::from_millis(millis.parse().ok()?).clamp(least, most))
}
