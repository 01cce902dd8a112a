//! A gateway with both bindings on its client side, in front of a full server of 2026-07-28.

use std::time::Duration;

use thinpipe_gateway::{Gateway, GatewayConfig, HttpUpstream, Reached, SsePaths, UpstreamSpec};
use thinpipe_proto::access::AccessPolicy;
use thinpipe_proto::deprecation::DeprecationConfig;
use thinpipe_testkit::{Era, Upstream};
use thinpipe_transport::server::{Server, ServerConfig, SseConfig};
use thinpipe_transport::upstream::UpstreamConfig;
use tokio::net::TcpListener;

/// A gateway in front of one server.
pub(crate) struct Front {
    pub(crate) mcp: String,
    pub(crate) sse: String,
    pub(crate) upstream: Upstream,
    pub(crate) server: Server,
    pub(crate) gateway: Gateway,
}

impl Front {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}, |_| {}).await
    }

    pub(crate) async fn with(
        change: impl FnOnce(&mut UpstreamSpec),
        configure: impl FnOnce(&mut ServerConfig),
    ) -> Self {
        let upstream = Upstream::start().await;
        upstream.set(|behaviour| {
            behaviour.era = Era::Stateless;
            behaviour.full = true;
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = UpstreamConfig::new("u".into(), upstream.url().parse().unwrap());
        let reached = Reached::Http(HttpUpstream { client, pin: None });
        let mut spec = UpstreamSpec::new("/mcp", reached);
        spec.sse = Some(SsePaths {
            stream: "/sse".to_owned(),
            messages: "/messages".to_owned(),
            config: SseConfig::default(),
        });
        // Checks would be counted among the requests.
        spec.health.interval = Duration::ZERO;
        change(&mut spec);
        let upstreams = GatewayConfig {
            upstreams: vec![spec],
            deprecation: DeprecationConfig::default(),
            state_keys: Vec::new(),
        };
        let mut config = ServerConfig {
            access: AccessPolicy {
                loopback: true,
                ..AccessPolicy::default()
            },
            ..ServerConfig::default()
        };
        configure(&mut config);
        let builder = Server::builder(config);
        let gateway = Gateway::new(upstreams, builder.buffered()).unwrap();
        let server = gateway.mount(builder).build();
        gateway.start(&server);
        let accepting = server.clone();
        server.spawn(async move { accepting.serve(listener).await.unwrap() });
        Self {
            mcp: format!("http://{address}/mcp"),
            sse: format!("http://{address}/sse"),
            upstream,
            server,
            gateway,
        }
    }
}
