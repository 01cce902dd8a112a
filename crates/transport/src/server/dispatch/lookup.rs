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
use crate::server::session::{Session, SessionError};

pub(super) fn live_session(shared: &Shared, envelope: &Envelope) -> Option<Arc<Session>> {
    let mut ids = envelope.headers.get_all(SESSION_ID).iter();
    let id = ids.next()?;
    if ids.next().is_some() {
        return None;
    }
    let name = &envelope.endpoint.name;
    shared
        .sessions
        .live(id.as_bytes(), &envelope.principal, name)
}

pub(super) async fn session_of(
    shared: &Arc<Shared>,
    envelope: &Envelope,
    id: Option<&RequestId>,
) -> Result<Option<Arc<Session>>, Answer> {
    match header_id(&envelope.headers) {
        None if shared.config.allow_sessionless => Ok(None),
        None => Err(Answer::error(
            StatusCode::BAD_REQUEST,
            id,
            code::SERVER_ERROR,
            "Mcp-Session-Id is missing; send initialize first",
            Some(reason!("session_missing")),
        )),
        Some(Err(())) => Err(unknown_session(id)),
        Some(Ok(session)) => {
            let found = find(shared, envelope, &session).await?;
            found.map(Some).ok_or_else(|| unknown_session(id))
        }
    }
}

pub(super) async fn required_session(
    shared: &Arc<Shared>,
    envelope: &Envelope,
) -> Result<Arc<Session>, Answer> {
    let missing = || {
        let text = "Mcp-Session-Id is missing";
        Answer::error(
            StatusCode::BAD_REQUEST,
            None,
            code::SERVER_ERROR,
            text,
            Some(reason!("session_missing")),
        )
    };
    match header_id(&envelope.headers).ok_or_else(missing)? {
        Ok(id) => find(shared, envelope, &id)
            .await?
            .ok_or_else(|| unknown_session(None)),
        Err(()) => Err(unknown_session(None)),
    }
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

pub(super) fn unknown_session(id: Option<&RequestId>) -> Answer {
    let text = "this session does not exist (any more); send initialize to start anew";
    Answer::error(
        StatusCode::NOT_FOUND,
        id,
        code::SESSION_NOT_FOUND,
        text,
        Some(reason!("session_not_found")),
    )
}

pub(super) fn session_failed(error: &SessionError, id: Option<&RequestId>) -> Answer {
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
