//! JSON-RPC messages as a gateway needs them: outlined in one validating pass, bytes kept.

use std::fmt;

use bytes::Bytes;

/// Codes of JSON-RPC and MCP (`protocol.md` 2.5).
pub mod code {
    /// The body is not JSON.
    pub const PARSE_ERROR: i32 = -32700;
    /// Not a JSON-RPC message.
    pub const INVALID_REQUEST: i32 = -32600;
    /// Unknown method.
    pub const METHOD_NOT_FOUND: i32 = -32601;
    /// Invalid parameters.
    pub const INVALID_PARAMS: i32 = -32602;
    /// Internal error.
    pub const INTERNAL_ERROR: i32 = -32603;
    /// General refusal of a transport (no portable meaning).
    pub const SERVER_ERROR: i32 = -32000;
    /// Session not found, as deployed servers say it.
    pub const SESSION_NOT_FOUND: i32 = -32001;
    /// Header missing, malformed or different from the body (2026-07-28).
    pub const HEADER_MISMATCH: i32 = -32020;
    /// A capability the request needs was not declared (2026-07-28).
    pub const MISSING_CAPABILITY: i32 = -32021;
    /// Unsupported protocol version (2026-07-28).
    pub const UNSUPPORTED_VERSION: i32 = -32022;
}

/// A JSON-RPC id: a string or an integer, with the text it came in. `1` and `"1"` are different;
/// so are `"a"` and `"\u0061"` only in text, not in value: equality is by value.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RequestId {
    raw: Bytes,
}

impl RequestId {
    /// The id as JSON text, exactly as it came.
    #[must_use]
    pub fn as_json(&self) -> &[u8] {
        &self.raw
    }

    /// Parses an id from its JSON text.
    ///
    /// # Errors
    /// `None`-like: anything but a string or an integer is [`MessageError`].
    pub fn parse(raw: Bytes) -> Result<Self, MessageError> {
        let _ = raw;
        unimplemented!()
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.raw))
    }
}

/// What kind of message it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Has `method` and `id`.
    Request,
    /// Has `method`, no `id`.
    Notification,
    /// Has `result`.
    Response,
    /// Has `error`.
    ErrorResponse,
}

impl Kind {
    /// Whether it answers a request.
    #[must_use]
    pub fn is_response(self) -> bool {
        matches!(self, Self::Response | Self::ErrorResponse)
    }
}

/// One outlined message: the source bytes and where its parts lie in them.
#[derive(Debug, Clone)]
pub struct Message {
    source: Bytes,
}

/// A body: one message or, in revision 2025-03-26, a batch.
#[derive(Debug, Clone)]
pub enum Payload {
    /// One message.
    Single(Message),
    /// A JSON array of messages, in order; never empty.
    Batch(Vec<Message>),
}

/// Why bytes are not a message. Carries what is needed for the answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct MessageError {
    /// `-32700` or `-32600`.
    pub code: i32,
    /// For people: what is wrong, and where.
    pub reason: String,
    /// The id of the refused request, if it could be read.
    pub id: Option<RequestId>,
}

impl Payload {
    /// Outlines a body in one validating pass.
    ///
    /// # Errors
    /// [`MessageError`] with `-32700` for text that is not JSON, `-32600` for JSON that is no message,
    /// duplicate members in the message, `params` or `_meta`, an empty array, or nesting over 128.
    pub fn parse(source: Bytes) -> Result<Self, MessageError> {
        let _ = source;
        unimplemented!()
    }
}

impl Message {
    /// Outlines one message; an array is refused.
    ///
    /// # Errors
    /// As [`Payload::parse`].
    pub fn parse(source: Bytes) -> Result<Self, MessageError> {
        let _ = source;
        unimplemented!()
    }

    /// The bytes as they came.
    #[must_use]
    pub fn source(&self) -> &Bytes {
        &self.source
    }

    /// The kind of message.
    #[must_use]
    pub fn kind(&self) -> Kind {
        unimplemented!()
    }

    /// The id, of a request or response.
    #[must_use]
    pub fn id(&self) -> Option<&RequestId> {
        unimplemented!()
    }

    /// The method, of a request or notification (escapes resolved).
    #[must_use]
    pub fn method(&self) -> Option<&str> {
        unimplemented!()
    }

    /// `params` as JSON text.
    #[must_use]
    pub fn params(&self) -> Option<Bytes> {
        unimplemented!()
    }

    /// One member of `params` as JSON text.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<Bytes> {
        let _ = name;
        unimplemented!()
    }

    /// One member of `params` as a string, escapes resolved; `None` if absent or not a string.
    #[must_use]
    pub fn param_str(&self, name: &str) -> Option<String> {
        let _ = name;
        unimplemented!()
    }

    /// One member of `params._meta` as JSON text.
    #[must_use]
    pub fn meta(&self, name: &str) -> Option<Bytes> {
        let _ = name;
        unimplemented!()
    }

    /// `result` as JSON text.
    #[must_use]
    pub fn result(&self) -> Option<Bytes> {
        unimplemented!()
    }

    /// `error` as JSON text.
    #[must_use]
    pub fn error(&self) -> Option<Bytes> {
        unimplemented!()
    }

    /// The message with another id; no other byte changes.
    #[must_use]
    pub fn with_id(&self, id: &RequestId) -> Bytes {
        let _ = id;
        unimplemented!()
    }

    /// The message with other `params` (JSON text; must be an object); no other byte changes.
    #[must_use]
    pub fn with_params(&self, params: &[u8]) -> Bytes {
        let _ = params;
        unimplemented!()
    }

    /// The message with one member of `params._meta` set (or removed); no other byte changes.
    /// `params` and `_meta` are made where they are missing.
    #[must_use]
    pub fn with_meta(&self, name: &str, value: Option<&[u8]>) -> Bytes {
        let _ = (name, value);
        unimplemented!()
    }

    /// A response with another `result` (JSON text); no other byte changes.
    #[must_use]
    pub fn with_result(&self, result: &[u8]) -> Bytes {
        let _ = result;
        unimplemented!()
    }
}

/// Tells, from the beginning of a message, whether it is a response (`Some(true)`), a request or
/// notification (`Some(false)`), or cannot be told yet. Does not validate; for bookkeeping only.
#[must_use]
pub fn peek_is_response(prefix: &[u8]) -> Option<bool> {
    let _ = prefix;
    unimplemented!()
}

/// Writes a JSON-RPC error response. `id: None` omits the member; `data` is JSON text.
#[must_use]
pub fn error_response(
    id: Option<&RequestId>,
    code: i32,
    message: &str,
    data: Option<&[u8]>,
) -> Bytes {
    let _ = (id, code, message, data);
    unimplemented!()
}
