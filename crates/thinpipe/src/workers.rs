//! Threads that serve connections, each with a runtime of its own, so that a connection and all that
//! belongs to it stay on one core.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::thread::JoinHandle;

use thinpipe_transport::server::Server;
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections on their way to one worker. When it is full, accepting waits, and what comes then
/// waits in the kernel's backlog.
const INTAKE: usize = 256;

/// A connection that was accepted and belongs to no runtime yet.
type Accepted = (std::net::TcpStream, SocketAddr);

/// The threads.
#[derive(Debug)]
pub(crate) struct Workers {
    list: Vec<Worker>,
    next: usize,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Worker {
    intake: mpsc::Sender<Accepted>,
    took_all: oneshot::Receiver<()>,
    thread: JoinHandle<()>,
}

/// All connections are handed over; only the threads are left.
#[derive(Debug)]
pub(crate) struct Closed {
    threads: Vec<JoinHandle<()>>,
    stop: CancellationToken,
}

impl Workers {
    /// Starts the threads.
    ///
    /// # Errors
    /// If the system gives no thread or no runtime.
    pub(crate) fn start(count: NonZeroUsize, server: &Server) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let list = (0..count.get())
            .map(|index| Worker::start(index, server.clone(), stop.clone()))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            list,
            next: 0,
            stop,
        })
    }

    /// Gives a connection (in non-blocking mode) to the next worker.
    ///
    /// # Errors
    /// If no worker is left.
    pub(crate) async fn give(
        &mut self,
        stream: std::net::TcpStream,
        peer: SocketAddr,
    ) -> io::Result<()> {
        let mut connection = (stream, peer);
        for _ in 0..self.list.len() {
            self.next = (self.next + 1) % self.list.len();
            match self.list[self.next].intake.send(connection).await {
                Ok(()) => return Ok(()),
                // That worker panicked; the others go on.
                Err(mpsc::error::SendError(back)) => connection = back,
            }
        }
        Err(io::Error::other("no worker is left"))
    }

    /// Takes no more, and returns once every connection that was given is being served.
    pub(crate) async fn close(self) -> Closed {
        let mut threads = Vec::with_capacity(self.list.len());
        for Worker {
            intake,
            took_all,
            thread,
        } in self.list
        {
            drop(intake);
            // An error means that the worker is gone, and so is what it served.
            let _ = took_all.await;
            threads.push(thread);
        }
        Closed {
            threads,
            stop: self.stop,
        }
    }
}

impl Closed {
    /// Ends the threads with whatever still runs on them. Returns how many had panicked.
    pub(crate) fn join(self) -> usize {
        self.stop.cancel();
        self.threads
            .into_iter()
            .filter_map(|thread| thread.join().err())
            .count()
    }
}

impl Worker {
    fn start(index: usize, server: Server, stop: CancellationToken) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (intake, accepted) = mpsc::channel(INTAKE);
        let (took, took_all) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || runtime.block_on(serve(server, accepted, took, stop)))?;
        Ok(Self {
            intake,
            took_all,
            thread,
        })
    }
}

async fn serve(
    server: Server,
    mut accepted: mpsc::Receiver<Accepted>,
    took: oneshot::Sender<()>,
    stop: CancellationToken,
) {
    let tasks = TaskTracker::new();
    let _place = server.works_here();
    while let Some((stream, peer)) = accepted.recv().await {
        match TcpStream::from_std(stream) {
            Ok(stream) => drop(tasks.spawn(server.serve_connection(stream, peer))),
            Err(error) => tracing::warn!(%error, "a connection cannot be served"),
        }
    }
    // Nobody waits for it if this process stops without draining.
    let _ = took.send(());
    // What connections leave behind (answers drained for clients that left) runs here too, so the
    // runtime lives until the server has shut down.
    stop.cancelled().await;
}
