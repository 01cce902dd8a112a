//! The receiving half: all streams of a session, read in turn.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use thinpipe_proto::rpc::{Payload, RequestId};

use super::Reading;
use super::client::Client;
use super::stream::{Heard, Stream};
use crate::ByteBudget;
use crate::upstream::pipe::PipeError;

/// What reading a stream needs.
pub(super) struct Reader {
    pub(super) client: Arc<Client>,
    pub(super) reading: Reading,
    pub(super) budget: ByteBudget,
}

/// The open streams of a session. Both halves know them; one reads them.
#[derive(Default)]
pub(super) struct Streams(Mutex<Open>);

#[derive(Default)]
struct Open {
    streams: Vec<Stream>,
    /// Which of them is read first.
    next: usize,
    /// Nobody reads them any more.
    is_over: bool,
    reader: Option<Waker>,
}

/// Takes the messages. Dropping it closes the streams.
pub(in crate::upstream) struct Messages {
    reader: Reader,
    streams: Arc<Streams>,
}

/// What came next.
pub(in crate::upstream) enum Told {
    /// A message or batch, and the request on whose stream it came.
    Payload(Payload, Option<RequestId>),
    /// An event stream answers this request, and something came on it that is no message.
    Alive(RequestId),
    /// The stream of this request ended without its response.
    Lost(RequestId, PipeError),
    /// The standalone stream was opened anew: what was said meanwhile is not known.
    Gap,
    /// The standalone stream has ended, for good.
    Deaf(PipeError),
}

impl Messages {
    pub(super) fn new(client: Arc<Client>, reading: Reading, budget: &ByteBudget) -> Self {
        let reader = Reader {
            client,
            reading,
            budget: budget.clone(),
        };
        Self {
            reader,
            streams: Arc::default(),
        }
    }

    pub(super) fn streams(&self) -> Arc<Streams> {
        Arc::clone(&self.streams)
    }

    /// What comes next on any of the streams. An error is the end of the session. Dropping the future loses
    /// nothing: what a poll reads, the same poll gives on.
    pub(in crate::upstream) async fn next(&self) -> Result<Told, PipeError> {
        poll_fn(|cx| self.streams.poll(cx, &self.reader)).await
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        let mut open = self.streams.lock();
        open.is_over = true;
        let streams = std::mem::take(&mut open.streams);
        drop(open);
        drop(streams);
    }
}

impl Streams {
    /// Another stream to read. There is one standalone stream at most.
    pub(super) fn insert(&self, stream: Stream) {
        let mut open = self.lock();
        let replaced = match stream.request() {
            None => open.take(None),
            Some(_) => None,
        };
        let refused = if open.is_over {
            Some(stream)
        } else {
            open.streams.push(stream);
            None
        };
        open.wake();
        drop(open);
        // Outside of the lock: their connections are closed.
        drop((replaced, refused));
    }

    /// Closes a stream, if it is there.
    pub(super) fn remove(&self, request: Option<&RequestId>) {
        let removed = self.lock().take(request);
        drop(removed);
    }

    pub(super) fn hold(&self, request: &RequestId, is_held: bool) {
        let mut open = self.lock();
        if let Some(at) = open.find(Some(request)) {
            open.streams[at].hold(is_held);
            open.wake();
        }
    }

    pub(super) fn has_standalone(&self) -> bool {
        self.lock().find(None).is_some()
    }

    /// Each stream has its turn: after one has given something, the next one is asked first.
    fn poll(&self, cx: &mut Context<'_>, reader: &Reader) -> Poll<Result<Told, PipeError>> {
        let open = &mut *self.lock();
        let mut left = open.streams.len();
        while left > 0 {
            left -= 1;
            let at = open.next % open.streams.len();
            let stream = &mut open.streams[at];
            let Poll::Ready(heard) = stream.poll(cx, reader) else {
                open.next = at + 1;
                continue;
            };
            let told = match heard {
                Heard::Payload(payload) => Told::Payload(payload, stream.request().cloned()),
                Heard::Alive => match stream.request() {
                    Some(request) => Told::Alive(request.clone()),
                    None => continue, // Unreachable: only requests are awaited.
                },
                Heard::Gap => Told::Gap,
                Heard::SessionLost => return Poll::Ready(Err(reader.client.lost())),
                Heard::Over(error) => {
                    let over = open.streams.remove(at);
                    match (over.request(), error) {
                        (_, None) => continue,
                        (Some(request), Some(error)) => Told::Lost(request.clone(), error),
                        (None, Some(error)) => Told::Deaf(error),
                    }
                }
            };
            open.next = at + 1;
            return Poll::Ready(Ok(told));
        }
        match &mut open.reader {
            Some(waker) => waker.clone_from(cx.waker()),
            reader => *reader = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // A poisoned lock means a panic elsewhere; what it guards is valid at every step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn find(&self, request: Option<&RequestId>) -> Option<usize> {
        let is_it = |stream: &Stream| stream.request() == request;
        self.streams.iter().position(is_it)
    }

    fn take(&mut self, request: Option<&RequestId>) -> Option<Stream> {
        let at = self.find(request)?;
        Some(self.streams.remove(at))
    }

    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}
