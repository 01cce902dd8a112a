//! What clients of each transport get of a server: its messages as they are, or through a bridge, and
//! what cannot cross that. Pure: the start says it, the doctor says it, and
//! `docs/src/cannot-cross/` has a page for each thing; a test keeps these equal.

use std::fmt;

use thinpipe_gateway::{
    BridgeConfig, Clients, Mrtr, Reached, RequestSession, Resume, Sharing, UpstreamSpec,
};
use thinpipe_proto::deprecation::Timestamp;
use thinpipe_transport::server::LegacyMode;
use thinpipe_transport::upstream::probe::{Speaks, Verdict};

use crate::config::Config;

mod table;

pub(crate) use table::LOST;

/// How clients reach the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Client {
    /// HTTP+SSE.
    HttpSse,
    /// Streamable HTTP with sessions.
    Sessions,
    /// Streamable HTTP of 2026-07-28.
    Stateless,
}

/// How a server is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    /// HTTP+SSE.
    HttpSse,
    /// Streamable HTTP with sessions.
    Sessions,
    /// A program up to 2025-11-25.
    LegacyProgram,
    /// Streamable HTTP of 2026-07-28.
    Stateless,
    /// A program of 2026-07-28.
    ModernProgram,
}

/// How messages cross.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// As they are.
    Passed,
    /// From one transport to another, or from one era to the other.
    Bridged,
}

/// What a server at a URL has been found to speak.
pub(crate) fn spoken(verdict: &Verdict) -> Vec<Server> {
    match &verdict.speaks {
        Speaks::Modern { legacy, .. } => {
            let legacy = legacy.map(|_| Server::Sessions);
            std::iter::once(Server::Stateless).chain(legacy).collect()
        }
        Speaks::Legacy { .. } => vec![Server::Sessions],
        Speaks::HttpSse { .. } => vec![Server::HttpSse],
    }
}

/// What a server has that not every client can be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Features {
    /// It has tools.
    pub(crate) tools: bool,
    /// It logs to its clients.
    pub(crate) logging: bool,
    /// It runs tasks of 2025-11-25 or of the extension.
    pub(crate) tasks: bool,
    /// It tells of changes.
    pub(crate) changes: bool,
    /// It has a stream of its own for what belongs to no call.
    pub(crate) stream: bool,
}

impl Features {
    /// Those of a server that nobody has asked: it may have everything.
    pub(crate) const ALL: Self = Self {
        tools: true,
        logging: true,
        tasks: true,
        changes: true,
        stream: true,
    };
}

/// Something that cannot cross.
pub(crate) struct Lost {
    /// Its name, and that of its page.
    pub(crate) key: &'static str,
    /// What the client misses, in one sentence.
    pub(crate) text: &'static str,
    pub(crate) holds: fn(&Crossing<'_>) -> bool,
}

/// One kind of client in front of one server.
pub(crate) struct Crossing<'a> {
    pub(crate) client: Client,
    pub(crate) server: Server,
    pub(crate) features: Features,
    pub(crate) bridge: &'a BridgeConfig,
    /// Who resumes streams.
    pub(crate) resume: Resume,
    /// Clients have tokens, and so can be told apart.
    pub(crate) has_principals: bool,
}

/// What holds for all servers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Front {
    /// Whether clients with sessions are served.
    pub(crate) legacy: LegacyMode,
    /// Clients have tokens, and so can be told apart.
    pub(crate) has_principals: bool,
    /// HTTP+SSE is over.
    pub(crate) is_sse_over: bool,
}

impl Front {
    /// That of a whole configuration, at this time.
    pub(crate) fn of(config: &Config, now: Timestamp) -> Self {
        Self {
            legacy: config.server.legacy,
            has_principals: !config.server.tokens.is_empty(),
            is_sse_over: config.gateway.deprecation.is_gone(now),
        }
    }
}

/// Why clients of a kind are not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotServed(pub(crate) &'static str);

impl Client {
    /// All of them, the oldest first.
    pub(crate) const ALL: [Self; 3] = [Self::HttpSse, Self::Sessions, Self::Stateless];

    /// Its name for programs.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::HttpSse => "http+sse",
            Self::Sessions => "sessions",
            Self::Stateless => "stateless",
        }
    }

    /// Whether such clients get to this server at all.
    pub(crate) fn is_served(self, spec: &UpstreamSpec, front: Front) -> Result<(), NotServed> {
        let has_sessions = self != Self::Stateless;
        match spec.clients {
            Clients::Legacy if !has_sessions => return Err(NotServed("`clients = \"legacy\"`")),
            Clients::Modern if has_sessions => return Err(NotServed("`clients = \"modern\"`")),
            _ => {}
        }
        if has_sessions && front.legacy == LegacyMode::Refused {
            return Err(NotServed("`legacy = \"refused\"`"));
        }
        if self == Self::HttpSse && spec.sse.is_none() {
            return Err(NotServed("`sse.enabled = false`"));
        }
        if self == Self::HttpSse && front.is_sse_over {
            return Err(NotServed("it is over, by `sse.deprecation.sunset`"));
        }
        Ok(())
    }

    /// Which of what a server speaks such clients are given: what is nearest to their own.
    pub(crate) fn reaches(self, speaks: &[Server]) -> Option<Server> {
        let is_modern = self == Self::Stateless;
        let own = speaks.iter().find(|server| server.is_modern() == is_modern);
        own.or_else(|| speaks.first()).copied()
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HttpSse => "HTTP+SSE",
            Self::Sessions => "Streamable HTTP with sessions",
            Self::Stateless => "2026-07-28",
        })
    }
}

impl Server {
    /// Whether it speaks 2026-07-28.
    pub(crate) fn is_modern(self) -> bool {
        matches!(self, Self::Stateless | Self::ModernProgram)
    }
}

impl Crossing<'_> {
    /// How its messages cross.
    pub(crate) fn way(&self) -> Way {
        match (self.client, self.server) {
            (Client::Stateless, Server::Stateless) => Way::Passed,
            // Ids of the gateway's own, or a session that others use too, take more than passing.
            (Client::Sessions, Server::Sessions)
                if !self.clients_share() && self.resume != Resume::Log =>
            {
                Way::Passed
            }
            _ => Way::Bridged,
        }
    }

    /// What cannot cross.
    pub(crate) fn lost(&self) -> Vec<&'static Lost> {
        LOST.iter().filter(|lost| (lost.holds)(self)).collect()
    }

    /// A client with a session, a server of 2026-07-28.
    fn goes_up(&self) -> bool {
        self.client != Client::Stateless && self.server.is_modern()
    }

    /// A client of 2026-07-28, a server with sessions.
    fn goes_down(&self) -> bool {
        self.client == Client::Stateless && !self.server.is_modern()
    }

    fn request_session(&self) -> RequestSession {
        self.bridge.request_session(self.has_principals)
    }

    /// Whether clients that have sessions may have one of the server together.
    fn clients_share(&self) -> bool {
        matches!(
            self.bridge.sessions,
            Some(Sharing::Pooled | Sharing::Shared)
        )
    }

    fn is_shared(&self) -> bool {
        self.bridge.sessions == Some(Sharing::Shared)
    }

    /// How the requests of 2026-07-28 come to a server with sessions, in a few words.
    pub(crate) fn terms(&self) -> Option<&'static str> {
        if !self.goes_down() {
            return None;
        }
        Some(match (self.request_session(), self.bridge.mrtr) {
            (RequestSession::Own, Mrtr::On) => "a session for each request",
            (RequestSession::Own, Mrtr::Off) => {
                "a session for each request, in which it can ask nothing"
            }
            (RequestSession::Pooled, Mrtr::On) => "sessions by principal and capabilities",
            (RequestSession::Pooled, Mrtr::Off) => {
                "sessions by principal, in which it can ask nothing"
            }
            (RequestSession::Shared, _) => "a session for all",
        })
    }
}

/// What is said at the start of who is served by an upstream, and who is not and why. `speaks` is empty as
/// long as nobody knows.
pub(crate) fn service(spec: &UpstreamSpec, front: Front, speaks: &[Server]) -> String {
    let (mut served, mut others) = (Vec::new(), Vec::new());
    for client in Client::ALL {
        match client.is_served(spec, front) {
            Ok(()) => served.push(how(client, spec, front.has_principals, speaks)),
            Err(NotServed(why)) => others.push(format!("{client} ({why})")),
        }
    }
    let mut text = match served.as_slice() {
        [] => "serves no clients".to_owned(),
        served => format!("serves clients of {}", served.join(", ")),
    };
    if speaks.is_empty() && !served.is_empty() {
        text.push_str(", whatever it turns out to speak");
    }
    if !others.is_empty() {
        text.push_str("; not those of ");
        text.push_str(&others.join(", "));
    }
    text
}

/// Whether it is open if a server of 2026-07-28 at a URL has sessions: some have, and do not name them in
/// `server/discover`. The first client with a session tries.
pub(crate) fn may_have_sessions(spec: &UpstreamSpec, speaks: &[Server]) -> bool {
    let is_asked = matches!(&spec.reached, Reached::Http(http) if http.pin.is_none());
    is_asked && speaks == [Server::Stateless]
}

fn how(client: Client, spec: &UpstreamSpec, has_principals: bool, speaks: &[Server]) -> String {
    let Some(server) = client.reaches(speaks) else {
        return client.to_string();
    };
    let crossing = Crossing {
        client,
        server,
        features: Features::ALL,
        bridge: &spec.bridge,
        resume: spec.resume,
        has_principals,
    };
    let as_it_is = Crossing {
        server: Server::Sessions,
        ..crossing
    };
    let passes = as_it_is.way() == Way::Passed;
    if client == Client::Sessions && may_have_sessions(spec, speaks) && passes {
        return format!("{client} (as it is if the server has sessions, else bridged)");
    }
    match (crossing.way(), crossing.terms()) {
        (Way::Passed, _) => format!("{client} (as it is)"),
        (Way::Bridged, None) => format!("{client} (bridged)"),
        (Way::Bridged, Some(terms)) => format!("{client} (bridged: {terms})"),
    }
}

#[cfg(test)]
mod tests;
