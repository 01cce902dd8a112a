//! How requests end without an answer of the server, and how the session ends.

use std::time::Instant;

use super::Upgrading;
use super::action::{Action, Call};
use super::config::MAX_ASIDE;
use super::exchange::{ExchangeId, Exchanges, Input, Leg, Step};
use super::resources::Resources;
use crate::bridge::action::End;
use crate::rpc::RequestId;

/// `data.reason` of requests whose server went (protocol notes 4.7).
const LOST: &str = "upstream_stream_lost";
/// `data.reason` of requests whose time is over.
const TIMEOUT: &str = "upstream_timeout";

impl Upgrading {
    /// The client does not want a request any more. `false`: it is not open.
    pub(super) fn give_up(&mut self, request: &RequestId, now: Instant) -> bool {
        if let Some(id) = self.exchanges.of(request) {
            self.stop(id, now);
            self.exchanges.remove(id);
        } else if !self.resources.take_waiter(request) {
            return false;
        }
        self.finish(request.clone());
        true
    }

    /// Stops what runs for a request at the server, and takes back what the client is asked for its sake.
    fn stop(&mut self, id: ExchangeId, now: Instant) {
        self.withdraw(id, "the request it belongs to was cancelled");
        self.drop_task(id, now);
        if let Some(call) = self.exchanges.get(id).and_then(|exchange| exchange.call()) {
            self.cancel_call(call);
        }
    }

    /// Does what is due.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(exchange) = self.prompts.expired(now) {
            // It is withdrawn with the others.
            self.no_input(exchange, "the client did not answer in time", None, now);
        }
        for id in self.exchanges.ids(|exchange| exchange.clock.due() <= now) {
            self.time_out(id, now);
        }
        let paused = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        for id in self.exchanges.ids(|exchange| paused(exchange.pause())) {
            self.go_on(id);
        }
        for call in self.calls.expired(now) {
            self.cancel_call(call);
        }
        if self.schemas.due().is_some_and(|due| due <= now) {
            self.stop_asking_for_tools();
        }
        self.expire_lists(now);
        self.expire_resources(now);
        self.forget_absent(now);
        let due = [
            self.prompts.due(),
            self.exchanges.due(),
            self.calls.due(),
            self.schemas.due(),
            self.lists.due(),
            self.resources.due(),
            self.retained_until(),
        ];
        self.wake = due.into_iter().flatten().min();
    }

    /// The pause of a request is over.
    fn go_on(&mut self, id: ExchangeId) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        match &mut exchange.leg {
            Leg::Pacing { state, .. } => {
                let input = Input {
                    state: Some(std::mem::take(state)),
                    ..Input::default()
                };
                self.call(id, input);
            }
            Leg::Task(_, Step::Waiting(_)) => self.get_task(id),
            _ => {}
        }
    }

    /// The time of a request is over.
    fn time_out(&mut self, id: ExchangeId, now: Instant) {
        let Some(exchange) = self.exchanges.get(id) else {
            return;
        };
        if matches!(exchange.leg, Leg::Asking(_)) {
            return self.no_input(id, "the client did not answer in time", None, now);
        }
        let text = match exchange.leg {
            Leg::Schema(_) => "the upstream was busy for too long; the request was not sent",
            _ => "the upstream did not answer in time; the call may have run",
        };
        self.stop(id, now);
        self.fail(id, TIMEOUT, text);
    }

    /// Answers what is open, and ends the session.
    pub(super) fn end(&mut self, why: &str) {
        for id in self.exchanges.ids(|_| true) {
            let fate = match self.exchanges.get(id).map(|exchange| &exchange.leg) {
                Some(Leg::Schema(_)) => "the request was not sent",
                _ => "the call may have run",
            };
            self.withdraw(id, why);
            self.fail(id, LOST, &format!("{why}; {fate}"));
        }
        for request in self.resources.requests() {
            self.resources.take_waiter(&request);
            let answer = self.own_error(&request, LOST, why);
            self.answer(request, answer);
        }
        self.close(End::UpstreamLost(why.to_owned()));
    }

    /// Ends the session, and leaves nothing behind. A server is told of the tasks that nobody waits for.
    pub(super) fn close(&mut self, end: End) {
        self.over = true;
        for call in self.calls.drain() {
            self.actions.push_back(Action::Cancel(call));
        }
        let tasks: Vec<_> = self.exchanges.tasks().take(MAX_ASIDE).collect();
        for task in tasks {
            // Its answer is of no interest.
            let id = self.calls.next_id();
            let message = self.task_request(id, "tasks/cancel", &task, None);
            self.actions.push_back(Action::Call(Call {
                id,
                message,
                params: Vec::new(),
                repeatable: true,
                request: None,
            }));
        }
        self.exchanges = Exchanges::default();
        self.prompts.clear();
        self.resources = Resources::default();
        self.wake = None;
        self.actions.push_back(Action::Close(end));
    }
}
