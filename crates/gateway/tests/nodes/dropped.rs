//! What is left of a gateway that its program drops (invariant 25 of protocol notes 5.9): nothing, and so no connection
//! to its server either.

use std::sync::{Arc, Weak};

use thinpipe_gateway::{
    Gateway, GatewayConfig, HttpUpstream, RateLimits, Reached, Resume, Route, Sharing, UpstreamSpec,
};
use thinpipe_proto::access::AccessPolicy;
use thinpipe_proto::deprecation::DeprecationConfig;
use thinpipe_proto::revision::Binding;
use thinpipe_testkit::network::{Http, HttpRequest};
use thinpipe_testkit::{Era, Headers, Upstream, eventually, rpc};
use thinpipe_transport::Random;
use thinpipe_transport::server::{Server, ServerConfig};
use thinpipe_transport::upstream::UpstreamConfig;

/// How sessions are mapped to those of the server.
const MAPPINGS: [fn(&mut UpstreamSpec); 4] = [
    |_| {},
    |spec| spec.resume = Resume::Log,
    |spec| spec.bridge.sessions = Some(Sharing::Pooled),
    |spec| spec.bridge.sessions = Some(Sharing::Shared),
];

fn embedded(upstream: &Upstream, mapping: fn(&mut UpstreamSpec)) -> (Gateway, Server) {
    let url = upstream.url().parse().unwrap();
    let mut spec = UpstreamSpec::new(
        "/mcp",
        Reached::Http(HttpUpstream {
            pin: Some(Binding::Sessions),
            ..HttpUpstream::new(UpstreamConfig::new("up".into(), url))
        }),
    );
    mapping(&mut spec);
    let builder = Server::builder(ServerConfig {
        access: AccessPolicy {
            loopback: true,
            ..AccessPolicy::default()
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
    let server = gateway.mount(builder).build();
    gateway.start(&server);
    (gateway, server)
}

/// A client opens a session, uses it, and leaves without a word.
async fn use_it(server: &Server) {
    let (near, far) = tokio::io::duplex(1 << 16);
    server.spawn(server.serve_io(far, None));
    let mut http = Http::new(near);
    let mut session = None;
    for body in [rpc::initialize(1, "2025-11-25"), rpc::call(2, "echo")] {
        let mut headers = Headers::new();
        headers.push("Host", "localhost");
        headers.push("Accept", "application/json, text/event-stream");
        headers.push("Content-Type", "application/json");
        if let Some(session) = &session {
            headers.push("Mcp-Session-Id", session);
        }
        let request = HttpRequest {
            method: "POST".to_owned(),
            target: "/mcp".to_owned(),
            headers,
            body: body.into(),
        };
        http.send(&request).await.unwrap();
        let (status, headers) = http.response().await.unwrap();
        assert_eq!(status, 200);
        while http.body().await.unwrap().is_some() {}
        session = session.or_else(|| headers.get("mcp-session-id").map(str::to_owned));
    }
    assert_eq!(server.stats().sessions, 1);
}

async fn is_gone(route: &Weak<Route>) {
    eventually("nobody has the route", async || {
        match route.strong_count() {
            0 => Ok(()),
            count => Err(format!("{count} have it")),
        }
    })
    .await;
}

async fn with_sessions() -> Upstream {
    let upstream = Upstream::start().await;
    upstream.set(|behaviour| {
        behaviour.full = true;
        behaviour.era = Era::Sessions;
    });
    upstream
}

/// 5.9.25: also with sessions that are live, which nobody has ended, as long as nothing of them lives in the process.
#[tokio::test]
async fn g10_a_gateway_that_is_dropped_leaves_nothing() {
    let upstream = with_sessions().await;
    let (gateway, server) = embedded(&upstream, |_| {});
    use_it(&server).await;
    let route = Arc::downgrade(&gateway.routes()[0]);
    drop((gateway, server));
    is_gone(&route).await;
}

/// 5.9.25: in whatever way its sessions were mapped to those of the server.
#[tokio::test]
async fn g10_a_gateway_that_has_shut_down_leaves_nothing() {
    let upstream = with_sessions().await;
    for mapping in MAPPINGS {
        let (gateway, server) = embedded(&upstream, mapping);
        use_it(&server).await;
        server.shut_down().await;
        gateway.finish().await;
        let route = Arc::downgrade(&gateway.routes()[0]);
        drop((gateway, server));
        is_gone(&route).await;
    }
}
