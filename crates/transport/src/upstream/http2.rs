//! HTTP/2 with prior knowledge, over hyper's client: a few connections for all exchanges.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use thinpipe_proto::header::MediaType;
use tokio::runtime;
use tokio_util::task::TaskTracker;

use super::answer::Patience;
use super::budget::Permit;
use super::exchange::{Call, Failure};
use super::pool::{Open, jittered, retire_at};
use super::{Inner, UpstreamConfig, UpstreamError, UpstreamResponse, after, later};
use crate::body::{Body, BodyError, BodyStream, Filled};
use crate::io::{Io, LazyTimer, READ_SIZE, now};

/// What a server may send on one stream that nobody reads, in bytes.
const STREAM_WINDOW: u32 = 64 << 10;

/// Exchanges on one connection at a time, if the server allows as many.
const MAX_STREAMS: u32 = 100;

/// Room for all streams of a connection to be stalled and for another one to run all the same.
const CONNECTION_WINDOW: u32 = (MAX_STREAMS + 4) * STREAM_WINDOW;

/// A server that does not answer a ping within this is gone.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// A ping is sent on a connection that was silent for this long under an exchange.
const PING_AFTER: Duration = Duration::from_secs(20);

/// The open connections of an upstream.
#[derive(Default)]
pub(super) struct Http2 {
    shared: Mutex<Vec<Shared>>,
    /// Held while a connection is opened, so that a burst of requests opens one and not hundreds.
    opening: tokio::sync::Mutex<()>,
    tasks: TaskTracker,
}

/// A connection that may carry another exchange.
struct Shared {
    sender: SendRequest<Full<Bytes>>,
    /// Every exchange holds a clone.
    users: Arc<()>,
    /// What the server allows at a time.
    allowed: Arc<AtomicUsize>,
    requests: u64,
    max_requests: u64,
    retire_at: Instant,
    last_used: Instant,
    runtime: runtime::Id,
}

/// A place on a connection. The sender keeps the connection open, even when it was replaced.
struct Lease {
    sender: SendRequest<Full<Bytes>>,
    _user: Arc<()>,
    reused: bool,
}

/// The head of a response whose body has not been read.
pub(super) struct Answered {
    response: Response<Incoming>,
    lease: Lease,
    timer: LazyTimer,
}

impl Inner {
    /// As `ask`, over HTTP/2.
    pub(super) async fn ask_http2(
        &self,
        call: &Call<'_>,
        repeatable: bool,
    ) -> Result<Answered, UpstreamError> {
        let mut lease = self.lease().await?;
        if lease.reused {
            match self.try_http2(call, lease).await {
                Err(Failure::Lost {
                    unsent,
                    silent: true,
                    ..
                }) if unsent || repeatable => lease = self.lease().await?,
                answered => return answered.map_err(|failure| self.failed(failure)),
            }
        }
        let answered = self.try_http2(call, lease).await;
        answered.map_err(|failure| self.failed(failure))
    }

    async fn try_http2(&self, call: &Call<'_>, mut lease: Lease) -> Result<Answered, Failure> {
        let request = self.http2_request(call).map_err(|error| Failure::Lost {
            unsent: true,
            silent: false,
            source: Some(io::Error::other(error)),
        })?;
        let first_byte = after(call.first_byte_timeout);
        let until = first_byte.min(call.deadline);
        let mut timer = LazyTimer::default();
        let mut sending = pin!(lease.sender.try_send_request(request));
        let answer = poll_fn(|cx| {
            if let Poll::Ready(answer) = sending.as_mut().poll(cx) {
                return Poll::Ready(answer.map_err(|mut error| Failure::Lost {
                    unsent: error.take_message().is_some(),
                    silent: true,
                    source: Some(io::Error::other(error.into_error())),
                }));
            }
            ready!(timer.poll_until(cx, until));
            Poll::Ready(Err(Failure::TimedOut {
                first_byte: until == first_byte,
                unsent: false,
            }))
        })
        .await;
        answer.map(|response| Answered {
            response,
            lease,
            timer,
        })
    }

    fn http2_request(&self, call: &Call<'_>) -> Result<Request<Full<Bytes>>, http::Error> {
        let url = Uri::builder()
            .scheme(self.config.url.scheme_str().unwrap_or("http"))
            .authority(call.template.host().as_bytes())
            .path_and_query(call.target)
            .build()?;
        let mut request = Request::new(Full::new(call.body.clone()));
        *request.method_mut() = call.method.clone();
        *request.uri_mut() = url;
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = call.template.merge(call.headers);
        Ok(request)
    }

    /// A place on a connection, opened if there is none.
    async fn lease(&self) -> Result<Lease, UpstreamError> {
        if let Some(lease) = self.http2.find() {
            self.counters.reused.fetch_add(1, Ordering::Relaxed);
            return Ok(lease);
        }
        let opened = tokio::time::timeout(self.config.connect_timeout, self.open_http2()).await;
        match opened {
            Ok(Ok(lease)) => Ok(lease),
            Ok(Err(source)) => Err(self.unreachable(source)),
            Err(_) => Err(self.not_connected()),
        }
    }

    async fn open_http2(&self) -> io::Result<Lease> {
        let _turn = self.http2.opening.lock().await;
        if let Some(lease) = self.http2.find() {
            self.counters.reused.fetch_add(1, Ordering::Relaxed);
            return Ok(lease);
        }
        let io = self.connector.connect(&self.config.url).await?;
        let sender = self.http2_handshake(io).await.map_err(io::Error::other)?;
        Ok(sender)
    }

    async fn http2_handshake(&self, io: Box<dyn Io>) -> hyper::Result<Lease> {
        let (sender, mut connection) = Builder::new(Spawn(self.http2.tasks.clone()))
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(super::head::MAX_HEAD as u32)
            .keep_alive_interval(PING_AFTER)
            .keep_alive_timeout(PING_TIMEOUT)
            .handshake(TokioIo::new(io))
            .await?;
        let open = Open::new(&self.counters);
        let allowed = Arc::new(AtomicUsize::new(MAX_STREAMS as usize));
        let told = Arc::clone(&allowed);
        self.http2.tasks.spawn(async move {
            let _open = open;
            poll_fn(|cx| {
                let polled = Pin::new(&mut connection).poll(cx);
                let most = connection.current_max_send_streams();
                told.store(most.min(MAX_STREAMS as usize), Ordering::Relaxed);
                polled
            })
            .await
            // Whoever has an exchange on it hears of it there.
            .unwrap_or_else(|error| tracing::debug!(%error, "an HTTP/2 connection ended"));
        });
        let random = self.config.random.chance();
        let mut shared = Shared {
            sender,
            users: Arc::new(()),
            allowed,
            requests: 0,
            max_requests: jittered(self.config.rotate_after_requests, random).max(1),
            retire_at: retire_at(&self.config, random),
            last_used: now(),
            runtime: runtime::Handle::current().id(),
        };
        let lease = shared.lease(false);
        self.http2.lock().push(shared);
        Ok(lease)
    }
}

impl Http2 {
    /// A place on an open connection of this runtime. Those that are spent take no more exchanges and
    /// end with the last one they carry.
    fn find(&self) -> Option<Lease> {
        let runtime = runtime::Handle::current().id();
        let now = now();
        let mut shared = self.lock();
        shared.retain(|shared| !shared.is_spent(now));
        shared
            .iter_mut()
            .find(|shared| shared.runtime == runtime && shared.has_room())
            .map(|shared| shared.lease(true))
    }

    pub(super) fn prune(&self, config: &UpstreamConfig) {
        let now = now();
        self.lock().retain(|shared| {
            let unused =
                shared.is_idle() && later(shared.last_used, config.pool_idle_timeout) <= now;
            !unused && !shared.is_spent(now)
        });
    }

    pub(super) fn idle(&self) -> usize {
        self.lock().iter().filter(|shared| shared.is_idle()).count()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Shared>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn lease(&mut self, reused: bool) -> Lease {
        self.requests += 1;
        self.last_used = now();
        Lease {
            sender: self.sender.clone(),
            _user: Arc::clone(&self.users),
            reused,
        }
    }

    fn is_spent(&self, now: Instant) -> bool {
        self.sender.is_closed() || self.retire_at <= now || self.requests >= self.max_requests
    }

    fn is_idle(&self) -> bool {
        Arc::strong_count(&self.users) == 1
    }

    fn has_room(&self) -> bool {
        Arc::strong_count(&self.users) <= self.allowed.load(Ordering::Relaxed)
    }
}

impl Answered {
    pub(super) fn head(&self) -> (StatusCode, &HeaderMap) {
        (self.response.status(), self.response.headers())
    }

    pub(super) fn is_complete(&self) -> bool {
        self.response.body().is_end_stream()
    }

    pub(super) fn into_response(
        self,
        media_type: MediaType,
        permit: Permit,
        patience: Patience,
    ) -> UpstreamResponse {
        let (parts, incoming) = self.response.into_parts();
        let content_length = incoming.size_hint().exact();
        let body = if incoming.is_end_stream() {
            Body::Empty
        } else {
            Body::stream(Unread {
                live: Some(Live {
                    incoming,
                    _lease: self.lease,
                    _permit: permit,
                }),
                timer: self.timer,
                patience,
                quiet_since: None,
            })
        };
        UpstreamResponse::new(
            parts.status,
            parts.headers,
            media_type,
            content_length,
            body,
        )
    }
}

/// A body that is not complete. Dropping it resets its stream, which the server sees.
struct Unread {
    live: Option<Live>,
    timer: LazyTimer,
    patience: Patience,
    /// Since when nothing has come.
    quiet_since: Option<Instant>,
}

struct Live {
    incoming: Incoming,
    _lease: Lease,
    _permit: Permit,
}

impl BodyStream for Unread {
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<Result<Filled, BodyError>> {
        let before = out.len();
        if self.live.is_some() && self.patience.is_over() {
            self.live = None;
            return Poll::Ready(Err(self.patience.error()));
        }
        while let Some(live) = &mut self.live {
            match Pin::new(&mut live.incoming).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.quiet_since = None;
                    if let Ok(data) = frame.into_data() {
                        out.extend_from_slice(&data);
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    self.live = None;
                    return Poll::Ready(Err(BodyError::Io(io::Error::other(error))));
                }
                Poll::Ready(None) => self.live = None,
                Poll::Pending if out.len() > before => return Poll::Ready(Ok(Filled::More)),
                Poll::Pending => {
                    let quiet_since = *self.quiet_since.get_or_insert_with(now);
                    let until = self.patience.until(quiet_since);
                    ready!(self.timer.poll_until(cx, until));
                    self.live = None;
                    return Poll::Ready(Err(self.patience.error()));
                }
            }
            if out.len() - before >= READ_SIZE {
                return Poll::Ready(Ok(Filled::More));
            }
        }
        Poll::Ready(Ok(Filled::End))
    }

    fn outwait_silence(&mut self) {
        self.patience.idle = Duration::MAX;
    }

    fn remaining(&self) -> Option<u64> {
        match &self.live {
            Some(live) => live.incoming.size_hint().exact(),
            None => Some(0),
        }
    }
}

/// Spawns hyper's tasks where they are counted.
#[derive(Clone)]
struct Spawn(TaskTracker);

impl<F> hyper::rt::Executor<F> for Spawn
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}
