//! Which binding and revision an HTTP request belongs to (`protocol.md` 1.1), and whether its MCP
//! headers agree with its body (2.3.3, steps 10 to 16). Pure functions of headers and body.

use http::{HeaderMap, Method};

use crate::revision::Revision;
use crate::rpc::{Message, Payload, RequestId};

/// What a request on the MCP endpoint is, once its headers and body agree.
#[derive(Debug, Clone)]
pub enum Class {
    /// E2: a self-describing request (rows 10, 11, 12).
    Stateless(Message),
    /// E2: a notification (row 14).
    StatelessNotification(Message),
    /// E1: `initialize` (row 13).
    Initialize(Message),
    /// E1: a message in the session the header names, or without one (rows 15, 16, 17).
    Message(Message),
    /// E1, 2025-03-26: an array, in the session the header names, or without one (row 9).
    Batch(Vec<Message>),
    /// E1: GET, opens or resumes a stream (rows 4, 6).
    Listen,
    /// E1: DELETE (row 7).
    Terminate,
}

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

/// What an endpoint serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served {
    /// Sessions, 2025-03-26 to 2025-11-25.
    pub legacy: bool,
    /// 2026-07-28.
    pub modern: bool,
}

impl Served {
    /// The revisions an endpoint names in `data.supported`, modern first.
    #[must_use]
    pub fn revisions(self) -> Vec<Revision> {
        unimplemented!()
    }
}

/// Classifies a GET, DELETE or other request without a body; rows 3 to 7 and 18.
///
/// # Errors
/// A [`Refusal`]: 405 with `Allow`.
pub fn classify_bodiless(
    method: &Method,
    headers: &HeaderMap,
    served: Served,
) -> Result<Class, Refusal> {
    let _ = (method, headers, served);
    unimplemented!()
}

/// Classifies a POST by its parsed body, headers as cross-check; rows 8 to 17, with the checks of
/// 2.3.3 steps 10 to 15 for E2. Does not look sessions up and does not know which methods exist.
///
/// # Errors
/// A [`Refusal`] with the status and code of the row.
pub fn classify_post(
    payload: Payload,
    headers: &HeaderMap,
    served: Served,
) -> Result<Class, Refusal> {
    let _ = (payload, headers, served);
    unimplemented!()
}

/// The revision of a message in a session (or without one): header, else the session's, else
/// 2025-03-26. A batch is refused unless the revision allows it (R085, R089).
///
/// # Errors
/// A [`Refusal`] with 400: a header that names no legacy revision Thinpipe knows.
pub fn legacy_revision(
    headers: &HeaderMap,
    session: Option<Revision>,
) -> Result<Revision, Refusal> {
    let _ = (headers, session);
    unimplemented!()
}
