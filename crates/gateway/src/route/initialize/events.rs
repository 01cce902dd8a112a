//! An answer to `initialize` that comes as events.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use thinpipe_proto::rpc::{Message, RequestId};
use thinpipe_proto::sse::{Decoder, Item};
use thinpipe_transport::Reserved;
use thinpipe_transport::body::{BodyError, BodyStream, Filled};

use super::super::answer::body_failure;
use super::Initialized;
use crate::failure::{Failure, Reason};

/// Events that were read already, then the rest of their stream.
pub(super) struct Replayed {
    raw: Vec<u8>,
    /// What `raw` takes of the budget.
    room: Reserved,
    rest: Option<Box<dyn BodyStream>>,
}

impl BodyStream for Replayed {
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<Result<Filled, BodyError>> {
        if !self.raw.is_empty() {
            out.append(&mut self.raw);
            self.raw = Vec::new();
            return Poll::Ready(Ok(Filled::More));
        }
        // Who asks for more has written what there was. Giving back never fails.
        let _ = self.room.resize(0);
        let Some(rest) = &mut self.rest else {
            return Poll::Ready(Ok(Filled::End));
        };
        match ready!(rest.poll_fill(cx, out)) {
            Ok(Filled::More) => Poll::Ready(Ok(Filled::More)),
            // The response has passed: how the stream ends tells nothing more.
            Ok(Filled::End) | Err(_) => {
                self.rest = None;
                Poll::Ready(Ok(Filled::End))
            }
        }
    }
}

pub(super) async fn read_response(
    mut body: Box<dyn BodyStream>,
    max: usize,
    mut room: Reserved,
    id: Option<&RequestId>,
) -> Result<Initialized, Failure> {
    let mut decoder = Decoder::new(max);
    let mut raw = Vec::new();
    loop {
        while let Some(item) = next_item(&mut decoder)? {
            let event = match item {
                Item::Comment(bytes) => {
                    raw.extend_from_slice(&bytes);
                    continue;
                }
                Item::Event(event) => event,
            };
            raw.extend_from_slice(&event.raw);
            if raw.len() > max {
                return Err(Failure::new(
                    Reason::TooLarge,
                    "initialize was answered at length",
                ));
            }
            let data = event.data.filter(|data| !data.is_empty());
            let message = data.and_then(|data| Message::parse(data).ok());
            let message = message.filter(|m| m.kind().is_response());
            if let Some(message) = message.filter(|m| id.is_none() || m.id() == id) {
                let rest = trailing(decoder, body)?;
                return Ok(Initialized {
                    message,
                    events: Some(Replayed { raw, room, rest }),
                    changed: false,
                });
            }
        }
        let mut chunk = Vec::new();
        let filled = poll_fn(|cx| body.poll_fill(cx, &mut chunk)).await;
        let filled = filled.map_err(|error| body_failure(&error))?;
        let held = raw.len() + decoder.pending() + chunk.len();
        let held = room.resize(held);
        held.map_err(|error| body_failure(&error.into()))?;
        if !chunk.is_empty() {
            decoder.push(Bytes::from(chunk));
        } else if filled == Filled::End {
            let text = "the stream ended before initialize was answered";
            return Err(Failure::new(Reason::StreamLost, text));
        }
    }
}

/// The stream after the response. Its unfinished rest in the decoder is not wanted by anybody: a
/// response is the last message of its stream.
fn trailing(
    decoder: Decoder,
    body: Box<dyn BodyStream>,
) -> Result<Option<Box<dyn BodyStream>>, Failure> {
    Ok((decoder.pending() == 0).then_some(body))
}

fn next_item(decoder: &mut Decoder) -> Result<Option<Item>, Failure> {
    decoder
        .next_item()
        .map_err(|error| Failure::new(Reason::TooLarge, error.to_string()))
}
