//! The servers behind the gateway.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use thinpipe_gateway::interceptor::{Chain, ChainConfig, ChainError, InterceptorConfig};
use thinpipe_gateway::{
    EventLogLimits, Forwarded, GroupConfig, HttpUpstream, Reached, Resume, SessionLost,
    UpstreamSpec,
};
use thinpipe_transport::server::{LegacyMode, SseConfig};
use thinpipe_transport::upstream::UpstreamConfig;
use thinpipe_transport::upstream::pipe::DEFAULT_MAX_MESSAGE;

use super::bridge::{RawClients, RawEra};
use super::build::Build;
use super::clients::{self, RawMcpServer};
use super::problem::{Place, Problem};
use super::raw::{RawForwarded, RawResume, RawSessionLost, RawUpstream};
use super::tables::{MAX_MESSAGE, MAX_PASSED_BODY, Quantity};
use super::tree::Path;
use super::url::parse_url;

/// Name of an upstream that was given none.
const DEFAULT_NAME: &str = "server";

/// What all upstreams have.
pub(super) struct Common {
    /// `None`: HTTP+SSE is not served.
    pub(super) sse: Option<SseConfig>,
    pub(super) interceptors: Vec<InterceptorConfig>,
    pub(super) chain: Option<ChainConfig>,
    /// Clients have tokens.
    pub(super) authenticates: bool,
    /// Whether clients with sessions are let in at all.
    pub(super) legacy: LegacyMode,
    /// What may be held whole of all of them together.
    pub(super) max_buffered: usize,
    /// What is kept of streams.
    pub(super) event_log: EventLogLimits,
}

/// There is no upstream, although some servers may be `listed`.
fn nobody(listed: bool) -> Problem {
    if listed {
        let problem = Problem::at(Path::default(), "all servers are disabled");
        return problem.mend("take `\"disabled\": true` out of one");
    }
    let problem = Problem::at(Path::default(), "there is no server to stand in front of");
    problem.mend("add one: `[[upstreams]]` and `url = \"http://127.0.0.1:3001/mcp\"`")
}

/// An upstream with the place it was written at.
struct Entry {
    raw: RawUpstream,
    path: Path,
}

impl Build {
    /// All upstreams, `servers` in the order of [`clients::TABLES`], each with a name and a path of its own.
    pub(super) fn upstreams(
        &mut self,
        raw: Vec<RawUpstream>,
        servers: [BTreeMap<String, RawMcpServer>; 2],
        common: &Common,
        listen: SocketAddr,
    ) -> Vec<UpstreamSpec> {
        let listed = servers.iter().any(|table| !table.is_empty());
        let entries = self.entries(raw, servers);
        let several = entries.len() > 1;
        if entries.is_empty() && self.problems.is_empty() {
            self.add(nobody(listed));
        }
        let mut specs: Vec<UpstreamSpec> = Vec::with_capacity(entries.len());
        for Entry { raw, path } in entries {
            let Some(spec) = self.upstream(raw, &path, several, common, listen) else {
                continue;
            };
            if specs.iter().any(|other| other.name() == spec.name()) {
                let message = format!("two upstreams are called `{}`", spec.name());
                self.add(
                    Problem::at(path.key("name"), message).mend("give each a name of its own"),
                );
                // Its paths come of its name: they are wrong for no other reason.
                continue;
            }
            self.own_paths(&specs, &spec, &path);
            specs.push(spec);
        }
        specs
    }

    fn entries(
        &mut self,
        raw: Vec<RawUpstream>,
        servers: [BTreeMap<String, RawMcpServer>; 2],
    ) -> Vec<Entry> {
        let list = Path::default().key("upstreams");
        let mut entries: Vec<_> = raw
            .into_iter()
            .enumerate()
            .map(|(index, raw)| Entry {
                raw,
                path: list.index(index),
            })
            .collect();
        let tables = clients::TABLES.into_iter().zip(servers);
        let servers = tables.flat_map(|(table, servers)| {
            let table = Path::default().key(table);
            servers
                .into_iter()
                .map(move |(name, server)| (table.key(&name), name, server))
        });
        for (path, name, server) in servers {
            match clients::upstream(&name, server, &path) {
                Ok(Some(raw)) => entries.push(Entry { raw, path }),
                Ok(None) => {}
                Err(problem) => self.add(problem),
            }
        }
        entries
    }

    fn upstream(
        &mut self,
        raw: RawUpstream,
        path: &Path,
        several: bool,
        common: &Common,
        listen: SocketAddr,
    ) -> Option<UpstreamSpec> {
        let name = self.name(raw.name.clone(), path, several);
        let reached = self.reached(&raw, name.as_deref().unwrap_or(DEFAULT_NAME), path, listen);
        let name = name?;
        let base = match several {
            true => format!("/servers/{name}"),
            false => String::new(),
        };
        let endpoint = match raw.path.clone() {
            Some(given) => self.endpoint_at(given, path.key("path"), "/mcp")?,
            None => format!("{base}/mcp"),
        };
        let mut spec = UpstreamSpec::new(endpoint, reached?);
        let paths = [raw.sse_path.clone(), raw.messages_path.clone()];
        let sse = common.sse.as_ref();
        spec.sse = match raw.clients {
            // What is given for it is idle, which is said below.
            Some(RawClients::Modern) => None,
            _ => self.sse_paths(paths, &base, sse, common.legacy, path),
        };
        spec.clients = self.clients(&raw, path, common.legacy);
        let processes = match &spec.reached {
            Reached::Stdio(program) => Some(program.max_children),
            Reached::Http(_) => None,
        };
        spec.bridge = self.bridge(&raw, path, common.authenticates, processes);
        spec.session_lost = match raw.session_lost {
            Some(RawSessionLost::Reestablish) => SessionLost::Reestablish,
            Some(RawSessionLost::End) | None => SessionLost::End,
        };
        spec.resume = match raw.resume {
            Some(RawResume::Off) => Resume::Off,
            Some(RawResume::Log) => Resume::Log,
            Some(RawResume::Upstream) | None => Resume::Upstream,
        };
        spec.rate = raw.rate;
        spec.event_log = common.event_log;
        spec.forwarded = match raw.forwarded {
            Some(RawForwarded::Append) => Forwarded::Append,
            Some(RawForwarded::Off) | None => Forwarded::Off,
        };
        raw.health
            .apply(self, &path.key("health"), &mut spec.health);
        let own = raw.chain.is_some();
        spec.chain = raw
            .chain
            .or_else(|| common.chain.clone())
            .unwrap_or_default();
        spec.interceptors = common.interceptors.clone();
        spec.interceptors.extend(raw.interceptors);
        self.interceptors(&spec, common, path, own);
        let (at, bounds) = (path.key("max_message"), MAX_MESSAGE);
        spec.max_message = self.within(&at, raw.max_message, spec.max_message, &bounds);
        self.fits(&at, spec.max_message, common.max_buffered);
        let (at, bounds) = (path.key("max_passed_body"), MAX_PASSED_BODY);
        spec.max_passed_body = self.within(&at, raw.max_passed_body, spec.max_passed_body, &bounds);
        Some(spec)
    }

    /// Patterns, pointers and rules: what only the gateway can judge.
    fn interceptors(&mut self, spec: &UpstreamSpec, common: &Common, path: &Path, own_chain: bool) {
        let problem = match Chain::build(&spec.interceptors, Vec::new(), &spec.chain) {
            Ok(_) => return,
            Err(ChainError::Interceptor {
                index,
                field,
                reason,
                ..
            }) => {
                let (table, index) = match index.checked_sub(common.interceptors.len()) {
                    Some(own) => (path, own),
                    None => (&Path::default(), index),
                };
                let at = table.key("interceptors").index(index);
                Problem::at(at.join(&field), reason)
            }
            Err(ChainError::Setting { field, reason }) => {
                let table = if own_chain { path } else { &Path::default() };
                Problem::at(table.key("chain").key(field), reason)
            }
            Err(error) => Problem::at(path.clone(), error.to_string()),
        };
        // What all upstreams share is wrong once, not once for each of them.
        if !self.problems.contains(&problem) {
            self.add(problem);
        }
    }

    /// How the server is reached: by `url` or by `command`, and by what belongs to that.
    fn reached(
        &mut self,
        raw: &RawUpstream,
        name: &str,
        path: &Path,
        listen: SocketAddr,
    ) -> Option<Reached> {
        let Some(command) = &raw.command else {
            self.strangers(raw.keys_of_programs(), path, "command");
            if raw.era == Some(RawEra::HttpSse) {
                for key in raw.keys_of_streamable() {
                    let message =
                        format!("`{key}` means nothing to a server of `era = \"http+sse\"`");
                    self.add(Problem::at(path.key(key), message).mend("remove it"));
                }
                self.resumes_nothing(raw, path, "a server of `era = \"http+sse\"`");
            }
            let group = self.group(raw, path, listen);
            let url = self.url_of(raw, group.as_deref(), path, listen);
            let headers = self.headers(raw.headers.clone(), path);
            let mut client = UpstreamConfig::new(name.into(), url?);
            client.http2 = raw.http2.unwrap_or(client.http2);
            client.headers = headers;
            raw.timeouts.apply(self, &path.key("timeouts"), &mut client);
            raw.pool.apply(self, &path.key("pool"), &mut client);
            let pin = self.era_of_url(raw, path);
            return Some(Reached::Http(HttpUpstream { client, group, pin }));
        };
        if raw.url.is_some() {
            let message = "an upstream has either `url` or `command`";
            self.add(Problem::at(path.key("command"), message).mend("remove one of them"));
            return None;
        }
        if raw.replicas.is_some() {
            let message = "an upstream has either `command` or `replicas`";
            self.add(Problem::at(path.key("replicas"), message).mend("remove one of them"));
        } else {
            self.strangers(raw.keys_of_replicas(), path, "replicas");
        }
        self.strangers(raw.keys_of_urls(), path, "url");
        self.resumes_nothing(raw, path, "a program");
        let max_message = raw.max_message.map_or(DEFAULT_MAX_MESSAGE, Quantity::read);
        let child = self.program(name, command, raw, path, max_message);
        Some(Reached::Stdio(child))
    }

    /// Keys that mean nothing to a server of this kind.
    pub(super) fn strangers(&mut self, keys: Vec<&'static str>, path: &Path, owner: &str) {
        for key in keys {
            let message = format!("`{key}` means something only where there is a `{owner}`");
            self.add(Problem::at(path.key(key), message).mend("remove it"));
        }
    }

    /// What a server cannot resume by itself only the gateway can.
    fn resumes_nothing(&mut self, raw: &RawUpstream, path: &Path, what: &str) {
        if raw.resumes_by_server() {
            let message =
                format!("`resume` can only be \"log\" for {what}, which resumes nothing itself");
            self.add(Problem::at(path.key("resume"), message).mend("write \"log\", or remove it"));
        }
    }

    /// Every path here leads to one thing.
    fn own_paths(&mut self, others: &[UpstreamSpec], spec: &UpstreamSpec, at: &Path) {
        let taken: Vec<_> = others.iter().flat_map(paths_of).collect();
        let own = paths_of(spec);
        for (index, (key, path)) in own.iter().enumerate() {
            let message = if taken.iter().any(|(_, other)| other == path) {
                format!("two upstreams are served on {path}")
            } else if own[..index].iter().any(|(_, other)| other == path) {
                format!("{path} is there for something else already")
            } else {
                continue;
            };
            self.add(Problem::at(at.key(*key), message).mend("give each a path of its own"));
        }
    }

    pub(super) fn name(
        &mut self,
        given: Option<String>,
        path: &Path,
        several: bool,
    ) -> Option<String> {
        let Some(name) = given else {
            if several {
                let problem = Problem::at(path.clone(), "one of several upstreams has no name");
                self.add(problem.mend("add `name`: its path will be /servers/<name>/mcp"));
                return None;
            }
            return Some(DEFAULT_NAME.to_owned());
        };
        if !is_name(&name) {
            let message = format!("`{name}` cannot be the name of an upstream");
            let place = self.place(path, "name");
            self.add(
                Problem::new(place, message).mend(
                    "use 1 to 64 letters, digits, `-`, `_` and `.`: it becomes part of a path",
                ),
            );
            return None;
        }
        Some(name)
    }

    /// Where a value of an upstream was given.
    pub(super) fn place(&self, path: &Path, key: &str) -> Place {
        match (self.direct, key) {
            (true, "name") => Place::Setting("--name".to_owned()),
            (true, "env") => Place::Setting("--env".to_owned()),
            (true, "era") => Place::Setting("--era".to_owned()),
            (true, "sessions") => Place::Setting("--sessions".to_owned()),
            (true, "command" | "args") => Place::Setting("COMMAND".to_owned()),
            (true, _) => Place::Setting("URL".to_owned()),
            (false, _) => Place::Path(path.key(key)),
        }
    }

    /// The URL of the server; of several replicas, that of the first.
    fn url_of(
        &mut self,
        raw: &RawUpstream,
        group: Option<&GroupConfig>,
        path: &Path,
        listen: SocketAddr,
    ) -> Option<Uri> {
        if raw.replicas.is_none() {
            return self.url(raw.url.as_deref(), path, listen);
        }
        if raw.url.is_some() {
            let message = "an upstream has either `url` or `replicas`";
            self.add(Problem::at(path.key("url"), message).mend("remove one of them"));
        }
        group?.replicas.first().map(|replica| replica.url.clone())
    }

    pub(super) fn url(
        &mut self,
        given: Option<&str>,
        path: &Path,
        listen: SocketAddr,
    ) -> Option<Uri> {
        let Some(text) = given else {
            let message = "the upstream has neither `url` nor `command`";
            self.add(Problem::at(path.clone(), message).mend(
                "add `url = \"http://127.0.0.1:3001/mcp\"`, or `command = \"npx\"` for a server on stdio",
            ));
            return None;
        };
        let problem = match parse_url(text, listen) {
            Ok(url) => return Some(url),
            Err((message, mend)) => Problem::new(self.place(path, "url"), message).mend(mend),
        };
        self.add(problem);
        None
    }

    /// A path that something is served on; `example` is one.
    pub(super) fn endpoint_at(
        &mut self,
        given: String,
        place: Path,
        example: &str,
    ) -> Option<String> {
        let parsed = given.parse::<PathAndQuery>();
        let plain = parsed.is_ok_and(|p| p.query().is_none() && p.path() == given);
        if plain && given.starts_with('/') && given.len() > 1 && !given.contains("//") {
            return Some(given);
        }
        let message = format!("`{given}` is no path of an endpoint");
        let mend = format!("write it as in \"{example}\"");
        self.add(Problem::at(place, message).mend(mend));
        None
    }

    fn headers(&mut self, given: BTreeMap<String, String>, path: &Path) -> HeaderMap {
        let table = path.key("headers");
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            let at = table.key(&name);
            let Ok(parsed) = name.parse::<HeaderName>() else {
                let message = format!("`{name}` is no name of a header");
                self.add(Problem::at(at, message).mend("write it as in \"Authorization\""));
                continue;
            };
            if is_reserved(&parsed) {
                let message = format!("`{name}` is set by the gateway itself");
                self.add(Problem::at(at, message).mend("remove it"));
                continue;
            }
            let Ok(mut value) = HeaderValue::from_str(value.trim()) else {
                let message = "a header's value is one line of printable text";
                self.add(Problem::at(at, message).mend("look for line breaks in it"));
                continue;
            };
            value.set_sensitive(true);
            headers.insert(parsed, value);
        }
        headers
    }
}

/// What is served for an upstream, by the keys that say where.
fn paths_of(spec: &UpstreamSpec) -> Vec<(&'static str, &str)> {
    let mut paths = vec![("path", spec.path.as_str())];
    if let Some(sse) = &spec.sse {
        paths.push(("sse_path", &sse.stream));
        paths.push(("messages_path", &sse.messages));
    }
    paths
}

/// Whether it can be part of a path, a label and a log line.
pub(super) fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let dots = text.chars().all(|c| c == '.');
    text.len() <= 64 && !dots && text.chars().all(fits)
}

/// Headers that carry the transport's own state.
fn is_reserved(name: &HeaderName) -> bool {
    let own = matches!(
        name.as_str(),
        "host"
            | "content-length"
            | "content-type"
            | "transfer-encoding"
            | "connection"
            | "accept"
            | "accept-encoding"
            | "expect"
            | "upgrade"
            | "te"
    );
    own || name.as_str().starts_with("mcp-") || name == "last-event-id"
}
