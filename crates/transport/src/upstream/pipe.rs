//! One session with a legacy server as a pipe of messages, whatever carries it: a child process
//! ([`StdioUpstream::spawn`](super::stdio::StdioUpstream::spawn)), an HTTP+SSE connection
//! ([`sse::open`]) or a session of Streamable HTTP ([`streamable::open`]).
//!
//! The receiving half is the session: dropping it ends the session, and who does not take messages from
//! it stops the server through the kernel's buffers. Nothing is read ahead beyond one read.

mod ask;
mod error;
pub(in crate::upstream) mod events;
mod receiver;

use std::fmt;
use std::sync::Arc;
use std::vec;

use bytes::Bytes;
use http::HeaderMap;
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::{Message, RequestId};
use thinpipe_proto::session::UpstreamSessionId;
use tokio_util::sync::{CancellationToken, DropGuard};

#[cfg(unix)]
use super::stdio;
use super::streamable::Told;
use super::{Upstream, sse, streamable};

pub use error::PipeError;

/// The default limit of one message, in bytes.
pub const DEFAULT_MAX_MESSAGE: usize = 16 << 20;

/// An open session: its two halves.
#[derive(Debug)]
pub struct Pipe {
    /// Sends to the server.
    pub sender: PipeSender,
    /// Receives from it. Dropping it ends the session.
    pub receiver: PipeReceiver,
}

/// The sending half. Cheap to clone; clones send to the same server.
#[derive(Clone)]
pub struct PipeSender {
    upstream: Arc<str>,
    outlet: Outlet,
    over: CancellationToken,
}

/// What comes out of a session.
#[derive(Debug)]
#[non_exhaustive]
pub enum Incoming {
    /// A message.
    Message {
        /// It.
        message: Message,
        /// In Streamable HTTP, the request on whose stream it came, over whatever connection. `None`: it came
        /// on the standalone stream, or all messages of the session come on one.
        via: Option<RequestId>,
    },
    /// In Streamable HTTP, an event stream answers this request, and something came on it that is no message: at
    /// first its head, later a comment or a part of an event.
    Alive {
        /// The request.
        request: RequestId,
    },
    /// The stream of this request ended without its response, and cannot be resumed: it may have run. The
    /// session goes on.
    Lost {
        /// The request.
        request: RequestId,
        /// Why it ended.
        error: PipeError,
    },
    /// The standalone stream broke off and was opened anew, not from where it was: whether the server said
    /// something meanwhile is not known.
    Gap,
    /// The standalone stream has ended, for good: only the streams of requests are left.
    Deaf {
        /// Why it ended.
        error: PipeError,
    },
}

/// The receiving half.
pub struct PipeReceiver {
    inlet: Inlet,
    /// Of a batch, what has not been taken yet.
    ready: vec::IntoIter<Message>,
    /// The request on whose stream the batch came.
    ready_via: Option<RequestId>,
    /// What has ended the session, to be told after what came before it.
    failed: Option<PipeError>,
    /// Cancelled when the session is over. Whatever belongs to it ends with it.
    over: CancellationToken,
    _ends_it: DropGuard,
}

#[derive(Clone)]
enum Outlet {
    #[cfg(unix)]
    Stdio(stdio::Input),
    Sse(Arc<sse::Posts>),
    Streamable(Arc<streamable::Posts>),
}

enum Inlet {
    #[cfg(unix)]
    Stdio(Box<stdio::Output>),
    Sse(Box<sse::Messages>),
    Streamable(Box<streamable::Messages>),
}

impl Pipe {
    #[cfg(unix)]
    pub(super) fn stdio(
        upstream: Arc<str>,
        input: stdio::Input,
        output: stdio::Output,
        over: CancellationToken,
    ) -> Self {
        let (outlet, inlet) = (Outlet::Stdio(input), Inlet::Stdio(Box::new(output)));
        Self::new(upstream, outlet, inlet, over)
    }

    pub(super) fn sse(upstream: &Upstream, posts: sse::Posts, messages: sse::Messages) -> Self {
        let name = Arc::clone(&upstream.config().name);
        let (outlet, inlet) = (Outlet::Sse(Arc::new(posts)), Inlet::Sse(Box::new(messages)));
        Self::new(name, outlet, inlet, CancellationToken::new())
    }

    pub(super) fn streamable(
        upstream: &Upstream,
        posts: streamable::Posts,
        messages: streamable::Messages,
        over: CancellationToken,
    ) -> Self {
        let name = Arc::clone(&upstream.config().name);
        let outlet = Outlet::Streamable(Arc::new(posts));
        let inlet = Inlet::Streamable(Box::new(messages));
        Self::new(name, outlet, inlet, over)
    }

    fn new(upstream: Arc<str>, outlet: Outlet, inlet: Inlet, over: CancellationToken) -> Self {
        Self {
            sender: PipeSender {
                upstream,
                outlet,
                over: over.clone(),
            },
            receiver: PipeReceiver {
                inlet,
                ready: Vec::new().into_iter(),
                ready_via: None,
                failed: None,
                _ends_it: over.clone().drop_guard(),
                over,
            },
        }
    }
}

impl PipeSender {
    /// Sends one JSON-RPC message, and returns when the server has it: the child's pipe took all of it, or
    /// the POST was answered with a success (of which nothing is read here). It is sent once at most.
    ///
    /// Dropping the future before that leaves open whether the server gets the message; it never gets a
    /// part of it.
    ///
    /// # Errors
    /// [`PipeError`]; [`PipeError::is_undelivered`] says whether the server certainly did not get it.
    pub async fn send(&self, message: Bytes) -> Result<(), PipeError> {
        self.send_with(message, None).await
    }

    /// As [`send`](Self::send), with these headers on its POST in the place of those that the session was
    /// opened with (credentials); those of MCP are set here. A child process has no headers.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn send_with(
        &self,
        message: Bytes,
        headers: Option<HeaderMap>,
    ) -> Result<(), PipeError> {
        if self.over.is_cancelled() {
            return Err(PipeError::Closed {
                upstream: Arc::clone(&self.upstream),
            });
        }
        match &self.outlet {
            #[cfg(unix)]
            Outlet::Stdio(input) => input.send(message, &self.upstream).await,
            Outlet::Sse(posts) => posts.send(message, headers).await,
            Outlet::Streamable(posts) => posts.send(message, headers).await,
        }
    }

    /// Whether its messages have headers: they are POSTs.
    #[must_use]
    pub fn has_headers(&self) -> bool {
        self.is_http()
    }

    fn is_http(&self) -> bool {
        matches!(self.outlet, Outlet::Sse(_) | Outlet::Streamable(_))
    }

    /// Whether messages come with the request that they belong to: each request has a stream of its own.
    #[must_use]
    pub fn has_streams(&self) -> bool {
        matches!(self.outlet, Outlet::Streamable(_))
    }

    /// Makes sure that what belongs to no request can come: opens the standalone stream of Streamable HTTP,
    /// if it is not open. `false`: the server has none. Call it by one at a time.
    ///
    /// # Errors
    /// [`PipeError`]: it could not be opened.
    pub async fn listen(&self) -> Result<bool, PipeError> {
        match &self.outlet {
            Outlet::Streamable(posts) => posts.listen().await,
            _ => Ok(true),
        }
    }

    /// Closes the standalone stream of Streamable HTTP.
    pub fn unlisten(&self) {
        if let Outlet::Streamable(posts) = &self.outlet {
            posts.unlisten();
        }
    }

    /// Nobody waits for the answer of this request any more: its stream is closed, where it has one. The
    /// server need not take that for its cancellation. Call it when sending the request is over.
    pub fn let_go(&self, request: &RequestId) {
        if let Outlet::Streamable(posts) = &self.outlet {
            posts.let_go(request);
        }
    }

    /// Nobody takes the answer of this request for now, or somebody does again: of the events of its stream
    /// no more than [`MAX_HELD`](streamable::MAX_HELD) bytes of an unfinished one are read while it is held.
    pub fn hold(&self, request: &RequestId, is_held: bool) {
        if let Outlet::Streamable(posts) = &self.outlet {
            posts.hold(request, is_held);
        }
    }

    /// Name of the upstream.
    #[must_use]
    pub fn upstream(&self) -> Arc<str> {
        Arc::clone(&self.upstream)
    }

    /// Tells which revision `initialize` agreed on: later requests over HTTP name it in
    /// `MCP-Protocol-Version`. The first call counts; a child process is told nothing.
    pub fn negotiated(&self, revision: Revision) {
        match &self.outlet {
            #[cfg(unix)]
            Outlet::Stdio(_) => {}
            Outlet::Sse(posts) => posts.negotiated(revision),
            Outlet::Streamable(posts) => posts.negotiated(revision),
        }
    }

    /// The id that the server of Streamable HTTP has given the session; `None`: it has given none, or there are
    /// none.
    #[must_use]
    pub fn session(&self) -> Option<UpstreamSessionId> {
        match &self.outlet {
            Outlet::Streamable(posts) => posts.session(),
            _ => None,
        }
    }

    pub(super) fn resume(&self, session: Option<&UpstreamSessionId>, revision: Revision) {
        if let (Outlet::Streamable(posts), Some(session)) = (&self.outlet, session) {
            posts.resume(session);
        }
        self.negotiated(revision);
    }

    /// As [`close`](Self::close), of a session of Streamable HTTP that another process goes on with: its server is
    /// told of no end. Others end with what carries them.
    pub fn leave(&self) {
        if let Outlet::Streamable(posts) = &self.outlet {
            posts.leave();
        }
        self.close();
    }

    /// Ends the session in order, and returns at once: the stream is closed, or the child gets the end of
    /// its input and the time to leave. The receiving half gives nothing more.
    pub fn close(&self) {
        self.over.cancel();
    }

    /// Whether the session is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.over.is_cancelled()
    }

    /// Until the session is over, from whichever side.
    pub async fn closed(&self) {
        self.over.cancelled().await;
    }
}

impl Inlet {
    async fn next(&mut self) -> Result<Told, PipeError> {
        let payload = match self {
            #[cfg(unix)]
            Self::Stdio(output) => output.next().await,
            Self::Sse(messages) => messages.next().await,
            Self::Streamable(messages) => return messages.next().await,
        };
        Ok(Told::Payload(payload?, None))
    }
}

impl fmt::Debug for PipeSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeSender")
            .field("upstream", &self.upstream)
            .field("is_closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for PipeReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeReceiver")
            .field("is_closed", &self.over.is_cancelled())
            .finish_non_exhaustive()
    }
}
