//! The body of an answer that another node gives, as this node's client reads it.

use std::task::{Context, Poll};

use bytes::BytesMut;
use thinpipe_proto::rpc::RequestId;
use thinpipe_proto::sse;
use thinpipe_proto::tunnel::{Broken, ContentKind, Head, Piece};

use super::asking::{Asking, End, Next};
use super::watch;
use crate::body::{Body, BodyError, BodyStream, Filled};
use crate::server::exchange::{Answer, Content};

/// For clients to come back to another node, when this one shuts down, in ms.
const RETRY: &[u8] = b"retry: 1000\n\n";

/// What a body that comes in pieces needs to know of its request.
#[derive(Debug, Clone)]
pub(crate) enum Tail {
    /// A stream that can be opened again: GET.
    Listen,
    /// The answer to a request with this id, if it has one of its own.
    Call(Option<RequestId>),
}

impl Answer {
    /// An answer that another node has begun.
    pub(crate) fn tunnelled(head: Head, asking: Asking, tail: Tail) -> Self {
        let is_events = head.content == ContentKind::EventStream;
        let content = match head.content {
            ContentKind::Json => Content::Json,
            ContentKind::EventStream => Content::EventStream,
            ContentKind::Other(kind) => Content::Other(kind),
        };
        let body = Tunnelled {
            asking,
            first: None,
            tail,
            is_events,
            left: head.length,
            at_boundary: true,
            is_over: false,
        };
        let mut answer = Self::new(head.status, content, body.into_body());
        answer.headers = head.headers;
        answer
    }
}

struct Tunnelled {
    asking: Asking,
    /// What came with the head.
    first: Option<Piece>,
    tail: Tail,
    is_events: bool,
    left: Option<u64>,
    at_boundary: bool,
    is_over: bool,
}

impl Tunnelled {
    /// Most answers are whole in their first piece.
    fn into_body(mut self) -> Body {
        let cx = Context::from_waker(std::task::Waker::noop());
        let Poll::Ready(Next::Piece(piece, _)) = self.asking.poll_next(&cx) else {
            return Body::stream(self);
        };
        if piece.is_last && !self.is_events {
            return Body::from(piece.bytes);
        }
        self.first = Some(piece);
        Body::stream(self)
    }

    fn append(&mut self, piece: &Piece, out: &mut Vec<u8>) {
        out.extend_from_slice(&piece.bytes);
        self.at_boundary = piece.at_boundary;
        self.is_over = piece.is_last;
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(piece.bytes.len() as u64);
        }
    }

    /// Nothing more comes, and the body is not complete.
    fn broken(&self, end: End, out: &mut Vec<u8>) -> Result<Filled, BodyError> {
        match end {
            End::Complete => return Ok(Filled::End),
            End::Broken(Broken::TimedOut) => return Err(BodyError::TimedOut),
            End::Broken(_) | End::Gap | End::Dead | End::CutOff | End::Silent => {}
        }
        // It does for a client of that node as well, which is told no more.
        let broke_off_there = end == End::Broken(Broken::Lost);
        match &self.tail {
            // The client comes back, to a node that is alive.
            Tail::Listen if self.is_events && self.at_boundary => Ok(Filled::End),
            Tail::Call(Some(id)) if self.is_events && self.at_boundary && !broke_off_there => {
                put_event(&watch::outcome_unknown_message(Some(id)), out);
                Ok(Filled::End)
            }
            _ => Err(BodyError::Incomplete),
        }
    }
}

fn put_event(message: &[u8], out: &mut Vec<u8>) {
    let mut event = BytesMut::new();
    sse::encode(&mut event, None, None, None, Some(message));
    out.extend_from_slice(&event);
}

impl BodyStream for Tunnelled {
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<Result<Filled, BodyError>> {
        loop {
            if self.is_over {
                return Poll::Ready(Ok(Filled::End));
            }
            let next = match self.first.take() {
                Some(piece) => Next::Piece(piece, None),
                None => std::task::ready!(self.asking.poll_next(cx)),
            };
            match next {
                Next::Piece(piece, _) => {
                    self.append(&piece, out);
                    if self.is_over {
                        return Poll::Ready(Ok(Filled::End));
                    }
                    if !piece.bytes.is_empty() {
                        return Poll::Ready(Ok(Filled::More));
                    }
                }
                Next::End(end) => {
                    self.is_over = true;
                    return Poll::Ready(self.broken(end, out));
                }
            }
        }
    }

    fn remaining(&self) -> Option<u64> {
        self.left
    }

    fn at_boundary(&self) -> bool {
        self.at_boundary
    }

    /// The node that answers goes on; only this client's connection ends. A stream that can be opened again is,
    /// at another node.
    fn shut_down(&mut self, force: bool, out: &mut Vec<u8>) -> bool {
        if let Some(piece) = self.first.take() {
            self.append(&piece, out);
        }
        if self.is_over {
            return true;
        }
        if !self.is_events || !self.at_boundary {
            return force;
        }
        match &self.tail {
            Tail::Listen => {
                out.extend_from_slice(RETRY);
                true
            }
            Tail::Call(Some(id)) if force => {
                put_event(&watch::shutting_down_message(id), out);
                true
            }
            Tail::Call(_) => force,
        }
    }
}
