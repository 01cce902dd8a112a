//! Servers of HTTP+SSE (2024-11-05): one event stream that is the session, and POSTs to the endpoint that
//! its first event names.
//!
//! There is no task: whoever takes the messages reads the stream, and whoever sends one posts it.

mod endpoint;

use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use thinpipe_proto::header::PROTOCOL_VERSION;
use thinpipe_proto::probe::ENDPOINT_TIMEOUT;
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::Payload;
use thinpipe_proto::shown::Shown;
use thinpipe_proto::sse::Event;
use tokio::time::{Instant, timeout_at};

use super::pipe::events::Events;
use super::pipe::{Pipe, PipeError};
use super::{MAX_SHOWN, Upstream, UpstreamRequest, probe};
use crate::ByteBudget;

/// Opens a session: GET of the upstream's URL, which must give an event stream whose first event names an
/// endpoint of the same origin, all within 10 s. `headers` go with every request that has none of its own
/// (credentials); those of MCP are set here. A message may have `max_message` bytes, and long ones are held within `budget`.
///
/// Silence for the upstream's `stream_idle_timeout` (comments count) ends the session.
///
/// # Errors
/// [`PipeError`], and no stream stays open.
pub async fn open(
    upstream: &Upstream,
    headers: HeaderMap,
    max_message: usize,
    budget: &ByteBudget,
) -> Result<Pipe, PipeError> {
    let name = || Arc::clone(&upstream.config().name);
    let until = Instant::now() + ENDPOINT_TIMEOUT;
    let late = |opened| PipeError::NoEndpoint {
        upstream: name(),
        after: ENDPOINT_TIMEOUT,
        opened,
    };
    let headers = probe::plain(headers);
    let sending = upstream.send(get(&headers));
    let response = timeout_at(until, sending)
        .await
        .map_err(|_| late(false))??;
    if response.status != StatusCode::OK || !response.is_event_stream() {
        return Err(PipeError::NotAStream {
            upstream: name(),
            status: response.status,
        });
    }
    upstream.note_deprecation(&response.headers);
    let body = response.into_body();
    let mut messages = Messages(Events::new(name(), body, max_message, budget));
    let first = timeout_at(until, messages.first()).await;
    let endpoint = first.map_err(|_| late(true))??;
    let posts = Posts {
        endpoint: endpoint::resolve(upstream.config(), &endpoint)?,
        upstream: upstream.clone(),
        headers,
        revision: OnceLock::new(),
    };
    Ok(Pipe::sse(upstream, posts, messages))
}

fn get(headers: &HeaderMap) -> UpstreamRequest {
    let mut headers = headers.clone();
    let stream = HeaderValue::from_static(thinpipe_proto::sse::MEDIA_TYPE);
    headers.insert(header::ACCEPT, stream);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    UpstreamRequest {
        method: Method::GET,
        headers,
        body: Bytes::new(),
        // A session that nobody has heard of is none.
        repeatable: true,
    }
}

/// The sending half: POSTs.
pub(super) struct Posts {
    upstream: Upstream,
    endpoint: PathAndQuery,
    headers: HeaderMap,
    revision: OnceLock<HeaderValue>,
}

impl Posts {
    pub(super) fn negotiated(&self, revision: Revision) {
        self.revision
            .get_or_init(|| HeaderValue::from_static(revision.as_str()));
    }

    /// Any success means that the server has it; what else the response says is ignored.
    pub(super) async fn send(
        &self,
        message: Bytes,
        headers: Option<HeaderMap>,
    ) -> Result<(), PipeError> {
        let own = headers.map(probe::plain);
        let mut headers = own.unwrap_or_else(|| self.headers.clone());
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        if let Some(revision) = self.revision.get() {
            headers.insert(PROTOCOL_VERSION, revision.clone());
        }
        let request = UpstreamRequest {
            method: Method::POST,
            headers,
            body: message,
            repeatable: false,
        };
        let response = self.upstream.send_to(&self.endpoint, request).await?;
        if response.status.is_success() {
            return Ok(());
        }
        Err(PipeError::Refused {
            upstream: Arc::clone(&self.upstream.config().name),
            status: response.status,
        })
    }
}

/// The receiving half: events.
pub(super) struct Messages(Events);

impl Messages {
    /// The data of the first event, which has to be `endpoint`.
    async fn first(&mut self) -> Result<Bytes, PipeError> {
        let saw = match self.event().await {
            Ok(event) if event.kind.as_deref() == Some(b"endpoint") => {
                return Ok(event.data.unwrap_or_default());
            }
            Ok(event) => {
                let kind = event.kind.as_deref().unwrap_or(b"message");
                format!(
                    "its first event is of type {:?}",
                    Shown::new(kind, MAX_SHOWN)
                )
            }
            Err(PipeError::Ended { .. }) => "it ended".to_owned(),
            Err(error) => return Err(error),
        };
        let upstream = self.0.upstream();
        Err(PipeError::NotAnEndpoint { upstream, saw })
    }

    /// The next message or batch. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Result<Payload, PipeError> {
        loop {
            let event = self.event().await?;
            if let Some(payload) = self.0.payload(event)? {
                return Ok(payload);
            }
        }
    }

    /// Dropping the future loses nothing: what a poll reads, the same poll gives on.
    async fn event(&mut self) -> Result<Event, PipeError> {
        poll_fn(|cx| self.0.poll_next(cx, usize::MAX)).await
    }
}

impl Upstream {
    /// Says once that a server announces the end of what it serves. Its headers go no further.
    fn note_deprecation(&self, headers: &HeaderMap) {
        let [deprecation, sunset] = DEPRECATION.map(|name| headers.get(name));
        if deprecation.is_none() && sunset.is_none() {
            return;
        }
        if self.inner.deprecated.swap(true, Ordering::Relaxed) {
            return;
        }
        let shown = |value: Option<&HeaderValue>| {
            let value = value.map_or(&b""[..], HeaderValue::as_bytes);
            Shown::new(value, MAX_SHOWN).to_string()
        };
        tracing::warn!(
            upstream = %self.config().name,
            deprecation = shown(deprecation),
            sunset = shown(sunset),
            "the server says that its HTTP+SSE endpoint is deprecated"
        );
    }
}

/// RFC 9745 and RFC 8594.
const DEPRECATION: [HeaderName; 2] = [
    HeaderName::from_static("deprecation"),
    HeaderName::from_static("sunset"),
];
