//! A gateway with both bindings on its client side, in front of a full server of 2026-07-28.

use std::time::Duration;

use thinpipe_gateway::{Gateway, UpstreamSpec};
use thinpipe_testkit::{Era, Upstream};
use thinpipe_transport::server::{Server, ServerConfig};
use thinpipe_transport::upstream::UpstreamConfig;

use crate::gateway;

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
        let reached = UpstreamConfig::new("u".into(), upstream.url().parse().unwrap());
        let change = |spec: &mut UpstreamSpec| {
            // Checks would be counted among the requests.
            spec.health.interval = Duration::ZERO;
            change(spec);
        };
        let front = gateway::Front::with(reached, change, configure).await;
        Self {
            mcp: front.mcp,
            sse: front.sse,
            upstream,
            server: front.server,
            gateway: front.gateway,
        }
    }
}
