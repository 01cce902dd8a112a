//! Writing replies: head and first bytes in one write, what is ready together written together, and
//! a client that does not read disconnected.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::io::AsyncWrite;

use super::{After, Connection};
use crate::ByteBudget;
use crate::body::Filled;
use crate::http1::fields::decimal;
use crate::io::{READ_SIZE, now, poll_read_scratch};
use crate::server::permit::add;
use crate::server::reply::{Reply, ReplyBody, Running};

/// Room left before a chunk for its size line.
const CHUNK_ROOM: usize = 10;

/// How long, and for how many bytes, a closed connection is still read from, so that the client gets
/// to see the reply instead of a reset (RFC 9112 9.6).
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 1 << 20;

/// How a reply is framed on this connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    /// The connection may be used again.
    pub(super) keep_alive: bool,
    /// The client knows the chunked coding.
    pub(super) chunked_allowed: bool,
    /// Unread bytes of the request are on their way.
    pub(super) lingers: bool,
    /// The answer to HEAD: what the body would be is told, and it does not come (RFC 9110 9.3.2).
    pub(super) bodiless: bool,
}

impl Shape {
    /// The last reply of a connection.
    pub(super) fn last() -> Self {
        Self {
            keep_alive: false,
            chunked_allowed: true,
            lingers: true,
            bodiless: false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Length,
    Chunked,
    UntilClose,
}

/// Why a reply was not written to its end.
#[derive(Debug)]
pub(super) enum WriteFault {
    /// The client is gone.
    Gone,
    /// It does not read.
    Stalled,
    /// The body broke off; the client must not take it for complete.
    Broken,
}

thread_local! {
    /// The buffer a reply is assembled in. Taken for the length of one poll and put back, so that a
    /// stream that waits owns none.
    static OUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// The `Date` of this second, and when that is over.
    static DATE: Cell<Option<(Instant, [u8; 29])>> = const { Cell::new(None) };
}

/// A reply being written.
struct Writing {
    coding: Coding,
    /// The head has been rendered.
    begun: bool,
    stream: Option<Box<Running>>,
    /// The stream has nothing more to say for now; it wakes this task when it has.
    waits: bool,
    stalled: Option<Instant>,
    broken: bool,
}

impl Connection {
    /// Writes a reply. It comes by reference, lest the future that writes takes its room twice.
    pub(super) async fn write(&mut self, reply: &mut Reply, mut shape: Shape) -> After {
        if self.shared.is_closing() {
            shape.keep_alive = false;
        }
        let coding = match reply.length() {
            Some(_) => Coding::Length,
            None if shape.chunked_allowed => Coding::Chunked,
            None => Coding::UntilClose,
        };
        if coding == Coding::UntilClose {
            shape.keep_alive = false;
        }
        let mut writing = Writing {
            coding,
            begun: false,
            stream: None,
            waits: false,
            stalled: None,
            broken: false,
        };
        let written = poll_fn(|cx| {
            writing.waits = false;
            if !writing.begun {
                self.begin(cx, reply, shape, &mut writing);
            }
            self.poll_reply(cx, &mut writing)
        });
        if let Err(fault) = written.await {
            if matches!(fault, WriteFault::Stalled) {
                add(&self.shared.counters.stalled);
                tracing::info!(peer = ?self.peer, "a client does not read; its connection is closed");
            }
            return After::Close;
        }
        if shape.keep_alive {
            return After::Continue;
        }
        self.close(shape.lingers).await;
        After::Close
    }

    /// Head and first bytes of the body, assembled in one buffer and written in one go.
    fn begin(
        &mut self,
        cx: &mut Context<'_>,
        reply: &mut Reply,
        shape: Shape,
        writing: &mut Writing,
    ) {
        let mut out = OUT.take();
        out.clear();
        // What a stalled write left of an interim response goes first.
        out.extend_from_slice(&self.output[self.sent..]);
        (self.output, self.sent) = (Vec::new(), 0);
        render_head(&mut out, reply, writing.coding, shape);
        // A stream lives long; what has been said is let go.
        reply.headers = HeaderMap::new();
        match std::mem::take(&mut reply.body) {
            ReplyBody::Empty => {}
            _ if shape.bodiless => {}
            ReplyBody::Full(bytes) if bytes.len() > ByteBudget::FREE => self.whole = bytes,
            ReplyBody::Full(bytes) => out.extend_from_slice(&bytes),
            ReplyBody::Stream(stream) => writing.stream = Some(stream),
        }
        writing.begun = true;
        self.fill(cx, writing, out);
    }

    /// Moves the reply on: what is waiting is written first, then the body is asked for more.
    fn poll_reply(
        &mut self,
        cx: &mut Context<'_>,
        writing: &mut Writing,
    ) -> Poll<Result<(), WriteFault>> {
        debug_assert!(writing.begun, "the head goes first");
        loop {
            match self.poll_flush_output(cx, &mut writing.stalled) {
                Poll::Ready(flushed) => flushed?,
                Poll::Pending => return self.gone_or_pending(cx),
            }
            if writing.broken {
                return Poll::Ready(Err(WriteFault::Broken));
            }
            if writing.stream.is_none() {
                return Poll::Ready(Ok(()));
            }
            if writing.waits {
                return self.gone_or_pending(cx);
            }
            let mut out = OUT.take();
            out.clear();
            self.fill(cx, writing, out);
        }
    }

    fn gone_or_pending(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteFault>> {
        self.poll_gone(cx).map(|()| Err(WriteFault::Gone))
    }

    /// Asks the body for what is ready, frames it behind what is in `out` already, and writes it all.
    /// What the socket does not take goes to `output`.
    fn fill(&mut self, cx: &mut Context<'_>, writing: &mut Writing, mut out: Vec<u8>) {
        let head = out.len();
        let mut from = 0;
        if writing.stream.is_some() {
            let chunked = writing.coding == Coding::Chunked;
            let start = if chunked { head + CHUNK_ROOM } else { head };
            out.resize(start, 0);
            let ended = gather(cx, writing, &mut out);
            if chunked {
                from = frame_chunk(&mut out, head, start, ended);
            }
        }
        if out.len() > from {
            self.write_now(cx, &out[from..]);
        }
        // One huge event must not keep its room for as long as the thread lives.
        out.clear();
        out.shrink_to(4 * READ_SIZE);
        OUT.set(out);
    }

    /// Writes what the socket takes at once and keeps the rest.
    fn write_now(&mut self, cx: &mut Context<'_>, bytes: &[u8]) {
        self.writes(bytes.len());
        let written = match Pin::new(&mut self.io).poll_write(cx, bytes) {
            Poll::Ready(Ok(n)) => n,
            // A failed write is met again, and reported, by the flush of what is left.
            Poll::Ready(Err(_)) | Poll::Pending => 0,
        };
        if written < bytes.len() {
            self.sent = 0;
            self.output = bytes[written..].to_vec();
        }
    }

    /// So many bytes are about to be written.
    fn writes(&mut self, bytes: usize) {
        let limits = &self.shared.config.limits;
        if let Some(timeout) = self.written.add(bytes, now(), limits) {
            timeout.apply(&*self.io);
        }
    }

    /// `Ready` when nothing waits to be written.
    pub(super) fn poll_flush_output(
        &mut self,
        cx: &mut Context<'_>,
        stalled: &mut Option<Instant>,
    ) -> Poll<Result<(), WriteFault>> {
        if self.output.is_empty() && self.whole.is_empty() {
            *stalled = None;
            return Poll::Ready(Ok(()));
        }
        loop {
            let is_behind = self.sent == self.output.len();
            let length = if is_behind {
                self.whole.len()
            } else {
                self.output.len() - self.sent
            };
            if length == 0 {
                break;
            }
            self.writes(length);
            let rest = if is_behind {
                &self.whole
            } else {
                &self.output[self.sent..]
            };
            match Pin::new(&mut self.io).poll_write(cx, rest) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(WriteFault::Gone)),
                Poll::Ready(Ok(n)) => {
                    match is_behind {
                        true => self.whole.advance(n),
                        false => self.sent += n,
                    }
                    *stalled = None;
                }
                Poll::Pending => {
                    let since = *stalled.get_or_insert_with(now);
                    let deadline = since + self.shared.config.limits.write_stall;
                    ready!(self.timer.poll_until(cx, deadline));
                    return Poll::Ready(Err(WriteFault::Stalled));
                }
            }
        }
        *stalled = None;
        (self.output, self.sent, self.whole) = (Vec::new(), 0, Bytes::new());
        Poll::Ready(Ok(()))
    }

    /// Ends the connection so that the client sees the whole reply.
    async fn close(&mut self, lingers: bool) {
        let shut = poll_fn(|cx| Pin::new(&mut self.io).poll_shutdown(cx)).await;
        if shut.is_err() || !lingers {
            return;
        }
        let deadline = now() + LINGER;
        let mut left = LINGER_BYTES;
        poll_fn(|cx| {
            loop {
                match poll_read_scratch(&mut self.io, cx, READ_SIZE, |bytes| bytes.len()) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                    Poll::Ready(Ok(n)) if n >= left => return Poll::Ready(()),
                    Poll::Ready(Ok(n)) => left -= n,
                    Poll::Pending => return self.timer.poll_until(cx, deadline),
                }
            }
        })
        .await;
    }
}

/// Appends everything the body has ready; `true` at its end.
fn gather(cx: &mut Context<'_>, writing: &mut Writing, out: &mut Vec<u8>) -> bool {
    let Some(stream) = &mut writing.stream else {
        return true;
    };
    let start = out.len();
    while out.len() - start < READ_SIZE {
        match stream.poll_fill(cx, out) {
            Poll::Ready(Ok(Filled::More)) => {}
            Poll::Ready(Ok(Filled::End)) => {
                writing.stream = None;
                return true;
            }
            Poll::Ready(Err(error)) => {
                tracing::debug!(%error, "a body broke off");
                writing.broken = true;
                writing.stream = None;
                return false;
            }
            Poll::Pending => {
                writing.waits = true;
                return false;
            }
        }
    }
    false
}

/// Puts the size line before `out[start..]`, right behind the head, and the end of the chunk behind.
/// Returns where the bytes to write begin.
fn frame_chunk(out: &mut Vec<u8>, head: usize, start: usize, ended: bool) -> usize {
    let size = out.len() - start;
    let mut from = start;
    if size > 0 {
        out[start - 2..start].copy_from_slice(b"\r\n");
        from = start - 2;
        // Eight digits fit, and a gathered piece is far below 4 GiB.
        let mut rest = size;
        while rest > 0 {
            from -= 1;
            out[from] = b"0123456789abcdef"[rest % 16];
            rest /= 16;
        }
        out.extend_from_slice(b"\r\n");
    }
    if ended {
        out.extend_from_slice(b"0\r\n\r\n");
    }
    let moved = from - head;
    out.copy_within(..head, moved);
    moved
}

fn render_head(out: &mut Vec<u8>, reply: &Reply, coding: Coding, shape: Shape) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(reply.status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(
        reply
            .status
            .canonical_reason()
            .unwrap_or("Unknown")
            .as_bytes(),
    );
    out.extend_from_slice(b"\r\ndate: ");
    out.extend_from_slice(&date());
    let mut field = |name: &HeaderName, value: &HeaderValue| {
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
    };
    reply.type_fields(|name, value| field(&name, value));
    for (name, value) in &reply.headers {
        field(name, value);
    }
    match coding {
        Coding::Chunked => out.extend_from_slice(b"\r\ntransfer-encoding: chunked"),
        Coding::Length if reply.status != StatusCode::NO_CONTENT => {
            out.extend_from_slice(b"\r\ncontent-length: ");
            let mut digits = [0; 20];
            out.extend_from_slice(decimal(reply.length().unwrap_or_default(), &mut digits));
        }
        Coding::Length | Coding::UntilClose => {}
    }
    if !shape.keep_alive {
        out.extend_from_slice(b"\r\nconnection: close");
    } else if !shape.chunked_allowed {
        out.extend_from_slice(b"\r\nconnection: keep-alive");
    }
    out.extend_from_slice(b"\r\n\r\n");
}

/// The current `Date` (RFC 9110 6.6.1), formatted once a second and thread.
fn date() -> [u8; 29] {
    let now = now();
    if let Some((until, text)) = DATE.get()
        && now < until
    {
        return text;
    }
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mut text = [b' '; 29];
    let formatted = httpdate::fmt_http_date(UNIX_EPOCH + since);
    for (to, from) in text.iter_mut().zip(formatted.bytes()) {
        *to = from;
    }
    let rest_of_second = Duration::from_nanos(1_000_000_000 - u64::from(since.subsec_nanos()));
    DATE.set(Some((now + rest_of_second, text)));
    text
}
