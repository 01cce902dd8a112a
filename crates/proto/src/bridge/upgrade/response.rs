//! What comes back of calls.

use std::time::Instant;

use bytes::Bytes;

use super::action::{Action, Call};
use super::calls::Purpose;
use super::exchange::{ExchangeId, Input, Leg, Step};
use super::schemas::broken_tool;
use super::{CallId, Upgrading};
use crate::bridge::action::Nature;
use crate::bridge::association::nature_of;
use crate::bridge::capabilities::TASKS_EXTENSION;
use crate::bridge::envelope::LogLevel;
use crate::bridge::notice::error_answer;
use crate::bridge::progress::call_named;
use crate::bridge::refused::INVALID;
use crate::bridge::shape::{ResultType, error_code, error_to_legacy, result_to_legacy};
use crate::classify::is_read_only_method;
use crate::rpc::{Kind, Message, Object, RequestId, code, response};

impl Upgrading {
    /// Sends a request that was not sent yet; what has to be known first is found out first.
    pub(super) fn begin(&mut self, id: ExchangeId, now: Instant) {
        let Some(exchange) = self.exchanges.get(id) else {
            return;
        };
        if exchange.method() == "tools/call" {
            let tool = exchange.message.param_text("name").unwrap_or_default();
            if let Some(why) = self.schemas.refused(&tool) {
                let answer = broken_tool(&exchange.request, &why);
                return self.complete(id, answer);
            }
            if self.config.headers && !self.schemas.knows(&tool) {
                self.ask_for_tools(now);
                return;
            }
        }
        self.call(id, Input::default());
    }

    /// Calls the server for a request.
    pub(super) fn call(&mut self, id: ExchangeId, input: Input) {
        let Some(exchange) = self.exchanges.get(id) else {
            return;
        };
        let params = match exchange.method() {
            "tools/call" if self.config.headers => self.schemas.headers(&exchange.message),
            _ => Ok(Vec::new()),
        };
        let params = match params {
            Ok(params) => params,
            Err(error) => {
                let answer = self.not_carried(&exchange.request, &error);
                return self.complete(id, answer);
            }
        };
        let request = Some(exchange.request.clone());
        let call = self.calls.insert(Purpose::Exchange(id));
        let message = self.request_of(call, exchange, &input);
        if let Some(exchange) = self.exchanges.get_mut(id) {
            exchange.rounds += 1;
            exchange.leg = Leg::Running(call, input);
        }
        self.actions.push_back(Action::Call(Call {
            id: call,
            message,
            params,
            // What is lost is asked for again by `leg_failed`.
            repeatable: false,
            request,
        }));
    }

    /// A call is made that is not one of the client's own words.
    pub(super) fn push_call(&mut self, id: CallId, message: Bytes, request: Option<RequestId>) {
        self.actions.push_back(Action::Call(Call {
            id,
            message,
            params: Vec::new(),
            repeatable: true,
            request,
        }));
    }

    pub(super) fn response(
        &mut self,
        purpose: Purpose,
        call: CallId,
        message: &Message,
        now: Instant,
    ) {
        match purpose {
            Purpose::Exchange(id) => {
                if let Some(exchange) = self.exchanges.get_mut(id) {
                    exchange.clock.progress(now, &self.config.limits);
                    match exchange.leg {
                        Leg::Task(_, Step::Getting(_)) => self.task_told(id, message, now),
                        Leg::Task(_, Step::Updating(_)) => self.task_updated(id, now),
                        _ => self.leg_answered(id, message, now),
                    }
                }
            }
            Purpose::Tools => self.tools_listed(message, now),
            Purpose::Lists => self.lists_ended(message, now),
            Purpose::Resources => self.resource_listen_ended(call, message, now),
            Purpose::Aside { .. } => {}
        }
    }

    fn leg_answered(&mut self, id: ExchangeId, message: &Message, now: Instant) {
        if message.kind() == Kind::ErrorResponse {
            return self.leg_refused(id, &message.error().unwrap_or_default(), now);
        }
        let result = message.result().unwrap_or_default();
        match ResultType::of(&result) {
            Ok(ResultType::Complete) => self.complete_with(id, &result),
            Ok(ResultType::Absent) => {
                // It has run, whatever the server is (5.1, "Written twice?").
                self.actions.push_back(Action::Doubt);
                self.complete_with(id, &result);
            }
            Ok(ResultType::InputRequired) => self.input_required(id, &result, now),
            Ok(ResultType::Task) => self.became_task(id, &result, now),
            Ok(ResultType::Unknown(kind)) => {
                let text = format!("invalid upstream result: resultType {kind}");
                self.fail(id, INVALID, &text);
            }
            Err(error) => self.fail(id, INVALID, &error.to_string()),
        }
    }

    /// The answer, in the shape that the client's revision has.
    pub(super) fn complete_with(&mut self, id: ExchangeId, result: &Bytes) {
        let Some(exchange) = self.exchanges.get(id) else {
            return;
        };
        let method = exchange.method();
        let kept = match method {
            "tools/list" => self.schemas.learn(result),
            _ => None,
        };
        match result_to_legacy(method, kept.as_ref().unwrap_or(result)) {
            Ok(shaped) => {
                let answer = response(&exchange.request, &shaped);
                self.complete(id, answer);
            }
            Err(error) => self.fail(id, INVALID, &error.to_string()),
        }
    }

    /// Answers a request, which is over.
    pub(super) fn complete(&mut self, id: ExchangeId, answer: Bytes) {
        if let Some(exchange) = self.exchanges.remove(id) {
            for elicitation in exchange.elicitations {
                let notice = super::notices::elicitation_complete(&elicitation);
                self.deliver(Some(exchange.request.clone()), notice, Nature::Notification);
            }
            self.answer(exchange.request, answer);
        }
    }

    /// Answers a request with an error of the gateway's own.
    pub(super) fn fail(&mut self, id: ExchangeId, reason: &str, text: &str) {
        if let Some(exchange) = self.exchanges.get(id) {
            let answer = self.own_error(&exchange.request, reason, text);
            self.complete(id, answer);
        }
    }

    /// The server did not run it.
    fn leg_refused(&mut self, id: ExchangeId, error: &Bytes, now: Instant) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        let Leg::Running(_, input) = &exchange.leg else {
            return;
        };
        let input = input.clone();
        let is_call = exchange.method() == "tools/call";
        let spent = &mut exchange.spent;
        match error_code(error) {
            Some(code::HEADER_MISMATCH) if is_call && self.config.headers && !spent.headers => {
                spent.headers = true;
                // What is known of its tool is wrong.
                self.schemas.forget();
                self.resend_after_tools(id, input, now);
            }
            Some(code::UNSUPPORTED_VERSION) if !spent.revision => {
                spent.revision = true;
                self.actions.push_back(Action::Doubt);
                self.again(id, input);
            }
            Some(code::MISSING_CAPABILITY) if is_call && !spent.tasks && wants_tasks(error) => {
                spent.tasks = true;
                self.again(id, input);
            }
            _ => {
                let error = error_to_legacy(error);
                let answer = error_answer(&exchange.request, &error);
                self.complete(id, answer);
            }
        }
    }

    /// Sends a call once more, which did not run.
    pub(super) fn again(&mut self, id: ExchangeId, input: Input) {
        if let Some(exchange) = self.exchanges.get_mut(id) {
            exchange.rounds -= 1;
            self.call(id, input);
        }
    }

    /// The stream of a call ended without a response, or it was never made.
    pub(super) fn leg_failed(
        &mut self,
        id: ExchangeId,
        undelivered: bool,
        (reason, text): (&str, &str),
        now: Instant,
    ) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        match &mut exchange.leg {
            Leg::Running(_, input) => {
                let input = std::mem::take(input);
                let repeatable =
                    undelivered || (is_read_only_method(exchange.method()) && input.is_empty());
                if repeatable && !std::mem::replace(&mut exchange.spent.lost, true) {
                    return self.again(id, input);
                }
                self.fail(id, reason, text);
            }
            Leg::Task(_, step @ Step::Getting(_)) => {
                // To ask does no harm; the clock of the request ends it.
                let task_lost = std::mem::replace(&mut exchange.spent.lost, true);
                if task_lost {
                    return self.fail(id, reason, text);
                }
                let until = now + super::POLL_INTERVAL;
                *step = Step::Waiting(until);
                self.wake_at(until);
            }
            Leg::Task(_, Step::Updating(_)) => self.fail(id, reason, text),
            _ => {}
        }
    }

    /// Something that a server says about a request while it runs.
    pub(super) fn exchange_notified(
        &mut self,
        id: ExchangeId,
        call: CallId,
        message: &Message,
        now: Instant,
    ) {
        let method = message.method().unwrap_or_default();
        match method {
            "notifications/progress" => {
                let progress = self.progress_for(id, call, message, now);
                match progress {
                    Some((request, message)) => {
                        self.deliver(Some(request), message, Nature::Notification);
                    }
                    None => self.dropped.progress += 1,
                }
            }
            "notifications/message" if !self.wants_line(message) => {
                self.dropped.notifications += 1;
            }
            // Changes are told on listens: here they would come twice, or unasked.
            _ if nature_of(method) == Nature::ChangeNotice
                || method == "notifications/cancelled"
                || method == "notifications/subscriptions/acknowledged" =>
            {
                self.dropped.notifications += 1;
            }
            _ => {
                let Some(exchange) = self.exchanges.get(id) else {
                    return;
                };
                let request = Some(exchange.request.clone());
                let message = crate::bridge::envelope::without_subscription_id(message);
                self.deliver(request, message, nature_of(method));
            }
        }
    }

    fn wants_line(&self, line: &Message) -> bool {
        let wanted = self.session.envelope.log_level;
        let level = LogLevel::of_line(line);
        wanted.is_some_and(|wanted| level.is_none_or(|level| wanted.admits(level)))
    }

    /// Who gets this progress, and with which token.
    fn progress_for(
        &mut self,
        id: ExchangeId,
        call: CallId,
        message: &Message,
        now: Instant,
    ) -> Option<(RequestId, Message)> {
        let exchange = self.exchanges.get_mut(id)?;
        if call_named(message)? != call {
            return None;
        }
        exchange.clock.progress(now, &self.config.limits);
        let message = exchange.progress.as_mut()?.relayed(message)?;
        Some((exchange.request.clone(), message))
    }
}

/// Whether what the server misses is that the client takes tasks.
fn wants_tasks(error: &Bytes) -> bool {
    let data = Object::parse(error).ok().and_then(|e| e.object("data"));
    let required = data.and_then(|data| data.object("requiredCapabilities"));
    let extensions = required.and_then(|required| required.object("extensions"));
    extensions.is_some_and(|extensions| extensions.has(TASKS_EXTENSION))
}
