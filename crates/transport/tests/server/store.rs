//! Sessions in a store that the transport knows nothing of.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use thinpipe_proto::revision::{Binding, Revision};
use thinpipe_proto::session::{Principal, SessionId};
use thinpipe_store::{BoxFuture, MemoryStore, SessionRecord, SessionStore, StoreError, Version};

use thinpipe_testkit::Gate;
use thinpipe_transport::server::{
    Handler, Negotiated, Session, SessionEnd, SessionError, SessionLimits, SessionManager,
    SessionSlot,
};
use tokio_util::task::TaskTracker;

use super::support::{Running, Sample, call, config, start_with_store};

/// Keeps sessions in memory, and counts.
#[derive(Default)]
struct Counting {
    memory: MemoryStore,
    created: AtomicUsize,
    deleted: AtomicUsize,
    others: AtomicUsize,
    /// Nothing is deleted before this opens.
    hold: Option<Gate>,
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
        Box::pin(async move {
            if let Some(hold) = &self.hold {
                hold.pass().await;
            }
            self.count(&self.deleted).delete(id).await
        })
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
        binding: _,
        revision,
        initialize_params,
        attachment,
        owner: _,
        created_ms: _,
    } = stored.expect("a record").0;
    assert_eq!(
        (id, &*endpoint, revision.as_str()),
        (ids[0].clone(), "sample", "2025-11-25")
    );
    assert_eq!(attachment, "the handler's own", "F7: as it was given");
    let params = String::from_utf8_lossy(&initialize_params);
    assert!(
        params.contains("clientInfo") && !params.contains("secret") && !params.contains("cursor")
    );
}

/// A server whose store deletes nothing before this opens.
async fn start_holding() -> (Running, Gate) {
    let hold = Gate::default();
    let store = Arc::new(Counting {
        hold: Some(hold.clone()),
        ..Counting::default()
    });
    (start_with_store(config(), store).await, hold)
}

/// D8, 5.8.9: a session that its client deletes ends with its record, not before: that may be refused.
#[tokio::test]
async fn d8_a_deleted_session_ends_with_its_record() {
    let (running, hold) = start_holding().await;
    let client = running.client("2025-11-25").await;
    let deleting = client.delete().send().await;
    hold.reached().await;
    assert_eq!(client.post(call(1, "echo")).await.status, 200);
    assert!(running.sample.ended.lock().unwrap().is_empty());
    hold.open();
    assert_eq!(deleting.response().await.status, 202);
    assert_eq!(client.post(call(2, "echo")).await.status, 404);
    assert_eq!(running.server.stats().sessions, 0);
    assert_eq!(running.sample.ended.lock().unwrap().len(), 1);
}

/// D8: a session that is ending does not come back for who asks for it before its record is gone.
#[tokio::test]
async fn d8_a_session_that_has_ended_stays_so() {
    let (running, hold) = start_holding().await;
    let client = running.client("2025-11-25").await;
    let sessions = running.server.sessions();
    let session = sessions.list().pop().unwrap();
    let (ended, ()) = tokio::join!(sessions.end(&session, SessionEnd::Expired), async {
        hold.reached().await;
        assert_eq!(client.post(call(1, "echo")).await.status, 404);
        assert!(sessions.list().is_empty());
        hold.open();
    });
    ended.unwrap();
    assert_eq!(client.post(call(2, "echo")).await.status, 404);
    assert_eq!(running.server.stats().sessions, 0);
    assert_eq!(running.sample.ended.lock().unwrap().len(), 1);
}

/// F11: a sweep of thousands of sessions does not wait for the store as often.
#[tokio::test(start_paused = true)]
async fn f11_sessions_are_swept_side_by_side() {
    let hold = Gate::default();
    let opening = Opening::over(
        Counting {
            hold: Some(hold.clone()),
            ..Counting::default()
        },
        SessionLimits::default(),
    );
    for _ in 0..100 {
        opening.open().await;
    }
    tokio::time::advance(SessionLimits::default().idle).await;
    tokio::join!(opening.sessions.sweep(), async {
        hold.reached_times(64).await;
        hold.open();
    });
    assert_eq!(opening.store.seen()[1], 100);
    assert_eq!(opening.sessions.stats().live, 0);
}

/// A record that some other process left in the store.
async fn left_behind(store: &Counting, attachment: &'static str) -> SessionRecord {
    let record = SessionRecord {
        id: SessionId::from_random([7; 16]),
        principal: Principal::Anonymous,
        endpoint: "sample".into(),
        binding: Binding::Sessions,
        revision: Revision::NEWEST_LEGACY,
        initialize_params: "{}".into(),
        attachment: attachment.into(),
        owner: None,
        created_ms: 0,
    };
    let ttl = Duration::from_secs(60);
    let created = store.create(&record, ttl).await;
    created.expect("memory does not fail");
    record
}

async fn take_up(running: &Running, record: &SessionRecord) -> Arc<Session> {
    let owner: Arc<dyn Handler> = Arc::clone(&running.sample) as _;
    let sessions = running.server.sessions();
    let endpoint = "sample".into();
    let found = sessions.find(&record.id, &record.principal, &endpoint, &owner);
    let found = found.await.expect("memory does not fail");
    found.expect("the session is taken up")
}

/// F11: a session is as old as its record, also where it was taken up only now.
#[tokio::test]
async fn f11_age_counts_from_the_record() {
    let store = Arc::new(Counting::default());
    let record = left_behind(&store, "").await;
    let running = start_with_store(config(), store).await;
    assert!(!take_up(&running, &record).await.is_ended());
    running.server.sessions().sweep().await;
    assert_eq!(*running.sample.ended.lock().unwrap(), [SessionEnd::Expired]);
}

/// F16: what clients say alike in `initialize` is there once for all their sessions, those among them that were taken
/// up from a record.
#[tokio::test]
async fn f16_what_clients_say_alike_is_kept_once() {
    let store = Arc::new(Counting::default());
    let running = start_with_store(config(), Arc::clone(&store) as _).await;
    let _clients = [
        running.client("2025-11-25").await,
        running.client("2025-11-25").await,
    ];
    let sessions = running.server.sessions().list();
    let [one, other] = &sessions[..] else {
        panic!("two sessions: {sessions:?}");
    };
    let shared = one.initialize_params();
    assert!(!shared.is_empty());
    assert_eq!(other.initialize_params().as_ptr(), shared.as_ptr());
    let record = SessionRecord {
        id: SessionId::from_random([7; 16]),
        initialize_params: Bytes::copy_from_slice(&shared),
        ..one.record()
    };
    let created = store.create(&record, Duration::from_secs(60)).await;
    created.expect("memory does not fail");
    let taken_up = take_up(&running, &record).await;
    assert_eq!(taken_up.initialize_params().as_ptr(), shared.as_ptr());
    assert!(taken_up.record() == record);
}

/// F7: the transport knows one id, its own. What its handler needs besides (a gateway: the server's id) goes
/// with the record from one process to the next, as it is, and whoever takes the session up can replace it.
#[tokio::test]
async fn f7_what_the_handler_attaches_goes_with_the_record() {
    let store = Arc::new(Counting::default());
    let record = left_behind(&store, "\u{0}not an id\u{7f}").await;
    let running = start_with_store(config(), Arc::clone(&store) as _).await;
    let session = take_up(&running, &record).await;
    assert_eq!(session.attachment(), record.attachment);
    let sessions = running.server.sessions();
    let set = sessions.set_attachment(&session, "another".into()).await;
    set.expect("memory does not fail");
    assert_eq!(session.attachment(), "another");
    let stored = store.get(&record.id).await.expect("memory does not fail");
    let (stored, version) = stored.expect("a record");
    assert_eq!(
        (&*stored.attachment, version),
        (&b"another"[..], Version(2))
    );
    assert_eq!(stored.initialize_params, record.initialize_params);
    // It is nothing that a client gets to see.
    let client = running.client("2025-11-25").await;
    let mut response = client.post(call(1, "echo")).await;
    let body = response.read_to_end().await;
    let shown = format!("{response:?} {}", String::from_utf8_lossy(&body));
    assert!(!shown.contains("handler's own"), "{shown}");
}

/// Sessions of nobody's, without a server.
struct Opening {
    sessions: SessionManager,
    store: Arc<Counting>,
}

impl Opening {
    fn new(limits: SessionLimits) -> Self {
        Self::over(Counting::default(), limits)
    }

    fn over(store: Counting, limits: SessionLimits) -> Self {
        let store = Arc::new(store);
        Self {
            sessions: SessionManager::new(Arc::clone(&store) as _, limits, TaskTracker::new()),
            store,
        }
    }

    async fn reserve(&self) -> Result<SessionSlot, SessionError> {
        let owner = Arc::new(Sample::default());
        let (endpoint, principal) = ("sample".into(), Principal::Anonymous);
        self.sessions.reserve(owner, endpoint, principal).await
    }

    async fn open(&self) {
        let slot = self.reserve().await.expect("a place");
        let opened = slot.open(Negotiated {
            revision: Revision::NEWEST_LEGACY,
            initialize_params: "{}".into(),
            attachment: Bytes::new(),
            held: false,
        });
        opened.await.expect("memory does not fail");
    }

    async fn is_full(&self) -> bool {
        matches!(self.reserve().await, Err(SessionError::Full { .. }))
    }
}

/// B6, F11: with every place taken, a refused client does not cost a pass over the table: expired
/// sessions are looked for once a second, and those that live on are left alone.
#[tokio::test(start_paused = true)]
async fn b6_a_full_table_is_looked_through_once_a_second() {
    let opening = Opening::new(SessionLimits {
        max: 3,
        ..SessionLimits::default()
    });
    for _ in 0..3 {
        opening.open().await;
    }
    // A full table ends what nobody used for five minutes.
    tokio::time::advance(Duration::from_millis(299_500)).await;
    for _ in 0..100 {
        assert!(opening.is_full().await);
    }
    assert_eq!(opening.store.seen(), [3, 0, 0], "nobody's record was asked");
    tokio::time::advance(Duration::from_millis(600)).await;
    assert!(
        opening.is_full().await,
        "all have expired, but looked for not yet"
    );
    tokio::time::advance(Duration::from_millis(500)).await;
    assert!(!opening.is_full().await);
    assert!(opening.store.seen()[1] > 0);
}
