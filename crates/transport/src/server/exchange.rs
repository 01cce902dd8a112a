//! What a handler gets and what it gives back.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use thinpipe_proto::classify::{Refusal, Served};
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::{self, Message, RequestId};
use thinpipe_proto::session::{EventId, Principal, SessionId};

use crate::body::{Body, BodyStream, BoxFuture};
use crate::server::{Session, SessionEnd, SessionSlot};

/// One message from a client, checked, with all that is known about who sent it.
#[derive(Debug)]
pub struct Exchange {
    /// What the client wants.
    pub inbound: Inbound,
    /// Revision the message is written in.
    pub revision: Revision,
    /// Who sent it.
    pub principal: Principal,
    /// The request's headers, as they came. Those of a request that came to another node are without credentials
    /// (`Authorization`, `Proxy-Authorization`, `Cookie`), which do not leave the node that they were sent to.
    pub headers: HeaderMap,
    /// Name of the endpoint it came to.
    pub endpoint: Arc<str>,
    /// Address of the peer, if it has one.
    pub peer: Option<SocketAddr>,
    /// Addresses that it came over before the peer, the client's first, as far as trusted proxies say
    /// so. Empty if the peer is the client.
    pub forwarded_for: Vec<IpAddr>,
    /// When its request had been read, on tokio's clock.
    pub read_at: Instant,
}

impl Exchange {
    /// Address of the client, if the peer has one.
    #[must_use]
    pub fn client(&self) -> Option<IpAddr> {
        let peer = || Some(self.peer?.ip());
        self.forwarded_for.first().copied().or_else(peer)
    }
}

/// What a client wants of the endpoint.
#[derive(Debug)]
pub enum Inbound {
    /// A self-describing request (2026-07-28).
    Stateless(Message),
    /// A notification outside of any session (2026-07-28).
    StatelessNotification(Message),
    /// `initialize`, with the place reserved for the session it may open.
    Initialize(Message, SessionSlot),
    /// A request, notification or response in a session; `None`: the endpoint allows sessionless use.
    Message(Message, Option<Arc<Session>>),
    /// GET: the session's standalone stream, or any of its streams resumed after an event.
    Listen(Arc<Session>, Option<EventId>),
    /// DELETE. The session ends when the handler has answered, whatever it answers, unless that is 405, or 503: the
    /// session cannot end now. A handler that has something to end of it elsewhere
    /// [ends it](super::SessionManager::end) before.
    Terminate(Arc<Session>),
}

/// What a client has posted, before anything of it is handed over.
#[derive(Debug)]
pub struct Posted<'a> {
    /// Who sent it.
    pub principal: &'a Principal,
    /// Address of the client, if it is known.
    pub client: Option<IpAddr>,
    /// Id of the request, if it is one and no batch.
    pub id: Option<&'a RequestId>,
    /// How many requests and notifications it holds: one, or those of a batch. Never zero.
    pub messages: usize,
}

/// What becomes of a session whose node is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adoption {
    /// It goes on here.
    Done,
    /// It cannot go on here now, for a reason that may pass, or that another node may not have: its record is left for
    /// whoever is asked for it next, and who asked now gets 503.
    PutOff,
    /// It has ended, and nothing is kept of it.
    Ended,
}

/// The code that answers exchanges: a gateway, or an MCP server.
pub trait Handler: Send + Sync + 'static {
    /// Answers one exchange.
    ///
    /// In a session the future is run to its end even when the client leaves, since leaving is not
    /// cancelling; outside of one (2026-07-28) it is dropped then, since leaving is.
    fn handle(self: Arc<Self>, exchange: Exchange) -> BoxFuture<Answer>;

    /// Whether more messages may come from a client now. It is asked once for each POST with a request or a
    /// notification, before a session is looked for, and not for what clients answer. A batch comes in whole or
    /// not at all. Everything may, unless it says otherwise.
    ///
    /// # Errors
    /// The answer to the POST, also over HTTP+SSE: nothing of it is handed over.
    fn admits(&self, posted: &Posted<'_>) -> Result<(), Answer> {
        let _ = posted;
        Ok(())
    }

    /// Which clients its endpoint of Streamable HTTP takes, of those that the server takes. Others are
    /// told what there is (protocol notes 1.2), and get no further. All of them, unless it says
    /// otherwise.
    fn serves(&self) -> Served {
        Served::ALL
    }

    /// Whether a request waits for its client, without a connection, to come again with what it was asked
    /// (2026-07-28). While one does, a server that shuts down takes requests with a `requestState`, until
    /// its time for draining is over.
    fn awaits_clients(&self) -> bool {
        false
    }

    /// A node that held a session is gone; this one has its record now and is asked to go on with it. The end of one
    /// that does not go on here is not [told](Self::session_ended).
    fn adopt(self: Arc<Self>, session: Arc<Session>) -> BoxFuture<Adoption> {
        let _ = session;
        Box::pin(std::future::ready(Adoption::Ended))
    }

    /// Whether a session that is held here ([`Negotiated::held`](super::Negotiated::held)) could be
    /// [adopted](Self::adopt) by another node now, when this one shuts down. If not, it ends.
    fn can_hand_over(&self, session: &Session) -> bool {
        let _ = session;
        false
    }

    /// The standalone stream of a session that any node serves has been opened on another one: the one here is to
    /// end, as it would if it had been opened here again. `true`: one was open here, and has been replaced by that.
    fn listened_elsewhere(&self, session: &Session) -> bool {
        let _ = session;
        false
    }

    /// The standalone stream of a session that any node serves has been replaced on another node, by one there or on
    /// a third one: it counts where [too many](super::conversation::Contention) in a short time are refused.
    fn replaced_elsewhere(&self, session: &Session) {
        let _ = session;
    }

    /// Another node has changed the record of a session that any node serves: its
    /// [attachment](Session::attachment) may be another one by now.
    fn changed_elsewhere(&self, session: &Session) {
        let _ = session;
    }

    /// A session has ended, for whatever reason; called once for each that was opened or adopted, or taken up
    /// from its record.
    fn session_ended(self: Arc<Self>, session: Arc<Session>, why: SessionEnd) -> BoxFuture<()> {
        let _ = (session, why);
        Box::pin(std::future::ready(()))
    }
}

/// What a response carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// `application/json`.
    Json,
    /// `text/event-stream`: never compressed, kept alive with comments.
    EventStream,
    /// Nothing, with 202: the handler itself puts the answer on the stream of its session, which is one of
    /// HTTP+SSE ([`Session::outlet`]).
    OnStream,
    /// Nothing, with 202: the request was cancelled, and is not answered. Over HTTP+SSE only; elsewhere a
    /// response cannot be left out.
    Cancelled,
    /// Anything else, passed with its type.
    Other(Option<HeaderValue>),
}

/// The answer to an exchange.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// Type of the body.
    pub content: Content,
    /// Headers beside those that the server side sets itself.
    pub headers: HeaderMap,
    /// The body.
    pub body: Body,
    /// The session this answer opens; its id is shown to the client.
    pub session: Option<SessionId>,
}

impl Answer {
    /// 202, empty: a notification or response was taken.
    #[must_use]
    pub fn accepted() -> Self {
        Self::new(StatusCode::ACCEPTED, Content::Other(None), Body::Empty)
    }

    /// Nothing in its place: the answer is, or will be, on the stream of a session of HTTP+SSE.
    #[must_use]
    pub fn on_stream() -> Self {
        Self::new(StatusCode::ACCEPTED, Content::OnStream, Body::Empty)
    }

    /// Nothing at all: the request, in a session of HTTP+SSE, was cancelled.
    #[must_use]
    pub fn cancelled() -> Self {
        Self::new(StatusCode::ACCEPTED, Content::Cancelled, Body::Empty)
    }

    /// An answer with this status, type and body.
    #[must_use]
    pub fn new(status: StatusCode, content: Content, body: Body) -> Self {
        Self {
            status,
            content,
            headers: HeaderMap::new(),
            body,
            session: None,
        }
    }

    /// 200 with one JSON-RPC message.
    #[must_use]
    pub fn json(message: Bytes) -> Self {
        Self::new(StatusCode::OK, Content::Json, Body::from(message))
    }

    /// 200 with a stream of events.
    #[must_use]
    pub fn events(stream: impl BodyStream) -> Self {
        Self::new(StatusCode::OK, Content::EventStream, Body::stream(stream))
    }

    /// A JSON-RPC error with an HTTP status.
    #[must_use]
    pub fn error(
        status: StatusCode,
        id: Option<&RequestId>,
        code: i32,
        message: &str,
        data: Option<&str>,
    ) -> Self {
        let body = rpc::error_response(id, code, message, data.map(str::as_bytes));
        Self::new(status, Content::Json, Body::Full(body))
    }

    /// The answer to a message that is refused. Where its id could not be read, peers of 2025-11-25 and
    /// later get none, and older and unknown ones `null`.
    #[must_use]
    pub fn refused_message(mut refusal: Refusal, revision: Option<Revision>) -> Self {
        let answer = Self::refused(&refusal);
        if refusal.id.is_some() {
            return answer;
        }
        let reason = || reason!("bad_request").to_owned();
        refusal.data.get_or_insert_with(reason);
        Self {
            body: Body::Full(refusal.body(revision)),
            ..answer
        }
    }

    /// The answer to a refused request.
    #[must_use]
    pub fn refused(refusal: &Refusal) -> Self {
        let status =
            StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let data = refusal.data.as_deref().unwrap_or(match refusal.status {
            405 => reason!("method_not_allowed"),
            _ => reason!("bad_request"),
        });
        let (id, text) = (refusal.id.as_ref(), &refusal.message);
        let mut answer = Self::error(status, id, refusal.code, text, Some(data));
        if let Some(allow) = refusal.allow {
            answer
                .headers
                .insert(http::header::ALLOW, HeaderValue::from_static(allow));
        }
        answer
    }

    /// The same answer, opening a session.
    #[must_use]
    pub fn with_session(mut self, id: SessionId) -> Self {
        self.session = Some(id);
        self
    }
}
