//! One legacy client session in front of a server of 2026-07-28 (protocol notes 5.3, group B).
//!
//! To the client this is a server with a session; to the server it is a client that knows none. What the
//! server cannot ask any more it says in results (`input_required`), and here it becomes questions to the
//! client again; what it tells unasked comes on listens that are opened for the client.

mod action;
mod audience;
mod calls;
mod chance;
mod client;
mod config;
mod ending;
mod exchange;
mod lists;
mod notices;
mod prompt;
mod request;
mod resources;
mod response;
mod round;
mod schemas;
mod session;
mod subscription;
mod task;

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use crate::bridge::action::{CallId, Delivery, Dropped, End, Nature, Relayed};
use crate::bridge::member::EarlyCancels;
use crate::bridge::refused::Refused;
use crate::rpc::{Kind, Message, RequestId};

use audience::Audience;
use calls::{Calls, Purpose};
use chance::Chance;
use exchange::Exchanges;
use lists::Lists;
use prompt::Prompts;
use resources::Resources;
use schemas::Schemas;
use session::Session;

pub use action::{Action, Call};
pub use config::{
    ACKNOWLEDGEMENT, ASIDE, Config, DEFAULT_RETENTION, FIRST_PAUSE, Handshake, LONGEST_PAUSE,
    MAX_ASIDE, MAX_RESOURCE_LISTENS, MAX_ROUNDS, MAX_STATE, MAX_TOOL_PAGES, POLL_BOUNDS,
    POLL_INTERVAL,
};
pub use session::{Opening, initialize};

/// A client session that was initialized, in front of a server of 2026-07-28.
///
/// The shell gives it what arrives and does what it asks for: after **every** input it calls
/// [`Self::poll_action`] until `None`, in order, before it gives the next input; then it arms its timer
/// with [`Self::poll_timeout`]. One input leaves at most a few actions for each open request and each
/// subscription, so that is all the queue can hold.
///
/// ```
/// use std::time::Instant;
/// use thinpipe_proto::bridge::MemberId;
/// use thinpipe_proto::bridge::upgrade::{self, Action, Config, Upgrading};
/// use thinpipe_proto::rpc::Message;
///
/// # fn call(now: Instant) -> Result<(), Box<dyn std::error::Error>> {
/// let initialize = Message::parse(
///     r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{}}}"#.into(),
/// )?;
/// let discovered = r#"{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}}}"#.into();
/// let opening = upgrade::initialize(&initialize, &discovered, "files")?;
/// let mut session = Upgrading::new(Config::new("files", MemberId(1), 7), opening.handshake, now);
///
/// let list = Message::parse(r#"{"jsonrpc":"2.0","id":"a","method":"tools/list"}"#.into())?;
/// session.client(&list, now)?;
/// let Some(Action::Call(call)) = session.poll_action() else {
///     panic!("the server is called");
/// };
/// let answer = r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","tools":[],"ttlMs":0,"cacheScope":"private"}}"#;
/// session.upstream(call.id, &Message::parse(answer.into())?, now);
/// let Some(Action::Deliver(delivery)) = session.poll_action() else {
///     panic!("an answer is delivered");
/// };
/// assert_eq!(&delivery.message[..], br#"{"jsonrpc":"2.0","id":"a","result":{"tools":[]}}"#);
/// # Ok(())
/// # }
/// ```
///
/// Batches are the shell's: it splits arrays and gives their messages one by one. So is the choice of the
/// stream for a message that is related to no open request, and holding what finds none.
#[derive(Debug)]
pub struct Upgrading {
    config: Config,
    session: Session,
    exchanges: Exchanges,
    calls: Calls,
    prompts: Prompts,
    schemas: Schemas,
    audience: Audience,
    lists: Lists,
    resources: Resources,
    early: EarlyCancels,
    chance: Chance,
    over: bool,
    /// No timer is due before; `None`: there is none.
    wake: Option<Instant>,
    actions: VecDeque<Action>,
    dropped: Dropped,
}

impl Upgrading {
    /// A session in which nothing was said yet but `initialize`; no stream of the client is open.
    #[must_use]
    pub fn new(config: Config, handshake: Handshake, now: Instant) -> Self {
        let session = Session::new(handshake, config.log_level);
        let lists = Lists::offered(&session);
        Self {
            chance: Chance::new(config.seed),
            session,
            exchanges: Exchanges::default(),
            calls: Calls::default(),
            prompts: Prompts::after(config.questions_after),
            schemas: Schemas::default(),
            audience: Audience::new(now),
            lists,
            resources: Resources::default(),
            early: EarlyCancels::default(),
            over: false,
            wake: None,
            actions: VecDeque::new(),
            dropped: Dropped::default(),
            config,
        }
    }

    /// A message of the client.
    ///
    /// # Errors
    /// [`Refused`] if it was not taken; the caller answers.
    pub fn client(&mut self, message: &Message, now: Instant) -> Result<(), Refused> {
        if self.over {
            return Err(Refused::Over);
        }
        match message.kind() {
            Kind::Request => self.client_request(message, now)?,
            Kind::Notification => self.client_notification(message, now),
            Kind::Response | Kind::ErrorResponse => self.client_response(message, now),
        }
        Ok(())
    }

    /// Whether a question with this id waits for the client's answer.
    #[must_use]
    pub fn waits_for(&self, id: &RequestId) -> bool {
        self.prompts.is_asked(id)
    }

    /// A message that came on the stream of a call. A response ends the call.
    pub fn upstream(&mut self, call: CallId, message: &Message, now: Instant) {
        let Some(purpose) = self.calls.get(call) else {
            // Closed already: whatever was under way comes too late.
            self.dropped.upstream_responses += u64::from(message.kind().is_response());
            return;
        };
        match message.kind() {
            // A modern server asks nothing, and could not be answered (5.1).
            Kind::Request => self.dropped.server_requests += 1,
            Kind::Notification => match purpose {
                Purpose::Exchange(exchange) => self.exchange_notified(exchange, call, message, now),
                Purpose::Lists => self.lists_notified(call, message, now),
                Purpose::Resources => self.resource_notified(call, message, now),
                Purpose::Tools | Purpose::Aside { .. } => self.dropped.notifications += 1,
            },
            Kind::Response | Kind::ErrorResponse => {
                // An error may come without the id that it could not read.
                if message.id().is_some_and(|id| *id != call.to_request_id()) {
                    self.dropped.upstream_responses += 1;
                    return;
                }
                self.calls.remove(call);
                self.response(purpose, call, message, now);
            }
        }
    }

    /// A call ended without a response, or could not be made. `undelivered` says that the server certainly
    /// did not get it; `reason` is a stable word of protocol notes 4.7, `text` tells people, and whether the
    /// call may have run.
    pub fn call_failed(
        &mut self,
        call: CallId,
        undelivered: bool,
        (reason, text): (&str, &str),
        now: Instant,
    ) {
        let Some(purpose) = self.calls.remove(call) else {
            return;
        };
        match purpose {
            Purpose::Exchange(id) => self.leg_failed(id, undelivered, (reason, text), now),
            Purpose::Tools => self.tools_failed(),
            Purpose::Lists => self.lists_lost(now),
            Purpose::Resources => self.resource_listen_lost(call, (reason, text), now),
            Purpose::Aside { .. } => {}
        }
    }

    /// An event stream answers this call, and something came on it, were it a comment: the request that it was made
    /// for may be without a sign of life for [`stream_idle`](crate::bridge::Limits::stream_idle) from now on. Does
    /// nothing if there is no such call.
    pub fn alive(&mut self, call: CallId, now: Instant) {
        let Some(Purpose::Exchange(id)) = self.calls.get(call) else {
            return;
        };
        if let Some(exchange) = self.exchanges.get_mut(id) {
            exchange.clock.stream(now, &self.config.limits);
            let due = exchange.clock.due();
            self.wake_at(due);
        }
    }

    /// A stream of the client is open on which it can be told what belongs to no request: its GET, or its
    /// only stream. Called for each that opens.
    pub fn stream_opened(&mut self, now: Instant) {
        if !self.over {
            self.audience.came();
            self.listen(now);
        }
    }

    /// One of those streams is closed.
    pub fn stream_closed(&mut self, now: Instant) {
        if !self.over {
            self.audience.went(now);
            if let Some(until) = self.retained_until() {
                self.wake_at(until);
            }
        }
    }

    /// Cancels a request that the client did not cancel itself, as nobody can read its answer any more.
    /// Does nothing if it is not open.
    pub fn abandon(&mut self, request: &RequestId, now: Instant) {
        self.give_up(request, now);
    }

    /// A delivered question reached no stream of the client. Does nothing if it is not open any more.
    pub fn undeliverable(&mut self, request: &RequestId, now: Instant) {
        if let Some(prompt) = self.prompts.take(|prompt| prompt.id == *request) {
            self.unanswered(&prompt, "the client is not reachable", None, now);
        }
    }

    /// A delivered question cannot be given to the client: the request that it is asked for ends with an error
    /// with this reason (a stable word of protocol notes 4.7) and text, its other questions are taken back. Does
    /// nothing if it is not open any more.
    pub fn question_failed(
        &mut self,
        request: &RequestId,
        (reason, text): (&str, &str),
        now: Instant,
    ) {
        if let Some(prompt) = self.prompts.take(|prompt| prompt.id == *request) {
            self.withdraw(prompt.exchange, "the request it belongs to is over");
            self.drop_task(prompt.exchange, now);
            self.fail(prompt.exchange, reason, text);
        }
    }

    /// The client session is over: what it has asked for is cancelled.
    pub fn detach(&mut self) {
        if !self.over {
            self.close(End::ClientLeft);
        }
    }

    /// The server is gone for good, or the gateway is. What is open is answered with an error; the session
    /// ends.
    pub fn upstream_lost(&mut self, reason: &str) {
        if !self.over {
            self.end(reason);
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

    /// When [`Self::on_timeout`] is due; may be earlier than anything there is to do. Changes after every
    /// input.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.wake
    }

    /// What was dropped so far.
    #[must_use]
    pub fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// How many requests of the client are open.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.exchanges.len() + self.resources.waiting()
    }

    /// How many calls to the server are open, listens among them.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    /// How many questions are open at the client.
    #[must_use]
    pub fn server_requests(&self) -> usize {
        self.prompts.len()
    }

    /// To how many resources the client is subscribed.
    #[must_use]
    pub fn subscriptions(&self) -> usize {
        self.resources.subscribed()
    }

    /// Whether the session is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// As it was made.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    fn deliver(&mut self, related: Option<RequestId>, message: impl Into<Relayed>, nature: Nature) {
        self.actions.push_back(Action::Deliver(Delivery {
            member: self.config.member,
            related,
            message: message.into(),
            nature,
        }));
    }

    /// Gives the client the answer to a request that is in no table any more.
    fn answer(&mut self, request: RequestId, message: Bytes) {
        self.deliver(Some(request), message, Nature::Response);
    }

    /// Its request was cancelled.
    fn finish(&mut self, request: RequestId) {
        let member = self.config.member;
        self.actions.push_back(Action::Finish { member, request });
    }

    /// Closes a call that is open.
    fn cancel_call(&mut self, call: CallId) {
        if self.calls.remove(call).is_some() {
            self.actions.push_back(Action::Cancel(call));
        }
    }

    /// Asks for a timer at `due`, or earlier.
    fn wake_at(&mut self, due: Instant) {
        self.wake = Some(self.wake.map_or(due, |wake| wake.min(due)));
    }
}
