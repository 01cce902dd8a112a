//! The session a request names: found here, found in the store, or not there.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderValue, StatusCode};
use thinpipe_proto::classify::Class;
use thinpipe_proto::header::SESSION_ID;
use thinpipe_proto::rpc::{RequestId, code};
use thinpipe_proto::seldom::Seldom;
use thinpipe_proto::session::{NodeId, SessionId};

use super::Envelope;
use crate::io::now;
use crate::server::Shared;
use crate::server::exchange::Answer;
use crate::server::ladder;
use crate::server::session::{Located, Seeker, Session, SessionError};

pub(super) fn live_session(shared: &Shared, envelope: &Envelope) -> Option<Arc<Session>> {
    let id = ladder::only(&envelope.headers, &SESSION_ID)?;
    let name = &envelope.endpoint.name;
    shared
        .sessions
        .live(id.as_bytes(), &envelope.principal, name)
}

/// The same, unless it is being found out whether another node has it.
pub(super) fn decided_session(shared: &Shared, envelope: &Envelope) -> Option<Arc<Session>> {
    let session = live_session(shared, envelope);
    session.filter(|session| shared.sessions.is_decided(session))
}

/// Where a request is answered.
pub(super) enum Place {
    /// Here, in this session; `None`: it names none, and may.
    Here(Option<Arc<Session>>),
    Elsewhere(NodeId),
}

/// Where the session of a request is.
pub(super) async fn place_of(
    shared: &Arc<Shared>,
    envelope: &Envelope,
    class: &Class,
) -> Result<Place, Answer> {
    let id = match class {
        Class::Message(message) => message.id(),
        _ => None,
    };
    let located = match header_id(&envelope.headers) {
        None => return unnamed(shared, envelope, class, id),
        Some(Err(())) => Located::Nowhere,
        Some(Ok(session)) => locate(shared, envelope, (&session, id), None).await?,
    };
    match located {
        Located::Here(session) => Ok(Place::Here(Some(session))),
        Located::Elsewhere(node) if !envelope.is_tunnelled => Ok(Place::Elsewhere(node)),
        // It is sent on once only, and has left since then.
        Located::Elsewhere(_) => Err(session_failed(&SessionError::PutOff, id)),
        Located::Nowhere => Err(unknown_session(id)),
    }
}

/// A request that names no session.
fn unnamed(
    shared: &Shared,
    envelope: &Envelope,
    class: &Class,
    id: Option<&RequestId>,
) -> Result<Place, Answer> {
    if matches!(class, Class::Listen | Class::Terminate) {
        let mut text = "Mcp-Session-Id is missing".to_owned();
        if let Some(path) = ladder::paths::event_stream(shared, &envelope.endpoint) {
            // A client of HTTP+SSE begins with a GET, and was given the wrong address.
            text.push_str("; HTTP+SSE is at ");
            text.push_str(&path);
        }
        return Err(no_session_named(None, &text));
    }
    if shared.config.allow_sessionless {
        return Ok(Place::Here(None));
    }
    let text = "Mcp-Session-Id is missing; send initialize first";
    Err(no_session_named(id, text))
}

fn no_session_named(id: Option<&RequestId>, text: &str) -> Answer {
    let (status, data) = (StatusCode::BAD_REQUEST, reason!("session_missing"));
    Answer::error(status, id, code::SERVER_ERROR, text, Some(data))
}

/// Where the session is that a request is sent in. One that belonged to `dead` is taken over.
pub(super) async fn locate(
    shared: &Arc<Shared>,
    envelope: &Envelope,
    (session, request): (&SessionId, Option<&RequestId>),
    dead: Option<&NodeId>,
) -> Result<Located, Answer> {
    let located = shared
        .sessions
        .locate(session, seeker(envelope), dead)
        .await;
    located.map_err(|error| session_failed(&error, request))
}

/// Who looks for a session.
pub(super) fn seeker(envelope: &Envelope) -> Seeker<'_> {
    Seeker {
        principal: &envelope.principal,
        endpoint: &envelope.endpoint.name,
        handler: &envelope.endpoint.handler,
    }
}

/// The session id in the header: `Err` if it cannot be one of ours (repeated, malformed).
pub(super) fn header_id(headers: &HeaderMap) -> Option<Result<SessionId, ()>> {
    let mut values = headers.get_all(SESSION_ID).iter();
    let first = values.next()?;
    if values.next().is_some() {
        return Some(Err(()));
    }
    Some(SessionId::from_bytes(Bytes::copy_from_slice(first.as_bytes())).map_err(|_| ()))
}

pub(crate) fn unknown_session(id: Option<&RequestId>) -> Answer {
    let text = "this session does not exist (any more); send initialize to start anew";
    Answer::error(
        StatusCode::NOT_FOUND,
        id,
        code::SESSION_NOT_FOUND,
        text,
        Some(reason!("session_not_found")),
    )
}

pub(crate) fn session_failed(error: &SessionError, id: Option<&RequestId>) -> Answer {
    let cause: &dyn std::error::Error = error;
    if may_warn(now()) {
        tracing::warn!(error = cause, "a session cannot be had");
    } else {
        tracing::debug!(error = cause, "a session cannot be had");
    }
    let data = match error {
        SessionError::Full { .. } => r#"{"reason":"too_many_sessions"}"#,
        SessionError::PutOff => r#"{"reason":"upstream_unavailable"}"#,
        _ => r#"{"reason":"session_store_unavailable"}"#,
    };
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let mut answer = Answer::error(
        status,
        id,
        code::SERVER_ERROR,
        &error.to_string(),
        Some(data),
    );
    answer
        .headers
        .insert(RETRY_AFTER, HeaderValue::from_static("5"));
    answer
}

/// How often it is warned at most that sessions cannot be had: there may be thousands of such requests a second, and
/// the log has each of them as refused.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// When that was done last.
static WARNED: Mutex<Seldom> = Mutex::new(Seldom::new());

fn may_warn(now: Instant) -> bool {
    // Nothing panics while it is held.
    let mut warned = WARNED.lock().unwrap_or_else(PoisonError::into_inner);
    warned.is_due(now, WARN_EVERY)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A13: thousands of refusals are one warning.
    #[test]
    fn a13_what_fails_for_all_is_warned_of_now_and_then() {
        let begun = now();
        // Whatever other tests have said before.
        let first = begun + WARN_EVERY;
        assert!(may_warn(first));
        assert!(!may_warn(first));
        assert!(!may_warn(first + WARN_EVERY - Duration::from_millis(1)));
        assert!(may_warn(first + WARN_EVERY));
    }
}
