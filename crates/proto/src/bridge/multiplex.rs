//! A program of 2026-07-28 behind one pipe, and the calls of many clients on it (protocol notes 5.5,
//! group D over stdio; group B asks through it too).
//!
//! Each call has a scope of its own on its client's side: a POST. On the pipe they have one in common, so
//! ids, progress tokens and the `subscriptionId` of listens are of our own there, and are mapped back with
//! their JSON type. A log line names no request: it goes to the only call that asked for lines, or to
//! nobody. Clients of this revision answer no requests, so the program's are dropped.

mod action;
mod call;
mod ending;
mod limits;
mod listen;
mod upstream;

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use crate::bridge::action::{CallId, Dropped};
use crate::bridge::client::check_length;
use crate::bridge::clock::after;
use crate::bridge::limits::share;
use crate::bridge::progress::{Progress, TOKEN_IN_META};
use crate::bridge::refused::Refused;
use crate::rpc::{Kind, Message, meta_key};
use crate::session::Principal;

use call::{Call, Calls, Clock, Stage};
use listen::{LISTEN, Listen};

pub use action::{Action, Fault, Nature, Write};
pub use limits::{DEFAULT_LISTENS, Limits, MAX_FAILED_STARTS, MAX_LISTEN, MAX_RESENDS, MAX_TOPICS};

/// One program and the calls on it.
///
/// The shell gives it what arrives and does what it asks for: after **every** input it calls
/// [`Self::poll_action`] until `None`, in order; then it writes what [`Self::poll_write`] gives, as fast as
/// the program takes it, and arms its timer with [`Self::poll_timeout`]. What waits to be written is
/// bounded by the limits: each open call waits once at most, each cancelled one has left one notice.
///
/// ```
/// use std::time::Instant;
/// use thinpipe_proto::bridge::multiplex::{Action, Limits, Multiplexing};
/// use thinpipe_proto::rpc::Message;
/// use thinpipe_proto::session::Principal;
///
/// # fn ask(now: Instant) -> Result<(), Box<dyn std::error::Error>> {
/// let mut program = Multiplexing::new(Limits::default());
/// let list = Message::parse(r#"{"jsonrpc":"2.0","id":"a","method":"tools/list"}"#.into())?;
/// program.call(&list, &Principal::Anonymous, now)?;
/// let Some(Action::Start) = program.poll_action() else {
///     panic!("nothing runs yet");
/// };
/// program.started();
/// let write = program.poll_write(now).expect("the call waits to be written");
/// assert_eq!(write.message, r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
///
/// let answer = Message::parse(r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}"#.into())?;
/// program.upstream(&answer, now);
/// let Some(Action::Deliver { message, .. }) = program.poll_action() else {
///     panic!("an answer is delivered");
/// };
/// assert_eq!(message, r#"{"jsonrpc":"2.0","id":"a","result":{"tools":[]}}"#);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Multiplexing {
    limits: Limits,
    calls: Calls,
    program: Program,
    serves: Serves,
    /// Whether all who have no name are one.
    one_anonymous: bool,
    /// What waits to be written.
    writes: VecDeque<Outgoing>,
    /// No timer is due before; `None`: there is none.
    wake: Option<Instant>,
    actions: VecDeque<Action>,
    dropped: Dropped,
}

/// What becomes of the program.
#[derive(Debug)]
enum Program {
    /// None runs. What is left of its last starts: how many failed in a row, and when another is due.
    Down {
        failed: u32,
        again: Option<Instant>,
    },
    /// The shell was told to start one.
    Starting {
        failed: u32,
    },
    Running,
    /// No other is started.
    Over,
}

/// Whose calls the program has had.
#[derive(Debug, PartialEq, Eq)]
enum Serves {
    Nobody,
    One(Principal),
    /// No level is sent any more, and no line goes to anybody.
    Several,
}

#[derive(Debug)]
enum Outgoing {
    Call(CallId),
    Notice(Bytes),
}

impl Multiplexing {
    /// A program that was not started yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            calls: Calls::default(),
            program: Program::Down {
                failed: 0,
                again: None,
            },
            serves: Serves::Nobody,
            one_anonymous: false,
            writes: VecDeque::new(),
            wake: None,
            actions: VecDeque::new(),
            dropped: Dropped::default(),
        }
    }

    /// Counts all clients without a name as one principal, which is for a configuration to say. Otherwise
    /// nobody knows how many they are, and none of them gets log lines (protocol notes 5.5).
    #[must_use]
    pub fn with_one_anonymous(mut self) -> Self {
        self.one_anonymous = true;
        self
    }

    /// A request of a client of this revision, with its envelope. The id that comes back names it from now
    /// on; it is the one that the program knows it by, and is never used again.
    ///
    /// # Errors
    /// [`Refused`] if it was not taken; the caller answers.
    pub fn call(
        &mut self,
        request: &Message,
        principal: &Principal,
        now: Instant,
    ) -> Result<CallId, Refused> {
        if matches!(self.program, Program::Over) {
            return Err(Refused::Over);
        }
        let id = request.id().filter(|_| request.kind() == Kind::Request);
        let id = id.ok_or(Refused::InvalidParameter { parameter: "id" })?;
        check_length(id.as_json().len())?;
        let progress = Progress::asked(request)?;
        let listen = self.listen(request, principal)?;
        let is_listen = listen.is_some();
        let clock = Clock {
            idle_at: Some(after(now, self.limits.idle)),
            cap_at: (!is_listen).then(|| after(now, self.limits.cap)),
        };
        self.wake_at(clock.due());
        let call = self.calls.insert(Call {
            id: id.clone(),
            principal: principal.clone(),
            // A listen has none (protocol notes 2.3.7).
            progress: progress.filter(|_| !is_listen),
            logs: false,
            stage: Stage::Waiting(request.clone()),
            listen,
            clock,
        });
        self.writes.push_back(Outgoing::Call(call));
        match self.program {
            // It is known not to start, and who waits for it is to come back when it may.
            Program::Down { again, .. } if again.is_some_and(|again| again > now) => {
                self.fail(call, Fault::NotStarted, true);
            }
            _ => self.start(),
        }
        Ok(call)
    }

    /// What a request listens to, if it does, and whether there is room for it.
    fn listen(&self, request: &Message, principal: &Principal) -> Result<Option<Listen>, Refused> {
        let (listens, others) = self.calls.len();
        let is_listen = request.method() == Some(LISTEN);
        let (taken, limit) = match is_listen {
            true => (listens, self.limits.listens),
            false => (others, self.limits.in_flight),
        };
        if taken >= limit {
            return Err(Refused::TooManyInFlight { limit });
        }
        let limit = share(limit);
        if self.calls.len_of(principal, is_listen) >= limit {
            return Err(Refused::TooManyOfOne { limit });
        }
        if !is_listen {
            return Ok(None);
        }
        if request.source().len() > MAX_LISTEN {
            return Err(Refused::TooLong { limit: MAX_LISTEN });
        }
        Listen::new(request).map(Some)
    }

    /// The client of a call has left: what it asked for is not wanted any more. Does nothing if it is over.
    pub fn cancel(&mut self, call: CallId, now: Instant) {
        self.give_up(call, "the client does not wait any more", now);
    }

    /// A message of the program.
    pub fn upstream(&mut self, message: &Message, now: Instant) {
        if !matches!(self.program, Program::Running) {
            return;
        }
        match message.kind() {
            Kind::Request => self.dropped.server_requests += 1,
            Kind::Notification => self.upstream_notification(message, now),
            Kind::Response | Kind::ErrorResponse => self.upstream_response(message),
        }
    }

    /// The program was started: nothing was written to it yet.
    pub fn started(&mut self) {
        if matches!(self.program, Program::Starting { .. }) {
            self.program = Program::Running;
            self.serves = Serves::Nobody;
        }
    }

    /// The program could not be started, and may be tried again at `again`. What waits for it fails, but for
    /// listens that were acknowledged by another one.
    pub fn start_failed(&mut self, again: Instant) {
        let Program::Starting { failed } = self.program else {
            return;
        };
        self.no_program(failed + 1, again);
    }

    /// The program has ended, for a reason that people will read. What it was written fails; listens, and
    /// what waits to be written, wait for another one.
    pub fn upstream_lost(&mut self, reason: &str) {
        if matches!(self.program, Program::Running) {
            self.lose(reason);
        }
    }

    /// Nothing is called any more, for a reason that people will read: what is open fails, listens get
    /// their final result.
    pub fn end(&mut self, reason: &str) {
        if !matches!(self.program, Program::Over) {
            self.end_all(reason);
        }
    }

    /// A call that [`poll_write`](Self::poll_write) gave certainly did not reach the program.
    pub fn not_written(&mut self, call: CallId, reason: &str) {
        self.fail(call, Fault::Lost(reason.to_owned()), true);
    }

    /// The time [`Self::poll_timeout`] named has come. Too early a call does no harm.
    pub fn on_timeout(&mut self, now: Instant) {
        if self.wake.is_some_and(|wake| wake <= now) {
            self.expire(now);
        }
    }

    /// What the shell must do next. Changes after every input; call until `None`.
    #[must_use]
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The next message for the program; what was given counts as written, and the deadline of a call as
    /// started anew. Changes after every input; `None` if none runs.
    #[must_use]
    pub fn poll_write(&mut self, now: Instant) -> Option<Write> {
        if !matches!(self.program, Program::Running) {
            return None;
        }
        loop {
            match self.writes.pop_front()? {
                Outgoing::Notice(message) => {
                    let call = None;
                    return Some(Write { message, call });
                }
                Outgoing::Call(id) => {
                    if let Some(message) = self.written(id, now) {
                        let call = Some(id);
                        return Some(Write { message, call });
                    }
                }
            }
        }
    }

    /// When [`Self::on_timeout`] is due; may be earlier than anything there is to do. Changes after every
    /// input and every write.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.wake.filter(|_| !self.is_idle())
    }

    /// Whether there is something to write, and somebody to write it to.
    #[must_use]
    pub fn has_writes(&self) -> bool {
        matches!(self.program, Program::Running) && !self.writes.is_empty()
    }

    /// Whether nobody uses the program: no call is open, and none that was cancelled may be running.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.calls.len() == (0, 0)
    }

    /// How many calls are held: open ones, and cancelled ones that may be running still.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        let (listens, others) = self.calls.len();
        listens + others
    }

    /// What was dropped so far.
    #[must_use]
    pub fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// Asks for the program if something waits for it and none runs.
    fn start(&mut self) {
        let Program::Down { failed, again: _ } = self.program else {
            return;
        };
        if !self.writes.is_empty() {
            self.program = Program::Starting { failed };
            self.actions.push_back(Action::Start);
        }
    }

    /// The call as the program gets it.
    fn written(&mut self, id: CallId, now: Instant) -> Option<Bytes> {
        let call = self.calls.get_mut(id)?;
        let Stage::Waiting(request) = std::mem::replace(&mut call.stage, Stage::Written) else {
            return None;
        };
        let due = call.clock.idle(now, self.limits.idle);
        let principal = call.principal.clone();
        let asks = request.meta_json(meta_key::LOG_LEVEL).is_some();
        let is_alone = self.serves.also(&principal, self.one_anonymous);
        self.wake_at(Some(due));
        let call = self.calls.get_mut(id)?;
        call.logs = asks && is_alone && call.listen.is_none();
        let own = id.to_request_id();
        // An id is never used twice, so it is a token that is never used twice.
        let mut message = match call.progress {
            Some(_) => request.with_id_and_meta(&own, TOKEN_IN_META, own.as_json()),
            None => request.with_id(&own),
        };
        if asks && !call.logs {
            message = without(message, meta_key::LOG_LEVEL);
        }
        if call.listen.is_some() {
            message = without(message, TOKEN_IN_META);
        }
        Some(message)
    }

    fn deliver(&mut self, call: CallId, message: Bytes, nature: Nature) {
        self.actions.push_back(Action::Deliver {
            call,
            message,
            nature,
        });
    }

    /// Asks for a timer at `due`, or earlier.
    fn wake_at(&mut self, due: Option<Instant>) {
        self.wake = [self.wake, due].into_iter().flatten().min();
    }
}

impl Serves {
    /// Counts a principal in; whether it is the only one. Who has no name may be anybody.
    fn also(&mut self, principal: &Principal, one_anonymous: bool) -> bool {
        match self {
            _ if *principal == Principal::Anonymous && !one_anonymous => *self = Self::Several,
            Self::Nobody => *self = Self::One(principal.clone()),
            Self::One(served) if served == principal => {}
            Self::One(_) | Self::Several => *self = Self::Several,
        }
        *self != Self::Several
    }
}

/// A message without a member of its `params._meta`.
fn without(message: Bytes, name: &str) -> Bytes {
    match Message::parse(message.clone()) {
        Ok(parsed) => parsed.with_meta(name, None),
        // Unreachable: it was parsed before.
        Err(_) => message,
    }
}
