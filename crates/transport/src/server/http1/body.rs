//! Request bodies that were not all read with their head: whole, within the budget, or past them.

use std::future::poll_fn;
use std::task::Poll;

use bytes::Bytes;
use http::StatusCode;
use thinpipe_proto::rpc::code;

use super::Connection;
use super::write::Shape;
use crate::byte_budget::Gathering;
use crate::http1::framing::Framing;
use crate::io::{READ_SIZE, now, poll_read_scratch};
use crate::server::dispatch::Dispatched;
use crate::server::exchange::Answer;
use crate::server::head::Http1Head;
use crate::server::ladder::{self, Admitted};

/// A refused body up to this size is read and dropped, so that the connection can be used again.
const MAX_DRAINED_BODY: usize = 64 << 10;

/// Why there is no body.
enum BodyFault {
    TooLarge,
    NoRoom,
    TimedOut,
    Malformed,
    Closed,
}

impl Connection {
    /// The long way: a body that is still on its way, or a refusal. `None`: the client has left.
    ///
    /// A session that does not exist is no reason to stop here: what a message is, its body says
    /// (malformed: 400; self-describing: the session's id does not matter), and only then 404.
    pub(super) async fn read_and_dispatch(
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
                return Some(Dispatched::answered(&self.shared, *answer));
            }
        };
        let body = match self.room_for(&request) {
            Ok(body) => body,
            Err(fault @ BodyFault::NoRoom) => {
                self.skip_body(&request, rest, shape).await;
                return Some(Dispatched::refused(&self.shared, self.body_refusal(&fault)));
            }
            Err(fault) => return Some(self.break_off(&fault, shape)),
        };
        match self.read_body(&request, rest, body).await {
            Ok(body) => Some(self.dispatch(admitted, request.head, body, shape)),
            Err(BodyFault::Closed) => None,
            Err(fault) => Some(self.break_off(&fault, shape)),
        }
    }

    fn room_for(&self, request: &Http1Head) -> Result<Gathering, BodyFault> {
        let (budget, max) = (&self.shared.buffered, self.shared.config.limits.max_body);
        let Framing::Length(length) = request.framing else {
            return Ok(Gathering::up_to(budget, max));
        };
        let fits = usize::try_from(length).ok().filter(|length| *length <= max);
        let length = fits.ok_or(BodyFault::TooLarge)?;
        Gathering::announced(budget, length).map_err(|_| BodyFault::NoRoom)
    }

    async fn read_body(
        &mut self,
        request: &Http1Head,
        rest: Bytes,
        mut body: Gathering,
    ) -> Result<Bytes, BodyFault> {
        let max = self.shared.config.limits.max_body;
        let mut framing = request.framing.clone();
        let keep = |framing: &mut Framing, input: &[u8]| {
            let used = framing.decode(input, &mut body.bytes);
            let used = used.map_err(|_| BodyFault::Malformed)?;
            if body.bytes.len() > max {
                return Err(BodyFault::TooLarge);
            }
            body.grown().map_err(|_| BodyFault::NoRoom)?;
            Ok(used)
        };
        self.read_to_end(request, rest, &mut framing, keep).await?;
        Ok(body.finish())
    }

    /// Reads past the body of a refused request, if that is cheap; else the connection closes.
    async fn skip_body(&mut self, request: &Http1Head, rest: Bytes, shape: &mut Shape) {
        let small = match request.framing {
            Framing::Length(length) => length <= MAX_DRAINED_BODY as u64,
            _ => false,
        };
        let waits_for_us = request.expects_continue && request.framing != Framing::Length(0);
        let mut framing = request.framing.clone();
        let mut piece = Vec::new();
        let drop_it = |framing: &mut Framing, input: &[u8]| {
            piece.clear();
            let used = framing.decode(input, &mut piece);
            used.map_err(|_| BodyFault::Malformed)
        };
        if small && !waits_for_us {
            let read = self.read_to_end(request, rest, &mut framing, drop_it);
            if read.await.is_ok() {
                return;
            }
        }
        shape.keep_alive = false;
        shape.lingers = true;
    }

    /// Reads on until the body is at its end. `take` is given what has come, and says how much of it
    /// belongs to the body.
    async fn read_to_end(
        &mut self,
        request: &Http1Head,
        rest: Bytes,
        framing: &mut Framing,
        mut take: impl FnMut(&mut Framing, &[u8]) -> Result<usize, BodyFault>,
    ) -> Result<(), BodyFault> {
        if request.expects_continue {
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        self.input = rest.to_vec();
        let deadline = now() + self.shared.config.limits.body_timeout;
        loop {
            let used = take(framing, &self.input)?;
            self.input.drain(..used);
            if framing.is_done() {
                return Ok(());
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

    /// A body that is not read to its end: nobody knows where the next request begins.
    fn break_off(&self, fault: &BodyFault, shape: &mut Shape) -> Dispatched {
        shape.keep_alive = false;
        shape.lingers = true;
        Dispatched::refused(&self.shared, self.body_refusal(fault))
    }

    fn body_refusal(&self, fault: &BodyFault) -> Answer {
        let (status, code, text, data) = match fault {
            BodyFault::NoRoom => return ladder::no_room(&self.shared),
            BodyFault::TooLarge => return ladder::body_too_large(&self.shared),
            BodyFault::TimedOut => (
                StatusCode::REQUEST_TIMEOUT,
                code::INVALID_REQUEST,
                "the body came too slowly",
                reason!("too_slow"),
            ),
            BodyFault::Malformed | BodyFault::Closed => (
                StatusCode::BAD_REQUEST,
                code::PARSE_ERROR,
                "the framing of the body is malformed",
                reason!("bad_request"),
            ),
        };
        Answer::error(status, None, code, text, Some(data))
    }
}
