//! How nodes reach each other, behind the gate of one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use thinpipe_proto::session::NodeId;
use thinpipe_store::{BoxFuture, DeliverError, Inbox, MemoryInbox, StoreError};

use super::Gate;

pub(super) struct Gated {
    pub(super) gate: Gate,
    pub(super) inbox: Arc<MemoryInbox>,
}

impl Inbox for Gated {
    fn beat<'a>(
        &'a self,
        node: &'a NodeId,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(
            self.gate
                .pass(async move { self.inbox.beat(node, ttl).await }),
        )
    }

    fn leave<'a>(&'a self, node: &'a NodeId) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.gate.pass(async move { self.inbox.leave(node).await }))
    }

    fn nodes(&self) -> BoxFuture<'_, Result<Vec<NodeId>, StoreError>> {
        Box::pin(self.gate.pass(async move { self.inbox.nodes().await }))
    }

    fn dead<'a>(&'a self, among: &'a [NodeId]) -> BoxFuture<'a, Result<Vec<NodeId>, StoreError>> {
        Box::pin(self.gate.pass(async move { self.inbox.dead(among).await }))
    }

    fn deliver<'a>(
        &'a self,
        to: &'a NodeId,
        message: Bytes,
    ) -> BoxFuture<'a, Result<(), DeliverError>> {
        Box::pin(
            self.gate
                .pass(async move { self.inbox.deliver(to, message).await }),
        )
    }

    fn withdraw<'a>(
        &'a self,
        to: &'a NodeId,
        message: &'a Bytes,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(
            self.gate
                .pass(async move { self.inbox.withdraw(to, message).await }),
        )
    }

    fn take<'a>(
        &'a self,
        node: &'a NodeId,
        limit: usize,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Vec<Bytes>, StoreError>> {
        Box::pin(
            self.gate
                .pass(async move { self.inbox.take(node, limit, wait).await }),
        )
    }

    fn secret<'a>(
        &'a self,
        name: &'a str,
        proposed: Bytes,
    ) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        Box::pin(
            self.gate
                .pass(async move { self.inbox.secret(name, proposed).await }),
        )
    }
}
