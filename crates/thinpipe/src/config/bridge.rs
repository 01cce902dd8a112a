//! How clients and a server of different eras are connected: keys of an upstream, and which of them mean
//! something beside each other.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use thinpipe_gateway::{BridgeConfig, Clients, Mrtr, ProgramEra, Sharing};
use thinpipe_proto::revision::{Binding, Revision};
use thinpipe_transport::mcp::LogLevel;
use thinpipe_transport::server::LegacyMode;

use super::build::Build;
use super::problem::{Place, Problem};
use super::raw::RawUpstream;
use super::tables::{LIST_TTL, Quantity, RawCache, RawParked, RawSessionPool};
use super::tree::Path;

/// `clients`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawClients {
    Any,
    Legacy,
    Modern,
}

/// `sessions` of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub(crate) enum RawSharing {
    /// One for each client that has a session; others share by principal and capabilities
    Auto,
    /// One for each client, and for each request of 2026-07-28
    PerClient,
    /// As auto, but clients without a token count as one, and those that have sessions share one, too
    Pooled,
    /// One for all clients
    Shared,
}

/// `era`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub(crate) enum RawEra {
    /// Ask the server
    Auto,
    /// HTTP+SSE, at a URL
    #[serde(rename = "http+sse")]
    #[value(name = "http+sse")]
    HttpSse,
    /// Streamable HTTP with sessions, at a URL
    Streamable,
    /// 2026-07-28, at a URL
    Stateless,
    /// A program of 2024-11-05 to 2025-11-25
    Legacy,
    /// A program of 2026-07-28
    Modern,
}

/// `mrtr`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawMrtr {
    On,
    Off,
}

/// `log_level` of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawLogLevel {
    Off,
    Debug,
    Info,
    Notice,
    Warning,
    Error,
    Critical,
    Alert,
    Emergency,
}

impl RawEra {
    /// What a program speaks; `None`: no program does.
    fn of_program(self) -> Option<Option<ProgramEra>> {
        match self {
            Self::Auto => Some(None),
            Self::Legacy => Some(Some(ProgramEra::Legacy)),
            Self::Modern => Some(Some(ProgramEra::Modern)),
            Self::HttpSse | Self::Streamable | Self::Stateless => None,
        }
    }

    /// What a server at a URL speaks; `None`: none does.
    fn of_url(self) -> Option<Option<Binding>> {
        match self {
            Self::Auto => Some(None),
            Self::HttpSse => Some(Some(Binding::HttpSse)),
            Self::Streamable => Some(Some(Binding::Sessions)),
            Self::Stateless => Some(Some(Binding::Stateless)),
            Self::Legacy | Self::Modern => None,
        }
    }

    pub(super) fn shown_of_program(pin: Option<ProgramEra>) -> Self {
        match pin {
            None => Self::Auto,
            Some(ProgramEra::Legacy) => Self::Legacy,
            Some(ProgramEra::Modern) => Self::Modern,
        }
    }

    pub(super) fn shown_of_url(pin: Option<Binding>) -> Self {
        match pin {
            None => Self::Auto,
            Some(Binding::HttpSse) => Self::HttpSse,
            Some(Binding::Sessions) => Self::Streamable,
            Some(Binding::Stateless) => Self::Stateless,
        }
    }
}

/// What was meant by a word that is no `era`, among those that fit a program, or a server at a URL.
pub(super) fn suggest_era(problem: Problem, word: &str, program: bool) -> Problem {
    let era = Revision::from_bytes(word.as_bytes()).map(|revision| revision.is_modern());
    match (program, word.to_ascii_lowercase().as_str()) {
        (true, _) if era == Some(true) => problem.mend("did you mean `modern`?"),
        (true, _) if era == Some(false) => problem.mend("did you mean `legacy`?"),
        (false, _) if era == Some(true) => problem.mend("did you mean `stateless`?"),
        (false, "2024-11-05") => problem.mend("did you mean `http+sse`?"),
        (false, _) if era == Some(false) => problem.mend("did you mean `streamable`?"),
        (false, "sessions") => problem.mend("did you mean `streamable`?"),
        (true, _) => problem.suggest(word, &["auto", "legacy", "modern"]),
        // As other programs call it.
        (false, "sse") => problem.mend("did you mean `http+sse`?"),
        (false, _) => problem.suggest(word, &["auto", "http+sse", "streamable", "stateless"]),
    }
}

/// What was meant by a word that is none of `clients`: that of a revision, or of an `era`.
pub(super) fn suggest_clients(problem: Problem, word: &str, expected: &[&str]) -> Problem {
    let era = Revision::from_bytes(word.as_bytes()).map(|revision| revision.is_modern());
    match (era, word) {
        (Some(true), _) | (_, "stateless") => problem.mend("did you mean `modern`?"),
        (Some(false), _) | (_, "streamable" | "sessions" | "http+sse" | "sse") => {
            problem.mend("did you mean `legacy`?")
        }
        _ => problem.suggest(word, expected),
    }
}

impl Build {
    /// What a server at a URL is said to speak.
    pub(super) fn era_of_url(&mut self, raw: &RawUpstream, path: &Path) -> Option<Binding> {
        let found = raw.era.unwrap_or(RawEra::Auto).of_url();
        found.unwrap_or_else(|| {
            let message = "only a program is \"legacy\" or \"modern\"";
            let mend = "a server at a URL is \"http+sse\", \"streamable\" or \"stateless\"";
            self.add(Problem::new(self.place(path, "era"), message).mend(mend));
            None
        })
    }

    /// What a program is said to speak.
    pub(super) fn era_of_program(&mut self, raw: &RawUpstream, path: &Path) -> Option<ProgramEra> {
        let found = raw.era.unwrap_or(RawEra::Auto).of_program();
        found.unwrap_or_else(|| {
            let message = "a program speaks on its standard streams, not over HTTP";
            let mend = "write \"legacy\" (up to 2025-11-25) or \"modern\" (2026-07-28)";
            self.add(Problem::new(self.place(path, "era"), message).mend(mend));
            None
        })
    }

    /// Which clients a server is given; `legacy` says whether some are let in at all.
    pub(super) fn clients(
        &mut self,
        raw: &RawUpstream,
        path: &Path,
        legacy: LegacyMode,
    ) -> Clients {
        match raw.clients {
            Some(RawClients::Legacy) => {
                if legacy == LegacyMode::Refused {
                    let message = "with `legacy = \"refused\"` none of these clients gets here";
                    let problem = Problem::at(path.key("clients"), message);
                    self.add(problem.mend("remove one of the two settings"));
                }
                Clients::Legacy
            }
            Some(RawClients::Modern) => Clients::Modern,
            Some(RawClients::Any) | None => Clients::Any,
        }
    }

    /// How clients of another era are connected. `authenticates`: clients have tokens, so that they can be
    /// told apart here while the server sees the gateway alone. `processes`: how many of a program may run.
    pub(super) fn bridge(
        &mut self,
        raw: &RawUpstream,
        path: &Path,
        authenticates: bool,
        processes: Option<usize>,
    ) -> BridgeConfig {
        for Idle { key, why } in idle_keys(raw) {
            let message = format!("`{key}` means nothing here: {why}");
            let place = match key.split_once('.') {
                Some((table, key)) => Place::Path(path.key(table).key(key)),
                None => self.place(path, key),
            };
            self.add(Problem::new(place, message).mend("remove it"));
        }
        let mut bridge = BridgeConfig {
            sessions: raw.sessions.and_then(|sessions| match sessions {
                RawSharing::Auto => None,
                RawSharing::PerClient => Some(Sharing::PerClient),
                RawSharing::Pooled => Some(Sharing::Pooled),
                RawSharing::Shared => Some(Sharing::Shared),
            }),
            mrtr: match raw.mrtr {
                Some(RawMrtr::Off) => Mrtr::Off,
                Some(RawMrtr::On) | None => Mrtr::On,
            },
            log_level: raw.log_level.and_then(RawLogLevel::read),
            seal_state: raw.seal_state.unwrap_or(authenticates),
            ..BridgeConfig::default()
        };
        let (at, default) = (path.key("list_ttl"), bridge.list_ttl);
        bridge.list_ttl = self.within(&at, raw.list_ttl, default, &LIST_TTL);
        let at = path.key("session_pool");
        raw.session_pool.apply(self, &at, &mut bridge.pool);
        let at = path.key("parked");
        raw.parked.apply(self, &at, &mut bridge.parked);
        if let Some(limit) = processes {
            self.processes_suffice(raw, &mut bridge.pool, limit, path);
        }
        self.shares_fit(raw, &mut bridge, path);
        raw.cache.apply(self, &path.key("cache"), &mut bridge.cache);
        bridge
    }
}

/// Writes down what is in effect, and leaves out what means nothing beside the rest.
pub(super) fn show(clients: Clients, bridge: &BridgeConfig, raw: &mut RawUpstream) {
    raw.clients = Some(match clients {
        Clients::Any => RawClients::Any,
        Clients::Legacy => RawClients::Legacy,
        Clients::Modern => RawClients::Modern,
    });
    raw.sessions = Some(match bridge.sessions {
        None => RawSharing::Auto,
        Some(Sharing::PerClient) => RawSharing::PerClient,
        Some(Sharing::Pooled) => RawSharing::Pooled,
        Some(Sharing::Shared) => RawSharing::Shared,
    });
    raw.mrtr = Some(match bridge.mrtr {
        Mrtr::On => RawMrtr::On,
        Mrtr::Off => RawMrtr::Off,
    });
    raw.list_ttl = Some(Quantity::write(bridge.list_ttl));
    raw.log_level = Some(RawLogLevel::write(bridge.log_level));
    raw.seal_state = Some(bridge.seal_state);
    raw.session_pool = RawSessionPool::shown(&bridge.pool);
    raw.parked = RawParked::shown(&bridge.parked);
    raw.cache = RawCache::shown(&bridge.cache);
    for Idle { key, .. } in idle_keys(raw) {
        forget(raw, key);
    }
}

impl RawLogLevel {
    fn read(self) -> Option<LogLevel> {
        Some(match self {
            Self::Off => return None,
            Self::Debug => LogLevel::Debug,
            Self::Info => LogLevel::Info,
            Self::Notice => LogLevel::Notice,
            Self::Warning => LogLevel::Warning,
            Self::Error => LogLevel::Error,
            Self::Critical => LogLevel::Critical,
            Self::Alert => LogLevel::Alert,
            Self::Emergency => LogLevel::Emergency,
        })
    }

    fn write(level: Option<LogLevel>) -> Self {
        match level {
            None => Self::Off,
            Some(LogLevel::Debug) => Self::Debug,
            Some(LogLevel::Info) => Self::Info,
            Some(LogLevel::Notice) => Self::Notice,
            Some(LogLevel::Warning) => Self::Warning,
            Some(LogLevel::Error) => Self::Error,
            Some(LogLevel::Critical) => Self::Critical,
            Some(LogLevel::Alert) => Self::Alert,
            Some(LogLevel::Emergency) => Self::Emergency,
        }
    }
}

/// A key that is written and means nothing beside what else is written.
struct Idle {
    key: &'static str,
    why: &'static str,
}

/// When keys mean nothing.
struct Rule {
    holds: fn(&RawUpstream) -> bool,
    why: &'static str,
    keys: &'static [&'static str],
}

const RULES: [Rule; 15] = [
    Rule {
        holds: |raw| matches!(raw.era, Some(RawEra::Stateless | RawEra::Modern)),
        why: "a server of 2026-07-28 has no sessions, asks within its answers, and says itself how long these may be kept",
        keys: &["mrtr", "list_ttl", "session_pool", "parked"],
    },
    Rule {
        // That the clients of a program are one lets them have its log lines.
        holds: |raw| {
            let pooled = raw.sessions == Some(RawSharing::Pooled);
            raw.era == Some(RawEra::Stateless) || (raw.era == Some(RawEra::Modern) && !pooled)
        },
        why: "a server of 2026-07-28 has no sessions",
        keys: &["sessions"],
    },
    Rule {
        holds: |raw| {
            let legacy = [RawEra::HttpSse, RawEra::Streamable, RawEra::Legacy];
            raw.era.is_some_and(|era| legacy.contains(&era))
        },
        why: "it is for servers of 2026-07-28, and `era` says that this is none",
        keys: &["log_level", "seal_state", "cache"],
    },
    Rule {
        holds: |raw| raw.clients == Some(RawClients::Legacy),
        why: "it is for clients of 2026-07-28, and `clients` lets none of them in",
        keys: &[
            "mrtr",
            "list_ttl",
            "seal_state",
            "session_pool.roots",
            "parked",
        ],
    },
    Rule {
        holds: |raw| raw.clients == Some(RawClients::Legacy) && !raw.clients_share(),
        why: "clients that have sessions share none, and `clients` lets no others in",
        keys: &["session_pool"],
    },
    Rule {
        holds: |raw| !raw.clients_share(),
        why: "only with `sessions = \"pooled\"` or `\"shared\"` several clients have one session",
        keys: &["session_pool.clients"],
    },
    Rule {
        // They are told at once.
        holds: |raw| raw.clients == Some(RawClients::Legacy) && raw.command.is_none(),
        why: "no client that has sessions waits for one, and `clients` lets no others in",
        keys: &["session_pool.wait"],
    },
    Rule {
        holds: |raw| raw.era == Some(RawEra::Stateless),
        why: "a server of 2026-07-28 has no sessions that could be lost",
        keys: &["session_lost"],
    },
    Rule {
        holds: |raw| raw.cache.enabled == Some(false),
        why: "with `cache.enabled = false` no answers are kept",
        keys: &["cache.max_entries", "cache.max_bytes"],
    },
    Rule {
        holds: |raw| raw.clients == Some(RawClients::Modern),
        why: "it is for clients of 2024-11-05 to 2025-11-25, and `clients` lets none of them in",
        keys: &["log_level", "sse_path", "messages_path"],
    },
    Rule {
        holds: |raw| raw.mrtr == Some(RawMrtr::Off),
        why: "with `mrtr = \"off\"` nothing is asked of clients",
        keys: &["parked", "session_pool.roots"],
    },
    Rule {
        holds: |raw| raw.sessions == Some(RawSharing::PerClient),
        why: "with `sessions = \"per_client\"` nobody shares",
        keys: &[
            "session_pool.max",
            "session_pool.total",
            "session_pool.roots",
        ],
    },
    Rule {
        // A program may have to wait for a process to have ended.
        holds: |raw| raw.sessions == Some(RawSharing::PerClient) && raw.command.is_none(),
        why: "with `sessions = \"per_client\"` nobody shares",
        keys: &["session_pool.wait"],
    },
    Rule {
        holds: |raw| raw.sessions == Some(RawSharing::Shared),
        why: "with `sessions = \"shared\"` there is one session",
        keys: &["session_pool.max", "session_pool.total"],
    },
    Rule {
        holds: |raw| raw.sessions == Some(RawSharing::Shared),
        why: "with `sessions = \"shared\"` there is one session, and roots would be everybody's",
        keys: &["session_pool.roots"],
    },
];

impl RawUpstream {
    /// Whether several clients that have sessions may have one together.
    fn clients_share(&self) -> bool {
        matches!(self.sessions, Some(RawSharing::Pooled | RawSharing::Shared))
    }
}

fn idle_keys(raw: &RawUpstream) -> Vec<Idle> {
    let rules = RULES.iter().filter(|rule| (rule.holds)(raw));
    let mut idle: Vec<Idle> = Vec::new();
    for rule in rules {
        for &key in rule.keys {
            if is_written(raw, key) && idle.iter().all(|other| other.key != key) {
                idle.push(Idle { key, why: rule.why });
            }
        }
    }
    idle
}

/// `KEY at FIELD`: the keys that may mean nothing, and where what is written of them stands.
macro_rules! keys {
    ($( $key:literal at $($field:ident).+; )*) => {
        fn is_written(raw: &RawUpstream, key: &str) -> bool {
            match key {
                $( $key => raw.$($field).+ != Default::default(), )*
                _ => false,
            }
        }

        fn forget(raw: &mut RawUpstream, key: &str) {
            match key {
                $( $key => raw.$($field).+ = Default::default(), )*
                _ => {}
            }
        }
    };
}

keys! {
    "sessions" at sessions;
    "mrtr" at mrtr;
    "list_ttl" at list_ttl;
    "log_level" at log_level;
    "seal_state" at seal_state;
    "session_pool" at session_pool;
    "session_pool.max" at session_pool.max;
    "session_pool.total" at session_pool.total;
    "session_pool.wait" at session_pool.wait;
    "session_pool.clients" at session_pool.clients;
    "session_pool.roots" at session_pool.roots;
    "session_lost" at session_lost;
    "cache.max_entries" at cache.max_entries;
    "cache.max_bytes" at cache.max_bytes;
    "parked" at parked;
    "cache" at cache;
    "sse_path" at sse_path;
    "messages_path" at messages_path;
}
