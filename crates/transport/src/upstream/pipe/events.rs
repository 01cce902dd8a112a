//! An event stream that carries messages.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use thinpipe_proto::rpc::Payload;
use thinpipe_proto::shown::Shown;
use thinpipe_proto::sse::{Decoder, Event, Item};

use super::PipeError;
use crate::body::{Body, BodyStream, Filled};
use crate::byte_budget::Reserved;
use crate::upstream::MAX_SHOWN;
use crate::{ByteBudget, NoRoom};

/// The events of one body, read as they are asked for.
pub(in crate::upstream) struct Events {
    upstream: Arc<str>,
    /// `None`: it has ended.
    body: Option<Box<dyn BodyStream>>,
    decoder: Decoder,
    room: Reserved,
    budget: ByteBudget,
    max_message: usize,
    /// Something has come since that was last asked.
    has_heard: bool,
}

impl Events {
    pub(in crate::upstream) fn new(
        upstream: Arc<str>,
        body: Body,
        max_message: usize,
        budget: &ByteBudget,
    ) -> Self {
        let mut decoder = Decoder::new(max_message);
        let body = match body {
            Body::Empty => None,
            Body::Full(bytes) => {
                decoder.push(bytes);
                None
            }
            Body::Stream(stream) => Some(stream),
        };
        Self {
            upstream,
            body,
            decoder,
            room: budget.empty(),
            budget: budget.clone(),
            max_message,
            has_heard: true,
        }
    }

    /// Whether something has come, were it a comment, since this was last asked; the first time its head counts.
    pub(in crate::upstream) fn take_heard(&mut self) -> bool {
        std::mem::take(&mut self.has_heard)
    }

    /// Silence does not end it any more.
    pub(in crate::upstream) fn outwait_silence(&mut self) {
        if let Some(body) = &mut self.body {
            body.outwait_silence();
        }
    }

    /// The next event. While more than `most` bytes of an unfinished one are here, nothing is read, and
    /// nobody is woken.
    ///
    /// # Errors
    /// [`PipeError::Ended`] and [`PipeError::Body`]: nothing more comes on this body.
    /// [`PipeError::TooLarge`], [`PipeError::NoRoom`]: what comes next cannot be taken.
    pub(in crate::upstream) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        most: usize,
    ) -> Poll<Result<Event, PipeError>> {
        loop {
            match self.decoder.next_item() {
                Ok(Some(Item::Event(event))) => return Poll::Ready(Ok(event)),
                Ok(Some(Item::Comment(_))) => {}
                Ok(None) if self.decoder.pending() > most => return Poll::Pending,
                Ok(None) => {
                    if let Err(error) = ready!(self.poll_fill(cx)) {
                        return Poll::Ready(Err(error));
                    }
                }
                Err(_) => {
                    return Poll::Ready(Err(PipeError::TooLarge {
                        upstream: self.upstream(),
                        limit: self.max_message,
                    }));
                }
            }
        }
    }

    /// The message or batch in an event; `None` if there is none, which is logged where it matters.
    ///
    /// # Errors
    /// [`PipeError::NoRoom`].
    pub(in crate::upstream) fn payload(&self, event: Event) -> Result<Option<Payload>, PipeError> {
        let upstream = &*self.upstream;
        let kind = event.kind.as_deref().unwrap_or(b"message");
        match kind {
            b"message" => {}
            b"endpoint" => {
                tracing::warn!(upstream, "ignored a second endpoint on one stream");
                return Ok(None);
            }
            other => {
                let kind = Shown::new(other, MAX_SHOWN);
                tracing::debug!(upstream, ?kind, "skipped an event of another type");
                return Ok(None);
            }
        }
        // Empty data is "no message": some servers prime their streams so.
        let Some(data) = event.data.filter(|data| !data.is_empty()) else {
            return Ok(None);
        };
        let held = self.budget.hold(data.clone());
        let held = held.map_err(|source| self.no_room(source))?;
        match Payload::parse(held) {
            Ok(payload) => Ok(Some(payload)),
            Err(error) => {
                let data = Shown::new(&data, MAX_SHOWN);
                tracing::warn!(upstream, %error, ?data, "skipped an event that is no message");
                Ok(None)
            }
        }
    }

    /// Reads once.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PipeError>> {
        let room = self.room.resize(self.decoder.pending());
        if let Err(source) = room {
            return Poll::Ready(Err(self.no_room(source)));
        }
        let Some(body) = &mut self.body else {
            let upstream = self.upstream();
            return Poll::Ready(Err(PipeError::Ended { upstream }));
        };
        let mut chunk = Vec::new();
        let filled = match ready!(body.poll_fill(cx, &mut chunk)) {
            Ok(filled) => filled,
            Err(source) => {
                self.body = None;
                let upstream = self.upstream();
                return Poll::Ready(Err(PipeError::Body { upstream, source }));
            }
        };
        self.has_heard |= !chunk.is_empty();
        self.decoder.push(Bytes::from(chunk));
        if filled == Filled::End {
            self.body = None;
        }
        Poll::Ready(Ok(()))
    }

    fn no_room(&self, source: NoRoom) -> PipeError {
        let upstream = self.upstream();
        PipeError::NoRoom { upstream, source }
    }

    pub(in crate::upstream) fn upstream(&self) -> Arc<str> {
        Arc::clone(&self.upstream)
    }
}
