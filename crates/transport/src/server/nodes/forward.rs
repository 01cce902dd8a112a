//! A request that its handler sends on: what it goes on with is on another node.

use bytes::Bytes;
use thinpipe_proto::header::SESSION_ID;
use thinpipe_proto::rpc::RequestId;
use thinpipe_proto::session::NodeId;
use thinpipe_proto::tunnel::{Target, TunnelRequest};
use thinpipe_store::StoreError;

use super::{Nodes, NotAnswered, Tail, outcome_unknown};
use crate::body::BoxFuture;
use crate::server::dispatch::session_failed;
use crate::server::exchange::{Answer, Exchange, Inbound};
use crate::server::ladder;

/// Why a request was not answered by another node.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForwardError {
    /// That node is gone, and has not seen it.
    #[error("the node is gone")]
    Gone,
    /// That node takes nothing more now, and has not run it.
    #[error("the node takes nothing more now")]
    Busy,
    /// The store failed before that node had it.
    #[error(transparent)]
    Store(StoreError),
    /// It may have run.
    #[error("whether the node has run it is not known")]
    OutcomeUnknown,
    /// Only a self-describing request (2026-07-28) can be sent on.
    #[error("only a request outside of sessions can be sent on")]
    InSession,
}

impl ForwardError {
    /// The answer to a request with this id that was not answered for this reason.
    #[must_use]
    pub fn answer(self, id: Option<&RequestId>) -> Answer {
        match self {
            Self::Store(error) => session_failed(&error.into(), id),
            Self::Gone | Self::Busy | Self::InSession => {
                let text = "the node that has to answer this takes nothing now";
                ladder::busy(id, text, None)
            }
            Self::OutcomeUnknown => outcome_unknown(id),
        }
    }
}

impl Nodes {
    /// Has another node answer a self-describing request (2026-07-28), as if it had come there. Dropping the
    /// future, or the body of the answer, is the client's leaving, there too.
    ///
    /// # Errors
    /// [`ForwardError`].
    pub fn forward(
        &self,
        to: &NodeId,
        exchange: Exchange,
    ) -> BoxFuture<Result<Answer, ForwardError>> {
        let (nodes, to) = (self.clone(), to.clone());
        Box::pin(async move {
            let Inbound::Stateless(message) = exchange.inbound else {
                return Err(ForwardError::InSession);
            };
            // It has no session, whatever its headers say: the other node does not look for one.
            let mut headers = exchange.headers;
            headers.remove(SESSION_ID);
            let request = TunnelRequest {
                target: Target::Post,
                endpoint: exchange.endpoint.to_string(),
                path: Bytes::new(),
                principal: exchange.principal,
                headers,
                peer: exchange.peer,
                forwarded_for: exchange.forwarded_for,
                body: message.source().clone(),
            };
            let tail = Tail::Call(message.id().cloned());
            match nodes.ask(&to, request).await {
                Ok((head, asking)) => Ok(Answer::tunnelled(head, asking, tail, None)),
                Err(NotAnswered::Dead | NotAnswered::NotHere) => Err(ForwardError::Gone),
                Err(NotAnswered::Busy) => Err(ForwardError::Busy),
                Err(NotAnswered::Store(error)) => Err(ForwardError::Store(error)),
                Err(NotAnswered::Unknown) => Err(ForwardError::OutcomeUnknown),
            }
        })
    }
}
