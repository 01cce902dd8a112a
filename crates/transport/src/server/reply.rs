//! An answer on its way to the client: kept alive, ended at shutdown, and run to its end when the
//! client leaves and that is not a cancellation.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, CACHE_CONTROL, CONTENT_TYPE, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use thinpipe_proto::header::SESSION_ID;
use thinpipe_proto::rpc::{RequestId, code};
use thinpipe_proto::sse;
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::body::{Body, BodyError, BodyStream, Filled};
use crate::io::{LazyTimer, now};
use crate::server::Shared;
use crate::server::dispatch::left_behind;
use crate::server::exchange::{Answer, Content};
use crate::server::permit::{Permit, add};
use crate::server::session::{Activity, InFlight};

/// Head and body of an HTTP response, ready to be framed by either HTTP version.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    content: Content,
    pub(crate) headers: HeaderMap,
    pub(crate) body: ReplyBody,
}

/// The body of a [`Reply`].
#[derive(Default)]
pub(crate) enum ReplyBody {
    #[default]
    Empty,
    Full(bytes::Bytes),
    Stream(Box<Running>),
}

/// What a running reply holds on to, for as long as it runs.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    /// Its place among the requests; given back when an event stream begins.
    pub(crate) request: Option<Permit>,
    /// Its session, kept from expiring.
    pub(crate) activity: Option<Activity>,
    /// Its id, taken until a streamed body is at its end. A whole body gives it back before it is
    /// written: the client cannot have seen the answer yet, and may use the id again when it has.
    pub(crate) running: Option<InFlight>,
    /// What it answers, for the case that the answer cannot be passed.
    pub(crate) asked: Asked,
}

/// What a reply answers.
#[derive(Debug, Default)]
pub(crate) enum Asked {
    /// Something that can be asked again without harm.
    #[default]
    Safe,
    /// A POST, with the id of its request: when its answer is there, the call has run or runs.
    Call(Option<RequestId>),
}

impl Holds {
    /// The answer in place of one that did not come before the server had to stop.
    pub(crate) fn cut_off(&self) -> Answer {
        let id = match &self.asked {
            Asked::Call(id) => id.as_ref(),
            Asked::Safe => None,
        };
        let text = "this server shuts down before the answer came; the call may have run";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let reason = Some(reason!("shutting_down"));
        Answer::error(status, id, code::SERVER_ERROR, text, reason)
    }
}

impl Reply {
    /// Turns an answer into a reply: transport headers added, an event stream counted.
    ///
    /// Whether an answer is a stream is known only when it is there. If no more streams may be open
    /// then, a GET is refused and may be tried again; a call is answered with an error that invites
    /// no retry, and what is left of its answer is seen to without the client.
    pub(crate) fn new(shared: &Arc<Shared>, answer: Answer, mut holds: Holds) -> Self {
        let is_stream = answer.content == Content::EventStream;
        let mut stream_permit = None;
        if is_stream && matches!(answer.body, Body::Stream(_)) {
            let Some(permit) = shared.streams.take() else {
                let refusal = no_stream(shared.streams.limit(), &holds.asked);
                if let Some(rest) = left_behind(shared, answer) {
                    shared.detach(rest, std::mem::take(&mut holds));
                }
                return Self::new(shared, refusal, holds);
            };
            add(&shared.counters.streams);
            stream_permit = Some(permit);
            holds.request = None;
        }
        shared.counters.answered(answer.status);
        let mut headers = answer.headers;
        if is_stream {
            // Ours is the last word on whether a stream may be held back.
            headers.remove(CACHE_CONTROL);
            headers.remove("x-accel-buffering");
        }
        if let Some(id) = &answer.session
            && let Ok(value) = HeaderValue::from_bytes(id.as_bytes())
        {
            headers.insert(SESSION_ID, value);
        }
        let body = match answer.body {
            Body::Empty => ReplyBody::Empty,
            Body::Full(bytes) => ReplyBody::Full(bytes),
            Body::Stream(stream) => {
                let running = Running::new(shared, stream, is_stream, stream_permit, holds);
                ReplyBody::Stream(Box::new(running))
            }
        };
        Self {
            status: answer.status,
            content: answer.content,
            headers,
            body,
        }
    }

    /// The fields that follow from the type of the body. They are not in `headers`, since making a
    /// map for two fields of nearly every reply would cost more than writing them.
    pub(crate) fn type_fields(&self, mut field: impl FnMut(HeaderName, &HeaderValue)) {
        const ACCEL: HeaderName = HeaderName::from_static("x-accel-buffering");
        const JSON: HeaderValue = HeaderValue::from_static("application/json");
        const EVENTS: HeaderValue = HeaderValue::from_static(sse::MEDIA_TYPE);
        match &self.content {
            Content::Json => {
                field(CONTENT_TYPE, &JSON);
                if !self.headers.contains_key(CACHE_CONTROL) {
                    field(CACHE_CONTROL, &HeaderValue::from_static("no-store"));
                }
            }
            Content::EventStream => {
                field(CONTENT_TYPE, &EVENTS);
                field(
                    CACHE_CONTROL,
                    &HeaderValue::from_static("no-cache, no-transform"),
                );
                field(ACCEL, &HeaderValue::from_static("no"));
            }
            Content::Other(Some(value)) => field(CONTENT_TYPE, value),
            Content::OnStream | Content::Cancelled | Content::Other(None) => {}
        }
    }

    /// Lets a browser page of an allowed origin read it.
    pub(crate) fn allow_origin(&mut self, origin: &HeaderValue) {
        self.headers
            .insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        self.headers
            .append(VARY, HeaderValue::from_static("origin"));
        let exposed = "Mcp-Session-Id, WWW-Authenticate, Deprecation, Sunset, Link, Retry-After";
        self.headers.insert(
            ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static(exposed),
        );
    }

    /// What the body is.
    pub(crate) fn content(&self) -> &Content {
        &self.content
    }

    /// Length of the body, if it is known.
    pub(crate) fn length(&self) -> Option<u64> {
        match &self.body {
            ReplyBody::Empty => Some(0),
            ReplyBody::Full(bytes) => Some(bytes.len() as u64),
            ReplyBody::Stream(running) => running.body.as_ref().and_then(|b| b.remaining()),
        }
    }
}

/// The answer in place of a stream for which there is no room.
fn no_stream(limit: usize, asked: &Asked) -> Answer {
    let text = "too many event streams are open";
    match asked {
        Asked::Safe => super::ladder::busy(None, text, Some(limit)),
        Asked::Call(id) => {
            let text = format!("{text} (limit {limit}); the call may have run");
            let data = r#"{"reason":"too_many_streams"}"#;
            let status = StatusCode::BAD_GATEWAY;
            Answer::error(status, id.as_ref(), code::INTERNAL_ERROR, &text, Some(data))
        }
    }
}

/// A streamed body with everything that can happen to it beside its own bytes.
pub(crate) struct Running {
    body: Option<Box<dyn BodyStream>>,
    shared: Arc<Shared>,
    /// Event streams are kept alive by comments.
    is_events: bool,
    last_byte: Instant,
    timer: LazyTimer,
    shutdown: Shutdown,
    holds: Holds,
    _stream: Option<Permit>,
}

/// How far the end of the process has come for this reply.
enum Shutdown {
    /// Nothing waits yet: most replies are complete before anything could.
    Unwatched,
    Draining(Pin<Box<WaitForCancellationFutureOwned>>),
    Forced(Pin<Box<WaitForCancellationFutureOwned>>),
}

impl Running {
    fn new(
        shared: &Arc<Shared>,
        body: Box<dyn BodyStream>,
        is_events: bool,
        stream: Option<Permit>,
        holds: Holds,
    ) -> Self {
        Self {
            body: Some(body),
            shared: Arc::clone(shared),
            is_events,
            last_byte: now(),
            timer: LazyTimer::default(),
            shutdown: Shutdown::Unwatched,
            holds,
            _stream: stream,
        }
    }

    /// Without comments: whoever passes it on to the client keeps that connection alive.
    pub(crate) fn without_keep_alive(mut self: Box<Self>) -> Box<Self> {
        self.is_events = false;
        self
    }

    /// As [`BodyStream::at_boundary`].
    pub(crate) fn at_boundary(&self) -> bool {
        self.body.as_ref().is_none_or(|body| body.at_boundary())
    }

    /// As [`BodyStream::poll_fill`], with keep-alive comments and shutdown joined in.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<Result<Filled, BodyError>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(Ok(Filled::End));
        };
        match body.poll_fill(cx, out) {
            Poll::Ready(Ok(Filled::More)) => {
                self.last_byte = now();
                return Poll::Ready(Ok(Filled::More));
            }
            Poll::Ready(done) => {
                self.body = None;
                return Poll::Ready(done);
            }
            Poll::Pending => {}
        }
        let before = out.len();
        if self.poll_shutdown(cx, out) {
            self.body = None;
            return Poll::Ready(Ok(Filled::End));
        }
        self.poll_keep_alive(cx, out);
        if out.len() > before {
            Poll::Ready(Ok(Filled::More))
        } else {
            Poll::Pending
        }
    }

    /// Whether the stream is over because the process shuts down.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> bool {
        loop {
            match &mut self.shutdown {
                Shutdown::Unwatched => {
                    let draining = self.shared.draining.clone().cancelled_owned();
                    self.shutdown = Shutdown::Draining(Box::pin(draining));
                }
                Shutdown::Draining(wait) => {
                    if wait.as_mut().poll(cx).is_pending() {
                        return false;
                    }
                    let forced = self.shared.forced.clone().cancelled_owned();
                    self.shutdown = Shutdown::Forced(Box::pin(forced));
                    if self.body.as_mut().is_none_or(|b| b.shut_down(false, out)) {
                        return true;
                    }
                }
                Shutdown::Forced(wait) => {
                    if wait.as_mut().poll(cx).is_pending() {
                        return false;
                    }
                    if let Some(body) = &mut self.body {
                        body.shut_down(true, out);
                    }
                    return true;
                }
            }
        }
    }

    fn poll_keep_alive(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) {
        if !self.is_events {
            return;
        }
        let own = self.body.as_ref().and_then(|body| body.keep_alive());
        let silence = own.unwrap_or(self.shared.config.limits.keep_alive);
        while self
            .timer
            .poll_until(cx, self.last_byte + silence)
            .is_ready()
        {
            self.last_byte = now();
            // Inside an event a comment would tear it.
            if self.body.as_ref().is_some_and(|b| b.at_boundary()) {
                add(&self.shared.counters.keep_alives);
                out.extend_from_slice(sse::KEEP_ALIVE);
            }
        }
    }
}

/// Whatever ends a reply early, what its body still has to do is done elsewhere.
impl Drop for Running {
    fn drop(&mut self) {
        if let Some(rest) = self.body.take().and_then(BodyStream::abandon) {
            self.shared.detach(rest, std::mem::take(&mut self.holds));
        }
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("is_events", &self.is_events)
            .finish_non_exhaustive()
    }
}
