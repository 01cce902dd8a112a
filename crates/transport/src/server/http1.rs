//! One HTTP/1.1 connection: requests in, replies out, one after the other, in one task.
//!
//! A connection that waits owns no buffer. It reads into the thread's own ([`poll_read_scratch`]) and
//! keeps only what it could not use yet.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::ORIGIN;
use http::{Method, StatusCode};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::http1::end::HeadEnd;
use crate::http1::framing::Framing;
use crate::io::{Io, LazyTimer, READ_SIZE, now, poll_read_scratch};
use crate::server::dispatch::{Answering, Dispatched};
use crate::server::head::{self, HeadError, Http1Head, RequestHead};
use crate::server::ladder::Admitted;
use crate::server::permit::Permit;
use crate::server::reply::{Holds, Reply};
use crate::server::user_timeout::{UserTimeout, Written};
use crate::server::{FIRST_WORDS, Shared, dispatch, http2, ladder};

use write::Shape;

mod body;
mod write;

/// What opens an HTTP/2 connection with prior knowledge (RFC 9113 3.4), as far as it looks like a head.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";

/// Pipelined bytes kept while a reply is being written; more are left in the socket.
const MAX_PIPELINED: usize = 16 << 10;

/// How often a client that has sent more than that is looked after: reading would tell when it leaves,
/// but there is nowhere to put what is read.
const LOOK: Duration = Duration::from_secs(1);

/// Serves a connection to its end.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    io: Box<dyn Io>,
    peer: Option<SocketAddr>,
    permit: Permit,
) {
    let mut connection = Connection::new(shared, io, peer);
    loop {
        let next = connection.next_head().await;
        match next {
            Next::Head(request, rest) => {
                let Some((mut reply, shape)) = connection.answer(request, rest).await else {
                    return;
                };
                if connection.write(&mut reply, shape).await != After::Continue {
                    return;
                }
            }
            Next::Http2 => {
                let Connection {
                    shared, io, input, ..
                } = connection;
                UserTimeout::long(&shared.config.limits).apply(&*io);
                // Boxed, so that connections over HTTP/1.1 do not carry the room for it.
                Box::pin(http2::serve(shared, io, input, peer)).await;
                drop(permit);
                return;
            }
            Next::Refused(error) => return Box::pin(connection.refuse(error)).await,
            Next::Closed => return,
        }
    }
}

/// Answers 503 on a connection for which there is no place.
pub(crate) async fn refuse(shared: &Arc<Shared>, io: Box<dyn Io>) {
    let mut connection = Connection::new(Arc::clone(shared), io, None);
    let answer = ladder::busy(
        None,
        "too many connections are open",
        Some(shared.connections.limit()),
    );
    let mut reply = Reply::new(shared, answer, Holds::default());
    connection.write(&mut reply, Shape::last()).await;
}

/// What comes after a reply.
#[derive(Debug, PartialEq, Eq)]
enum After {
    Continue,
    Close,
}

enum Next {
    /// A head, and what was read behind it.
    Head(Box<Http1Head>, Bytes),
    Http2,
    Refused(HeadError),
    Closed,
}

struct Connection {
    shared: Arc<Shared>,
    io: Box<dyn Io>,
    peer: Option<SocketAddr>,
    /// Bytes read and not used yet; without an allocation when there are none.
    input: Vec<u8>,
    /// Bytes that the socket would not take yet.
    output: Vec<u8>,
    sent: usize,
    /// What comes behind `output`: a large body, written from where it lies. It keeps its place in
    /// the budget until its client has read it.
    whole: Bytes,
    written: Written,
    timer: LazyTimer,
    quiet: Pin<Box<WaitForCancellationFutureOwned>>,
    /// This task is woken when the server is quiet.
    hears_of_quiet: bool,
    /// So long its first request has to come also when the server stops; `None` once it has come.
    first_words: Option<Instant>,
    /// When to look next whether a client that cannot be read from is still there.
    look_at: Option<Instant>,
}

impl Connection {
    fn new(shared: Arc<Shared>, io: Box<dyn Io>, peer: Option<SocketAddr>) -> Self {
        let quiet = Box::pin(shared.quiet.clone().cancelled_owned());
        let now = now();
        Self {
            shared,
            io,
            peer,
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
            whole: Bytes::new(),
            written: Written::new(now),
            timer: LazyTimer::default(),
            quiet,
            hears_of_quiet: false,
            first_words: Some(now + FIRST_WORDS),
            look_at: None,
        }
    }

    /// Waits for the head of the next request.
    async fn next_head(&mut self) -> Next {
        let limits = self.shared.config.limits;
        let idle_until = now() + limits.idle_timeout;
        let mut head_until = None;
        let mut end = HeadEnd::default();
        loop {
            if let Some(next) = self.try_head(&mut end) {
                self.first_words = None;
                return next;
            }
            let waits = self.input.is_empty();
            // Neither deadline moves: blank lines and single bytes buy nobody time.
            let deadline = if waits {
                idle_until
            } else {
                *head_until.get_or_insert_with(|| now() + limits.head_timeout)
            };
            let read = poll_fn(|cx| {
                let input = &mut self.input;
                let take = |bytes: &[u8]| {
                    input.extend_from_slice(bytes);
                    bytes.len()
                };
                match poll_read_scratch(&mut self.io, cx, READ_SIZE, take) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(Next::Closed)),
                    Poll::Ready(Ok(_)) => return Poll::Ready(Ok(())),
                    Poll::Pending => {}
                }
                let deadline = if waits && self.quiet.as_mut().poll(cx).is_ready() {
                    let Some(first_words) = self.first_words else {
                        return Poll::Ready(Err(Next::Closed));
                    };
                    deadline.min(first_words)
                } else {
                    deadline
                };
                std::task::ready!(self.timer.poll_until(cx, deadline));
                let late = HeadError {
                    status: 408,
                    reason: "the request head came too slowly",
                };
                Poll::Ready(Err(if waits {
                    Next::Closed
                } else {
                    Next::Refused(late)
                }))
            });
            if let Err(next) = read.await {
                return next;
            }
        }
    }

    /// The next head, if all of it has been read. `end` spares what was looked through before.
    fn try_head(&mut self, end: &mut HeadEnd) -> Option<Next> {
        // Empty lines before a request are skipped (RFC 9112 2.2).
        let blank = self
            .input
            .iter()
            .take_while(|b| matches!(b, b'\r' | b'\n'))
            .count();
        if blank > 0 {
            self.input.drain(..blank);
            *end = HeadEnd::default();
        }
        let refused = |status, reason| Some(Next::Refused(HeadError { status, reason }));
        let found = end.find(&self.input);
        let length = found.ok().flatten().unwrap_or(self.input.len());
        if length > self.shared.config.limits.max_head {
            return refused(431, "the request head is too large");
        }
        match found {
            Ok(Some(_)) => {}
            Ok(None) => return None,
            Err(reason) => return refused(400, reason),
        }
        if self.input.starts_with(HTTP2_PREFACE) {
            return Some(Next::Http2);
        }
        let bytes = Bytes::from(std::mem::take(&mut self.input));
        let parsed = head::parse(&bytes, self.shared.config.limits.max_headers, self.peer);
        Some(match parsed {
            Ok(Some(head)) => {
                let rest = bytes.slice(head.length..);
                Next::Head(Box::new(head), rest)
            }
            Ok(None) => return refused(400, "malformed request head"),
            Err(error) => Next::Refused(error),
        })
    }

    /// From a head to its reply; `None`: the client has left.
    async fn answer(&mut self, request: Box<Http1Head>, rest: Bytes) -> Option<(Reply, Shape)> {
        let mut shape = Shape {
            keep_alive: request.keep_alive,
            chunked_allowed: request.chunked_allowed,
            lingers: false,
            bodiless: request.head.method == Method::HEAD,
        };
        let origin = request.head.headers.get(ORIGIN).cloned();
        let mount = self.shared.sse_mount(&request.head.path);
        let shared = Arc::clone(&self.shared);
        let admitted = ladder::admit(&shared, &request.head);
        // Whoever is refused for its origin must not read why.
        let refused = admitted.as_ref().err().map(|answer| answer.status);
        let origin = origin.filter(|_| refused != Some(StatusCode::FORBIDDEN));
        let dispatched = match (admitted, self.whole_body(&request, &rest)) {
            (Ok(admitted), Some(body)) => self.dispatch(admitted, request.head, body, &mut shape),
            // Boxed, so that a connection that streams does not carry the room for this.
            (admitted, _) => {
                Box::pin(self.read_and_dispatch(admitted, request, rest, &mut shape)).await?
            }
        };
        let mut answering = match dispatched {
            Dispatched::Now(answering) => answering,
            Dispatched::Later(later) => later.await,
        };
        let mut reply = self.unless_gone(&mut answering).await?;
        if let Some(origin) = &origin {
            reply.allow_origin(origin);
        }
        if let Some(mount) = mount {
            mount.mark(&mut reply.headers);
        }
        Some((reply, shape))
    }

    /// The body, if all of it was read with the head. What follows it is kept. Such a body is not in
    /// the budget: there are no more of them than requests (`max_requests`), each about as large as a read.
    fn whole_body(&mut self, request: &Http1Head, rest: &Bytes) -> Option<Bytes> {
        let Framing::Length(length) = request.framing else {
            return None;
        };
        let length = usize::try_from(length).ok()?;
        if length > self.shared.config.limits.max_body || rest.len() < length {
            return None;
        }
        self.input = rest[length..].to_vec();
        Some(rest.slice(..length))
    }

    fn dispatch(
        &self,
        admitted: Admitted,
        head: RequestHead,
        body: Bytes,
        shape: &mut Shape,
    ) -> Dispatched {
        let dispatched = dispatch::dispatch(&self.shared, admitted, head, body);
        dispatched.unwrap_or_else(|refused| {
            shape.keep_alive &= refused.may_stay;
            Dispatched::refused(&self.shared, refused.answer)
        })
    }

    /// Waits for the reply as long as the client is there.
    async fn unless_gone(&mut self, answering: &mut Answering) -> Option<Reply> {
        let mut forced = None;
        poll_fn(|cx| {
            if let Poll::Ready(done) = Pin::new(&mut *answering).poll(cx) {
                return Poll::Ready(Some(done));
            }
            // Once is enough: whoever has asked is woken when the server stops, and there it ends.
            if !self.hears_of_quiet {
                self.hears_of_quiet = true;
                if self.quiet.as_mut().poll(cx).is_ready() {
                    cx.waker().wake_by_ref();
                }
            }
            // What came late does not keep the server from being quiet, and is told of the end itself.
            if self.shared.is_draining() {
                let end = || Box::pin(self.shared.forced.clone().cancelled_owned());
                if forced.get_or_insert_with(end).as_mut().poll(cx).is_ready() {
                    cx.waker().wake_by_ref();
                }
            }
            self.poll_gone(cx).map(|()| None)
        })
        .await
    }

    /// `Ready` when the client has closed the connection, or its half of it: whether it still reads
    /// shows only when it is written to. What it sends meanwhile is kept.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.input.len() < MAX_PIPELINED {
            let input = &mut self.input;
            let limit = MAX_PIPELINED - input.len();
            let take = |bytes: &[u8]| {
                input.extend_from_slice(bytes);
                bytes.len()
            };
            match std::task::ready!(poll_read_scratch(&mut self.io, cx, limit, take)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
        while !(*self.io).is_read_closed() {
            let at = *self.look_at.get_or_insert_with(|| now() + LOOK);
            std::task::ready!(self.timer.poll_until(cx, at));
            self.look_at = None;
        }
        Poll::Ready(())
    }

    /// Answers a head that cannot be read; the connection ends with it.
    async fn refuse(mut self, error: HeadError) {
        let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::BAD_REQUEST);
        let answer = ladder::refuse(status, error.reason);
        ladder::log_refusal(&self.shared, &answer, None);
        let mut reply = Reply::new(&self.shared, answer, Holds::default());
        self.write(&mut reply, Shape::last()).await;
    }
}
