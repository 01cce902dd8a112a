//! One run of the gateway: start, serve, drain.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use thinpipe_proto::deprecation::Timestamp;
use thinpipe_transport::server::Server;
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Mendable;
use crate::admin::Admin;
use crate::announce::Announcer;
use crate::backend::{self, Backend};
use crate::config::{Config, Period};
use crate::crossing::{Front, service};
use crate::log;
use crate::signals::Signals;
use crate::sse_clients::SseServed;
use crate::store::Store;
use crate::workers::Workers;

/// How often a store is tried that was never reached.
const TRY_STORE: Duration = Duration::from_secs(1);
/// How often it is looked which processes are alive in it.
const COUNT_NODES: Duration = Duration::from_secs(2);
/// Connections the kernel holds until they are accepted.
const BACKLOG: u32 = 1024;

/// Runs the gateway until a signal, on this thread and its workers.
///
/// # Errors
/// What keeps it from starting, or from ending cleanly.
pub(crate) fn run(config: Config) -> anyhow::Result<()> {
    let runtime = main_runtime()?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        // Watched to the very end: the second signal may come while the first one is obeyed.
        TaskTracker::new().spawn(Signals::new()?.watch(stop.clone()));
        let announcer = Announcer::new(config.log.format);
        let running = Running::start(config, announcer).await?;
        running.until(stop).await
    })
}

/// The runtime of accepting, admin and health checks.
///
/// # Errors
/// If the system gives none.
pub(crate) fn main_runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

/// A gateway that listens.
pub(crate) struct Running {
    /// Address that clients connect to, as bound.
    pub(crate) listen: SocketAddr,
    listener: TcpListener,
    server: Server,
    backend: Arc<dyn Backend>,
    workers: Workers,
    announcer: Announcer,
    drain: Duration,
    tasks: TaskTracker,
    /// Ends what only accompanies: admin and probe.
    background: CancellationToken,
}

impl Running {
    /// Binds, starts the workers and says so.
    ///
    /// # Errors
    /// An address that cannot be bound; a gateway that cannot be built.
    pub(crate) async fn start(config: Config, announcer: Announcer) -> anyhow::Result<Self> {
        let tasks = TaskTracker::new();
        let store = Store::of(&config);
        let (server, backend) = backend::gateway(
            config.server.clone(),
            config.gateway.clone(),
            log::exchanges(&config.log),
            store.stores(),
        )?;
        let listener = bind(config.listen)
            .with_context(|| cannot_listen(config.listen, "", "`--listen ADDRESS` (`listen`)"))?;
        let listen = listener.local_addr()?;
        let admin = match config.admin {
            Some(address) => Some(bind(address).with_context(|| {
                let other = "`--admin ADDRESS` (`admin`), or do without by `--admin off`";
                cannot_listen(address, " for the admin side", other)
            })?),
            None => None,
        };
        let admin_address = admin.as_ref().map(TcpListener::local_addr).transpose()?;
        let workers = Workers::start(config.workers, &server).context("cannot start workers")?;

        let background = CancellationToken::new();
        if let (Some(listener), Some(address)) = (admin, admin_address) {
            let workers = config.workers.get();
            let sse = SseServed::of(&config, listen);
            let (server, backend) = (server.clone(), Arc::clone(&backend));
            let admin = Admin::new(server, backend, workers, address, sse, store.clone());
            let admin = Arc::new(admin);
            tasks.spawn(admin.serve(listener, tasks.clone(), background.clone()));
        }
        let now = Timestamp::from(SystemTime::now());
        announcer.started(&config, listen, admin_address, now);
        tasks.spawn(unless(background.clone(), reach(store, announcer)));
        let probing = probe(Arc::clone(&backend), announcer, config.clone());
        tasks.spawn(unless(background.clone(), probing));
        let drain = config.server.limits.drain;
        Ok(Self {
            listen,
            listener,
            server,
            backend,
            workers,
            announcer,
            drain,
            tasks,
            background,
        })
    }

    /// Serves until `stop` is cancelled, then drains.
    ///
    /// # Errors
    /// If connections had to be cut, or a worker panicked.
    pub(crate) async fn until(self, stop: CancellationToken) -> anyhow::Result<()> {
        let Self {
            listener,
            server,
            backend,
            mut workers,
            announcer,
            drain,
            tasks,
            background,
            ..
        } = self;
        let acceptor = server.acceptor();
        let accepting = accept(&listener, &mut workers, stop.cancelled()).await;
        if accepting.is_ok() {
            let drain = Period(drain);
            announcer.say(&format!("stopping: what runs has {drain} to end"));
        }
        // Clients of running calls may come back on new connections.
        let accept_late = async {
            let accepting = match accepting {
                Ok(()) => accept(&listener, &mut workers, acceptor.closing()).await,
                failed => failed,
            };
            take_backlog(listener, &mut workers).await;
            let workers = workers.close().await;
            drop(acceptor);
            (accepting, workers)
        };
        let ((accepting, workers), ()) = tokio::join!(accept_late, server.shut_down());
        backend.finish().await;
        let cut = server.stats().connections_open;
        background.cancel();
        tasks.close();
        tasks.wait().await;
        let panicked = workers.join();
        accepting.context("accepting connections failed")?;
        anyhow::ensure!(panicked == 0, "{panicked} workers had panicked");
        anyhow::ensure!(cut == 0, "{cut} connections had to be cut");
        announcer.say("stopped");
        Ok(())
    }
}

/// Accepts connections until `stop`, and hands them to the workers.
async fn accept(
    listener: &TcpListener,
    workers: &mut Workers,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            // Cancel-safe: it goes on where it was, and a connection that was not returned stays in
            // the backlog.
            () = stop.as_mut() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => workers.give(stream.into_std()?, peer).await?,
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                // Out of descriptors: give those that serve the time to give some back.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Connections that the kernel has completed would be reset with the listener: they are taken, and
/// told that there is no service any more.
async fn take_backlog(listener: TcpListener, workers: &mut Workers) {
    // Not through the runtime, which may not have heard of the last ones yet.
    let Ok(listener) = listener.into_std() else {
        return;
    };
    while let Ok((stream, peer)) = listener.accept() {
        if stream.set_nonblocking(true).is_err() {
            continue;
        }
        if workers.give(stream, peer).await.is_err() {
            return;
        }
    }
}

/// Says what the upstreams speak, as soon as that is known, and which clients are served by them.
async fn probe(backend: Arc<dyn Backend>, announcer: Announcer, config: Config) {
    let found = backend.probe().await;
    let front = Front::of(&config, Timestamp::from(SystemTime::now()));
    for (spec, found) in config.gateway.upstreams.iter().zip(found) {
        let name = spec.name();
        announcer.say(&format!("{name} {}", found.text));
        let service = service(spec, front, &found.speaks);
        announcer.say(&format!("{name} {service}"));
    }
    // It takes longer, and there is mostly nothing to say.
    for stray in backend.strays().await {
        announcer.say(&stray);
    }
}

/// Says that the store is reached, or that it is not, and then when it is; from then on it is asked who is alive in it,
/// which the figures show. What becomes of it later is in the log.
async fn reach(store: Store, announcer: Announcer) {
    if store.observations().is_none() {
        return;
    }
    let place = store.place();
    if let Err(error) = store.reach().await {
        let error = store.why(&error);
        announcer.say(&format!(
            "the store {place} cannot be used yet, and is tried on: {error}; until then no session is opened"
        ));
        while store.reach().await.is_err() {
            tokio::time::sleep(TRY_STORE).await;
        }
    }
    announcer.say(&format!("sessions are kept in {place}"));
    if let Some(complaint) = store.complaint().await {
        tracing::warn!("{complaint}");
    }
    loop {
        tokio::time::sleep(COUNT_NODES).await;
        // It is counted in passing, and what fails is in the log already.
        let _ = store.reach().await;
    }
}

/// What only accompanies the gateway, until it is stopped.
async fn unless(stop: CancellationToken, accompanying: impl Future<Output = ()>) {
    tokio::select! {
        // Nothing is lost: whoever needs to know asks again.
        () = stop.cancelled() => {}
        () = accompanying => {}
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A restart must not wait for connections of the run before to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn cannot_listen(address: SocketAddr, side: &str, other: &str) -> Mendable {
    Mendable {
        what: format!("cannot listen on {address}{side}"),
        mend: format!(
            "end what listens there, which may be another thinpipe, or take another address: {other}"
        ),
    }
}
