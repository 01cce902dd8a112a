//! What is checked before a body is read: steps 1 to 7 of the validation ladder, in its order.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ALLOW, AUTHORIZATION, CONTENT_TYPE, ORIGIN, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use thinpipe_proto::classify::{self, Class, Served};
use thinpipe_proto::header::{Accept, MediaType, PARAM_PREFIX, SESSION_ID};
use thinpipe_proto::rpc::{Kind, Message, Payload, RequestId, code};
use thinpipe_proto::session::{Principal, SessionId};

use crate::body::Body;
use crate::server::exchange::{Answer, Content};
use crate::server::head::RequestHead;
use crate::server::permit::Permit;
use crate::server::session::stream::StreamSession;
use crate::server::sse::{self, SseMount};
use crate::server::{Endpoint, Route, Shared};

mod log;
pub(crate) mod paths;

pub(crate) use log::{Requester, log_error_on_stream, log_late_refusal, log_refusal};
use paths::no_such_path;

/// A request that may go on to its body.
pub(crate) struct Admitted {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) principal: Principal,
    pub(crate) step: Step,
    pub(crate) permit: Permit,
}

/// What comes next.
#[derive(Debug)]
pub(crate) enum Step {
    /// The body has to be read and outlined.
    ReadBody,
    /// There is no body to read.
    Bodiless(Class),
    /// HTTP+SSE: GET.
    OpenStream(Arc<SseMount>),
    /// HTTP+SSE: POST to a session; the body has to be read.
    PostToStream(Arc<SseMount>, Posted),
}

/// The stream that a client of HTTP+SSE posts to.
#[derive(Debug)]
pub(crate) enum Posted {
    /// It is open here.
    Here(StreamSession),
    /// It may be open on another node.
    Elsewhere(SessionId),
}

/// What is known without the body.
enum Checked {
    /// It may go on.
    Admitted(Admitted),
    /// It asks for a page.
    Page(Answer),
}

/// Checks everything that can be known without the body. `Err` is the answer, of which most are refusals.
pub(crate) fn admit(shared: &Shared, head: &RequestHead) -> Result<Admitted, Box<Answer>> {
    match check(shared, head) {
        Ok(Checked::Admitted(admitted)) => Ok(admitted),
        Ok(Checked::Page(answer)) => Err(Box::new(answer)),
        Err(answer) => {
            log_refusal(shared, &answer, Some(head));
            Err(Box::new(answer))
        }
    }
}

/// The request of revision 2026-07-28 whose answer is a stream of what changes.
const LISTEN: &str = "subscriptions/listen";

/// The refusal of new work while the server drains.
pub(crate) struct Refused {
    pub(crate) answer: Answer,
    /// The client has calls that still run, and may have to answer them over this connection. All
    /// others had better go, to where their requests are taken.
    pub(crate) may_stay: bool,
}

/// While the server drains: 503 for what would begin something. What a running call may wait for
/// (answers of its client, notifications) and the end of a session pass, or draining could not end.
/// Where other nodes are there for whoever comes anew, so does what is soon answered: it came over a connection that
/// was open already, whose other end cannot know yet, and is the last one there.
///
/// The body is parsed once more after this; that costs something only while the server drains.
pub(crate) fn refuse_new_work(
    shared: &Shared,
    admitted: &Admitted,
    head: &RequestHead,
    body: &Bytes,
) -> Option<Refused> {
    if !shared.is_draining() {
        return None;
    }
    Some(Refused {
        answer: new_work(shared, admitted, head, body)?,
        may_stay: has_calls(shared, admitted, head),
    })
}

fn has_calls(shared: &Shared, admitted: &Admitted, head: &RequestHead) -> bool {
    match &admitted.step {
        Step::PostToStream(_, Posted::Here(of)) => return of.session.in_flight() > 0,
        Step::PostToStream(_, Posted::Elsewhere(_)) => return false,
        Step::OpenStream(_) | Step::ReadBody | Step::Bodiless(_) => {}
    }
    let Some(id) = head.headers.get(SESSION_ID) else {
        return false;
    };
    let (principal, endpoint) = (&admitted.principal, &admitted.endpoint.name);
    let session = shared.sessions.live(id.as_bytes(), principal, endpoint);
    session.is_some_and(|session| session.in_flight() > 0)
}

fn new_work(
    shared: &Shared,
    admitted: &Admitted,
    head: &RequestHead,
    body: &Bytes,
) -> Option<Answer> {
    let class = match &admitted.step {
        Step::Bodiless(class) => class.clone(),
        Step::OpenStream(_) => return Some(shutting_down(None)),
        Step::PostToStream(_, Posted::Elsewhere(_)) if shared.has_heirs() => return None,
        Step::PostToStream(..) => match Payload::parse(body.clone()).ok()? {
            Payload::Single(message) => Class::Message(message),
            Payload::Batch(messages) => Class::Batch(messages),
        },
        // What is malformed is refused as such further on.
        Step::ReadBody => {
            let payload = Payload::parse(body.clone()).ok()?;
            let served = served_at(shared, &admitted.endpoint);
            let class = classify::classify_post(payload, &head.headers, served).ok()?;
            if shared.has_heirs() && !is_subscription(&class) {
                return None;
            }
            class
        }
    };
    new_work_of(&class, &admitted.endpoint)
}

/// Whether a request is answered only when its client, or the server, has enough.
fn is_subscription(class: &Class) -> bool {
    matches!(class, Class::Stateless(message) if message.method() == Some(LISTEN))
}

/// The refusal of a request, if it would begin something.
pub(crate) fn new_work_of(class: &Class, endpoint: &Endpoint) -> Option<Answer> {
    let is_request = |message: &Message| message.kind() == Kind::Request;
    match class {
        // It goes on with what has begun.
        Class::Stateless(message)
            if message.param("requestState").is_some() && endpoint.handler.awaits_clients() =>
        {
            None
        }
        Class::Stateless(message) | Class::Initialize(message) => Some(shutting_down(message.id())),
        Class::Message(message) if is_request(message) => Some(shutting_down(message.id())),
        Class::Batch(messages) if messages.iter().any(is_request) => Some(shutting_down(None)),
        Class::Listen => Some(shutting_down(None)),
        Class::Message(_)
        | Class::Batch(_)
        | Class::StatelessNotification(_)
        | Class::Terminate => None,
    }
}

impl Route {
    /// Whether a request of its handler's waits for its client to come again.
    pub(super) fn awaits_clients(&self) -> bool {
        match self {
            Self::Mcp(endpoint) => endpoint.handler.awaits_clients(),
            Self::Sse(..) | Self::Page(_) => false,
        }
    }
}

fn shutting_down(id: Option<&RequestId>) -> Answer {
    unavailable(id, "this server is shutting down", reason!("shutting_down"))
}

fn check(shared: &Shared, head: &RequestHead) -> Result<Checked, Answer> {
    let access = &shared.config.access;
    if !access.allows_host(head.host()) {
        return Err(forbid(
            reason!("host_not_allowed"),
            "this Host is not served here",
        ));
    }
    let origin = head.headers.get(ORIGIN).map(HeaderValue::as_bytes);
    let repeated = head.headers.get_all(ORIGIN).iter().nth(1).is_some();
    if repeated || !access.allows_origin(origin) {
        return Err(forbid(
            reason!("origin_not_allowed"),
            "this Origin is not allowed here",
        ));
    }
    let route = shared
        .route(&head.path)
        .ok_or_else(|| no_such_path(shared, head))?;
    if head.method == Method::OPTIONS && origin.is_some() {
        return Err(preflight(head));
    }
    let (endpoint, (principal, step)) = match route {
        Route::Mcp(endpoint) => (endpoint, admit_streamable(shared, endpoint, head)?),
        Route::Sse(mount, half) => (&mount.endpoint, sse::admit(shared, head, mount, *half)?),
        Route::Page(page) => return page.answer(shared, head).map(Checked::Page),
    };
    let requests = if shared.is_draining() {
        &shared.late_requests
    } else {
        &shared.requests
    };
    let permit = requests.take().ok_or_else(|| {
        busy(
            None,
            "too many requests are being answered",
            Some(shared.requests.limit()),
        )
    })?;
    Ok(Checked::Admitted(Admitted {
        endpoint: Arc::clone(endpoint),
        principal,
        step,
        permit,
    }))
}

/// Method, token and media types of a request to an endpoint of Streamable HTTP, in this order.
fn admit_streamable(
    shared: &Shared,
    endpoint: &Endpoint,
    head: &RequestHead,
) -> Result<(Principal, Step), Answer> {
    let class = bodiless(head, served_at(shared, endpoint))?;
    let principal = authenticate(shared, head)?;
    match class {
        None => check_post_types(head)?,
        Some(Class::Listen) => check_listen_accept(head)?,
        Some(_) => {}
    }
    Ok((principal, class.map_or(Step::ReadBody, Step::Bodiless)))
}

/// A refusal of the transport that has no request id to echo.
pub(crate) fn refuse(status: StatusCode, message: &str) -> Answer {
    let data = match status {
        StatusCode::UNAUTHORIZED => reason!("unauthorized"),
        StatusCode::NOT_FOUND => reason!("unknown_path"),
        StatusCode::NOT_ACCEPTABLE => reason!("not_acceptable"),
        StatusCode::REQUEST_TIMEOUT => reason!("too_slow"),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => reason!("unsupported_media_type"),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => reason!("head_too_large"),
        _ => reason!("bad_request"),
    };
    Answer::error(status, None, code::SERVER_ERROR, message, Some(data))
}

/// 403: a page or a name that has no business here.
fn forbid(data: &'static str, message: &str) -> Answer {
    Answer::error(
        StatusCode::FORBIDDEN,
        None,
        code::SERVER_ERROR,
        message,
        Some(data),
    )
}

/// 503: the client may come back.
pub(crate) fn busy(id: Option<&RequestId>, message: &str, limit: Option<usize>) -> Answer {
    let text = limit.map_or_else(|| message.to_owned(), |n| format!("{message} (limit {n})"));
    unavailable(id, &text, reason!("overloaded"))
}

/// `initialize` is kept for as long as its session lives: what all sessions keep must stay far below
/// what they would with bodies of any size.
const MAX_INITIALIZE: usize = 256 << 10;

pub(crate) fn check_initialize(message: &Message) -> Result<(), Answer> {
    if message.source().len() <= MAX_INITIALIZE {
        return Ok(());
    }
    let text = format!("initialize exceeds {MAX_INITIALIZE} bytes");
    Err(too_large(message.id(), &text))
}

/// 413: the body exceeds its limit.
pub(crate) fn body_too_large(shared: &Shared) -> Answer {
    let max = shared.config.limits.max_body;
    too_large(None, &format!("the body exceeds {max} bytes"))
}

fn too_large(id: Option<&RequestId>, text: &str) -> Answer {
    let (status, code) = (StatusCode::PAYLOAD_TOO_LARGE, code::INVALID_REQUEST);
    Answer::error(status, id, code, text, Some(reason!("too_large")))
}

/// 503: what is to be held whole finds no room now.
pub(crate) fn no_room(shared: &Shared) -> Answer {
    let limit = Some(shared.buffered.limit());
    busy(None, "too many bytes of messages are held", limit)
}

pub(crate) fn unavailable(id: Option<&RequestId>, text: &str, data: &'static str) -> Answer {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let mut answer = Answer::error(status, id, code::SERVER_ERROR, text, Some(data));
    answer
        .headers
        .insert(RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

/// Which clients get beyond the classification at this endpoint.
pub(crate) fn served_at(shared: &Shared, endpoint: &Endpoint) -> Served {
    shared.served.and(endpoint.handler.serves())
}

fn bodiless(head: &RequestHead, served: Served) -> Result<Option<Class>, Answer> {
    if head.method == Method::POST {
        return Ok(None);
    }
    let class = classify::classify_bodiless(&head.method, &head.headers, served);
    class.map(Some).map_err(|refusal| Answer::refused(&refusal))
}

pub(crate) fn authenticate(shared: &Shared, head: &RequestHead) -> Result<Principal, Answer> {
    if shared.config.tokens.is_empty() {
        return Ok(Principal::Anonymous);
    }
    let given = head.headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let given = given.and_then(bearer).unwrap_or_default();
    let known = shared
        .config
        .tokens
        .iter()
        .find(|t| constant_time_eq(given, t.token.as_bytes()));
    if let Some(token) = known {
        return Ok(Principal::Named(token.principal.as_str().into()));
    }
    let mut answer = refuse(StatusCode::UNAUTHORIZED, "a valid bearer token is required");
    let challenge = if given.is_empty() {
        "Bearer"
    } else {
        r#"Bearer error="invalid_token""#
    };
    answer
        .headers
        .insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    Err(answer)
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| token.trim_ascii())
}

/// Takes as long for a wrong token as for a right one, so that time tells nothing about it.
fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    !b.is_empty()
        && a.len() == b.len()
        && a.iter().zip(b).fold(0, |diff, (x, y)| diff | (x ^ y)) == 0
}

fn check_post_types(head: &RequestHead) -> Result<(), Answer> {
    if has_usual_types(head) {
        return Ok(());
    }
    check_json_body(head)?;
    let accept = accept(head);
    if accept.json && accept.event_stream {
        return Ok(());
    }
    let text = "Accept must list both application/json and text/event-stream";
    Err(refuse(StatusCode::NOT_ACCEPTABLE, text))
}

/// The body has to be said to be JSON, and that once.
pub(crate) fn check_json_body(head: &RequestHead) -> Result<(), Answer> {
    let given = only(&head.headers, &CONTENT_TYPE);
    if given.is_some_and(|v| MediaType::parse(v.as_bytes()) == MediaType::Json) {
        return Ok(());
    }
    let text = "Content-Type must be application/json";
    Err(refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, text))
}

/// What SDK clients send, to the letter: spares parsing two lists for nearly every request.
fn has_usual_types(head: &RequestHead) -> bool {
    only(&head.headers, &CONTENT_TYPE).is_some_and(|v| v == "application/json")
        && only(&head.headers, &ACCEPT).is_some_and(|v| v == "application/json, text/event-stream")
}

/// The value of a field that is there once.
pub(crate) fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

fn check_listen_accept(head: &RequestHead) -> Result<(), Answer> {
    if accept(head).event_stream {
        return Ok(());
    }
    Err(refuse(
        StatusCode::NOT_ACCEPTABLE,
        "Accept must list text/event-stream",
    ))
}

pub(crate) fn accept(head: &RequestHead) -> Accept {
    Accept::parse(
        head.headers
            .get_all(ACCEPT)
            .iter()
            .map(HeaderValue::as_bytes),
    )
}

/// CORS: the origin was checked already; only what MCP needs is allowed.
fn preflight(head: &RequestHead) -> Answer {
    let mut allowed = String::from(
        "authorization, content-type, accept, last-event-id, mcp-session-id, \
         mcp-protocol-version, mcp-method, mcp-name",
    );
    let asked = head
        .headers
        .get(ACCESS_CONTROL_REQUEST_HEADERS)
        .and_then(|v| v.to_str().ok());
    for name in asked.unwrap_or_default().split(',').map(str::trim) {
        let name = name.to_ascii_lowercase();
        if name.starts_with(PARAM_PREFIX) && HeaderName::try_from(&name).is_ok() {
            allowed.push_str(", ");
            allowed.push_str(&name);
        }
    }
    let mut answer = Answer::new(StatusCode::NO_CONTENT, Content::Other(None), Body::Empty);
    let methods = HeaderValue::from_static("GET, POST, DELETE, OPTIONS");
    answer
        .headers
        .insert(ACCESS_CONTROL_ALLOW_METHODS, methods.clone());
    answer.headers.insert(ALLOW, methods);
    answer
        .headers
        .insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(allowed)) {
        answer.headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, value);
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_compare_whole() {
        assert!(constant_time_eq(b"secret", b"secret"));
        assert!(!constant_time_eq(b"secre", b"secret"));
        assert!(!constant_time_eq(b"", b""));
        assert_eq!(bearer(b"Bearer abc "), Some(&b"abc"[..]));
        assert_eq!(bearer(b"Basic abc"), None);
    }
}
