//! The built-in interceptors, as configuration names them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{AccessConfig, FaultConfig, HeadersConfig, LogConfig, PinConfig, RedactConfig};
use super::{ChainConfig, Direction, Interceptor, RulesConfig, SanitizeConfig};
use super::{access, fault, headers, log, pin, redact, rules, sanitize};

/// Configuration of one built-in interceptor; `type` says which.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum InterceptorConfig {
    /// Allows or denies methods, tools, prompts and resources, and filters lists.
    Access(AccessConfig),
    /// Sets or removes headers.
    Headers(HeadersConfig),
    /// Replaces values by JSON pointer.
    Redact(RedactConfig),
    /// Refuses or strips control and escape characters.
    Sanitize(SanitizeConfig),
    /// Notices when the definition of a tool changes.
    Pin(PinConfig),
    /// Writes one log line for each message.
    Log(LogConfig),
    /// Delays and fails on purpose, for testing clients.
    Fault(FaultConfig),
    /// Decides by conditions.
    Rules(RulesConfig),
}

/// Which way messages go that an interceptor looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// From the client to the upstream.
    ToUpstream,
    /// From the upstream to the client.
    ToClient,
    /// Both.
    #[default]
    Both,
}

impl Way {
    /// Whether messages of this direction are among them.
    #[must_use]
    pub fn admits(self, direction: Direction) -> bool {
        match self {
            Self::ToUpstream => direction == Direction::ToUpstream,
            Self::ToClient => direction == Direction::ToClient,
            Self::Both => true,
        }
    }
}

impl InterceptorConfig {
    /// Its `type`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Access(_) => "access",
            Self::Headers(_) => "headers",
            Self::Redact(_) => "redact",
            Self::Sanitize(_) => "sanitize",
            Self::Pin(_) => "pin",
            Self::Log(_) => "log",
            Self::Fault(_) => "fault",
            Self::Rules(_) => "rules",
        }
    }

    /// The interceptor it describes, ready to run.
    pub(super) fn build(&self, settings: &ChainConfig) -> Result<Arc<dyn Interceptor>, Wrong> {
        Ok(match self {
            Self::Access(config) => Arc::new(access::Access::new(config)?),
            Self::Headers(config) => Arc::new(headers::Headers::new(config)?),
            Self::Redact(config) => Arc::new(redact::Redact::new(config)?),
            Self::Sanitize(config) => Arc::new(sanitize::Sanitize::new(config)?),
            Self::Pin(config) => Arc::new(pin::Pin::new(config)?),
            Self::Log(config) => Arc::new(log::Log::new(config)),
            Self::Fault(config) => Arc::new(fault::Fault::new(config, settings)?),
            Self::Rules(config) => Arc::new(rules::Rules::new(config, settings)?),
        })
    }
}

/// What is wrong with a configuration: which field of it, and how.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) field: String,
    pub(super) reason: String,
}

impl Wrong {
    pub(super) fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: reason.into(),
        }
    }
}
