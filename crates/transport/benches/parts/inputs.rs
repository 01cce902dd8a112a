//! What both benchmarks measure: a table of sessions, a pool of connections, the thread's buffer, event streams,
//! and a whole server without sockets.

#![expect(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "modules of the library and their tests, which are read here as they are"
)]

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::RequestId;
use thinpipe_proto::session::{NodeId, Principal, SessionId};
use thinpipe_store::{LogLimits, MemoryLog, MemoryStore};
use thinpipe_transport::Random;
use thinpipe_transport::body::{BodyStream, BoxFuture};
use thinpipe_transport::server::conversation::{Conversation, ConversationConfig, Outlet};
use thinpipe_transport::server::event_buffer::{EventBufferConfig, EventReader};
use thinpipe_transport::server::event_log::LogWriter;
use thinpipe_transport::server::{
    AccessToken, Answer, Exchange, Handler, Inbound, Negotiated, Server, ServerConfig,
    SessionLimits, SessionManager,
};
use thinpipe_transport::upstream::UpstreamConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

#[path = "../../src/io.rs"]
pub(crate) mod io;
/// The pool itself: it is no part of the public surface, and must not become one to be measured.
#[path = "../../src/upstream/pool.rs"]
mod pool;

/// Sessions in the table.
pub(crate) const SESSIONS: usize = 10_000;

/// Tokens of which the last one is sent.
const TOKENS: usize = 100;

const ENDPOINT: &str = "sample";

pub(crate) fn runtime() -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime")
}

fn after(wait: Duration) -> Instant {
    later(Instant::now(), wait)
}

fn later(from: Instant, wait: Duration) -> Instant {
    from + wait
}

/// Answers every request with a small result.
struct Echo;

impl Handler for Echo {
    fn handle(self: Arc<Self>, exchange: Exchange) -> BoxFuture<Answer> {
        Box::pin(async move {
            match exchange.inbound {
                Inbound::Initialize(message, slot) => {
                    let opened = slot.open(negotiated()).await;
                    let session = opened.expect("memory does not fail");
                    let id = message.id().map(|id| id.as_json().to_vec());
                    let id = String::from_utf8(id.unwrap_or_default()).unwrap_or_default();
                    let result = r#"{"protocolVersion":"2025-11-25"}"#;
                    let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
                    Answer::json(body.into()).with_session(session.id().clone())
                }
                Inbound::Message(..) => Answer::json(Bytes::from_static(
                    br#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"a result of about two hundred bytes, as small tools give them: some text, and some more text after that, and then the end"}]}}"#,
                )),
                _ => Answer::error(StatusCode::BAD_REQUEST, None, -32600, "not here", None),
            }
        })
    }
}

fn negotiated() -> Negotiated {
    Negotiated {
        revision: Revision::NEWEST_LEGACY,
        initialize_params: Bytes::from_static(b"{}"),
        attachment: Bytes::new(),
        held: false,
    }
}

/// A table of sessions, and the ids to look them up by.
pub(crate) struct Sessions {
    _runtime: Runtime,
    manager: SessionManager,
    ids: Vec<SessionId>,
    endpoint: Arc<str>,
}

impl Sessions {
    pub(crate) fn new() -> Self {
        let runtime = runtime();
        let endpoint: Arc<str> = ENDPOINT.into();
        let (manager, ids) = runtime.block_on(async {
            let store = Arc::new(MemoryStore::new());
            let manager = SessionManager::new(store, SessionLimits::default(), TaskTracker::new());
            let mut ids = Vec::with_capacity(SESSIONS);
            for _ in 0..SESSIONS {
                let owner = Arc::new(Echo);
                let slot = manager.reserve(owner, Arc::clone(&endpoint), Principal::Anonymous);
                let slot = slot.await.expect("there is room");
                let opened = slot.open(negotiated()).await;
                ids.push(opened.expect("memory does not fail").id().clone());
            }
            (manager, ids)
        });
        Self {
            _runtime: runtime,
            manager,
            ids,
            endpoint,
        }
    }

    /// What a request pays to find its session. Gives how many were found.
    pub(crate) fn look_up(&self, first: usize, count: usize) -> usize {
        let ids = self.ids.iter().cycle().skip(first % SESSIONS).take(count);
        ids.filter_map(|id| {
            let id = id.as_bytes();
            self.manager.live(id, &Principal::Anonymous, &self.endpoint)
        })
        .count()
    }
}

/// What becomes of an event, beside being written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kept {
    Nothing,
    /// It is kept for its client, here.
    Here,
    /// It is stored in a log, in memory, before it is written.
    InLog,
}

/// The event stream of a call, and its client.
pub(crate) struct Stream {
    runtime: Runtime,
    outlet: Outlet,
    events: EventReader,
    _stop: DropGuard,
}

impl Stream {
    pub(crate) fn new(kept: Kept) -> Self {
        let runtime = runtime();
        let stop = CancellationToken::new();
        let (outlet, events) = runtime.block_on(async {
            let store = Arc::new(MemoryStore::new());
            let tasks = TaskTracker::new();
            let manager = SessionManager::new(store, SessionLimits::default(), tasks.clone());
            if let Kept::InLog = kept {
                let log = Arc::new(MemoryLog::new(LogLimits::default()));
                let node = NodeId::from_random([1; 12]);
                manager.log_to(LogWriter::start(
                    log,
                    node,
                    &tasks,
                    stop.clone(),
                    Random::default(),
                ));
            }
            let slot = manager.reserve(Arc::new(Echo), ENDPOINT.into(), Principal::Anonymous);
            let session = slot.await.expect("there is room").open(negotiated()).await;
            let mut config = ConversationConfig::default();
            if !matches!(kept, Kept::Nothing) {
                config.buffer = EventBufferConfig::resumable();
            }
            let session = session.expect("memory does not fail");
            let conversation = Conversation::in_session(config, &session);
            let (outlet, inlet) = conversation.begin(&RequestId::from_integer(1));
            outlet.begin_stream();
            (outlet, inlet.into_events().expect("a stream of its own"))
        });
        let _stop = stop.drop_guard();
        let mut stream = Self {
            runtime,
            outlet,
            events,
            _stop,
        };
        stream.send(1);
        stream
    }

    /// Says small messages one after the other, each when the one before has been read. Gives how many.
    pub(crate) fn send(&mut self, count: usize) -> usize {
        const MESSAGE: Bytes = Bytes::from_static(
            br#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"t1","progress":1}}"#,
        );
        let (outlet, events) = (&self.outlet, &mut self.events);
        self.runtime.block_on(async {
            let mut out = Vec::new();
            for _ in 0..count {
                outlet.notify(MESSAGE).await.expect("it is read");
                out.clear();
                while !out.ends_with(b"}\n\n") {
                    let read = poll_fn(|cx| events.poll_fill(cx, &mut out)).await;
                    read.expect("it goes on");
                }
            }
        });
        count
    }
}

/// A pool in which so many connections wait.
pub(crate) struct Pool {
    runtime: Runtime,
    pool: pool::Pool,
    _peers: Vec<TcpStream>,
}

impl Pool {
    pub(crate) fn new(waiting: usize) -> Self {
        let runtime = runtime();
        let (pool, peers) = runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("an address");
            let url = "http://127.0.0.1/mcp".parse().expect("a URL");
            let mut config = UpstreamConfig::new("bench".into(), url);
            config.rotate_after_requests = u64::from(u32::MAX);
            let counters = Arc::new(pool::Counters::default());
            let pool = pool::Pool::default();
            let mut peers = Vec::with_capacity(waiting);
            for _ in 0..waiting {
                let stream = TcpStream::connect(address).await.expect("a connection");
                peers.push(listener.accept().await.expect("a connection").0);
                let connection = pool::Connection::new(Box::new(stream), &config, &counters);
                pool.put(Box::new(connection), waiting);
            }
            (pool, peers)
        });
        Self {
            runtime,
            pool,
            _peers: peers,
        }
    }

    /// Takes a connection out and puts it back, so many times. Gives how often there was one.
    pub(crate) fn cycle(&self, count: usize) -> usize {
        let _entered = self.runtime.enter();
        let cycles = (0..count).filter_map(|_| {
            let mut connection = self.pool.checkout()?;
            connection.served(None);
            self.pool.put(connection, usize::MAX);
            Some(())
        });
        cycles.count()
    }
}

/// A connection on which there is always a small message.
struct Ready;

impl AsyncRead for Ready {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        buf.put_slice(&[b'x'; 200]);
        Poll::Ready(Ok(()))
    }
}

/// Reads through the thread's buffer, so many times. Gives the bytes.
pub(crate) fn read_through_buffer(count: usize) -> usize {
    let mut cx = Context::from_waker(Waker::noop());
    let reads = (0..count).map(|_| {
        let read = io::poll_read_scratch(&mut Ready, &mut cx, io::READ_SIZE, <[u8]>::len);
        match read {
            Poll::Ready(Ok(length)) => length,
            _ => 0,
        }
    });
    reads.sum()
}

/// A server, and a client on a connection in memory.
pub(crate) struct Requests {
    runtime: Runtime,
    _server: Server,
    client: DuplexStream,
    request: Vec<u8>,
    input: Vec<u8>,
}

impl Requests {
    /// `tokens`: the client has to show one, and there are many.
    pub(crate) fn new(tokens: bool) -> Self {
        let runtime = runtime();
        let (server, mut client) = runtime.block_on(async {
            let mut config = ServerConfig::default();
            config.access.any_host = true;
            if tokens {
                config.tokens = (0..TOKENS).map(token).collect();
            }
            let server = Server::builder(config).endpoint("/mcp", ENDPOINT, Arc::new(Echo));
            let server = server.build();
            let (near, far) = tokio::io::duplex(64 << 10);
            server.spawn(server.serve_io(far, None));
            (server, near)
        });
        let authorization = match tokens {
            true => format!("authorization: Bearer {}\r\n", token(TOKENS - 1).token),
            false => String::new(),
        };
        let head = format!(
            "POST /mcp HTTP/1.1\r\nhost: bench\r\naccept: application/json, text/event-stream\r\ncontent-type: application/json\r\n{authorization}"
        );
        let post = |more: &str, body: &str| {
            format!("{head}{more}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
        };
        let initialize = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}"#;
        let mut input = Vec::new();
        let opening = post("", initialize);
        runtime.block_on(exchange(&mut client, &opening, &mut input));
        let text = String::from_utf8_lossy(&input).into_owned();
        let session = text
            .lines()
            .find_map(|line| line.strip_prefix("mcp-session-id: "))
            .expect("a session");
        let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"hello"}}}"#;
        let request = post(
            &format!("mcp-session-id: {session}\r\nmcp-protocol-version: 2025-11-25\r\n"),
            call,
        );
        Self {
            runtime,
            _server: server,
            client,
            request,
            input,
        }
    }

    /// Sends so many requests, one after the other. Gives how many were answered 200.
    pub(crate) fn send(&mut self, count: usize) -> usize {
        let mut answered = 0;
        for _ in 0..count {
            let exchange = exchange(&mut self.client, &self.request, &mut self.input);
            self.runtime.block_on(exchange);
            answered += usize::from(self.input.starts_with(b"HTTP/1.1 200"));
        }
        answered
    }
}

fn token(number: usize) -> AccessToken {
    AccessToken {
        principal: format!("client-{number}"),
        token: format!("0123456789abcdef0123456789abcdef-{number:04}"),
    }
}

/// Writes a request and reads one response with a length.
async fn exchange(client: &mut DuplexStream, request: &[u8], input: &mut Vec<u8>) {
    input.clear();
    client.write_all(request).await.expect("the server reads");
    loop {
        client.read_buf(input).await.expect("the server writes");
        let Some(head) = input.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let text = String::from_utf8_lossy(&input[..head]);
        let length = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok())
            .expect("a length");
        if input.len() >= head + 4 + length {
            return;
        }
    }
}
