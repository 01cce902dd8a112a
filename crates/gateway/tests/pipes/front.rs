//! A gateway with both bindings on its client side.

use std::sync::Arc;

use thinpipe_gateway::interceptor::Interceptor;
use thinpipe_gateway::{
    Gateway, GatewayConfig, RateLimits, Reached, Route, SsePaths, StateKey, UpstreamSpec,
};
use thinpipe_proto::access::AccessPolicy;
use thinpipe_proto::deprecation::DeprecationConfig;
use thinpipe_transport::Random;
use thinpipe_transport::server::{
    AccessToken, Server, ServerBuilder, ServerConfig, SseConfig, Stores,
};
use tokio::net::TcpListener;

/// A gateway in front of one server.
pub(crate) struct Front {
    pub(crate) mcp: String,
    pub(crate) sse: String,
    pub(crate) server: Server,
    pub(crate) gateway: Gateway,
}

impl Front {
    pub(crate) async fn start(reached: impl Into<Reached>) -> Self {
        Self::with(reached, |_| {}, |_| {}).await
    }

    pub(crate) async fn with(
        reached: impl Into<Reached>,
        change: impl FnOnce(&mut UpstreamSpec),
        configure: impl FnOnce(&mut ServerConfig),
    ) -> Self {
        Self::keyed(reached, change, configure, Vec::new()).await
    }

    /// The same, with keys for what clients keep.
    pub(crate) async fn keyed(
        reached: impl Into<Reached>,
        change: impl FnOnce(&mut UpstreamSpec),
        configure: impl FnOnce(&mut ServerConfig),
        state_keys: Vec<StateKey>,
    ) -> Self {
        Self::whole(reached, change, configure, state_keys, &[]).await
    }

    /// The same, behind interceptors of the test's own.
    pub(crate) async fn whole(
        reached: impl Into<Reached>,
        change: impl FnOnce(&mut UpstreamSpec),
        configure: impl FnOnce(&mut ServerConfig),
        state_keys: Vec<StateKey>,
        interceptors: &[Arc<dyn Interceptor>],
    ) -> Self {
        let alone = |builder| builder;
        Self::built(
            reached,
            change,
            configure,
            (state_keys, interceptors),
            alone,
        )
        .await
    }

    /// The same, one of several that share these stores.
    pub(crate) async fn among(
        reached: impl Into<Reached>,
        change: impl FnOnce(&mut UpstreamSpec),
        configure: impl FnOnce(&mut ServerConfig),
        stores: Stores,
    ) -> Self {
        let among = |builder: ServerBuilder| builder.stores(stores);
        Self::built(reached, change, configure, (Vec::new(), &[]), among).await
    }

    async fn built(
        reached: impl Into<Reached>,
        change: impl FnOnce(&mut UpstreamSpec),
        configure: impl FnOnce(&mut ServerConfig),
        (state_keys, interceptors): (Vec<StateKey>, &[Arc<dyn Interceptor>]),
        store: impl FnOnce(ServerBuilder) -> ServerBuilder,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let mut spec = UpstreamSpec::new("/mcp", reached);
        spec.sse = Some(SsePaths {
            stream: "/sse".to_owned(),
            messages: "/messages".to_owned(),
            config: SseConfig::default(),
        });
        change(&mut spec);
        let upstreams = GatewayConfig {
            upstreams: vec![spec],
            deprecation: DeprecationConfig::default(),
            state_keys,
            rates: RateLimits::default(),
            random: Random::default(),
        };
        let access = AccessPolicy {
            loopback: true,
            ..AccessPolicy::default()
        };
        let mut config = ServerConfig {
            access,
            ..ServerConfig::default()
        };
        configure(&mut config);
        let builder = store(Server::builder(config));
        let gateway = Gateway::with_interceptors(upstreams, builder.buffered(), interceptors);
        let gateway = gateway.expect("a gateway");
        let server = gateway.mount(builder).build();
        gateway.start(&server);
        let accepting = server.clone();
        server.spawn(async move { accepting.serve(listener).await.expect("accepting goes on") });
        Self {
            mcp: format!("http://{address}/mcp"),
            sse: format!("http://{address}/sse"),
            server,
            gateway,
        }
    }

    pub(crate) fn route(&self) -> &Route {
        &self.gateway.routes()[0]
    }

    /// Until no child runs.
    pub(crate) async fn no_child_runs(&self) {
        children_run(self.route(), 0).await;
    }
}

/// Until so many children run.
pub(crate) async fn children_run(route: &Route, count: usize) {
    thinpipe_testkit::eventually("so many children run", async || {
        match route.children().unwrap_or_default() {
            stats if stats.running == count => Ok(()),
            stats => Err(format!("{count} are awaited: {stats:?}")),
        }
    })
    .await;
}

/// Tokens of these principals, which are their names too.
pub(crate) fn tokens(principals: &[&str]) -> Vec<AccessToken> {
    let token = |name: &&str| AccessToken {
        principal: (*name).to_owned(),
        token: (*name).to_owned(),
    };
    principals.iter().map(token).collect()
}
