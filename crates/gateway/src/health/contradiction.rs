//! Answers that no server of 2026-07-28 gives, and how often they make the gateway ask anew.

use std::time::Duration;

use http::StatusCode;
use thinpipe_proto::bridge::shape::error_code;
use thinpipe_proto::rpc::{Kind, Message, code};
use thinpipe_transport::body::Body;
use thinpipe_transport::server::{Answer, Content};

/// A verdict falls once in this time over an answer: what a client sends may be what is answered so, and must
/// not cost the server a probe for each request.
pub(super) const BETWEEN: Duration = Duration::from_secs(10);

/// Whether this answer to a stateless request denies that there is a server of 2026-07-28 (protocol notes 1.3 and
/// 1.5, "non-modern 4xx"). Bodies that are still to come are believed by their type.
pub(crate) fn denies_revision(answer: &Answer) -> bool {
    if !is_refusal(answer.status) {
        return false;
    }
    match (&answer.content, &answer.body) {
        (_, Body::Full(body)) => match Message::parse(body.clone()) {
            Ok(message) => is_of_sessions(answer.status, &message),
            Err(_) => true,
        },
        (_, Body::Empty) => true,
        (content, Body::Stream(_)) => *content != Content::Json,
    }
}

/// How servers refuse a message of a revision that they do not know, beside with a JSON-RPC error.
pub(crate) fn is_refusal(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 404 | 405 | 406 | 415 | 422)
}

/// Whether an error with this status is one of servers with sessions: "Server not initialized", "Missing session
/// ID". Those of 2026-07-28 have a code for each of their refusals (protocol notes 2.3.3), and -32600 is for what
/// has not the shape of a request, which is not sent.
pub(crate) fn is_of_sessions(status: StatusCode, message: &Message) -> bool {
    let error = message.error().filter(|_| is_refusal(status));
    let number = error.and_then(|error| error_code(&error));
    message.kind() == Kind::ErrorResponse
        && matches!(
            number,
            Some(code::SERVER_ERROR | code::SESSION_NOT_FOUND | code::INVALID_REQUEST)
        )
}
