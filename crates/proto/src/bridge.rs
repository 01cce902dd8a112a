//! Bridges between bindings, one state machine per pair, without I/O.
//!
//! [`Reframing`] is the one for a legacy client in front of a legacy server whose session is a pipe of
//! messages (protocol notes 5.2, group A), and for several such clients on one session of a server (5.2.1). Both sides speak one revision, so a
//! message changes nothing but ids and tokens; every other byte stays as it came.
//!
//! [`upgrade::Upgrading`] is the one for a legacy client in front of a server of 2026-07-28 (5.3, group B).
//!
//! [`multiplex::Multiplexing`] is the one for calls of 2026-07-28 on a program of that revision (5.5,
//! group D over stdio).
//!
//! Where the eras differ (groups B, C and D), messages are made over by [`envelope`], [`capabilities`],
//! [`shape`] and [`tools`]: pure functions that every pair of bindings uses.

mod action;
mod association;
mod call;
pub mod capabilities;
mod client;
mod clock;
pub mod downgrade;
mod ending;
pub mod envelope;
mod gap;
mod handshake;
mod levels;
mod limits;
mod member;
pub mod multiplex;
mod notice;
mod progress;
mod question;
mod refused;
pub mod shape;
mod shared;
mod tasks;
pub mod tools;
mod topics;
pub mod upgrade;
mod upstream;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::rpc::{Kind, Message, RequestId};
use crate::session::Principal;

use call::{Call, Calls, Owner, Stage};
use capabilities::Declared;
use gap::Notices;
use member::Member;
use progress::TOKEN_IN_META;
use question::Questions;
use shared::Shared;

pub use action::{Action, CallId, Delivery, Dropped, End, MemberId, Nature, Relayed};
pub use gap::resource_updated;
pub use handshake::without_capabilities;
pub use limits::{
    CANCELLED_AGE, Config, DEFAULT_ABSOLUTE_CAP, DEFAULT_ANSWER, DEFAULT_CAP, DEFAULT_IDLE,
    DEFAULT_IN_FLIGHT, DEFAULT_MEMBERS, DEFAULT_SERVER_REQUESTS, DEFAULT_STREAM_IDLE,
    DEFAULT_SUBSCRIPTIONS, EARLY_CANCEL_AGE, Limits, MAX_EARLY_CANCELS, MAX_KEPT, MAX_TASKS,
    Sharing, share,
};
pub use member::EarlyCancels;
pub(crate) use notice::concerns;
pub use notice::{cancelled, cancelled_of};
pub use refused::{AttachError, Refused};

/// One upstream session, and the client sessions ("members") that use it: one, or several if it is
/// shared.
///
/// The shell gives it what arrives and does what it asks for: after **every** input it calls
/// [`Self::poll_action`] until `None`, in order, before it gives the next input; then it arms its timer
/// with [`Self::poll_timeout`]. One input leaves at most a few actions for each open request and each
/// member, so that is all the queue can hold.
///
/// ```
/// use std::time::Instant;
/// use thinpipe_proto::bridge::{Action, Config, MemberId, Reframing};
/// use thinpipe_proto::rpc::Message;
///
/// # fn ping(now: Instant) -> Result<(), Box<dyn std::error::Error>> {
/// let mut bridge = Reframing::new(Config::default());
/// let client = MemberId(1);
/// bridge.attach(client)?;
/// let ping = Message::parse(r#"{"jsonrpc":"2.0","id":"a","method":"ping"}"#.into())?;
/// bridge.client(client, &ping, now)?;
/// let Some(Action::Write { message, .. }) = bridge.poll_action() else {
///     panic!("a request is written");
/// };
/// assert_eq!(message, r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
///
/// let pong = Message::parse(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#.into())?;
/// bridge.upstream(&pong, now);
/// let Some(Action::Deliver(delivery)) = bridge.poll_action() else {
///     panic!("an answer is delivered");
/// };
/// assert_eq!(*delivery.message, r#"{"jsonrpc":"2.0","id":"a","result":{}}"#);
/// assert!(delivery.is_last());
/// # Ok(())
/// # }
/// ```
///
/// Batches are the shell's: it splits arrays of either side and gives their messages one by one. So is
/// the choice of the stream for a message that is related to no open request.
#[derive(Debug)]
pub struct Reframing {
    config: Config,
    members: BTreeMap<MemberId, Member>,
    calls: Calls,
    questions: Questions,
    /// What several client sessions have in common, if there may be several.
    shared: Option<Shared>,
    /// Of which changes the upstream tells.
    notices: Notices,
    over: bool,
    /// No timer is due before; `None`: there is none.
    wake: Option<Instant>,
    actions: VecDeque<Action>,
    dropped: Dropped,
}

impl Reframing {
    /// An upstream session that nothing was written to yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let shared = match config.sharing {
            Sharing::PerClient => None,
            Sharing::Pooled | Sharing::Shared => Some(Shared::default()),
        };
        Self {
            members: BTreeMap::new(),
            calls: Calls::after(config.ids_after),
            config,
            questions: Questions::default(),
            shared,
            notices: Notices::default(),
            over: false,
            wake: None,
            actions: VecDeque::new(),
            dropped: Dropped::default(),
        }
    }

    /// A client session begins to use the upstream session.
    ///
    /// # Errors
    /// [`AttachError`] if it cannot; nothing has changed then.
    pub fn attach(&mut self, member: MemberId) -> Result<(), AttachError> {
        if self.over {
            return Err(AttachError::Over);
        }
        if self.config.sharing == Sharing::Pooled && (self.is_murky() || self.has_late()) {
            return Err(AttachError::Settling);
        }
        if self.members.contains_key(&member) {
            return Err(AttachError::Attached);
        }
        let limit = match self.config.sharing {
            Sharing::PerClient => 1,
            Sharing::Pooled | Sharing::Shared => self.config.limits.members,
        };
        if self.members.len() >= limit {
            return Err(AttachError::Full { limit });
        }
        self.members.insert(member, Member::default());
        Ok(())
    }

    /// As [`Self::attach`], of a client session of this principal. On a shared upstream session one with a name
    /// has no more than its [`share`] of the client sessions, and of the requests in flight.
    ///
    /// # Errors
    /// [`AttachError`] if it cannot; nothing has changed then.
    pub fn attach_of(
        &mut self,
        member: MemberId,
        principal: &Principal,
    ) -> Result<(), AttachError> {
        let name = match principal {
            Principal::Named(name) if self.config.sharing == Sharing::Shared => {
                Some(Arc::clone(name))
            }
            _ => None,
        };
        let limit = share(self.config.limits.members);
        let is_own = |known: &&Member| known.principal == name;
        if name.is_some() && self.members.values().filter(is_own).count() >= limit {
            return Err(AttachError::FullOfOne { limit });
        }
        self.attach(member)?;
        if let Some(known) = self.members.get_mut(&member) {
            known.principal = name;
        }
        Ok(())
    }

    /// Goes on with a client session that was initialized in another process, on the same upstream session or on
    /// one that is its equal: the client has declared this, and the server has offered that.
    pub fn resume(&mut self, member: MemberId, declared: &Bytes, offered: &Bytes) {
        self.notices = Notices::offered(offered);
        if let Some(known) = self.members.get_mut(&member) {
            known.declared = Declared::parse(declared).ok();
            known.ready = true;
        }
    }

    /// A client session is over: its requests are cancelled upstream, the server's requests to it are
    /// refused, its subscriptions are given up. Unless the upstream session is shared, it ends.
    pub fn detach(&mut self, member: MemberId, now: Instant) {
        if self.members.contains_key(&member) {
            self.leave(member, now);
        }
    }

    /// A message of a client. `initialize` names a revision that the upstream may know: the caller caps
    /// it.
    ///
    /// # Errors
    /// [`Refused`] if it was not taken; the caller answers.
    pub fn client(
        &mut self,
        member: MemberId,
        message: &Message,
        now: Instant,
    ) -> Result<(), Refused> {
        if !self.members.contains_key(&member) {
            return Err(Refused::Over);
        }
        self.forget_timer();
        match message.kind() {
            Kind::Request => self.client_request(member, message, now),
            Kind::Notification => {
                self.client_notification(member, message, now);
                Ok(())
            }
            Kind::Response | Kind::ErrorResponse => {
                self.client_response(member, message, now);
                Ok(())
            }
        }
    }

    /// Whether a request of the upstream with this id waits for the answer of a client session.
    #[must_use]
    pub fn waits_for(&self, member: MemberId, id: &RequestId) -> bool {
        self.questions.is_asked(member, id)
    }

    /// Cancels a client's request that the client did not cancel itself, as nobody can read its answer
    /// any more. Does nothing if it is not open, or is `initialize`, which is never cancelled.
    pub fn abandon(&mut self, member: MemberId, request: &RequestId, now: Instant) {
        let known = self.members.get(&member);
        if let Some(call) = known.and_then(|member| member.calls.get(request)).copied() {
            self.give_up(call, None, now);
        }
    }

    /// A message of the upstream that did not come on the stream of a request.
    pub fn upstream(&mut self, message: &Message, now: Instant) {
        self.upstream_on(None, message, now);
    }

    /// The same, of one that came on the stream of the request `via`, over whatever connection.
    pub fn upstream_on(&mut self, via: Option<CallId>, message: &Message, now: Instant) {
        if self.over {
            return;
        }
        self.forget_timer();
        if let Some(via) = via.filter(|_| !message.kind().is_response()) {
            self.alive(via, now);
        }
        match message.kind() {
            Kind::Request => self.upstream_request(message, via, now),
            Kind::Notification => self.upstream_notification(message, via, now),
            Kind::Response | Kind::ErrorResponse => self.upstream_response(message, now),
        }
    }

    /// An event stream answers this request, and something came on it, were it a comment: it may stay silent for
    /// [`Limits::stream_idle`] from now on. Does nothing if it is not open any more.
    pub fn alive(&mut self, call: CallId, now: Instant) {
        if let Some(call) = self.calls.get_mut(call) {
            call.clock.stream(now, &self.config.limits);
            let due = call.clock.due();
            self.wake_at(due);
        }
    }

    /// What the upstream said outside of any request was lost for a while: clients are told that whatever
    /// changes may have changed. The subscriptions of a client that has the session for itself are not known
    /// here.
    pub fn gap(&mut self) {
        if !self.over {
            self.tell_gap();
        }
    }

    /// A delivered server request reached no stream of the client session: the server gets an error,
    /// its `ping` the answer that the client would have given. Does nothing if it is not open any more.
    pub fn undeliverable(&mut self, member: MemberId, request: &RequestId, now: Instant) {
        let of = |q: &question::Question| q.member == member && q.id == *request;
        if let Some(question) = self.questions.take(of) {
            self.unreached(&question, now);
        }
    }

    /// Writing a request failed, and the session lives on. Its client gets an error with `reason` (a
    /// stable word of protocol notes 4.7) and `text`. Does nothing if it is not open any more.
    pub fn write_failed(&mut self, call: CallId, reason: &str, text: &str, now: Instant) {
        self.fail_call(call, reason, text, now);
    }

    /// Whether this request is `initialize`, and open.
    #[must_use]
    pub fn is_initialize(&self, call: CallId) -> bool {
        let call = self.calls.get(call);
        call.is_some_and(|call| call.purpose == call::Purpose::Initialize)
    }

    /// The upstream is gone, for a reason that people will read. What is in flight is answered with an
    /// error that says that it may have run; the session ends.
    pub fn upstream_lost(&mut self, reason: &str) {
        if !self.over {
            let text = format!("the upstream was lost: {reason}");
            self.end(&text, End::UpstreamLost(reason.to_owned()));
        }
    }

    /// A shared session that no client session uses is not kept any longer. Does nothing if one does.
    pub fn close_idle(&mut self) {
        if !self.over && self.members.is_empty() {
            self.end("nobody uses it", End::Idle);
        }
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

    /// When [`Self::on_timeout`] is due; may be earlier than anything there is to do. Changes after
    /// every input.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        // `wake` is left as it is when something ends, and put right by the next timer.
        self.wake.filter(|_| !self.is_quiet())
    }

    /// What was dropped so far.
    #[must_use]
    pub fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// How many requests are held for the upstream: open, waiting to be written, and cancelled ones
    /// that may be running still.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.calls.len()
    }

    /// How many server requests are open at clients.
    #[must_use]
    pub fn server_requests(&self) -> usize {
        self.questions.len()
    }

    /// How many client sessions use the upstream session.
    #[must_use]
    pub fn members(&self) -> usize {
        self.members.len()
    }

    /// Whether the upstream session is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// As it was made.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Writes a request that waits until now.
    fn write(&mut self, id: CallId) {
        let Some(call) = self.calls.get_mut(id) else {
            return;
        };
        let stage = std::mem::replace(&mut call.stage, Stage::Written);
        let Stage::Waiting(message) = stage else {
            return;
        };
        let own = id.to_request_id();
        let message = match call.progress {
            // An id is never used twice, so it is a token that is never used twice.
            Some(_) => message.with_id_and_meta(&own, TOKEN_IN_META, own.as_json()),
            None => message.with_id(&own),
        };
        let call = Some(id);
        self.actions.push_back(Action::Write { message, call });
    }

    /// Writes a message that is no request.
    fn tell_upstream(&mut self, message: Bytes) {
        let call = None;
        self.actions.push_back(Action::Write { message, call });
    }

    fn deliver(
        &mut self,
        member: MemberId,
        related: Option<RequestId>,
        message: impl Into<Relayed>,
        nature: Nature,
    ) {
        let message = message.into();
        self.actions.push_back(Action::Deliver(Delivery {
            member,
            related,
            message,
            nature,
        }));
    }

    /// Gives a client the answer to its request.
    fn answer(&mut self, owner: Owner, message: Bytes) {
        let Owner { member, request } = owner;
        self.deliver(member, Some(request), message, Nature::Response);
    }

    /// Takes an open request out of all tables.
    fn take_call(&mut self, id: CallId) -> Option<Call> {
        let call = self.calls.remove(id)?;
        if let Some(owner) = &call.owner
            && let Some(member) = self.members.get_mut(&owner.member)
        {
            member.calls.remove(&owner.request);
        }
        Some(call)
    }

    /// Whether nothing can be due.
    fn is_quiet(&self) -> bool {
        self.calls.len() == 0 && self.questions.len() == 0
    }

    /// Lets an old `wake` not outlive what it was for.
    fn forget_timer(&mut self) {
        if self.is_quiet() {
            self.wake = None;
        }
    }

    /// Asks for a timer at `due`, or earlier.
    fn wake_at(&mut self, due: Instant) {
        self.wake = Some(self.wake.map_or(due, |wake| wake.min(due)));
    }

    /// The client's own id of a request, while it is open.
    fn request_of(&self, id: CallId) -> Option<RequestId> {
        Some(self.calls.get(id)?.owner.as_ref()?.request.clone())
    }
}
