//! Short messages to other nodes, from whoever cannot wait for the store: one task writes them in turn.

use std::sync::Mutex;
use std::sync::PoisonError;

use thinpipe_proto::session::NodeId;
use thinpipe_proto::tunnel::{ExchangeId, Frame, News, Part, encode};
use tokio::sync::mpsc;

use super::Nodes;

/// Messages that may wait. One more is dropped: an exchange asks again after a while, and news are found in the
/// store too.
const MAX_WAITING: usize = 4096;

/// Messages that wait to be written.
pub(super) struct Outbox {
    sender: mpsc::Sender<Letter>,
    /// Until the task that writes them takes it.
    receiver: Mutex<Option<mpsc::Receiver<Letter>>>,
}

enum Letter {
    To(NodeId, ExchangeId, Part),
    ToAll(News),
}

impl Default for Outbox {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        Self {
            sender,
            receiver: Mutex::new(Some(receiver)),
        }
    }
}

impl Outbox {
    /// Says something about an exchange.
    pub(super) fn send(&self, to: &NodeId, exchange: ExchangeId, part: Part) {
        self.put(Letter::To(to.clone(), exchange, part));
    }

    /// Tells all other nodes.
    pub(super) fn tell(&self, news: News) {
        self.put(Letter::ToAll(news));
    }

    fn put(&self, letter: Letter) {
        if self.sender.try_send(letter).is_err() {
            tracing::warn!("too many messages to other nodes wait; one is dropped");
        }
    }
}

/// Writes until it is dropped.
pub(super) async fn write(nodes: Nodes) {
    let receiver = &nodes.inner.outbox.receiver;
    let taken = receiver
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    let Some(mut letters) = taken else {
        return;
    };
    while let Some(letter) = letters.recv().await {
        match letter {
            Letter::To(to, exchange, part) => {
                nodes.deliver(&to, &Frame::Exchange(exchange, part)).await;
            }
            Letter::ToAll(news) => nodes.tell_all(&Frame::News(news)).await,
        }
    }
}

impl Nodes {
    async fn tell_all(&self, frame: &Frame) {
        match self.live().await {
            Ok(nodes) => {
                for node in nodes.iter().filter(|node| *node != self.this()) {
                    self.deliver(node, frame).await;
                }
            }
            Err(error) => tracing::debug!(%error, "the other nodes are not told"),
        }
    }

    /// Delivers what need not arrive.
    pub(super) async fn deliver(&self, to: &NodeId, frame: &Frame) {
        if let Err(error) = self.inner.inbox.deliver(to, encode(frame)).await {
            tracing::debug!(node = ?to, %error, "a message to another node is lost");
        }
    }
}
