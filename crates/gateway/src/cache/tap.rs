//! A copy of what comes from a server, read on its way.

use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use thinpipe_proto::header::MediaType;
use thinpipe_proto::rpc::Message;
use thinpipe_proto::sse::{Decoder, Item};
use thinpipe_transport::Reserved;
use thinpipe_transport::body::{Body, BodyError, BodyStream, BoxFuture, Filled};
use thinpipe_transport::upstream::UpstreamResponse;

use super::{Noting, What};

/// The longest notice that is read. Beyond, it is not known what has changed.
const MAX_NOTICE: usize = 64 << 10;

/// The same response, with its messages noted as they pass. Not a byte of it is held back.
pub(crate) fn tap(response: UpstreamResponse, noting: Box<Noting>) -> UpstreamResponse {
    let is_too_long = |n| n > limit(&noting) as u64;
    if response.media_type == MediaType::Json && response.content_length.is_some_and(is_too_long) {
        return response;
    }
    let media_type = response.media_type;
    response.map_body(|body| tapped(body, media_type, noting))
}

/// The same for a body of this type.
pub(super) fn tapped(body: Body, media_type: MediaType, noting: Box<Noting>) -> Body {
    let limit = limit(&noting);
    let gathered = match media_type {
        MediaType::Json => Gathered::Body(Vec::new()),
        MediaType::EventStream => Gathered::Events(Box::new(Decoder::new(limit))),
        _ => return body,
    };
    let mut copy = Copied {
        room: noting.answers.buffered.empty(),
        noting,
        gathered,
        limit,
    };
    match body {
        Body::Stream(body) => Body::stream(Tap { body, copy }),
        Body::Full(bytes) => {
            copy.add(&bytes);
            copy.end();
            Body::Full(bytes)
        }
        Body::Empty => Body::Empty,
    }
}

/// The longest message that is read.
fn limit(noting: &Noting) -> usize {
    match noting.what {
        What::Response { .. } => noting.answers.max_answer,
        What::Call(_) | What::Notices | What::Nothing => MAX_NOTICE,
    }
}

/// A body whose bytes are read on their way.
struct Tap {
    body: Box<dyn BodyStream>,
    copy: Copied,
}

impl BodyStream for Tap {
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<Result<Filled, BodyError>> {
        let before = out.len();
        let filled = self.body.poll_fill(cx, out);
        self.copy.add(out.get(before..).unwrap_or_default());
        match filled {
            Poll::Ready(Ok(Filled::End)) => self.copy.end(),
            // Whoever knows that nothing is left does not ask again.
            Poll::Ready(Ok(Filled::More)) if self.body.remaining() == Some(0) => self.copy.end(),
            Poll::Ready(Err(_)) => self.copy.gathered = Gathered::Nothing,
            Poll::Ready(Ok(Filled::More)) | Poll::Pending => {}
        }
        filled
    }

    fn remaining(&self) -> Option<u64> {
        self.body.remaining()
    }

    fn at_boundary(&self) -> bool {
        self.body.at_boundary()
    }

    fn keep_alive(&self) -> Option<Duration> {
        self.body.keep_alive()
    }

    fn shut_down(&mut self, force: bool, out: &mut Vec<u8>) -> bool {
        self.body.shut_down(force, out)
    }

    fn unwatch(&mut self) -> bool {
        self.body.unwatch()
    }

    fn abandon(self: Box<Self>) -> Option<BoxFuture<()>> {
        self.body.abandon()
    }
}

/// What was copied and not read yet.
struct Copied {
    noting: Box<Noting>,
    gathered: Gathered,
    limit: usize,
    room: Reserved,
}

enum Gathered {
    /// The beginning of a JSON body.
    Body(Vec<u8>),
    /// Events.
    Events(Box<Decoder>),
    /// What comes does not matter any more.
    Nothing,
}

impl Copied {
    fn add(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let held = match &mut self.gathered {
            Gathered::Body(body) if body.len() + bytes.len() <= self.limit => {
                body.extend_from_slice(bytes);
                body.len()
            }
            Gathered::Events(decoder) => {
                decoder.push(Bytes::copy_from_slice(bytes));
                match read(decoder, &mut self.noting) {
                    Ok(held) => held,
                    Err(TooLong) => return self.give_up(),
                }
            }
            Gathered::Body(_) => return self.give_up(),
            Gathered::Nothing => return,
        };
        if self.noting.is_over() {
            self.gathered = Gathered::Nothing;
        } else if self.room.resize(held).is_err() {
            self.give_up();
        }
    }

    /// The body is complete.
    fn end(&mut self) {
        let gathered = std::mem::replace(&mut self.gathered, Gathered::Nothing);
        if let Gathered::Body(body) = gathered
            && let Ok(message) = Message::parse(body.into())
        {
            self.noting.note(&message);
        }
    }

    fn give_up(&mut self) {
        self.gathered = Gathered::Nothing;
        self.noting.give_up();
    }
}

/// An event is longer than what is read.
struct TooLong;

/// Notes the messages that are complete; tells how many bytes wait for more.
fn read(decoder: &mut Decoder, noting: &mut Noting) -> Result<usize, TooLong> {
    while let Some(item) = decoder.next_item().map_err(|_| TooLong)? {
        let Item::Event(event) = item else { continue };
        let is_message = event.kind.as_deref().is_none_or(|kind| kind == b"message");
        let data = event.data.filter(|data| !data.is_empty() && is_message);
        if let Some(message) = data.and_then(|data| Message::parse(data).ok()) {
            noting.note(&message);
        }
    }
    Ok(decoder.pending())
}
