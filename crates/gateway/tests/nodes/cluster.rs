//! Gateways that share a store in memory.

use std::sync::Arc;
use std::time::Duration;

use thinpipe_gateway::{
    Gateway, GatewayConfig, HttpUpstream, RateLimits, Reached, SsePaths, UpstreamSpec,
};
use thinpipe_proto::access::AccessPolicy;
use thinpipe_proto::deprecation::DeprecationConfig;
use thinpipe_proto::revision::Binding;
use thinpipe_store::{Inbox, LogLimits, MemoryInbox, MemoryLog, MemoryStore, SessionStore};
use thinpipe_testkit::{Client, Era, RequestBuilder, Upstream};
use thinpipe_transport::Random;
use thinpipe_transport::server::{
    AccessToken, Limits, Server, ServerConfig, SharedStores, SseConfig, Stores,
};
use thinpipe_transport::upstream::UpstreamConfig;
use tokio::net::TcpListener;

/// Tokens, which are their principals' names too.
pub(crate) const ALICE: &str = "alice";
pub(crate) const BOB: &str = "bob";

/// How long what runs may go on when a gateway shuts down.
const DRAIN: Duration = Duration::from_millis(200);

/// What the gateways share: the server, and the store.
pub(crate) struct Cluster {
    pub(crate) upstream: Upstream,
    shelf: Shelf,
}

#[derive(Clone)]
struct Shelf {
    sessions: Arc<MemoryStore>,
    inbox: Arc<MemoryInbox>,
    log: Arc<MemoryLog>,
}

/// One of the gateways.
pub(crate) struct Node {
    pub(crate) mcp: String,
    pub(crate) sse: String,
    pub(crate) server: Server,
}

impl Cluster {
    /// Before a server with sessions.
    pub(crate) async fn start() -> Self {
        let upstream = Upstream::start().await;
        upstream.set(|behaviour| {
            behaviour.full = true;
            behaviour.era = Era::Sessions;
        });
        let shelf = Shelf {
            sessions: Arc::new(MemoryStore::new()),
            inbox: Arc::new(MemoryInbox::new()),
            log: Arc::new(MemoryLog::new(LogLimits::default())),
        };
        Self { upstream, shelf }
    }

    pub(crate) async fn node(&self) -> Node {
        self.node_with(|_| {}).await
    }

    pub(crate) async fn node_with(&self, change: impl FnOnce(&mut UpstreamSpec)) -> Node {
        let stores = self.shelf.stores();
        self.shelf.node(self.upstream.url(), stores, change).await
    }

    /// In the place of this session of the server's each record has that one, and no gateway is told.
    pub(crate) async fn replace(&self, old: &str, new: &str) {
        let sessions = &self.shelf.sessions;
        for id in sessions.list(None, 100).await.unwrap() {
            let (mut record, version) = sessions.get(&id).await.unwrap().unwrap();
            let attached = String::from_utf8(record.attachment.to_vec()).unwrap();
            record.attachment = attached.replace(old, new).into();
            sessions.update(&record, version).await.unwrap();
        }
    }

    /// A node with sessions of its own.
    pub(crate) async fn node_over(
        &self,
        sessions: Arc<dyn SessionStore>,
        change: impl FnOnce(&mut UpstreamSpec),
    ) -> Node {
        let stores = Stores {
            sessions,
            ..self.shelf.stores()
        };
        self.shelf.node(self.upstream.url(), stores, change).await
    }

    /// A node in a runtime of its own: a process that can be killed.
    pub(crate) async fn process(&self) -> (Node, tokio::runtime::Runtime) {
        let process = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (shelf, url) = (self.shelf.clone(), self.upstream.url().to_owned());
        let starting = process.spawn(async move {
            let stores = shelf.stores();
            shelf.node(&url, stores, |_| {}).await
        });
        (starting.await.unwrap(), process)
    }

    /// Until this node counts as dead.
    pub(crate) async fn is_buried(&self, node: &Node) {
        let this = node.server.nodes().unwrap().this().clone();
        thinpipe_testkit::eventually("it counts as dead", async || {
            let live = self.shelf.inbox.nodes().await.unwrap();
            if live.contains(&this) {
                return Err("it is alive".to_owned());
            }
            Ok(())
        })
        .await;
    }
}

impl Shelf {
    async fn node(
        &self,
        url: &str,
        stores: Stores,
        change: impl FnOnce(&mut UpstreamSpec),
    ) -> Node {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut spec = UpstreamSpec::new(
            "/mcp",
            Reached::Http(HttpUpstream {
                pin: Some(Binding::Sessions),
                ..HttpUpstream::new(UpstreamConfig::new("up".into(), url.parse().unwrap()))
            }),
        );
        spec.sse = Some(SsePaths {
            stream: "/sse".to_owned(),
            messages: "/messages".to_owned(),
            config: SseConfig::default(),
        });
        change(&mut spec);
        let builder = Server::builder(ServerConfig {
            access: AccessPolicy {
                loopback: true,
                ..AccessPolicy::default()
            },
            tokens: [ALICE, BOB]
                .map(|name| AccessToken {
                    principal: name.to_owned(),
                    token: name.to_owned(),
                })
                .into(),
            limits: Limits {
                drain: DRAIN,
                ..Limits::default()
            },
            ..ServerConfig::default()
        });
        let config = GatewayConfig {
            upstreams: vec![spec],
            deprecation: DeprecationConfig::default(),
            state_keys: Vec::new(),
            rates: RateLimits::default(),
            random: Random::default(),
        };
        let gateway = Gateway::new(config, builder.buffered()).unwrap();
        let server = gateway.mount(builder).stores(stores).build();
        gateway.start(&server);
        let accepting = server.clone();
        server.spawn(async move { accepting.serve(listener).await.unwrap() });
        let this = server.nodes().unwrap().this().clone();
        while !self.inbox.nodes().await.unwrap().contains(&this) {
            tokio::task::yield_now().await;
        }
        Node {
            mcp: format!("http://{address}/mcp"),
            sse: format!("http://{address}/sse"),
            server,
        }
    }

    fn stores(&self) -> Stores {
        Stores {
            sessions: Arc::clone(&self.sessions) as _,
            shared: Some(SharedStores {
                log: Arc::clone(&self.log) as _,
                inbox: Arc::clone(&self.inbox) as _,
            }),
        }
    }
}

impl Node {
    /// A client of 2026-07-28.
    pub(crate) fn modern(&self, token: &str) -> Client {
        Client::new(&self.mcp).with_token(token)
    }

    /// A client with a session that was opened here.
    pub(crate) async fn client(&self) -> Client {
        let mut client = Client::new(&self.mcp).with_token(ALICE);
        client.initialize("2025-11-25").await;
        client
    }

    /// A request here in the session of a client that opened it elsewhere.
    pub(crate) fn visited_by(&self, client: &Client) -> Visitor<'_> {
        Visitor {
            node: self,
            session: client.session().unwrap().to_owned(),
        }
    }
}

/// A client of another node's session.
pub(crate) struct Visitor<'a> {
    node: &'a Node,
    session: String,
}

impl Visitor<'_> {
    fn with_session(&self, request: RequestBuilder) -> RequestBuilder {
        let request = request.header("mcp-session-id", &self.session);
        request.header("mcp-protocol-version", "2025-11-25")
    }

    pub(crate) fn post(&self, message: impl ToString) -> RequestBuilder {
        self.with_session(self.node.modern(ALICE).post(message))
    }

    pub(crate) fn get(&self) -> RequestBuilder {
        self.with_session(self.node.modern(ALICE).get())
    }

    pub(crate) fn delete(&self) -> RequestBuilder {
        self.with_session(self.node.modern(ALICE).delete())
    }
}
