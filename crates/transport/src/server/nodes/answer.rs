//! The body of an answer that another node gives, as this node's client reads it.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use thinpipe_proto::rpc::RequestId;
use thinpipe_proto::session::{SessionId, StreamId};
use thinpipe_proto::sse::{self, Scanner};
use thinpipe_proto::tunnel::{Broken, ContentKind, Head, Piece};
use thinpipe_store::StreamKey;

use super::asking::{Asking, End, Next};
use super::watch;
use crate::body::{Body, BodyError, BodyStream, BoxFuture, Filled};
use crate::server::event_buffer::{event_id, parse_event_id};
use crate::server::event_log::{Lost, Replayed, replay};
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
    /// An answer that another node has begun, of this session, if it is of one.
    pub(crate) fn tunnelled(
        head: Head,
        asking: Asking,
        tail: Tail,
        session: Option<&SessionId>,
    ) -> Self {
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
            session: session.cloned(),
            scanner: Scanner::default(),
            ending: None,
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

/// The rest of a stream, in which its request is answered.
type Ending = BoxFuture<(StreamId, Result<Replayed, Lost>)>;

struct Tunnelled {
    asking: Asking,
    /// What came with the head.
    first: Option<Piece>,
    tail: Tail,
    session: Option<SessionId>,
    /// Finds the ids of events.
    scanner: Scanner,
    /// Its node is dead, and what the log has of the stream is read.
    ending: Option<Ending>,
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
        if self.is_events {
            self.scanner.scan(&piece.bytes);
        }
        self.at_boundary = piece.at_boundary;
        self.is_over = piece.is_last;
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(piece.bytes.len() as u64);
        }
    }

    /// The node is dead. What the client has got has ids by which it comes back for the rest: then the log has the
    /// stream, its request is answered there, and this client is told what everybody is told who comes back to it.
    fn end_in_log(&self, end: End) -> Option<Ending> {
        let is_open = self.is_events && self.at_boundary && end == End::Dead;
        let Tail::Call(Some(_)) = &self.tail else {
            return None;
        };
        let session = self.session.clone().filter(|_| is_open)?;
        let (stream, after) = parse_event_id(self.scanner.last_event_id()?)?;
        let log = Arc::clone(self.asking.log());
        Some(Box::pin(async move {
            let key = StreamKey { session, stream };
            (stream, replay(&*log, &key, after, None).await)
        }))
    }

    /// What the log has, or else an answer that it has not.
    fn ended(&self, (stream, rest): (StreamId, Result<Replayed, Lost>), out: &mut Vec<u8>) {
        match (rest, &self.tail) {
            (Ok(rest), _) => {
                for entry in rest.entries {
                    let id = event_id(stream, entry.sequence);
                    put_event(&entry.message, Some(id.as_bytes()), out);
                }
            }
            (Err(_), Tail::Call(id)) => {
                put_event(&watch::outcome_unknown_message(id.as_ref()), None, out);
            }
            (Err(_), Tail::Listen) => {} // Unreachable: it answers a request.
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
                put_event(&watch::outcome_unknown_message(Some(id)), None, out);
                Ok(Filled::End)
            }
            _ => Err(BodyError::Incomplete),
        }
    }
}

fn put_event(message: &[u8], id: Option<&[u8]>, out: &mut Vec<u8>) {
    let mut event = BytesMut::new();
    sse::encode(&mut event, None, id, None, Some(message));
    out.extend_from_slice(&event);
}

impl BodyStream for Tunnelled {
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<Result<Filled, BodyError>> {
        loop {
            if let Some(ending) = &mut self.ending {
                let ended = std::task::ready!(ending.as_mut().poll(cx));
                self.ending = None;
                self.ended(ended, out);
                return Poll::Ready(Ok(Filled::End));
            }
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
                    self.ending = self.end_in_log(end);
                    if self.ending.is_none() {
                        return Poll::Ready(self.broken(end, out));
                    }
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
        if self.ending.is_some() {
            return force;
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
                put_event(&watch::shutting_down_message(id), None, out);
                true
            }
            Tail::Call(_) => force,
        }
    }
}
