//! Writing messages of our own.

use bytes::Bytes;

use crate::rpc::{RequestId, text};

/// Writes a JSON-RPC error response. `id: None` omits the member; `data` is JSON text.
#[must_use]
pub fn error_response(
    id: Option<&RequestId>,
    code: i32,
    message: &str,
    data: Option<&[u8]>,
) -> Bytes {
    error(id.map(RequestId::as_json), code, message, data)
}

/// Writes a JSON-RPC error response whose id is `null`, as JSON-RPC wants it where the id of the
/// request could not be read, and as peers before 2025-11-25 expect it (protocol notes 2.5).
#[must_use]
pub fn error_response_null_id(code: i32, message: &str, data: Option<&[u8]>) -> Bytes {
    error(Some(b"null"), code, message, data)
}

/// Writes a JSON-RPC response; `result` is JSON text.
#[must_use]
pub fn response(id: &RequestId, result: &[u8]) -> Bytes {
    let mut out = begin(Some(id.as_json()), result.len());
    out.extend_from_slice(b",\"result\":");
    out.extend_from_slice(result);
    out.push(b'}');
    Bytes::from(out)
}

/// Writes a text as a JSON string, quotes included.
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len() + 2);
    text::write_quoted(&mut out, text);
    String::from_utf8_lossy(&out).into_owned()
}

fn error(id: Option<&[u8]>, code: i32, message: &str, data: Option<&[u8]>) -> Bytes {
    let mut out = begin(id, message.len() + data.map_or(0, <[u8]>::len) + 32);
    out.extend_from_slice(b",\"error\":{\"code\":");
    out.extend_from_slice(code.to_string().as_bytes());
    out.extend_from_slice(b",\"message\":");
    text::write_quoted(&mut out, message);
    if let Some(data) = data {
        out.extend_from_slice(b",\"data\":");
        out.extend_from_slice(data);
    }
    out.extend_from_slice(b"}}");
    Bytes::from(out)
}

fn begin(id: Option<&[u8]>, more: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + more);
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\"");
    if let Some(id) = id {
        out.extend_from_slice(b",\"id\":");
        out.extend_from_slice(id);
    }
    out
}
