//! Nodes in one process, each with a way to its stores that can be cut.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use thinpipe_proto::session::{NodeId, SessionId};
use thinpipe_store::{
    Inbox, LogLimits, MemoryInbox, MemoryLog, MemoryStore, SessionStore, StoreError,
};
use thinpipe_testkit::Client;
use thinpipe_transport::server::{
    Handler, Server, ServerConfig, SharedStores, SseConfig, SseEndpoint, Stores,
};
use tokio::net::TcpListener;

use super::visitor::Visitor;
use super::way::Way;
use crate::support::{Running, Sample, config, until};

/// What all nodes share.
#[derive(Clone)]
pub(crate) struct Shelf {
    pub(crate) sessions: Arc<MemoryStore>,
    pub(crate) inbox: Arc<MemoryInbox>,
    pub(crate) log: Arc<MemoryLog>,
}

/// A node, and its way to the stores.
pub(crate) struct Node {
    pub(crate) running: Running,
    pub(crate) way: Arc<Way>,
}

impl Default for Shelf {
    fn default() -> Self {
        Self {
            sessions: Arc::default(),
            inbox: Arc::default(),
            log: Arc::new(MemoryLog::new(LogLimits::default())),
        }
    }
}

impl Shelf {
    /// For tests whose time is paused.
    pub(crate) fn on_tokios_clock() -> Self {
        let now = || tokio::time::Instant::now().into_std();
        Self {
            sessions: Arc::new(MemoryStore::with_clock(now)),
            inbox: Arc::new(MemoryInbox::with_clock(now)),
            log: Arc::new(MemoryLog::with_clock(LogLimits::default(), now)),
        }
    }

    /// So many nodes whose handlers hold their sessions.
    pub(crate) async fn holding<const N: usize>(&self) -> [Node; N] {
        let nodes = self.passing().await;
        for node in &nodes {
            node.running.sample.holds.store(true, Ordering::SeqCst);
        }
        nodes
    }

    /// So many nodes whose sessions any of them serves.
    pub(crate) async fn passing<const N: usize>(&self) -> [Node; N] {
        let mut nodes = Vec::new();
        for _ in 0..N {
            nodes.push(self.node(config()).await);
        }
        nodes.try_into().ok().unwrap()
    }

    /// A node that is alive for the others.
    pub(crate) async fn node(&self, config: ServerConfig) -> Node {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let sample = Arc::new(Sample::default());
        let handler: Arc<dyn Handler> = Arc::clone(&sample) as _;
        let way = Arc::new(Way {
            shelf: self.clone(),
            ..Way::default()
        });
        let server = Server::builder(config)
            .endpoint("/mcp", "sample", Arc::clone(&handler))
            .sse_endpoint(SseEndpoint {
                sse_path: "/sse".to_owned(),
                messages_path: "/messages".to_owned(),
                name: "sample".into(),
                handler,
                config: SseConfig::default(),
                observer: None,
            })
            .stores(Stores {
                sessions: Arc::clone(&way) as _,
                shared: Some(SharedStores {
                    log: Arc::clone(&self.log) as _,
                    inbox: Arc::clone(&way) as _,
                }),
            })
            .build();
        let accepting = server.clone();
        server.spawn(async move { accepting.serve(listener).await.expect("accepting goes on") });
        let node = Node {
            running: Running {
                server,
                sample,
                address,
                url: format!("http://{address}/mcp"),
            },
            way,
        };
        let this = node.name();
        while !self.inbox.nodes().await.unwrap().contains(&this) {
            tokio::task::yield_now().await;
        }
        node
    }

    /// How many records there are.
    pub(crate) async fn records(&self) -> usize {
        self.sessions.count().await.unwrap()
    }

    /// Whose a session is.
    pub(crate) async fn owner(&self, session: &str) -> Option<NodeId> {
        let id = SessionId::from_bytes(Bytes::copy_from_slice(session.as_bytes())).unwrap();
        let found = self.sessions.get(&id).await.unwrap();
        found.and_then(|(record, _)| record.owner)
    }

    /// Until the others take a node for dead.
    pub(crate) async fn buried(&self, node: &Node) {
        let this = node.name();
        while self.inbox.nodes().await.unwrap().contains(&this) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Node {
    pub(crate) fn name(&self) -> NodeId {
        self.running.server.nodes().unwrap().this().clone()
    }

    pub(crate) fn sample(&self) -> &Sample {
        &self.running.sample
    }

    /// A client with a session that was opened here.
    pub(crate) async fn client(&self) -> Client {
        self.running.client("2025-11-25").await
    }

    /// A client with the session of another one, whose requests come here.
    pub(crate) fn as_client(&self, client: &Client) -> Visitor<'_> {
        Visitor::new(self, client)
    }

    /// It can reach nobody, and nobody it: to the others it is dead.
    pub(crate) fn cut(&self) {
        self.way.is_cut.store(true, Ordering::SeqCst);
    }

    pub(crate) fn mend(&self) {
        self.way.is_cut.store(false, Ordering::SeqCst);
    }

    /// It can reach the stores again, which do not take its beats yet.
    pub(crate) async fn mend_without_beats(&self) {
        self.way.beats_late.store(true, Ordering::SeqCst);
        self.mend();
        while !self.way.is_beating.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// The stores take what they have not taken yet.
    pub(crate) fn let_beat(&self) {
        self.way.beats_late.store(false, Ordering::SeqCst);
    }

    /// The record of this session is none that it can read.
    pub(crate) fn cannot_read(&self, session: &str) {
        self.fails_to_read(session, || {
            StoreError::Unreadable("it is of version 2".into())
        });
    }

    /// The record of this session is damaged, until it is deleted.
    pub(crate) fn finds_damaged(&self, session: &str) {
        self.fails_to_read(session, || StoreError::Damaged("it is cut off".into()));
    }

    fn fails_to_read(&self, session: &str, why: fn() -> StoreError) {
        let id = SessionId::from_bytes(Bytes::copy_from_slice(session.as_bytes()));
        *self.way.unreadable.lock().unwrap() = Some((id.unwrap(), why));
    }

    /// It takes nothing from its inbox any more.
    pub(crate) async fn deafen(&self) {
        self.way.is_deaf.store(true, Ordering::SeqCst);
        until("it hears nothing any more", || {
            self.way.hears_nothing.load(Ordering::SeqCst)
        })
        .await;
    }

    /// It takes what waits in its inbox again.
    pub(crate) fn undeafen(&self) {
        self.way.is_deaf.store(false, Ordering::SeqCst);
    }

    /// The list of all nodes is out of its reach.
    pub(crate) fn lose_list(&self) {
        self.way.has_no_list.store(true, Ordering::SeqCst);
    }

    /// The next message that it sends is lost on the way.
    pub(crate) fn lose_one(&self) {
        self.way.is_mute.store(true, Ordering::SeqCst);
    }

    /// The store does not take the next message that it sends.
    pub(crate) fn fail_one(&self) {
        self.way.fails.store(true, Ordering::SeqCst);
    }

    /// The store takes no message any more that it sends.
    pub(crate) fn fail_all(&self) {
        self.way.fails_always.store(true, Ordering::SeqCst);
    }

    /// Whether the store has no memory for what it says.
    pub(crate) fn fill(&self, is_full: bool) {
        self.way.is_full.store(is_full, Ordering::SeqCst);
    }

    /// The store does not take its next touch of a record.
    pub(crate) fn fail_touch(&self) {
        self.way.fails_touch.store(true, Ordering::SeqCst);
    }

    /// The store does not take its next update of a record.
    pub(crate) fn fail_update(&self) {
        self.way.fails_update.store(true, Ordering::SeqCst);
    }

    /// The store does its next update of a record, and does not say so.
    pub(crate) fn doubt_update(&self) {
        self.way.doubts_update.store(true, Ordering::SeqCst);
    }

    /// The store does not delete the record that it is to delete next.
    pub(crate) fn fail_delete(&self) {
        self.way.fails_delete.store(true, Ordering::SeqCst);
    }

    /// The store takes the next message that it sends, and does not say so.
    pub(crate) fn doubt_one(&self) {
        self.way.doubts.store(true, Ordering::SeqCst);
    }

    /// Messages that it has sent to other nodes.
    pub(crate) fn sent(&self) -> usize {
        self.way.sent.load(Ordering::SeqCst)
    }

    /// Whether it is still to be lost.
    pub(crate) fn is_mute(&self) -> bool {
        self.way.is_mute.load(Ordering::SeqCst)
    }

    /// Nothing is open any more.
    pub(crate) async fn is_idle(&self) {
        let nodes = self.running.server.nodes().unwrap().clone();
        until("nothing is open between nodes", || {
            let stats = nodes.stats();
            (stats.asked, stats.served) == (0, 0)
        })
        .await;
    }
}
