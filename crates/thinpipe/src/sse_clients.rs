//! What `/sse-clients` on the admin address says, and `thinpipe migrate` reads.

use std::net::SocketAddr;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use thinpipe_proto::deprecation::{InventoryReport, Timestamp};

use crate::announce::reachable;
use crate::config::Config;

/// Who still uses HTTP+SSE, and where they should go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SseClients {
    #[serde(flatten)]
    pub(crate) report: InventoryReport,
    #[serde(flatten)]
    pub(crate) served: SseServed,
}

/// Where HTTP+SSE is served, and until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SseServed {
    /// When counting began.
    pub(crate) since: Timestamp,
    /// The day on which it ends here, if there is one.
    pub(crate) sunset: Option<Timestamp>,
    /// One for each upstream; none if it is switched off.
    pub(crate) endpoints: Vec<SseServedAt>,
}

/// The two addresses of an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SseServedAt {
    /// Name of the upstream: the `endpoint` of a client in the report.
    pub(crate) name: String,
    /// What clients on HTTP+SSE connect to.
    pub(crate) url: String,
    /// Streamable HTTP, where they should go.
    pub(crate) successor: String,
}

impl SseServed {
    /// What a gateway serves that listens here, from now on.
    pub(crate) fn of(config: &Config, listen: SocketAddr) -> Self {
        let host = reachable(config, listen);
        let endpoints = config.gateway.upstreams.iter().filter_map(|upstream| {
            let sse = upstream.sse.as_ref()?;
            let base = sse.config.public_base.as_str();
            Some(SseServedAt {
                name: upstream.name().to_string(),
                url: public(base, &host, &sse.stream),
                successor: public(base, &host, &upstream.path),
            })
        });
        Self {
            since: Timestamp::from(SystemTime::now()),
            sunset: config.gateway.deprecation.sunset(),
            endpoints: endpoints.collect(),
        }
    }
}

/// A path as clients see it. The public base is an origin, or only what a proxy takes away of a path.
fn public(base: &str, host: &str, path: &str) -> String {
    match base.contains("://") {
        true => format!("{base}{path}"),
        false => format!("http://{host}{base}{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Settings, for_url};

    /// A31: the addresses are those that clients use.
    #[test]
    fn a31_addresses_have_the_public_base() {
        let listen = "127.0.0.1:8080".parse().unwrap();
        for (base, stream, successor) in [
            ("", "http://127.0.0.1:8080/sse", "http://127.0.0.1:8080/mcp"),
            (
                "/gateway",
                "http://127.0.0.1:8080/gateway/sse",
                "http://127.0.0.1:8080/gateway/mcp",
            ),
            (
                "https://mcp.example.com/gateway",
                "https://mcp.example.com/gateway/sse",
                "https://mcp.example.com/gateway/mcp",
            ),
        ] {
            let none = |_: &str| None;
            let mut config = for_url("http://h/mcp", None, &Settings::default(), &none).unwrap();
            let sse = config.gateway.upstreams[0].sse.as_mut().unwrap();
            sse.config.public_base = base.parse().unwrap();
            let served = SseServed::of(&config, listen);
            let at = &served.endpoints[0];
            assert_eq!(
                (at.url.as_str(), at.successor.as_str()),
                (stream, successor)
            );
        }
    }
}
