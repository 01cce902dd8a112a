//! Where a relay's bytes come from: an upstream's body, then perhaps another one that resumes it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use thinpipe_proto::session::EventId;
use thinpipe_transport::body::{Body, BodyError, BodyStream, BoxFuture, Filled};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::{Ending, Line, Resumed};

/// Bytes that are all here.
struct Whole(Bytes);

impl Whole {
    fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl BodyStream for Whole {
    fn poll_fill(
        &mut self,
        _: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<Result<Filled, BodyError>> {
        out.extend_from_slice(&std::mem::take(&mut self.0));
        Poll::Ready(Ok(Filled::End))
    }

    fn remaining(&self) -> Option<u64> {
        Some(self.0.len() as u64)
    }
}

/// `Body` as a stream, whatever it is.
pub(crate) fn into_stream(body: Body) -> Box<dyn BodyStream> {
    match body {
        Body::Stream(stream) => stream,
        Body::Full(bytes) => Box::new(Whole::new(bytes)),
        Body::Empty => Box::new(Whole::new(Bytes::new())),
    }
}

/// The upstream's side of a relay.
pub(crate) struct Source {
    state: State,
    /// Ends the stream: its session has ended, or another connection took its place.
    stop: CancellationToken,
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
}

enum State {
    Reading(Box<dyn BodyStream>),
    Resuming(BoxFuture<Resumed>),
    Over,
}

/// What a [`Source`] has to say.
pub(crate) enum Got {
    /// Bytes were appended.
    Bytes,
    /// The body has ended; ask [`Source::follow`] what comes next.
    End,
    /// Another body goes on where the last one ended.
    NewBody,
    /// The same, but what came before cannot be resumed any more; the events it begins with were
    /// appended.
    FreshBody,
    /// Resuming failed.
    Lost,
    /// The stream is to end now, properly.
    Stopped,
}

impl Source {
    pub(crate) fn new(body: Box<dyn BodyStream>, stop: CancellationToken) -> Self {
        Self {
            state: State::Reading(body),
            stop: stop.clone(),
            stopped: Box::pin(stop.cancelled_owned()),
        }
    }

    /// From now on this token stops it.
    pub(crate) fn stop_by(&mut self, stop: CancellationToken) {
        self.stop = stop.clone();
        self.stopped = Box::pin(stop.cancelled_owned());
    }

    /// Appends what the upstream has ready to `out`.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        line: &mut Line,
        out: &mut Vec<u8>,
    ) -> Poll<Got> {
        // A flag for streams that never stop to wait; whoever waits is woken.
        if self.stop.is_cancelled() {
            self.state = State::Over;
            return Poll::Ready(Got::Stopped);
        }
        let polled = self.poll_body(cx, line, out);
        if polled.is_pending() && self.stopped.as_mut().poll(cx).is_ready() {
            self.state = State::Over;
            return Poll::Ready(Got::Stopped);
        }
        polled
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, line: &mut Line, out: &mut Vec<u8>) -> Poll<Got> {
        let before = out.len();
        match &mut self.state {
            State::Reading(body) => match ready!(body.poll_fill(cx, out)) {
                Ok(Filled::More) => Poll::Ready(Got::Bytes),
                Ok(Filled::End) => {
                    self.state = State::Over;
                    Poll::Ready(if out.len() > before {
                        Got::Bytes
                    } else {
                        Got::End
                    })
                }
                Err(error) => {
                    tracing::debug!(upstream = line.owner.name(), %error, "a stream broke off");
                    self.state = State::Over;
                    Poll::Ready(if out.len() > before {
                        Got::Bytes
                    } else {
                        Got::End
                    })
                }
            },
            State::Resuming(future) => match ready!(future.as_mut().poll(cx)) {
                Resumed::Body(body, backoff) => {
                    line.owner.stats().resumed();
                    line.backoff = backoff;
                    self.state = State::Reading(body);
                    Poll::Ready(Got::NewBody)
                }
                Resumed::Fresh(body, first) => {
                    line.owner.stats().resumed();
                    out.extend_from_slice(&first);
                    self.state = State::Reading(body);
                    Poll::Ready(Got::FreshBody)
                }
                Resumed::Lost => {
                    tracing::warn!(
                        upstream = line.owner.name(),
                        "a stream is lost: the server did not take it up again"
                    );
                    self.state = State::Over;
                    Poll::Ready(Got::Lost)
                }
            },
            State::Over => Poll::Ready(Got::End),
        }
    }

    /// After [`Got::End`]: goes on if the stream can be resumed, otherwise says how it ends.
    pub(crate) fn follow(
        &mut self,
        line: &Line,
        last: Option<EventId>,
        retry: Option<Duration>,
    ) -> Option<Ending> {
        match line.ending(last, retry) {
            Ending::Resume(future) => {
                tracing::warn!(
                    upstream = line.owner.name(),
                    "a stream broke off; the server is asked to take it up again"
                );
                self.state = State::Resuming(future);
                None
            }
            ending => Some(ending),
        }
    }

    pub(crate) fn into_body(self) -> Option<Box<dyn BodyStream>> {
        match self.state {
            State::Reading(body) => Some(body),
            State::Resuming(_) | State::Over => None,
        }
    }
}

/// A body of unknown length, cut off at a limit: what is passed unread is bounded too.
pub(crate) struct Bounded {
    stream: Box<dyn BodyStream>,
    left: u64,
    limit: u64,
}

impl Bounded {
    pub(crate) fn new(stream: Box<dyn BodyStream>, limit: u64) -> Self {
        Self {
            stream,
            left: limit,
            limit,
        }
    }
}

impl BodyStream for Bounded {
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<Result<Filled, BodyError>> {
        let before = out.len();
        let filled = ready!(self.stream.poll_fill(cx, out));
        let more = (out.len() - before) as u64;
        if more > self.left {
            out.truncate(before);
            let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
            return Poll::Ready(Err(BodyError::TooLarge { limit }));
        }
        self.left -= more;
        Poll::Ready(filled)
    }

    fn unwatch(&mut self) -> bool {
        self.stream.unwatch()
    }

    fn abandon(self: Box<Self>) -> Option<BoxFuture<()>> {
        self.stream.abandon()
    }
}

#[cfg(test)]
mod tests;
