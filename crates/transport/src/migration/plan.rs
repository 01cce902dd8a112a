//! What becomes of a configuration.

use std::fmt;

use serde_json::Value;

use crate::mcp::config::{HttpSseConfig, HttpTransportConfig};

/// A configuration for Streamable HTTP, and how it came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationPlan {
    /// The new configuration.
    pub config: HttpTransportConfig,
    /// Every setting of the old one, those of `base_config` first.
    pub settings: Vec<Setting>,
}

/// One setting of an [`HttpSseConfig`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its name, with dots between those of tables.
    pub name: String,
    /// What it said, as in a file.
    pub value: String,
    /// What became of it.
    pub fate: Fate,
}

/// What became of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is in the new configuration as it was.
    Carried,
    /// It is in the new configuration, and larger, since a setting of HTTP+SSE asks for it.
    Raised {
        /// What it says now.
        to: String,
        /// The setting of HTTP+SSE that asks for it.
        by: &'static str,
    },
    /// Other settings of the new configuration, which are named, are at least as large.
    Covered {
        /// Their names.
        by: &'static str,
    },
    /// Streamable HTTP has nothing like it.
    Dropped {
        /// Why nothing is missed, or what to look after.
        why: &'static str,
    },
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Carried => f.write_str("as it was"),
            Self::Raised { to, by } => write!(f, "raised to {to}, for `{by}` of HTTP+SSE"),
            Self::Covered { by } => write!(f, "covered by {by}"),
            Self::Dropped { why } => write!(f, "no counterpart: {why}"),
        }
    }
}

/// See [`MigrationHelper::generate_streamable_config`](super::MigrationHelper::generate_streamable_config).
pub(super) fn generate(config: &HttpSseConfig) -> HttpTransportConfig {
    let base = &config.base_config;
    HttpTransportConfig {
        // Each stream was a session and a connection, and each client may open a stream here, too.
        max_connections: base.max_connections.max(config.max_streams),
        max_streams: base.max_streams.max(config.max_streams),
        max_sessions: base.max_sessions.max(config.max_streams),
        session_timeout: base.session_timeout.max(config.session_timeout),
        ..base.clone()
    }
}

impl MigrationPlan {
    pub(super) fn new(old: &HttpSseConfig) -> Self {
        let config = generate(old);
        let mut settings = shared(&old.base_config, &config);
        settings.extend(own(old));
        Self { config, settings }
    }
}

/// The settings of `base_config`, whichever there are.
fn shared(old: &HttpTransportConfig, new: &HttpTransportConfig) -> Vec<Setting> {
    let (old, new) = (members(old), members(new));
    let settings = old.into_iter().zip(new).map(|((name, value), (_, now))| {
        let fate = if now == value {
            Fate::Carried
        } else {
            let to = text(&now);
            let by = if name == "session_timeout" {
                "session_timeout"
            } else {
                "max_streams"
            };
            Fate::Raised { to, by }
        };
        Setting {
            name: format!("base_config.{name}"),
            value: text(&value),
            fate,
        }
    });
    settings.collect()
}

/// The settings of HTTP+SSE alone.
fn own(config: &HttpSseConfig) -> Vec<Setting> {
    let mut values = members(config);
    values.remove("base_config");
    let settings = values.into_iter().map(|(name, value)| Setting {
        fate: fate(&name),
        value: text(&value),
        name,
    });
    settings.collect()
}

/// Why there is or is not something in the new configuration. A test holds that each setting is known.
fn fate(name: &str) -> Fate {
    let by = match name {
        "sse_endpoint" | "messages_endpoint" => "`endpoint`, which does the work of both paths",
        "max_streams" => "`max_sessions`, `max_streams` and `max_connections`",
        "session_timeout" => "`session_timeout`",
        _ => "",
    };
    if !by.is_empty() {
        return Fate::Covered { by };
    }
    let why = match name {
        "public_base" => "clients are not told where to post, they post where they connect",
        "deprecation" | "deprecation_warnings" => "Streamable HTTP is not deprecated",
        "connection_timeout" => "there is no stream that waits for `initialize`, it comes first",
        "heartbeat" => "the interval of comments is fixed, 15 s",
        "retry" => "the server itself says when to come back, where it ends a stream",
        "event_buffer" => {
            "who sends waits until the client reads; what is kept of a stream for a client that comes back \
             is `resumability`"
        }
        "inline_json" => "an answer is always in the response to its request",
        _ => UNKNOWN,
    };
    Fate::Dropped { why }
}

/// For a setting that nobody thought of here.
const UNKNOWN: &str = "look after it by hand";

/// All settings, by the names they have in files.
fn members(config: &impl serde::Serialize) -> serde_json::Map<String, Value> {
    match serde_json::to_value(config).expect("texts, numbers and lists under names of fields") {
        Value::Object(members) => members,
        other => unreachable!("a configuration is a table, not {other}"),
    }
}

/// As a person would write it.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A24: a setting that is added is thought of here, too.
    #[test]
    fn a24_no_setting_is_unknown() {
        for setting in own(&HttpSseConfig::default()) {
            let unknown = Fate::Dropped { why: UNKNOWN };
            assert_ne!(setting.fate, unknown, "{}", setting.name);
        }
    }
}
