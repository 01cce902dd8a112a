//! Records of sessions behind a gate.

use std::sync::Arc;
use std::time::Duration;

use thinpipe_proto::session::SessionId;
use thinpipe_store::{BoxFuture, MemoryStore, SessionRecord, SessionStore, StoreError, Version};

use super::Gate;

/// The store that all nodes share, behind the gate of one.
pub(super) struct Gated {
    pub(super) gate: Gate,
    pub(super) store: Arc<MemoryStore>,
}

type Found = Option<(SessionRecord, Version)>;

impl SessionStore for Gated {
    fn create<'a>(
        &'a self,
        record: &'a SessionRecord,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(
            self.gate
                .pass(async move { self.store.create(record, ttl).await }),
        )
    }

    fn get<'a>(&'a self, id: &'a SessionId) -> BoxFuture<'a, Result<Found, StoreError>> {
        Box::pin(self.gate.pass(async move { self.store.get(id).await }))
    }

    fn get_many<'a>(
        &'a self,
        ids: &'a [SessionId],
    ) -> BoxFuture<'a, Result<Vec<Found>, StoreError>> {
        Box::pin(
            self.gate
                .pass(async move { self.store.get_many(ids).await }),
        )
    }

    fn update<'a>(
        &'a self,
        record: &'a SessionRecord,
        expected: Version,
    ) -> BoxFuture<'a, Result<Version, StoreError>> {
        Box::pin(
            self.gate
                .pass(async move { self.store.update(record, expected).await }),
        )
    }

    fn touch<'a>(
        &'a self,
        id: &'a SessionId,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(
            self.gate
                .pass(async move { self.store.touch(id, ttl).await }),
        )
    }

    fn delete<'a>(&'a self, id: &'a SessionId) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(self.gate.pass(async move { self.store.delete(id).await }))
    }

    fn count(&self) -> BoxFuture<'_, Result<usize, StoreError>> {
        Box::pin(self.gate.pass(async move { self.store.count().await }))
    }

    fn list<'a>(
        &'a self,
        after: Option<&'a SessionId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<SessionId>, StoreError>> {
        Box::pin(
            self.gate
                .pass(async move { self.store.list(after, limit).await }),
        )
    }
}
