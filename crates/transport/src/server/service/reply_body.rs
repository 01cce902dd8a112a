//! A reply as hyper wants it, and a watchdog for clients that do not read it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::body::{BodyError, Filled};
use crate::byte_budget::ByteBudget;
use crate::io::now;
use crate::server::Shared;
use crate::server::permit::add;
use crate::server::reply::{Reply, ReplyBody, Running};

/// Bytes of one stream that may be on their way to a client that has not read them.
pub(crate) const STREAM_BUFFER: usize = 32 << 10;

pub(super) fn respond(shared: &Arc<Shared>, reply: Reply, is_head: bool) -> Response<ReplyStream> {
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

pub(crate) struct Watched {
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

/// A reply's body as hyper wants it.
pub(crate) enum ReplyStream {
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
