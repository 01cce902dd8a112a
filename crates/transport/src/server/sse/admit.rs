//! What is checked of an HTTP+SSE request before its body is read.

use std::sync::Arc;

use bytes::Bytes;
use http::header::ALLOW;
use http::{HeaderValue, Method, StatusCode};
use thinpipe_proto::rpc::code;
use thinpipe_proto::session::{Principal, SessionId};

use super::{Half, SseMount};
use crate::server::exchange::Answer;
use crate::server::head::RequestHead;
use crate::server::ladder::{self, Posted, Step, unavailable};
use crate::server::{Shared, dispatch};

/// Whether it is served at all, method, token, media types and session, in this order.
pub(crate) fn admit(
    shared: &Shared,
    head: &RequestHead,
    mount: &Arc<SseMount>,
    half: Half,
) -> Result<(Principal, Step), Answer> {
    let (method, allow) = match half {
        Half::Stream => (Method::GET, "GET"),
        Half::Messages => (Method::POST, "POST"),
    };
    let principal = ladder::authenticate(shared, head);
    // Before the method: the 405 to a client of Streamable HTTP that was given this URL has it look for what
    // is not served any more (protocol notes 7). Strangers are not told.
    let instead = mount.observer.as_ref().filter(|_| principal.is_ok());
    if let Some(answer) = instead.and_then(|observer| observer.instead(&head.headers)) {
        return Err(answer);
    }
    // That client falls back when its POST gets 405.
    if head.method != method {
        let known = principal.is_ok();
        return Err(not_allowed(shared, known, mount, allow));
    }
    let principal = principal?;
    let step = match half {
        Half::Stream => {
            check_accept(head)?;
            Step::OpenStream(Arc::clone(mount))
        }
        Half::Messages => {
            // What the client accepts does not matter: there is nothing in the response.
            ladder::check_json_body(head)?;
            let session = session_of(shared, head, mount, &principal)?;
            Step::PostToStream(Arc::clone(mount), session)
        }
    };
    Ok((principal, step))
}

fn not_allowed(shared: &Shared, known: bool, mount: &SseMount, allow: &'static str) -> Answer {
    let (status, data) = (
        StatusCode::METHOD_NOT_ALLOWED,
        reason!("method_not_allowed"),
    );
    let mut text = format!("only {allow} is allowed here, which is HTTP+SSE");
    // Strangers are not told what else there is.
    if let Some(path) = ladder::paths::streamable(shared, mount).filter(|_| known) {
        text.push_str("; Streamable HTTP is at ");
        text.push_str(&path);
    }
    let mut answer = Answer::error(status, None, code::SERVER_ERROR, &text, Some(data));
    answer
        .headers
        .insert(ALLOW, HeaderValue::from_static(allow));
    answer
}

fn check_accept(head: &RequestHead) -> Result<(), Answer> {
    if ladder::accept(head).event_stream {
        return Ok(());
    }
    let text = "Accept must admit text/event-stream";
    Err(ladder::refuse(StatusCode::NOT_ACCEPTABLE, text))
}

/// The session is looked for before the body is read: its id is in the URL, and nobody else has business
/// here.
fn session_of(
    shared: &Shared,
    head: &RequestHead,
    mount: &SseMount,
    principal: &Principal,
) -> Result<Posted, Answer> {
    let named = head
        .query
        .as_ref()
        .and_then(|query| session_id(query.as_bytes()));
    let id = named.ok_or_else(|| {
        let text = "sessionId is missing in the URL, or is none; open the stream with GET first";
        let (status, data) = (StatusCode::BAD_REQUEST, reason!("session_missing"));
        Answer::error(status, None, code::SERVER_ERROR, text, Some(data))
    })?;
    let name = &mount.endpoint.name;
    let found = shared.sessions.live_stream(id.as_bytes(), principal, name);
    let session = match found {
        Some(session) => session,
        // Whether there is such a session is found out when the body is there.
        None if shared.nodes.is_some() => return Ok(Posted::Elsewhere(id)),
        None => return Err(dispatch::unknown_session(None)),
    };
    // Its id is told with the first bytes of the stream, so whoever comes earlier cannot have read them.
    // What is repeated a moment later will pass, and nothing has run: hence 503.
    if !session.stream.is_up() {
        return Err(not_up_yet());
    }
    Ok(Posted::Here(session))
}

pub(crate) fn not_up_yet() -> Answer {
    let text = "the stream of this session is not up yet";
    unavailable(None, text, reason!("stream_not_established"))
}

/// The one `sessionId` of a query. Our ids need no escapes, so none are resolved.
fn session_id(query: &Bytes) -> Option<SessionId> {
    let mut values = query
        .split(|b| *b == b'&')
        .filter_map(|pair| pair.strip_prefix(b"sessionId="));
    let (first, second) = (values.next()?, values.next());
    let id = SessionId::from_bytes(query.slice_ref(first)).ok()?;
    second.is_none().then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A13, R043: one id, spelled as the `endpoint` event spells it.
    #[test]
    fn a13_the_session_id_of_a_query() {
        let id = |query: &'static str| session_id(&Bytes::from_static(query.as_bytes()));
        let found = |query| id(query).map(|id| id.as_str().to_owned());
        assert_eq!(found("sessionId=abc"), Some("abc".to_owned()));
        assert_eq!(found("a=b&sessionId=abc&c"), Some("abc".to_owned()));
        for none in [
            "",
            "sessionId",
            "sessionId=",
            "session_id=abc",
            "sessionId=a&sessionId=b",
            "sessionId=\u{e9}",
        ] {
            assert_eq!(found(none), None, "{none}");
        }
    }
}
