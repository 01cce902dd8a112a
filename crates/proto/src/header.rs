//! The MCP headers: names, value rules (protocol notes 2.3.4), media types, and which headers pass.

mod forward;
mod media;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::HeaderName;

pub use forward::{
    carried_request_header, forwardable_request_header, forwardable_response_header, is_hop_by_hop,
};
pub use media::{Accept, MediaType};

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

const SENTINEL_START: &str = "=?base64?";
const SENTINEL_END: &str = "?=";

/// A header value that breaks the sentinel rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not valid Base64 of UTF-8 text between =?base64? and ?=")]
pub struct InvalidSentinel;

/// Decodes a mirrored header value: edge whitespace trimmed, the Base64 sentinel resolved. A value
/// without the sentinel's beginning or end is meant literally.
///
/// # Errors
/// [`InvalidSentinel`] for a bad alphabet, bad padding or invalid UTF-8 inside the sentinel, and
/// for a plain value that is not UTF-8.
pub fn decode_value(value: &[u8]) -> Result<Cow<'_, str>, InvalidSentinel> {
    let value = trim(value);
    match sentinel_content(value) {
        Some(content) => {
            let decoded = BASE64.decode(content).map_err(|_| InvalidSentinel)?;
            String::from_utf8(decoded)
                .map(Cow::Owned)
                .map_err(|_| InvalidSentinel)
        }
        None => std::str::from_utf8(value)
            .map(Cow::Borrowed)
            .map_err(|_| InvalidSentinel),
    }
}

/// Encodes a value for a mirrored header, with the sentinel where it is needed: for what a header
/// cannot carry, for white space at the edges, and for what looks like the sentinel itself.
#[must_use]
pub fn encode_value(value: &str) -> Cow<'_, str> {
    let bytes = value.as_bytes();
    let carried = |&byte: &u8| byte == b'\t' || (0x20..=0x7e).contains(&byte);
    let plain = bytes.iter().all(carried) && trim(bytes) == bytes;
    if plain && sentinel_content(bytes).is_none() {
        return Cow::Borrowed(value);
    }
    Cow::Owned(format!(
        "{SENTINEL_START}{}{SENTINEL_END}",
        BASE64.encode(bytes)
    ))
}

fn sentinel_content(value: &[u8]) -> Option<&[u8]> {
    value
        .strip_prefix(SENTINEL_START.as_bytes())?
        .strip_suffix(SENTINEL_END.as_bytes())
}

/// Without the white space that may stand around a header's value (RFC 9110 5.5).
pub(crate) fn trim(value: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let Some(start) = value.iter().position(|byte| !blank(byte)) else {
        return &[];
    };
    let end = value
        .iter()
        .rposition(|byte| !blank(byte))
        .map_or(start, |last| last + 1);
    value.get(start..end).unwrap_or_default()
}
