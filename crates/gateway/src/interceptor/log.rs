//! One log line for each message.

use std::fmt;

use serde::{Deserialize, Serialize};
use thinpipe_proto::rpc::{Kind, Message};
use thinpipe_proto::session::Principal;

use super::{Action, Interceptor, Interest, MessageContext, Methods};

/// Writes one line for each message: direction, kind, method, name, id, size, session, principal.
/// Never what is in it, unless `payload` is set.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Level of the lines. Default: `info`.
    pub level: LogLevel,
    /// Also writes the message itself, with whatever secrets are in it. Default: false.
    pub payload: bool,
    /// How much of it, in bytes. Default: 1,024.
    pub max_payload: usize,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            level: LogLevel::Info,
            payload: false,
            max_payload: 1_024,
        }
    }
}

/// Level of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// The least important.
    Trace,
    /// For developers.
    Debug,
    /// For operators.
    #[default]
    Info,
    /// For operators' attention.
    Warn,
}

pub(super) struct Log {
    config: LogConfig,
}

impl Log {
    pub(super) fn new(config: &LogConfig) -> Self {
        Self {
            config: config.clone(),
        }
    }
}

impl Interceptor for Log {
    fn name(&self) -> &str {
        "log"
    }

    fn interest(&self) -> Interest {
        Interest {
            to_upstream: Methods::All,
            to_client: Methods::All,
            ..Interest::default()
        }
    }

    fn intercept(&self, cx: &MessageContext, message: &Message) -> Action {
        // Everything that a peer wrote is written with escapes: a log line is one line.
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    target: "thinpipe::messages",
                    direction = ?cx.direction,
                    kind = kind(message.kind()),
                    method = ?cx.method.as_deref().unwrap_or_default(),
                    name = ?cx.name.as_deref().unwrap_or_default(),
                    id = %Excerpt::of(message.id().map(|id| id.as_json()), MAX_ID),
                    bytes = message.source().len(),
                    sequence = cx.sequence,
                    upstream = ?cx.upstream,
                    session = ?cx.session.as_deref().unwrap_or_default(),
                    principal = ?principal(&cx.principal),
                    payload = self.config.payload.then(|| tracing::field::display(
                        Excerpt::of(Some(message.source()), self.config.max_payload)
                    )),
                    "message"
                )
            };
        }
        match self.config.level {
            LogLevel::Trace => line!(trace),
            LogLevel::Debug => line!(debug),
            LogLevel::Info => line!(info),
            LogLevel::Warn => line!(warn),
        }
        Action::Continue
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Request => "request",
        Kind::Notification => "notification",
        Kind::Response => "response",
        Kind::ErrorResponse => "error",
    }
}

fn principal(principal: &Principal) -> &str {
    match principal {
        Principal::Anonymous => "",
        Principal::Named(name) => name,
    }
}

/// Ids are chosen by peers; a log line does not grow with them.
const MAX_ID: usize = 64;

/// The beginning of a text, without control characters.
struct Excerpt<'a> {
    text: &'a [u8],
    max: usize,
}

impl<'a> Excerpt<'a> {
    fn of(text: Option<&'a [u8]>, max: usize) -> Self {
        Self {
            text: text.unwrap_or_default(),
            max,
        }
    }
}

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.text.get(..self.max).unwrap_or(self.text);
        for chunk in shown.utf8_chunks() {
            for character in chunk.valid().chars() {
                if character.is_control() {
                    write!(f, "{}", character.escape_default())?;
                } else {
                    write!(f, "{character}")?;
                }
            }
        }
        if shown.len() < self.text.len() {
            write!(f, "… ({} bytes)", self.text.len())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_cut_between_characters_and_has_no_control_characters() {
        let excerpt = |text: &str, max| Excerpt::of(Some(text.as_bytes()), max).to_string();
        assert_eq!(excerpt("abc", 3), "abc");
        assert_eq!(excerpt("abcd", 3), "abc… (4 bytes)");
        assert_eq!(excerpt("aé", 2), "a… (3 bytes)");
        assert_eq!(excerpt("a\n\u{9b}31m\u{7f}", 99), "a\\n\\u{9b}31m\\u{7f}");
    }
}
