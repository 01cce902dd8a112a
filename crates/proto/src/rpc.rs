//! JSON-RPC messages as a gateway needs them: outlined in one validating pass, bytes kept.

mod canonical;
mod edit;
mod id;
mod object;
mod outline;
mod parts;
mod peek;
mod scan;
mod text;
mod write;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

pub use canonical::canonical;
pub use id::RequestId;
pub use object::Object;
pub use parts::{elements, member, members, splice, string};
pub use peek::{peek_is_response, peek_request};
pub use write::{error_response, error_response_null_id, quoted, response};

pub(crate) use object::is_object;

use outline::Outline;
use scan::{Refused, Scanner, Span};

/// Codes of JSON-RPC and MCP (protocol notes 2.5).
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
    /// A resource does not exist (up to 2025-11-25).
    pub const RESOURCE_NOT_FOUND: i32 = -32002;
    /// The client has to open a page first (2025-11-25).
    pub const URL_ELICITATION_REQUIRED: i32 = -32042;
    /// Header missing, malformed or different from the body (2026-07-28).
    pub const HEADER_MISMATCH: i32 = -32020;
    /// A capability the request needs was not declared (2026-07-28).
    pub const MISSING_CAPABILITY: i32 = -32021;
    /// Unsupported protocol version (2026-07-28).
    pub const UNSUPPORTED_VERSION: i32 = -32022;
}

/// Members of `params._meta` and `result._meta` that the protocol defines.
pub mod meta_key {
    /// The claim: the revision a request belongs to (2026-07-28).
    pub const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
    /// What the client can do, for this request.
    pub const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
    /// Name and version of the client, for display.
    pub const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
    /// Which log messages the client wants with this request.
    pub const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
    /// Name and version of the server, in results.
    pub const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
    /// Id of the listen request that a notification belongs to.
    pub const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";
}

/// What kind of message it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Kind {
    /// Has `method` and `id`.
    Request,
    /// Has `method`, no `id`.
    #[default]
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

/// One outlined message: the source bytes and where its parts lie in them. A clone shares both.
#[derive(Debug, Clone)]
pub struct Message {
    source: Bytes,
    outline: Arc<Outline>,
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

/// The most messages a batch may have. Each costs an outline, however short it is.
pub const MAX_BATCH: usize = 1024;

impl Payload {
    /// Outlines a body in one validating pass. Messages of a batch are slices of `source`.
    ///
    /// # Errors
    /// [`MessageError`] with `-32700` for text that is not JSON (lone surrogates, invalid UTF-8 and
    /// a byte order mark included), `-32600` for JSON that is no message, duplicate members in the
    /// message, `params` or `_meta`, an empty array, nesting over 128, and for more than
    /// [`MAX_BATCH`] messages, 65,536 members of one of those objects, or 4 GiB.
    pub fn parse(source: Bytes) -> Result<Self, MessageError> {
        let mut scanner = Scanner::new(&source);
        begin(&mut scanner)?;
        if scanner.peek() != Some(b'[') {
            return Message::single(&source, &mut scanner).map(Self::Single);
        }
        let mut messages = Vec::new();
        let mut refused = None;
        let walked = scanner.array(|scanner| {
            if messages.len() == MAX_BATCH {
                return Err(scanner.refuse_over_limit("a batch of more than 1024 messages"));
            }
            // Outlined on its own slice, so that its positions are its own.
            let rest = source.slice(scanner.position()..);
            let mut inner = Scanner::new(&rest);
            let mut outline = Outline::default();
            match outline.scan(&mut inner, 1) {
                Ok(()) => {
                    let end = inner.position();
                    messages.push(Message::new(rest.slice(..end), outline));
                    scanner.advance(end);
                    Ok(())
                }
                Err(error) => {
                    refused = Some(error);
                    Err(Refused)
                }
            }
        });
        if let Some(MessageError { code, reason, .. }) = refused {
            let reason = format!("message {} of the batch: {reason}", messages.len() + 1);
            return Err(MessageError {
                code,
                reason,
                id: None,
            });
        }
        if walked.and_then(|()| scanner.end()).is_err() {
            return Err(MessageError::from_fault(scanner.fault(), None));
        }
        if messages.is_empty() {
            return Err(MessageError::invalid("a batch without a message", None));
        }
        Ok(Self::Batch(messages))
    }
}

/// Moves to the first byte that is no white space.
fn begin(scanner: &mut Scanner<'_>) -> Result<(), MessageError> {
    if u32::try_from(scanner.text().len()).is_err() {
        return Err(MessageError::invalid("longer than 4 GiB", None));
    }
    if scanner.text().starts_with(b"\xef\xbb\xbf") {
        let _ = scanner.refuse("begins with a byte order mark");
        return Err(MessageError::from_fault(scanner.fault(), None));
    }
    scanner.space();
    Ok(())
}

impl Message {
    /// Outlines one message; an array is refused.
    ///
    /// # Errors
    /// As [`Payload::parse`].
    pub fn parse(source: Bytes) -> Result<Self, MessageError> {
        let mut scanner = Scanner::new(&source);
        begin(&mut scanner)?;
        Self::single(&source, &mut scanner)
    }

    fn single(source: &Bytes, scanner: &mut Scanner<'_>) -> Result<Self, MessageError> {
        let mut outline = Outline::default();
        let outlined = outline.scan(scanner, 0);
        // What stands behind a value of the wrong shape may still make it no JSON at all.
        if !scanner.has_refused() && scanner.end().is_err() {
            let id = match outlined {
                Ok(()) => outline.request_id(),
                Err(error) => error.id,
            };
            return Err(MessageError::from_fault(scanner.fault(), id));
        }
        outlined.map(|()| Self::new(source.clone(), outline))
    }

    fn new(source: Bytes, outline: Outline) -> Self {
        Self {
            source,
            outline: Arc::new(outline),
        }
    }

    fn outline(&self) -> &Outline {
        &self.outline
    }

    /// The bytes as they came.
    #[must_use]
    pub fn source(&self) -> &Bytes {
        &self.source
    }

    /// The same, without the outline.
    #[must_use]
    pub fn into_source(self) -> Bytes {
        self.source
    }

    /// The kind of message.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.outline.kind
    }

    /// The id, of a request or response. An error response may have none.
    #[must_use]
    pub fn id(&self) -> Option<&RequestId> {
        self.outline.id.as_ref()
    }

    /// The method, of a request or notification (escapes resolved).
    #[must_use]
    pub fn method(&self) -> Option<&str> {
        if let Some(text) = &self.outline.method_text {
            return Some(text);
        }
        match self.outline.method?.of(&self.source) {
            [b'"', content @ .., b'"'] => std::str::from_utf8(content).ok(),
            _ => None,
        }
    }

    /// `params` as JSON text.
    #[must_use]
    pub fn params(&self) -> Option<Bytes> {
        self.outline.params.map(|at| self.slice(at))
    }

    /// `params`, without another look through their text; nothing where there are none.
    pub(crate) fn params_object(&self) -> Object {
        let Some(params) = self.params().filter(|params| is_object(params)) else {
            return Object::new();
        };
        Object::with_members(params, &self.source, &self.outline.param_members)
    }

    /// `params._meta`, in the same way; `None` where there is none, or it is no object.
    pub(crate) fn meta_object(&self) -> Option<Object> {
        let meta = self.param("_meta").filter(|meta| is_object(meta))?;
        let members = &self.outline.meta_members;
        Some(Object::with_members(meta, &self.source, members))
    }

    /// Length of `params` as JSON text, in bytes; 0 if there are none.
    #[must_use]
    pub fn params_len(&self) -> usize {
        self.outline.params.map_or(0, |at| at.range().len())
    }

    /// One member of `params` as JSON text.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<Bytes> {
        self.param_at(name).map(|at| self.slice(at))
    }

    /// One member of `params` as a string, escapes resolved; `None` if absent or not a string.
    #[must_use]
    pub fn param_str(&self, name: &str) -> Option<String> {
        self.param_text(name).map(Cow::into_owned)
    }

    /// As [`Self::param_str`], borrowed where no escape had to be resolved.
    #[must_use]
    pub fn param_text(&self, name: &str) -> Option<Cow<'_, str>> {
        text::string_of(self.param_at(name)?.of(&self.source))
    }

    /// One member of `params._meta` as JSON text.
    #[must_use]
    pub fn meta(&self, name: &str) -> Option<Bytes> {
        self.meta_at(name).map(|at| self.slice(at))
    }

    /// One member of `params._meta` as a string; `None` if absent or not a string.
    #[must_use]
    pub fn meta_text(&self, name: &str) -> Option<Cow<'_, str>> {
        text::string_of(self.meta_at(name)?.of(&self.source))
    }

    /// As [`Self::meta`], borrowed.
    #[must_use]
    pub fn meta_json(&self, name: &str) -> Option<&[u8]> {
        self.meta_at(name).map(|at| at.of(&self.source))
    }

    /// `result` as JSON text.
    #[must_use]
    pub fn result(&self) -> Option<Bytes> {
        self.outline.result.map(|at| self.slice(at))
    }

    /// `error` as JSON text.
    #[must_use]
    pub fn error(&self) -> Option<Bytes> {
        self.outline.error.map(|at| self.slice(at))
    }

    /// One member of `params` as JSON text, where it lies.
    pub(crate) fn param_json(&self, name: &str) -> Option<&[u8]> {
        self.param_at(name).map(|at| at.of(&self.source))
    }

    fn param_at(&self, name: &str) -> Option<Span> {
        let members = &self.outline.param_members;
        Some(members.find(&self.source, name.as_bytes())?.value)
    }

    fn meta_at(&self, name: &str) -> Option<Span> {
        let members = &self.outline.meta_members;
        Some(members.find(&self.source, name.as_bytes())?.value)
    }

    fn slice(&self, at: Span) -> Bytes {
        self.source.slice(at.range())
    }
}
