//! One session with a legacy server as a pipe of messages, whatever carries it: a child process
//! ([`StdioUpstream::spawn`](super::stdio::StdioUpstream::spawn)) or an HTTP+SSE connection
//! ([`sse::open`]).
//!
//! The receiving half is the session: dropping it ends the session, and who does not take messages from
//! it stops the server through the kernel's buffers. Nothing is read ahead beyond one read.

mod ask;
mod error;

use std::fmt;
use std::sync::Arc;
use std::vec;

use bytes::Bytes;
use http::HeaderMap;
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::{Message, Payload};
use tokio_util::sync::{CancellationToken, DropGuard};

#[cfg(unix)]
use super::stdio;
use super::{Upstream, sse};

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

/// The receiving half.
pub struct PipeReceiver {
    inlet: Inlet,
    /// Of a batch, what has not been taken yet.
    ready: vec::IntoIter<Message>,
    /// Cancelled when the session is over. Whatever belongs to it ends with it.
    over: CancellationToken,
    _ends_it: DropGuard,
}

#[derive(Clone)]
enum Outlet {
    #[cfg(unix)]
    Stdio(stdio::Input),
    Sse(Arc<sse::Posts>),
}

enum Inlet {
    #[cfg(unix)]
    Stdio(Box<stdio::Output>),
    Sse(Box<sse::Messages>),
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
                _ends_it: over.clone().drop_guard(),
                over,
            },
        }
    }
}

impl PipeSender {
    /// Sends one JSON-RPC message, and returns when the server has it: the child's pipe took all of it, or
    /// the POST was answered with a success. It is sent once at most.
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
        }
    }

    /// Whether its messages have headers: they are POSTs.
    #[must_use]
    pub fn has_headers(&self) -> bool {
        matches!(self.outlet, Outlet::Sse(_))
    }

    /// Name of the upstream.
    #[must_use]
    pub fn upstream(&self) -> Arc<str> {
        Arc::clone(&self.upstream)
    }

    /// Tells which revision `initialize` agreed on: later POSTs of HTTP+SSE name it in
    /// `MCP-Protocol-Version`, as clients do. The first call counts; a child process is told nothing.
    pub fn negotiated(&self, revision: Revision) {
        match &self.outlet {
            #[cfg(unix)]
            Outlet::Stdio(_) => {}
            Outlet::Sse(posts) => posts.negotiated(revision),
        }
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

impl PipeReceiver {
    /// The next message; a batch comes as its messages. `None`: the session is over, by
    /// [`PipeSender::close`] or after an error. Text that is no message is logged and skipped.
    ///
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`PipeError`], which is the end of the session: it is told once, then comes `None`.
    pub async fn next(&mut self) -> Option<Result<Message, PipeError>> {
        loop {
            if self.over.is_cancelled() {
                return None;
            }
            if let Some(message) = self.ready.next() {
                return Some(Ok(message));
            }
            let payload = tokio::select! {
                // Cancel-safe: waiting for a token changes nothing.
                () = self.over.cancelled() => return None,
                // Cancel-safe: what has been read stays in the inlet.
                payload = self.inlet.next() => payload,
            };
            match payload {
                Ok(Payload::Single(message)) => return Some(Ok(message)),
                Ok(Payload::Batch(messages)) => self.ready = messages.into_iter(),
                Err(error) => {
                    self.over.cancel();
                    return Some(Err(error));
                }
            }
        }
    }
}

impl Inlet {
    async fn next(&mut self) -> Result<Payload, PipeError> {
        match self {
            #[cfg(unix)]
            Self::Stdio(output) => output.next().await,
            Self::Sse(messages) => messages.next().await,
        }
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
