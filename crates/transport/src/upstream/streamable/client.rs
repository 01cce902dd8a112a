//! What every request of a session has.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use thinpipe_proto::header::{LAST_EVENT_ID, PROTOCOL_VERSION, SESSION_ID};
use thinpipe_proto::revision::Revision;
use thinpipe_proto::session::{EventId, UpstreamSessionId};

use super::CLOSING;
use crate::Random;
use crate::upstream::pipe::PipeError;
use crate::upstream::{Upstream, UpstreamError, UpstreamRequest, UpstreamResponse, probe};

/// The session as its server knows it.
pub(super) struct Client {
    upstream: Upstream,
    headers: HeaderMap,
    /// Its id. None is set: the server gave none, or nothing was said yet.
    session: OnceLock<HeaderValue>,
    revision: OnceLock<HeaderValue>,
    /// The server does not know it any more, or has been told of its end.
    is_gone: AtomicBool,
}

impl Client {
    pub(super) fn new(upstream: Upstream, headers: HeaderMap) -> Self {
        Self {
            upstream,
            headers,
            session: OnceLock::new(),
            revision: OnceLock::new(),
            is_gone: AtomicBool::new(false),
        }
    }

    pub(super) fn name(&self) -> Arc<str> {
        Arc::clone(&self.upstream.config().name)
    }

    /// What spreads delays.
    pub(super) fn random(&self) -> &Random {
        &self.upstream.config().random
    }

    pub(super) fn negotiated(&self, revision: Revision) {
        self.revision
            .get_or_init(|| HeaderValue::from_static(revision.as_str()));
    }

    /// Takes the session id out of the answer to `initialize`.
    pub(super) fn opened(&self, response: &UpstreamResponse) -> Result<(), UpstreamError> {
        let id = response.session_id().map_err(|error| {
            let why = format!("its Mcp-Session-Id is none: {error}");
            self.upstream.inner.malformed(why)
        })?;
        let id = id.and_then(|id| HeaderValue::from_maybe_shared(id.as_bytes().clone()).ok());
        if let Some(id) = id {
            self.session.get_or_init(|| id);
        }
        Ok(())
    }

    /// The session has this id already.
    pub(super) fn resume(&self, session: &UpstreamSessionId) {
        if let Ok(id) = HeaderValue::from_maybe_shared(session.as_bytes().clone()) {
            self.session.get_or_init(|| id);
        }
    }

    /// Its id, if the server gave one.
    pub(super) fn session(&self) -> Option<UpstreamSessionId> {
        let id = self.session.get()?;
        UpstreamSessionId::from_bytes(Bytes::copy_from_slice(id.as_bytes())).ok()
    }

    /// Others go on with the session: the server is not told of an end.
    pub(super) fn leave(&self) {
        self.is_gone.store(true, Ordering::Relaxed);
    }

    /// Whether a response says that the server does not know the session; only one with an id can be lost.
    pub(super) fn loses_session(&self, status: StatusCode) -> bool {
        let is_lost = status == StatusCode::NOT_FOUND && self.session.get().is_some();
        if is_lost {
            self.is_gone.store(true, Ordering::Relaxed);
        }
        is_lost
    }

    pub(super) fn lost(&self) -> PipeError {
        PipeError::SessionLost {
            upstream: self.name(),
        }
    }

    /// Sends a message; `initialize` goes without the session.
    pub(super) async fn post(
        &self,
        message: Bytes,
        headers: Option<HeaderMap>,
        is_initialize: bool,
    ) -> Result<UpstreamResponse, UpstreamError> {
        let mut headers = probe::posted(headers.unwrap_or_else(|| self.headers.clone()));
        if !is_initialize {
            self.in_session(&mut headers);
        }
        let request = UpstreamRequest {
            method: Method::POST,
            headers,
            body: message,
            repeatable: false,
        };
        self.upstream.send(request).await
    }

    /// Asks for the standalone stream, or for what came after an event.
    pub(super) async fn get(
        &self,
        last: Option<EventId>,
    ) -> Result<UpstreamResponse, UpstreamError> {
        let mut headers = self.headers.clone();
        let stream = HeaderValue::from_static(thinpipe_proto::sse::MEDIA_TYPE);
        headers.insert(header::ACCEPT, stream);
        let last = last.and_then(|id| HeaderValue::from_maybe_shared(id.as_bytes().clone()).ok());
        if let Some(last) = last {
            headers.insert(LAST_EVENT_ID, last);
        }
        self.in_session(&mut headers);
        self.upstream.send(bodiless(Method::GET, headers)).await
    }

    /// Ends the session, once, if the server knows it. If it does not want that, it has other means.
    pub(super) async fn end_session(&self) {
        if self.session.get().is_none() || self.is_gone.swap(true, Ordering::Relaxed) {
            return;
        }
        let mut headers = self.headers.clone();
        self.in_session(&mut headers);
        let upstream = &*self.upstream.config().name;
        let deleting = self.upstream.send(bodiless(Method::DELETE, headers));
        match tokio::time::timeout(CLOSING, deleting).await {
            Ok(Ok(response)) if response.status.is_success() => {}
            Ok(Ok(response)) => {
                let status = response.status.as_u16();
                tracing::debug!(upstream, status, "the server does not end the session");
            }
            Ok(Err(error)) => tracing::debug!(upstream, %error, "a session was not ended"),
            Err(_) => tracing::debug!(upstream, "ending a session took too long"),
        }
    }

    fn in_session(&self, headers: &mut HeaderMap) {
        if let Some(session) = self.session.get() {
            headers.insert(SESSION_ID, session.clone());
        }
        if let Some(revision) = self.revision.get() {
            headers.insert(PROTOCOL_VERSION, revision.clone());
        }
    }
}

/// Asking twice does no harm.
fn bodiless(method: Method, headers: HeaderMap) -> UpstreamRequest {
    UpstreamRequest {
        method,
        headers,
        body: Bytes::new(),
        repeatable: true,
    }
}
