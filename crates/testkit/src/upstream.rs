//! An MCP server that counts, and does what a test tells it to.

mod asking;
mod behaviour;
mod blanks;
mod connection;
mod features;
mod listens;
mod pipes;
mod record;
mod script;
mod shared;
mod stateless;
mod states;
mod stream;

use std::net::SocketAddr;
use std::panic::Location;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::Value;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

pub use behaviour::{Behaviour, Era};
pub(crate) use connection::read_by_peer;
pub use record::{Outcome, Record, Request, Response, Via};
pub use script::{Cut, Script};

use crate::deadline::{DEADLINE, LOOK, within};
use crate::event::Event;
use crate::gate::Gate;
use shared::Shared;
use stream::EventStream;

/// An MCP server on a port of its own that counts what it gets, and does what a test tells it to.
///
/// Untold, it behaves well: see [`Behaviour`]. [`Upstream::on`] puts a [`Script`] in the place of that
/// for the requests it names. Dropping it closes everything.
#[derive(Debug)]
pub struct Upstream {
    shared: Arc<Shared>,
    url: String,
    running: Mutex<Option<Running>>,
}

/// The task that accepts. It ends its connections when `stop` is dropped.
#[derive(Debug)]
struct Running {
    stop: oneshot::Sender<()>,
    tasks: JoinSet<()>,
}

impl Upstream {
    /// Starts one on a free port of 127.0.0.1, with its endpoint at `/mcp`.
    ///
    /// # Panics
    /// If no port can be had.
    pub async fn start() -> Self {
        let listener = listen(([127, 0, 0, 1], 0).into(), None);
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let shared = Arc::new(Shared::new(address));
        let upstream = Self {
            url: format!("http://{address}/mcp"),
            shared,
            running: Mutex::new(None),
        };
        upstream.run(listener);
        upstream
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it speaks HTTP+SSE.
    #[must_use]
    pub fn sse_url(&self) -> String {
        format!("http://{}/sse", self.shared.address)
    }

    /// A program that is this server over stdio, and its argument: a pipe to here, so that what it does is told
    /// and seen here like everything else. Each process is a session; see [`Upstream::sessions`].
    ///
    /// # Panics
    /// If the pipe has not been built.
    #[must_use]
    pub fn program(&self) -> [String; 2] {
        [pipe_program(), self.shared.address.to_string()]
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// Closes its port and every connection: a server that died.
    pub async fn die(&self) {
        let running = lock(&self.running).take();
        if let Some(Running { stop, mut tasks }) = running {
            drop(stop);
            while tasks.join_next().await.is_some() {}
        }
        self.shared.died();
    }

    /// Listens again on the same port, after [`Upstream::die`]. Sessions and streams are still known.
    pub fn come_back(&self) {
        self.run(listen(self.shared.address, None));
    }

    /// Closes its port and every connection, and listens again with a send buffer of this many bytes (the
    /// kernel doubles it), so that it is soon seen when nobody reads.
    pub async fn send_buffer(&self, bytes: u32) {
        self.die().await;
        self.run(listen(self.shared.address, Some(bytes)));
    }

    /// Answers requests named by `what` (see [`Request::is`]) by this script from now on. The newest rule
    /// that fits is taken.
    pub fn on(&self, what: &str, script: Script) {
        self.on_each(what, move |_| Some(script.clone()));
    }

    /// Answers one request named by `what` by this script. Such rules come before all others, in the
    /// order in which they were given.
    pub fn once(&self, what: &str, script: Script) {
        let answer = move |_: &Request| Some(script.clone());
        self.shared.rule(what, true, Arc::new(answer));
    }

    /// Asks `answer` for the script of every request named by `what`; `None`: an older rule, or the
    /// behaviour.
    pub fn on_each(
        &self,
        what: &str,
        answer: impl Fn(&Request) -> Option<Script> + Send + Sync + 'static,
    ) {
        self.shared.rule(what, false, Arc::new(answer));
    }

    /// Forgets every rule: it behaves well again.
    pub fn behave(&self) {
        self.shared.forget_rules();
    }

    /// Changes how it behaves untold, from now on.
    pub fn set(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut lock(&self.shared.behaviour));
    }

    /// A gate by name; `slow` is where the tool of that name waits.
    #[must_use]
    pub fn gate(&self, name: &str) -> Gate {
        self.shared.gate(name)
    }

    /// Makes a stream known that is complete: [`Script::stream`] and a GET with one of its ids as
    /// `Last-Event-ID` carry it, to its end.
    pub fn publish(&self, name: &str, events: Vec<Event>) {
        self.shared
            .streams
            .insert(name, EventStream::new(events, true));
    }

    /// Makes a stream known that goes on until [`Upstream::finish`].
    pub fn open_stream(&self, name: &str, events: Vec<Event>) {
        self.shared
            .streams
            .insert(name, EventStream::new(events, false));
    }

    /// Adds an event to an open stream.
    ///
    /// # Panics
    /// If there is none of this name.
    pub fn append(&self, name: &str, event: Event) {
        self.known(name).append(event);
    }

    /// Ends an open stream.
    ///
    /// # Panics
    /// If there is none of this name.
    pub fn finish(&self, name: &str) {
        self.known(name).finish();
    }

    fn known(&self, name: &str) -> EventStream {
        self.shared
            .streams
            .get(name)
            .unwrap_or_else(|| panic!("no stream {name} was published"))
    }

    /// Sends a message on the standalone stream of a session, now or when it is opened. With an id, if
    /// [`Behaviour::event_ids`] says so.
    ///
    /// # Panics
    /// If there was no such session.
    pub fn notify(&self, session: &str, message: impl ToString) {
        self.shared.notify(session, message.to_string());
    }

    /// Tells everybody who is to hear it of a change: `notifications/tools/list_changed` and the like, or
    /// `notifications/resources/updated`. Sessions hear it on their own stream, if they are subscribed to
    /// the URI; listens of 2026-07-28, if they asked for it.
    pub fn announce(&self, method: &str, params: &Value) {
        listens::announce(&self.shared, method, params);
    }

    /// Ends every listen: with its result, as a server does that stops, or without (over stdio, by cancelling it).
    pub fn end_listens(&self, with_result: bool) {
        listens::end(&self.shared, with_result);
    }

    /// The listens that are open.
    #[must_use]
    pub fn listens(&self) -> usize {
        lock(&self.shared.listens).len()
    }

    /// The URIs that a session is subscribed to, in the order in which they were asked for.
    #[must_use]
    pub fn subscriptions(&self, session: &str) -> Vec<String> {
        let subscriptions = self
            .shared
            .with_session(Some(session), |session| session.subscriptions.clone());
        subscriptions.unwrap_or_default()
    }

    /// Says that the user of a session has been to the page that the tool `needs_url` wants, and that this
    /// elicitation is complete.
    pub fn elicited(&self, session: &str, elicitation: &str) {
        self.shared
            .with_session(Some(session), |session| session.elicited = true);
        let params = serde_json::json!({"elicitationId": elicitation});
        self.notify(session, crate::rpc::notification(COMPLETE, &params));
    }

    /// Ids of the live sessions, oldest first.
    #[must_use]
    pub fn sessions(&self) -> Vec<String> {
        lock(&self.shared.sessions)
            .iter()
            .map(|session| session.id.clone())
            .collect()
    }

    /// Forgets a session, as if it had expired: 404 from now on. A stream of HTTP+SSE is closed, a program
    /// crashes.
    pub fn forget(&self, session: &str) {
        self.shared.end_session(session);
    }

    /// What it saw and did so far.
    #[must_use]
    pub fn record(&self) -> Record {
        self.shared.record.borrow().clone()
    }

    /// The requests so far that `what` names (see [`Request::is`]), in order.
    #[must_use]
    pub fn requests(&self, what: &str) -> Vec<Arc<Request>> {
        self.shared.record.borrow().all(what).cloned().collect()
    }

    /// Until a condition holds. It runs under a lock: look at its argument only.
    ///
    /// # Panics
    /// After [`DEADLINE`], with the place that waited and what the upstream saw.
    #[track_caller]
    pub fn wait_until(
        &self,
        condition: impl FnMut(&Record) -> bool + Send,
    ) -> impl Future<Output = ()> + Send {
        let at = Location::caller();
        let mut record = self.shared.record.subscribe();
        async move {
            let held = tokio::time::timeout(DEADLINE, record.wait_for(condition)).await;
            let held = held.map(|held| drop(held.expect("the sender lives in the upstream")));
            if held.is_err() {
                let record = self.record();
                panic!(
                    "the condition at {at} did not hold within {DEADLINE:?}; the upstream saw {record}"
                );
            }
        }
    }

    /// Until the request number `index` (from 0) of those named by `what` is there.
    ///
    /// # Panics
    /// As [`Upstream::wait_until`].
    #[track_caller]
    pub fn nth(&self, what: &str, index: usize) -> impl Future<Output = Arc<Request>> + Send {
        let what = what.to_owned();
        let counted = what.clone();
        let ready = self.wait_until(move |record| record.count(&counted) > index);
        async move {
            ready.await;
            let record = self.shared.record.borrow();
            let request = record.all(&what).nth(index).cloned();
            request.expect("requests are never taken away")
        }
    }

    /// Until the last response to `what` can send no more, because nobody reads. Returns how many bytes
    /// the kernel took of it.
    ///
    /// # Panics
    /// After [`DEADLINE`] in which it could always send some more.
    #[track_caller]
    pub fn blocked(&self, what: &str) -> impl Future<Output = u64> + Send {
        let at = Location::caller();
        let what = what.to_owned();
        async move {
            let description = format!("a response to {what} that can send no more");
            let quiet = async {
                let (mut last, mut looks) = (0, 0);
                loop {
                    let response = self
                        .shared
                        .record
                        .borrow()
                        .response(&what)
                        .cloned()
                        .unwrap_or_default();
                    looks = if response.blocked && response.bytes == last {
                        looks + 1
                    } else {
                        0
                    };
                    last = response.bytes;
                    if looks == QUIET_LOOKS {
                        return last;
                    }
                    tokio::time::sleep(LOOK).await;
                }
            };
            within(at, || description, quiet).await
        }
    }

    fn run(&self, listener: TcpListener) {
        let (stop, stopped) = oneshot::channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(Arc::clone(&self.shared), listener, stopped));
        *lock(&self.running) = Some(Running { stop, tasks });
    }
}

async fn accept(shared: Arc<Shared>, listener: TcpListener, mut stopped: oneshot::Receiver<()>) {
    let mut connections = JoinSet::new();
    loop {
        // All are cancel-safe: a connection not yet accepted stays in the backlog, and a task not yet
        // joined in the set.
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    // Refused only for a connection that is gone already.
                    let _ = stream.set_nodelay(true);
                    connections.spawn(connection::serve(Arc::clone(&shared), stream));
                }
            }
            Some(ended) = connections.join_next() => {
                if ended.is_err_and(|error| error.is_panic()) {
                    let text = "a script that could not be played: see the panic above";
                    shared.record.send_modify(|record| record.malformed.push(text.to_owned()));
                }
            }
            _ = &mut stopped => break,
        }
    }
    drop(listener);
    connections.shutdown().await;
}

fn listen(address: SocketAddr, send_buffer: Option<u32>) -> TcpListener {
    let listener = (|| {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        if let Some(bytes) = send_buffer {
            socket.set_send_buffer_size(bytes)?;
        }
        socket.bind(address)?;
        socket.listen(BACKLOG)
    })();
    listener.unwrap_or_else(|error| panic!("listening on {address} failed: {error}"))
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A test that panicked under the lock is already failing; what it left is good enough for the rest.
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.died();
    }
}

/// Where the pipe has been built to: beside the test that runs.
fn pipe_program() -> String {
    let test = std::env::current_exe().expect("a running program has a path");
    let mut folders = test.ancestors().skip(1);
    let found = folders.find_map(|folder| {
        let program = folder.join("stdio-pipe");
        program.is_file().then_some(program)
    });
    let Some(program) = found else {
        panic!("stdio-pipe is missing: cargo build -p thinpipe-testkit --bins");
    };
    program.display().to_string()
}

/// Notification of a finished elicitation by URL.
const COMPLETE: &str = "notifications/elicitation/complete";

/// Connections not yet accepted.
const BACKLOG: u32 = 4096;

/// Looks at a response that took nothing more before it counts as blocked: half a second.
const QUIET_LOOKS: u32 = 100;
