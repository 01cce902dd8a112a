//! The store is out of reach (F17).

use std::sync::Arc;
use std::time::Duration;

use thinpipe_proto::session::SessionId;
use thinpipe_store::{BoxFuture, SessionRecord, SessionStore, StoreError, Version, Versioned};
use thinpipe_testkit::{Client, eventually, rpc};

use crate::cluster::{ALICE, Cluster};

/// Nobody reaches it.
struct Away;

fn away<'a, T: Send + 'a>() -> BoxFuture<'a, Result<T, StoreError>> {
    let error = StoreError::Unavailable("it is away".into());
    Box::pin(std::future::ready(Err(error)))
}

impl SessionStore for Away {
    fn create<'a>(
        &'a self,
        _: &'a SessionRecord,
        _: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        away()
    }

    fn get<'a>(&'a self, _: &'a SessionId) -> BoxFuture<'a, Result<Option<Versioned>, StoreError>> {
        away()
    }

    fn get_many<'a>(
        &'a self,
        _: &'a [SessionId],
    ) -> BoxFuture<'a, Result<Vec<Option<Versioned>>, StoreError>> {
        away()
    }

    fn update<'a>(
        &'a self,
        _: &'a SessionRecord,
        _: Version,
    ) -> BoxFuture<'a, Result<Version, StoreError>> {
        away()
    }

    fn touch<'a>(&'a self, _: &'a SessionId, _: Duration) -> BoxFuture<'a, Result<(), StoreError>> {
        away()
    }

    fn delete<'a>(&'a self, _: &'a SessionId) -> BoxFuture<'a, Result<bool, StoreError>> {
        away()
    }

    fn count(&self) -> BoxFuture<'_, Result<usize, StoreError>> {
        away()
    }

    fn list<'a>(
        &'a self,
        _: Option<&'a SessionId>,
        _: usize,
    ) -> BoxFuture<'a, Result<Vec<SessionId>, StoreError>> {
        away()
    }
}

/// F17: no session is opened that could not be found again: the client is told to come back, and the server's
/// session ends.
#[tokio::test]
async fn f17_initialize_gets_503_without_the_store() {
    let cluster = Cluster::start().await;
    let node = cluster.node_without(Arc::new(Away)).await;
    let client = Client::new(&node.mcp).with_token(ALICE);
    let mut refused = client.post(rpc::initialize(1, "2025-11-25")).await;
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some());
    assert_eq!(refused.header("mcp-session-id"), None);
    let reason = refused.json().await["error"]["data"]["reason"].clone();
    assert_eq!(reason, "session_store_unavailable");
    eventually("the server's session has ended", async || {
        match cluster.upstream.sessions().len() {
            0 => Ok(()),
            sessions => Err(format!("{sessions} sessions")),
        }
    })
    .await;
}
