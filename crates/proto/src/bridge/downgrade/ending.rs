//! How exchanges end without an answer, and how the session ends.

use std::time::Instant;

use crate::bridge::CallId;
use crate::bridge::clock::after;
use crate::bridge::downgrade::calls::{Cancelled, Purpose};
use crate::bridge::downgrade::exchange::{Exchange, State, Task};
use crate::bridge::downgrade::handshake::Phase;
use crate::bridge::downgrade::reply::{Failure, Outcome};
use crate::bridge::downgrade::{
    Action, AnswerId, Attached, AttachmentId, Attempt, CANCELLED_STREAM_AGE, Downgrading, End,
    ExchangeId, Lifetime, Request, SETTING_AGE, WriteFailure, Written,
};
use crate::bridge::limits::CANCELLED_AGE;
use crate::bridge::notice::cancelled;
use crate::classify::is_read_only_method;
use crate::rpc::quoted;

/// `data.reason` of requests whose upstream went (protocol notes 4.7).
const LOST: &str = "upstream_stream_lost";
const SESSION_LOST: &str = "session_lost";

impl Downgrading {
    /// A POST is closed by its client.
    pub(super) fn leave(&mut self, attachment: AttachmentId, now: Instant) {
        match self.attachments.remove(&attachment) {
            None => {}
            Some(Attached::Listen) => {
                self.unlisten(attachment, now);
            }
            // The POST is the one that carries it: others are not in the table.
            Some(Attached::Exchange(id)) => {
                self.cancel_running(id, "the client closed its request", now);
                self.forget_exchange(id);
            }
        }
    }

    /// Takes an exchange out of all tables.
    pub(super) fn forget_exchange(&mut self, id: ExchangeId) {
        let Some(exchange) = self.exchanges.remove(&id) else {
            return;
        };
        if let Some(running) = exchange.state.running() {
            self.calls.forget(running.call);
            self.calls.forget_token(running.token);
        }
        match exchange.state {
            State::Waiting(waiting) => self.forget_attachment(Some(waiting.client.attachment)),
            State::Active { client, .. } | State::Collecting { client, .. } => {
                self.forget_attachment(Some(client.attachment));
            }
            State::Parked { parked, .. } | State::Held { parked, .. } => {
                self.forget_attachment(parked.attachment());
                self.unpark(id);
            }
        }
    }

    /// Stops what runs upstream for an exchange: what the server asked is refused, and it is told once.
    /// The exchange itself stays, without its questions.
    pub(super) fn cancel_running(&mut self, id: ExchangeId, why: &str, now: Instant) {
        let Some(exchange) = self.exchanges.get_mut(&id) else {
            return;
        };
        let eligible = exchange.is_eligible(self.offered);
        let questions = exchange.state.questions_mut();
        let mut questions = questions.map(std::mem::take).unwrap_or_default();
        let running = exchange.state.running();
        let running = running.map(|running| (running.call, running.token, running.task.clone()));
        self.refuse_all(&mut questions, "the request it belongs to was cancelled");
        let Some((call, token, task)) = running else {
            return;
        };
        self.calls.forget_token(token);
        match task {
            Task::Made(task) => self.cancel_task(&task, now),
            Task::No | Task::Asked => self.tell_cancelled(call, why),
        }
        self.keep_cancelled(call, eligible, now);
    }

    fn tell_cancelled(&mut self, call: CallId, why: &str) {
        let message = cancelled(&call.to_request_id(), why);
        let written = Written::Cancel(call);
        self.actions.push_back(Action::Write { message, written });
    }

    /// Keeps the place of a call until its answer comes, or is not expected any more.
    fn keep_cancelled(&mut self, call: CallId, eligible: bool, now: Instant) {
        let is_own = self.config.lifetime == Lifetime::PerRequest;
        let reads_on = is_own || !self.is_pipe();
        let release = reads_on.then(|| after(now, CANCELLED_STREAM_AGE));
        let until = after(now, CANCELLED_AGE);
        self.wake_at(release.unwrap_or(until));
        let cancelled = Cancelled {
            until,
            release,
            eligible,
        };
        self.calls.cancel(call, cancelled);
    }

    pub(super) fn cancel_task(&mut self, task: &str, now: Instant) {
        let params = format!("{{\"taskId\":{}}}", quoted(task));
        let (purpose, method) = (Purpose::Nothing, "tasks/cancel");
        self.ask_upstream(purpose, method, params.as_bytes(), SETTING_AGE, now);
    }

    /// An exchange cannot go on: stopped upstream as far as that is possible, its client gets the error,
    /// now or with its retry.
    pub(super) fn fail(&mut self, id: ExchangeId, failure: Failure, now: Instant) {
        self.cancel_running(id, &failure.text, now);
        self.conclude(id, Outcome::Failed(failure), now);
    }

    /// Writing a request failed.
    pub(super) fn write_lost(
        &mut self,
        call: CallId,
        failure: WriteFailure,
        text: &str,
        now: Instant,
    ) {
        if let Some(id) = self.calls.exchange_of(call) {
            self.run_lost(id, call, failure, text, now);
        } else if let Some(Ok(purpose)) = self.calls.answered(call) {
            self.setting_lost(call, &purpose, text, now);
        }
        if failure == WriteFailure::SessionGone && !self.phase.is_over() {
            self.lose_session(
                "the upstream has forgotten the session",
                End::UpstreamLost(text.to_owned()),
                now,
            );
        }
    }

    /// Writing the request of an exchange failed. Nothing was asked for its sake.
    fn run_lost(
        &mut self,
        id: ExchangeId,
        call: CallId,
        failure: WriteFailure,
        text: &str,
        now: Instant,
    ) {
        let is_run_again = match failure {
            WriteFailure::SessionGone | WriteFailure::Undelivered => true,
            WriteFailure::Unknown => self.may_repeat(id),
            // There was a wait for a connection already.
            WriteFailure::Overloaded | WriteFailure::Unauthorized | WriteFailure::Refused => false,
        };
        if is_run_again && let Some(request) = self.take_original(id) {
            match failure {
                WriteFailure::SessionGone => self.give_away(id, request),
                _ => self.write_again(id, request),
            }
            return;
        }
        let (status, reason) = match failure {
            WriteFailure::SessionGone => (502, SESSION_LOST),
            WriteFailure::Undelivered => (502, "upstream_unavailable"),
            WriteFailure::Overloaded => (503, "upstream_overloaded"),
            WriteFailure::Unknown => (502, LOST),
            WriteFailure::Unauthorized => (502, "upstream_auth"),
            WriteFailure::Refused => (502, "upstream_refused"),
        };
        self.calls.forget(call);
        let failure = Failure::internal(status, reason, text);
        self.conclude(id, Outcome::Failed(failure), now);
    }

    /// What the gateway asked for itself has failed.
    pub(super) fn setting_lost(
        &mut self,
        call: CallId,
        purpose: &Purpose,
        text: &str,
        now: Instant,
    ) {
        match purpose {
            Purpose::Initialize => self.never_opened(text),
            Purpose::Level => self.levels.settled(call),
            Purpose::Tools => self.task_tools.give_up(),
            Purpose::Subscribe(uri) => self.subscribed(uri, false, now),
            Purpose::Unsubscribe(uri) => self.unsubscribed(uri, now),
            Purpose::Run(_) | Purpose::Nothing => {}
        }
    }

    /// A client's answer could not be written.
    pub(super) fn answer_lost(
        &mut self,
        answer: AnswerId,
        message: bytes::Bytes,
        undelivered: bool,
        now: Instant,
    ) {
        let AnswerId { exchange, again } = answer;
        if undelivered && !again {
            let again = true;
            let written = Written::Answer(AnswerId { exchange, again });
            self.actions.push_back(Action::Write { message, written });
            return;
        }
        let text = "the client's answer could not be given to the upstream; the call may have run";
        self.fail(exchange, Failure::internal(502, LOST, text), now);
    }

    /// The stream of a call is lost without its response.
    pub(super) fn call_lost(&mut self, call: CallId, text: &str, now: Instant) {
        let Some(id) = self.calls.exchange_of(call) else {
            if let Some(Ok(purpose)) = self.calls.answered(call) {
                self.setting_lost(call, &purpose, text, now);
            }
            return;
        };
        if self.may_repeat(id)
            && let Some(request) = self.take_original(id)
        {
            self.tell_cancelled(call, "its stream was lost");
            let eligible = self.is_eligible(id);
            self.write_again(id, request);
            self.keep_cancelled(call, eligible, now);
            return;
        }
        let text = format!("{text}; the call may have run");
        self.fail(id, Failure::internal(502, LOST, &text), now);
    }

    /// Whether an exchange may be run again though it may have run.
    fn may_repeat(&self, id: ExchangeId) -> bool {
        let exchange = self.exchanges.get(&id);
        exchange
            .is_some_and(|exchange| exchange.rounds == 0 && is_read_only_method(&exchange.method))
    }

    /// The request of an exchange, if it may be written for a second time.
    fn take_original(&mut self, id: ExchangeId) -> Option<Request> {
        let running = self.exchanges.get_mut(&id)?.state.running_mut()?;
        let original = running.original.take()?;
        (original.attempt == Attempt::First).then_some(*original)
    }

    /// Writes a request once more, under a new id.
    fn write_again(&mut self, id: ExchangeId, mut request: Request) {
        let Some(mut exchange) = self.exchanges.remove(&id) else {
            return;
        };
        if let State::Active { running, .. } = &mut exchange.state {
            self.calls.forget(running.call);
            self.calls.forget_token(running.token);
            let mut again = self.write_run(id, &request.message, running.task.clone());
            request.attempt = Attempt::Again;
            again.original = Some(Box::new(request));
            again.pages = running.pages.take();
            *running = again;
        }
        self.exchanges.insert(id, exchange);
    }

    /// Gives a request to another session.
    fn give_away(&mut self, id: ExchangeId, mut request: Request) {
        self.forget_exchange(id);
        request.attempt = Attempt::Again;
        self.actions.push_back(Action::Resend(request));
    }

    /// The upstream is gone: see [`Self::upstream_lost`].
    pub(super) fn lose_session(&mut self, reason: &str, end: End, now: Instant) {
        if self.phase.is_over() {
            return;
        }
        if self.phase.server().is_none() {
            return self.never_opened(reason);
        }
        let ids: Vec<ExchangeId> = self.exchanges.keys().copied().collect();
        for id in ids {
            self.lose(id, reason, now);
        }
        self.relisten();
        self.close(end);
    }

    /// The session of an exchange is gone.
    fn lose(&mut self, id: ExchangeId, reason: &str, now: Instant) {
        let waiting = match self.exchanges.get(&id).map(|exchange| &exchange.state) {
            Some(State::Waiting(waiting)) => Some(waiting.request.clone()),
            Some(State::Held { .. }) | None => return,
            Some(_) => None,
        };
        let again = match waiting {
            Some(request) => Some(request).filter(|request| request.attempt == Attempt::First),
            None if self.may_repeat(id) => self.take_original(id),
            None => None,
        };
        if let Some(request) = again {
            return self.give_away(id, request);
        }
        let text = format!("the upstream was lost: {reason}; the call may have run");
        let failure = Failure::internal(502, SESSION_LOST, &text);
        self.forget_questions(id);
        self.conclude(id, Outcome::Failed(failure), now);
    }

    /// Nobody can be answered any more.
    fn forget_questions(&mut self, id: ExchangeId) {
        let exchange = self.exchanges.get_mut(&id);
        if let Some(questions) = exchange.and_then(|exchange| exchange.state.questions_mut()) {
            questions.take_all();
        }
    }

    /// Ends everything that waits with an error.
    pub(super) fn fail_all(&mut self, failure: &Failure) {
        let ids: Vec<ExchangeId> = self.exchanges.keys().copied().collect();
        for id in ids {
            let Some(exchange) = self.exchanges.get(&id) else {
                continue;
            };
            if let State::Waiting(waiting) = &exchange.state {
                let attachment = waiting.client.attachment;
                let request = waiting.client.id.clone();
                self.refuse_post(attachment, &request, failure);
            }
            self.forget_exchange(id);
        }
        self.fail_listens(failure);
    }

    /// Cancels everything, and ends the session.
    pub(super) fn stop(&mut self, now: Instant) {
        if self.phase.is_over() {
            // What is held is not kept either.
            let ids: Vec<ExchangeId> = self.exchanges.keys().copied().collect();
            return ids.into_iter().for_each(|id| self.forget_exchange(id));
        }
        let ids: Vec<ExchangeId> = self.exchanges.keys().copied().collect();
        for id in ids {
            let is_parked = |exchange: &Exchange| exchange.state.is_parked();
            if self.exchanges.get(&id).is_some_and(is_parked) {
                self.give_up(id, "the gateway stops", now);
            } else {
                let text = "the gateway stops";
                self.fail(id, Failure::internal(503, "shutting_down", text), now);
            }
        }
        self.end_listens(now);
        self.close(End::Shutdown);
    }

    /// A parked exchange is given up: stopped upstream, and forgotten. A client whose message that asks is
    /// on its way still gets that, and `-32602` for its retry.
    pub(super) fn give_up(&mut self, id: ExchangeId, why: &str, now: Instant) {
        self.cancel_running(id, why, now);
        self.forget_exchange(id);
    }

    /// Ends the session, if it was made for what is over now.
    pub(super) fn end_if_done(&mut self) {
        let runs = |exchange: &Exchange| !matches!(exchange.state, State::Held { .. });
        let quiet = !self.exchanges.values().any(runs)
            && self.listens.is_empty()
            && (self.calls.is_idle() || self.draining);
        if self.phase.is_over() || !quiet {
            return;
        }
        if self.draining {
            self.close(End::Shutdown);
        } else if self.retired {
            self.close(End::Retired);
        } else if self.config.lifetime == Lifetime::PerRequest
            && self.used
            && self.completions.is_empty()
            // A program that reads the end of its input at once may not do what it read before.
            && !self.calls.reads_on()
        {
            self.close(End::Done);
        }
    }

    /// Ends the upstream session. Held outcomes stay.
    pub(super) fn close(&mut self, end: End) {
        if self.phase.is_over() {
            return;
        }
        let info = self.server_info();
        self.phase = Phase::Over(info);
        self.calls.clear();
        self.waiting.clear();
        self.topics.clear();
        self.completions.clear();
        self.task_tools.forget();
        self.actions.push_back(Action::Close(end));
        self.wake = self
            .exchanges
            .values()
            .filter_map(Exchange::held_until)
            .min();
    }
}
