//! Who waits for another node finds out that it is dead, and does not wait for ever for what was lost.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use thinpipe_proto::rpc::{RequestId, code, error_response};
use thinpipe_proto::session::NodeId;
use thinpipe_proto::tunnel::{ExchangeId, Part};

use super::Nodes;
use super::asking::End;
use crate::server::exchange::Answer;

/// How often is looked while anything is open.
const EVERY: Duration = Duration::from_millis(500);

const OUTCOME_UNKNOWN: &str =
    "the node that ran this is gone, or was not heard of; the call may have run";

/// Watches until it is dropped.
pub(super) async fn watch(nodes: Nodes) {
    loop {
        nodes.has_exchanges().await;
        tokio::time::sleep(EVERY).await;
        match nodes.inner.inbox.dead(&nodes.partners()).await {
            Ok(dead) if nodes.is_steady() => {
                nodes.let_go_of(|node| dead.contains(node), End::Dead);
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "who is alive cannot be found out now"),
        }
        nodes.ask_the_silent();
        nodes.inner.served.leave_unheard();
    }
}

impl Nodes {
    async fn has_exchanges(&self) {
        while self.inner.asked.len() == 0 && self.inner.served.len() == 0 {
            self.inner.pulse.something_to_watch().await;
        }
    }

    /// The nodes with which something is open.
    fn partners(&self) -> Vec<NodeId> {
        let mut partners = self.inner.asked.nodes();
        partners.extend(self.inner.served.nodes());
        partners.sort();
        partners.dedup();
        partners
    }

    /// Asks those who were silent for too long whether they are still at it, and gives them up who do not answer.
    fn ask_the_silent(&self) {
        let mut deaf: Option<NodeId> = None;
        for (number, slot, word) in self.inner.asked.silent() {
            let asker = self.this().clone();
            let id = ExchangeId { asker, number };
            match word {
                Some(progress) => {
                    let probe = Part::Probe(progress);
                    if !self.inner.outbox.send(slot.node(), id, probe) {
                        slot.not_asked();
                    }
                }
                None => {
                    deaf = Some(slot.node().clone());
                    slot.end(End::Silent);
                }
            }
        }
        if let Some(node) = deaf {
            tracing::warn!(
                ?node,
                "another node is alive, and does not answer; it is not waited for"
            );
        }
    }

    /// Ends all that is open with these nodes.
    pub(super) fn let_go_of(&self, mut are_gone: impl FnMut(&NodeId) -> bool, why: End) {
        for slot in self.inner.asked.with(&mut are_gone) {
            slot.end(why);
        }
        self.inner.served.leave(are_gone);
    }
}

/// The answer to a request that another node may have run.
pub(crate) fn outcome_unknown(id: Option<&RequestId>) -> Answer {
    let (status, code) = (StatusCode::BAD_GATEWAY, code::INTERNAL_ERROR);
    let data = Some(reason!("outcome_unknown"));
    Answer::error(status, id, code, OUTCOME_UNKNOWN, data)
}

/// The same as a message.
pub(super) fn outcome_unknown_message(id: Option<&RequestId>) -> Bytes {
    let data = Some(reason!("outcome_unknown").as_bytes());
    error_response(id, code::INTERNAL_ERROR, OUTCOME_UNKNOWN, data)
}

/// What a request gets whose answer had not come when this node had to stop.
pub(crate) fn shutting_down_message(id: &RequestId) -> Bytes {
    let text = "this server shuts down before the answer came; the call may have run";
    let data = Some(reason!("shutting_down").as_bytes());
    error_response(Some(id), code::SERVER_ERROR, text, data)
}
