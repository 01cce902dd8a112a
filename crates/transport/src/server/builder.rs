//! Putting a server together.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use thinpipe_proto::classify::Served;
use thinpipe_proto::session::NodeId;
use thinpipe_store::{MemoryStore, SessionStore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::permit::{Budget, Counters};
use super::{
    Endpoint, Handler, LegacyMode, Nodes, Route, Server, ServerConfig, SessionManager, Shared,
    SseBroadcaster, Stores, mounted,
};
use crate::{ByteBudget, Random};

/// Builds a [`Server`].
#[must_use]
pub struct ServerBuilder {
    config: ServerConfig,
    pub(super) routes: HashMap<String, Route>,
    stores: Stores,
    buffered: ByteBudget,
    random: Random,
    pub(super) when_built: Vec<mounted::Attach>,
}

impl ServerBuilder {
    pub(super) fn new(config: ServerConfig) -> Self {
        Self {
            buffered: ByteBudget::new(config.limits.max_buffered),
            config,
            random: Random::default(),
            routes: HashMap::new(),
            stores: Stores {
                sessions: Arc::new(MemoryStore::new()),
                shared: None,
            },
            when_built: Vec::new(),
        }
    }

    /// Serves `handler` at `path`; `name` tells endpoints apart in logs and in the session store.
    pub fn endpoint(
        mut self,
        path: impl Into<String>,
        name: impl Into<Arc<str>>,
        handler: Arc<dyn Handler>,
    ) -> Self {
        let endpoint = Endpoint {
            name: name.into(),
            handler,
        };
        let route = Route::Mcp(Arc::new(endpoint));
        self.routes.insert(path.into(), route);
        self
    }

    /// Keeps sessions in this store instead of in memory.
    pub fn store(mut self, store: Arc<dyn SessionStore>) -> Self {
        self.stores.sessions = store;
        self
    }

    /// Keeps sessions, and what nodes share, in these stores. With [`Stores::shared`] the server is one of several:
    /// each takes any request, and sends what only another can answer there.
    pub fn stores(mut self, stores: Stores) -> Self {
        self.stores = stores;
        self
    }

    /// Draws ids of sessions, nodes and streams from here instead of from the operating system.
    pub fn random(mut self, random: Random) -> Self {
        self.random = random;
        self
    }

    /// What is held whole comes out of this budget, [`Limits::max_buffered`](super::Limits::max_buffered): for handlers that have
    /// to hold something whole too.
    #[must_use]
    pub fn buffered(&self) -> &ByteBudget {
        &self.buffered
    }

    /// The server; it serves nothing until it is given connections. Must be called inside a tokio
    /// runtime that lives as long as the server, since the sweep of sessions runs there, and the heartbeat of a
    /// node.
    ///
    /// # Panics
    /// If it is one of several nodes and there are no random numbers to name it.
    #[must_use]
    pub fn build(self) -> Server {
        let tasks = TaskTracker::new();
        let limits = self.config.limits;
        let carried = self.config.carried_headers.clone();
        let random = self.random;
        let named = |stores| Nodes::new(stores, name(&random), carried);
        let nodes = self.stores.shared.map(named);
        let (store, among) = (self.stores.sessions, self.config.sessions);
        let sessions = SessionManager::among(nodes.clone(), store, among, tasks.clone(), random);
        sessions.serves(self.routes.values().filter_map(endpoint_of));
        let draining = CancellationToken::new();
        sessions.start_sweeping(draining.clone());
        let legacy = self.config.legacy == LegacyMode::Served;
        let mut routes = self.routes.values();
        let has_sse = routes.any(|route| matches!(route, Route::Sse(..)));
        let shared = Shared {
            served: Served {
                legacy,
                modern: true,
            },
            routes: self.routes.into_iter().collect(),
            has_sse,
            broadcaster: SseBroadcaster::default(),
            sessions,
            connections: Budget::new(limits.max_connections),
            requests: Budget::new(limits.max_requests),
            late_requests: Budget::new(limits.max_requests),
            acceptors: Budget::new(usize::MAX),
            streams: Budget::new(limits.max_streams),
            detached: Budget::new(limits.max_detached),
            buffered: self.buffered,
            counters: Counters::default(),
            tasks,
            workplaces: Arc::default(),
            nodes,
            draining,
            quiet: CancellationToken::new(),
            forced: CancellationToken::new(),
            closed: CancellationToken::new(),
            ended: CancellationToken::new(),
            is_draining: AtomicBool::new(false),
            has_heirs: AtomicBool::new(false),
            config: self.config,
        };
        let server = Server {
            shared: Arc::new(shared),
        };
        if let Some(nodes) = &server.shared.nodes {
            nodes.start(&server.shared);
        }
        for attach in self.when_built {
            attach(&server);
        }
        server
    }
}

/// The endpoint at a path: what its sessions are opened at. A page has none.
fn endpoint_of(route: &Route) -> Option<Arc<str>> {
    match route {
        Route::Mcp(endpoint) => Some(Arc::clone(&endpoint.name)),
        Route::Sse(mount, _) => Some(Arc::clone(&mount.endpoint.name)),
        Route::Page(_) => None,
    }
}

/// A name that no node has had.
fn name(random: &Random) -> NodeId {
    let drawn = random.bytes().expect("the system gives random numbers");
    NodeId::from_random(drawn)
}
