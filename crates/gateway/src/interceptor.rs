//! Interceptors: values that see a message on its way and say what becomes of it.
//!
//! A [`Chain`] holds them in order and is what the relay talks to. It never decides on its own: an
//! interceptor that fails has the outcome that the configuration says ([`OnFailure`]).

mod access;
mod chain;
mod config;
mod failure;
mod fault;
mod glob;
mod headers;
mod json;
mod log;
mod pause;
mod pin;
mod pointer;
mod redact;
mod rules;
mod sanitize;
mod subject;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::Message;
use thinpipe_proto::session::Principal;
use thinpipe_transport::body::BoxFuture;

use crate::session::Call;

pub use access::{AccessConfig, NameList};
pub use chain::{Chain, ChainError, InterceptorStats, Outcome, Step};
pub use config::{InterceptorConfig, Way};
pub use failure::Failure;
pub use fault::{FailConfig, FaultConfig};
pub use headers::{HeaderChanges, HeadersConfig};
pub use log::{LogConfig, LogLevel};
pub use pause::PauseGate;
pub use pin::{OnChange, OnUnknown, PinConfig, definition_hash};
pub use redact::{RedactConfig, RedactRule};
pub use rules::{Condition, MessageKind, RuleAction, RuleConfig, RulesConfig, Test};
pub use sanitize::{SanitizeConfig, SanitizeMode};
pub(crate) use subject::subject;

/// Of a name that a peer chose, so many bytes are logged.
const MAX_NAME_SHOWN: usize = 128;

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client to the upstream.
    ToUpstream,
    /// From the upstream to the client.
    ToClient,
}

/// How a message travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Carrier {
    /// As the whole body of a request or response.
    Body,
    /// As one event of a stream.
    Event,
}

/// What is known about a message beside the message itself. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MessageContext {
    /// Which way it goes.
    pub direction: Direction,
    /// How it travels.
    pub carrier: Carrier,
    /// Revision it is written in.
    pub revision: Revision,
    /// Name of the upstream.
    pub upstream: Arc<str>,
    /// Who the client is.
    pub principal: Principal,
    /// First characters of the session's id; `None` outside of sessions.
    pub session: Option<Arc<str>>,
    /// Method of the request this message is or answers, or of the notification it is. `None`: a
    /// response to a request that is not known (any more).
    pub method: Option<Arc<str>>,
    /// The tool, prompt or resource that it, or the request it answers, names.
    pub name: Option<Arc<str>>,
    /// Number of the message in its stream, from 0 (E9).
    pub sequence: u64,
}

impl MessageContext {
    /// The request that the message is or answers; `None`: it is not known (any more).
    pub(crate) fn call(&self) -> Option<Call> {
        let method = self.method.clone()?;
        Some((method, self.name.clone()))
    }
}

/// What an interceptor wants to see. What nobody wants costs nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interest {
    /// Messages from the client; responses count by the method of their request.
    pub to_upstream: Methods,
    /// Messages to the client; the same.
    pub to_client: Methods,
    /// The headers of requests to the upstream.
    pub request_headers: bool,
    /// The headers of responses to the client.
    pub response_headers: bool,
}

/// A set of methods.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Methods {
    /// None.
    #[default]
    None,
    /// These, and responses whose request is not known: they may be of these. A name that ends in `*`
    /// stands for all that begin with what precedes it.
    Only(Vec<String>),
    /// All.
    All,
}

impl Methods {
    /// The methods that several lists of patterns stand for together; an empty list stands for all.
    fn of_patterns<'a>(lists: impl Iterator<Item = &'a [String]>) -> Self {
        let mut names = Vec::new();
        for list in lists {
            // A star elsewhere than at the end is more than a set of methods can say.
            let inner = |name: &String| name.find('*').is_some_and(|at| at + 1 < name.len());
            if list.is_empty() || list.iter().any(inner) {
                return Self::All;
            }
            names.extend_from_slice(list);
        }
        Self::Only(names)
    }
}

/// What becomes of a message.
pub enum Action {
    /// It goes on as it is.
    Continue,
    /// It goes on with these bytes instead: one JSON-RPC message of the same kind, id and method.
    /// Anything else counts as a failure of the interceptor and is never passed on.
    Replace(Bytes),
    /// It goes no further. A request is answered with this error; a response is replaced by it; a
    /// notification or event is dropped (and its cursor kept).
    Reject(Rejection),
    /// Decided later: a delay, a pause until somebody resumes it, a question to another program.
    Later(BoxFuture<Self>),
    /// The interceptor could not judge it.
    Fail(Failure),
}

/// Why a message was refused: the JSON-RPC error the client gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// JSON-RPC error code.
    pub code: i32,
    /// For people.
    pub message: String,
    /// `data.reason`, stable, for programs.
    pub reason: String,
}

/// Sees messages. Implementations keep their state behind their own synchronization; `intercept` is
/// called from many tasks at once and must not block.
pub trait Interceptor: Send + Sync + 'static {
    /// Name, for logs and errors.
    fn name(&self) -> &str;

    /// What it wants to see; asked once, when the chain is built.
    fn interest(&self) -> Interest;

    /// Looks at one message.
    fn intercept(&self, context: &MessageContext, message: &Message) -> Action;

    /// Looks at, and may change, the headers of a request to the upstream or of a response to the
    /// client. Headers that carry the transport's own state are not among them, and such as are added
    /// are taken out again.
    fn headers(&self, context: &MessageContext, headers: &mut HeaderMap) {
        let _ = (context, headers);
    }
}

/// How a chain behaves when one of its interceptors does not.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChainConfig {
    /// How long one interceptor may take for one message, in milliseconds; at least 1. Default:
    /// 5,000.
    pub timeout_ms: u64,
    /// What becomes of a message whose interceptor failed (panicked, took too long). Default: reject.
    pub on_failure: OnFailure,
}

impl ChainConfig {
    /// How long one interceptor may take for one message.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

impl Default for ChainConfig {
    fn default() -> Self {
        Self {
            timeout_ms: 5_000,
            on_failure: OnFailure::Reject,
        }
    }
}

/// What becomes of a message whose interceptor failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// It is refused.
    #[default]
    Reject,
    /// It goes on as it was.
    Continue,
}
