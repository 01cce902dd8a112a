//! Messages on their way to a server, begun in order.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use thinpipe_transport::body::BoxFuture;
use tokio::time::{Instant, Sleep};

/// A server may hold a POST open while it asks its client, and the client's answer is another POST: one
/// that is not answered within this does not hold up the next.
const HOLDS_UP: Duration = Duration::from_secs(1);

/// Messages on their way, the oldest first: for each, what it is, and the sending of it.
pub(crate) struct Posts<W, R> {
    at_once: usize,
    sending: Vec<(W, BoxFuture<R>)>,
    /// The newest of them, while it holds up the next one.
    newest: Option<Pin<Box<Sleep>>>,
}

impl<W, R> Posts<W, R> {
    pub(crate) fn new(at_once: usize) -> Self {
        Self {
            at_once,
            sending: Vec::new(),
            newest: None,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sending.is_empty()
    }

    pub(crate) fn has_room(&self) -> bool {
        self.is_empty() || (self.sending.len() < self.at_once && self.newest.is_none())
    }

    /// Begins to send one, which holds up those after it for a while if it `orders` them.
    pub(crate) fn begin(
        &mut self,
        what: W,
        sending: impl Future<Output = R> + Send + 'static,
        orders: bool,
    ) {
        self.sending.push((what, Box::pin(sending)));
        if orders && self.at_once > 1 {
            let until = Instant::now() + HOLDS_UP;
            self.newest = Some(Box::pin(tokio::time::sleep_until(until)));
        }
    }

    /// The next that is done; `None`: the newest has had its time, and another may be begun. Dropping the
    /// future loses nothing.
    pub(crate) async fn next(&mut self) -> Option<(W, R)> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// What is still on its way, and is not waited for.
    pub(crate) fn into_rest(self) -> impl Iterator<Item = W> {
        self.sending.into_iter().map(|(what, _)| what)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<(W, R)>> {
        for at in 0..self.sending.len() {
            if let Poll::Ready(sent) = self.sending[at].1.as_mut().poll(cx) {
                if at + 1 == self.sending.len() {
                    self.newest = None;
                }
                // In order: the last one is the newest.
                let (what, _) = self.sending.remove(at);
                return Poll::Ready(Some((what, sent)));
            }
        }
        let Some(newest) = &mut self.newest else {
            return Poll::Pending;
        };
        ready!(newest.as_mut().poll(cx));
        self.newest = None;
        Poll::Ready(None)
    }
}
