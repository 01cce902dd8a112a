//! Short messages to other nodes, from whoever cannot wait for the store: one task writes them in turn.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use thinpipe_proto::session::NodeId;
use thinpipe_proto::tunnel::{ExchangeId, Frame, News, Part, encode};
use thinpipe_store::DeliverError;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Nodes;
use super::dropped::Dropped;
use crate::io::now;

/// Messages that may wait. One more is dropped: an exchange asks again after a while, and news are found in the
/// store too.
const MAX_WAITING: usize = 4096;

/// Leavings that wait to be told again. Of one more the other node finds out by itself, after a while.
const MAX_UNTOLD: usize = 4096;

/// How long is waited before a leaving is told again that the store did not take.
const AGAIN: Duration = Duration::from_millis(200);

/// Messages that wait to be written.
pub(super) struct Outbox {
    sender: mpsc::Sender<Letter>,
    /// Until the task that writes them takes it.
    receiver: Mutex<Option<mpsc::Receiver<Letter>>>,
    dropped: Dropped,
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
            dropped: Dropped::default(),
        }
    }
}

impl Outbox {
    /// Says something about an exchange; `false`: it is dropped.
    pub(super) fn send(&self, to: &NodeId, exchange: ExchangeId, part: Part) -> bool {
        self.put(Letter::To(to.clone(), exchange, part))
    }

    /// Tells all other nodes.
    pub(super) fn tell(&self, news: News) {
        let _ = self.put(Letter::ToAll(news));
    }

    fn put(&self, letter: Letter) -> bool {
        let is_put = self.sender.try_send(letter).is_ok();
        if !is_put && let Some(count) = self.dropped.add(now()) {
            tracing::warn!(
                count,
                "too many messages to other nodes wait; some are dropped"
            );
        }
        is_put
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
    let mut untold = Untold::default();
    loop {
        let letter = tokio::select! {
            biased;
            // Cancel-safe: one is taken when it is returned. There is a pause between two that fail.
            leaving = untold.next() => Some(leaving),
            // Cancel-safe: a letter is taken when it is returned.
            letter = letters.recv() => letter,
            // Cancel-safe: one is taken when it is returned. Nothing else waits for these.
            (session, request) = nodes.inner.cancellations.next() => {
                Some(Letter::ToAll(News::Cancelled(session, request)))
            }
        };
        match letter {
            Some(Letter::To(to, id, part)) => {
                let is_leaving = part == Part::Leave;
                let is_probe = matches!(part, Part::Probe(_));
                let frame = Frame::Exchange(id.clone(), part);
                match nodes.try_deliver(&to, &frame).await {
                    Err(_) if is_leaving => untold.keep(to, id),
                    // It reads nothing, and is asked in vain.
                    Err(DeliverError::Full) => {}
                    Err(_) if is_probe => nodes.not_asked(&id),
                    _ => {}
                }
            }
            Some(Letter::ToAll(news)) => nodes.tell_all(&Frame::News(news)).await,
            None => return,
        }
    }
}

/// Leavings that the store did not take: a node goes on with what nobody waits for until it hears of that.
#[derive(Default)]
struct Untold {
    waiting: VecDeque<(NodeId, ExchangeId)>,
    due: Option<Instant>,
}

impl Untold {
    fn keep(&mut self, to: NodeId, id: ExchangeId) {
        if self.waiting.len() < MAX_UNTOLD {
            self.waiting.push_back((to, id));
            self.due = Some(Instant::now() + AGAIN);
        }
    }

    /// One that is to be told again; never, if there is none.
    async fn next(&mut self) -> Letter {
        if let Some(due) = self.due {
            tokio::time::sleep_until(due).await;
        }
        match self.waiting.pop_front() {
            Some((to, id)) => Letter::To(to, id, Part::Leave),
            None => {
                self.due = None;
                std::future::pending().await
            }
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

    /// A question that has not reached the other node.
    fn not_asked(&self, id: &ExchangeId) {
        if let Some(slot) = self.inner.asked.slot(id.number) {
            slot.not_asked();
        }
    }

    /// Delivers what need not arrive.
    pub(super) async fn deliver(&self, to: &NodeId, frame: &Frame) {
        // Why it may not have arrived is in the log.
        let _ = self.try_deliver(to, frame).await;
    }

    /// The same.
    ///
    /// # Errors
    /// It may not have arrived, at a node that may be alive.
    async fn try_deliver(&self, to: &NodeId, frame: &Frame) -> Result<(), DeliverError> {
        match self.inner.inbox.deliver(to, encode(frame)).await {
            Err(DeliverError::Gone) if self.is_steady() => Ok(()),
            told => told.inspect_err(|error| {
                tracing::debug!(node = ?to, %error, "a message to another node is lost");
            }),
        }
    }
}
