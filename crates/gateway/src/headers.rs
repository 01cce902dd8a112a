//! Which headers cross, in either direction (`protocol.md` 4.2).

use std::net::IpAddr;

use http::header::{ACCEPT, ALLOW, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use thinpipe_proto::classify::mirrored_param;
use thinpipe_proto::forwarded;
use thinpipe_proto::header::{
    LAST_EVENT_ID, METHOD, NAME, PROTOCOL_VERSION, SESSION_ID, encode_value,
    forwardable_request_header, forwardable_response_header,
};
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::Message;
use thinpipe_proto::session::{EventId, UpstreamSessionId};

use crate::relay::Purpose;

mod params;

use params::is_param;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");
const BOTH: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");

/// The client's end-to-end headers that may reach an upstream: what may not is taken out. Session id
/// and revision are left to [`without_session`], [`for_session`] and [`for_stateless`], one of which
/// follows. What `Connection` names, the transport has taken out on either side.
pub(crate) fn end_to_end(mut client: HeaderMap) -> HeaderMap {
    remove_where(&mut client, |name| {
        !forwardable_request_header(name) && !is_replaced(name)
    });
    client
}

fn remove_where(headers: &mut HeaderMap, doomed: impl Fn(&HeaderName) -> bool) {
    let doomed: Vec<_> = headers
        .keys()
        .filter(|name| doomed(name))
        .cloned()
        .collect();
    for name in &doomed {
        headers.remove(name);
    }
}

/// Says which addresses a request came over; what it said of that itself is gone.
pub(crate) fn forwarded_for(headers: &mut HeaderMap, trail: impl Iterator<Item = IpAddr> + Clone) {
    if trail.clone().next().is_some() {
        headers.extend(forwarded::header_values(trail));
    }
}

/// Headers of either side's own session, which are set or taken out, never passed.
fn is_replaced(name: &HeaderName) -> bool {
    *name == SESSION_ID || *name == PROTOCOL_VERSION
}

/// Without anything of a session: for `initialize`.
pub(crate) fn without_session(mut headers: HeaderMap) -> HeaderMap {
    remove_where(&mut headers, is_param);
    headers.remove(SESSION_ID);
    headers.remove(PROTOCOL_VERSION);
    headers
}

/// Headers of a POST: both media types are always accepted, since servers insist on their names.
pub(crate) fn for_post(headers: &mut HeaderMap) {
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(ACCEPT, BOTH);
}

/// Headers of a GET that opens or resumes a stream.
pub(crate) fn for_listen(headers: &mut HeaderMap, last: Option<&EventId>) {
    headers.remove(CONTENT_TYPE);
    headers.insert(ACCEPT, EVENTS);
    let last = last.and_then(|id| HeaderValue::from_maybe_shared(id.as_bytes().clone()).ok());
    if let Some(value) = last {
        headers.insert(LAST_EVENT_ID, value);
    }
}

/// The session and revision of the upstream's side of a session, without what only stateless requests
/// have.
pub(crate) fn for_session(
    headers: &mut HeaderMap,
    revision: Revision,
    session: Option<&UpstreamSessionId>,
) {
    remove_where(headers, is_param);
    headers.insert(
        PROTOCOL_VERSION,
        HeaderValue::from_static(revision.as_str()),
    );
    let id = session.and_then(|id| HeaderValue::from_maybe_shared(id.as_bytes().clone()).ok());
    match id {
        Some(value) => headers.insert(SESSION_ID, value),
        None => headers.remove(SESSION_ID),
    };
}

/// The mirrored headers of a self-describing message, made from the message itself, so that they are
/// true whatever was changed on the way; those of its arguments follow a change since it was `received`.
pub(crate) fn for_stateless(
    headers: &mut HeaderMap,
    revision: &HeaderValue,
    message: &Message,
    received: &Message,
) {
    params::follow(headers, received, message);
    headers.remove(SESSION_ID);
    headers.insert(PROTOCOL_VERSION, revision.clone());
    let method = message.method().unwrap_or_default();
    if let Ok(value) = HeaderValue::from_str(method) {
        headers.insert(METHOD, value);
    }
    let name = mirrored_param(method).and_then(|param| message.param_str(param));
    let value = name.and_then(|name| HeaderValue::from_str(&encode_value(&name)).ok());
    if let Some(value) = value {
        headers.insert(NAME, value);
    }
}

/// The upstream's headers that may reach a client.
pub(crate) fn for_client(upstream: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in upstream {
        if forwardable_response_header(name) {
            headers.append(name.clone(), value.clone());
        }
    }
    headers
}

/// `Allow` of a 405: whatever a server without standalone streams says of itself, a session here takes POST
/// and DELETE. Of another request it knows best; if it does not say, what its revision has.
pub(crate) fn for_not_allowed(
    headers: &mut HeaderMap,
    upstream: &HeaderMap,
    (purpose, revision): (&Purpose, Revision),
) {
    if matches!(purpose, Purpose::Standalone | Purpose::Resumed) {
        headers.insert(ALLOW, HeaderValue::from_static("POST, DELETE"));
        return;
    }
    for methods in upstream.get_all(ALLOW) {
        headers.append(ALLOW, methods.clone());
    }
    let methods = if revision.is_modern() {
        "POST"
    } else {
        "GET, POST, DELETE"
    };
    headers
        .entry(ALLOW)
        .or_insert(HeaderValue::from_static(methods));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R121, R126: what a header repeats is taken from the message, whatever the client sent; of a task (R248) that is its id.
    #[test]
    fn r126_mirrored_headers_are_made_from_the_message() {
        for (method, param, value, expected) in [
            ("tools/call", "name", "echo", Some("echo")),
            (
                "resources/read",
                "uri",
                "file:///é",
                Some("=?base64?ZmlsZTovLy/DqQ==?="),
            ),
            ("tasks/get", "taskId", "t-1", Some("t-1")),
            ("tasks/cancel", "taskId", "t-1", Some("t-1")),
            ("tools/list", "name", "echo", None),
        ] {
            let text = format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{"{param}":"{value}"}}}}"#
            );
            let message = Message::parse(text.into()).expect("a message");
            let mut headers = HeaderMap::new();
            let revision = HeaderValue::from_static(Revision::NEWEST.as_str());
            for_stateless(&mut headers, &revision, &message, &message);
            assert_eq!(headers[METHOD], method);
            let name = headers.get(NAME).map(|value| value.as_bytes());
            assert_eq!(name, expected.map(str::as_bytes), "{method}");
        }
    }
}
