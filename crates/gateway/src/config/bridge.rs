//! What is decided between a client of one era and a server of the other.

use std::time::Duration;

use thinpipe_proto::bridge;
use thinpipe_proto::classify::Served;
use thinpipe_transport::mcp::LogLevel;

/// Which clients a server is given (protocol notes 1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Clients {
    /// All of them, whatever the server itself speaks.
    #[default]
    Any,
    /// Clients of 2024-11-05 to 2025-11-25 alone. To others these revisions are named.
    Legacy,
    /// Clients of 2026-07-28 alone. To others it is named.
    Modern,
}

impl Clients {
    pub(crate) fn served(self) -> Served {
        Served {
            legacy: self != Self::Modern,
            modern: self != Self::Legacy,
        }
    }
}

/// Who uses an upstream session (protocol notes 5.2.1 and 5.4.1). Only servers of 2024-11-05 to 2025-11-25
/// have sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// One client: each session of a client has its own, and each request of 2026-07-28 opens one and
    /// ends it.
    PerClient,
    /// The requests of 2026-07-28 of one principal that declare the same capabilities; and the clients that have
    /// sessions, of one principal, that declare the same and ask for the same revision. Those without a principal
    /// are of one, too.
    Pooled,
    /// Everybody, for servers that keep no client state: the requests of 2026-07-28, and the clients that have
    /// sessions and ask for the same revision.
    Shared,
}

/// Where the upstream session of a request of 2026-07-28 comes from (protocol notes 5.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestSession {
    /// It opens one, and ends it.
    Own,
    /// From the pool of its principal and its declared capabilities.
    Pooled,
    /// It is everybody's.
    Shared,
}

/// Whether what a server asks during a call of 2026-07-28 reaches the client (protocol notes 5.4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mrtr {
    /// As `input_required`; the call waits for the client to come back.
    #[default]
    On,
    /// It does not: the server is told that its client can neither sample nor elicit, and has no roots.
    Off,
}

/// Upstream sessions that several use: the requests of 2026-07-28, and, where [`Sharing`] says so, the clients that
/// have sessions. The bounds hold for either kind (protocol notes 5.2.1 and 5.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolConfig {
    /// The most of one principal. Default: 8.
    pub max: usize,
    /// The most of all principals. Default: 10,000. One more ends the one that was idle longest, whoever's
    /// it is.
    pub total: usize,
    /// One that is not used ends after this. Default: 5 min.
    pub idle: Duration,
    /// How long a request waits for one where none is idle. Default: 5 s. Then 503 with `Retry-After`.
    pub wait: Duration,
    /// The most client sessions on one of them. Default: 1,024. Beyond, 503 with `Retry-After`, or another one if
    /// all are of one principal.
    pub clients: usize,
    /// Whether roots are declared to the server. What a client's roots lead to stays with the session,
    /// which clients of one principal share. Default: no.
    pub roots: bool,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            max: 8,
            total: 10_000,
            idle: Duration::from_secs(5 * 60),
            wait: Duration::from_secs(5),
            clients: bridge::DEFAULT_MEMBERS,
            roots: false,
        }
    }
}

/// Calls that wait for their client to come back with what the server asked (protocol notes 5.4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParkedConfig {
    /// The most of one principal, or of one address without a principal. Default: 100. Beyond, the server
    /// is told that nobody can be asked.
    pub per_principal: usize,
    /// The most in front of one server. Default: 10,000.
    pub total: usize,
    /// How long one waits. Default: 10 min. Then the call is cancelled.
    pub age: Duration,
}

impl Default for ParkedConfig {
    fn default() -> Self {
        Self {
            per_principal: 100,
            total: 10_000,
            age: Duration::from_secs(10 * 60),
        }
    }
}

/// Answers of servers of 2026-07-28 that are kept for as long as the server says (protocol notes 4.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheConfig {
    /// Whether any is kept. Default: yes.
    pub enabled: bool,
    /// The most answers. Default: 1,000.
    pub max_entries: usize,
    /// The most bytes of them together. Default: 16 MiB.
    pub max_bytes: usize,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            max_entries: 1000,
            max_bytes: 16 << 20,
        }
    }
}

/// How clients and a server of different eras are connected.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BridgeConfig {
    /// Who uses an upstream session. `None`, the default: a client that has sessions has one of its own;
    /// requests of 2026-07-28 share by principal and declared capabilities, and without a principal each
    /// has its own.
    pub sessions: Option<Sharing>,
    /// Whether the server can ask clients of 2026-07-28.
    pub mrtr: Mrtr,
    /// Sessions that requests of 2026-07-28 share.
    pub pool: PoolConfig,
    /// Calls that wait for their client.
    pub parked: ParkedConfig,
    /// For how long clients of 2026-07-28 are told to keep lists and what was read of a server that gives
    /// no time itself (`ttlMs`). Default: zero, not at all.
    pub list_ttl: Duration,
    /// Level of the log messages that a server of 2026-07-28 is asked for until a client with a session
    /// has set one. Default: none, it logs nothing to them.
    pub log_level: Option<LogLevel>,
    /// Whether the `requestState` of a server of 2026-07-28 is sealed for the principal it was given to:
    /// needed where the server cannot tell the principals apart. Default: no.
    pub seal_state: bool,
    /// What is kept of the answers of a server of 2026-07-28.
    pub cache: CacheConfig,
}

impl BridgeConfig {
    /// Where the upstream session of a request of 2026-07-28 comes from.
    #[must_use]
    pub fn request_session(&self, has_principal: bool) -> RequestSession {
        match self.sessions {
            Some(Sharing::Shared) => RequestSession::Shared,
            Some(Sharing::Pooled) => RequestSession::Pooled,
            Some(Sharing::PerClient) => RequestSession::Own,
            None if has_principal => RequestSession::Pooled,
            None => RequestSession::Own,
        }
    }

    /// Whether all clients without a principal are one, as somebody has said.
    pub(crate) fn one_anonymous(&self) -> bool {
        self.sessions == Some(Sharing::Pooled)
    }

    /// Who uses a pipe to the server that a client with a session opened.
    pub(crate) fn pipe_sharing(&self) -> bridge::Sharing {
        match self.sessions {
            Some(Sharing::Shared) => bridge::Sharing::Shared,
            Some(Sharing::Pooled) => bridge::Sharing::Pooled,
            Some(Sharing::PerClient) | None => bridge::Sharing::PerClient,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R231: without a principal nobody shares, unless somebody has said so.
    #[test]
    fn r231_who_has_no_principal_shares_only_when_told() {
        for (sessions, named, unnamed) in [
            (None, RequestSession::Pooled, RequestSession::Own),
            (
                Some(Sharing::PerClient),
                RequestSession::Own,
                RequestSession::Own,
            ),
            (
                Some(Sharing::Pooled),
                RequestSession::Pooled,
                RequestSession::Pooled,
            ),
            (
                Some(Sharing::Shared),
                RequestSession::Shared,
                RequestSession::Shared,
            ),
        ] {
            let bridge = BridgeConfig {
                sessions,
                ..BridgeConfig::default()
            };
            let found = [true, false].map(|named| bridge.request_session(named));
            assert_eq!(found, [named, unnamed], "{sessions:?}");
            let is_pooled = sessions == Some(Sharing::Pooled);
            assert_eq!(bridge.one_anonymous(), is_pooled, "{sessions:?}");
        }
    }
}
