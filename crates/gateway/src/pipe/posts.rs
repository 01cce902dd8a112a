//! Messages on their way to a server, begun in order.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use thinpipe_proto::bridge::CallId;
use thinpipe_transport::body::BoxFuture;
use thinpipe_transport::upstream::pipe::{PipeError, PipeSender};
use tokio::time::{Instant, Sleep};

use super::Write;

/// A server may hold a POST open while it asks its client, and the client's answer is another POST: one
/// that is not answered within this does not hold up the next.
const HOLDS_UP: Duration = Duration::from_secs(1);

/// What came next.
pub(super) enum Progress {
    /// One is done: the request that it is, and whether the server has it.
    Sent(Option<CallId>, Result<(), PipeError>),
    /// The newest has had its time: another may be begun.
    Waited,
}

/// The request that it is, and the sending of it.
type Sending = (Option<CallId>, BoxFuture<Result<(), PipeError>>);

/// Messages on their way, the oldest first.
pub(super) struct Posts {
    at_once: usize,
    sending: Vec<Sending>,
    /// The newest of them, while it holds up the next one.
    newest: Option<Pin<Box<Sleep>>>,
}

impl Posts {
    pub(super) fn new(at_once: usize) -> Self {
        Self {
            at_once,
            sending: Vec::new(),
            newest: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sending.is_empty()
    }

    pub(super) fn has_room(&self) -> bool {
        self.is_empty() || (self.sending.len() < self.at_once && self.newest.is_none())
    }

    pub(super) fn begin(&mut self, sender: PipeSender, write: Write) {
        let Write {
            message,
            call,
            headers,
        } = write;
        let sending = async move { sender.send_with(message, headers).await };
        self.sending.push((call, Box::pin(sending)));
        if self.at_once > 1 {
            let until = Instant::now() + HOLDS_UP;
            self.newest = Some(Box::pin(tokio::time::sleep_until(until)));
        }
    }
    /// Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Progress {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Progress> {
        for at in 0..self.sending.len() {
            let (call, sending) = &mut self.sending[at];
            if let Poll::Ready(sent) = sending.as_mut().poll(cx) {
                let call = *call;
                if at + 1 == self.sending.len() {
                    self.newest = None;
                }
                // In order: the last one is the newest.
                drop(self.sending.remove(at));
                return Poll::Ready(Progress::Sent(call, sent));
            }
        }
        let Some(newest) = &mut self.newest else {
            return Poll::Pending;
        };
        ready!(newest.as_mut().poll(cx));
        self.newest = None;
        Poll::Ready(Progress::Waited)
    }
}
