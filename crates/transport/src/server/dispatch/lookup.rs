//! The session a request names: found here, found in the store, or not there.

use std::sync::Arc;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderValue, StatusCode};
use thinpipe_proto::header::SESSION_ID;
use thinpipe_proto::rpc::{RequestId, code};
use thinpipe_proto::session::SessionId;

use super::Envelope;
use crate::server::Shared;
use crate::server::exchange::Answer;
use crate::server::ladder;
use crate::server::session::{Session, SessionError};

pub(super) fn live_session(shared: &Shared, envelope: &Envelope) -> Option<Arc<Session>> {
    let id = ladder::only(&envelope.headers, &SESSION_ID)?;
    let name = &envelope.endpoint.name;
    shared
        .sessions
        .live(id.as_bytes(), &envelope.principal, name)
}

/// The session of a message; `None`: it names none, and may.
pub(super) async fn session_of(
    shared: &Arc<Shared>,
    envelope: &Envelope,
    id: Option<&RequestId>,
) -> Result<Option<Arc<Session>>, Answer> {
    match named(shared, envelope, id).await {
        None if shared.config.allow_sessionless => Ok(None),
        None => {
            let text = "Mcp-Session-Id is missing; send initialize first";
            Err(no_session_named(id, text))
        }
        Some(found) => found.map(Some),
    }
}

pub(super) async fn required_session(
    shared: &Arc<Shared>,
    envelope: &Envelope,
) -> Result<Arc<Session>, Answer> {
    let found = named(shared, envelope, None).await;
    found.unwrap_or_else(|| {
        let mut text = "Mcp-Session-Id is missing".to_owned();
        if let Some(path) = ladder::paths::event_stream(shared, &envelope.endpoint) {
            // A client of HTTP+SSE begins with a GET, and was given the wrong address.
            text.push_str("; HTTP+SSE is at ");
            text.push_str(&path);
        }
        Err(no_session_named(None, &text))
    })
}

/// The session that the header names; `None`: it names none.
async fn named(
    shared: &Arc<Shared>,
    envelope: &Envelope,
    id: Option<&RequestId>,
) -> Option<Result<Arc<Session>, Answer>> {
    let found = match header_id(&envelope.headers)? {
        Ok(session) => find(shared, envelope, &session).await,
        Err(()) => Ok(None),
    };
    Some(found.and_then(|session| session.ok_or_else(|| unknown_session(id))))
}

fn no_session_named(id: Option<&RequestId>, text: &str) -> Answer {
    let (status, data) = (StatusCode::BAD_REQUEST, reason!("session_missing"));
    Answer::error(status, id, code::SERVER_ERROR, text, Some(data))
}

pub(super) async fn find(
    shared: &Arc<Shared>,
    envelope: &Envelope,
    id: &SessionId,
) -> Result<Option<Arc<Session>>, Answer> {
    let endpoint = &envelope.endpoint;
    let found = shared
        .sessions
        .find(id, &envelope.principal, &endpoint.name, &endpoint.handler)
        .await;
    found.map_err(|error| session_failed(&error, None))
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
    tracing::warn!(%error, "a session cannot be had");
    let data = match error {
        SessionError::Full { .. } => r#"{"reason":"too_many_sessions"}"#,
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
