//! How long sessions last that several nodes know, and what is left of them when a node shuts down.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use thinpipe_proto::revision::Revision;
use thinpipe_proto::session::{Principal, SessionId};
use thinpipe_store::{Inbox, LogLimits, MemoryLog};
use thinpipe_testkit::{Connection, Gate, Response};
use thinpipe_transport::server::{
    Handler, Negotiated, Server, ServerConfig, Session, SessionEnd, SessionLimits, SharedStores,
    Stores,
};
use tokio::time::timeout;

use super::support::{Node, Shelf};
use super::way::Way;
use crate::support::{call, config, until};

const IDLE: Duration = Duration::from_secs(60);
const SWEEP: Duration = Duration::from_secs(6);
/// The shortest time that is left to a session where room is short.
const PRESSED: Duration = Duration::from_secs(300);

fn limits(idle: Duration) -> ServerConfig {
    let mut config = config();
    config.sessions = SessionLimits {
        idle,
        sweep: SWEEP,
        max: 4,
        ..SessionLimits::default()
    };
    config
}

impl Node {
    /// A session that any node serves, without a client.
    async fn open(&self) -> Arc<Session> {
        let handler = Arc::clone(&self.running.sample) as Arc<dyn Handler>;
        let sessions = self.running.server.sessions();
        let slot = sessions.reserve(handler, "sample".into(), Principal::Anonymous);
        let opened = slot.await.unwrap().open(Negotiated {
            revision: Revision::NEWEST_LEGACY,
            initialize_params: "{}".into(),
            attachment: Bytes::new(),
            held: false,
        });
        opened.await.unwrap()
    }

    /// The session, as a request here finds it.
    async fn find(&self, id: &SessionId) -> Option<Arc<Session>> {
        let handler = Arc::clone(&self.running.sample) as Arc<dyn Handler>;
        let sessions = self.running.server.sessions();
        let endpoint = "sample".into();
        let found = sessions.find(id, &Principal::Anonymous, &endpoint, &handler);
        found.await.unwrap()
    }

    fn ended(&self) -> Vec<SessionEnd> {
        self.sample().ended.lock().unwrap().clone()
    }
}

/// F11: a session that nobody uses on one node, but on another, is forgotten there and lives on; one that no node
/// uses ends once, and it is the last who used it that tells its server.
#[tokio::test(start_paused = true)]
async fn f11_a_session_is_idle_when_no_node_uses_it() {
    let shelf = Shelf::on_tokios_clock();
    let (one, other) = (
        shelf.node(limits(IDLE)).await,
        shelf.node(limits(IDLE)).await,
    );
    let id = one.open().await.id().clone();
    for _ in 0..20 {
        let session = other.find(&id).await.unwrap();
        drop(session.enter());
        drop(session);
        tokio::time::sleep(IDLE / 10).await;
    }
    assert_eq!(one.ended(), [SessionEnd::Forgotten]);
    assert_eq!((other.ended(), shelf.records().await), (vec![], 1));
    assert!(one.find(&id).await.is_some(), "it is taken up again");
    tokio::time::sleep(IDLE + 4 * SWEEP).await;
    assert_eq!(other.ended(), [SessionEnd::Forgotten]);
    assert_eq!(one.ended(), [SessionEnd::Forgotten, SessionEnd::Expired]);
    assert_eq!(shelf.records().await, 0);
}

/// F11: a session that is too old ends when nothing of it runs on any node; what is only now and then asked of it does
/// not make it last.
#[tokio::test(start_paused = true)]
async fn f11_a_session_that_is_old_outlives_what_runs_elsewhere() {
    let shelf = Shelf::on_tokios_clock();
    let mut config = limits(IDLE);
    config.sessions.age = 2 * IDLE;
    let (one, other) = (shelf.node(config.clone()).await, shelf.node(config).await);
    let session = one.open().await;
    let running = other.find(session.id()).await.unwrap().enter();
    for _ in 0..40 {
        drop(session.enter());
        tokio::time::sleep(IDLE / 10).await;
    }
    assert_eq!((one.ended(), other.ended()), (vec![], vec![]));
    assert_eq!(shelf.records().await, 1);
    drop(running);
    while !session.is_ended() {
        drop(session.enter());
        tokio::time::sleep(IDLE / 10).await;
    }
    assert_eq!(shelf.records().await, 0);
    assert_eq!(one.ended().len() + other.ended().len(), 2);
    assert!(
        one.ended().contains(&SessionEnd::Expired) || other.ended().contains(&SessionEnd::Expired)
    );
}

/// F11: where room is short, a node forgets what others can serve, and nothing ends.
#[tokio::test(start_paused = true)]
async fn f11_room_is_made_by_forgetting() {
    let shelf = Shelf::on_tokios_clock();
    // With every place taken, what nobody has used for five minutes gives way.
    let node = shelf.node(limits(2 * PRESSED)).await;
    for _ in 0..4 {
        node.open().await;
    }
    tokio::time::sleep(PRESSED).await;
    node.open().await;
    node.open().await;
    assert_eq!(node.ended(), [SessionEnd::Forgotten; 2]);
    assert_eq!(shelf.records().await, 6);
}

/// F8, C2: however many sessions other nodes have opened, one is served here: what was used least recently is forgotten,
/// and found again.
#[tokio::test(start_paused = true)]
async fn f8_a_full_table_keeps_no_session_of_other_nodes_out() {
    const LATER: Duration = Duration::from_millis(1);
    let shelf = Shelf::on_tokios_clock();
    let (one, other) = (
        shelf.node(limits(IDLE)).await,
        shelf.node(limits(IDLE)).await,
    );
    let mut ids = Vec::new();
    for node in [&one, &other] {
        for _ in 0..4 {
            ids.push(node.open().await.id().clone());
            tokio::time::sleep(LATER).await;
        }
    }
    for id in ids.iter().chain(&ids) {
        assert!(one.find(id).await.is_some());
        tokio::time::sleep(LATER).await;
    }
    assert_eq!(one.ended(), [SessionEnd::Forgotten; 12]);
    assert_eq!((other.ended(), shelf.records().await), (vec![], 8));
    // What is in use keeps its place.
    let found = [0, 1, 2, 3].map(|n| one.find(&ids[n]));
    let mut used = Vec::new();
    for session in found {
        used.push(session.await.unwrap().enter());
    }
    let handler = Arc::clone(&one.running.sample) as Arc<dyn Handler>;
    let (sessions, endpoint) = (one.running.server.sessions(), "sample".into());
    let find = || sessions.find(&ids[4], &Principal::Anonymous, &endpoint, &handler);
    assert!(find().await.is_err());
    // The table is not looked through for each who is refused.
    used.clear();
    assert!(find().await.is_err());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(find().await.unwrap().is_some());
}

/// F11, F17: a rolling restart loses no session: what any node serves is only forgotten, what was held is handed
/// over, and what cannot be ends.
#[tokio::test]
async fn f17_a_shutdown_leaves_sessions_to_the_others() {
    let shelf = Shelf::default();
    let [one, other] = shelf.passing().await;
    let passed = one.client().await;
    one.sample().holds.store(true, Ordering::SeqCst);
    let held = one.client().await;
    for node in [&one, &other] {
        node.sample().adopts.store(true, Ordering::SeqCst);
    }
    one.running.server.shut_down().await;
    let ended = [SessionEnd::Forgotten, SessionEnd::Forgotten];
    assert_eq!(*one.sample().ended.lock().unwrap(), ended);
    assert_eq!(shelf.records().await, 2);
    for client in [&passed, &held] {
        let visitor = other.as_client(client);
        assert_eq!(visitor.post(call(1, "echo")).await.status, 200);
    }
    assert_eq!(other.sample().adopted.load(Ordering::SeqCst), 1);
}

/// F17, C22: while a node drains, what it holds and nobody uses there goes to whoever asks for it elsewhere; what runs
/// is finished, and what is asked for meanwhile is done after it, by the next node: nobody is refused.
#[tokio::test]
async fn f17_a_node_that_drains_gives_up_sessions_that_are_asked_for() {
    let shelf = Shelf::default();
    let [one, other] = shelf.holding().await;
    for node in [&one, &other] {
        node.sample().adopts.store(true, Ordering::SeqCst);
    }
    let (busy, idle) = (one.client().await, one.client().await);
    let gate = Gate::new();
    *one.sample().gate.lock().unwrap() = gate.clone();
    let running = other.as_client(&busy).post(call(1, "wait")).send().await;
    gate.reached().await;
    tokio::join!(one.running.server.shut_down(), async {
        one.running.server.draining().cancelled().await;
        let asked = other.as_client(&idle).post(call(2, "echo")).await;
        assert_eq!(asked.status, 200);
        let visitor = other.as_client(&busy);
        let waiting = [
            visitor.post(call(3, "echo")).send().await,
            visitor.post(call(4, "echo")).send().await,
        ];
        let nodes = one.running.server.nodes().unwrap();
        until("they wait", || nodes.stats().served == 3).await;
        assert_eq!(other.sample().adopted.load(Ordering::SeqCst), 1);
        gate.open();
        assert_eq!(running.response().await.status, 200);
        for waiting in waiting {
            assert_eq!(waiting.response().await.status, 200);
        }
    });
    let begun = [&one, &other].map(|node| node.sample().begun.load(Ordering::SeqCst));
    assert_eq!(begun, [1, 3]);
    assert_eq!(other.sample().adopted.load(Ordering::SeqCst), 2);
}

/// The same where what runs does not end in time: what waits for it is done all the same. A session that cannot be handed
/// over is not waited for.
#[tokio::test]
async fn f17_who_waits_for_a_node_that_drains_waits_no_longer_than_that() {
    for adopts in [true, false] {
        let shelf = Shelf::default();
        let mut config = config();
        config.limits.drain = Duration::from_millis(300);
        let (one, other) = (shelf.node(config.clone()).await, shelf.node(config).await);
        for node in [&one, &other] {
            node.sample().holds.store(true, Ordering::SeqCst);
            node.sample().adopts.store(adopts, Ordering::SeqCst);
        }
        let client = one.client().await;
        let gate = Gate::new();
        *one.sample().gate.lock().unwrap() = gate.clone();
        let _running = other.as_client(&client).post(call(1, "wait")).send().await;
        gate.reached().await;
        tokio::join!(one.running.server.shut_down(), async {
            one.running.server.draining().cancelled().await;
            let asked = other.as_client(&client).post(call(2, "echo")).await;
            let refused_by = asked.header("retry-after").is_some();
            assert_eq!((asked.status == 200, refused_by), (adopts, !adopts));
        });
    }
}

/// C22, F17: who comes over a connection that is open is answered while a node drains, the last time there: no balancer
/// can know yet. New connections are for the others, and so are new streams.
#[tokio::test]
async fn c22_a_node_that_drains_refuses_nobody_whom_others_serve() {
    let shelf = Shelf::default();
    let [one, _other] = shelf.passing().await;
    let client = one.client().await;
    let address = client.address();
    let open = async || Connection::try_open(address, None).await.unwrap();
    let (for_call, for_stream) = (open().await, open().await);
    until("both are served", || {
        one.running.server.stats().connections_open >= 2
    })
    .await;
    let acceptor = one.running.server.acceptor();
    tokio::join!(one.running.server.shut_down(), async {
        acceptor.closing().await;
        drop(acceptor);
        let answered = client.post(call(1, "echo")).on(for_call).await;
        let closes = answered.header("connection").map(str::to_owned);
        assert_eq!((answered.status, closes.as_deref()), (200, Some("close")));
        let refused = client.get().on(for_stream).await;
        assert_eq!(refused.status, 503);
    });
}

/// F17: what cannot outlive its process ends with it, and its record goes.
#[tokio::test]
async fn f17_what_cannot_be_handed_over_ends() {
    let shelf = Shelf::default();
    let [one, other] = shelf.holding().await;
    let client = one.client().await;
    one.running.server.shut_down().await;
    assert_eq!(*one.sample().ended.lock().unwrap(), [SessionEnd::ShutDown]);
    assert_eq!(shelf.records().await, 0);
    assert_eq!(
        other.as_client(&client).post(call(1, "echo")).await.status,
        404
    );
}

/// 5.9.25: nothing is left of a server that is dropped without having been shut down, also not of its way to the
/// stores.
#[tokio::test(start_paused = true)]
async fn a30_a_server_that_is_dropped_lets_go_of_its_stores() {
    let way = Arc::<Way>::default();
    let stores = Stores {
        sessions: Arc::clone(&way) as _,
        shared: Some(SharedStores {
            log: Arc::new(MemoryLog::new(LogLimits::default())),
            inbox: Arc::clone(&way) as _,
        }),
    };
    let server = Server::builder(config()).stores(stores).build();
    let this = server.nodes().unwrap().this().clone();
    while !way.nodes().await.unwrap().contains(&this) {
        tokio::task::yield_now().await;
    }
    drop(server);
    let gone = timeout(Duration::from_secs(5), async {
        while Arc::strong_count(&way) > 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(gone.await.is_ok(), "{} have it", Arc::strong_count(&way));
}

/// C22: streams that are carried to another node end as those here do, when either of the two shuts down.
#[tokio::test]
async fn c22_streams_between_nodes_end_at_shutdown() {
    let shelf = Shelf::default();
    let [one, other, third] = shelf.holding().await;
    let client = one.client().await;
    let mut by_other = other.as_client(&client).get().await;
    let mut by_third = third.as_client(&client).get().await;
    let listening = one.sample().newest_stream();
    tokio::join!(other.running.server.shut_down(), ends(&mut by_other));
    listening.send("data: 1\n\n".into()).await.unwrap();
    assert_eq!(by_third.next_event().await.unwrap().data.unwrap(), "1");
    tokio::join!(one.running.server.shut_down(), ends(&mut by_third));
    third.is_idle().await;
}

/// The client is told to come back, and the stream ends.
async fn ends(stream: &mut Response) {
    assert_eq!(stream.next_event().await.unwrap().retry, Some(1000));
    assert_eq!(stream.next_event().await, None);
}
