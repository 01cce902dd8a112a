//! One HTTP/1.1 connection: requests in, replies out, one after the other, in one task.
//!
//! A connection that waits owns no buffer. It reads into the thread's own ([`poll_read_scratch`]) and
//! keeps only what it could not use yet.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::StatusCode;
use http::header::ORIGIN;
use thinpipe_proto::rpc::code;
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::http1::end::HeadEnd;
use crate::http1::framing::Framing;
use crate::io::{Io, LazyTimer, READ_SIZE, now, poll_read_scratch};
use crate::server::dispatch::Dispatched;
use crate::server::exchange::Answer;
use crate::server::head::{self, HeadError, Http1Head, RequestHead};
use crate::server::ladder::Admitted;
use crate::server::permit::Permit;
use crate::server::reply::{Holds, Reply};
use crate::server::{Shared, dispatch, http2, ladder};

use write::Shape;

mod write;

/// What opens an HTTP/2 connection with prior knowledge (RFC 9113 3.4), as far as it looks like a head.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";

/// Pipelined bytes kept while a reply is being written; more are left in the socket.
const MAX_PIPELINED: usize = 16 << 10;

/// A refused body up to this size is read and dropped, so that the connection can be used again.
const MAX_DRAINED_BODY: usize = 64 << 10;

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

/// Why there is no body.
enum BodyFault {
    TooLarge,
    TimedOut,
    Malformed,
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
    timer: LazyTimer,
    quiet: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Connection {
    fn new(shared: Arc<Shared>, io: Box<dyn Io>, peer: Option<SocketAddr>) -> Self {
        let quiet = Box::pin(shared.quiet.clone().cancelled_owned());
        Self {
            shared,
            io,
            peer,
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
            timer: LazyTimer::default(),
            quiet,
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
                if waits && self.shared.is_draining() && self.shared.quiet.is_cancelled() {
                    return Poll::Ready(Err(Next::Closed));
                }
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
                if waits && self.quiet.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Err(Next::Closed));
                }
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
        };
        let origin = request.head.headers.get(ORIGIN).cloned();
        let shared = Arc::clone(&self.shared);
        let admitted = ladder::admit_to_body(&shared, &request.head);
        // Whoever is refused for its origin must not read why.
        let refused = admitted.as_ref().err().map(|answer| answer.status);
        let origin = origin.filter(|_| refused != Some(StatusCode::FORBIDDEN));
        let dispatched = match (admitted, self.whole_body(&request, &rest)) {
            (Ok(admitted), Some(body)) => self.dispatch(admitted, request.head, body),
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
        Some((reply, shape))
    }

    /// The body, if all of it was read with the head. What follows it is kept.
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

    /// The long way: a body that is still on its way, or a refusal. `None`: the client has left.
    async fn read_and_dispatch(
        &mut self,
        admitted: Result<Admitted, Box<Answer>>,
        request: Box<Http1Head>,
        rest: Bytes,
        shape: &mut Shape,
    ) -> Option<Dispatched> {
        let admitted = match admitted {
            Ok(admitted) => admitted,
            Err(answer) => {
                self.skip_body(&request, rest, shape).await;
                return Some(Dispatched::refused(&self.shared, *answer));
            }
        };
        match self.read_body(&request, rest).await {
            Ok(body) => Some(self.dispatch(admitted, request.head, body)),
            Err(BodyFault::Closed) => None,
            Err(fault) => {
                shape.keep_alive = false;
                shape.lingers = true;
                Some(Dispatched::refused(&self.shared, self.body_refusal(&fault)))
            }
        }
    }

    fn dispatch(&self, admitted: Admitted, head: RequestHead, body: Bytes) -> Dispatched {
        match ladder::refuse_new_work(&self.shared, &admitted, &head, &body) {
            Some(refusal) => Dispatched::refused(&self.shared, refusal),
            None => dispatch::dispatch(&self.shared, admitted, head, body),
        }
    }

    /// Waits for `future` as long as the client is there.
    async fn unless_gone<T>(
        &mut self,
        future: &mut (impl Future<Output = T> + Unpin),
    ) -> Option<T> {
        poll_fn(|cx| {
            if let Poll::Ready(done) = Pin::new(&mut *future).poll(cx) {
                return Poll::Ready(Some(done));
            }
            self.poll_gone(cx).map(|()| None)
        })
        .await
    }

    /// `Ready` when the client has closed the connection. What it sends meanwhile is kept.
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
        Poll::Pending
    }

    async fn read_body(&mut self, request: &Http1Head, rest: Bytes) -> Result<Bytes, BodyFault> {
        let limits = self.shared.config.limits;
        let mut framing = request.framing.clone();
        if let Framing::Length(length) = framing
            && length > limits.max_body as u64
        {
            return Err(BodyFault::TooLarge);
        }
        if request.expects_continue {
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let mut body = Vec::new();
        self.input = rest.to_vec();
        let deadline = now() + limits.body_timeout;
        loop {
            let used = framing
                .decode(&self.input, &mut body)
                .map_err(|_| BodyFault::Malformed)?;
            self.input.drain(..used);
            if body.len() > limits.max_body {
                return Err(BodyFault::TooLarge);
            }
            if framing.is_done() {
                return Ok(Bytes::from(body));
            }
            self.read_more(deadline).await?;
        }
    }

    async fn read_more(&mut self, deadline: std::time::Instant) -> Result<(), BodyFault> {
        poll_fn(|cx| {
            let input = &mut self.input;
            let take = |bytes: &[u8]| {
                input.extend_from_slice(bytes);
                bytes.len()
            };
            match poll_read_scratch(&mut self.io, cx, READ_SIZE, take) {
                Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(Err(BodyFault::Closed)),
                Poll::Ready(Ok(_)) => Poll::Ready(Ok(())),
                Poll::Pending => self
                    .timer
                    .poll_until(cx, deadline)
                    .map(|()| Err(BodyFault::TimedOut)),
            }
        })
        .await
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), BodyFault> {
        self.output.extend_from_slice(bytes);
        let mut stalled = None;
        let flushed = poll_fn(|cx| self.poll_flush_output(cx, &mut stalled)).await;
        flushed.map_err(|_| BodyFault::Closed)
    }

    /// Reads past the body of a refused request, if that is cheap; else the connection closes.
    async fn skip_body(&mut self, request: &Http1Head, rest: Bytes, shape: &mut Shape) {
        let small = match request.framing {
            Framing::Length(length) => length <= MAX_DRAINED_BODY as u64,
            _ => false,
        };
        let waits_for_us = request.expects_continue && request.framing != Framing::Length(0);
        if small && !waits_for_us && self.read_body(request, rest).await.is_ok() {
            return;
        }
        shape.keep_alive = false;
        shape.lingers = true;
    }

    fn body_refusal(&self, fault: &BodyFault) -> Answer {
        let limit = self.shared.config.limits.max_body;
        let (status, code, text) = match fault {
            BodyFault::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                code::INVALID_REQUEST,
                format!("the body exceeds {limit} bytes"),
            ),
            BodyFault::TimedOut => (
                StatusCode::REQUEST_TIMEOUT,
                code::INVALID_REQUEST,
                "the body came too slowly".to_owned(),
            ),
            BodyFault::Malformed | BodyFault::Closed => (
                StatusCode::BAD_REQUEST,
                code::PARSE_ERROR,
                "the framing of the body is malformed".to_owned(),
            ),
        };
        let data = match fault {
            BodyFault::TooLarge => reason!("too_large"),
            BodyFault::TimedOut => reason!("too_slow"),
            BodyFault::Malformed | BodyFault::Closed => reason!("bad_request"),
        };
        Answer::error(status, None, code, &text, Some(data))
    }

    /// Answers a head that cannot be read; the connection ends with it.
    async fn refuse(mut self, error: HeadError) {
        let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::BAD_REQUEST);
        let answer = ladder::refuse(status, error.reason);
        let mut reply = Reply::new(&self.shared, answer, Holds::default());
        self.write(&mut reply, Shape::last()).await;
    }
}
