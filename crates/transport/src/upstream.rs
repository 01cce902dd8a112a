//! The client side of Streamable HTTP: one [`Upstream`] for each MCP server endpoint. And, where a session is a
//! [`pipe::Pipe`] of messages, the client side of HTTP+SSE ([`sse`]), stdio ([`stdio`]) and Streamable HTTP
//! with sessions ([`streamable`]).
//!
//! A request is consumed by sending it, and its response is one value whose body has not been read:
//! there is no way to ask an upstream the same thing twice by accident.
//!
//! HTTP/1.1 is spoken here, without a task and without a channel: the future of [`Upstream::send`]
//! owns the connection, then the body of the response does, and whoever polls them drives it. A
//! connection that waits owns no buffer. HTTP/2 is hyper's.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use http::{HeaderMap, StatusCode, header};
use thinpipe_proto::header::MediaType;
use thinpipe_proto::shown::Shown;

mod answer;
mod budget;
mod config;
mod connect;
mod error;
mod exchange;
mod head;
mod http2;
mod message;
pub mod pipe;
mod pool;
pub mod probe;
mod redirect;
pub mod sse;
#[cfg(unix)]
pub mod stdio;
pub mod streamable;
#[cfg(feature = "tls")]
mod tls;

pub use config::UpstreamConfig;
pub use connect::{Connect, Connector, port};
pub use error::UpstreamError;
pub use message::{UpstreamRequest, UpstreamResponse};
#[cfg(feature = "tls")]
pub use tls::Tls;

use answer::Patience;
use budget::{Budget, Permit};
use exchange::{Answered, Call, Failure};
use head::Template;
use http2::Http2;
use pool::{Connection, Counters, Pool};

use crate::io::now;

/// Of a text that a server sent, so many bytes are shown in an error.
const MAX_SHOWN: usize = 200;

/// One MCP server endpoint, with its pool of connections. Cheap to clone.
#[derive(Clone)]
pub struct Upstream {
    inner: Arc<Inner>,
}

/// What an upstream is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UpstreamStats {
    /// Connections that are open, idle ones too.
    pub open: usize,
    /// Connections that wait for a request.
    pub idle: usize,
    /// Event streams being read.
    pub streams: usize,
    /// Connections opened so far.
    pub connects: u64,
    /// Requests that went over a connection opened before.
    pub reused: u64,
}

struct Inner {
    config: UpstreamConfig,
    template: Template,
    connector: Arc<dyn Connect>,
    budget: Budget,
    pool: Pool,
    http2: Http2,
    counters: Arc<Counters>,
    /// Whether it has been said that the server announces its end.
    deprecated: AtomicBool,
}

impl Upstream {
    /// An upstream that has no connection yet.
    #[must_use]
    pub fn new(config: UpstreamConfig) -> Self {
        let connector = match &config.connector {
            Some(connector) => Arc::clone(&connector.0),
            None => connect::by_scheme(&config.url, config.http2),
        };
        Self::build(config, connector)
    }

    /// The same over connections of another kind.
    #[must_use]
    pub fn with_connector(config: UpstreamConfig, connector: impl Connect) -> Self {
        Self::build(config, Arc::new(connector))
    }

    fn build(config: UpstreamConfig, connector: Arc<dyn Connect>) -> Self {
        Self {
            inner: Arc::new(Inner {
                template: Template::new(&config.url, &config.headers),
                budget: Budget::new(config.max_connections, config.max_streams),
                connector,
                pool: Pool::default(),
                http2: Http2::default(),
                counters: Arc::default(),
                deprecated: AtomicBool::new(false),
                config,
            }),
        }
    }

    /// How it is reached.
    #[must_use]
    pub fn config(&self) -> &UpstreamConfig {
        &self.inner.config
    }

    /// What it is doing now.
    #[must_use]
    pub fn stats(&self) -> UpstreamStats {
        let inner = &self.inner;
        UpstreamStats {
            open: inner.counters.open.load(Ordering::Relaxed),
            idle: inner.pool.idle() + inner.http2.idle(),
            streams: inner.budget.streams(),
            connects: inner.counters.connects.load(Ordering::Relaxed),
            reused: inner.counters.reused.load(Ordering::Relaxed),
        }
    }

    /// How many exchanges run, event streams among them. Cheap enough for every request.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.inner.budget.in_use()
    }

    /// Sees to it that there is a connection for the next request, and says nothing on it. Over HTTP/2 it does
    /// nothing: there the request itself will tell.
    ///
    /// # Errors
    /// [`UpstreamError`]: none could be made.
    pub async fn reach(&self) -> Result<(), UpstreamError> {
        let inner = &self.inner;
        if inner.config.http2 {
            return Ok(());
        }
        let permit = Permit::short(inner, inner.config.connect_timeout).await;
        let _permit = permit.ok_or_else(|| inner.exhausted())?;
        let connection = match inner.pool.checkout() {
            Some(connection) => connection,
            None => inner.connect().await?,
        };
        inner.pool.put(connection, inner.config.pool_max_idle);
        Ok(())
    }

    /// Closes idle connections that have served their time or that the server has closed. Call it now
    /// and then: between requests nothing else does.
    pub fn prune(&self) {
        self.inner.pool.prune();
        self.inner.http2.prune(&self.inner.config);
    }

    /// Sends a request and returns as soon as the head of the response is there.
    ///
    /// Dropping the future closes the connection it was sent on: for a stateless request that is its
    /// cancellation. A redirect with 307 or 308 to the same origin is followed, three times at most.
    ///
    /// # Errors
    /// [`UpstreamError`]; nothing is retried but what [`UpstreamRequest::repeatable`] says.
    pub fn send(
        &self,
        request: UpstreamRequest,
    ) -> impl Future<Output = Result<UpstreamResponse, UpstreamError>> + Send {
        self.ask_at(&self.inner.template.target, request)
    }

    /// As [`Self::send`], to another path and query of the same origin.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn send_to(
        &self,
        target: &PathAndQuery,
        request: UpstreamRequest,
    ) -> impl Future<Output = Result<UpstreamResponse, UpstreamError>> + Send {
        self.ask_at(target.as_str(), request)
    }

    #[expect(
        clippy::manual_async_fn,
        reason = "the future of an `async fn` holds its arguments twice, and this one is boxed for every request"
    )]
    fn ask_at(
        &self,
        target: &str,
        request: UpstreamRequest,
    ) -> impl Future<Output = Result<UpstreamResponse, UpstreamError>> + Send {
        async move {
            let inner = &self.inner;
            let deadline = after(inner.config.request_timeout);
            let permit = Permit::short(inner, inner.config.connect_timeout)
                .await
                .ok_or_else(|| inner.exhausted())?;
            let mut target = Cow::Borrowed(target);
            let mut redirects = 0;
            loop {
                let call = Call {
                    template: &inner.template,
                    method: &request.method,
                    target: &target,
                    headers: &request.headers,
                    body: &request.body,
                    first_byte_timeout: inner.config.first_byte_timeout,
                    deadline,
                };
                let reply = inner.ask(&call, request.repeatable).await?;
                let (status, headers) = reply.head();
                if !status.is_redirection() || status == StatusCode::NOT_MODIFIED {
                    return inner.answer(reply, permit, deadline);
                }
                target = Cow::Owned(inner.redirect(status, headers, &target, redirects)?);
                redirects += 1;
                reply.discard(&permit);
            }
        }
    }
}

/// A response of either version of HTTP, with what carries its body.
enum Reply {
    Http1(Answered, Box<Connection>),
    Http2(Box<http2::Answered>),
}

impl Reply {
    fn http1(answered: Answered, mut connection: Box<Connection>) -> Self {
        connection.served(answered.head.keep_alive);
        Self::Http1(answered, connection)
    }

    fn head(&self) -> (StatusCode, &HeaderMap) {
        match self {
            Self::Http1(answered, _) => (answered.head.status, &answered.head.headers),
            Self::Http2(answered) => answered.head(),
        }
    }

    fn discard(self, permit: &Permit) {
        match self {
            Self::Http1(answered, connection) => answer::discard(&answered, connection, permit),
            // Dropping it resets the stream; the connection goes on.
            Self::Http2(_) => {}
        }
    }
}

impl Inner {
    /// Asks once; twice only where the first time cannot have been heard or repeating does no harm.
    async fn ask(
        self: &Arc<Self>,
        call: &Call<'_>,
        repeatable: bool,
    ) -> Result<Reply, UpstreamError> {
        if self.config.http2 {
            let answered = Box::pin(self.ask_http2(call, repeatable)).await?;
            return Ok(Reply::Http2(Box::new(answered)));
        }
        if let Some(mut connection) = self.pool.checkout() {
            self.counters.reused.fetch_add(1, Ordering::Relaxed);
            match call.run(&mut connection).await {
                Ok(answered) => return Ok(Reply::http1(answered, connection)),
                Err(Failure::Lost {
                    unsent,
                    silent: true,
                    ..
                }) if unsent || repeatable => {}
                Err(failure) => return Err(self.failed(failure)),
            }
        }
        // Boxed, like HTTP/2: a request that waits for its answer does not carry what is rare.
        let mut connection = Box::pin(self.connect()).await?;
        match call.run(&mut connection).await {
            Ok(answered) => Ok(Reply::http1(answered, connection)),
            Err(failure) => Err(self.failed(failure)),
        }
    }

    async fn connect(&self) -> Result<Box<Connection>, UpstreamError> {
        let wait = self.config.connect_timeout;
        let connecting = self.connector.connect(&self.config.url);
        match tokio::time::timeout(wait, connecting).await {
            Ok(Ok(io)) => Ok(Box::new(Connection::new(io, &self.config, &self.counters))),
            Ok(Err(source)) => Err(self.unreachable(source)),
            Err(_) => Err(self.not_connected()),
        }
    }

    /// Makes the response that is handed out. An event stream moves to the other budget.
    fn answer(
        &self,
        reply: Reply,
        mut permit: Permit,
        deadline: Instant,
    ) -> Result<UpstreamResponse, UpstreamError> {
        let (status, headers) = reply.head();
        let media_type = headers
            .get(header::CONTENT_TYPE)
            .map_or(MediaType::Other, |value| MediaType::parse(value.as_bytes()));
        let complete = match &reply {
            Reply::Http1(answered, _) => answered.is_complete(),
            Reply::Http2(answered) => answered.is_complete(),
        };
        if status != StatusCode::NO_CONTENT {
            self.check_coding(headers)?;
        }
        let mut patience = Patience {
            idle: self.config.idle_timeout,
            deadline: Some(deadline),
        };
        if media_type == MediaType::EventStream && !complete {
            permit = permit
                .into_stream()
                .ok_or_else(|| self.too_many_streams())?;
            patience = Patience {
                idle: self.config.stream_idle_timeout,
                deadline: None,
            };
        }
        Ok(match reply {
            Reply::Http1(mut answered, connection) => {
                let body = answer::body(&mut answered, connection, permit, patience);
                let head = answered.head;
                UpstreamResponse::new(
                    head.status,
                    head.headers,
                    media_type,
                    head.content_length,
                    body,
                )
            }
            Reply::Http2(answered) => answered.into_response(media_type, permit, patience),
        })
    }

    /// We always ask for `identity`: what comes coded all the same could not be read by anybody here.
    fn check_coding(&self, headers: &HeaderMap) -> Result<(), UpstreamError> {
        let coded = headers
            .get_all(header::CONTENT_ENCODING)
            .iter()
            .find(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"));
        match coded {
            Some(coding) => Err(self.malformed(format!(
                "its Content-Encoding is {:?}, though only identity was accepted",
                Shown::new(coding.as_bytes(), MAX_SHOWN)
            ))),
            None => Ok(()),
        }
    }

    fn redirect(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        target: &str,
        before: usize,
    ) -> Result<String, UpstreamError> {
        let location = headers.get(header::LOCATION);
        let location = location.map_or(&b""[..], |value| value.as_bytes());
        let followed = if before < redirect::MAX_REDIRECTS {
            let text = String::from_utf8_lossy(location);
            redirect::follow(status, &self.config.url, target, &text)
        } else {
            Err("it is one more than are followed")
        };
        followed.map_err(|why| UpstreamError::Redirect {
            upstream: Arc::clone(&self.config.name),
            location: Shown::new(location, MAX_SHOWN).to_string(),
            why,
        })
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("name", &self.inner.config.name)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// The instant so long from now; for a time-out that is never meant to pass, a far one.
fn after(wait: Duration) -> Instant {
    later(now(), wait)
}

fn later(from: Instant, wait: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(30 * 365 * 86_400);
    from + wait.min(FAR)
}
