//! The relay that reads nothing: bytes go through, and only the ends of events are known.

use std::sync::LazyLock;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use memchr::memmem::Finder;
use thinpipe_proto::rpc;
use thinpipe_proto::session::{EventId, MAX_ID};
use thinpipe_proto::sse::{self, Decoder, Item, Scan, Scanner};
use thinpipe_transport::body::{BodyError, BodyStream, BoxFuture, Filled};

use super::source::{Got, Source};
use super::{Ending, Line};
use crate::session::LiveStream;

/// How much of an unfinished event is held back. A client cannot use half an event, so a cut upstream
/// should leave none behind; what is longer streams through.
const MAX_TAIL: usize = 64 << 10;

/// An event stream on its way through.
pub(crate) struct PassEvents {
    source: Source,
    line: Line,
    live: LiveStream,
    scanner: Scanner,
    /// The last id of bodies before this one.
    earlier_id: Option<EventId>,
    /// Bytes to be written first.
    prefix: Vec<u8>,
    /// The unfinished event.
    tail: Vec<u8>,
    /// An event longer than [`MAX_TAIL`] is under way; `Some(true)` if it is the response.
    long: Option<bool>,
    over: bool,
}

impl PassEvents {
    pub(crate) fn new(source: Source, line: Line, live: LiveStream, prefix: Vec<u8>) -> Self {
        Self {
            source,
            line,
            live,
            scanner: Scanner::new(MAX_ID),
            earlier_id: None,
            prefix,
            tail: Vec::new(),
            long: None,
            over: false,
        }
    }

    fn last_id(&self) -> Option<EventId> {
        let id = self.scanner.last_event_id().map(Bytes::copy_from_slice);
        match id {
            Some(id) => EventId::from_bytes(id).ok(),
            None => self.earlier_id.clone(),
        }
    }

    fn is_resumable(&self) -> bool {
        // Not with an id that no header can carry: its client cannot come back with it either.
        self.last_id().is_some()
    }

    /// Sorts the bytes from `start` on: whole events stay in `out`, an unfinished one is held back.
    fn sort(&mut self, out: &mut Vec<u8>, start: usize) {
        let scan = self.scanner.scan(&out[start..]);
        let Some(boundary) = scan.boundary else {
            return self.hold(out, start);
        };
        let held = self.tail.len();
        let rest = out.split_off(start + boundary);
        if held > 0 {
            // What was held back goes in front of what completes it.
            out.splice(start..start, std::mem::take(&mut self.tail));
        }
        // The event that was under way ends at the first boundary, whatever follows it.
        self.line.answered |= self.long == Some(true);
        if may_hold_response(&out[start..]) || self.long.is_some() {
            self.note_last_event(&scan, &out[start..], held);
            if !self.line.answered && self.line.purpose.request().is_some() {
                self.line.answered = holds_response(&out[start..]);
            }
        }
        self.long = None;
        let at = self.scanner.last_event_id();
        self.line
            .note_progress(at, self.earlier_id.as_ref(), scan.has_data);
        self.live.note_id(self.scanner.last_event_id());
        self.tail = rest;
        self.flush_long_tail(out);
    }

    /// No event ends here.
    fn hold(&mut self, out: &mut Vec<u8>, start: usize) {
        if self.long.is_some() {
            return;
        }
        self.tail.extend_from_slice(&out[start..]);
        out.truncate(start);
        self.flush_long_tail(out);
    }

    fn flush_long_tail(&mut self, out: &mut Vec<u8>) {
        if self.tail.len() <= MAX_TAIL {
            return;
        }
        self.long = Some(is_response(&self.tail));
        out.append(&mut self.tail);
        self.tail = Vec::new();
    }

    /// Remembers whether the last complete event was the response: then the stream may end.
    fn note_last_event(&mut self, scan: &Scan, events: &[u8], held: usize) {
        let (Some(start), Some(end)) = (scan.last_event_start, scan.last_event_end) else {
            return;
        };
        let start = start
            .checked_add_unsigned(held)
            .and_then(|at| usize::try_from(at).ok());
        let response = match start {
            Some(start) => events.get(start..end + held).is_some_and(is_response),
            // It began before what was held back, so it is the long one.
            None => self.long.unwrap_or_default(),
        };
        self.line.answered |= response;
    }

    fn end(&mut self, ending: &Ending, out: &mut Vec<u8>) -> Result<Filled, BodyError> {
        self.over = true;
        if self.long.is_some() && !self.line.answered {
            // Half an event is out already: only the end of the connection tells the client.
            return Err(BodyError::Aborted(
                "the upstream broke off inside an event".to_owned(),
            ));
        }
        if let Ending::Fail(event) = ending {
            out.extend_from_slice(event);
        }
        Ok(Filled::End)
    }
}

impl BodyStream for PassEvents {
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<Result<Filled, BodyError>> {
        if self.over {
            return Poll::Ready(Ok(Filled::End));
        }
        let before = out.len();
        out.append(&mut self.prefix);
        loop {
            if out.len() > before {
                return Poll::Ready(Ok(Filled::More));
            }
            let start = out.len();
            match ready!(self.source.poll(cx, &mut self.line, out)) {
                Got::Bytes => self.sort(out, start),
                Got::End => {
                    self.tail = Vec::new();
                    if self.long.is_some() {
                        return Poll::Ready(self.end(&Ending::Complete, out));
                    }
                    let (last, retry) = (self.last_id(), self.scanner.retry());
                    if let Some(ending) = self.source.follow(&self.line, last, retry) {
                        return Poll::Ready(self.end(&ending, out));
                    }
                }
                Got::NewBody => {
                    self.earlier_id = self.last_id();
                    self.scanner = Scanner::new(MAX_ID);
                }
                Got::FreshBody => {
                    self.earlier_id = None;
                    self.scanner = Scanner::new(MAX_ID);
                }
                Got::Lost => {
                    let ending = self.line.lost();
                    return Poll::Ready(self.end(&ending, out));
                }
                Got::Stopped => {
                    let ending = self.line.stopped();
                    return Poll::Ready(self.end(&ending, out));
                }
            }
        }
    }

    fn at_boundary(&self) -> bool {
        self.long.is_none()
    }

    fn shut_down(&mut self, force: bool, out: &mut Vec<u8>) -> bool {
        if self.long.is_some() {
            return force;
        }
        self.line.shut_down(force, self.is_resumable(), out)
    }

    fn abandon(self: Box<Self>) -> Option<BoxFuture<()>> {
        let resumable = self.is_resumable();
        self.line.abandon(resumable, self.source.into_body())
    }
}

/// Finds the name of the member that every response has, and hardly any notification.
static ID: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"id\""));

/// Whether these events need a closer look: one that is a response has an `id`, though perhaps written
/// with escapes.
fn may_hold_response(events: &[u8]) -> bool {
    ID.find(events).is_some() || memchr::memchr(b'\\', events).is_some()
}

/// Whether any of these events carries a response. A response should be the last message of its
/// stream, but servers send a `retry` or a notification behind it.
fn holds_response(events: &[u8]) -> bool {
    if ID.find(events).is_none() {
        return false;
    }
    let mut decoder = Decoder::new(sse::DEFAULT_MAX_EVENT);
    decoder.push(Bytes::copy_from_slice(events));
    while let Ok(Some(item)) = decoder.next_item() {
        if let Item::Event(event) = item
            && event.data.is_some_and(|data| is_response_data(&data))
        {
            return true;
        }
    }
    false
}

/// Whether a raw event (or its beginning) carries a response.
fn is_response(raw: &[u8]) -> bool {
    sse::data_of(raw).is_some_and(|data| is_response_data(&data))
}

fn is_response_data(data: &[u8]) -> bool {
    // 2025-03-26 allows arrays of responses.
    let data = data.trim_ascii_start();
    let data = data.strip_prefix(b"[").unwrap_or(data);
    rpc::peek_is_response(data).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_found_wherever_it_stands() {
        let response = "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n";
        let progress = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\"}\n\n";
        let request = "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n\n";
        for (events, expected) in [
            ([progress, response, progress], true),
            ([response, "retry: 100\n\n", "id: 5\ndata:\n\n"], true),
            ([progress, request, progress], false),
            ([progress, progress, progress], false),
        ] {
            assert_eq!(
                holds_response(events.concat().as_bytes()),
                expected,
                "{events:?}"
            );
        }
    }
}
