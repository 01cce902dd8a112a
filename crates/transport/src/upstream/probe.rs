//! Asks a server what it speaks; what the answers mean is for [`thinpipe_proto::probe`].

#[cfg(unix)]
mod stdio;
mod stream;

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use thinpipe_proto::header::{
    LAST_EVENT_ID, METHOD, MediaType, NAME, PROTOCOL_VERSION, SESSION_ID,
};
use thinpipe_proto::probe::{self as proto, Next};
pub use thinpipe_proto::probe::{ProbeFailure, Speaks, Verdict};
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::{self, Kind, Message};
use thinpipe_proto::session::UpstreamSessionId;
use thinpipe_proto::sse::{Decoder, Item};

use super::pipe::PipeError;
use super::{Upstream, UpstreamError, UpstreamRequest, UpstreamResponse, after};
use crate::ByteBudget;
use crate::body::{Body, BodyError, Filled};

#[cfg(unix)]
pub use stdio::probe_stdio;

/// Bytes of an answer to a probe. Tool lists are not in it, so this is generous.
const MAX_ANSWER: usize = 256 << 10;

/// Why there is no verdict on a server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// It answered, but not with what a verdict needs.
    #[error(transparent)]
    Failed(#[from] ProbeFailure),
    /// It did not answer.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// Its answer broke off.
    #[error("the server's answer to the probe broke off")]
    Body(#[from] BodyError),
    /// The child could not be started, or ended before there was a verdict.
    #[error(transparent)]
    Pipe(#[from] PipeError),
    /// The child did not answer `initialize`.
    #[error("the process did not answer initialize within {after:?}")]
    Silent {
        /// The time-out.
        after: Duration,
    },
}

impl ProbeError {
    /// Whether it says nothing about the server's revisions (it was down, or wants credentials):
    /// probe again, later. Silence is an outage and never a revision.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Failed(failure) => failure.is_passing(),
            Self::Upstream(error) => !matches!(error, UpstreamError::Redirect { .. }),
            Self::Body(_) | Self::Pipe(_) | Self::Silent { .. } => true,
        }
    }
}

/// The request `server/discover` in the newest revision: it has no side effects, so it also serves to
/// see whether a server answers.
#[must_use]
pub fn discover_request() -> Bytes {
    proto::discover_request(PROBE_ID, Revision::NEWEST)
}

/// As [`probe_with`], with the upstream's own headers only.
///
/// # Errors
/// As [`probe_with`].
pub async fn probe(upstream: &Upstream, budget: &ByteBudget) -> Result<Verdict, ProbeError> {
    probe_with(upstream, HeaderMap::new(), budget).await
}

/// Asks with `server/discover`, with `initialize` if that is not understood, and for the event stream of
/// HTTP+SSE if that is not understood either (first, if the path of the URL ends in `/sse`); a session
/// that this opens is closed again. `headers` go with every request (credentials); those of MCP are set here.
/// Answers are held whole within `budget`.
///
/// # Errors
/// [`ProbeError`]. A verdict is never guessed from silence, refusal or an outage.
pub async fn probe_with(
    upstream: &Upstream,
    headers: HeaderMap,
    budget: &ByteBudget,
) -> Result<Verdict, ProbeError> {
    let (mut probe, mut next) = proto::Probe::begin(upstream.config().url.path());
    loop {
        next = match next {
            Next::Done(verdict) => return Ok(verdict),
            Next::Failed(failure) => return Err(failure.into()),
            Next::Discover(revision) => {
                let response = upstream.send(discover(&headers, revision)).await?;
                let status = response.status.as_u16();
                let message = read(upstream, response, budget).await?;
                probe.answered(status, message.as_ref())
            }
            Next::Initialize(revision) => {
                let response = upstream.send(initialize(&headers, revision)).await?;
                let status = response.status.as_u16();
                let session = response.session_id().unwrap_or_default();
                let message = read(upstream, response, budget).await;
                if let Some(session) = session {
                    let revision = negotiated(message.as_ref().ok()).unwrap_or(revision);
                    close(upstream, &headers, &session, revision).await;
                }
                probe.answered(status, message?.as_ref())
            }
            Next::OpenStream => match stream::open(upstream, &headers, budget).await? {
                Ok(pipe) => return Ok(stream::ask(pipe).await),
                Err(saw) => probe.not_opened(saw),
            },
        };
    }
}

/// The JSON-RPC response to the probe in this answer, if there is one.
async fn read(
    upstream: &Upstream,
    response: UpstreamResponse,
    budget: &ByteBudget,
) -> Result<Option<Message>, ProbeError> {
    let of_success = response.status.is_success();
    let deadline = after(upstream.config().request_timeout);
    if response.is_event_stream() {
        let reading = read_events(response.into_body(), budget);
        return match tokio::time::timeout_at(deadline.into(), reading).await {
            Ok(read) => Ok(read?),
            Err(_) => Err(BodyError::Late.into()),
        };
    }
    // What a server says about an error is read whatever it calls it.
    if of_success && response.media_type != MediaType::Json {
        return Ok(None);
    }
    let body = response.into_body();
    match body.collect(MAX_ANSWER, deadline, budget).await {
        Ok(body) => Ok(response_in(body)),
        Err(BodyError::TooLarge { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn read_events(body: Body, budget: &ByteBudget) -> Result<Option<Message>, BodyError> {
    let mut stream = match body {
        Body::Empty => return Ok(None),
        Body::Full(bytes) => return Ok(first_response(&mut decoder(bytes)).unwrap_or(None)),
        Body::Stream(stream) => stream,
    };
    let mut decoder = Decoder::new(MAX_ANSWER);
    let mut room = budget.empty();
    loop {
        let mut chunk = Vec::new();
        let filled = poll_fn(|cx| stream.poll_fill(cx, &mut chunk)).await?;
        decoder.push(Bytes::from(chunk));
        match first_response(&mut decoder) {
            Some(Some(message)) => return Ok(Some(message)),
            Some(None) if filled == Filled::More => room.resize(decoder.pending())?,
            _ => return Ok(None),
        }
    }
}

fn decoder(bytes: Bytes) -> Decoder {
    let mut decoder = Decoder::new(MAX_ANSWER);
    decoder.push(bytes);
    decoder
}

/// The response among the events that are complete; `None` if the stream cannot be read on.
fn first_response(decoder: &mut Decoder) -> Option<Option<Message>> {
    while let Some(item) = decoder.next_item().ok()? {
        if let Item::Event(event) = item
            && let Some(message) = event.data.and_then(response_in)
        {
            return Some(Some(message));
        }
    }
    Some(None)
}

/// The message, if it is the response to a probe. An error may come without an id.
fn response_in(text: Bytes) -> Option<Message> {
    let message = Message::parse(text).ok()?;
    let ours = match (message.kind(), message.id()) {
        (Kind::Response | Kind::ErrorResponse, Some(id)) => id.as_json() == PROBE_ID.as_bytes(),
        (Kind::ErrorResponse, None) => true,
        _ => false,
    };
    ours.then_some(message)
}

/// The id of all requests made here, as JSON text. No two of them are open at a time.
const PROBE_ID: &str = "\"thinpipe-probe\"";

fn discover(headers: &HeaderMap, revision: Revision) -> UpstreamRequest {
    let mut headers = posted(headers.clone());
    headers.insert(PROTOCOL_VERSION, version(revision));
    headers.insert(METHOD, HeaderValue::from_static("server/discover"));
    UpstreamRequest {
        method: Method::POST,
        headers,
        body: proto::discover_request(PROBE_ID, revision),
        repeatable: true,
    }
}

fn initialize(headers: &HeaderMap, revision: Revision) -> UpstreamRequest {
    UpstreamRequest {
        method: Method::POST,
        headers: posted(headers.clone()),
        body: proto::initialize_request(PROBE_ID, revision),
        repeatable: false,
    }
}

/// Ends a session that was opened only to ask. If the server does not want that, it has other means.
async fn close(
    upstream: &Upstream,
    headers: &HeaderMap,
    session: &UpstreamSessionId,
    revision: Revision,
) {
    let mut headers = plain(headers.clone());
    if let Ok(session) = HeaderValue::from_maybe_shared(session.as_bytes().clone()) {
        headers.insert(SESSION_ID, session);
    }
    headers.insert(PROTOCOL_VERSION, version(revision));
    let request = UpstreamRequest {
        method: Method::DELETE,
        headers,
        body: Bytes::new(),
        repeatable: true,
    };
    if let Err(error) = upstream.send(request).await {
        tracing::debug!(%error, "the session of a probe was not closed");
    }
}

/// The revision an `initialize` result names.
fn negotiated(message: Option<&Option<Message>>) -> Option<Revision> {
    let result = message?.as_ref()?.result()?;
    let named = rpc::member(&result, "protocolVersion")?;
    Revision::from_bytes(rpc::string(&named)?.as_bytes())
}

/// What a POST of Streamable HTTP has, beside what the caller sends with it.
pub(super) fn posted(headers: HeaderMap) -> HeaderMap {
    let mut headers = plain(headers);
    // Servers look for both names, and refuse `*/*`.
    let both = HeaderValue::from_static("application/json, text/event-stream");
    headers.insert(header::ACCEPT, both);
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json);
    headers
}

/// Without the headers of MCP, which would make the request another one.
pub(super) fn plain(mut headers: HeaderMap) -> HeaderMap {
    for name in MCP_HEADERS {
        headers.remove(name);
    }
    headers
}

const MCP_HEADERS: [HeaderName; 5] = [SESSION_ID, PROTOCOL_VERSION, METHOD, NAME, LAST_EVENT_ID];

fn version(revision: Revision) -> HeaderValue {
    HeaderValue::from_static(revision.as_str())
}
