//! Requests that hyper or somebody else has framed: answered in the same way as those of HTTP/1.1.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, ORIGIN, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;

use crate::body::{BodyError, BoxFuture};
use crate::byte_budget::Gathering;
use crate::http1::fields;
use crate::server::dispatch::{self, Answering, Dispatched};
use crate::server::exchange::Answer;
use crate::server::head::{Query, RequestHead};
use crate::server::permit::Permit;
use crate::server::reply::{Holds, Reply};
use crate::server::{Server, Shared, ladder};

mod reply_body;

pub(crate) use reply_body::{ReplyStream, STREAM_BUFFER};

use reply_body::respond;

/// A [`Server`] as a [`tower_service::Service`], to be mounted in axum or any other server on hyper.
///
/// What belongs to connections is the host's: how many there are, how long one may be idle, how slowly a
/// head may come. Everything else holds as it does for connections of our own. The address of the peer is
/// taken from a [`SocketAddr`] among the request's extensions, if there is one. Paths are matched as the
/// host passes them on: where it strips a prefix,
/// [`SseConfig::public_base`](super::SseConfig::public_base) says so to clients of HTTP+SSE.
#[derive(Clone)]
pub struct McpService {
    shared: Arc<Shared>,
}

impl Server {
    /// This server as a service. [`shut_down`](Self::shut_down) waits for what runs in it too; the host
    /// has to stop accepting connections by itself.
    #[must_use]
    pub fn service(&self) -> McpService {
        McpService {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<B> tower_service::Service<Request<B>> for McpService
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Send,
{
    type Response = Response<ServiceBody>;
    type Error = Infallible;
    type Future = BoxFuture<Result<Self::Response, Infallible>>;

    /// Always ready: one request too many is told so at once, and does not wait.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        let peer = request.extensions().get::<SocketAddr>().copied();
        Box::pin(async move {
            let answered = answer(shared, request, peer).await;
            Ok(answered.response.map(|body| ServiceBody::new(body, None)))
        })
    }
}

impl fmt::Debug for McpService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("McpService").finish_non_exhaustive()
    }
}

/// The body of a response of an [`McpService`]. It is pulled; dropping it is leaving.
pub struct ServiceBody {
    body: ReplyStream,
    /// Its connection counts as used for as long as it is there.
    _open: Option<Permit>,
}

impl ServiceBody {
    pub(crate) fn new(body: ReplyStream, open: Option<Permit>) -> Self {
        Self { body, _open: open }
    }
}

impl HttpBody for ServiceBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl fmt::Debug for ServiceBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceBody").finish_non_exhaustive()
    }
}

/// A response on its way.
pub(crate) struct Answered {
    pub(crate) response: Response<ReplyStream>,
    /// The client asked for new work of a server that drains, and has nothing else to do here.
    pub(crate) is_turned_away: bool,
}

/// Answers one request.
pub(crate) async fn answer<B>(
    shared: Arc<Shared>,
    request: Request<B>,
    peer: Option<SocketAddr>,
) -> Answered
where
    B: HttpBody<Data = Bytes>,
{
    let (parts, body) = request.into_parts();
    let origin = parts.headers.get(ORIGIN).cloned();
    let too_many = parts.headers.len() > shared.config.limits.max_headers;
    let head = head_of(parts, peer);
    let admitted = if too_many {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        let answer = ladder::refuse(status, "too many header fields");
        ladder::log_refusal(&shared, &answer, Some(&head));
        Err(Box::new(answer))
    } else {
        ladder::admit(&shared, &head)
    };
    let is_head = head.method == Method::HEAD;
    let mount = shared.sse_mount(&head.path);
    let mut may_read = true;
    let mut is_turned_away = false;
    let mut reply = match admitted {
        Err(answer) => {
            may_read = answer.status != StatusCode::FORBIDDEN;
            Reply::new(&shared, *answer, Holds::default())
        }
        Ok(admitted) => match read_body(&shared, body).await {
            Ok(body) => match dispatch::dispatch(&shared, admitted, head, body) {
                Ok(Dispatched::Now(answering)) => in_time(&shared, answering).await,
                Ok(Dispatched::Later(later)) => in_time(&shared, later.await).await,
                Err(refused) => {
                    is_turned_away = !refused.may_stay;
                    ladder::log_refusal(&shared, &refused.answer, None);
                    Reply::new(&shared, refused.answer, Holds::default())
                }
            },
            Err(answer) => {
                ladder::log_refusal(&shared, &answer, None);
                Reply::new(&shared, answer, Holds::default())
            }
        },
    };
    if let Some(origin) = origin.filter(|_| may_read) {
        reply.allow_origin(&origin);
    }
    if let Some(mount) = mount {
        mount.mark(&mut reply.headers);
    }
    Answered {
        response: respond(&shared, reply, is_head),
        is_turned_away,
    }
}

/// The reply; when the time for draining is over, an error in its place.
pub(crate) async fn in_time(shared: &Shared, mut answering: Answering) -> Reply {
    tokio::select! {
        biased;
        // Cancel-safe: it is only borrowed, and goes on below.
        reply = &mut answering => return reply,
        // Cancel-safe: a token stays cancelled.
        () = shared.forced.cancelled() => {}
    }
    answering.await
}

/// Reads the body, within the same bounds as that of HTTP/1.1.
async fn read_body(shared: &Shared, body: impl HttpBody<Data = Bytes>) -> Result<Bytes, Answer> {
    let limits = &shared.config.limits;
    let reading = tokio::time::timeout(limits.body_timeout, gather(shared, body));
    reading.await.unwrap_or_else(|_| {
        let text = "the body came too slowly";
        Err(ladder::refuse(StatusCode::REQUEST_TIMEOUT, text))
    })
}

async fn gather(shared: &Shared, body: impl HttpBody<Data = Bytes>) -> Result<Bytes, Answer> {
    let mut body = std::pin::pin!(body);
    let max = shared.config.limits.max_body;
    let length = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if length > max {
        return Err(ladder::body_too_large(shared));
    }
    let mut whole = match body.size_hint().exact() {
        None => Gathering::up_to(&shared.buffered, max),
        Some(_) => {
            Gathering::announced(&shared.buffered, length).map_err(|_| ladder::no_room(shared))?
        }
    };
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| {
            let text = "the body broke off";
            ladder::refuse(StatusCode::BAD_REQUEST, text)
        })?;
        // What is no data are trailers, which nobody reads.
        let data = frame.into_data().unwrap_or_default();
        if whole.bytes.len() + data.len() > max {
            return Err(ladder::body_too_large(shared));
        }
        whole.bytes.extend_from_slice(&data);
        whole.grown().map_err(|_| ladder::no_room(shared))?;
    }
    Ok(whole.finish())
}

/// The head without what is about the connection and its framing: that goes no further (RFC 9110 7.6.1).
fn head_of(parts: Parts, peer: Option<SocketAddr>) -> RequestHead {
    let Parts {
        method,
        uri,
        mut headers,
        ..
    } = parts;
    let copied = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let host = || ladder::only(&headers, &HOST).map(|host| Bytes::copy_from_slice(host.as_bytes()));
    let authority = uri.authority().map(|a| copied(a.as_str())).or_else(host);
    remove_connection_fields(&mut headers);
    RequestHead {
        method,
        path: copied(uri.path()),
        query: uri.query().map(|query| Query::new(copied(query))),
        authority,
        headers,
        peer,
    }
}

fn remove_connection_fields(headers: &mut HeaderMap) {
    const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
    let connection: Vec<HeaderValue> = headers.get_all(CONNECTION).iter().cloned().collect();
    let named = connection
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','));
    for name in named {
        fields::remove_named(headers, name.trim_ascii());
    }
    for name in [
        CONNECTION,
        KEEP_ALIVE,
        TRANSFER_ENCODING,
        CONTENT_LENGTH,
        EXPECT,
        HOST,
    ] {
        headers.remove(name);
    }
}
