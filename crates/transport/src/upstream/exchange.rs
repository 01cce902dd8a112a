//! One request and the head of its response, over an HTTP/1.1 connection.
//!
//! The future owns the connection. Nothing else does, so dropping it closes the connection.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method};

use super::after;
use super::head::{self, Head, MAX_HEAD, Template};
use super::pool::Connection;
use crate::http1::end::HeadEnd;
use crate::http1::framing::Framing;
use crate::io::{Io, READ_SIZE, poll_read_scratch};

/// What is sent.
pub(super) struct Call<'a> {
    pub(super) template: &'a Template,
    pub(super) method: &'a Method,
    /// Path and query.
    pub(super) target: &'a str,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a Bytes,
    /// From the request written to the response's head.
    pub(super) first_byte_timeout: Duration,
    /// When the whole exchange must be over.
    pub(super) deadline: Instant,
}

/// The head of a response, with what of its body came along.
pub(super) struct Answered {
    pub(super) head: Head,
    /// Body bytes, without framing.
    pub(super) body: Vec<u8>,
}

impl Answered {
    /// Whether the body is all here.
    pub(super) fn is_complete(&self) -> bool {
        self.head.framing.as_ref().is_none_or(Framing::is_done)
    }
}

/// Why there is no head.
#[derive(Debug)]
pub(super) enum Failure {
    /// The connection closed or broke.
    Lost {
        /// Whether nothing of the request was written.
        unsent: bool,
        /// Whether not a byte of a response came: the connection may have been dead before.
        silent: bool,
        source: Option<io::Error>,
    },
    /// No head within the first-byte time-out, or before the deadline of the exchange.
    TimedOut { first_byte: bool, unsent: bool },
    /// It broke a rule of HTTP.
    Malformed(String),
}

/// Requests up to this size are copied behind their head and written at once.
const SMALL: usize = 16 << 10;

thread_local! {
    /// Where heads are rendered. A request that is not written at once keeps what is left of it.
    static RENDERED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Call<'_> {
    /// Sends the request and waits for the head of its response; interim responses are skipped.
    pub(super) async fn run(&self, connection: &mut Connection) -> Result<Answered, Failure> {
        let mut writing = Writing::default();
        let mut reading = Reading::default();
        let mut first_byte = None;
        poll_fn(|cx| {
            if !writing.done {
                let wrote = writing.poll(cx, &mut connection.io, self);
                if wrote.is_ready() {
                    first_byte = Some(after(self.first_byte_timeout));
                }
            }
            let answered = self.read(cx, connection, &mut reading, &mut writing);
            if let Poll::Ready(answered) = answered {
                return Poll::Ready(answered);
            }
            let until = first_byte.map_or(self.deadline, |at| at.min(self.deadline));
            ready!(connection.timer.poll_until(cx, until));
            Poll::Ready(Err(Failure::TimedOut {
                first_byte: first_byte == Some(until),
                unsent: writing.at == 0,
            }))
        })
        .await
    }

    fn read(
        &self,
        cx: &mut Context<'_>,
        connection: &mut Connection,
        reading: &mut Reading,
        writing: &mut Writing,
    ) -> Poll<Result<Answered, Failure>> {
        loop {
            let read = ready!(poll_read_scratch(
                &mut connection.io,
                cx,
                READ_SIZE,
                |bytes| { (!bytes.is_empty()).then(|| reading.take(bytes, self.method)) }
            ));
            let source = match read {
                Ok(Some(Ok(None))) => continue,
                Ok(Some(Ok(Some(mut answered)))) => {
                    // An answer that came before the request was written: the rest never will be.
                    answered.head.reusable &= writing.done && writing.failed.is_none();
                    return Poll::Ready(Ok(answered));
                }
                Ok(Some(Err(reason))) => return Poll::Ready(Err(Failure::Malformed(reason))),
                Ok(None) => writing.failed.take(),
                Err(error) => writing.failed.take().or(Some(error)),
            };
            return Poll::Ready(Err(Failure::Lost {
                unsent: writing.at == 0,
                silent: reading.is_silent(),
                source,
            }));
        }
    }
}

/// A request on its way out.
#[derive(Default)]
struct Writing {
    started: bool,
    /// What is left of head and small body.
    rest: Vec<u8>,
    /// Written of `rest` and of the body behind it.
    at: usize,
    /// The server reads no more; it may still have answered.
    failed: Option<io::Error>,
    done: bool,
}

impl Writing {
    /// Ready when all is written or the connection takes no more.
    fn poll(&mut self, cx: &mut Context<'_>, io: &mut Box<dyn Io>, call: &Call<'_>) -> Poll<()> {
        if self.started {
            let rest = std::mem::take(&mut self.rest);
            let polled = self.write(cx, io, &rest, call);
            if polled.is_pending() {
                self.rest = rest;
            }
            return polled;
        }
        self.started = true;
        RENDERED.with_borrow_mut(|out| {
            out.clear();
            let length = call.body.len();
            call.template
                .render(out, call.method, call.target, call.headers, length);
            if length <= SMALL {
                out.extend_from_slice(call.body);
            }
            let polled = self.write(cx, io, out, call);
            if polled.is_pending() {
                self.rest = out.clone();
            }
            out.shrink_to(2 * SMALL);
            polled
        })
    }

    fn write(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut Box<dyn Io>,
        head: &[u8],
        call: &Call<'_>,
    ) -> Poll<()> {
        let body = if call.body.len() > SMALL {
            &call.body[..]
        } else {
            &[]
        };
        while self.at < head.len() + body.len() && self.failed.is_none() {
            let mut io = Pin::new(&mut **io);
            let wrote = match head.get(self.at..).filter(|rest| !rest.is_empty()) {
                Some(rest) if body.is_empty() => io.as_mut().poll_write(cx, rest),
                Some(rest) => {
                    let both = [IoSlice::new(rest), IoSlice::new(body)];
                    io.as_mut().poll_write_vectored(cx, &both)
                }
                None => io.as_mut().poll_write(cx, &body[self.at - head.len()..]),
            };
            match ready!(wrote) {
                Ok(0) => self.failed = Some(io::ErrorKind::WriteZero.into()),
                Ok(n) => self.at += n,
                Err(error) => self.failed = Some(error),
            }
        }
        if self.failed.is_none()
            && let Err(error) = ready!(Pin::new(&mut **io).poll_flush(cx))
        {
            self.failed = Some(error);
        }
        self.done = true;
        Poll::Ready(())
    }
}

/// A response on its way in.
#[derive(Default)]
struct Reading {
    /// What has come of a head that is not complete.
    partial: Vec<u8>,
    end: HeadEnd,
    /// Bytes of interim responses.
    skipped: usize,
}

impl Reading {
    fn is_silent(&self) -> bool {
        self.partial.is_empty() && self.skipped == 0
    }

    /// Reads what came; `None` until the head is complete.
    fn take(&mut self, bytes: &[u8], to: &Method) -> Result<Option<Answered>, String> {
        let mut partial = std::mem::take(&mut self.partial);
        if partial.is_empty() {
            let (used, answered) = self.parse(bytes, to)?;
            if answered.is_none() {
                self.partial = bytes[used..].to_vec();
            }
            return Ok(answered);
        }
        partial.extend_from_slice(bytes);
        let (used, answered) = self.parse(&partial, to)?;
        if answered.is_none() {
            partial.drain(..used);
            self.partial = partial;
        }
        Ok(answered)
    }

    /// The bytes of complete heads, and the first head that is not interim.
    fn parse(&mut self, bytes: &[u8], to: &Method) -> Result<(usize, Option<Answered>), String> {
        let mut used = 0;
        loop {
            let bytes = &bytes[used..];
            let end = self.end.find(bytes)?;
            if self.skipped + end.unwrap_or(bytes.len()) > MAX_HEAD {
                return Err(format!("its head is larger than {MAX_HEAD} bytes"));
            }
            let Some(end) = end else {
                return Ok((used, None));
            };
            let (text, rest) = bytes.split_at(end);
            let head = head::parse(text, to)?;
            if head.status == 101 {
                return Err("it switches protocols, which nobody asked for".to_owned());
            }
            used += end;
            if !head.status.is_informational() {
                return Ok((used, Some(answer(head, rest)?)));
            }
            self.skipped += end;
            self.end = HeadEnd::default();
        }
    }
}

/// Takes the beginning of the body that came with the head.
fn answer(mut head: Head, rest: &[u8]) -> Result<Answered, String> {
    let mut body = Vec::new();
    let used = match &mut head.framing {
        Some(framing) => framing
            .decode(rest, &mut body)
            .map_err(|error| error.to_string())?,
        None => 0,
    };
    // Nobody asked for what follows, so nobody may be given it.
    head.reusable &= used == rest.len();
    Ok(Answered { head, body })
}
