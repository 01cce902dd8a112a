//! What `/sse-clients` on the admin address says, and `thinpipe migrate` reads.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use thinpipe_proto::deprecation::{AfterSunset, InventoryReport, Timestamp};

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
    /// What becomes of it then.
    pub(crate) after_sunset: AfterSunset,
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
        let deprecation = &config.gateway.deprecation;
        Self {
            since: Timestamp::from(SystemTime::now()),
            sunset: deprecation.sunset(),
            after_sunset: deprecation.after_sunset(),
            endpoints: endpoints.collect(),
        }
    }

    /// Whether HTTP+SSE has ended at this time: clients get 410.
    pub(crate) fn ended_by(&self, now: Timestamp) -> bool {
        let is_over = self.sunset.is_some_and(|sunset| sunset <= now);
        is_over && self.after_sunset == AfterSunset::Gone
    }

    /// In what a gateway would differ that is started with this configuration now, for people. Empty:
    /// it may be the one that runs.
    pub(crate) fn differences(&self, config: &Config) -> Vec<String> {
        let other = Self::of(config, config.listen);
        let mut differences = Vec::new();
        if (self.sunset, self.after_sunset) != (other.sunset, other.after_sunset) {
            differences.push(format!(
                "HTTP+SSE ends {} in the gateway, {} in the file",
                self.end(),
                other.end()
            ));
        }
        // Any free port: which one, only the gateway that runs has been told.
        let paths_only = config.listen.port() == 0;
        let (here, there) = (self.addresses(paths_only), other.addresses(paths_only));
        if here != there {
            differences.push(format!(
                "HTTP+SSE is served at {} by the gateway, at {} by the file",
                listed(&here),
                listed(&there)
            ));
        }
        differences
    }

    fn end(&self) -> String {
        match (self.sunset, self.after_sunset) {
            (None, _) => "on no day".to_owned(),
            (Some(day), AfterSunset::Gone) => format!("on {}", day.date_text()),
            (Some(day), AfterSunset::Warn) => {
                format!("on {} by what it says alone", day.date_text())
            }
        }
    }

    /// Each upstream with its address, in no order that depends on a file's.
    fn addresses(&self, paths_only: bool) -> BTreeSet<String> {
        let endpoints = self.endpoints.iter();
        endpoints
            .map(|at| {
                let url = match at.url.split_once("://").filter(|_| paths_only) {
                    Some((_, rest)) => rest.find('/').map_or("/", |slash| &rest[slash..]),
                    None => &at.url,
                };
                format!("{url} ({})", at.name)
            })
            .collect()
    }
}

fn listed(addresses: &BTreeSet<String>) -> String {
    let all: Vec<_> = addresses.iter().map(String::as_str).collect();
    match all.is_empty() {
        true => "no address".to_owned(),
        false => all.join(", "),
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
    use crate::config::{Manner, Settings, for_url};

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
            let mut config = for_url(
                "http://h/mcp",
                Manner::default(),
                &Settings::default(),
                &none,
            )
            .unwrap();
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

    /// A31: a file that the gateway does not run by is told from its own.
    #[test]
    fn a31_a_file_of_another_gateway_is_noticed() {
        let config = |listen: &str, name: &str| {
            let flags = Settings {
                listen: Some(listen.to_owned()),
                ..Settings::default()
            };
            for_url("http://h/mcp", Manner::named(name), &flags, &|_| None).unwrap()
        };
        let own = config("127.0.0.1:8080", "files");
        let running = SseServed::of(&own, own.listen);
        assert_eq!(running.differences(&own), [""; 0]);
        assert_eq!(
            running.differences(&config("127.0.0.1:0", "files")),
            [""; 0]
        );
        for (other, said) in [
            (
                config("127.0.0.1:9", "files"),
                "http://127.0.0.1:9/sse (files) by the file",
            ),
            (config("127.0.0.1:0", "notes"), "/sse (notes) by the file"),
        ] {
            let differences = running.differences(&other);
            assert!(differences[0].ends_with(said), "{differences:?}");
        }
        let mut other = own;
        let deprecation = &mut other.gateway.deprecation;
        let day = Some("2030-01-01".parse().unwrap());
        *deprecation = deprecation.clone().with_sunset(day).unwrap();
        let said = "HTTP+SSE ends on no day in the gateway, on 2030-01-01 in the file";
        assert_eq!(running.differences(&other), [said]);
        other.gateway.upstreams[0].sse = None;
        let differences = running.differences(&other);
        assert!(
            differences[1].ends_with("at no address by the file"),
            "{differences:?}"
        );
    }
}
