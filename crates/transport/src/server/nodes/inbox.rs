//! What other nodes say, taken off the inbox in order.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use thinpipe_proto::tunnel::{Broken, ExchangeId, Frame, Malformed, Part, decode};

use super::asking::End;
use super::{Nodes, news, serving};
use crate::server::Shared;

/// Messages taken at once.
const AT_ONCE: usize = 64;

/// How long is waited for the first.
const WAIT: Duration = Duration::from_secs(1);

/// How long is waited after a failure of the store.
const AGAIN: Duration = Duration::from_millis(200);

/// Reads until it is dropped, or the server is.
pub(super) async fn read(nodes: Nodes, shared: Weak<Shared>) {
    let (told, worker) = news::queue();
    nodes.run(news::heed(worker, Weak::clone(&shared)));
    let mut is_deaf = false;
    loop {
        let taken = nodes.inner.inbox.take(nodes.this(), AT_ONCE, WAIT).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        match taken {
            Ok(messages) => {
                is_deaf = false;
                for message in messages {
                    if let Some(news) = heed(&nodes, &shared, message) {
                        told.tell(news, &shared);
                    }
                }
            }
            Err(error) => {
                drop(shared);
                // Of one that is cut off more is said elsewhere, and once is enough.
                if std::mem::replace(&mut is_deaf, true) || nodes.is_cut_off() {
                    tracing::debug!(%error, "what other nodes say cannot be read now");
                } else {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(
                        error,
                        "what other nodes say cannot be read: they wait in vain"
                    );
                }
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// Does what a message says about an exchange; gives what it says about a session.
fn heed(
    nodes: &Nodes,
    shared: &Arc<Shared>,
    message: Bytes,
) -> Option<thinpipe_proto::tunnel::News> {
    match decode(message, shared.config.limits.max_body) {
        Ok(Frame::News(news)) => return Some(news),
        Ok(Frame::Exchange(id, part)) if id.asker == *nodes.this() => {
            nodes.heed_answer(&id, part);
        }
        Ok(Frame::Exchange(id, part)) => nodes.heed_asker(shared, id, part),
        Err(Malformed { exchange }) => nodes.refuse_unreadable(exchange),
    }
    None
}

impl Nodes {
    /// Something about what was asked by this node.
    fn heed_answer(&self, id: &ExchangeId, part: Part) {
        // Who has left says so himself.
        if let Some(slot) = self.inner.asked.slot(id.number) {
            slot.take(part);
        }
    }

    /// Something about what is asked of this node.
    fn heed_asker(&self, shared: &Arc<Shared>, id: ExchangeId, part: Part) {
        let serving = match part {
            Part::Ask(request) => return serving::begin(self, shared, id, request),
            _ => self.inner.served.get(&id),
        };
        let Some(serving) = serving else {
            if matches!(part, Part::Probe(_)) {
                self.say(id, Part::Broken(Broken::Unknown));
            }
            return;
        };
        match part {
            Part::Acknowledge(progress) => serving.acknowledged(progress),
            Part::Probe(progress) => {
                serving.acknowledged(progress);
                self.say(id, Part::Sent(serving.delivered()));
            }
            // What only the one who answers says ends it, like the asker's leaving.
            Part::Leave
            | Part::Ask(_)
            | Part::Head(_)
            | Part::Piece { .. }
            | Part::Broken(_)
            | Part::Sent(_) => serving.leave(),
        }
    }

    /// A frame of another release, or none at all: only its own exchange fails.
    fn refuse_unreadable(&self, exchange: Option<ExchangeId>) {
        tracing::warn!("a message of another node cannot be read; is it of another release?");
        match exchange {
            Some(id) if id.asker == *self.this() => {
                if let Some(slot) = self.inner.asked.slot(id.number) {
                    slot.end(End::Gap);
                }
            }
            Some(id) => match self.inner.served.get(&id) {
                Some(serving) => serving.leave(),
                None => self.say(id, Part::Broken(Broken::Unreadable)),
            },
            None => {}
        }
    }

    /// Says something to an asker.
    fn say(&self, id: ExchangeId, part: Part) {
        let to = id.asker.clone();
        self.inner.outbox.send(&to, id, part);
    }
}

/// Tells those who still ask something that it has not run.
pub(super) async fn turn_away(nodes: &Nodes) {
    loop {
        let taken = nodes
            .inner
            .inbox
            .take(nodes.this(), AT_ONCE, Duration::ZERO)
            .await;
        let messages = taken.unwrap_or_default();
        if messages.is_empty() {
            return;
        }
        for message in messages {
            if let Ok(Frame::Exchange(id, Part::Ask(_))) = decode(message, usize::MAX) {
                let to = id.asker.clone();
                let refusal = Frame::Exchange(id, Part::Broken(Broken::NotHere));
                nodes.deliver(&to, &refusal).await;
            }
        }
    }
}
