//! Errors that a client is told, and those of asking a client.

use http::StatusCode;
use serde_json::{Value, json};
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::code;

use crate::server::conversation;

/// A JSON-RPC error, in answer to a request.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct RpcError {
    kind: Kind,
    message: String,
    data: Option<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code(i32),
    /// Has another code in each era.
    NoResource,
    MissingCapability,
}

impl RpcError {
    /// An error with a code of the server's own.
    #[must_use]
    pub fn new(code: i32, message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Code(code),
            message: message.into(),
            data: None,
        }
    }

    /// The same with `error.data`.
    #[must_use]
    pub fn with_data(mut self, data: Value) -> Self {
        self.data = Some(data);
        self
    }

    /// `-32602`: the parameters are not what the method wants; also for tools and prompts that do not exist.
    #[must_use]
    pub fn invalid_params(message: impl Into<String>) -> Self {
        Self::new(code::INVALID_PARAMS, message)
    }

    /// `-32601`, with status 404 in 2026-07-28.
    #[must_use]
    pub fn method_not_found(method: &str) -> Self {
        Self::new(
            code::METHOD_NOT_FOUND,
            format!("there is no method {method}"),
        )
    }

    /// `-32603`. The text is shown to the client, so it should not say what is none of its business.
    #[must_use]
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(code::INTERNAL_ERROR, message)
    }

    /// There is no such resource: `-32002` in sessions, `-32602` in 2026-07-28.
    #[must_use]
    pub fn resource_not_found(uri: &str) -> Self {
        Self {
            kind: Kind::NoResource,
            message: "there is no such resource".to_owned(),
            data: Some(json!({ "uri": uri })),
        }
    }

    /// The client has not declared what the request needs, an object of capabilities: `-32021` with status 400
    /// in 2026-07-28, `-32600` in sessions.
    #[must_use]
    pub fn missing_capability(required: Value) -> Self {
        Self {
            kind: Kind::MissingCapability,
            message: "the client has not declared a capability that this needs".to_owned(),
            data: Some(json!({ "requiredCapabilities": required })),
        }
    }

    pub(super) fn reason(self, reason: &str) -> Self {
        self.with_data(json!({ "reason": reason }))
    }

    /// The code in this revision.
    #[must_use]
    pub fn code(&self, revision: Revision) -> i32 {
        match (self.kind, revision.is_modern()) {
            (Kind::Code(code), _) => code,
            (Kind::NoResource, true) => code::INVALID_PARAMS,
            (Kind::NoResource, false) => code::RESOURCE_NOT_FOUND,
            (Kind::MissingCapability, true) => code::MISSING_CAPABILITY,
            (Kind::MissingCapability, false) => code::INVALID_REQUEST,
        }
    }

    /// The HTTP status in this revision, unless an event stream has begun already.
    pub(super) fn status(&self, revision: Revision) -> StatusCode {
        if !revision.is_modern() {
            return StatusCode::OK;
        }
        match self.code(revision) {
            code::METHOD_NOT_FOUND => StatusCode::NOT_FOUND,
            code::MISSING_CAPABILITY | code::HEADER_MISMATCH => StatusCode::BAD_REQUEST,
            _ => StatusCode::OK,
        }
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    pub(super) fn data(&self) -> Option<String> {
        self.data.as_ref().map(Value::to_string)
    }
}

/// Why a client did not answer a question of the server.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// The client has not declared that it can be asked this; the capabilities it would have to declare.
    #[error("the client has not declared that it answers this")]
    Undeclared(Value),
    /// 2026-07-28 has no requests of servers: [`Outcome::InputRequired`](super::Outcome::InputRequired) asks.
    #[error("in this revision clients are asked by answering that input is required")]
    Stateless,
    /// No answer came.
    #[error(transparent)]
    Unanswered(#[from] conversation::Unanswered),
    /// The client answered with an error.
    #[error("the client refused: {message} ({code})")]
    Refused {
        /// Its code.
        code: i64,
        /// Its text.
        message: String,
    },
}

impl From<AskError> for RpcError {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Undeclared(required) => Self::missing_capability(required),
            other => Self::internal(other.to_string()),
        }
    }
}
