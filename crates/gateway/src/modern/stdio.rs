//! Calls on a program: one child process and one pipe for all of them.
//!
//! What becomes of a message [`Multiplexing`] decides; here is what it needs: one task that starts the
//! program when somebody calls, reads it, writes to it and keeps the time. Nobody waits for a client that
//! does not read: its call is cancelled, so that it holds up no other.

mod task;

use std::collections::HashMap;
use std::future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use thinpipe_proto::bridge::multiplex::{Action, Fault, Limits, Multiplexing, Nature};
use thinpipe_proto::bridge::{CallId, DEFAULT_CAP, Refused};
use thinpipe_proto::rpc::{Message, member};
use thinpipe_transport::ByteBudget;
use thinpipe_transport::body::BoxFuture;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::queue::Queue;
use super::{CallError, CallStream, Messages, ModernCall, ModernServer, Single};
use crate::clock::now;
use crate::failure::{Failure, Reason};
use crate::health::Era;
use crate::pipe::Children;
use crate::route::{Seems, against_pin};
use crate::sync::lock;

/// How long a program is kept for the next call.
const IDLE: Duration = Duration::from_secs(300);

/// A server of 2026-07-28 that is a program.
pub(crate) struct Program {
    name: Arc<str>,
    children: Arc<Children>,
    era: Arc<Era>,
    budget: ByteBudget,
    /// How long a request may be silent, and the program may take nothing.
    idle: Duration,
    tasks: TaskTracker,
    stop: CancellationToken,
    state: Mutex<State>,
    /// A program is to be started.
    to_start: Notify,
    /// There is something to write.
    to_write: Notify,
    /// Something is due earlier than the timer knows.
    timer: Notify,
    /// Nobody has used the program for a while.
    retire: Notify,
}

struct State {
    machine: Multiplexing,
    calls: HashMap<CallId, Arc<Queue>>,
    /// Whether the task runs that does all this; it does from the first call on.
    is_served: bool,
    to_start: bool,
    program: Runs,
    /// Why the last start failed.
    not_started: Option<Failure>,
    /// Since when the program runs for nobody.
    idle_since: Option<Instant>,
    /// What the timer waits for.
    armed: Option<Instant>,
}

/// Whether the program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Runs {
    No,
    Yes,
    /// It does, for nobody, and is to be ended.
    Retired,
}

impl Program {
    /// One of which nothing runs yet. Its task is one of `tasks`, and ends with `stop`.
    /// `one_anonymous`: all clients without a name are one principal.
    pub(crate) fn new(
        (name, children, era): (Arc<str>, Arc<Children>, Arc<Era>),
        idle: Duration,
        (tasks, stop): (TaskTracker, CancellationToken),
        budget: ByteBudget,
        one_anonymous: bool,
    ) -> Self {
        let limits = Limits {
            idle,
            cap: DEFAULT_CAP.max(idle),
            ..Limits::default()
        };
        let machine = Multiplexing::new(limits);
        let machine = match one_anonymous {
            true => machine.with_one_anonymous(),
            false => machine,
        };
        Self {
            name,
            children,
            era,
            budget,
            idle,
            tasks,
            stop,
            state: Mutex::new(State {
                machine,
                calls: HashMap::new(),
                is_served: false,
                to_start: false,
                program: Runs::No,
                not_started: None,
                idle_since: None,
                armed: None,
            }),
            to_start: Notify::new(),
            to_write: Notify::new(),
            timer: Notify::new(),
            retire: Notify::new(),
        }
    }

    /// Whether it runs.
    pub(crate) fn runs(&self) -> bool {
        self.lock().program == Runs::Yes
    }

    fn begin(self: &Arc<Self>, call: &ModernCall) -> Result<CallStream, CallError> {
        let message = &call.message;
        let mut state = self.lock();
        let id = match state.machine.call(message, &call.principal, now()) {
            Ok(id) => id,
            Err(refused) => {
                drop(state);
                return self.refused(&refused, message);
            }
        };
        let queue = Arc::new(Queue::default());
        state.calls.insert(id, Arc::clone(&queue));
        if !std::mem::replace(&mut state.is_served, true) {
            self.tasks.spawn(Arc::clone(self).run());
        }
        self.settle(state);
        let program = Arc::clone(self);
        Ok(CallStream::new(Reader { program, id, queue }))
    }

    /// A call that was not taken. What is wrong with it is its client's to know.
    fn refused(&self, refused: &Refused, message: &Message) -> Result<CallStream, CallError> {
        let failed = |reason| CallError::undelivered(Failure::new(reason, refused.to_string()));
        match refused {
            Refused::Over => Err(failed(Reason::ShuttingDown)),
            Refused::TooManyInFlight { .. } | Refused::TooManyOfOne { .. } => {
                Err(failed(Reason::Overloaded))
            }
            _ => {
                let answer = refused.answer(message, &self.name);
                let answer = answer.and_then(|answer| Message::parse(answer).ok());
                let answer = answer.ok_or_else(|| failed(Reason::Invalid))?;
                Ok(CallStream::new(Single::new(answer)))
            }
        }
    }

    /// Gives the machine an input, and does what it wants done.
    fn feed(&self, input: impl FnOnce(&mut Multiplexing, Instant)) {
        let mut state = self.lock();
        input(&mut state.machine, now());
        self.settle(state);
    }

    fn settle(&self, mut state: MutexGuard<'_, State>) {
        while let Some(action) = state.machine.poll_action() {
            match action {
                Action::Start => state.to_start = true,
                Action::Deliver {
                    call,
                    message,
                    nature,
                } => {
                    let held = self.budget.hold(message);
                    let held = held.map_err(|error| Failure::no_room(&error));
                    let message = held.and_then(parsed);
                    let message = message.and_then(|message| self.of_its_era(message));
                    state.deliver(call, message, nature);
                }
                Action::Fail {
                    call,
                    fault,
                    undelivered,
                } => {
                    let failure = self.failure(fault, undelivered, state.not_started.as_ref());
                    state.fail(
                        call,
                        CallError {
                            failure,
                            undelivered,
                        },
                    );
                }
            }
        }
        self.notify(state);
    }

    /// A message as the program is configured to speak. One that is not configured has said itself what it
    /// speaks; one that is was not asked, and some with sessions answer calls without one.
    fn of_its_era(&self, message: Message) -> Result<Message, Failure> {
        if !self.era.is_pinned() {
            return Ok(message);
        }
        let result = message.result();
        if result.is_none_or(|result| member(&result, "resultType").is_some()) {
            return Ok(message);
        }
        let text = format!(
            "{} gives a result without `resultType`, as none of 2026-07-28 does; the call has run{}",
            self.name,
            against_pin("modern", Seems::Sessions)
        );
        Err(Failure::new(Reason::Invalid, text))
    }

    /// Wakes whom what has happened concerns.
    fn notify(&self, mut state: MutexGuard<'_, State>) {
        let is_idle = state.machine.is_idle();
        if is_idle != state.idle_since.is_some() {
            state.idle_since = is_idle.then(now);
        }
        let (starts, writes) = (state.to_start, state.machine.has_writes());
        let due = state.due();
        let is_earlier = due.is_some_and(|due| state.armed.is_none_or(|armed| due < armed));
        drop(state);
        if starts {
            self.to_start.notify_one();
        }
        if writes {
            self.to_write.notify_one();
        }
        if is_earlier {
            self.timer.notify_one();
        }
    }

    fn failure(&self, fault: Fault, undelivered: bool, last: Option<&Failure>) -> Failure {
        let name = &self.name;
        let fate = match undelivered {
            true => "the call was not sent",
            false => "the call may have run",
        };
        match fault {
            Fault::Lost(_) if self.stop.is_cancelled() => {
                Failure::new(Reason::ShuttingDown, "the gateway shuts down")
            }
            Fault::Lost(reason) => {
                Failure::new(Reason::StreamLost, format!("{name}: {reason}; {fate}"))
            }
            Fault::TimedOut => Failure::new(
                Reason::Timeout,
                format!("{name} did not answer in time; {fate}"),
            ),
            Fault::NotStarted => last.cloned().unwrap_or_else(|| {
                Failure::new(Reason::Unavailable, format!("{name} does not start"))
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl ModernServer for Program {
    fn call(self: Arc<Self>, call: ModernCall) -> BoxFuture<Result<CallStream, CallError>> {
        Box::pin(future::ready(self.begin(&call)))
    }
}

impl State {
    /// Gives a call a message, or the reason why it cannot have it, which is its end.
    fn deliver(&mut self, call: CallId, message: Result<Message, Failure>, nature: Nature) {
        let Some(queue) = self.calls.get(&call) else {
            return;
        };
        let pushed = message.and_then(|message| {
            queue.push(message, nature).map_err(|_| {
                let text = "the client reads too slowly; the call was cancelled";
                Failure::new(Reason::BufferFull, text)
            })
        });
        if let Err(failure) = pushed {
            self.machine.cancel(call, now());
            return self.fail(call, CallError::delivered(failure));
        }
        if nature == Nature::Response {
            self.calls.remove(&call);
        }
    }

    fn fail(&mut self, call: CallId, error: CallError) {
        if let Some(queue) = self.calls.remove(&call) {
            queue.fail(error);
        }
    }

    /// When the timer has something to do.
    fn due(&self) -> Option<Instant> {
        let due = [self.idle_due(), self.machine.poll_timeout()];
        due.into_iter().flatten().min()
    }

    /// When a program that nobody uses ends.
    fn idle_due(&self) -> Option<Instant> {
        let since = self.idle_since.filter(|_| self.program == Runs::Yes);
        since.map(|since| since + IDLE)
    }
}

/// Whoever reads a call. Dropping it cancels the call, if it is not over.
struct Reader {
    program: Arc<Program>,
    id: CallId,
    queue: Arc<Queue>,
}

impl Messages for Reader {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, CallError>>> {
        self.queue.poll_next(cx)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.program.lock();
        state.calls.remove(&self.id);
        state.machine.cancel(self.id, now());
        self.program.settle(state);
    }
}

fn parsed(message: bytes::Bytes) -> Result<Message, Failure> {
    Message::parse(message).map_err(|error| Failure::new(Reason::Invalid, error.to_string()))
}
