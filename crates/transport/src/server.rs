//! The server side: Streamable HTTP with sessions (2025-03-26 to 2025-11-25) and stateless (2026-07-28) on
//! one endpoint, and HTTP+SSE (2024-11-05) on two, over HTTP/1.1 and HTTP/2 (prior knowledge).

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use thinpipe_proto::classify::Served;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::ByteBudget;
use crate::body::BoxFuture;
use crate::io::{Io, timed};
use permit::{Budget, Counters, Permit, add};
use reply::Holds;
#[cfg(target_os = "linux")]
use user_timeout::UserTimeout;
use workplace::Workplaces;

/// `data` of a refusal by the server side itself: a stable name for programs.
macro_rules! reason {
    ($name:literal) => {
        concat!(r#"{"reason":""#, $name, r#""}"#)
    };
}

mod batch;
mod broadcast;
mod builder;
mod config;
pub mod conversation;
mod deprecation;
mod dispatch;
pub mod event_buffer;
pub mod event_log;
mod exchange;
mod head;
mod history;
mod http1;
mod http2;
mod inventory;
mod ladder;
mod mounted;
mod nodes;
mod page;
mod permit;
mod reply;
mod service;
mod session;
mod shutdown;
mod sse;
mod user_timeout;
mod workplace;

pub use broadcast::{NotSent, SseBroadcaster};
pub use builder::ServerBuilder;
pub use config::{AccessToken, LegacyMode, Limits, ServerConfig};
pub use deprecation::DeprecationObserver;
pub use exchange::{Adoption, Answer, Content, Exchange, Handler, Inbound, Posted};
pub use inventory::ClientInventory;
pub use nodes::{ForwardError, NodeStats, Nodes, SharedStores, Stores};
pub use page::{Figures, PageAccess};
pub use permit::ServerStats;
pub use service::{McpService, ServiceBody};
pub use session::{
    Activity, InFlight, Negotiated, NotBegun, Session, SessionEnd, SessionError, SessionLimits,
    SessionManager, SessionSlot, SessionStats, WeakSessionManager,
};
pub use sse::{
    EventCapacity, Heartbeat, InvalidSetting, PublicBase, SseConfig, SseEndpoint, SseObserver,
};
pub use workplace::Workplace;

/// Bytes the kernel takes of a client that does not read yet. Its own bound is some megabytes, and it says
/// that there is room again only when a third of them is gone: to a client that reads slowly but steadily
/// nothing could be written for minutes, and it would be taken for one that does not read.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 128 << 10;

/// A client that has gone without a word, for example because its machine lost power, is asked after this much
/// silence whether it is there, and again as often. Who does not answer in the time of [`UserTimeout`] is gone.
#[cfg(target_os = "linux")]
const SILENCE: Duration = Duration::from_secs(10);

/// What the kernel does for a connection of a client.
#[cfg(target_os = "linux")]
fn options(stream: &TcpStream) -> io::Result<()> {
    let socket = socket2::SockRef::from(stream);
    socket.set_tcp_notsent_lowat(UNSENT)?;
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(SILENCE)
        .with_interval(SILENCE);
    socket.set_tcp_keepalive(&keepalive)?;
    // Otherwise it would be a quarter of an hour.
    UserTimeout::SHORT.set(stream)
}

/// A connection that comes as the server stops is there for a request: it has so long to make it, and
/// to be told that there is no service any more.
const FIRST_WORDS: Duration = Duration::from_millis(200);

/// A server of MCP endpoints. Cheap to clone; every clone is the same server.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
}

/// One path and who answers there.
pub(crate) struct Endpoint {
    pub(crate) name: Arc<str>,
    pub(crate) handler: Arc<dyn Handler>,
}

/// What is served at a path.
pub(crate) enum Route {
    /// Streamable HTTP.
    Mcp(Arc<Endpoint>),
    /// One of the two paths of HTTP+SSE.
    Sse(Arc<sse::SseMount>, sse::Half),
    /// For operators.
    Page(Arc<page::Page>),
}

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) config: ServerConfig,
    pub(crate) served: Served,
    /// Few, so looking through them is quicker than hashing.
    pub(crate) routes: Vec<(String, Route)>,
    pub(crate) has_sse: bool,
    pub(crate) broadcaster: SseBroadcaster,
    pub(crate) sessions: SessionManager,
    pub(crate) connections: Budget,
    pub(crate) requests: Budget,
    /// Requests that came while draining, which passes by itself: what draining waits for must not grow
    /// with what it turns away.
    pub(crate) late_requests: Budget,
    /// Those who accept connections.
    acceptors: Budget,
    pub(crate) streams: Budget,
    pub(crate) detached: Budget,
    pub(crate) buffered: ByteBudget,
    pub(crate) counters: Counters,
    pub(crate) tasks: TaskTracker,
    /// Where what other nodes ask is answered.
    pub(crate) workplaces: Arc<Workplaces>,
    /// `None`: no other node uses the store.
    pub(crate) nodes: Option<Nodes>,
    /// No new work; `is_draining` is the same for those who only look, at the price of a load.
    pub(crate) draining: CancellationToken,
    /// Draining, and nothing runs any more that a client could still have to say something to.
    pub(crate) quiet: CancellationToken,
    /// The time for draining is over.
    pub(crate) forced: CancellationToken,
    /// No more connections are accepted.
    closed: CancellationToken,
    /// Shutting down is done, or was given up.
    ended: CancellationToken,
    is_draining: AtomicBool,
    /// Draining, and other nodes are there for whoever comes anew.
    has_heirs: AtomicBool,
}

impl Server {
    /// Begins a server.
    pub fn builder(config: ServerConfig) -> ServerBuilder {
        ServerBuilder::new(config)
    }

    /// Accepts and serves connections until the server has shut down as far as [`Acceptor::closing`]
    /// says.
    ///
    /// # Errors
    /// Only what makes accepting impossible for good; a connection that fails is its own affair.
    pub async fn serve(&self, listener: TcpListener) -> io::Result<()> {
        let acceptor = self.acceptor();
        loop {
            let accepted = tokio::select! {
                // Cancel-safe: nothing is taken from the token.
                () = acceptor.closing() => return Ok(()),
                // Cancel-safe: a connection that was not returned stays in the backlog.
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let connection = self.serve_connection(stream, peer);
                    self.shared.tasks.spawn(connection);
                }
                Err(error) if is_transient(&error) => {
                    tracing::warn!(%error, "accepting a connection failed");
                    // Out of descriptors: give those that serve the time to give some back.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// For who accepts connections and hands them over, until each of them is being served.
    pub fn acceptor(&self) -> Acceptor {
        Acceptor {
            closed: self.shared.closed.clone(),
            // It has no limit, so there is always one.
            _permit: self.shared.acceptors.take(),
        }
    }

    /// Lets requests of other nodes be answered on the runtime that this is called from, in turn with all others that have
    /// said so, until what it gives is dropped. For who serves connections on threads with a runtime each: without it
    /// they are answered on the runtime that the server was built on.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn works_here(&self) -> Workplace {
        self.shared.workplaces.enter()
    }

    /// Serves one accepted connection to its end, on the runtime this is called from.
    pub fn serve_connection(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
    ) -> impl Future<Output = ()> + Send + 'static {
        // A lone event must not wait for the acknowledgement of the one before.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY cannot be set");
        }
        #[cfg(target_os = "linux")]
        if let Err(error) = options(&stream) {
            tracing::debug!(%error, "a TCP option cannot be set");
        }
        self.serve_io(stream, Some(peer))
    }

    /// Serves one connection of any kind to its end.
    pub fn serve_io(
        &self,
        io: impl Io,
        peer: Option<SocketAddr>,
    ) -> impl Future<Output = ()> + Send + 'static {
        add(&self.shared.counters.connections);
        let permit = self.shared.connections.take();
        let shared = Arc::clone(&self.shared);
        let io: Box<dyn Io> = Box::new(io);
        timed(Box::pin(async move {
            match permit {
                Some(permit) => http1::serve(shared, io, peer, permit).await,
                None => {
                    add(&shared.counters.connections_refused);
                    http1::refuse(&shared, io).await;
                }
            }
        }))
    }

    /// Runs a task that [`shut_down`](Self::shut_down) waits for.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.shared.tasks.spawn(task);
    }

    /// The sessions.
    #[must_use]
    pub fn sessions(&self) -> &SessionManager {
        &self.shared.sessions
    }

    /// This server among the others that use its store; `None`: there are none.
    #[must_use]
    pub fn nodes(&self) -> Option<&Nodes> {
        self.shared.nodes.as_ref()
    }

    /// Cancelled when the server begins to shut down.
    #[must_use]
    pub fn draining(&self) -> &CancellationToken {
        &self.shared.draining
    }

    /// Figures of the server; reading them changes nothing.
    #[must_use]
    pub fn stats(&self) -> ServerStats {
        self.shared.stats()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("stats", &self.stats())
            .finish()
    }
}

impl Shared {
    pub(crate) fn route(&self, path: &[u8]) -> Option<&Route> {
        let mut routes = self.routes.iter();
        routes
            .find(|(known, _)| known.as_bytes() == path)
            .map(|(_, route)| route)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire)
    }

    /// Whether the time for draining is over.
    pub(crate) fn is_forced(&self) -> bool {
        self.is_draining() && self.forced.is_cancelled()
    }

    /// Whether something runs that began before the server drains. All of it may wait for its client.
    pub(crate) fn is_busy(&self) -> bool {
        let awaits = |(_, route): &(String, Route)| route.awaits_clients();
        let runs = [&self.requests, &self.streams, &self.detached];
        let is_awaited = !self.forced.is_cancelled() && self.routes.iter().any(awaits);
        is_awaited || runs.iter().any(|running| running.used() > 0)
    }

    /// Whether this node drains, and others are there for whoever comes anew.
    pub(crate) fn has_heirs(&self) -> bool {
        self.is_draining() && self.has_heirs.load(Ordering::Relaxed)
    }

    /// Whether replies are the last ones of their connections: draining, and nobody needs them any more.
    pub(crate) fn is_closing(&self) -> bool {
        self.is_draining() && (self.has_heirs() || self.quiet.is_cancelled() || !self.is_busy())
    }

    /// Until connections that wait for a request close: at once for most, after its first words for one
    /// that is this new.
    pub(crate) async fn closes(&self, opened: Instant) {
        self.quiet.cancelled().await;
        tokio::time::sleep_until((opened + FIRST_WORDS).into()).await;
    }

    /// Runs on what a client left behind, within bounds.
    pub(crate) fn detach(self: &Arc<Self>, rest: BoxFuture<()>, holds: Holds) {
        let Some(permit) = self.detached.take() else {
            tracing::warn!("too many answers run without their client; one is cut off");
            return;
        };
        add(&self.counters.detached);
        let limit = self.config.limits.detached_timeout;
        let forced = self.forced.clone();
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        self.tasks.spawn_on(
            async move {
                let _holds: (Permit, Holds) = (permit, holds);
                tokio::select! {
                    biased;
                    // Cancel-safe: what is dropped here is dropped for good.
                    _ = tokio::time::timeout(limit, rest) => {}
                    () = forced.cancelled() => {}
                }
            },
            &runtime,
        );
    }

    pub(crate) async fn end_session(&self, session: &Arc<Session>, why: SessionEnd) {
        if let Err(error) = self.sessions.end(session, why).await {
            tracing::warn!(session = ?session.id(), %error, "a session's record stays behind");
        }
    }
}

/// Held by whoever accepts connections of a server, and dropped when each of them is being served. The
/// server waits for it when it shuts down.
#[derive(Debug)]
#[must_use = "a server that shuts down waits for it to be dropped"]
pub struct Acceptor {
    closed: CancellationToken,
    _permit: Option<Permit>,
}

impl Acceptor {
    /// Until no more connections are to be accepted: the server shuts down, and no call runs any more
    /// whose client may have to come back with an answer; or it may come back to another node.
    pub async fn closing(&self) {
        self.closed.cancelled().await;
    }
}

/// Everything but a listener that is no listener (any more).
fn is_transient(error: &io::Error) -> bool {
    error.kind() != io::ErrorKind::InvalidInput
}
