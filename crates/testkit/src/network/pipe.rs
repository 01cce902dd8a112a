//! One direction of a connection: bytes on their way, in order.

use std::collections::VecDeque;
use std::task::Waker;
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::ReadBuf;
use tokio::time::Instant;

use super::rng::Rng;

/// Bytes that one direction holds, on their way and unread.
pub(super) const CAPACITY: usize = 32 << 10;

#[derive(Debug)]
pub(super) struct Pipe {
    segments: VecDeque<Segment>,
    bytes: usize,
    /// When the last byte so far arrives: later ones do not overtake it.
    last_at: Instant,
    /// When its end arrives: the writer has closed it or is gone.
    ends_at: Option<Instant>,
    /// Nothing arrives, and nobody is told.
    pub(super) is_stalled: bool,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
}

#[derive(Debug)]
struct Segment {
    at: Instant,
    bytes: Bytes,
}

/// What a reader finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Bytes,
    End,
    /// Something, but not before this.
    Later(Instant),
    Nothing,
}

impl Pipe {
    pub(super) fn new() -> Self {
        Self {
            segments: VecDeque::new(),
            bytes: 0,
            last_at: Instant::now(),
            ends_at: None,
            is_stalled: false,
            reader: None,
            writer: None,
        }
    }

    pub(super) fn room(&self) -> usize {
        CAPACITY - self.bytes
    }

    pub(super) fn is_closed(&self) -> bool {
        self.ends_at.is_some()
    }

    /// Whether the reader's side has been told of the end by now.
    pub(super) fn has_ended(&self) -> bool {
        self.ends_at.is_some_and(|at| at <= Instant::now())
    }

    /// Takes bytes for which there is room; they arrive after up to `delay`, perhaps in two parts.
    pub(super) fn push(&mut self, mut bytes: Bytes, delay: Duration, rng: &mut Rng) {
        self.bytes += bytes.len();
        if bytes.len() > 1 && rng.per_mille(250) {
            let part = bytes.split_to(1 + rng.index(bytes.len() - 1));
            self.add(part, delay, rng);
        }
        self.add(bytes, delay, rng);
    }

    fn add(&mut self, bytes: Bytes, delay: Duration, rng: &mut Rng) {
        self.last_at = self.last_at.max(Instant::now() + rng.up_to(delay));
        let at = self.last_at;
        self.segments.push_back(Segment { at, bytes });
    }

    /// Its end is on its way, behind the bytes.
    pub(super) fn close(&mut self, delay: Duration, rng: &mut Rng) {
        if self.ends_at.is_none() {
            self.ends_at = Some(self.last_at.max(Instant::now() + rng.up_to(delay)));
        }
    }

    /// What is on its way is lost.
    pub(super) fn clear(&mut self) {
        self.segments.clear();
        self.bytes = 0;
    }

    pub(super) fn read(&mut self, out: &mut ReadBuf<'_>) -> Found {
        if self.is_stalled {
            return Found::Nothing;
        }
        let now = Instant::now();
        let Some(segment) = self.segments.front_mut() else {
            return match self.ends_at {
                Some(at) if at <= now => Found::End,
                Some(at) => Found::Later(at),
                None => Found::Nothing,
            };
        };
        if segment.at > now {
            return Found::Later(segment.at);
        }
        let count = segment.bytes.len().min(out.remaining());
        out.put_slice(&segment.bytes[..count]);
        segment.bytes.advance(count);
        self.bytes -= count;
        if segment.bytes.is_empty() {
            self.segments.pop_front();
        }
        Found::Bytes
    }

    /// Those who wait for something here.
    pub(super) fn waiting(&mut self) -> impl Iterator<Item = Waker> + use<> {
        self.reader.take().into_iter().chain(self.writer.take())
    }
}
