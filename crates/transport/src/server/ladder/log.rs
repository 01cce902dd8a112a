//! What the log tells of requests that were refused: who reaches no handler is in no exchange log.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http::header::ORIGIN;
use http::{HeaderValue, Method, StatusCode};
use thinpipe_proto::shown::Shown;

use crate::body::Body;
use crate::server::Shared;
use crate::server::exchange::Answer;
use crate::server::head::RequestHead;

/// Bytes of a text that stands for a reason.
const MAX_SHOWN: usize = 200;

/// Whose request it was, and what for. It outlives the head, and says nothing of the query: that may
/// hold a session's id.
#[derive(Debug, Clone)]
pub(crate) struct Requester {
    method: Method,
    path: Bytes,
    peer: Option<SocketAddr>,
    /// The first address on the way here, as far as trusted proxies tell it.
    client: Option<IpAddr>,
}

impl Requester {
    /// `trail` is that of the head.
    pub(crate) fn of(head: &RequestHead, trail: &[IpAddr]) -> Self {
        Self {
            method: head.method.clone(),
            path: head.path.clone(),
            peer: head.peer,
            client: trail.first().copied(),
        }
    }

    /// Whose request another node has sent here.
    pub(crate) fn tunnelled(
        method: Method,
        path: Bytes,
        peer: Option<SocketAddr>,
        trail: &[IpAddr],
    ) -> Self {
        Self {
            method,
            path,
            peer,
            client: trail.first().copied(),
        }
    }

    /// The path it came to.
    pub(crate) fn path(&self) -> &Bytes {
        &self.path
    }
}

/// Tells of a refusal whose request was read as far as its head, or not so far.
pub(crate) fn log_refusal(shared: &Shared, answer: &Answer, head: Option<&RequestHead>) {
    let from = head.map(|head| Requester::of(head, &head.trail(&shared.config)));
    log(answer, from.as_ref(), head);
}

/// Tells of a refusal of a request whose head is not there any more.
pub(crate) fn log_late_refusal(answer: &Answer, from: &Requester) {
    log(answer, Some(from), None);
}

/// Tells of a request that HTTP accepted, and whose error is an event on the stream of its session.
pub(crate) fn log_error_on_stream(answer: &Answer, from: &Requester) {
    tracing::info!(
        reason = reason_of(answer).as_deref(),
        method = %from.method,
        path = %from.path.escape_ascii(),
        client = from.client.map(tracing::field::display),
        peer = from.peer.map(tracing::field::display),
        "a request over HTTP+SSE was refused, with an error on its stream"
    );
}

fn log(answer: &Answer, from: Option<&Requester>, head: Option<&RequestHead>) {
    // What was not allowed is what whoever set this up wants to know first.
    let forbidden = head.filter(|_| answer.status == StatusCode::FORBIDDEN);
    let origin = forbidden.and_then(|head| head.headers.get(ORIGIN));
    tracing::info!(
        status = answer.status.as_u16(),
        reason = reason_of(answer).as_deref(),
        method = from.map(|from| tracing::field::display(&from.method)),
        path = from.map(|from| tracing::field::display(from.path.escape_ascii())),
        client = from
            .and_then(|from| from.client)
            .map(tracing::field::display),
        peer = from.and_then(|from| from.peer).map(tracing::field::display),
        host = forbidden
            .and_then(|head| head.host())
            .map(|host| tracing::field::display(host.escape_ascii())),
        origin = origin
            .map(HeaderValue::as_bytes)
            .map(|origin| tracing::field::display(origin.escape_ascii())),
        "a request was refused: {}",
        answer.status.canonical_reason().unwrap_or("unknown")
    );
}

/// `data.reason` of an answer of ours; of one whose data the specification has, its text.
fn reason_of(answer: &Answer) -> Option<String> {
    let Body::Full(body) = &answer.body else {
        return None;
    };
    let error = serde_json::from_slice::<serde_json::Value>(body).ok()?;
    let error = &error["error"];
    if let Some(reason) = error["data"]["reason"].as_str() {
        return Some(reason.to_owned());
    }
    // It may quote what a client has sent.
    let text = error["message"].as_str()?;
    Some(Shown::new(text, MAX_SHOWN).to_string())
}
