//! Sessions in a store that the transport knows nothing of.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use thinpipe_proto::session::SessionId;
use thinpipe_store::{BoxFuture, MemoryStore, SessionRecord, SessionStore, StoreError, Version};

use super::support::{call, config, start_with_store};

/// Keeps sessions in memory, and counts.
#[derive(Default)]
struct Counting {
    memory: MemoryStore,
    created: AtomicUsize,
    deleted: AtomicUsize,
    others: AtomicUsize,
}

impl Counting {
    fn seen(&self) -> [usize; 3] {
        [&self.created, &self.deleted, &self.others].map(|count| count.load(Ordering::SeqCst))
    }

    fn count(&self, what: &AtomicUsize) -> &MemoryStore {
        what.fetch_add(1, Ordering::SeqCst);
        &self.memory
    }
}

type Stored = Option<(SessionRecord, Version)>;

impl SessionStore for Counting {
    fn create<'a>(
        &'a self,
        record: &'a SessionRecord,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.count(&self.created).create(record, ttl)
    }

    fn get<'a>(&'a self, id: &'a SessionId) -> BoxFuture<'a, Result<Stored, StoreError>> {
        self.count(&self.others).get(id)
    }

    fn get_many<'a>(
        &'a self,
        ids: &'a [SessionId],
    ) -> BoxFuture<'a, Result<Vec<Stored>, StoreError>> {
        self.count(&self.others).get_many(ids)
    }

    fn update<'a>(
        &'a self,
        record: &'a SessionRecord,
        expected: Version,
    ) -> BoxFuture<'a, Result<Version, StoreError>> {
        self.count(&self.others).update(record, expected)
    }

    fn touch<'a>(
        &'a self,
        id: &'a SessionId,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.count(&self.others).touch(id, ttl)
    }

    fn delete<'a>(&'a self, id: &'a SessionId) -> BoxFuture<'a, Result<bool, StoreError>> {
        self.count(&self.deleted).delete(id)
    }

    fn count(&self) -> BoxFuture<'_, Result<usize, StoreError>> {
        self.memory.count()
    }

    fn list<'a>(
        &'a self,
        after: Option<&'a SessionId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<SessionId>, StoreError>> {
        self.memory.list(after, limit)
    }
}

/// F2, D8: a store of somebody else's is used as the memory store is: a session is created in it before the
/// client learns of it, streams are opened for sessions in it only, and DELETE takes it out. No message asks it.
#[tokio::test]
async fn f2_sessions_live_in_the_store_that_was_given() {
    let store = Arc::new(Counting::default());
    let running = start_with_store(config(), Arc::clone(&store) as _).await;
    let client = running.client("2025-11-25").await;
    assert_eq!(store.seen()[0], 1);
    let ids = store.list(None, 10).await.expect("memory does not fail");
    assert_eq!(
        ids.iter().map(SessionId::as_str).collect::<Vec<_>>(),
        client.session().as_slice()
    );

    let stream = client.get().await;
    let before = store.seen();
    for id in 0..20 {
        assert_eq!(client.post(call(id, "echo")).await.status, 200);
    }
    assert_eq!(store.seen(), before, "trap 18: no look-up for a message");

    assert_eq!(client.delete().await.status, 202);
    assert_eq!(
        (store.seen()[1], SessionStore::count(&*store).await.ok()),
        (1, Some(0))
    );
    assert_eq!(
        client.get().await.status,
        404,
        "there is no stream without a session"
    );
    drop(stream);
}

/// F4, B7: what is stored of a session is who and what it is; nothing of its messages, and no cursor.
#[tokio::test]
async fn f4_no_message_is_stored() {
    let store = Arc::new(Counting::default());
    let running = start_with_store(config(), Arc::clone(&store) as _).await;
    let client = running.client("2025-11-25").await;
    let secret = call(1, "echo").replace("echo", "a secret tool");
    client.post(secret).await.read_to_end().await;
    client.resume("a-cursor").await.close();
    let ids = store.list(None, 10).await.expect("memory does not fail");
    let stored = store.get(&ids[0]).await.expect("memory does not fail");
    // Whole, so that what is added to it is looked at here.
    let SessionRecord {
        id,
        principal: _,
        endpoint,
        revision,
        initialize_params,
        upstream_session,
        created_ms: _,
    } = stored.expect("a record").0;
    assert_eq!(
        (id, endpoint.as_str(), revision.as_str()),
        (ids[0].clone(), "sample", "2025-11-25")
    );
    assert_eq!(upstream_session, None);
    let params = String::from_utf8_lossy(&initialize_params);
    assert!(
        params.contains("clientInfo") && !params.contains("secret") && !params.contains("cursor")
    );
}
