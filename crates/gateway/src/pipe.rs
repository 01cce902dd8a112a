//! Upstream sessions that are a pipe of messages, a child process, an HTTP+SSE connection or a session of
//! Streamable HTTP, and the client sessions in front of them; and sessions that their server, one of
//! 2026-07-28, knows nothing of.
//!
//! What becomes of a message [`Reframing`] decides, or [`Upgrading`]; here is what they need: one task for
//! an upstream session reads it, writes to it (or calls), delivers and keeps the time. Its state is behind
//! a lock that nobody holds while waiting, so that a client's answers go up while a delivery to it waits.

mod calls;
mod children;
mod delivery;
mod draining;
mod joined;
mod lanes;
mod listening;
mod machine;
mod member;
pub(crate) mod owed;
mod owner;
mod patience;
mod posts;
mod presence;
mod reopening;
mod row;
mod state;
mod task;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use thinpipe_proto::bridge::downgrade::Channel;
use thinpipe_proto::bridge::upgrade::Upgrading;
use thinpipe_proto::bridge::{AttachError, CallId, Config, End, MemberId, Reframing, Refused};
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::{Message, RequestId};
use thinpipe_proto::session::Principal;
use thinpipe_transport::upstream::pipe::PipeSender;
use thinpipe_transport::{ByteBudget, Random};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use crate::clock::now;
use crate::failure::Failure;
use crate::sync::{found, lock};

use machine::{Machine, Writes};
use state::{State, Step, Write};

pub(crate) use children::{Children, NotStarted, Spoken};
pub(crate) use draining::Draining;
pub(crate) use joined::{Joined, JoinedBounds, JoinedKey};
pub(crate) use member::{Attachment, Member, Place};
pub(crate) use owner::Owner;
pub(crate) use posts::Posts;
pub(crate) use presence::{Presence, Watched};

/// How long a handler waits for room: as long as a request may be silent.
const PATIENCE: Duration = Duration::from_secs(60);

/// One upstream session.
pub(crate) struct UpstreamSession {
    state: Mutex<State>,
    up: Up,
    manner: Manner,
    /// There is something to write.
    to_write: Notify,
    /// There is room for what clients say.
    room: Notify,
    /// There is something to deliver.
    to_deliver: Notify,
    /// All deliveries are out.
    delivered: Notify,
    /// Something is being delivered, which what comes is not to overtake.
    is_behind: AtomicBool,
    /// Something was delivered in this turn, so that more may be read.
    goes_on: AtomicBool,
    /// The server's standalone stream is to be opened.
    to_listen: Notify,
    /// It leaves its pipe.
    parting: Notify,
    /// Something is due earlier than the timer knows, or a client has left a stream with a question on it.
    timer: Arc<Notify>,
    over: CancellationToken,
}

/// How an upstream session is used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    /// Several client sessions may use it.
    pub(crate) is_shared: bool,
    /// Its clients' streams can be resumed.
    pub(crate) is_resumable: bool,
    /// It is opened again if its server forgets it.
    pub(crate) reopens: bool,
    /// Other replicas of the server know it, too.
    pub(crate) moves: bool,
    /// How long it is kept for a client, if several may use it.
    pub(crate) idle: Duration,
}

/// How messages go up.
enum Up {
    Pipe {
        has_headers: bool,
        channel: Channel,
        /// What spreads delays.
        random: Random,
        /// Set while it is open.
        sender: Mutex<Option<PipeSender>>,
        /// Why it could not be opened.
        not_opened: OnceLock<Failure>,
    },
    /// Each request is a call; with or without headers.
    Calls { has_headers: bool },
}

/// A client's message was not taken.
#[derive(Debug)]
pub(crate) enum NotSent {
    Refused(Refused),
    /// The server has not taken anything for too long.
    Stuck,
}

impl UpstreamSession {
    /// One in which nothing was said yet, and whose pipe need not be open yet.
    pub(crate) fn new(
        config: Config,
        has_headers: bool,
        manner: Manner,
        random: Random,
    ) -> Arc<Self> {
        let up = Up::Pipe {
            has_headers,
            channel: config.channel,
            random,
            sender: Mutex::default(),
            not_opened: OnceLock::new(),
        };
        let machine = Machine::Reframing(Box::new(Reframing::new(config)), Writes::default());
        Self::over(machine, up, manner)
    }

    /// One whose server has none: it is called. `own` are the headers of what the gateway itself asks,
    /// where calls have headers. What the server of this name says waits within `budget` for its client.
    pub(crate) fn of_calls(
        machine: Upgrading,
        own: Option<HeaderMap>,
        (upstream, budget): (Arc<str>, ByteBudget),
    ) -> Arc<Self> {
        let has_headers = own.is_some();
        let machine = Machine::called(machine, own.unwrap_or_default(), (upstream, budget));
        let manner = Manner {
            is_shared: false,
            is_resumable: true,
            reopens: false,
            moves: false,
            idle: Duration::MAX,
        };
        Self::over(machine, Up::Calls { has_headers }, manner)
    }

    fn over(machine: Machine, up: Up, manner: Manner) -> Arc<Self> {
        let state = State {
            machine,
            deliveries: VecDeque::new(),
            is_delivering: false,
            is_listening: false,
            wants_stream: false,
            listens: false,
            leaving: None,
            released: Vec::new(),
            left: HashMap::new(),
            members: BTreeMap::new(),
            next_member: 0,
            armed: None,
            idle_since: None,
            end: None,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            up,
            manner,
            to_write: Notify::new(),
            room: Notify::new(),
            to_deliver: Notify::new(),
            is_behind: AtomicBool::new(false),
            goes_on: AtomicBool::new(false),
            delivered: Notify::new(),
            to_listen: Notify::new(),
            parting: Notify::new(),
            timer: Arc::new(Notify::new()),
            over: CancellationToken::new(),
        })
    }

    /// A client session of this principal begins to use it. Its answer to `initialize` comes out of the receiver, and
    /// until the [place](Attachment::settle) of the client session is known nothing else comes to it.
    ///
    /// # Errors
    /// [`AttachError`].
    pub(crate) fn attach(
        self: &Arc<Self>,
        initialize: &RequestId,
        principal: &Principal,
    ) -> Result<(Attachment, oneshot::Receiver<Bytes>), AttachError> {
        let mut state = self.lock();
        let id = MemberId(state.next_member);
        state.machine.attach(id, principal)?;
        state.next_member += 1;
        state.idle_since = None;
        let (member, answer) = Member::new(id, initialize.clone(), (principal, &state.members));
        state.members.insert(id, Arc::clone(&member));
        drop(state);
        Ok((Attachment::new(Arc::clone(self), member), answer))
    }

    /// The client session whose calls these are begins to use it: it was initialized already.
    ///
    /// # Errors
    /// [`AttachError`].
    pub(crate) fn attach_initialized(self: &Arc<Self>) -> Result<Attachment, AttachError> {
        let mut state = self.lock();
        let id = MemberId(state.next_member);
        // It is nobody else's.
        let nobody = Principal::Anonymous;
        state.machine.attach(id, &nobody)?;
        state.next_member += 1;
        let member = Member::initialized(id, (&nobody, &state.members));
        state.members.insert(id, Arc::clone(&member));
        drop(state);
        Ok(Attachment::new(Arc::clone(self), member))
    }

    /// The client session of this principal, which was initialized in another process, goes on with it: it has
    /// declared this, and its server has offered that.
    ///
    /// # Errors
    /// [`AttachError`].
    pub(crate) fn attach_resumed(
        self: &Arc<Self>,
        principal: &Principal,
        declared: &Bytes,
        offered: &Bytes,
    ) -> Result<Attachment, AttachError> {
        let mut state = self.lock();
        let id = MemberId(state.next_member);
        state.machine.attach(id, principal)?;
        if let Some((machine, _)) = state.machine.reframing() {
            machine.resume(id, declared, offered);
        }
        state.next_member += 1;
        state.idle_since = None;
        let member = Member::initialized(id, (principal, &state.members));
        state.members.insert(id, Arc::clone(&member));
        drop(state);
        Ok(Attachment::new(Arc::clone(self), member))
    }

    /// Gives the machine a message of a client; waits while too many wait to be written. Its `headers` go
    /// up with it, where messages have any.
    ///
    /// # Errors
    /// [`NotSent`]; then nothing was written.
    pub(crate) async fn send(
        &self,
        member: MemberId,
        message: &Message,
        mut headers: Option<HeaderMap>,
    ) -> Result<(), NotSent> {
        if let Some(taken) = self.try_send(member, message, &mut headers) {
            return taken.map_err(NotSent::Refused);
        }
        let taken = found(&self.room, || self.try_send(member, message, &mut headers));
        let taken = tokio::time::timeout(PATIENCE, taken).await;
        taken.map_err(|_| NotSent::Stuck)?.map_err(NotSent::Refused)
    }

    /// Whether a request of the server with this id waits for the answer of this client.
    pub(crate) fn waits_for(&self, member: MemberId, id: &RequestId) -> bool {
        self.lock().machine.waits_for(member, id)
    }

    /// `None`: there is no room.
    fn try_send(
        &self,
        member: MemberId,
        message: &Message,
        headers: &mut Option<HeaderMap>,
    ) -> Option<Result<(), Refused>> {
        let mut state = self.lock();
        // A session that is over refuses at once.
        if state.machine.is_full() && state.end.is_none() {
            return None;
        }
        let taken = state.machine.client(member, message, headers, now());
        let before = state.machine.waiting();
        state.take_actions();
        let writes = state.machine.reframing().map(|(_, writes)| writes);
        if let Some(write) = writes.and_then(|writes| writes.get_mut(before)) {
            write.headers = headers.take();
        }
        self.notify(state, before);
        Some(taken)
    }

    /// Gives the machine an input, and queues what it wants done.
    fn feed<T>(&self, input: impl FnOnce(&mut Machine, Instant) -> T) -> T {
        let mut state = self.lock();
        let result = input(&mut state.machine, now());
        self.settle(state);
        result
    }

    fn settle(&self, mut state: MutexGuard<'_, State>) {
        let before = state.machine.waiting();
        state.take_actions();
        self.notify(state, before);
    }

    /// Wakes whom what was queued concerns.
    fn notify(&self, mut state: MutexGuard<'_, State>, writes_before: usize) {
        let writes = state.machine.waiting() > writes_before;
        let delivers = !state.deliveries.is_empty();
        let is_over = state.end.is_some();
        let due = state.machine.poll_timeout();
        let is_earlier = due.is_some_and(|due| state.armed.is_none_or(|armed| due < armed));
        let released = std::mem::take(&mut state.released);
        drop(state);
        self.let_go(&released);
        if writes || is_over {
            self.to_write.notify_one();
        }
        if delivers || is_over {
            self.to_deliver.notify_one();
        }
        if is_earlier {
            self.timer.notify_one();
        }
        if is_over {
            self.over.cancel();
            self.room.notify_waiters();
        }
    }

    /// A client session does not use it any more.
    fn detach(&self, member: MemberId) {
        let mut state = self.lock();
        state.machine.detach(member, now());
        state.members.remove(&member);
        if self.manner.is_shared && state.members.is_empty() {
            state.idle_since = Some(now());
            self.timer.notify_one();
        }
        self.settle(state);
    }

    /// The upstream is gone, for this reason.
    fn lose(&self, reason: &str) {
        self.feed(|machine, _| machine.upstream_lost(reason));
    }

    /// Whether its messages have headers.
    pub(crate) fn has_headers(&self) -> bool {
        match &self.up {
            Up::Pipe { has_headers, .. } => *has_headers,
            Up::Calls { has_headers } => *has_headers,
        }
    }

    /// Whether its server knows nothing of it.
    pub(crate) fn is_of_calls(&self) -> bool {
        matches!(self.up, Up::Calls { .. })
    }

    /// Whether each request has a stream of its own at the server, with sessions there.
    fn has_streams(&self) -> bool {
        matches!(
            self.up,
            Up::Pipe {
                channel: Channel::Streams,
                ..
            }
        )
    }

    /// Another process goes on with the server's session, unless others use it here.
    fn leave(&self) {
        if let Some(sender) = self.sender().filter(|_| !self.manner.is_shared) {
            sender.leave();
        }
    }

    /// Later POSTs name the revision.
    pub(crate) fn negotiated(&self, revision: Revision) {
        if let Some(sender) = self.sender() {
            sender.negotiated(revision);
        }
    }

    /// What its messages go up by, while it is open.
    fn sender(&self) -> Option<PipeSender> {
        match &self.up {
            Up::Pipe { sender, .. } => lock(sender).clone(),
            Up::Calls { .. } => None,
        }
    }

    /// Why it was never open, if it could not be opened.
    pub(crate) fn not_opened(&self) -> Option<&Failure> {
        match &self.up {
            Up::Pipe { not_opened, .. } => not_opened.get(),
            Up::Calls { .. } => None,
        }
    }

    /// The streams of these requests need not be read any more.
    fn let_go(&self, released: &[CallId]) {
        if released.is_empty() {
            return;
        }
        if let Some(sender) = self.sender() {
            released
                .iter()
                .for_each(|call| sender.let_go(&call.to_request_id()));
        }
    }

    /// Since when no client session uses it, if none does and it lives.
    fn idle_since(&self) -> Option<Instant> {
        let state = self.lock();
        state.idle_since.filter(|_| state.end.is_none())
    }

    /// Ends it if no client session uses it: another one needs its place. Whether it did.
    fn close_if_idle(&self) -> bool {
        let mut state = self.lock();
        if !state.members.is_empty() || state.end.is_some() {
            return false;
        }
        if let Some((machine, _)) = state.machine.reframing() {
            machine.close_idle();
        }
        self.settle(state);
        true
    }

    /// Why it is over, if it is.
    pub(crate) fn end(&self) -> Option<End> {
        self.lock().end.clone()
    }

    fn member(&self, id: MemberId) -> Option<Arc<Member>> {
        self.lock().members.get(&id).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl fmt::Debug for UpstreamSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("UpstreamSession")
            .field("members", &state.members.len())
            .field("waiting", &state.machine.waiting())
            .field("end", &state.end)
            .finish_non_exhaustive()
    }
}
