//! Tools that run as tasks only (2025-11-25): they are run as tasks here, and their clients get a plain
//! result (protocol notes 5.6, "Off").

use std::collections::BTreeSet;
use std::time::Instant;

use bytes::Bytes;

use crate::bridge::CallId;
use crate::bridge::association::related_task;
use crate::bridge::downgrade::calls::Purpose;
use crate::bridge::downgrade::exchange::Task;
use crate::bridge::downgrade::{
    Action, Downgrading, ExchangeId, MAX_PAGES, MAX_TASK_TOOLS, SETTING_AGE, Written,
};
use crate::bridge::limits::MAX_KEPT;
use crate::bridge::notice;
use crate::bridge::shape::{RELATED_TASK, error_code};
use crate::rpc::{Kind, Message, code, elements, member, quoted, string};

/// Which tools run as tasks only, as the server's list says.
#[derive(Debug, Default)]
pub(super) struct TaskTools {
    known: Known,
    names: BTreeSet<String>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Known {
    #[default]
    No,
    /// The list is being read; so many pages were.
    Listing {
        pages: usize,
    },
    Yes,
}

impl TaskTools {
    pub(super) fn are_known(&self) -> bool {
        self.known == Known::Yes
    }

    /// The list has changed.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// The list cannot be had: calls go without it.
    pub(super) fn give_up(&mut self) {
        self.known = Known::Yes;
    }

    /// How a request has to be run.
    pub(super) fn task_for(&self, method: &str, request: &Message) -> Task {
        let name = request.param_text("name");
        let required =
            method == "tools/call" && name.is_some_and(|name| self.names.contains(&*name));
        match required {
            true => Task::Asked,
            false => Task::No,
        }
    }

    fn learn(&mut self, result: &Bytes) {
        let tools = member(result, "tools").and_then(|tools| elements(&tools).ok());
        for tool in tools.unwrap_or_default() {
            let support = member(&tool, "execution").and_then(|e| member(&e, "taskSupport"));
            let name = member(&tool, "name");
            let name = name.as_ref().and_then(|name| string(name));
            if support.is_some_and(|support| support == "\"required\"")
                && let Some(name) = name.filter(|name| name.len() <= MAX_KEPT)
                && self.names.len() < MAX_TASK_TOOLS
            {
                self.names.insert(name.into_owned());
            }
        }
    }
}

impl Downgrading {
    /// Asks the server for its tools, unless it was asked.
    pub(super) fn list_tools(&mut self, now: Instant) {
        if self.task_tools.known == Known::No {
            self.task_tools.known = Known::Listing { pages: 0 };
            self.ask_upstream(Purpose::Tools, "tools/list", b"{}", SETTING_AGE, now);
        }
    }

    pub(super) fn tools_listed(&mut self, answer: &Message, now: Instant) {
        // It has changed meanwhile: it is asked for again when somebody needs it.
        let Known::Listing { pages } = self.task_tools.known else {
            return;
        };
        let result = answer.result();
        let next = result.as_ref().and_then(|result| {
            self.task_tools.learn(result);
            member(result, "nextCursor")
        });
        match next.filter(|_| pages + 1 < MAX_PAGES) {
            Some(cursor) => {
                self.task_tools.known = Known::Listing { pages: pages + 1 };
                let mut params = b"{\"cursor\":".to_vec();
                params.extend_from_slice(&cursor);
                params.push(b'}');
                self.ask_upstream(Purpose::Tools, "tools/list", &params, SETTING_AGE, now);
            }
            None => self.task_tools.known = Known::Yes,
        }
    }

    /// Whether the answer to an exchange's call is not its outcome, as it runs as a task: then the next
    /// call is written.
    pub(super) fn goes_on_as_task(&mut self, id: ExchangeId, answer: &Message) -> bool {
        let has_tasks = self.features().tool_tasks;
        let Some(exchange) = self.exchanges.get_mut(&id) else {
            return false;
        };
        let is_call = exchange.method == "tools/call";
        let Some(running) = exchange
            .state
            .running_mut()
            .filter(|_| is_call && has_tasks)
        else {
            return false;
        };
        match &running.task {
            Task::Asked => {
                let Some(task) = created(answer) else {
                    return false;
                };
                running.task = Task::Made(task.clone());
                let call = self.await_task(id, &task);
                self.set_call(id, call);
                true
            }
            // A server says so of a tool that runs as a task only: it did not run.
            Task::No => {
                let code = answer.error().as_ref().and_then(error_code);
                let refused = code == Some(code::METHOD_NOT_FOUND);
                let Some(request) = running.original.take_if(|_| refused) else {
                    return false;
                };
                let token = running.token;
                self.calls.forget_token(token);
                let again = self.write_run(id, &request.message, Task::Asked);
                if let Some(exchange) = self.exchanges.get_mut(&id)
                    && let Some(running) = exchange.state.running_mut()
                {
                    *running = again;
                }
                true
            }
            Task::Made(_) => false,
        }
    }

    /// Waits for the result of a task.
    fn await_task(&mut self, id: ExchangeId, task: &str) -> CallId {
        let call = self.calls.open(Purpose::Run(id), None);
        let params = format!("{{\"taskId\":{}}}", quoted(task));
        let own = call.to_request_id();
        let message = notice::request(&own, "tasks/result", params.as_bytes());
        let written = Written::Request(call);
        self.actions.push_back(Action::Write { message, written });
        call
    }

    fn set_call(&mut self, id: ExchangeId, call: CallId) {
        if let Some(exchange) = self.exchanges.get_mut(&id)
            && let Some(running) = exchange.state.running_mut()
        {
            running.call = call;
            // It runs now.
            running.original = None;
        }
    }

    /// A cancelled call was answered with the task that it made.
    pub(super) fn cancelled_task(&mut self, answer: &Message, now: Instant) {
        if self.features().tool_tasks
            && let Some(task) = created(answer)
        {
            self.cancel_task(&task, now);
        }
    }

    /// A task shows that it lives.
    pub(super) fn task_status(&mut self, message: &Message, now: Instant) {
        let task = message.param_text("taskId");
        let found = task.and_then(|task| self.running_task(&task));
        if let Some(exchange) = found.and_then(|id| self.exchanges.get_mut(&id)) {
            exchange.clock.progress(now, &self.config.limits);
        }
    }

    /// Whether a message says which task it belongs to.
    pub(super) fn names_task(&self, message: &Message) -> bool {
        message.meta_json(RELATED_TASK).is_some()
    }

    /// The exchange whose task a message belongs to.
    pub(super) fn of_task(&self, message: &Message) -> Option<ExchangeId> {
        self.running_task(&related_task(message)?)
    }

    fn running_task(&self, task: &str) -> Option<ExchangeId> {
        let mut exchanges = self.exchanges.iter();
        let found = exchanges.find(|(_, exchange)| {
            let running = exchange.state.running().map(|running| &running.task);
            matches!(running, Some(Task::Made(made)) if made == task)
        });
        found.map(|(id, _)| *id)
    }
}

/// The task that an answer says was made.
fn created(answer: &Message) -> Option<String> {
    if answer.kind() != Kind::Response {
        return None;
    }
    let task = member(&answer.result()?, "task")?;
    let id = member(&task, "taskId").filter(|id| id.len() <= MAX_KEPT)?;
    string(&id).map(std::borrow::Cow::into_owned)
}
