//! A small MCP server on the transport crate alone (B13: usable on its own).

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread::ThreadId;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use thinpipe_proto::access::AccessPolicy;
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::{Kind, Message, code};
use thinpipe_store::{MemoryStore, SessionStore};
use thinpipe_testkit::{Client, DEADLINE, Gate, rpc};
use thinpipe_transport::body::{Body, BodyError, BodyStream, BoxFuture, Filled};
use thinpipe_transport::server::{
    Adoption, Answer, Content, Exchange, Handler, Inbound, Negotiated, Server, ServerConfig,
    Session, SessionEnd,
};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// Bytes of the answer of the tool `huge`: more than sockets hold.
pub(crate) const HUGE: usize = 16 << 20;

/// What the handler saw, and how the test steers it.
#[derive(Default)]
pub(crate) struct Sample {
    /// `tools/call` of the tool `wait` is answered when this opens.
    pub(crate) gate: Mutex<Gate>,
    /// Calls that ran to their end.
    pub(crate) finished: AtomicUsize,
    /// Calls that began.
    pub(crate) begun: AtomicUsize,
    pub(crate) ended: Mutex<Vec<SessionEnd>>,
    /// DELETE is answered 405.
    pub(crate) keeps_sessions: AtomicBool,
    pub(crate) streams: Mutex<Vec<mpsc::Sender<Bytes>>>,
    /// Sessions live in one process.
    pub(crate) holds: AtomicBool,
    /// Sessions of nodes that are gone go on here.
    pub(crate) adopts: AtomicBool,
    /// They cannot just now.
    pub(crate) puts_off: AtomicBool,
    /// Nor is that known before this is open.
    pub(crate) adopting: Mutex<Option<Gate>>,
    /// How many were asked for.
    pub(crate) adopted: AtomicUsize,
    /// The last of them.
    pub(crate) adoptee: Mutex<Option<Arc<Session>>>,
    /// Sessions were opened on another node for listening.
    pub(crate) outlistened: AtomicUsize,
    /// Who has run the last call.
    pub(crate) thread: Mutex<Option<ThreadId>>,
    /// They had replaced one elsewhere.
    pub(crate) replaced: AtomicUsize,
}

impl Sample {
    async fn answer(self: Arc<Self>, exchange: Exchange) -> Answer {
        let client = exchange.client();
        *self.thread.lock().unwrap() = Some(std::thread::current().id());
        match exchange.inbound {
            Inbound::Initialize(message, slot) => {
                let asked = message.param_str("protocolVersion").unwrap_or_default();
                if asked == "refuse" {
                    let text = "no";
                    return Answer::error(StatusCode::OK, message.id(), -32602, text, None);
                }
                if asked == "wait" {
                    self.begun.fetch_add(1, Ordering::SeqCst);
                    let gate = self.gate.lock().unwrap().clone();
                    gate.pass().await;
                }
                let revision = Revision::from_bytes(asked.as_bytes())
                    .filter(|r| !r.is_modern())
                    .unwrap_or(Revision::NEWEST_LEGACY);
                let initialize_params = message.params().unwrap_or_default();
                let opened = slot.open(Negotiated {
                    revision,
                    initialize_params,
                    attachment: Bytes::from_static(b"the handler's own"),
                    held: self.holds.load(Ordering::SeqCst),
                });
                let session = match opened.await {
                    Ok(session) => session,
                    Err(error) => {
                        let (status, text) = (StatusCode::OK, error.to_string());
                        let code = code::INTERNAL_ERROR;
                        return Answer::error(status, message.id(), code, &text, None);
                    }
                };
                let result = format!(
                    r#"{{"protocolVersion":"{revision}","capabilities":{{"tools":{{}}}},"serverInfo":{{"name":"sample","version":"1"}}}}"#
                );
                result_of(&message, &result).with_session(session.id().clone())
            }
            Inbound::Message(message, _) | Inbound::Stateless(message) => {
                self.message(message, client).await
            }
            Inbound::StatelessNotification(_) => Answer::accepted(),
            Inbound::Listen(..) => Answer::events(self.stream()),
            Inbound::Terminate(_) if self.keeps_sessions.load(Ordering::SeqCst) => {
                let (status, text) = (StatusCode::METHOD_NOT_ALLOWED, "sessions stay");
                Answer::error(status, None, code::SERVER_ERROR, text, None)
            }
            Inbound::Terminate(_) => Answer::accepted(),
        }
    }

    async fn message(self: Arc<Self>, message: Message, client: Option<IpAddr>) -> Answer {
        if message.kind() != Kind::Request {
            return Answer::accepted();
        }
        if message.method() != Some("tools/call") {
            return Answer::error(
                StatusCode::OK,
                message.id(),
                code::METHOD_NOT_FOUND,
                "no such method",
                None,
            );
        }
        self.begun.fetch_add(1, Ordering::SeqCst);
        match message.param_str("name").as_deref() {
            Some("wait") => {
                let gate = self.gate.lock().unwrap().clone();
                gate.pass().await;
                self.finished.fetch_add(1, Ordering::SeqCst);
                result_of(&message, r#"{"content":[]}"#)
            }
            Some("huge") => {
                let text = "x".repeat(HUGE);
                result_of(&message, &format!(r#"{{"text":"{text}"}}"#))
            }
            Some("stream") => Answer::events(self.stream()),
            Some("slow body") => {
                let body = Body::stream(self.stream());
                Answer::new(StatusCode::OK, Content::Json, body)
            }
            Some("who") => result_of(&message, &format!(r#"{{"client":"{client:?}"}}"#)),
            Some("large") => {
                let text = "x".repeat(LARGE);
                result_of(&message, &format!(r#"{{"content":[],"text":"{text}"}}"#))
            }
            Some("nothing") => Answer::accepted(),
            Some("nonsense") => Answer::json(Bytes::from_static(b"<html>")),
            Some("stream on") => {
                let mut stream = self.stream();
                stream.runs_on = true;
                Answer::events(stream)
            }
            _ => result_of(&message, r#"{"content":[{"type":"text","text":"done"}]}"#),
        }
    }

    fn stream(&self) -> Channel {
        let (sender, receiver) = mpsc::channel(1);
        self.streams.lock().unwrap().push(sender);
        Channel {
            receiver,
            runs_on: false,
        }
    }

    /// The sender of the newest stream.
    pub(crate) fn newest_stream(&self) -> mpsc::Sender<Bytes> {
        self.streams
            .lock()
            .unwrap()
            .last()
            .cloned()
            .expect("a stream was opened")
    }
}

impl Handler for Sample {
    fn handle(self: Arc<Self>, exchange: Exchange) -> BoxFuture<Answer> {
        Box::pin(self.answer(exchange))
    }

    fn adopt(self: Arc<Self>, session: Arc<Session>) -> BoxFuture<Adoption> {
        self.adopted.fetch_add(1, Ordering::SeqCst);
        *self.adoptee.lock().unwrap() = Some(session);
        let is_set = |it: &AtomicBool| it.load(Ordering::SeqCst);
        let adoption = match (is_set(&self.puts_off), is_set(&self.adopts)) {
            (true, _) => Adoption::PutOff,
            (false, true) => Adoption::Done,
            (false, false) => Adoption::Ended,
        };
        let adopting = self.adopting.lock().unwrap().clone();
        Box::pin(async move {
            if let Some(adopting) = adopting {
                adopting.pass().await;
            }
            adoption
        })
    }

    fn can_hand_over(&self, _: &Session) -> bool {
        self.adopts.load(Ordering::SeqCst)
    }

    fn listened_elsewhere(&self, _: &Session) -> bool {
        self.outlistened.fetch_add(1, Ordering::SeqCst);
        true
    }

    fn replaced_elsewhere(&self, _: &Session) {
        self.replaced.fetch_add(1, Ordering::SeqCst);
    }

    fn session_ended(self: Arc<Self>, _: Arc<Session>, why: SessionEnd) -> BoxFuture<()> {
        self.ended.lock().unwrap().push(why);
        Box::pin(std::future::ready(()))
    }
}

/// What the tool `large` says has so many bytes.
pub(crate) const LARGE: usize = 40 << 10;

/// A stream of whatever the test sends; `runs_on`: also without its client, and while the server drains.
pub(crate) struct Channel {
    receiver: mpsc::Receiver<Bytes>,
    runs_on: bool,
}

impl BodyStream for Channel {
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<Result<Filled, BodyError>> {
        Poll::Ready(match std::task::ready!(self.receiver.poll_recv(cx)) {
            Some(bytes) => {
                out.extend_from_slice(&bytes);
                Ok(Filled::More)
            }
            None => Ok(Filled::End),
        })
    }

    fn abandon(self: Box<Self>) -> Option<BoxFuture<()>> {
        let mut receiver = self.receiver;
        self.runs_on.then(|| -> BoxFuture<()> {
            Box::pin(async move { while receiver.recv().await.is_some() {} })
        })
    }

    fn shut_down(&mut self, force: bool, out: &mut Vec<u8>) -> bool {
        if self.runs_on && !force {
            return false;
        }
        out.extend_from_slice(b"retry: 1000\n\n");
        true
    }
}

fn result_of(message: &Message, result: &str) -> Answer {
    let id =
        String::from_utf8_lossy(message.id().expect("a request has an id").as_json()).into_owned();
    Answer::json(Bytes::from(format!(
        r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#
    )))
}

/// A body of an HTTP/2 request, sent as a test wants to.
pub(crate) struct Pieces {
    pub(crate) receiver: mpsc::Receiver<Bytes>,
    pub(crate) length: Option<u64>,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        let piece = std::task::ready!(self.receiver.poll_recv(cx));
        Poll::Ready(piece.map(|bytes| Ok(http_body::Frame::data(bytes))))
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.length.map_or_else(
            http_body::SizeHint::default,
            http_body::SizeHint::with_exact,
        )
    }
}

/// A running server.
pub(crate) struct Running {
    pub(crate) server: Server,
    pub(crate) sample: Arc<Sample>,
    pub(crate) address: SocketAddr,
    pub(crate) url: String,
}

/// The defaults, for a loopback listener.
pub(crate) fn config() -> ServerConfig {
    let access = AccessPolicy {
        loopback: true,
        ..AccessPolicy::default()
    };
    ServerConfig {
        access,
        ..ServerConfig::default()
    }
}

/// Starts a server with this configuration on a free port.
pub(crate) async fn start(config: ServerConfig) -> Running {
    start_with_store(config, Arc::new(MemoryStore::new())).await
}

/// As [`start`], with sessions in this store.
pub(crate) async fn start_with_store(
    config: ServerConfig,
    store: Arc<dyn SessionStore>,
) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let sample = Arc::new(Sample::default());
    let handler: Arc<dyn Handler> = Arc::clone(&sample) as _;
    let server = Server::builder(config)
        .endpoint("/mcp", "sample", handler)
        .store(store)
        .build();
    let accepting = server.clone();
    server.spawn(async move { accepting.serve(listener).await.expect("accepting goes on") });
    Running {
        server,
        sample,
        address,
        url: format!("http://{address}/mcp"),
    }
}

impl Running {
    /// A client with a session of this revision.
    pub(crate) async fn client(&self, revision: &str) -> Client {
        let mut client = Client::new(&self.url);
        client.initialize(revision).await;
        client
    }

    /// A client without a session.
    pub(crate) fn stranger(&self) -> Client {
        Client::new(&self.url)
    }
}

/// Waits until a condition of this process holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(
        tokio::time::timeout(DEADLINE, wait).await.is_ok(),
        "never came true: {what}"
    );
}

/// A plain call.
pub(crate) fn call(id: u64, tool: &str) -> String {
    rpc::call(id, tool)
}
