//! What the machine wants done, and the names it uses with the shell.

use bytes::Bytes;

use crate::bridge::CallId;
use crate::bridge::shape::{self, InputRequest};
use crate::rpc::{Message, RequestId, quoted, response};

/// One request of a client, for its whole life: the first POST, the rounds in which the client is asked
/// for input, and the retries that answer. The caller draws the number at random, as it stands in the
/// state that clients hold: whoever could guess it could answer for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExchangeId(pub u128);

/// One POST of a client, which carries an exchange or a listen now. The caller chooses the numbers and
/// does not use one twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttachmentId(pub u64);

/// An answer to a server request, as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AnswerId {
    pub(super) exchange: ExchangeId,
    /// It is written for the second time.
    pub(super) again: bool,
}

/// What a `requestState` stands for: an exchange that waits for its client, and since which round. The
/// caller seals it (protocol notes 5.4.2), and gives back only what it has opened and checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// The exchange.
    pub exchange: ExchangeId,
    /// Counts from 1.
    pub round: u8,
}

/// A request of a client on its way to the upstream.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its exchange, new.
    pub exchange: ExchangeId,
    /// The POST that carries it.
    pub attachment: AttachmentId,
    /// The message as the client sent it, envelope included.
    pub message: Message,
    /// Whether it was given to an upstream session before.
    pub attempt: Attempt,
    /// It is written once these elicitations are complete, or after
    /// [`Limits::completion`](super::Limits::completion). Empty: at once. Taken from
    /// [`UrlRequired::elicitations`] for the run after a client accepted all of them.
    pub elicitations: Vec<String>,
}

impl Request {
    /// A request that comes for the first time, and waits for nothing.
    #[must_use]
    pub fn new(exchange: ExchangeId, attachment: AttachmentId, message: Message) -> Self {
        Self {
            exchange,
            attachment,
            message,
            attempt: Attempt::First,
            elicitations: Vec::new(),
        }
    }
}

/// How often a request was given to an upstream session (protocol notes 5.1, "Written twice?").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// Never.
    First,
    /// Once; it is not given to a third.
    Again,
}

/// A listen whose upstream session was lost: another session may go on with it
/// ([`Downgrading::adopt`](super::Downgrading::adopt)), or the client gets [`Self::final_result`].
#[derive(Debug, Clone)]
pub struct Listening {
    /// The POST that carries it.
    pub attachment: AttachmentId,
    pub(super) id: RequestId,
    pub(super) wanted: super::listen::Wanted,
    /// The client got the acknowledgement.
    pub(super) acknowledged: bool,
}

impl Listening {
    /// The response that ends the listen.
    #[must_use]
    pub fn final_result(&self) -> Bytes {
        super::listen::final_result(&self.id)
    }
}

/// What the shell has to do next.
#[derive(Debug, Clone)]
pub enum Action {
    /// Write a message to the upstream.
    Write {
        /// The message. White space in it is the client's, line ends included: where messages are
        /// lines, make it one line first.
        message: Bytes,
        /// What it is, and so whom to tell if it cannot be written.
        written: Written,
    },
    /// Give a message to a client.
    Deliver(Delivery),
    /// An exchange that was given out with a [`Ticket`] is not parked any more: what counts parked
    /// exchanges may forget it. Once for each [`Content::InputRequired`], also for one that was answered
    /// with [`Downgrading::unparkable`](super::Downgrading::unparkable).
    Unparked(ExchangeId),
    /// Certainly or harmlessly, the request may be given to another session once more: this one is gone.
    /// If that cannot be, the client gets a `session_lost` error from the shell. The attachment is
    /// forgotten here.
    Resend(Request),
    /// This session cannot go on with a listen, see [`Listening`].
    Relisten(Listening),
    /// Nobody waits for the rest of this call's stream (Streamable HTTP): drop it. It was cancelled a
    /// while ago, and the upstream did not end it.
    Release(CallId),
    /// Open the standing stream (Streamable HTTP: GET), then say
    /// [`Downgrading::stream_opened`](super::Downgrading::stream_opened) or
    /// [`Downgrading::stream_refused`](super::Downgrading::stream_refused).
    OpenStream,
    /// Nobody needs the standing stream now.
    CloseStream,
    /// The upstream session is over: close it. Nothing is written any more. Outcomes may be held for
    /// clients still: keep the machine until
    /// [`Downgrading::is_finished`](super::Downgrading::is_finished).
    Close(End),
}

/// What a message to the upstream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// A request. Failed: [`Downgrading::write_failed`](super::Downgrading::write_failed).
    Request(CallId),
    /// A client's answer to a server request. Failed:
    /// [`Downgrading::answer_failed`](super::Downgrading::answer_failed).
    Answer(AnswerId),
    /// The notice that this request is cancelled. If the request is not written yet, neither is: say
    /// [`Downgrading::never_written`](super::Downgrading::never_written).
    Cancel(CallId),
    /// Another notification, or an answer of the gateway's own. Nobody waits for it.
    Other,
}

/// One message for one POST of a client.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The POST.
    pub attachment: AttachmentId,
    /// What it gets.
    pub content: Content,
}

impl Delivery {
    /// Whether it is the last message for this POST.
    #[must_use]
    pub fn is_last(&self) -> bool {
        !matches!(
            self.content,
            Content::Notification(_) | Content::ChangeNotice(_)
        )
    }
}

/// What a client's POST gets. All but notifications and notices are responses, and the last message.
#[derive(Debug, Clone)]
pub enum Content {
    /// Progress, a log message; on a listen its acknowledgement.
    Notification(Bytes),
    /// On a listen: "read again". If an equal one is not written out yet, it may be left out.
    ChangeNotice(Bytes),
    /// The final answer.
    Response {
        /// With the client's id.
        message: Bytes,
        /// The HTTP status, if none was sent yet.
        status: u16,
    },
    /// The server asks for input, and the exchange is parked as soon as the last byte is handed out:
    /// say so with [`Downgrading::handed_out`](super::Downgrading::handed_out).
    InputRequired(InputRequired),
    /// The server wants the client to visit pages first (`-32042`). The exchange is over; the caller
    /// seals what it needs to run the request again.
    UrlRequired(UrlRequired),
}

/// A round in which the server asks for input. The caller makes the `requestState`.
#[derive(Debug, Clone)]
pub struct InputRequired {
    /// What the state has to stand for.
    pub ticket: Ticket,
    /// The client's id of the request.
    pub id: RequestId,
    /// What it asks.
    pub requests: Vec<InputRequest>,
    pub(super) server_info: Option<Bytes>,
}

impl InputRequired {
    /// The response, with the state that the client has to give back.
    #[must_use]
    pub fn message(&self, state: &str) -> Bytes {
        round(&self.id, &self.requests, state, self.server_info.as_ref())
    }
}

/// URL elicitations that the server wants done before the request runs (`-32042`). It did not run, and
/// nothing is parked: the client's retry runs the original request again.
#[derive(Debug, Clone)]
pub struct UrlRequired {
    /// The exchange, which is over.
    pub exchange: ExchangeId,
    /// The client's id of the request.
    pub id: RequestId,
    /// What it asks: one URL elicitation each.
    pub requests: Vec<InputRequest>,
    /// The server's ids of them, which
    /// [`Request::elicitations`] of the next run waits for.
    pub elicitations: Vec<String>,
    pub(super) server_info: Option<Bytes>,
}

impl UrlRequired {
    /// The response, with the state that the client has to give back.
    #[must_use]
    pub fn message(&self, state: &str) -> Bytes {
        round(&self.id, &self.requests, state, self.server_info.as_ref())
    }
}

/// The response that asks for these.
fn round(
    id: &RequestId,
    requests: &[InputRequest],
    state: &str,
    server_info: Option<&Bytes>,
) -> Bytes {
    let required = shape::InputRequired {
        requests: requests.to_vec(),
        state: Some(quoted(state).into()),
    };
    response(id, &required.written(server_info))
}

/// Why writing a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteFailure {
    /// The upstream does not know the session any more (Streamable HTTP: 404). The request did not run,
    /// and the session is over.
    SessionGone,
    /// The upstream certainly did not get it.
    Undelivered,
    /// All connections to the upstream are taken: it certainly did not get it.
    Overloaded,
    /// Nobody knows whether it runs.
    Unknown,
    /// The upstream wants credentials that the gateway does not have (HTTP 401, 403).
    Unauthorized,
    /// The upstream refused it with another status.
    Refused,
}

/// Why an upstream session is over.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// It was made for one request, which is over.
    Done,
    /// Nobody has used it for a while.
    Idle,
    /// A cancelled request was not answered, so that nobody can tell whose its late messages are; and
    /// nothing is in flight any more.
    Retired,
    /// The gateway stops.
    Shutdown,
    /// `initialize` failed, was not answered in time, or named a revision that is not known.
    NotInitialized(String),
    /// The upstream is gone.
    UpstreamLost(String),
}

/// What was dropped so far, by cause. All of it is harmless to the clients; much of it tells of a peer
/// that does not follow the protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dropped {
    /// Responses to ids that are unknown, answered already or cancelled.
    pub responses: u64,
    /// Progress with a token of no open request, without a client that wants it, or that did not rise.
    pub progress: u64,
    /// Log messages that belong to no request, or that its client did not ask for.
    pub logs: u64,
    /// Cancellations of server requests that are not open.
    pub cancellations: u64,
    /// Server requests whose id is in use by another open one, or longer than
    /// [`MAX_KEPT`](crate::bridge::MAX_KEPT).
    pub server_requests: u64,
    /// Other notifications, which a client of 2026-07-28 cannot get.
    pub notifications: u64,
}
