//! A gateway with one upstream.

use std::sync::Arc;

use thinpipe_gateway::{Gateway, GatewayConfig, ReplicaStats, UpstreamSpec};
use thinpipe_proto::access::AccessPolicy;
use thinpipe_proto::deprecation::DeprecationConfig;
use thinpipe_store::{LogLimits, MemoryInbox, MemoryLog, MemoryStore};
use thinpipe_testkit::Client;
use thinpipe_transport::Random;
use thinpipe_transport::server::{Server, ServerBuilder, ServerConfig, SharedStores, Stores};
use tokio::net::TcpListener;

/// Stores that several gateways share.
pub(crate) fn shared_stores() -> impl Fn() -> Stores {
    let (sessions, log, inbox) = (
        Arc::new(MemoryStore::default()),
        Arc::new(MemoryLog::new(LogLimits::default())),
        Arc::new(MemoryInbox::default()),
    );
    move || Stores {
        sessions: Arc::clone(&sessions) as _,
        shared: Some(SharedStores {
            log: Arc::clone(&log) as _,
            inbox: Arc::clone(&inbox) as _,
        }),
    }
}

/// A gateway in front of one upstream.
pub(crate) struct Front {
    pub(crate) url: String,
    pub(crate) server: Server,
    gateway: Gateway,
}

impl Front {
    pub(crate) async fn start(spec: UpstreamSpec) -> Self {
        Self::built(spec, |builder| builder).await
    }

    /// One of several that share these stores.
    pub(crate) async fn among(spec: UpstreamSpec, stores: Stores) -> Self {
        Self::built(spec, |builder| builder.stores(stores)).await
    }

    async fn built(spec: UpstreamSpec, store: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}{}", listener.local_addr().unwrap(), spec.path);
        let access = AccessPolicy {
            loopback: true,
            ..AccessPolicy::default()
        };
        let builder = store(Server::builder(ServerConfig {
            access,
            ..ServerConfig::default()
        }));
        let config = GatewayConfig {
            upstreams: vec![spec],
            deprecation: DeprecationConfig::default(),
            rates: thinpipe_gateway::RateLimits::default(),
            random: Random::default(),
            state_keys: Vec::new(),
        };
        let gateway = Gateway::new(config, builder.buffered()).unwrap();
        let server = gateway.mount(builder).build();
        gateway.start(&server);
        let accepting = server.clone();
        server.spawn(async move { accepting.serve(listener).await.unwrap() });
        Self {
            url,
            server,
            gateway,
        }
    }

    pub(crate) fn replicas(&self) -> Vec<ReplicaStats> {
        self.gateway.routes()[0].replicas()
    }

    pub(crate) fn is_healthy(&self) -> bool {
        self.gateway.routes()[0].is_healthy()
    }

    /// Shuts down in order.
    pub(crate) async fn shut_down(&self) {
        self.server.shut_down().await;
        self.gateway.finish().await;
    }

    /// A client that has initialized.
    pub(crate) async fn client(&self) -> Client {
        let mut client = Client::new(&self.url);
        client.initialize("2025-11-25").await;
        client
    }
}
