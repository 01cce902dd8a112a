//! Messages of the gateway's own, and what cancellations of others name.

use bytes::Bytes;

use crate::rpc::{Message, RequestId, quoted};

/// `notifications/cancelled`: tells the other side that a request of ours, or one passed on, is not wanted
/// any more.
#[must_use]
pub fn cancelled(request: &RequestId, reason: &str) -> Bytes {
    let mut out =
        b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{\"requestId\":"
            .to_vec();
    out.extend_from_slice(request.as_json());
    out.extend_from_slice(b",\"reason\":");
    out.extend_from_slice(quoted(reason).as_bytes());
    out.extend_from_slice(b"}}");
    Bytes::from(out)
}

/// The request that this takes back; `None` if it is no `notifications/cancelled`, or names none.
#[must_use]
pub fn cancelled_of(message: &Message) -> Option<RequestId> {
    let is_it = message.method() == Some("notifications/cancelled");
    let id = message.param(CANCELLED).filter(|_| is_it)?;
    RequestId::parse(id).ok()
}

/// Whether a change of the resource `changed` (`notifications/resources/updated`) is for who knows the resource
/// `uri`: it is the same, or a part of it.
#[must_use]
pub(crate) fn concerns(uri: &str, changed: &str) -> bool {
    let is_part =
        |rest: &str| rest.is_empty() || uri.ends_with('/') || rest.starts_with(['/', '?', '#']);
    changed.strip_prefix(uri).is_some_and(is_part)
}

/// A request; `params` is JSON text.
pub(super) fn request(id: &RequestId, method: &str, params: &[u8]) -> Bytes {
    let method = quoted(method);
    let mut out = Vec::with_capacity(64 + method.len() + params.len());
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    out.extend_from_slice(id.as_json());
    out.extend_from_slice(b",\"method\":");
    out.extend_from_slice(method.as_bytes());
    out.extend_from_slice(b",\"params\":");
    out.extend_from_slice(params);
    out.push(b'}');
    Bytes::from(out)
}

/// An error response; `error` is JSON text.
pub(super) fn error_answer(id: &RequestId, error: &[u8]) -> Bytes {
    let mut out = b"{\"jsonrpc\":\"2.0\",\"id\":".to_vec();
    out.extend_from_slice(id.as_json());
    out.extend_from_slice(b",\"error\":");
    out.extend_from_slice(error);
    out.push(b'}');
    Bytes::from(out)
}

/// The parameter of `notifications/cancelled` that names a request.
pub(super) const CANCELLED: &str = "requestId";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_resource_concerns_who_has_the_whole() {
        for changed in ["file:///a", "file:///a/b", "file:///a?x", "file:///a#x"] {
            assert!(concerns("file:///a", changed), "{changed}");
        }
        assert!(concerns("db://t/", "db://t/1"));
        for changed in ["file:///ab", "file:///", "file:///b", ""] {
            assert!(!concerns("file:///a", changed), "{changed}");
        }
        assert!(!concerns("db://t/", "db://t"));
    }
}
