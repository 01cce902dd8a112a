//! Answers to requests that no handler gets to see.

use bytes::Bytes;

use crate::classify::Served;
use crate::revision::Revision;
use crate::rpc::{self, MessageError, RequestId, code};

/// A request that is refused before any handler sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// JSON-RPC error code.
    pub code: i32,
    /// For people.
    pub message: String,
    /// `error.data` as JSON text.
    pub data: Option<String>,
    /// Id of the refused request, if it has one.
    pub id: Option<RequestId>,
    /// Value of `Allow`, for 405.
    pub allow: Option<&'static str>,
}

/// A body that is no message (row 8): 400.
impl From<MessageError> for Refusal {
    fn from(error: MessageError) -> Self {
        Self::bad_request(error.code, error.reason).with_id(error.id)
    }
}

impl Refusal {
    /// The body: a JSON-RPC error. Without an id, the member is left out for peers of 2025-11-25
    /// and later, and `null` for older and unknown ones (protocol notes 2.5).
    #[must_use]
    pub fn body(&self, revision: Option<Revision>) -> Bytes {
        let data = self.data.as_deref().map(str::as_bytes);
        let omits = revision.is_some_and(|revision| {
            matches!(revision, Revision::V2025_11_25 | Revision::V2026_07_28)
        });
        match &self.id {
            None if !omits => rpc::error_response_null_id(self.code, &self.message, data),
            id => rpc::error_response(id.as_ref(), self.code, &self.message, data),
        }
    }

    /// The same refusal of a request with this id.
    #[must_use]
    pub fn with_id(self, id: Option<RequestId>) -> Self {
        Self { id, ..self }
    }

    pub(super) fn bad_request(code: i32, message: impl Into<String>) -> Self {
        Self {
            status: 400,
            code,
            message: message.into(),
            data: None,
            id: None,
            allow: None,
        }
    }

    pub(super) fn method_not_allowed(allow: &'static str) -> Self {
        Self {
            status: 405,
            allow: Some(allow),
            ..Self::bad_request(code::SERVER_ERROR, format!("allowed here: {allow}"))
        }
    }

    pub(super) fn method_not_found(method: &str) -> Self {
        let message = format!("revision 2026-07-28 has no method {method}");
        Self {
            status: 404,
            ..Self::bad_request(code::METHOD_NOT_FOUND, message)
        }
    }

    /// A revision that is not served. Clients show the list, and choose from it.
    pub(super) fn unsupported(served: Served, requested: &str) -> Self {
        let supported: Vec<String> = served
            .revisions()
            .iter()
            .map(|revision| format!("\"{revision}\""))
            .collect();
        let (supported, requested) = (supported.join(","), rpc::quoted(requested));
        let data = format!(
            r#"{{"supported":[{supported}],"requested":{requested},"reason":"unsupported_version"}}"#
        );
        let message = "this protocol version is not served here";
        Self {
            data: Some(data),
            ..Self::bad_request(code::UNSUPPORTED_VERSION, message)
        }
    }
}
