//! The MCP headers: names, value rules (`protocol.md` 2.3.4) and media types.

use std::borrow::Cow;

use http::HeaderName;

/// `Mcp-Session-Id`.
pub const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
/// `MCP-Protocol-Version`.
pub const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// `Mcp-Method`.
pub const METHOD: HeaderName = HeaderName::from_static("mcp-method");
/// `Mcp-Name`.
pub const NAME: HeaderName = HeaderName::from_static("mcp-name");
/// Prefix of the tool parameter headers, `Mcp-Param-`.
pub const PARAM_PREFIX: &str = "mcp-param-";
/// `Last-Event-ID`.
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// A header value that breaks the sentinel rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not valid Base64 of UTF-8 text between =?base64? and ?=")]
pub struct InvalidSentinel;

/// Decodes a mirrored header value: edge whitespace trimmed, the Base64 sentinel resolved.
///
/// # Errors
/// [`InvalidSentinel`] for a bad alphabet, bad padding or invalid UTF-8 inside the sentinel, and
/// for a plain value that is not UTF-8.
pub fn decode_value(value: &[u8]) -> Result<Cow<'_, str>, InvalidSentinel> {
    let _ = value;
    unimplemented!()
}

/// Encodes a value for a mirrored header, with the sentinel where it is needed.
#[must_use]
pub fn encode_value(value: &str) -> Cow<'_, str> {
    let _ = value;
    unimplemented!()
}

/// A parsed media type, as far as transports care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaType {
    /// `application/json`, whatever its parameters.
    Json,
    /// `text/event-stream`, whatever its parameters.
    EventStream,
    /// Anything else, also look-alikes (`text/event-streamx`, `application/json-seq`).
    Other,
}

impl MediaType {
    /// Parses a `Content-Type` value (RFC 9110 8.3.1).
    #[must_use]
    pub fn parse(value: &[u8]) -> Self {
        let _ = value;
        unimplemented!()
    }
}

/// Which media types an `Accept` header admits. Absent means all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accept {
    /// Admits `application/json`.
    pub json: bool,
    /// Admits `text/event-stream`.
    pub event_stream: bool,
}

impl Accept {
    /// Parses all `Accept` values of a request; wildcards count, `q=0` refuses.
    pub fn parse<'a>(values: impl Iterator<Item = &'a [u8]>) -> Self {
        let _ = values;
        unimplemented!()
    }
}

/// Whether a header is hop-by-hop by its name (RFC 9110 7.6.1). Names listed in `Connection` are
/// the caller's duty.
#[must_use]
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    let _ = name;
    unimplemented!()
}
