//! Clients of 2026-07-28 in front of a server with sessions (protocol notes 5.4, group C).
//!
//! Each request of such a client stands alone, while the server keeps state per session and asks its
//! client in the middle of a request. [`Downgrading`] is one session of the server, and all that clients
//! have going on it: it opens the session, runs requests on it under ids of its own, and turns what the
//! server asks into a round of `input_required`, while the request stays open at the server.
//!
//! It knows no seals and no sockets. What a client holds as `requestState` is a [`Ticket`] here; that it
//! is genuine, of the same principal and for the same request is for the caller to check. It does not
//! choose sessions either: [`Downgrading::admits`] says whether this one can take a request.

mod ability;
mod action;
mod asking;
mod calls;
mod config;
mod discover;
mod elicitation;
mod ending;
mod exchange;
mod handshake;
mod level;
mod listen;
mod notification;
mod outside;
mod pages;
mod question;
mod refused;
mod reply;
mod request;
mod responses;
mod retry;
mod standing;
mod task;
mod timer;
mod topic;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Instant;

use bytes::Bytes;

use crate::bridge::CallId;
use crate::rpc::{Kind, Message};

use ability::Abilities;
use calls::Calls;
use elicitation::Completions;
use exchange::Exchange;
use handshake::Phase;
use level::Levels;
use listen::Listen;
use standing::Standing;
use task::TaskTools;
use topic::Topic;

pub use action::{
    Action, AnswerId, AttachmentId, Attempt, Content, Delivery, Dropped, End, ExchangeId,
    InputRequired, Listening, Request, Ticket, UrlRequired, WriteFailure, Written,
};
pub use config::{
    CANCELLED_STREAM_AGE, Channel, Config, DEFAULT_COLLECT, DEFAULT_COMPLETION, DEFAULT_HELD,
    DEFAULT_KEPT, DEFAULT_LISTENS, DEFAULT_PARKED_AGE, DEFAULT_SHOWN, DEFAULT_URIS, Lifetime,
    Limits, MAX_ELICITATIONS, MAX_PAGED, MAX_PAGES, MAX_QUESTIONS, MAX_ROUNDS, MAX_TASK_TOOLS,
    SETTING_AGE, STREAM_WAIT,
};
pub use elicitation::{UrlAnswers, url_answers};
pub use refused::{Refused, RetryError, Unanswered};

/// One session of a server that has sessions, and the requests and listens of modern clients on it.
///
/// The shell gives it what arrives and does what it asks for: after **every** input it calls
/// [`Self::poll_action`] until `None`, in order, before it gives the next input; then it arms its timer
/// with [`Self::poll_timeout`]. One input leaves at most a few actions for each exchange and each listen,
/// so that is all the queue can hold.
///
/// An exchange with its client, as protocol notes 5.4.2 have it: it waits (for the handshake, a log
/// level), is written and *active*; if the server asks for something, it is *collecting* for
/// [`Limits::collect`]; then its client gets an [`InputRequired`], and it is *parked* until a retry with
/// that ticket comes, or its outcome is *held* for that retry. An exchange runs upstream once, whatever
/// becomes of its client's connections.
///
/// ```
/// use std::time::Instant;
/// use thinpipe_proto::bridge::downgrade::{
///     Action, AttachmentId, Content, Downgrading, ExchangeId, Request,
/// };
/// use thinpipe_proto::rpc::Message;
///
/// # use thinpipe_proto::bridge::downgrade::{Channel, Config, Lifetime, Limits};
/// # use thinpipe_proto::revision::Revision;
/// # let config = Config { upstream: "files".into(), channel: Channel::Pipe, lifetime: Lifetime::Pooled,
/// #     revision: Revision::V2025_11_25, capabilities: "{}".into(), client_info: "{}".into(),
/// #     served: vec![Revision::V2026_07_28], caching: Default::default(), limits: Limits::default() };
/// # fn run(config: Config, now: Instant) -> Result<(), Box<dyn std::error::Error>> {
/// let mut session = Downgrading::new(config);
/// session.start(now);
/// let Some(Action::Write { .. }) = session.poll_action() else {
///     panic!("initialize is written");
/// };
/// let call = Message::parse(
///     r#"{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"t"}}"#.into(),
/// )?;
/// session.request(Request::new(ExchangeId(7), AttachmentId(1), call), now)?;
/// assert!(session.poll_action().is_none(), "it waits for the handshake");
///
/// let initialized = r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25",
///     "capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}}"#;
/// session.upstream(&Message::parse(initialized.into())?, None, now);
/// let result = r#"{"jsonrpc":"2.0","id":2,"result":{"content":[]}}"#;
/// session.upstream(&Message::parse(result.into())?, None, now);
/// while let Some(action) = session.poll_action() {
///     if let Action::Deliver(delivery) = action {
///         assert!(matches!(delivery.content, Content::Response { status: 200, .. }));
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Downgrading {
    config: Config,
    /// What is declared to the server, and so the most that a client is asked.
    offered: Abilities,
    phase: Phase,
    /// Takes no requests any more.
    draining: bool,
    /// A request was taken. Sessions per request take one.
    used: bool,
    /// The server may ask some request's client for something.
    may_be_asked: bool,
    /// A cancelled request was never answered: takes none that the server may ask for.
    retired: bool,
    calls: Calls,
    exchanges: BTreeMap<ExchangeId, Exchange>,
    /// Those that are not written yet, in the order in which they came.
    waiting: VecDeque<ExchangeId>,
    /// Whose POST it is. Looked up only: the order means nothing.
    attachments: HashMap<AttachmentId, Attached>,
    listens: BTreeMap<AttachmentId, Listen>,
    /// By URI.
    topics: BTreeMap<String, Topic>,
    levels: Levels,
    completions: Completions,
    task_tools: TaskTools,
    standing: Standing,
    /// No timer is due before; `None`: there is none.
    wake: Option<Instant>,
    actions: VecDeque<Action>,
    dropped: Dropped,
}

/// What a POST carries.
#[derive(Debug, Clone, Copy)]
enum Attached {
    Exchange(ExchangeId),
    Listen,
}

impl Downgrading {
    /// A session that nothing was written to yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            offered: Abilities::offered(&config),
            standing: Standing::new(config.channel),
            phase: Phase::New,
            draining: false,
            used: false,
            may_be_asked: false,
            retired: false,
            calls: Calls::default(),
            exchanges: BTreeMap::new(),
            waiting: VecDeque::new(),
            attachments: HashMap::new(),
            listens: BTreeMap::new(),
            topics: BTreeMap::new(),
            levels: Levels::default(),
            completions: Completions::default(),
            task_tools: TaskTools::default(),
            wake: None,
            actions: VecDeque::new(),
            dropped: Dropped::default(),
            config,
        }
    }

    /// Opens the session: `initialize` is written. Requests may be given before and meanwhile; they wait.
    pub fn start(&mut self, now: Instant) {
        self.initialize(now);
    }

    /// Whether the session can take this request now. On a [`Channel::Pipe`] it takes one at a time of
    /// those that the server may ask their client for, parked ones counted (protocol notes 5.4.2).
    ///
    /// # Errors
    /// [`Refused`]: why not.
    pub fn admits(&self, request: &Message) -> Result<(), Refused> {
        self.check_admission(request, false)
    }

    /// A request of a client: any method, `server/discover` and `subscriptions/listen` included. Every
    /// one that is taken gets one last [`Delivery`], or an [`Action::Resend`], or none if it is detached.
    ///
    /// # Errors
    /// [`Refused`] if it was not taken; the caller answers.
    pub fn request(&mut self, request: Request, now: Instant) -> Result<(), Refused> {
        self.take_request(request, now)?;
        self.settle(now);
        Ok(())
    }

    /// A client's retry of a request that waits for input, with `inputResponses` that are well-formed
    /// ([`Responses::of`](crate::bridge::shape::Responses::of)). If the ticket is current, the exchange goes on with this POST.
    ///
    /// # Errors
    /// [`RetryError`]; nothing has changed then.
    pub fn retry(
        &mut self,
        ticket: Ticket,
        attachment: AttachmentId,
        message: &Message,
        now: Instant,
    ) -> Result<(), RetryError> {
        self.take_retry(ticket, attachment, message, now)?;
        self.settle(now);
        Ok(())
    }

    /// Another session's listen goes on here: no second acknowledgement, but a notice for everything it
    /// hears, as something may have been missed. If it would hear less than before, it ends.
    ///
    /// # Errors
    /// [`Refused`] if it was not taken: the caller ends it with [`Listening::final_result`].
    pub fn adopt(&mut self, listening: Listening, now: Instant) -> Result<(), Refused> {
        self.take_listening(listening)?;
        self.settle(now);
        Ok(())
    }

    /// The last byte of an [`InputRequired`] was handed to the client's socket: what becomes of the
    /// connection says nothing about the exchange any more.
    pub fn handed_out(&mut self, attachment: AttachmentId, now: Instant) {
        self.receipt(attachment);
        self.settle(now);
    }

    /// An [`InputRequired`] was not given to the client, as no more exchanges may be parked, or for another
    /// `reason` (a stable word for `data.reason`; `text` is for people): the server gets errors that say so
    /// for what it asked, and the exchange goes on with the same POST.
    pub fn unparkable(&mut self, ticket: Ticket, reason: &str, text: &str, now: Instant) {
        self.refuse_round(ticket, (reason, text), now);
        self.settle(now);
    }

    /// A client's POST is closed, before its last message was written out. Its exchange is cancelled, if
    /// that POST carries it still and it is not parked; its listen ends.
    pub fn detach(&mut self, attachment: AttachmentId, now: Instant) {
        self.leave(attachment, now);
        self.settle(now);
    }

    /// A message of the upstream; `via` is the request on whose stream it came (Streamable HTTP), a
    /// stream that resumes it included.
    pub fn upstream(&mut self, message: &Message, via: Option<CallId>, now: Instant) {
        if self.phase.is_over() {
            return;
        }
        if let Some(via) = via.filter(|_| !message.kind().is_response()) {
            self.alive(via, now);
        }
        match message.kind() {
            Kind::Request => self.upstream_request(message, via, now),
            Kind::Notification => self.upstream_notification(message, via, now),
            Kind::Response | Kind::ErrorResponse => self.upstream_response(message, now),
        }
        self.settle(now);
    }

    /// An event stream answers this request, and something came on it, were it a comment: it may stay silent for
    /// [`Limits::stream_idle`] from now on. Does nothing if it is not open any more.
    pub fn alive(&mut self, call: CallId, now: Instant) {
        let exchange = self.calls.exchange_of(call);
        if let Some(exchange) = exchange.and_then(|id| self.exchanges.get_mut(&id)) {
            exchange.clock.stream(now, &self.config.limits);
            let due = exchange.due(now);
            self.wake_at(due);
        }
    }

    /// Writing a request failed; `text` is for people. What did not run is written or given away once
    /// more where protocol notes 5.1 allow it, else its client gets an error.
    pub fn write_failed(&mut self, call: CallId, failure: WriteFailure, text: &str, now: Instant) {
        self.write_lost(call, failure, text, now);
        self.settle(now);
    }

    /// A client's answer to a server request could not be written; `undelivered`: the upstream certainly
    /// did not get it. Then it is written once more; else the exchange is lost.
    pub fn answer_failed(
        &mut self,
        answer: AnswerId,
        message: Bytes,
        undelivered: bool,
        now: Instant,
    ) {
        self.answer_lost(answer, message, undelivered, now);
        self.settle(now);
    }

    /// The stream of a request is lost for good, without its response; the session lives on.
    pub fn stream_lost(&mut self, call: CallId, text: &str, now: Instant) {
        self.call_lost(call, text, now);
        self.settle(now);
    }

    /// The standing stream is open. If it was before, and something may have been missed, each listen
    /// gets a notice for all it hears.
    pub fn stream_opened(&mut self, missed: bool, now: Instant) {
        self.standing_opened(missed);
        self.settle(now);
    }

    /// The upstream has no standing stream (405), or it is lost for good.
    pub fn stream_refused(&mut self, now: Instant) {
        self.standing_refused(now);
        self.settle(now);
    }

    /// The upstream is gone, for a reason that people will read. What was not written, or may be written
    /// twice, is given away ([`Action::Resend`]), as are listens; what is parked holds an error for its
    /// client; all else is answered with an error that says that it may have run.
    pub fn upstream_lost(&mut self, reason: &str, now: Instant) {
        self.lose_session(reason, End::UpstreamLost(reason.to_owned()), now);
    }

    /// The gateway stops, or the session is not wanted any more: it takes no new requests, and listens
    /// end with their final result. Once nothing is in flight it ends.
    pub fn drain(&mut self, now: Instant) {
        self.draining = true;
        self.end_listens(now);
        self.settle(now);
    }

    /// The time of grace is over: everything is cancelled, and the session ends.
    pub fn shut_down(&mut self, now: Instant) {
        self.stop(now);
    }

    /// A session that nobody uses is not kept any longer. Does nothing if somebody does.
    pub fn close_idle(&mut self) {
        if self.is_idle() {
            self.close(End::Idle);
        }
    }

    /// The time [`Self::poll_timeout`] named has come. Too early a call does no harm.
    pub fn on_timeout(&mut self, now: Instant) {
        if self.wake.is_some_and(|wake| wake <= now) {
            self.expire(now);
            self.settle(now);
            self.rearm(now);
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
        self.wake
    }

    /// The result of `initialize`, once the session is open.
    #[must_use]
    pub fn initialize_result(&self) -> Option<&Bytes> {
        self.phase.server().map(|server| &server.result)
    }

    /// Whether nobody uses the session: nothing is in flight, parked or listened to. Such a session may
    /// be closed when a place is needed.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        !self.phase.is_over()
            && self.exchanges.is_empty()
            && self.listens.is_empty()
            && self.calls.is_idle()
    }

    /// Whether the upstream session is over. Retries may find their outcome here still.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.phase.is_over()
    }

    /// Whether the upstream session is over and nothing is held for anybody: nothing will happen any
    /// more.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.phase.is_over() && self.exchanges.is_empty()
    }

    /// How many exchanges are not over, parked ones included.
    #[must_use]
    pub fn exchanges(&self) -> usize {
        self.exchanges.len()
    }

    /// How many listens are open.
    #[must_use]
    pub fn listens(&self) -> usize {
        self.listens.len()
    }

    /// How many requests the server has not answered, those of the machine's own and cancelled ones that may be
    /// running still included.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    /// What was dropped so far.
    #[must_use]
    pub fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// As it was made.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Writes a message that nobody waits for.
    fn tell_upstream(&mut self, message: Bytes) {
        let written = Written::Other;
        self.actions.push_back(Action::Write { message, written });
    }

    fn deliver(&mut self, attachment: AttachmentId, content: Content) {
        let delivery = Delivery {
            attachment,
            content,
        };
        self.actions.push_back(Action::Deliver(delivery));
    }
}
