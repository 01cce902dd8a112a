//! The body of an HTTP/1.1 response, and the way of its connection back into the pool.

use std::io::ErrorKind;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::budget::Permit;
use super::exchange::Answered;
use super::later;
use super::pool::Connection;
use crate::body::{Body, BodyError, BodyStream, Filled};
use crate::http1::framing::Framing;
use crate::io::{READ_SIZE, now, poll_read_scratch, unwatch};

/// Bytes of an unread body that are taken from the socket to save a connection. More of them cost
/// more than a new connection does.
const MAX_DRAINED: usize = 16 << 10;

/// How long a body may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Between two bytes.
    pub(super) idle: Duration,
    /// For all of it; `None` for event streams.
    pub(super) deadline: Option<Instant>,
}

impl Patience {
    /// Whether the time for all of it is over. Asked before every read: a body whose next bytes are
    /// always there already never waits, and would keep its place for as long as its reader likes.
    pub(super) fn is_over(&self) -> bool {
        self.deadline.is_some_and(|at| at <= now())
    }

    /// When to give up on a body that has been quiet since then, if nothing comes.
    pub(super) fn until(&self, quiet_since: Instant) -> Instant {
        let quiet = later(quiet_since, self.idle);
        self.deadline.map_or(quiet, |at| at.min(quiet))
    }

    /// What to say of giving up now.
    pub(super) fn error(&self) -> BodyError {
        if self.is_over() {
            BodyError::Late
        } else {
            BodyError::TimedOut
        }
    }
}

/// A body that is not complete. It owns its connection.
struct Unread {
    /// What came with the head.
    pending: Vec<u8>,
    live: Option<Live>,
}

struct Live {
    connection: Box<Connection>,
    framing: Framing,
    reusable: bool,
    permit: Permit,
    patience: Patience,
    /// Since when nothing has come.
    quiet_since: Option<Instant>,
}

/// The body of an answer. A connection that it does not need goes back at once.
pub(super) fn body(
    answered: &mut Answered,
    connection: Box<Connection>,
    permit: Permit,
    patience: Patience,
) -> Body {
    let pending = std::mem::take(&mut answered.body);
    let reusable = answered.head.reusable;
    match answered.head.framing.take() {
        Some(framing) if !framing.is_done() => Body::stream(Unread {
            pending,
            live: Some(Live {
                connection,
                framing,
                reusable,
                permit,
                patience,
                quiet_since: None,
            }),
        }),
        _ => {
            release(connection, reusable, &permit);
            Body::from(Bytes::from(pending))
        }
    }
}

/// Lets go of an answer whose body nobody wants.
pub(super) fn discard(answered: &Answered, connection: Box<Connection>, permit: &Permit) {
    let reusable = answered.head.reusable && answered.is_complete();
    release(connection, reusable, permit);
}

/// The connection first, then the place: who waits for the place finds the connection.
fn release(connection: Box<Connection>, reusable: bool, permit: &Permit) {
    if reusable {
        let upstream = permit.upstream();
        upstream.pool.put(connection, upstream.config.pool_max_idle);
    }
}

impl Live {
    /// As [`BodyStream::poll_fill`], but never gives up.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<Result<Filled, BodyError>> {
        let before = out.len();
        loop {
            let framing = &mut self.framing;
            let read = poll_read_scratch(&mut self.connection.io, cx, READ_SIZE, |bytes| {
                let used = framing.decode(bytes, out)?;
                Ok::<_, BodyError>((bytes.len(), used))
            });
            match read {
                Poll::Ready(Ok(Ok((0, _)))) if self.framing == Framing::UntilClose => {
                    return Poll::Ready(Ok(Filled::End));
                }
                Poll::Ready(Ok(Ok((0, _)))) => return Poll::Ready(Err(BodyError::Incomplete)),
                Poll::Ready(Ok(Ok((came, used)))) => {
                    self.quiet_since = None;
                    self.reusable &= came == used;
                    if self.framing.is_done() {
                        return Poll::Ready(Ok(Filled::End));
                    }
                    if out.len() > before {
                        return Poll::Ready(Ok(Filled::More));
                    }
                }
                Poll::Ready(Ok(Err(error))) => return Poll::Ready(Err(error)),
                // TLS says so where TCP merely ends.
                Poll::Ready(Err(error)) if error.kind() == ErrorKind::UnexpectedEof => {
                    return Poll::Ready(Err(BodyError::Incomplete));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(BodyError::Io(error))),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Nothing is there to read: is it time to give up?
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        let quiet_since = *self.quiet_since.get_or_insert_with(now);
        let until = self.patience.until(quiet_since);
        let waiting = self.connection.timer.poll_until(cx, until);
        waiting.map(|()| self.patience.error())
    }
}

impl BodyStream for Unread {
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<Result<Filled, BodyError>> {
        if !self.pending.is_empty() {
            out.append(&mut self.pending);
            self.pending = Vec::new();
            return Poll::Ready(Ok(Filled::More));
        }
        let Some(live) = &mut self.live else {
            return Poll::Ready(Ok(Filled::End));
        };
        let mut polled = if live.patience.is_over() {
            Poll::Ready(Err(live.patience.error()))
        } else {
            live.poll_read(cx, out)
        };
        if polled.is_pending() {
            polled = live.poll_patience(cx).map(Err);
        }
        let ended = match &polled {
            Poll::Pending | Poll::Ready(Ok(Filled::More)) => return polled,
            Poll::Ready(Ok(Filled::End)) => true,
            Poll::Ready(Err(_)) => false,
        };
        if let Some(live) = self.live.take() {
            release(live.connection, ended && live.reusable, &live.permit);
        }
        polled
    }

    fn unwatch(&mut self) -> bool {
        let Some(live) = &mut self.live else {
            return false;
        };
        live.reusable = false;
        unwatch(&mut live.connection.io)
    }

    fn outwait_silence(&mut self) {
        if let Some(live) = &mut self.live {
            live.patience.idle = Duration::MAX;
        }
    }

    fn remaining(&self) -> Option<u64> {
        let more = match &self.live {
            Some(live) => live.framing.remaining()?,
            None => 0,
        };
        Some(more + self.pending.len() as u64)
    }
}

/// Dropping an unread body closes its connection, for that is how a server learns that nobody waits
/// for the rest; unless the rest is small and already here.
impl Drop for Unread {
    fn drop(&mut self) {
        let Some(mut live) = self.live.take() else {
            return;
        };
        // An event stream is never drained: what it says last is not announced.
        if !live.reusable || live.patience.deadline.is_none() {
            return;
        }
        if live
            .framing
            .remaining()
            .is_some_and(|n| n > MAX_DRAINED as u64)
        {
            return;
        }
        let mut cx = Context::from_waker(Waker::noop());
        let mut dropped = Vec::new();
        while dropped.len() <= MAX_DRAINED {
            match live.poll_read(&mut cx, &mut dropped) {
                Poll::Ready(Ok(Filled::More)) => {}
                Poll::Ready(Ok(Filled::End)) => {
                    return release(live.connection, live.reusable, &live.permit);
                }
                Poll::Ready(Err(_)) | Poll::Pending => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C9: thousands of streams wait at a time; each is these two values and a timer.
    #[test]
    fn c9_a_stream_that_waits_is_small() {
        let bytes = size_of::<Unread>() + size_of::<Connection>();
        assert!(bytes <= 320, "{bytes}");
    }
}
