//! What a client has set up, in a store that fails now and then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use thinpipe_proto::session::SessionId;
use thinpipe_store::{
    BoxFuture, MemoryStore, SessionRecord, SessionStore, StoreError, Version, Versioned,
};
use thinpipe_testkit::{Client, eventually, rpc};

use crate::nodes::{REVISION, two_over};

/// Sessions in memory.
#[derive(Default)]
struct Doubtful {
    store: MemoryStore,
    /// It does what it is asked to write next, and does not say so.
    doubts: AtomicBool,
}

impl Doubtful {
    /// What is attached to the only session.
    async fn attached(&self) -> String {
        let ids = self.store.list(None, 1).await.unwrap();
        let (record, _) = self.store.get(&ids[0]).await.unwrap().unwrap();
        String::from_utf8(record.attachment.to_vec()).unwrap()
    }
}

impl SessionStore for Doubtful {
    fn create<'a>(
        &'a self,
        record: &'a SessionRecord,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.store.create(record, ttl)
    }

    fn get<'a>(
        &'a self,
        id: &'a SessionId,
    ) -> BoxFuture<'a, Result<Option<Versioned>, StoreError>> {
        self.store.get(id)
    }

    fn get_many<'a>(
        &'a self,
        ids: &'a [SessionId],
    ) -> BoxFuture<'a, Result<Vec<Option<Versioned>>, StoreError>> {
        self.store.get_many(ids)
    }

    fn update<'a>(
        &'a self,
        record: &'a SessionRecord,
        expected: Version,
    ) -> BoxFuture<'a, Result<Version, StoreError>> {
        Box::pin(async move {
            let written = self.store.update(record, expected).await?;
            match self.doubts.swap(false, Ordering::SeqCst) {
                true => Err(StoreError::Unavailable("no answer".into())),
                false => Ok(written),
            }
        })
    }

    fn touch<'a>(
        &'a self,
        id: &'a SessionId,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.store.touch(id, ttl)
    }

    fn delete<'a>(&'a self, id: &'a SessionId) -> BoxFuture<'a, Result<bool, StoreError>> {
        self.store.delete(id)
    }

    fn count(&self) -> BoxFuture<'_, Result<usize, StoreError>> {
        self.store.count()
    }

    fn list<'a>(
        &'a self,
        after: Option<&'a SessionId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<SessionId>, StoreError>> {
        self.store.list(after, limit)
    }
}

/// 5.8, F17: what a client sets up is stored, though the store has not said that it has stored what came before; another
/// process goes on with all of it.
#[tokio::test]
async fn f17_what_is_set_up_is_stored_after_a_lost_answer() {
    let store = Arc::new(Doubtful::default());
    let [one, other] = two_over(Arc::clone(&store) as _, true).await;
    let mut client = Client::new(&one.url);
    client.initialize(REVISION).await;
    let uris = ["file:///a", "file:///b"];
    store.doubts.store(true, Ordering::SeqCst);
    for (id, uri) in uris.into_iter().enumerate() {
        let subscribe = rpc::request(id, "resources/subscribe", &json!({ "uri": uri }));
        let mut answer = client.post(subscribe).await;
        assert_eq!(answer.answer().await["result"], json!({}));
        eventually("it is stored", async || {
            let attached = store.attached().await;
            attached.contains(uri).then_some(()).ok_or(attached)
        })
        .await;
    }
    one.server.shut_down().await;
    let mut stream = other.get(&client).await;
    assert_eq!(stream.status, 200);
    for uri in uris {
        other.server.notifier().resource_updated(uri).await;
    }
    // Whatever was told of the takeover, both of them are heard of.
    for uri in uris {
        while stream.next_message().await["params"]["uri"] != uri {}
    }
}
