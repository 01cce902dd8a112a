//! The answer of one POST as the body that its client's socket polls.

use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use thinpipe_proto::bridge::downgrade::ExchangeId;
use thinpipe_proto::sse;
use thinpipe_transport::body::{BodyError, BodyStream, Filled};

use super::{Next, Reading, Stage};
use crate::downgrade::post::{Kind, Last};
use crate::failure::{Failure, Reason};

/// Bytes that one poll appends before others have their turn.
const GULP: usize = 32 << 10;

/// Says that a client has its last message, once the socket took it: it is asked for more when nothing is
/// left to be written.
pub(super) struct Handing {
    /// `None`: it was said.
    reading: Option<Reading>,
    exchange: ExchangeId,
    has_waited: bool,
}

impl Handing {
    pub(super) fn new(reading: Reading, exchange: ExchangeId) -> Self {
        Self {
            reading: Some(reading),
            exchange,
            has_waited: false,
        }
    }

    fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        if !std::mem::replace(&mut self.has_waited, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(mut reading) = self.reading.take() {
            reading.stage = Stage::Over;
            if let Some(session) = &reading.session {
                session.handed_out(reading.post.id, self.exchange);
            }
        }
        Poll::Ready(())
    }
}

/// A whole answer whose end has to be told of.
pub(super) struct Whole {
    pub(super) message: Bytes,
    pub(super) handing: Handing,
}

impl BodyStream for Whole {
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<Result<Filled, BodyError>> {
        if self.message.is_empty() {
            ready!(self.handing.poll(cx));
            return Poll::Ready(Ok(Filled::End));
        }
        let length = self.message.len().min(GULP);
        out.extend_from_slice(&self.message.split_to(length));
        Poll::Ready(Ok(Filled::More))
    }

    fn remaining(&self) -> Option<u64> {
        Some(self.message.len() as u64)
    }
}

/// The answer as events.
pub(super) struct Events {
    end: End,
    /// Encoded and not handed out yet.
    pending: Bytes,
    /// `pending` begins inside an event.
    is_inside: bool,
}

/// How far it is.
enum End {
    Reading(Reading),
    /// Everything is handed out; the client's call waits when the client has it.
    Handing(Handing),
    Over,
}

impl Events {
    pub(super) fn new(reading: Reading, pending: Bytes) -> Self {
        Self {
            end: End::Reading(reading),
            pending,
            is_inside: false,
        }
    }

    fn hand_out(&mut self, out: &mut Vec<u8>) {
        let length = self.pending.len().min(GULP);
        out.extend_from_slice(&self.pending.split_to(length));
        self.is_inside = !self.pending.is_empty();
    }

    fn last(&mut self, last: Last) {
        let mut event = BytesMut::new();
        encode(&mut event, &last.message);
        self.pending = event.freeze();
        let End::Reading(mut reading) = std::mem::replace(&mut self.end, End::Over) else {
            return;
        };
        match last.parks {
            None => reading.said(),
            Some(exchange) => self.end = End::Handing(Handing::new(reading, exchange)),
        }
    }
}

impl BodyStream for Events {
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<Result<Filled, BodyError>> {
        let before = out.len();
        loop {
            if !self.pending.is_empty() {
                self.hand_out(out);
            }
            if out.len() - before >= GULP || !self.pending.is_empty() {
                return Poll::Ready(Ok(Filled::More));
            }
            let next = match &mut self.end {
                End::Reading(reading) => reading.poll_next(cx),
                _ if out.len() > before => return Poll::Ready(Ok(Filled::More)),
                End::Handing(handing) => {
                    ready!(handing.poll(cx));
                    self.end = End::Over;
                    return Poll::Ready(Ok(Filled::End));
                }
                End::Over => return Poll::Ready(Ok(Filled::End)),
            };
            match next {
                Poll::Ready(Next::Message(message)) => {
                    let mut event = BytesMut::new();
                    encode(&mut event, &message);
                    self.pending = event.freeze();
                }
                Poll::Ready(Next::Last(last)) => self.last(last),
                Poll::Ready(Next::Broken) => {
                    self.end = End::Over;
                    let text = "the client does not read its answer, and loses it";
                    return Poll::Ready(Err(BodyError::Aborted(text.to_owned())));
                }
                Poll::Pending if out.len() > before => return Poll::Ready(Ok(Filled::More)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn at_boundary(&self) -> bool {
        !self.is_inside
    }

    /// A listen gets its final result; a call runs on for as long as it may, and is answered with an error
    /// then.
    fn shut_down(&mut self, force: bool, out: &mut Vec<u8>) -> bool {
        let End::Reading(reading) = &self.end else {
            return force;
        };
        if let Some(session) = &reading.session
            && reading.post.kind == Kind::Listen
        {
            session.drain();
        }
        if force && !self.is_inside {
            let failure = Failure::new(Reason::ShuttingDown, "the gateway shuts down");
            let name = reading.shared.name();
            out.extend_from_slice(&failure.event(&reading.post.request, name));
        }
        force
    }
}

pub(super) fn encode(out: &mut BytesMut, message: &[u8]) {
    sse::encode(out, Some(b"message"), None, None, Some(message));
}
