//! What is asked of an upstream and what it answers.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use thinpipe_proto::header::{MediaType, SESSION_ID};
use thinpipe_proto::session::{InvalidId, UpstreamSessionId};

use crate::ByteBudget;
use crate::body::{Body, BodyError};
use crate::io::now;

/// A request to an upstream. Sending consumes it.
#[derive(Debug)]
pub struct UpstreamRequest {
    /// POST, GET or DELETE.
    pub method: Method,
    /// End-to-end headers, complete but for `Host`, `Content-Length` and the upstream's own.
    pub headers: HeaderMap,
    /// The body; empty for GET and DELETE.
    pub body: Bytes,
    /// Running it twice does no harm: it may be sent again, once, if a kept-alive connection turns
    /// out to be dead before a byte of the response came.
    pub repeatable: bool,
}

/// A response whose body has not been read. Consumed once.
#[derive(Debug)]
pub struct UpstreamResponse {
    /// HTTP status.
    pub status: StatusCode,
    /// The end-to-end headers: those that are about the connection are taken out.
    pub headers: HeaderMap,
    /// Parsed `Content-Type`.
    pub media_type: MediaType,
    /// `Content-Length`, if given.
    pub content_length: Option<u64>,
    body: Body,
}

impl UpstreamResponse {
    pub(super) fn new(
        status: StatusCode,
        headers: HeaderMap,
        media_type: MediaType,
        content_length: Option<u64>,
        body: Body,
    ) -> Self {
        Self {
            status,
            headers,
            media_type,
            content_length,
            body,
        }
    }

    /// `Mcp-Session-Id`; `None`: there is none.
    ///
    /// # Errors
    /// [`InvalidId`] if what is there cannot be an id, or if there are several.
    pub fn session_id(&self) -> Result<Option<UpstreamSessionId>, InvalidId> {
        let mut values = self.headers.get_all(SESSION_ID).iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            // Copied, since an id lives longer than the head it came in.
            (Some(id), None) => {
                UpstreamSessionId::from_bytes(Bytes::copy_from_slice(id.as_bytes())).map(Some)
            }
            (Some(_), Some(_)) => Err(InvalidId),
        }
    }

    /// Whether it is an event stream.
    #[must_use]
    pub fn is_event_stream(&self) -> bool {
        self.media_type == MediaType::EventStream
    }

    /// Whether it is known that there is not a byte of a body.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self.body, Body::Empty)
    }

    /// The unread body. Dropping it before its end closes the connection.
    #[must_use]
    pub fn into_body(self) -> Body {
        self.body
    }

    /// The same response with what `map` makes of its body, which has to have as many bytes.
    #[must_use]
    pub fn map_body(self, map: impl FnOnce(Body) -> Body) -> Self {
        Self {
            body: map(self.body),
            ..self
        }
    }

    /// Reads the whole body, within a budget.
    ///
    /// # Errors
    /// As [`Body::collect`].
    pub async fn collect(self, limit: usize, budget: &ByteBudget) -> Result<Bytes, BodyError> {
        let deadline = now() + Duration::from_secs(3600);
        self.body.collect(limit, deadline, budget).await
    }
}
