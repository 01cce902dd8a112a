//! The store is out of reach (F17).

use std::future::ready;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use thinpipe_gateway::{Resume, SessionLost, UpstreamSpec};
use thinpipe_proto::session::SessionId;
use thinpipe_store::{
    BoxFuture, MemoryStore, SessionRecord, SessionStore, StoreError, Version, Versioned,
};
use thinpipe_testkit::{Client, Response, Upstream, eventually, rpc};

use crate::cluster::{ALICE, Cluster, Node};

/// Sessions in memory, which nobody reaches while it is away.
#[derive(Default)]
struct Away {
    store: MemoryStore,
    is_away: AtomicBool,
    /// It does what it is asked to delete, and does not say so.
    doubts: AtomicBool,
    /// What becomes of its next update.
    update: Mutex<Option<Late>>,
    /// Calls that it did not take.
    refused: AtomicUsize,
}

/// An update that it does not say it has done.
struct Late {
    is_done: bool,
    /// Nobody reaches it after that.
    then_away: bool,
}

impl Away {
    fn set(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::SeqCst);
    }
}

/// The same call, unless it is away.
macro_rules! unless_away {
    ($self:ident.$call:ident($($argument:expr),*)) => {
        match $self.is_away.load(Ordering::SeqCst) {
            true => {
                $self.refused.fetch_add(1, Ordering::SeqCst);
                Box::pin(ready(Err(StoreError::Unavailable("it is away".into()))))
            }
            false => $self.store.$call($($argument),*),
        }
    };
}

impl SessionStore for Away {
    fn create<'a>(
        &'a self,
        record: &'a SessionRecord,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        unless_away!(self.create(record, ttl))
    }

    fn get<'a>(
        &'a self,
        id: &'a SessionId,
    ) -> BoxFuture<'a, Result<Option<Versioned>, StoreError>> {
        unless_away!(self.get(id))
    }

    fn get_many<'a>(
        &'a self,
        ids: &'a [SessionId],
    ) -> BoxFuture<'a, Result<Vec<Option<Versioned>>, StoreError>> {
        unless_away!(self.get_many(ids))
    }

    fn update<'a>(
        &'a self,
        record: &'a SessionRecord,
        expected: Version,
    ) -> BoxFuture<'a, Result<Version, StoreError>> {
        if let Some(late) = self.update.lock().unwrap().take() {
            return Box::pin(async move {
                if late.is_done {
                    self.store.update(record, expected).await?;
                }
                self.set(late.then_away);
                Err(StoreError::Unavailable("no answer".into()))
            });
        }
        unless_away!(self.update(record, expected))
    }

    fn touch<'a>(
        &'a self,
        id: &'a SessionId,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        unless_away!(self.touch(id, ttl))
    }

    fn delete<'a>(&'a self, id: &'a SessionId) -> BoxFuture<'a, Result<bool, StoreError>> {
        if self.doubts.swap(false, Ordering::SeqCst) {
            return Box::pin(async move {
                self.store.delete(id).await?;
                Err(StoreError::Unavailable("no answer".into()))
            });
        }
        unless_away!(self.delete(id))
    }

    fn count(&self) -> BoxFuture<'_, Result<usize, StoreError>> {
        unless_away!(self.count())
    }

    fn list<'a>(
        &'a self,
        after: Option<&'a SessionId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<SessionId>, StoreError>> {
        unless_away!(self.list(after, limit))
    }
}

/// 5.8.9, F17: a session whose record cannot be deleted has not ended, and its server is not told that it has.
#[tokio::test]
async fn d8_without_the_store_a_session_does_not_end_at_its_server() {
    let cluster = Cluster::start().await;
    let store = Arc::new(Away::default());
    let node = cluster.node_over(Arc::clone(&store) as _, |_| {}).await;
    let client = node.client().await;
    store.set(true);
    let mut refused = client.delete().await;
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some());
    let reason = refused.json().await["error"]["data"]["reason"].clone();
    assert_eq!(reason, "session_store_unavailable");
    assert_eq!(client.post(rpc::call(2, "echo")).await.status, 200);
    assert_eq!(cluster.upstream.requests("DELETE").len(), 0);
    store.set(false);
    assert_eq!(client.delete().await.status, 200);
    assert_eq!(cluster.upstream.requests("DELETE").len(), 1);
    assert_eq!(client.post(rpc::call(3, "echo")).await.status, 404);
}

/// F17, D8: a store that does not say in time that it has deleted a record may have done so: when that is found out,
/// the server is told that its session has ended.
#[tokio::test]
async fn d8_what_has_ended_without_a_word_ends_at_its_server() {
    let cluster = Cluster::start().await;
    let store = Arc::new(Away::default());
    let node = cluster.node_over(Arc::clone(&store) as _, |_| {}).await;
    let client = node.client().await;
    store.doubts.store(true, Ordering::SeqCst);
    assert_eq!(client.delete().await.status, 503);
    assert_eq!(cluster.upstream.requests("DELETE").len(), 0);
    let sessions = node.server.sessions();
    let session = sessions.list().pop().unwrap();
    assert!(!sessions.refresh(&session).await.unwrap());
    let is_told = |record: &thinpipe_testkit::Record| record.count("DELETE") == 1;
    cluster.upstream.wait_until(is_told).await;
    assert_eq!(client.post(rpc::call(2, "echo")).await.status, 404);
}

/// F17: no session is opened that could not be found again: the client is told to come back, and the server's
/// session ends.
#[tokio::test]
async fn f17_initialize_gets_503_without_the_store() {
    let cluster = Cluster::start().await;
    let store = Arc::new(Away::default());
    store.set(true);
    let node = cluster.node_over(store, |_| {}).await;
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

/// 5.8, F17: what a client sets up while the store is away is in the record once that is back.
#[tokio::test]
async fn f17_what_is_set_up_without_the_store_is_stored_later() {
    let cluster = Cluster::start().await;
    let store = Arc::new(Away::default());
    let logs = |spec: &mut UpstreamSpec| spec.resume = Resume::Log;
    let node = cluster.node_over(Arc::clone(&store) as _, logs).await;
    let client = node.client().await;
    store.set(true);
    let subscribe = rpc::request(1, "resources/subscribe", &json!({"uri": "file:///late"}));
    assert_eq!(client.post(subscribe).await.status, 200);
    eventually("it could not be stored", async || {
        match store.refused.load(Ordering::SeqCst) {
            0 => Err("nothing was asked".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    store.set(false);
    eventually("it is stored", async || {
        let ids = store.store.list(None, 1).await.unwrap();
        let (record, _) = store.store.get(&ids[0]).await.unwrap().unwrap();
        let attached = String::from_utf8(record.attachment.to_vec()).unwrap();
        match attached.contains("file:///late") {
            true => Ok(()),
            false => Err(attached),
        }
    })
    .await;
}

/// A gateway that opens lost sessions anew, over a store that fails, and a client whose session its server has lost.
async fn lost_over(cluster: &Cluster, store: &Arc<Away>) -> (Node, Client) {
    let reopens = |spec: &mut UpstreamSpec| spec.session_lost = SessionLost::Reestablish;
    let node = cluster.node_over(Arc::clone(store) as _, reopens).await;
    let client = node.client().await;
    for lost in cluster.upstream.sessions() {
        cluster.upstream.forget(&lost);
    }
    (node, client)
}

/// It is told to come back.
async fn has_to_wait(mut refused: Response) {
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some());
    let reason = refused.json().await["error"]["data"]["reason"].clone();
    assert_eq!(reason, "session_store_unavailable");
}

/// The server has one session, and as many were opened.
async fn is_only_one(upstream: &Upstream, opened: usize) {
    assert_eq!(upstream.requests("initialize").len(), opened);
    eventually("the others were given back", async || {
        match upstream.sessions().len() {
            1 => Ok(()),
            sessions => Err(format!("{sessions} sessions")),
        }
    })
    .await;
}

/// F17, R101: as long as the store is away, a session that its server has lost waits to be opened anew: it has not
/// ended, whatever its client asks for.
#[tokio::test]
async fn f17_a_lost_session_waits_for_the_store() {
    let cluster = Cluster::start().await;
    let store = Arc::new(Away::default());
    let (_node, client) = lost_over(&cluster, &store).await;
    store.set(true);
    has_to_wait(client.post(rpc::call(2, "echo")).await).await;
    has_to_wait(client.get().await).await;
    assert_eq!(cluster.upstream.requests("initialize").len(), 1);
    store.set(false);
    assert_eq!(client.post(rpc::call(3, "echo")).await.status, 200);
    assert!(client.get().await.is_stream());
    is_only_one(&cluster.upstream, 2).await;
}

/// F17, R101: a store that does not say whether it has the new session is asked again. As long as that is not known,
/// that session is not given back: others may be using it.
#[tokio::test]
async fn f17_a_session_that_is_opened_anew_is_stored_or_waits() {
    // The store had it, or not, is away then, or not; what the client gets, and how many sessions are opened.
    let cases = [
        (true, false, 200, 2),
        (false, false, 503, 3),
        (true, true, 503, 2),
        (false, true, 503, 3),
    ];
    for (is_done, then_away, status, opened) in cases {
        let cluster = Cluster::start().await;
        let store = Arc::new(Away::default());
        let (_node, client) = lost_over(&cluster, &store).await;
        *store.update.lock().unwrap() = Some(Late { is_done, then_away });
        let answer = client.post(rpc::call(2, "echo")).await;
        assert_eq!(answer.status, status, "{is_done} {then_away}");
        if status == 503 {
            has_to_wait(answer).await;
        }
        store.set(false);
        assert_eq!(client.post(rpc::call(3, "echo")).await.status, 200);
        is_only_one(&cluster.upstream, opened).await;
    }
}
