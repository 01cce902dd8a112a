//! The history of streams behind a gate.

use std::sync::Arc;

use bytes::Bytes;
use thinpipe_proto::session::{NodeId, SessionId};
use thinpipe_store::{
    BoxFuture, EventLog, LogEntry, LogError, LogPage, MemoryLog, StreamHead, StreamKey,
};

use super::Gate;

pub(super) struct Gated {
    pub(super) gate: Gate,
    pub(super) log: Arc<MemoryLog>,
}

impl EventLog for Gated {
    fn open<'a>(
        &'a self,
        key: &'a StreamKey,
        head: &'a StreamHead,
    ) -> BoxFuture<'a, Result<u64, LogError>> {
        Box::pin(
            self.gate
                .pass(async move { self.log.open(key, head).await }),
        )
    }

    fn append<'a>(
        &'a self,
        key: &'a StreamKey,
        owner: &'a NodeId,
        entries: &'a [LogEntry],
    ) -> BoxFuture<'a, Result<(), LogError>> {
        Box::pin(
            self.gate
                .pass(async move { self.log.append(key, owner, entries).await }),
        )
    }

    fn finish<'a>(
        &'a self,
        key: &'a StreamKey,
        message: Bytes,
    ) -> BoxFuture<'a, Result<u64, LogError>> {
        Box::pin(
            self.gate
                .pass(async move { self.log.finish(key, message).await }),
        )
    }

    fn read<'a>(
        &'a self,
        key: &'a StreamKey,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<LogPage, LogError>> {
        Box::pin(
            self.gate
                .pass(async move { self.log.read(key, after, limit).await }),
        )
    }

    fn forget<'a>(&'a self, session: &'a SessionId) -> BoxFuture<'a, Result<(), LogError>> {
        Box::pin(
            self.gate
                .pass(async move { self.log.forget(session).await }),
        )
    }
}
