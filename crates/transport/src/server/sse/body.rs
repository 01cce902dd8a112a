//! The stream of a session as its connection writes it, and the end of the session with it.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use thinpipe_proto::sse;

use super::SseMount;
use crate::body::{BodyError, BodyStream, BoxFuture, Filled};
use crate::io::{LazyTimer, now};
use crate::server::Shared;
use crate::server::event_buffer::EventReader;
use crate::server::nodes::shutting_down_message;
use crate::server::permit::Permit;
use crate::server::session::stream::StreamSession;
use crate::server::session::{Activity, SessionEnd};

/// Reads the session's buffer, and ends when nobody needs it any more.
pub(super) struct SseBody {
    reader: EventReader,
    opened: Opened,
    opened_at: Instant,
    timer: LazyTimer,
    /// Until no exchange runs, once the server drains.
    idle: Option<BoxFuture<()>>,
}

impl SseBody {
    pub(super) fn new(reader: EventReader, opened: Opened) -> Self {
        Self {
            reader,
            opened,
            opened_at: now(),
            timer: LazyTimer::default(),
            idle: None,
        }
    }

    /// Whether the server drains and nothing runs that this client waits for. Polled before anything waits
    /// for the drain itself, so that whoever is woken by it registers here.
    fn has_drained(&mut self, cx: &mut Context<'_>) -> bool {
        let Opened { shared, of, .. } = &self.opened;
        if !shared.is_draining() {
            return false;
        }
        let stream = &of.stream;
        let idle = self.idle.get_or_insert_with(|| Box::pin(stream.idle()));
        idle.as_mut().poll(cx).is_ready()
    }

    /// Whether the client has been silent, and was told nothing, for too long.
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        let config = &self.opened.mount.config;
        let StreamSession { session, stream } = &self.opened.of;
        let deadline = if stream.awaits_initialize() {
            self.opened_at + config.connection_timeout
        } else if session.in_flight() > 0 {
            now() + config.session_timeout
        } else {
            session.last_used() + config.session_timeout
        };
        self.timer.poll_until(cx, deadline).is_ready()
    }

    /// What was said before the end, then nothing more.
    fn finish(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<Result<Filled, BodyError>> {
        self.opened.of.stream.buffer().close();
        self.reader.poll_fill(cx, out)
    }
}

impl BodyStream for SseBody {
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<Result<Filled, BodyError>> {
        match self.reader.poll_fill(cx, out) {
            Poll::Ready(Ok(Filled::More)) => {
                self.opened.of.stream.set_up();
                self.opened.of.session.touch();
                return Poll::Ready(Ok(Filled::More));
            }
            Poll::Ready(done) => return Poll::Ready(done),
            Poll::Pending => {}
        }
        if self.has_drained(cx) {
            self.opened.why = SessionEnd::ShutDown;
            return self.finish(cx, out);
        }
        if self.is_over(cx) {
            self.opened.why = SessionEnd::Expired;
            return self.finish(cx, out);
        }
        Poll::Pending
    }

    fn at_boundary(&self) -> bool {
        self.reader.at_boundary()
    }

    fn keep_alive(&self) -> Option<Duration> {
        Some(self.opened.mount.config.heartbeat.get())
    }

    /// Draining ends it from within; only force cuts it, after what was said and an error for who waits.
    fn shut_down(&mut self, force: bool, out: &mut Vec<u8>) -> bool {
        if !force {
            return false;
        }
        self.opened.why = SessionEnd::ShutDown;
        let mut cx = Context::from_waker(Waker::noop());
        // Ends: nothing is added any more, since it is closed.
        while let Poll::Ready(Ok(Filled::More)) = self.finish(&mut cx, out) {}
        let mut events = BytesMut::new();
        for id in self.opened.of.session.running_ids() {
            let error = shutting_down_message(&id);
            sse::encode(&mut events, Some(b"message"), None, None, Some(&error));
        }
        out.extend_from_slice(&events);
        true
    }
}

/// An open stream: its place, and its session, which ends when this is dropped.
pub(super) struct Opened {
    shared: Arc<Shared>,
    mount: Arc<SseMount>,
    of: StreamSession,
    why: SessionEnd,
    /// The time after which it ends is our own affair, not the sweep's.
    _activity: Activity,
    _permit: Permit,
}

impl Opened {
    pub(super) fn new(
        shared: &Arc<Shared>,
        mount: Arc<SseMount>,
        of: StreamSession,
        permit: Permit,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            mount,
            why: SessionEnd::Disconnected,
            _activity: of.session.enter(),
            _permit: permit,
            of,
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let shared = Arc::clone(&self.shared);
        let StreamSession { session, stream } = self.of.clone();
        shared.broadcaster.remove(session.id());
        // At once, also where nothing can be run any more: who waits for room is let go.
        stream.buffer().close();
        if tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let (mount, why) = (Arc::clone(&self.mount), self.why);
        self.shared.sessions.spawn(async move {
            shared.end_session(&session, why).await;
            let why = stream.why_ended().unwrap_or(why);
            if let Some(observer) = &mount.observer {
                observer.ended(&session, why);
            }
            tracing::debug!(session = ?session.id(), ?why, "a stream is gone");
        });
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened")
            .field("of", &self.of)
            .finish_non_exhaustive()
    }
}
