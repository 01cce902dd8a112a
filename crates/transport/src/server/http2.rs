//! HTTP/2 with prior knowledge, framed by hyper. Requests go the same way as those of HTTP/1.1.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, ORIGIN};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::body::{BodyError, Filled};
use crate::byte_budget::{ByteBudget, Gathering};
use crate::io::{Io, now};
use crate::server::dispatch::{self, Answering, Dispatched};
use crate::server::exchange::Answer;
use crate::server::head::{Query, RequestHead};
use crate::server::permit::{Budget, Permit, add};
use crate::server::reply::{Holds, Reply, ReplyBody, Running};
use crate::server::{Shared, ladder};

/// Bytes of one stream that may be on their way to a client that has not read them.
const STREAM_BUFFER: usize = 32 << 10;

/// Bytes of the connection preface (RFC 9113 3.4).
const PREFACE: usize = 24;

/// Requests at one time on one connection.
const MAX_CONCURRENT: u32 = 256;

/// Serves an HTTP/2 connection of which `input` has been read already.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    mut io: Box<dyn Io>,
    mut input: Vec<u8>,
    peer: Option<SocketAddr>,
) {
    let limits = shared.config.limits;
    let opened = now();
    let preface = async {
        while input.len() < PREFACE {
            if !matches!(io.read_buf(&mut input).await, Ok(1..)) {
                return false;
            }
        }
        true
    };
    if !matches!(
        tokio::time::timeout(limits.head_timeout, preface).await,
        Ok(true)
    ) {
        return;
    }
    let open = Budget::new(usize::MAX);
    let forced = shared.forced.clone();
    let leaving = CancellationToken::new();
    let closes = {
        let (shared, leaving) = (Arc::clone(&shared), leaving.clone());
        async move {
            tokio::select! {
                // Cancel-safe: a token stays cancelled, and so is the other future looked at again.
                () = leaving.cancelled() => {}
                () = shared.closes(opened) => {}
            }
        }
    };
    let mut closes = std::pin::pin!(closes);
    let requests = open.clone();
    // Short requests come and go between two looks.
    let requests_seen = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&requests_seen);
    let service = service_fn(move |request| {
        add(&counted);
        let shared = Arc::clone(&shared);
        let permit = requests.take();
        let (requests, leaving) = (requests.clone(), leaving.clone());
        async move {
            let answered = answer(shared, request, peer).await;
            // Who is turned away had better go; but not if others still use the connection.
            if answered.is_turned_away && requests.used() == 1 {
                leaving.cancel();
            }
            Ok::<_, Infallible>(answered.response.map(|body| OpenBody {
                body,
                _open: permit,
            }))
        }
    });
    let max_head = u32::try_from(limits.max_head).unwrap_or(u32::MAX);
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_CONCURRENT)
        .max_header_list_size(max_head)
        .max_send_buf_size(STREAM_BUFFER)
        .keep_alive_interval(limits.idle_timeout)
        .keep_alive_timeout(limits.head_timeout)
        .serve_connection(TokioIo::new(Rewound { io, input, at: 0 }), service);
    let mut connection = std::pin::pin!(connection);
    let mut shutting_down = false;
    let (mut unused_since, mut seen) = (now(), 0);
    let mut look = tokio::time::interval(limits.idle_timeout / 4);
    loop {
        let asked = requests_seen.load(Ordering::Relaxed);
        if open.used() > 0 || asked != seen {
            (unused_since, seen) = (now(), asked);
        }
        tokio::select! {
            done = connection.as_mut() => {
                if let Err(error) = done {
                    tracing::debug!(%error, "an HTTP/2 connection failed");
                }
                return;
            }
            // Cancel-safe: it goes on where it was. Not as soon as the server drains: a connection that
            // shuts down takes no more requests, and a call may wait for one of its client's.
            () = closes.as_mut(), if !shutting_down => {
                shutting_down = true;
                connection.as_mut().graceful_shutdown();
            }
            // Cancel-safe: a tick that is missed comes again. Answering pings is not using it.
            _ = look.tick(), if !shutting_down => {
                if now() >= unused_since + limits.idle_timeout {
                    shutting_down = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
            // Cancel-safe: a token stays cancelled. Replies end themselves; whoever does not read
            // them is left after a last chance.
            () = forced.cancelled() => {
                let _ = tokio::time::timeout(limits.write_stall, connection.as_mut()).await;
                return;
            }
        }
    }
}

/// A response on its way.
struct Answered {
    response: Response<ReplyStream>,
    /// The client asked for new work of a server that drains, and has nothing else to do here.
    is_turned_away: bool,
}

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
    peer: Option<SocketAddr>,
) -> Answered {
    let (parts, body) = request.into_parts();
    let origin = parts.headers.get(ORIGIN).cloned();
    let authority = parts.uri.authority();
    let authority = authority.map(|a| Bytes::copy_from_slice(a.as_str().as_bytes()));
    let query = parts.uri.query();
    let head = RequestHead {
        method: parts.method,
        path: Bytes::copy_from_slice(parts.uri.path().as_bytes()),
        query: query.map(|query| Query::new(Bytes::copy_from_slice(query.as_bytes()))),
        authority,
        headers: parts.headers,
        peer,
    };
    let too_many = head.headers.len() > shared.config.limits.max_headers;
    let admitted = if too_many {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        let answer = ladder::refuse(status, "too many header fields");
        ladder::log_refusal(&shared, &answer, Some(&head));
        Err(Box::new(answer))
    } else {
        ladder::admit(&shared, &head)
    };
    let is_head = head.method == Method::HEAD;
    let mount = shared.sse_mount(&head.path);
    let mut may_read = true;
    let mut is_turned_away = false;
    let mut reply = match admitted {
        Err(answer) => {
            may_read = answer.status != StatusCode::FORBIDDEN;
            Reply::new(&shared, *answer, Holds::default())
        }
        Ok(admitted) => match read_body(&shared, body).await {
            Ok(body) => match dispatch::dispatch(&shared, admitted, head, body) {
                Ok(Dispatched::Now(answering)) => in_time(&shared, answering).await,
                Ok(Dispatched::Later(later)) => in_time(&shared, later.await).await,
                Err(refused) => {
                    is_turned_away = !refused.may_stay;
                    ladder::log_refusal(&shared, &refused.answer, None);
                    Reply::new(&shared, refused.answer, Holds::default())
                }
            },
            Err(answer) => {
                ladder::log_refusal(&shared, &answer, None);
                Reply::new(&shared, answer, Holds::default())
            }
        },
    };
    if let Some(origin) = origin.filter(|_| may_read) {
        reply.allow_origin(&origin);
    }
    if let Some(mount) = mount {
        mount.mark(&mut reply.headers);
    }
    Answered {
        response: respond(&shared, reply, is_head),
        is_turned_away,
    }
}

/// The reply; when the time for draining is over, an error in its place.
async fn in_time(shared: &Shared, mut answering: Answering) -> Reply {
    tokio::select! {
        // Cancel-safe: it is only borrowed, and goes on below.
        reply = &mut answering => return reply,
        // Cancel-safe: a token stays cancelled.
        () = shared.forced.cancelled() => {}
    }
    answering.await
}

/// Reads the body, within the same bounds as that of HTTP/1.1.
async fn read_body(shared: &Shared, body: Incoming) -> Result<Bytes, Answer> {
    let limits = &shared.config.limits;
    let reading = tokio::time::timeout(limits.body_timeout, gather(shared, body));
    reading.await.unwrap_or_else(|_| {
        let text = "the body came too slowly";
        Err(ladder::refuse(StatusCode::REQUEST_TIMEOUT, text))
    })
}

async fn gather(shared: &Shared, mut body: Incoming) -> Result<Bytes, Answer> {
    let max = shared.config.limits.max_body;
    let length = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if length > max {
        return Err(ladder::body_too_large(shared));
    }
    let mut whole = match body.size_hint().exact() {
        None => Gathering::up_to(&shared.buffered, max),
        Some(_) => {
            Gathering::of_length(&shared.buffered, length).map_err(|_| ladder::no_room(shared))?
        }
    };
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| {
            let text = "the body broke off";
            ladder::refuse(StatusCode::BAD_REQUEST, text)
        })?;
        // What is no data are trailers, which nobody reads.
        let data = frame.into_data().unwrap_or_default();
        if whole.bytes.len() + data.len() > max {
            return Err(ladder::body_too_large(shared));
        }
        whole.bytes.extend_from_slice(&data);
        whole.grown().map_err(|_| ladder::no_room(shared))?;
    }
    Ok(whole.finish())
}

fn respond(shared: &Arc<Shared>, reply: Reply, is_head: bool) -> Response<ReplyStream> {
    let mut fields = HeaderMap::new();
    reply.type_fields(|name, value| drop(fields.insert(name, value.clone())));
    let length = reply.length().filter(|_| is_head);
    if let Some(length) = length {
        fields.insert(CONTENT_LENGTH, length.into());
    }
    let body = match reply.body {
        // What the body would be is told, and it does not come (RFC 9110 9.3.2).
        _ if is_head => ReplyStream::Whole(None),
        ReplyBody::Empty => ReplyStream::Whole(None),
        ReplyBody::Full(bytes) if bytes.len() > ByteBudget::FREE => {
            ReplyStream::Watched(watch(shared, Source::Whole(bytes)))
        }
        ReplyBody::Full(bytes) => ReplyStream::Whole(Some(bytes)),
        ReplyBody::Stream(running) => ReplyStream::Watched(watch(shared, Source::Running(running))),
    };
    let mut response = Response::new(body);
    *response.status_mut() = reply.status;
    fields.extend(reply.headers);
    *response.headers_mut() = fields;
    response
}

/// A reply that hyper polls, and a watchdog that hyper cannot be: it stops polling a body when the
/// client stops reading, so nothing in the body could notice.
fn watch(shared: &Arc<Shared>, source: Source) -> Arc<Mutex<Watched>> {
    let alive = CancellationToken::new();
    let watched = Arc::new(Mutex::new(Watched {
        source: Some(source),
        // A client may open no window at all; then hyper never asks.
        unread_since: Some(now()),
        _alive: alive.clone().drop_guard(),
    }));
    let weak = Arc::downgrade(&watched);
    let shared = Arc::clone(shared);
    let stall = shared.config.limits.write_stall;
    shared.tasks.clone().spawn(async move {
        loop {
            // Cancel-safe: sleeping loses nothing.
            let looked = alive
                .run_until_cancelled(tokio::time::sleep(stall / 2))
                .await;
            let Some(watched) = weak.upgrade().filter(|_| looked.is_some()) else {
                return;
            };
            let mut watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
            if watched.source.is_none() {
                return;
            }
            if watched
                .unread_since
                .is_some_and(|since| now() >= since + stall)
            {
                add(&shared.counters.stalled);
                tracing::info!("a client does not read; its stream is closed");
                watched.source = None;
                return;
            }
        }
    });
    watched
}

struct Watched {
    source: Option<Source>,
    /// When bytes were handed over that have not been asked beyond since.
    unread_since: Option<Instant>,
    /// The watchdog ends with the stream.
    _alive: DropGuard,
}

/// Where a reply's bytes come from.
enum Source {
    Running(Box<Running>),
    /// A large body that is all here, and has its place in the budget until it is read.
    Whole(Bytes),
}

/// A body whose connection counts as used for as long as it is there.
struct OpenBody {
    body: ReplyStream,
    _open: Option<Permit>,
}

impl HttpBody for OpenBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A reply's body as hyper wants it.
enum ReplyStream {
    Whole(Option<Bytes>),
    Watched(Arc<Mutex<Watched>>),
}

impl HttpBody for ReplyStream {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let watched = match &mut *self {
            Self::Whole(bytes) => return Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Self::Watched(watched) => watched,
        };
        let mut watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.unread_since = None;
        let mut out = Vec::new();
        let filled = match &mut watched.source {
            None => return Poll::Ready(Some(Err(BodyError::TimedOut))),
            Some(Source::Running(running)) => ready!(running.poll_fill(cx, &mut out)),
            Some(Source::Whole(bytes)) => {
                // Copied: what waits for the client must not keep the rest.
                let piece = bytes.split_to(bytes.len().min(STREAM_BUFFER));
                out.extend_from_slice(&piece);
                Ok(Filled::More)
            }
        };
        watched.unread_since = Some(now());
        match filled {
            Ok(_) if out.is_empty() => {
                (watched.source, watched.unread_since) = (None, None);
                drop(watched);
                *self = Self::Whole(None);
                Poll::Ready(None)
            }
            Ok(_) => Poll::Ready(Some(Ok(Frame::data(Bytes::from(out))))),
            Err(error) => Poll::Ready(Some(Err(error))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64))
            }
            Self::Watched(watched) => {
                let watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
                match &watched.source {
                    Some(Source::Whole(bytes)) => SizeHint::with_exact(bytes.len() as u64),
                    _ => SizeHint::default(),
                }
            }
        }
    }
}

/// A connection with the bytes that were read to find out what it speaks put back in front.
struct Rewound {
    io: Box<dyn Io>,
    input: Vec<u8>,
    at: usize,
}

impl AsyncRead for Rewound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.at < self.input.len() {
            let take = buf.remaining().min(self.input.len() - self.at);
            let from = self.at;
            buf.put_slice(&self.input[from..from + take]);
            self.at += take;
            if self.at == self.input.len() {
                self.input = Vec::new();
                self.at = 0;
            }
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
