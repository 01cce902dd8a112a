//! One request being answered: bounded in time, cancelled when it should be, its panics contained.

use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use bytes::BytesMut;
use http::StatusCode;
use thinpipe_proto::sse;

use super::Context;
use crate::body::{BodyError, BodyStream, BoxFuture, Filled};
use crate::io::LazyTimer;
use crate::server::conversation::{First, Inlet};
use crate::server::event_buffer::EventReader;
use crate::server::{Answer, Session, SessionManager};

/// Why a handler did not come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Nobody waits for it any more.
    Cancelled,
    /// It was silent for too long.
    TimedOut,
    /// It panicked.
    Panicked,
}

/// Runs a handler's future to its end, or to when it has to stop.
pub(super) async fn guarded<T>(
    mut future: Pin<&mut impl Future<Output = T>>,
    context: &Context,
    patience: Duration,
) -> Result<T, Ended> {
    let mut cancelled = pin!(context.cancelled().cancelled());
    let mut timer = LazyTimer::default();
    poll_fn(|cx| {
        // What it shares with others is behind locks of its own, which are poisoned as they should be.
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Err(_) => return Poll::Ready(Err(Ended::Panicked)),
            Ok(Poll::Ready(done)) => return Poll::Ready(Ok(done)),
            Ok(Poll::Pending) => {}
        }
        if cancelled.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(Ended::Cancelled));
        }
        std::task::ready!(poll_deadline(&mut timer, cx, context, patience));
        Poll::Ready(Err(Ended::TimedOut))
    })
    .await
}

/// Until the handler has been silent for too long. What it says moves the time.
fn poll_deadline(
    timer: &mut LazyTimer,
    cx: &mut TaskContext<'_>,
    context: &Context,
    patience: Duration,
) -> Poll<()> {
    loop {
        let deadline = context.deadline(patience);
        std::task::ready!(timer.poll_until(cx, deadline));
        if context.deadline(patience) <= deadline {
            return Poll::Ready(());
        }
    }
}

/// The work on an answer: it says it over its outlet, and comes to the status that the answer has if it is
/// no event stream.
pub(super) type Work = BoxFuture<StatusCode>;

/// Work that has begun on an answer, and where that comes out.
pub(super) struct Begun {
    pub(super) work: Work,
    pub(super) inlet: Inlet,
    pub(super) context: Context,
    /// Of the session, if there is one.
    pub(super) sessions: Option<SessionManager>,
}

impl Begun {
    /// The answer that it comes to. It is polled by whoever waits for the answer, then by the connection
    /// that the event stream is written to: no task runs for it.
    pub(super) async fn answer(self) -> Answer {
        let Self {
            work,
            mut inlet,
            context,
            sessions,
        } = self;
        let mut work = Some(work);
        let mut status = StatusCode::OK;
        let first = {
            let mut first = pin!(inlet.first());
            poll_fn(|cx| {
                if let Some(running) = &mut work
                    && let Poll::Ready(ended) = running.as_mut().poll(cx)
                {
                    status = ended;
                    work = None;
                }
                first.as_mut().poll(cx)
            })
            .await
        };
        match first {
            First::Response(message) => {
                let mut answer = Answer::json(message);
                answer.status = status;
                return answer;
            }
            First::Nothing | First::Stream => {}
        }
        match inlet.into_events() {
            Some(events) => Answer::events(Streamed {
                events,
                work,
                context,
                sessions,
            }),
            // HTTP+SSE, where there is no stream of its own that could end without a response.
            None => Answer::cancelled(),
        }
    }
}

/// An answer that has become an event stream, and the work that goes on on it.
struct Streamed {
    events: EventReader,
    work: Option<Work>,
    context: Context,
    /// Of the session that the work goes on in when the client leaves; without one, leaving ends it.
    sessions: Option<SessionManager>,
}

impl Streamed {
    fn poll_work(&mut self, cx: &mut TaskContext<'_>) {
        if let Some(work) = &mut self.work
            && work.as_mut().poll(cx).is_ready()
        {
            self.work = None;
        }
    }

    /// Ends the connection behind what has been said, and works on without it.
    fn leave(&mut self, retry: Duration, out: &mut Vec<u8>) {
        let mut event = BytesMut::new();
        sse::encode(&mut event, None, None, Some(retry), None);
        out.extend_from_slice(&event);
        if let (Some(work), Some(sessions)) = (self.work.take(), &self.sessions) {
            // Its client comes back: till then the session is in use.
            let activity = self.context.session().map(Session::enter);
            sessions.spawn(async move {
                work.await;
                drop(activity);
            });
        }
    }
}

impl BodyStream for Streamed {
    fn poll_fill(
        &mut self,
        cx: &mut TaskContext<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<Result<Filled, BodyError>> {
        self.poll_work(cx);
        let filled = self.events.poll_fill(cx, out);
        if filled.is_pending()
            && let Some(retry) = self.context.take_leave()
        {
            self.leave(retry, out);
            return Poll::Ready(Ok(Filled::End));
        }
        filled
    }

    fn at_boundary(&self) -> bool {
        self.events.at_boundary()
    }

    fn shut_down(&mut self, force: bool, out: &mut Vec<u8>) -> bool {
        self.events.shut_down(force, out)
    }

    fn abandon(self: Box<Self>) -> Option<BoxFuture<()>> {
        let Self {
            events,
            work,
            sessions,
            ..
        } = *self;
        // A stream that cannot be resumed takes nothing more from here on.
        drop(events);
        let work = work.filter(|_| sessions.is_some())?;
        Some(Box::pin(async move {
            work.await;
        }))
    }
}

impl fmt::Debug for Streamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streamed")
            .field("events", &self.events)
            .finish_non_exhaustive()
    }
}
