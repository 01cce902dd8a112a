//! An MCP server of the old transport, HTTP+SSE (2024-11-05), that a test tells what to do.

use std::net::SocketAddr;
use std::panic::Location;

use bytes::BytesMut;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::deadline::within;
use crate::wire::{Headers, MAX_HEADERS};

/// A server of HTTP+SSE on a port of its own. Its stream is at `/sse`, and each GET of it is a session.
///
/// Untold, it behaves well: it names `/messages?sessionId=N`, answers `initialize` as a server of
/// 2024-11-05, and any other request with its own params as the result. Dropping it closes everything.
#[derive(Debug)]
pub struct SseUpstream {
    address: SocketAddr,
    state: watch::Sender<SseState>,
    _tasks: JoinSet<()>,
}

/// What it is told, and what it has seen.
#[derive(Debug)]
pub struct SseState {
    /// What the first event is; `{id}` and `{address}` are replaced.
    pub first: String,
    /// The status of GET, if not 200 with a stream.
    pub refuse_stream: Option<u16>,
    /// Fields added to the head of the stream, each with its CRLF.
    pub headers: String,
    /// Whether lines end with CRLF, as those of Python servers do.
    pub crlf: bool,
    /// The status of a POST to a known session. Only after 202 there is an answer.
    pub status: u16,
    /// Whether requests are answered. If not, the test sends answers, in any order.
    pub answers: bool,
    /// The sessions, oldest first.
    pub sessions: Vec<SseSession>,
    /// The POSTs, in the order they came.
    pub posts: Vec<SsePost>,
}

/// One event stream.
#[derive(Debug)]
pub struct SseSession {
    /// The head of its GET.
    pub headers: Headers,
    /// Whether the client still reads it.
    pub open: bool,
    /// What it carries; `None` at the end cuts it.
    events: Vec<Option<String>>,
}

/// One POST.
#[derive(Debug, Clone)]
pub struct SsePost {
    /// Path and query.
    pub target: String,
    /// Its head.
    pub headers: Headers,
    /// Its body.
    pub body: Value,
}

impl Default for SseState {
    fn default() -> Self {
        Self {
            first: "event: endpoint\ndata: /messages?sessionId={id}\n\n".to_owned(),
            refuse_stream: None,
            headers: String::new(),
            crlf: false,
            status: 202,
            answers: true,
            sessions: Vec::new(),
            posts: Vec::new(),
        }
    }
}

impl SseUpstream {
    /// Starts one on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// If no port can be had.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a free port");
        let address = listener.local_addr();
        let address = address.expect("a bound socket has an address");
        let state = watch::Sender::new(SseState::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, address, state.clone()));
        Self {
            address,
            state,
            _tasks: tasks,
        }
    }

    /// The URL of its stream.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/sse", self.address)
    }

    /// The URL of another path, where there is nothing but 404.
    #[must_use]
    pub fn url_of(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Tells it what to do from now on.
    pub fn tell(&self, change: impl FnOnce(&mut SseState)) {
        self.state.send_modify(change);
    }

    /// Looks at what it has seen.
    pub fn seen<T>(&self, look: impl FnOnce(&SseState) -> T) -> T {
        look(&self.state.borrow())
    }

    /// Writes text to the stream of a session (the first is 0) as it is, but for its line ends.
    ///
    /// # Panics
    /// If there is no such session.
    pub fn write(&self, session: usize, text: impl Into<String>) {
        self.tell(|state| state.sessions[session].events.push(Some(text.into())));
    }

    /// Writes a message to the stream of a session.
    ///
    /// # Panics
    /// As [`Self::write`].
    pub fn message(&self, session: usize, message: impl ToString) {
        self.write(session, event(&message.to_string()));
    }

    /// Closes the stream of a session, after what was written before.
    ///
    /// # Panics
    /// As [`Self::write`].
    pub fn cut(&self, session: usize) {
        self.tell(|state| state.sessions[session].events.push(None));
    }

    /// Until it has seen this.
    ///
    /// # Panics
    /// After [`DEADLINE`](crate::DEADLINE).
    #[track_caller]
    pub fn wait_until(
        &self,
        mut condition: impl FnMut(&SseState) -> bool + Send,
    ) -> impl Future<Output = ()> + Send {
        let at = Location::caller();
        let mut state = self.state.subscribe();
        async move {
            let all = state.clone();
            let what = || format!("what is awaited, but {:#?}", all.borrow());
            let reached = within(at, what, state.wait_for(|state| condition(state))).await;
            reached.expect("the server lives as long as the test");
        }
    }
}

fn event(data: &str) -> String {
    format!("event: message\ndata: {data}\n\n")
}

async fn accept(listener: TcpListener, address: SocketAddr, state: watch::Sender<SseState>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, address, state.clone()));
        while connections.try_join_next().is_some() {}
    }
}

/// Serves one connection until either end closes it; what is no HTTP ends it too.
async fn serve(mut stream: TcpStream, address: SocketAddr, state: watch::Sender<SseState>) {
    let mut input = BytesMut::new();
    while let Some((method, target, headers)) = head(&mut stream, &mut input).await {
        let length = headers.get("content-length").unwrap_or("0");
        let length = length.parse().expect("a length");
        while input.len() < length {
            if stream.read_buf(&mut input).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let body = input.split_to(length);
        if method == "GET" && target == "/sse" && state.borrow().refuse_stream.is_none() {
            return play(stream, address, &state, headers).await;
        }
        let status = match &*method {
            "POST" => post(&state, target, headers, &body),
            "GET" if target == "/sse" => state.borrow().refuse_stream.unwrap_or(404),
            _ => 404,
        };
        // As Express writes it; whoever does not read it has all it needs in the head.
        let answer = format!(
            "HTTP/1.1 {status} X\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nAccepted\r\n0\r\n\r\n"
        );
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn head(stream: &mut TcpStream, input: &mut BytesMut) -> Option<(String, String, Headers)> {
    loop {
        let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut head = httparse::Request::new(&mut fields);
        if let httparse::Status::Complete(length) = head.parse(input).ok()? {
            let method = head.method?.to_owned();
            let target = head.path?.to_owned();
            let headers = Headers::from_parsed(head.headers);
            let _ = input.split_to(length);
            return Some((method, target, headers));
        }
        if stream.read_buf(input).await.ok()? == 0 {
            return None;
        }
    }
}

/// Takes a message; its answer goes to the stream of its session. Gives the status.
fn post(state: &watch::Sender<SseState>, target: String, headers: Headers, body: &[u8]) -> u16 {
    let mut status = if target == "/sse" { 405 } else { 404 };
    let id = target.rsplit('=').next().and_then(|id| id.parse().ok());
    let body = serde_json::from_slice::<Value>(body).unwrap_or_default();
    state.send_modify(|state| {
        let answer = state.answers.then(|| answer(&body)).flatten();
        let known = id.and_then(|id: usize| state.sessions.get_mut(id));
        if let Some(session) = known.filter(|session| session.open) {
            status = state.status;
            session
                .events
                .extend(answer.filter(|_| status == 202).map(Some));
        }
        state.posts.push(SsePost {
            target,
            headers,
            body,
        });
    });
    status
}

fn answer(body: &Value) -> Option<String> {
    let id = body.get("id")?;
    let method = body.get("method")?;
    let result = if method == "initialize" {
        json!({
            "protocolVersion": "2024-11-05",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "sse-upstream", "version": "1"},
        })
    } else {
        body["params"].clone()
    };
    let answer = json!({"jsonrpc": "2.0", "id": id, "result": result});
    Some(event(&answer.to_string()))
}

/// Plays the stream of a new session until either end closes it.
async fn play(
    mut stream: TcpStream,
    address: SocketAddr,
    state: &watch::Sender<SseState>,
    headers: Headers,
) {
    let mut id = 0;
    let mut opening = String::new();
    state.send_modify(|state| {
        id = state.sessions.len();
        opening = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n{}\r\n",
            state.headers
        );
        let first = state.first.replace("{id}", &id.to_string());
        state.sessions.push(SseSession {
            headers,
            open: true,
            events: vec![Some(first.replace("{address}", &address.to_string()))],
        });
    });
    let (mut reading, mut writing) = stream.split();
    let mut byte = [0];
    tokio::select! {
        // A client that leaves, or one that sends what is no part of this: both end it.
        _ = reading.read(&mut byte) => {}
        () = write(&mut writing, opening, id, state) => {}
    }
    state.send_modify(|state| state.sessions[id].open = false);
}

async fn write(
    stream: &mut (impl AsyncWriteExt + Unpin),
    opening: String,
    id: usize,
    state: &watch::Sender<SseState>,
) {
    let mut text = opening;
    let mut changes = state.subscribe();
    for next in 0.. {
        if stream.write_all(text.as_bytes()).await.is_err() {
            return;
        }
        let Ok(now) = changes
            .wait_for(|state| state.sessions[id].events.len() > next)
            .await
        else {
            return;
        };
        match &now.sessions[id].events[next] {
            Some(event) if now.crlf => text = event.replace('\n', "\r\n"),
            Some(event) => text.clone_from(event),
            None => return,
        }
    }
}
