//! From what was written to what is meant: every value checked once, and valid from then on.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;

use http::HeaderName;
use thinpipe_gateway::GatewayConfig;
use thinpipe_proto::access::AccessPolicy;
use thinpipe_proto::forwarded::{ForwardedHeader, InvalidNetwork, TrustedProxies};
use thinpipe_proto::header::{carried_request_header, forwardable_request_header};
use thinpipe_transport::Random;
use thinpipe_transport::server::{AccessToken, LegacyMode, Limits, ServerConfig, SessionLimits};
use tracing_subscriber::filter::Targets;

use super::problem::{Place, Problem};
use super::quantity::{Period, Size};
use super::raw::{LogFormat, RawConfig, RawForwardedHeader, RawLegacy, RawToken};
use super::settings::{Given, Layers, Names};
use super::tables::{Bounds, Quantity, RawLimits, RawSessions};
use super::tree::Path;
use super::upstreams::Common;
use super::{Config, LogConfig, access};

/// The address that clients connect to.
pub(crate) const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
/// The admin address.
pub(crate) const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8081);
/// What is logged.
pub(crate) const LOG_LEVEL: &str = "info";

/// Builds a [`Config`], and collects what is wrong on the way.
#[derive(Debug, Default)]
pub(super) struct Build {
    pub(super) problems: Vec<Problem>,
    /// The upstream was named on the command line, not in a file.
    pub(super) direct: bool,
}

impl Build {
    /// The configuration, if nothing was found wrong with it.
    pub(super) fn config(&mut self, raw: RawConfig, layers: &Layers) -> Config {
        let listen = self.listen(raw.listen, layers);
        let admin = self.admin(raw.admin, layers, listen.value);
        let workers = self.workers(raw.workers, layers);
        let log = self.log(raw.log.format, raw.log.level, layers);
        let store = self.store(raw.store, layers);
        let access = self.access(raw.allow_hosts, raw.allow_origins, layers, &listen);
        let limits = self.limits(&raw.limits);
        let event_log = self.event_log(&raw.limits.event_log);
        let server = ServerConfig {
            limits,
            sessions: SessionLimits {
                max_history: event_log.total_bytes,
                ..self.sessions(&raw.sessions)
            },
            access,
            trusted_proxies: self.trusted_proxies(raw.trusted_proxies, raw.forwarded_header),
            carried_headers: self.carried_headers(raw.carried_headers),
            tokens: self.tokens(&raw.tokens),
            allow_sessionless: raw.allow_sessionless.unwrap_or(false),
            legacy: match raw.legacy {
                Some(RawLegacy::Refused) => LegacyMode::Refused,
                Some(RawLegacy::Served) | None => LegacyMode::Served,
            },
        };
        let sse = self.sse(&raw.sse, limits.max_buffered);
        let sse = sse.filter(|_| server.legacy == LegacyMode::Served);
        let deprecation = self.deprecation(&raw.sse.deprecation);
        let state_keys = self.state_keys(raw.state_keys);
        let rates = self.rates(raw.limits, &raw.tokens);
        let common = Common {
            sse,
            authenticates: !server.tokens.is_empty(),
            legacy: server.legacy,
            interceptors: raw.interceptors,
            chain: raw.chain,
            max_buffered: limits.max_buffered,
            event_log: event_log.limits,
        };
        let servers = [raw.mcp_servers, raw.servers];
        let upstreams = self.upstreams(raw.upstreams, servers, &common, listen.value);
        Config {
            listen: listen.value,
            admin,
            workers,
            log,
            store,
            server,
            gateway: GatewayConfig {
                upstreams,
                deprecation,
                state_keys,
                rates,
                random: Random::default(),
            },
        }
    }

    fn listen(&mut self, file: Option<String>, layers: &Layers) -> Given<SocketAddr> {
        const NAMES: Names = Names {
            flag: "--listen",
            variable: "THINPIPE_LISTEN",
            key: &["listen"],
        };
        match layers.one(&NAMES, |s| s.listen.as_ref(), file) {
            Some(given) => Given {
                value: self.address(&given).unwrap_or(LISTEN),
                place: given.place,
            },
            None => Given {
                value: LISTEN,
                place: Place::Path(Path::default()),
            },
        }
    }

    fn admin(
        &mut self,
        file: Option<String>,
        layers: &Layers,
        listen: SocketAddr,
    ) -> Option<SocketAddr> {
        const NAMES: Names = Names {
            flag: "--admin",
            variable: "THINPIPE_ADMIN",
            key: &["admin"],
        };
        let Some(given) = layers.one(&NAMES, |s| s.admin.as_ref(), file) else {
            return Some(ADMIN);
        };
        if given.value == "off" {
            return None;
        }
        let address = self.address(&given)?;
        if address == listen && address.port() != 0 {
            let message = format!("{address} is the address that clients connect to");
            self.add(
                Problem::new(given.place, message)
                    .mend("give the admin address another port, or write \"off\""),
            );
        }
        Some(address)
    }

    fn address(&mut self, given: &Given<String>) -> Option<SocketAddr> {
        let text = given.value.trim();
        let local = text.strip_prefix("localhost:").and_then(|p| p.parse().ok());
        let address = match local {
            Some(port) => Some(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)),
            None => text.parse().ok(),
        };
        if address.is_none() {
            let message = format!("`{text}` is no address to listen on");
            self.add(
                Problem::new(given.place.clone(), message)
                    .mend("write an IP address and a port, such as 127.0.0.1:8080 or [::1]:8080"),
            );
        }
        address
    }

    fn workers(&mut self, file: Option<u64>, layers: &Layers) -> NonZeroUsize {
        const NAMES: Names = Names {
            flag: "--workers",
            variable: "THINPIPE_WORKERS",
            key: &["workers"],
        };
        let default =
            std::thread::available_parallelism().unwrap_or(const { NonZeroUsize::new(1).unwrap() });
        let Some(given) = layers.one(&NAMES, |s| s.workers.as_ref(), file) else {
            return default;
        };
        let number = given.value.parse().ok();
        number
            .filter(|n: &NonZeroUsize| n.get() <= 1024)
            .unwrap_or_else(|| {
                let message = format!("`{}` is no number from 1 to 1024", given.value);
                self.add(
                    Problem::new(given.place, message)
                        .mend("one worker for each CPU is the default: leave it out"),
                );
                default
            })
    }

    fn log(
        &mut self,
        format: Option<LogFormat>,
        level: Option<String>,
        layers: &Layers,
    ) -> LogConfig {
        const FORMAT: Names = Names {
            flag: "--log-format",
            variable: "THINPIPE_LOG_FORMAT",
            key: &["log", "format"],
        };
        const LEVEL: Names = Names {
            flag: "--log-level",
            variable: "THINPIPE_LOG",
            key: &["log", "level"],
        };
        let given = layers.one(&FORMAT, |s| s.log_format.as_ref(), None::<String>);
        let format = match given.as_ref().map(|given| given.value.as_str()) {
            None => format.unwrap_or_default(),
            Some("text") => LogFormat::Text,
            Some("json") => LogFormat::Json,
            Some(other) => {
                let message = format!("`{other}` is no format of log lines");
                let place = given.as_ref().map(|given| given.place.clone());
                let place = place.unwrap_or_else(|| Place::Path(Path::default()));
                self.add(Problem::new(place, message).suggest(other, &["text", "json"]));
                LogFormat::Text
            }
        };
        let level = match layers.one(&LEVEL, |s| s.log_level.as_ref(), level) {
            None => LOG_LEVEL.to_owned(),
            Some(given) => {
                if !is_log_level(&given.value) {
                    let message = format!("`{}` is no level of logging", given.value);
                    self.add(Problem::new(given.place, message).suggest(&given.value, &LEVELS));
                }
                given.value
            }
        };
        LogConfig { format, level }
    }

    fn access(
        &mut self,
        hosts: Option<Vec<String>>,
        origins: Option<Vec<String>>,
        layers: &Layers,
        listen: &Given<SocketAddr>,
    ) -> AccessPolicy {
        const HOSTS: Names = Names {
            flag: "--allow-host",
            variable: "THINPIPE_ALLOW_HOST",
            key: &["allow_hosts"],
        };
        const ORIGINS: Names = Names {
            flag: "--allow-origin",
            variable: "THINPIPE_ALLOW_ORIGIN",
            key: &["allow_origins"],
        };
        let given = layers.many(&HOSTS, |s| &s.allow_host, hosts);
        let any_host = given.iter().any(|host| host.value == "*");
        let mut policy = AccessPolicy {
            hosts: Vec::new(),
            origins: Vec::new(),
            loopback: listen.value.ip().is_loopback(),
            any_host,
        };
        let none_given = given.is_empty();
        for host in given.into_iter().filter(|host| host.value != "*") {
            match access::host(&host.value) {
                Ok(name) => policy.hosts.push(name),
                Err(mend) => {
                    let message = format!("`{}` is no host name", host.value);
                    self.add(Problem::new(host.place, message).mend(mend));
                }
            }
        }
        for origin in layers.many(&ORIGINS, |s| &s.allow_origin, origins) {
            match access::origin(&origin.value) {
                Ok(name) => policy.origins.push(name),
                Err(mend) => {
                    let message = format!("`{}` is no web origin", origin.value);
                    self.add(Problem::new(origin.place, message).mend(mend));
                }
            }
        }
        if none_given && !policy.loopback {
            let message = format!(
                "{} can be reached from other machines, but no host names are allowed: a web page could reach it through its visitors' browsers (DNS rebinding)",
                listen.value
            );
            self.add(Problem::new(listen.place.clone(), message).mend(
                "name the hosts that clients use, `--allow-host mcp.example.com` or `allow_hosts = [\"mcp.example.com\"]`; \"*\" if a proxy in front checks `Host`; or listen on 127.0.0.1",
            ));
        }
        policy
    }

    fn trusted_proxies(
        &mut self,
        networks: Option<Vec<String>>,
        header: Option<RawForwardedHeader>,
    ) -> TrustedProxies {
        let list = Path::default().key("trusted_proxies");
        let mut proxies = TrustedProxies {
            networks: Vec::new(),
            header: match header {
                Some(RawForwardedHeader::Forwarded) => ForwardedHeader::Forwarded,
                Some(RawForwardedHeader::XForwardedFor) | None => ForwardedHeader::XForwardedFor,
            },
        };
        for (index, text) in networks.unwrap_or_default().iter().enumerate() {
            match text.parse() {
                Ok(network) => proxies.networks.push(network),
                Err(InvalidNetwork { mend }) => {
                    let message = format!("`{text}` is no address or network");
                    self.add(Problem::at(list.index(index), message).mend(mend));
                }
            }
        }
        proxies
    }

    fn carried_headers(&mut self, names: Option<Vec<String>>) -> Vec<HeaderName> {
        let list = Path::default().key("carried_headers");
        let mut headers = Vec::new();
        for (index, text) in names.unwrap_or_default().iter().enumerate() {
            let (message, mend) = match HeaderName::from_bytes(text.as_bytes()) {
                Ok(name) if headers.contains(&name) => (
                    format!("`{text}` is there twice"),
                    "remove one of them: upper and lower case are the same here",
                ),
                Ok(name) if carried_request_header(&name) => (
                    format!("`{text}` goes along in any case"),
                    "take it out: this is for headers beside those that always do",
                ),
                Ok(name) if forwardable_request_header(&name) => {
                    headers.push(name);
                    continue;
                }
                Ok(_) => (
                    format!("`{text}` never reaches a server"),
                    "take it out: servers get the gateway's credentials, not clients'",
                ),
                // It is not quoted: it may be a whole header, with what it authorizes by.
                Err(_) => (
                    "this is no header name".to_owned(),
                    "write it as in \"x-tenant\"",
                ),
            };
            self.add(Problem::at(list.index(index), message).mend(mend));
        }
        headers
    }

    fn tokens(&mut self, raw: &[RawToken]) -> Vec<AccessToken> {
        let list = Path::default().key("tokens");
        let mut tokens: Vec<AccessToken> = Vec::with_capacity(raw.len());
        for (index, entry) in raw.iter().enumerate() {
            let path = list.index(index);
            if entry.principal.trim().is_empty() {
                let problem = Problem::at(path.key("principal"), "the name is empty");
                self.add(problem.mend("name whose token it is, such as \"alice\""));
            }
            let visible = entry.token.bytes().all(|b| (0x21..=0x7e).contains(&b));
            if entry.token.len() < 16 || !visible {
                let message = "a token is at least 16 characters of visible ASCII";
                let problem = Problem::at(path.key("token"), message);
                self.add(problem.mend("make one with `openssl rand -hex 32`"));
            } else if tokens.iter().any(|other| other.token == entry.token) {
                let problem = Problem::at(path.key("token"), "this token is given twice");
                self.add(problem.mend("give everybody a token of their own"));
            }
            tokens.push(AccessToken {
                principal: entry.principal.clone(),
                token: entry.token.clone(),
            });
        }
        tokens
    }

    fn limits(&mut self, raw: &RawLimits) -> Limits {
        let at = Path::default().key("limits");
        let mut limits = Limits::default();
        raw.apply(self, &at, &mut limits);
        self.fits(&at.key("max_body"), limits.max_body, limits.max_buffered);
        limits
    }

    /// Notes a message that could never be held, though it may be so large.
    pub(super) fn fits(&mut self, path: &Path, bytes: usize, max_buffered: usize) {
        if bytes > max_buffered {
            let (size, all) = (Size(bytes as u64), Size(max_buffered as u64));
            let message = format!("{size} is more than limits.max_buffered, which is {all}");
            let problem = Problem::at(path.clone(), message);
            self.add(problem.mend("raise limits.max_buffered, or lower this"));
        }
    }

    fn sessions(&mut self, raw: &RawSessions) -> SessionLimits {
        let at = Path::default().key("sessions");
        let mut limits = SessionLimits::default();
        raw.apply(self, &at, &mut limits);
        if limits.idle > limits.age {
            let (idle, age) = (Period(limits.idle), Period(limits.age));
            let problem = match raw.idle {
                Some(_) => {
                    let message = format!("{idle} is longer than a session can grow old ({age})");
                    Problem::at(at.key("idle"), message)
                }
                // Only `age` is written, so that is what is wrong.
                None => {
                    let message =
                        format!("{age} is shorter than `sessions.idle`, {idle} (the default)");
                    Problem::at(at.key("age"), message)
                }
            };
            self.add(problem.mend("make `sessions.age` longer, or `sessions.idle` shorter"));
        }
        limits
    }

    /// Notes a problem.
    pub(super) fn add(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// The setting that is written, if it is in range, or the default.
    pub(super) fn within<T, Q: Quantity<T>>(
        &mut self,
        path: &Path,
        written: Option<Q>,
        default: T,
        bounds: &Bounds<Q>,
    ) -> T {
        let Some(value) = written else {
            return default;
        };
        let (low, high) = (bounds.low, bounds.high);
        if (low..=high).contains(&value) || bounds.also == Some(value) {
            return value.read();
        }
        let default = Q::write(default);
        let message = format!("{value} is not from {low} to {high}");
        self.add(Problem::at(path.clone(), message).mend(format!("the default is {default}")));
        default.read()
    }
}

/// Levels of logging.
const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

/// A level, or some by module. A bare word that is no level would be taken for a module whose every line is
/// written, and all others' would be lost.
fn is_log_level(value: &str) -> bool {
    let mut parts = value.split(',').map(str::trim);
    let is_level = |level: &str| LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level));
    parts.all(|part| part.contains('=') || is_level(part)) && value.parse::<Targets>().is_ok()
}
