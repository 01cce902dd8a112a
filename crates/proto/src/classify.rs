//! Which binding and revision an HTTP request belongs to (protocol notes 1.1), and whether its MCP
//! headers agree with its body (2.3.3, steps 10 to 15). Pure functions of headers and body.
//!
//! The body decides. A header never moves a request to another binding; where the two disagree, the
//! request is refused. Rows 1, 2 and 5 of the table are about the endpoints of HTTP+SSE, and are
//! not here.

mod method;
mod mirror;
mod refusal;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use http::{HeaderMap, Method};

use crate::header;
use crate::revision::Revision;
use crate::rpc::{Kind, Message, Payload, code, meta_key};

pub use method::{
    CLIENT_NOTIFICATIONS, CLIENT_REQUESTS, SERVER_REQUESTS, is_cacheable_method,
    is_read_only_method, mirrored_param, name_param,
};
pub use refusal::Refusal;

use mirror::Single;

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
    /// E1, 2025-03-26: an array, in the session the header names, or without one (row 9). Whether
    /// the session's revision allows it is yet to be asked: [`batch_allowed`].
    Batch(Vec<Message>),
    /// E1: GET, opens or resumes a stream (rows 4, 6). Without a session id, whoever needs one
    /// refuses it.
    Listen,
    /// E1: DELETE (row 7).
    Terminate,
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
    /// All eras.
    pub const ALL: Self = Self {
        legacy: true,
        modern: true,
    };

    /// What both serve.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            legacy: self.legacy && other.legacy,
            modern: self.modern && other.modern,
        }
    }

    /// The revisions an endpoint names, modern first: in `supportedVersions` of `server/discover` and in
    /// `data.supported` of errors (protocol notes 1.2). What came before the first release is not offered.
    #[must_use]
    pub fn revisions(self) -> Vec<Revision> {
        let is_served = |revision: &Revision| {
            let era = if revision.is_modern() {
                self.modern
            } else {
                self.legacy
            };
            era && *revision >= Revision::V2024_11_05
        };
        Revision::ALL.into_iter().filter(is_served).collect()
    }

    fn methods(self) -> &'static str {
        if self.legacy {
            "GET, POST, DELETE"
        } else {
            "POST"
        }
    }
}

/// Classifies a GET, DELETE or other request without a body; rows 3 to 7 and 18.
///
/// # Errors
/// A [`Refusal`]: 405 with `Allow`; 400 for a POST, which has no business without a body.
pub fn classify_bodiless(
    method: &Method,
    headers: &HeaderMap,
    served: Served,
) -> Result<Class, Refusal> {
    // Row 3 and its like for DELETE: that revision has POST only.
    let allow = if header_is_modern(headers) {
        "POST"
    } else {
        served.methods()
    };
    match *method {
        Method::POST => Err(Refusal::bad_request(
            code::PARSE_ERROR,
            "not JSON: an empty body",
        )),
        Method::GET if allow != "POST" => Ok(Class::Listen),
        Method::DELETE if allow != "POST" => Ok(Class::Terminate),
        _ => Err(Refusal::method_not_allowed(allow)),
    }
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
    let message = match payload {
        Payload::Batch(messages) => return classify_batch(messages, headers, served),
        Payload::Single(message) => message,
    };
    let class = match message.kind() {
        Kind::Request => classify_request(&message, headers, served)
            .map_err(|refusal| refusal.with_id(message.id().cloned())),
        Kind::Notification => classify_notification(&message, headers, served),
        Kind::Response | Kind::ErrorResponse => classify_answer(headers, served),
    }?;
    Ok(class(message))
}

/// The revision of a message in a session (or without one): header, else the session's, else
/// 2025-03-26. Whether it allows a batch tells [`batch_allowed`].
///
/// # Errors
/// A [`Refusal`] with 400: a header that names no legacy revision Thinpipe knows, or is there twice.
pub fn legacy_revision(
    headers: &HeaderMap,
    session: Option<Revision>,
) -> Result<Revision, Refusal> {
    let named = match Single::of(headers, &header::PROTOCOL_VERSION) {
        Single::Absent => return Ok(session.unwrap_or(Revision::ASSUMED)),
        Single::One(value) => Revision::from_bytes(value).filter(|named| !named.is_modern()),
        Single::Repeated => None,
    };
    named.ok_or_else(|| {
        let message = "MCP-Protocol-Version names no revision that is spoken in sessions here";
        Refusal::bad_request(code::SERVER_ERROR, message)
    })
}

/// Whether a revision has batches (R085, R089).
///
/// # Errors
/// A [`Refusal`] with 400 for every revision but 2025-03-26.
pub fn batch_allowed(revision: Revision) -> Result<(), Refusal> {
    if revision.allows_batches() {
        return Ok(());
    }
    let message = format!("revision {revision} has no batches");
    Err(Refusal::bad_request(code::INVALID_REQUEST, message))
}

/// What a message becomes once it is found to be right.
type Accepted = fn(Message) -> Class;

/// The claim of a message.
enum Claim<'a> {
    None,
    Text(Cow<'a, str>),
    /// There, but no string.
    Malformed,
}

impl<'a> Claim<'a> {
    fn of(message: &'a Message) -> Self {
        match message.meta_text(meta_key::PROTOCOL_VERSION) {
            Some(text) => Self::Text(text),
            None if message.meta_json(meta_key::PROTOCOL_VERSION).is_some() => Self::Malformed,
            None => Self::None,
        }
    }

    fn revision(&self) -> Option<Revision> {
        match self {
            Self::Text(text) => Revision::from_bytes(text.as_bytes()),
            Self::None | Self::Malformed => None,
        }
    }
}

/// Rows 10 to 13, 16 and 17.
fn classify_request(
    message: &Message,
    headers: &HeaderMap,
    served: Served,
) -> Result<Accepted, Refusal> {
    let claim = Claim::of(message);
    let claimed = claim.revision();
    let initialize = message.method() == Some("initialize");
    match &claim {
        Claim::Text(text) if claimed.is_some_and(Revision::is_modern) => {
            mirror::check(message, text, headers, served)?;
            if initialize {
                return Err(Refusal::method_not_found("initialize"));
            }
            Ok(Class::Stateless)
        }
        // Row 13 with its exception to row 11: clients that claim what they are about to negotiate.
        Claim::None | Claim::Malformed if initialize => start(message, headers, served),
        Claim::Text(_) if initialize && claimed.is_some() => start(message, headers, served),
        Claim::Text(text) => {
            mirror::agrees(text, headers)?;
            Err(Refusal::unsupported(served, text))
        }
        Claim::Malformed => {
            let message = format!(
                "_meta member {} is not a string",
                meta_key::PROTOCOL_VERSION
            );
            Err(Refusal::bad_request(code::INVALID_PARAMS, message))
        }
        Claim::None if header_is_modern(headers) || !served.legacy => {
            mirror::served(headers, served)?;
            Err(mirror::missing_meta(message))
        }
        Claim::None => Ok(Class::Message),
    }
}

/// Row 13.
fn start(message: &Message, headers: &HeaderMap, served: Served) -> Result<Accepted, Refusal> {
    if header_is_modern(headers) {
        let reason = "MCP-Protocol-Version names a revision that has no initialize";
        return Err(Refusal::bad_request(code::HEADER_MISMATCH, reason));
    }
    if !served.legacy {
        let requested = message.param_text("protocolVersion").unwrap_or_default();
        return Err(Refusal::unsupported(served, &requested));
    }
    Ok(Class::Initialize)
}

/// Row 14; rows 16 and 17 for notifications.
fn classify_notification(
    message: &Message,
    headers: &HeaderMap,
    served: Served,
) -> Result<Accepted, Refusal> {
    let claim = Claim::of(message);
    let modern_header = header_is_modern(headers);
    match &claim {
        Claim::Text(text) if modern_header || claim.revision().is_some_and(Revision::is_modern) => {
            mirror::agrees(text, headers)?;
            if !served.modern {
                return Err(Refusal::unsupported(served, text));
            }
            mirror::version_is_there(headers)?;
            Ok(Class::StatelessNotification)
        }
        Claim::Malformed if modern_header => {
            let message = format!(
                "_meta member {} is not a string",
                meta_key::PROTOCOL_VERSION
            );
            Err(Refusal::bad_request(code::INVALID_PARAMS, message))
        }
        _ if modern_header || !served.legacy => {
            mirror::served(headers, served)?;
            mirror::version_is_there(headers)?;
            Ok(Class::StatelessNotification)
        }
        _ => Ok(Class::Message),
    }
}

/// Row 15.
fn classify_answer(headers: &HeaderMap, served: Served) -> Result<Accepted, Refusal> {
    if header_is_modern(headers) || !served.legacy {
        let message = "revision 2026-07-28 has no responses from clients";
        return Err(Refusal::bad_request(code::INVALID_REQUEST, message));
    }
    if !headers.contains_key(header::SESSION_ID) {
        let message = "a response needs the Mcp-Session-Id of the session it belongs to";
        return Err(Refusal::bad_request(code::SERVER_ERROR, message));
    }
    Ok(Class::Message)
}

/// Row 9.
fn classify_batch(
    messages: Vec<Message>,
    headers: &HeaderMap,
    served: Served,
) -> Result<Class, Refusal> {
    let claims = |message: &Message| message.meta_json(meta_key::PROTOCOL_VERSION).is_some();
    let answers = messages
        .iter()
        .filter(|message| message.kind().is_response())
        .count();
    let reason = if !served.legacy || header_is_modern(headers) || messages.iter().any(claims) {
        "revision 2026-07-28 has no batches"
    } else if messages
        .iter()
        .any(|message| message.method() == Some("initialize"))
    {
        "initialize in a batch"
    } else if answers != 0 && answers != messages.len() {
        "a batch of responses and other messages"
    } else {
        // Without the header, the session decides, if there is one.
        if headers.contains_key(header::PROTOCOL_VERSION) {
            batch_allowed(legacy_revision(headers, None)?)?;
        }
        return Ok(Class::Batch(messages));
    };
    Err(Refusal::bad_request(code::INVALID_REQUEST, reason))
}

/// Whether the version header names a modern revision. One of several values is enough: such a
/// request is refused later on, but must not be taken for a legacy one.
fn header_is_modern(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::PROTOCOL_VERSION)
        .iter()
        .any(|value| {
            Revision::from_bytes(header::trim(value.as_bytes())).is_some_and(Revision::is_modern)
        })
}
