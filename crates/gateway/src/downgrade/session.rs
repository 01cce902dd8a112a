//! One session of the server, with the requests and listens of clients that run on it.

mod write;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use http::HeaderMap;
use thinpipe_proto::bridge::CallId;
use thinpipe_proto::bridge::downgrade::{
    Action, AnswerId, AttachmentId, Downgrading, End, ExchangeId, Listening, Refused, Request,
    RetryError, Ticket, WriteFailure, Written,
};
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::{Message, RequestId, member, string};
use thinpipe_transport::upstream::pipe::PipeSender;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Downgrade;
use super::parked::ParkedPlace;
use super::pool::Pooled;
use super::post::{Item, Post};
use super::state::SessionKey;
use crate::clock::now;
use crate::failure::Failure;
use crate::sync::lock;
pub(super) use write::{Unwritten, Write};

/// One session of the server.
pub(super) struct Session {
    pub(super) key: SessionKey,
    pub(super) shared: Arc<Downgrade>,
    state: Mutex<State>,
    /// Set when it is open.
    sender: OnceLock<PipeSender>,
    /// There is something to write.
    pub(super) to_write: Notify,
    /// Less is owed to the server than before.
    pub(super) to_read: Notify,
    /// The standalone stream is to be opened.
    pub(super) to_listen: Notify,
    /// Something is due earlier than the timer knows.
    pub(super) timer: Notify,
    /// Nothing more is said to the server.
    pub(super) over: CancellationToken,
}

pub(super) struct State {
    pub(super) machine: Downgrading,
    pub(super) writes: VecDeque<Write>,
    pub(super) posts: BTreeMap<AttachmentId, Arc<Post>>,
    /// The posts that requests came with, which may be written twice.
    first: HashMap<ExchangeId, AttachmentId>,
    /// Those of the client whose answers are written now.
    answering: Option<HeaderMap>,
    pub(super) parked: HashMap<ExchangeId, ParkedPlace>,
    /// Posts that got something since they were asked for.
    pub(super) given: Vec<Arc<Post>>,
    pub(super) wants_stream: bool,
    /// What the timer waits for.
    pub(super) armed: Option<Instant>,
    /// Since when nobody uses it.
    idle_since: Option<Instant>,
    is_negotiated: bool,
    pub(super) end: Option<End>,
}

/// How much there was before an input.
struct Before {
    writes: usize,
    exchanges: usize,
    listens: usize,
    calls: usize,
}

impl Session {
    pub(super) fn new(key: SessionKey, shared: Arc<Downgrade>, mut machine: Downgrading) -> Self {
        machine.start(now());
        let state = State {
            machine,
            writes: VecDeque::new(),
            posts: BTreeMap::new(),
            first: HashMap::new(),
            answering: None,
            parked: HashMap::new(),
            given: Vec::new(),
            wants_stream: false,
            armed: None,
            idle_since: None,
            is_negotiated: false,
            end: None,
        };
        let session = Self {
            key,
            shared,
            state: Mutex::new(state),
            sender: OnceLock::new(),
            to_write: Notify::new(),
            to_read: Notify::new(),
            to_listen: Notify::new(),
            timer: Notify::new(),
            over: CancellationToken::new(),
        };
        session.feed(|_, _| ());
        session
    }

    /// A request of a client, whose answer comes out of its post.
    ///
    /// # Errors
    /// [`Refused`]: it was not taken.
    pub(super) fn request(&self, request: Request, post: &Arc<Post>) -> Result<(), Refused> {
        let exchange = request.exchange;
        self.take(post, |state| {
            state.first.insert(exchange, post.id);
            state.machine.request(request, now())
        })
    }

    /// A client comes back with what its call waits for.
    ///
    /// # Errors
    /// [`RetryError`]. Nothing has changed.
    pub(super) fn retry(
        &self,
        ticket: Ticket,
        message: &Message,
        post: &Arc<Post>,
    ) -> Result<(), RetryError> {
        self.take(post, |state| {
            state.answering = Some(post.headers.clone());
            state.machine.retry(ticket, post.id, message, now())
        })
    }

    /// A listen of another session, which is gone, goes on here.
    ///
    /// # Errors
    /// [`Refused`].
    pub(super) fn adopt(&self, listening: Listening, post: &Arc<Post>) -> Result<(), Refused> {
        self.take(post, |state| state.machine.adopt(listening, now()))
    }

    /// Gives the machine something whose answer goes to this post.
    fn take<E>(
        &self,
        post: &Arc<Post>,
        input: impl FnOnce(&mut State) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut state = self.lock();
        let before = state.before();
        state.posts.insert(post.id, Arc::clone(post));
        let taken = input(&mut state);
        if taken.is_err() {
            state.forget(post.id);
        }
        self.settle(state, &before);
        taken
    }

    /// The client has the last message of a post whose request waits for it now.
    pub(super) fn handed_out(&self, attachment: AttachmentId, exchange: ExchangeId) {
        let call = self.feed(|machine, now| {
            machine.handed_out(attachment, now);
            machine.call_of(exchange)
        });
        self.hold(call, true);
    }

    /// Of the stream of a parked call, little is read until its client comes back.
    fn hold(&self, call: Option<CallId>, is_held: bool) {
        if let (Some(call), Some(sender)) = (call, self.sender.get()) {
            sender.hold(&call.to_request_id(), is_held);
        }
    }

    /// A client's connection is gone, or nobody reads it.
    pub(super) fn detach(&self, attachment: AttachmentId) {
        let mut state = self.lock();
        let before = state.before();
        state.forget(attachment);
        state.machine.detach(attachment, now());
        self.settle(state, &before);
    }

    /// The server is reached.
    pub(super) fn opened(&self, sender: PipeSender) {
        // Set once, by the task of the session.
        let _ = self.sender.set(sender);
    }

    /// Whether the server was ever reached.
    pub(super) fn had_pipe(&self) -> bool {
        self.sender.get().is_some()
    }

    /// It cannot be reached: everybody who waits hears why.
    pub(super) fn not_opened(&self, failure: &Failure) {
        let (status, reason) = (failure.status().as_u16(), failure.reason.as_str());
        self.feed(|machine, now| machine.open_failed(status, reason, &failure.text, now));
    }

    /// A message of the server, and the request on whose stream it came. Says who got something.
    pub(super) fn heard(&self, message: &Message, via: Option<&RequestId>) -> Vec<Arc<Post>> {
        let mut state = self.lock();
        let before = state.before();
        state
            .machine
            .upstream(message, via.and_then(CallId::from_request_id), now());
        state.run(self);
        let given = std::mem::take(&mut state.given);
        self.settle(state, &before);
        given
    }

    pub(super) fn lose(&self, reason: &str) {
        self.feed(|machine, now| machine.upstream_lost(reason, now));
    }

    pub(super) fn stream_lost(&self, request: &RequestId, reason: &str) {
        if let Some(call) = CallId::from_request_id(request) {
            self.feed(|machine, now| machine.stream_lost(call, reason, now));
        }
    }

    pub(super) fn write_failed(&self, call: CallId, failure: WriteFailure, text: &str) {
        self.feed(|machine, now| machine.write_failed(call, failure, text, now));
    }

    /// Listens end, and nothing new begins: the process ends.
    pub(super) fn drain(&self) {
        self.feed(Downgrading::drain);
    }

    /// The time that [`arm`](Self::arm) named has come.
    pub(super) fn expire(&self, idle: Duration) {
        let mut state = self.lock();
        let before = state.before();
        let now = now();
        state.machine.on_timeout(now);
        if state.idle_since.is_some_and(|since| since + idle <= now) {
            state.machine.close_idle();
        }
        self.settle(state, &before);
    }

    /// Whoever waits for an answer that does not come waits no longer.
    pub(super) fn let_go(&self) {
        let posts = std::mem::take(&mut self.lock().posts);
        for post in posts.into_values() {
            post.end();
        }
    }

    /// When something is due.
    pub(super) fn arm(&self, idle: Duration) -> Option<Instant> {
        let mut state = self.lock();
        let unused = state.idle_since.map(|since| since + idle);
        let due = unused.into_iter().chain(state.machine.poll_timeout()).min();
        state.armed = due;
        due
    }

    /// A client's answer was not taken by the server.
    pub(super) fn answer_failed(&self, answer: AnswerId, write: Unwritten, undelivered: bool) {
        let Unwritten { message, headers } = write;
        let mut state = self.lock();
        let before = state.before();
        state.answering = headers;
        state
            .machine
            .answer_failed(answer, message, undelivered, now());
        self.settle(state, &before);
    }

    /// The next message to write; `None`: there is none.
    pub(super) fn next_write(&self) -> Option<Write> {
        let mut state = self.lock();
        let mut write = state.writes.pop_front()?;
        if let Written::Request(call) = write.written
            && let Some(exchange) = state.machine.exchange_of(call)
        {
            let post = state
                .first
                .get(&exchange)
                .and_then(|id| state.posts.get(id));
            write.headers = post.map(|post| post.headers.clone());
        }
        if write.is_owed() {
            self.to_read.notify_one();
        }
        Some(write)
    }

    /// Whether the server may say more: it takes the answers to what it said before. What its clients say is
    /// bounded elsewhere, and never stops what it answers them.
    pub(super) fn may_say_more(&self) -> bool {
        write::may_say_more(&self.lock().writes)
    }

    /// Gives the machine an input, and does what it wants done.
    pub(super) fn feed<T>(&self, input: impl FnOnce(&mut Downgrading, Instant) -> T) -> T {
        let mut state = self.lock();
        let before = state.before();
        let result = input(&mut state.machine, now());
        self.settle(state, &before);
        result
    }

    /// Does what the machine wants done, and wakes whom that concerns.
    fn settle(&self, mut state: MutexGuard<'_, State>, before: &Before) {
        state.run(self);
        state.answering = None;
        state.given.clear();
        let writes = state.writes.len() > before.writes;
        let is_over = state.end.is_some();
        let is_finished = state.machine.is_finished();
        // What the machine asks for itself keeps a session from being idle, and a call that was cancelled and
        // may be running keeps it from taking others.
        let mut has_less = state.machine.exchanges() < before.exchanges
            || state.machine.listens() < before.listens
            || state.machine.calls() < before.calls;
        let due = state.machine.poll_timeout();
        let mut is_earlier = due.is_some_and(|due| state.armed.is_none_or(|armed| due < armed));
        let idle = state.machine.is_idle().then(now);
        if idle.is_some() != state.idle_since.is_some() {
            has_less |= idle.is_some();
            state.idle_since = idle;
            is_earlier = true;
        }
        let wants_stream = state.wants_stream;
        let revision = state.revision();
        drop(state);
        if let (Some(revision), Some(sender)) = (revision, self.sender.get()) {
            sender.negotiated(revision);
        }
        if writes || is_over {
            self.to_write.notify_one();
        }
        if wants_stream {
            self.to_listen.notify_one();
        }
        if is_earlier || is_finished {
            self.timer.notify_one();
        }
        if is_over {
            self.over.cancel();
        }
        if has_less || is_over {
            self.shared.freed();
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Pooled for Session {
    fn is_over(&self) -> bool {
        self.lock().machine.is_over()
    }

    fn close_if_idle(&self) -> bool {
        self.feed(|machine, _| {
            let is_idle = machine.is_idle();
            machine.close_idle();
            is_idle
        })
    }
}

impl State {
    fn before(&self) -> Before {
        Before {
            writes: self.writes.len(),
            exchanges: self.machine.exchanges(),
            listens: self.machine.listens(),
            calls: self.machine.calls(),
        }
    }

    /// Whether the server has answered `initialize`.
    pub(super) fn is_negotiated(&self) -> bool {
        self.is_negotiated
    }

    /// Whether a request was not written yet; then it is not written any more.
    fn take_back(&mut self, call: CallId) -> bool {
        let before = self.writes.len();
        let is_it = |write: &Write| write.written == Written::Request(call);
        self.writes.retain(|write| !is_it(write));
        self.writes.len() < before
    }

    /// Nobody waits for what comes for a post.
    pub(super) fn forget(&mut self, attachment: AttachmentId) -> Option<Arc<Post>> {
        self.first.retain(|_, first| *first != attachment);
        self.posts.remove(&attachment)
    }

    /// The revision, when it has just been agreed on.
    fn revision(&mut self) -> Option<Revision> {
        if self.is_negotiated {
            return None;
        }
        let result = self.machine.initialize_result()?;
        self.is_negotiated = true;
        let version = member(result, "protocolVersion")?;
        Revision::from_bytes(string(&version)?.as_bytes())
    }

    fn run(&mut self, session: &Session) {
        while let Some(action) = self.machine.poll_action() {
            self.act(action, session);
        }
    }

    fn act(&mut self, action: Action, session: &Session) {
        match action {
            // The server hears of neither.
            Action::Write {
                written: Written::Cancel(call),
                ..
            } if self.take_back(call) => self.machine.never_written(call, now()),
            Action::Write { message, written } => {
                let is_answer = matches!(written, Written::Answer(_));
                let headers = self.answering.clone().filter(|_| is_answer);
                self.writes.push_back(Write {
                    message,
                    written,
                    headers,
                });
            }
            Action::Deliver(delivery) => self.deliver(delivery, session),
            Action::Unparked(exchange) => {
                self.parked.remove(&exchange);
                session.hold(self.machine.call_of(exchange), false);
            }
            Action::Resend(request) => self.last(request.attachment, Item::Again(request)),
            Action::Relisten(listening) => {
                self.last(listening.attachment, Item::Relisten(listening));
            }
            Action::Release(call) => {
                if let Some(sender) = session.sender.get() {
                    sender.let_go(&call.to_request_id());
                }
            }
            Action::OpenStream => self.wants_stream = true,
            Action::CloseStream => {
                self.wants_stream = false;
                if let Some(sender) = session.sender.get() {
                    sender.unlisten();
                }
            }
            Action::Close(end) => {
                // What was to be said before still is, if anybody is there to hear it.
                if matches!(end, End::UpstreamLost(_) | End::NotInitialized(_)) {
                    self.writes.clear();
                }
                self.end = Some(end);
            }
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Session")
            .field("key", &self.key)
            .field("posts", &state.posts.len())
            .field("writes", &state.writes.len())
            .field("end", &state.end)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
