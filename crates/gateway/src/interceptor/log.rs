//! One log line for each message.

use serde::{Deserialize, Serialize};
use thinpipe_proto::rpc::{Kind, Message};
use thinpipe_proto::session::Principal;
use thinpipe_proto::shown::Shown;

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
                    id = %Shown::new(message.id().map_or(&b""[..], |id| id.as_json()), MAX_ID),
                    bytes = message.source().len(),
                    sequence = cx.sequence,
                    upstream = ?cx.upstream,
                    session = ?cx.session.as_deref().unwrap_or_default(),
                    principal = ?principal(&cx.principal),
                    payload = self.config.payload.then(|| tracing::field::display(
                        Shown::new(message.source(), self.config.max_payload)
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
