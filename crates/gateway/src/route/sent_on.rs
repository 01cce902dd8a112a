//! Requests of 2026-07-28 that go on with what waits on another node (protocol notes 5.8, 7).

use std::sync::Arc;

use thinpipe_proto::session::NodeId;
use thinpipe_transport::server::{Answer, Exchange, ForwardError, Inbound, Nodes};

use super::Route;

impl Route {
    /// The other node on which a request's exchange is parked, if there is one.
    pub(super) fn parked_elsewhere(&self, exchange: &Exchange) -> Option<(Nodes, NodeId)> {
        let Inbound::Stateless(message) = &exchange.inbound else {
            return None;
        };
        let (nodes, node) = self.downgrade.elsewhere(message, &exchange.principal)?;
        Some((nodes.clone(), node))
    }

    /// Has that node answer. When it is gone, this one says what has become of it.
    pub(super) async fn send_on(
        self: Arc<Self>,
        exchange: Exchange,
        (nodes, node): (Nodes, NodeId),
    ) -> Answer {
        let Inbound::Stateless(message) = &exchange.inbound else {
            return self.answer(exchange).await;
        };
        let id = message.id().cloned();
        let again = Exchange {
            inbound: Inbound::Stateless(message.clone()),
            revision: exchange.revision,
            principal: exchange.principal.clone(),
            headers: exchange.headers.clone(),
            endpoint: Arc::clone(&exchange.endpoint),
            peer: exchange.peer,
            read_at: exchange.read_at,
            forwarded_for: exchange.forwarded_for.clone(),
        };
        match nodes.forward(&node, exchange).await {
            Ok(answer) => answer,
            Err(ForwardError::Gone) => self.answer(again).await,
            Err(error) => error.answer(id.as_ref()),
        }
    }
}
