//! What is said at the start: where it listens, what stands behind it, what to tell a client.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde_json::{Map, Value, json};
use thinpipe_gateway::{ReplicaConfig, UpstreamSpec};
use thinpipe_proto::deprecation::Timestamp;

use crate::config::{Config, LogFormat};

/// Speaks to the operator: lines on standard error, or log records.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Announcer {
    /// `None`: silence.
    format: Option<LogFormat>,
}

impl Announcer {
    /// Speaks in the format of the logs.
    pub(crate) fn new(format: LogFormat) -> Self {
        Self {
            format: Some(format),
        }
    }

    /// Says nothing.
    pub(crate) fn silent() -> Self {
        Self { format: None }
    }

    /// Says one thing.
    pub(crate) fn say(&self, text: &str) {
        match self.format {
            // Nobody may be reading; that is no reason to stop.
            Some(LogFormat::Text) => drop(writeln!(std::io::stderr(), "{text}")),
            Some(LogFormat::Json) => tracing::info!("{text}"),
            None => {}
        }
    }

    /// Everything that is known as soon as the listeners stand.
    pub(crate) fn started(
        &self,
        config: &Config,
        listen: SocketAddr,
        admin: Option<SocketAddr>,
        now: Timestamp,
    ) {
        for upstream in &config.gateway.upstreams {
            self.say(&format!("listening on http://{listen}{}", upstream.path));
            if let Some(sse) = &upstream.sse {
                let address = format!("http://{listen}{}", sse.stream);
                self.say(&http_sse(config, &address, now));
            }
            if let Some(text) = replicas(upstream) {
                self.say(&text);
            }
        }
        if let Some(admin) = admin {
            self.say(&format!("admin on http://{admin}"));
        }
        let entry = client_entry(config, listen);
        match self.format {
            Some(LogFormat::Text) => {
                self.say("for the configuration of a client:");
                self.say(&format!("{entry:#}"));
            }
            Some(LogFormat::Json) => {
                tracing::info!(entry = %entry, "for the configuration of a client");
            }
            None => {}
        }
    }
}

/// The replicas of a server, as they are called in logs and metrics, and where they are.
fn replicas(upstream: &UpstreamSpec) -> Option<String> {
    let group = upstream.http()?.group.as_ref()?;
    let (first, rest) = group.replicas.split_first()?;
    let shown = |replica: &ReplicaConfig| {
        let ReplicaConfig {
            name, url, weight, ..
        } = replica;
        format!("{name} at {url}, weight {weight}")
    };
    let rest = rest.iter().map(|replica| format!("; {}", shown(replica)));
    let list: String = std::iter::once(shown(first)).chain(rest).collect();
    Some(format!("replicas of {}: {list}", upstream.name()))
}

/// What is said of an address of HTTP+SSE: that clients may use it, or why not.
fn http_sse(config: &Config, address: &str, now: Timestamp) -> String {
    let deprecation = &config.gateway.deprecation;
    match deprecation.sunset().filter(|_| deprecation.is_gone(now)) {
        Some(day) => format!(
            "HTTP+SSE ended on {}: {address} answers 410 and the new address",
            day.date_text()
        ),
        None => format!("for clients on HTTP+SSE (deprecated): {address}"),
    }
}

/// The `mcpServers` object that makes a client connect here.
pub(crate) fn client_entry(config: &Config, listen: SocketAddr) -> Value {
    let host = reachable(config, listen);
    let mut servers = Map::new();
    for upstream in &config.gateway.upstreams {
        let mut entry = json!({ "type": "http", "url": format!("http://{host}{}", upstream.path) });
        if !config.server.tokens.is_empty() {
            // Whose token it is only the reader knows.
            entry["headers"] = json!({ "Authorization": "Bearer <token>" });
        }
        servers.insert(upstream.name().to_string(), entry);
    }
    json!({ "mcpServers": servers })
}

/// How a client gets to the listener: by the first name that is allowed, else by its address.
pub(crate) fn reachable(config: &Config, listen: SocketAddr) -> String {
    let port = listen.port();
    if !config.server.access.loopback
        && let Some(host) = config.server.access.hosts.first()
    {
        let has_port = host
            .rsplit_once(':')
            .is_some_and(|(_, p)| p.parse::<u16>().is_ok());
        return if has_port {
            host.clone()
        } else {
            format!("{host}:{port}")
        };
    }
    connectable(listen).to_string()
}

/// Who listens on all addresses of a machine is there on loopback, too.
pub(crate) fn connectable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Manner, Settings, for_replicas, for_url};

    fn config(listen: &str, hosts: &[&str]) -> Config {
        let flags = Settings {
            listen: Some(listen.to_owned()),
            allow_host: hosts.iter().map(|&host| host.to_owned()).collect(),
            ..Settings::default()
        };
        for_url("http://h/mcp", Manner::named("files"), &flags, &|_| None).unwrap()
    }

    #[test]
    fn the_entry_for_clients_is_one_they_can_use() {
        for (listen, hosts, url) in [
            ("127.0.0.1:8080", &[][..], "http://127.0.0.1:8080/mcp"),
            ("[::1]:8080", &[], "http://[::1]:8080/mcp"),
            (
                "0.0.0.0:80",
                &["mcp.example.com"],
                "http://mcp.example.com:80/mcp",
            ),
            (
                "0.0.0.0:80",
                &["mcp.example.com:8443"],
                "http://mcp.example.com:8443/mcp",
            ),
            ("0.0.0.0:80", &["*"], "http://127.0.0.1:80/mcp"),
        ] {
            let entry = client_entry(&config(listen, hosts), listen.parse().unwrap());
            assert_eq!(entry["mcpServers"]["files"]["url"], url);
            assert_eq!(entry["mcpServers"]["files"]["type"], "http");
        }
    }

    /// C18: who reads the start sees whether a replica is what was meant.
    #[test]
    fn c18_the_start_lists_replicas() {
        let further = ["b=http://i/mcp,weight=2".to_owned()];
        let load = |further: &[String]| {
            let flags = Settings::default();
            for_replicas(
                ("http://h/mcp", further),
                Manner::named("files"),
                &flags,
                &|_| None,
            )
            .unwrap()
        };
        let said = replicas(&load(&further).gateway.upstreams[0]);
        let expected =
            "replicas of files: h at http://h/mcp, weight 1; b at http://i/mcp, weight 2";
        assert_eq!(said.as_deref(), Some(expected));
        assert_eq!(replicas(&load(&[]).gateway.upstreams[0]), None);
    }

    #[test]
    fn the_entry_never_shows_a_token() {
        let mut config = config("127.0.0.1:8080", &[]);
        config
            .server
            .tokens
            .push(thinpipe_transport::server::AccessToken {
                principal: "alice".to_owned(),
                token: "0123456789abcdef".to_owned(),
            });
        let entry = client_entry(&config, config.listen).to_string();
        assert!(!entry.contains("0123456789abcdef"), "{entry}");
        assert!(entry.contains("Bearer <token>"), "{entry}");
    }

    /// A21: an address that answers 410 is not offered.
    #[test]
    fn a21_what_has_ended_is_not_offered() {
        let mut config = config("127.0.0.1:8080", &[]);
        let day = "2027-01-01".parse().unwrap();
        let deprecation = &mut config.gateway.deprecation;
        *deprecation = deprecation.clone().with_sunset(Some(day)).unwrap();
        let before = Timestamp::from_unix(day.unix() - 1);
        let said = http_sse(&config, "http://h/sse", before);
        assert_eq!(said, "for clients on HTTP+SSE (deprecated): http://h/sse");
        let said = http_sse(&config, "http://h/sse", day);
        let expected = "HTTP+SSE ended on 2027-01-01: http://h/sse answers 410 and the new address";
        assert_eq!(said, expected);
    }
}
