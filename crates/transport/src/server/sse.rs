//! HTTP+SSE (2024-11-05), served by the handlers of Streamable HTTP.
//!
//! A client opens one stream with GET and posts its messages to a second path, which the first event
//! names. All that is said to it goes through that stream. A [`Handler`] sees such a client as it sees
//! one of Streamable HTTP: [`Inbound::Initialize`](super::Inbound::Initialize), messages in a
//! [`Session`], and [`Inbound::Listen`](super::Inbound::Listen) once after `notifications/initialized`.
//! What it answers is put on the stream: a JSON body as one event, an event stream's messages as one
//! event each, and a failure as the error that the request is answered with. A handler that would rather
//! write to the stream itself asks for [`Session::outlet`], and answers
//! [`Answer::on_stream`](super::Answer::on_stream).
//!
//! The session is the stream: when its connection goes, calls that run are dropped, and nothing is left.

use std::fmt;
use std::sync::Arc;

use http::header::REFERRER_POLICY;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::server::event_buffer::EventBuffer;
use crate::server::permit::Budget;
use crate::server::{Answer, Endpoint, Handler, Route, ServerBuilder, Session, SessionEnd, Shared};

mod admit;
mod body;
mod config;
mod open;
mod post;
mod writer;

pub use config::{EventCapacity, Heartbeat, InvalidSetting, PublicBase, SseConfig};

pub(crate) use admit::{admit, not_up_yet};
pub(crate) use open::open;
pub(crate) use post::post;

/// Where HTTP+SSE is served, and by whom.
pub struct SseEndpoint {
    /// Path of the stream, by custom `/sse`.
    pub sse_path: String,
    /// Path that messages are posted to, by custom `/messages`.
    pub messages_path: String,
    /// Tells endpoints apart in logs and in the session store. It may be that of a Streamable HTTP
    /// endpoint: sessions are told apart by their binding too.
    pub name: Arc<str>,
    /// Who answers.
    pub handler: Arc<dyn Handler>,
    /// Limits and manners.
    pub config: SseConfig,
    /// Who is told what happens here, and adds to it.
    pub observer: Option<Arc<dyn SseObserver>>,
}

impl fmt::Debug for SseEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SseEndpoint")
            .field("sse_path", &self.sse_path)
            .field("messages_path", &self.messages_path)
            .field("name", &self.name)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// Sees the clients of an [`SseEndpoint`], and can tell them that there is something newer. Every call is
/// made on the way of a request: none may block.
pub trait SseObserver: Send + Sync + 'static {
    /// Fields for every response on both paths, errors included.
    fn response_headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        Vec::new()
    }

    /// An answer in place of serving the request, which is authenticated and has these headers; its method
    /// may be one that is not served.
    fn instead(&self, headers: &HeaderMap) -> Option<Answer> {
        let _ = headers;
        None
    }

    /// A stream was opened. Of its client nothing is known yet but the headers of its request.
    fn opened(&self, session: &Arc<Session>, headers: &HeaderMap) {
        let _ = (session, headers);
    }

    /// The handler has opened the session, and its answer to `initialize` is on its way: the session's
    /// `initialize` params are known from now on. Its client may leave as soon, so this and
    /// [`ended`](Self::ended) may come at the same time.
    fn negotiated(&self, session: &Arc<Session>) {
        let _ = session;
    }

    /// The handler has taken a client's `notifications/initialized`: messages may be put on the session's
    /// stream. Some clients never send it.
    fn initialized(&self, session: &Arc<Session>, stream: &EventBuffer) {
        let _ = (session, stream);
    }

    /// A session has ended; called once for each that was opened.
    fn ended(&self, session: &Arc<Session>, why: SessionEnd) {
        let _ = (session, why);
    }
}

/// An endpoint in service.
pub(crate) struct SseMount {
    pub(crate) endpoint: Arc<Endpoint>,
    messages_path: String,
    config: SseConfig,
    observer: Option<Arc<dyn SseObserver>>,
    streams: Budget,
}

/// Which of an endpoint's paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    Stream,
    Messages,
}

impl ServerBuilder {
    /// Serves HTTP+SSE at two paths. Several may be mounted, next to endpoints of Streamable HTTP with
    /// the same handler and name; sessions of all of them count against the same limits.
    pub fn sse_endpoint(mut self, endpoint: SseEndpoint) -> Self {
        let SseEndpoint {
            sse_path,
            messages_path,
            name,
            handler,
            config,
            observer,
        } = endpoint;
        let mount = Arc::new(SseMount {
            endpoint: Arc::new(Endpoint { name, handler }),
            messages_path: messages_path.clone(),
            streams: Budget::new(config.max_streams),
            config,
            observer,
        });
        let half = |half| Route::Sse(Arc::clone(&mount), half);
        self.routes.insert(messages_path, half(Half::Messages));
        self.routes.insert(sse_path, half(Half::Stream));
        self
    }
}

impl Shared {
    /// The endpoint of HTTP+SSE that a path belongs to.
    pub(crate) fn sse_mount(&self, path: &[u8]) -> Option<Arc<SseMount>> {
        // Most servers have none, and need not look.
        if !self.has_sse {
            return None;
        }
        match self.route(path) {
            Some(Route::Sse(mount, _)) => Some(Arc::clone(mount)),
            Some(Route::Mcp(_) | Route::Page(_)) | None => None,
        }
    }
}

impl SseMount {
    /// A path as clients see it.
    pub(crate) fn seen(&self, path: &str) -> String {
        self.config.public_base.join(path)
    }

    /// Adds what every response on its paths carries.
    pub(crate) fn mark(&self, headers: &mut HeaderMap) {
        // The URL of messages holds the session's id.
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        for (name, value) in self.observer.iter().flat_map(|o| o.response_headers()) {
            headers.append(name, value);
        }
    }
}

impl fmt::Debug for SseMount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SseMount")
            .field("name", &self.endpoint.name)
            .field("messages_path", &self.messages_path)
            .finish_non_exhaustive()
    }
}
