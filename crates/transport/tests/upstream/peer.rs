//! Scripted servers at the other end of a pipe.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};
use thinpipe_transport::body::BoxFuture;
use thinpipe_transport::upstream::{
    Connect, Upstream, UpstreamConfig, UpstreamError, UpstreamRequest, UpstreamResponse,
};
use thinpipe_transport::{ByteBudget, Io};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;

/// What a pipe holds in each direction, in bytes: it stands for the socket's buffers.
pub(crate) const PIPE: usize = 64 << 10;

/// Where the connections of an upstream arrive.
pub(crate) struct Network {
    arrivals: mpsc::Receiver<DuplexStream>,
}

struct Pipes(mpsc::Sender<DuplexStream>);

impl Connect for Pipes {
    fn connect(&self, _: &Uri) -> BoxFuture<io::Result<Box<dyn Io>>> {
        let (ours, theirs) = duplex(PIPE);
        let arrivals = self.0.clone();
        Box::pin(async move {
            let refused = |_| io::Error::from(io::ErrorKind::ConnectionRefused);
            arrivals.send(theirs).await.map_err(refused)?;
            Ok(Box::new(ours) as Box<dyn Io>)
        })
    }
}

/// An upstream over pipes, and the place where they come out.
pub(crate) fn network(change: impl FnOnce(&mut UpstreamConfig)) -> (Upstream, Network) {
    let url = Uri::from_static("http://server.example/mcp");
    let mut config = UpstreamConfig::new("server".into(), url);
    change(&mut config);
    let (sender, arrivals) = mpsc::channel(64);
    let upstream = Upstream::with_connector(config, Pipes(sender));
    (upstream, Network { arrivals })
}

impl Network {
    /// The next connection.
    pub(crate) async fn accept(&mut self) -> Peer {
        Peer {
            io: self.arrivals.recv().await.unwrap(),
        }
    }

    /// The bare pipe of the next connection.
    pub(crate) async fn accept_raw(&mut self) -> DuplexStream {
        self.accept().await.io
    }

    /// Whether nobody has connected that was not accepted.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.arrivals.try_recv().is_err()
    }

    /// Takes a connection, reads one request and answers it.
    pub(crate) async fn serve(&mut self, answer: &str) -> Peer {
        let mut peer = self.accept().await;
        peer.request().await;
        peer.send(answer).await;
        peer
    }
}

/// The server's end of one connection.
pub(crate) struct Peer {
    io: DuplexStream,
}

impl Peer {
    /// Reads one request: its head, and as much body as that announces.
    pub(crate) async fn request(&mut self) -> (String, Vec<u8>) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.io.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        self.io.read_exact(&mut body).await.unwrap();
        (head, body)
    }

    /// Reads a request and answers it.
    pub(crate) async fn serve(&mut self, answer: &str) {
        self.request().await;
        self.send(answer).await;
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.io.write_all(bytes.as_ref()).await.unwrap();
    }

    /// The bare pipe.
    pub(crate) fn pipe(&mut self) -> &mut DuplexStream {
        &mut self.io
    }

    /// Reads until the client closes; what it sent.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.io.read_to_end(&mut rest).await.unwrap();
        rest
    }

    /// Whether the client has neither closed nor sent anything.
    pub(crate) async fn is_waiting(&mut self) -> bool {
        let mut byte = [0];
        let read = self.io.read(&mut byte);
        tokio::time::timeout(Duration::ZERO, read).await.is_err()
    }
}

/// A POST that must not be repeated.
pub(crate) fn post(body: impl Into<Bytes>) -> UpstreamRequest {
    UpstreamRequest {
        method: Method::POST,
        headers: HeaderMap::new(),
        body: body.into(),
        repeatable: false,
    }
}

/// The whole body.
pub(crate) async fn text(response: UpstreamResponse) -> String {
    let body = response
        .collect(1 << 20, &ByteBudget::default())
        .await
        .unwrap();
    String::from_utf8(body.to_vec()).unwrap()
}

/// What went wrong, in words.
pub(crate) fn wrong(answer: Result<UpstreamResponse, UpstreamError>) -> String {
    answer.unwrap_err().to_string()
}

/// A JSON answer of two bytes that keeps the connection.
pub(crate) const OK: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

/// The head of an event stream, with its first event.
pub(crate) const EVENTS: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
     Transfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n";
