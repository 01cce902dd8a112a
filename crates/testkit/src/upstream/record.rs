//! What an upstream saw and did, as a value that can be looked at and waited for.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::wire::Headers;

/// How a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// In a request of Streamable HTTP, or of anything else that is no message of the other two.
    Http,
    /// In a POST of HTTP+SSE.
    HttpSse,
    /// As a line to a program.
    Stdio,
}

/// A request as it came. A line to a program is one too: its HTTP method is `POST`, and it has no headers.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its number, from 0, over all connections; also the index of its response in
    /// [`Record::responses`].
    pub number: usize,
    /// Number of the connection it came on, from 0.
    pub connection: usize,
    /// HTTP method.
    pub method: String,
    /// Request target: path and query.
    pub target: String,
    /// Header fields, in order.
    pub headers: Headers,
    /// The body without its framing.
    pub body: Bytes,
    /// When all of it was there.
    pub at: Instant,
    /// How it came.
    pub via: Via,
    pub(crate) json: Value,
    pub(crate) id: Option<String>,
    session: Option<String>,
}

impl Request {
    pub(crate) fn new(
        (number, connection): (usize, usize),
        (method, target): (String, String),
        headers: Headers,
        body: Bytes,
    ) -> Self {
        let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let id = member_text(&body, "id");
        let of_stream = target.split_once("/messages?sessionId=");
        let (via, session) = match (of_stream, headers.get("Mcp-Session-Id")) {
            (Some((_, session)), _) => (Via::HttpSse, Some(session)),
            (None, session) => (Via::Http, session),
        };
        let session = session.map(str::to_owned);
        Self {
            number,
            connection,
            method,
            target,
            headers,
            body,
            at: Instant::now(),
            via,
            json,
            id,
            session,
        }
    }

    /// A line to the program that is this session.
    pub(crate) fn of_line(numbers: (usize, usize), session: &str, line: Bytes) -> Self {
        let named = ("POST".to_owned(), String::new());
        Self {
            via: Via::Stdio,
            session: Some(session.to_owned()),
            ..Self::new(numbers, named, Headers::new(), line)
        }
    }

    /// The body as JSON; null if it is none.
    #[must_use]
    pub fn json(&self) -> &Value {
        &self.json
    }

    /// The JSON-RPC method, if the body has one.
    #[must_use]
    pub fn rpc_method(&self) -> Option<&str> {
        self.json.get("method")?.as_str()
    }

    /// The JSON-RPC id as it was written: `7`, `"7"`, `-0`.
    #[must_use]
    pub fn id_text(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// `params.name`: the tool that is called.
    #[must_use]
    pub fn tool(&self) -> Option<&str> {
        self.json.pointer("/params/name")?.as_str()
    }

    /// The session it says it belongs to: what its header says, its stream of HTTP+SSE, or its program.
    #[must_use]
    pub fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }

    /// A value in its `params`, by JSON pointer; null if it is not there.
    #[must_use]
    pub fn param(&self, pointer: &str) -> &Value {
        let params = self.json.get("params");
        params
            .and_then(|params| params.pointer(pointer))
            .unwrap_or(&Value::Null)
    }

    /// Whether it says that nobody waits for the answer to this request of its session any more.
    pub(crate) fn cancels(&self, other: &Self) -> bool {
        self.is("notifications/cancelled")
            && self.session() == other.session()
            && Some(self.param("/requestId")) == other.json.get("id")
    }

    /// The client capabilities it declares, in a stateless revision.
    #[must_use]
    pub fn declared(&self) -> &Value {
        let meta = self.param("/_meta");
        meta.get(crate::rpc::CAPABILITIES).unwrap_or(&Value::Null)
    }

    /// The cursor it wants to resume after.
    #[must_use]
    pub fn last_event_id(&self) -> Option<&str> {
        self.headers.get("Last-Event-ID")
    }

    /// Whether `what` names it: `*`, an HTTP method, a JSON-RPC method, or a JSON-RPC method with what
    /// it is called on (`tools/call:echo`).
    #[must_use]
    pub fn is(&self, what: &str) -> bool {
        if what == "*" || what == self.method {
            return true;
        }
        let Some(method) = self.rpc_method() else {
            return false;
        };
        match what.split_once(':') {
            Some((wanted, name)) => wanted == method && self.tool() == Some(name),
            None => what == method,
        }
    }

    /// Whether it is a request of a stateless revision: it carries a claim.
    #[must_use]
    pub fn is_modern(&self) -> bool {
        self.claim().is_some()
    }

    pub(crate) fn claim(&self) -> Option<&Value> {
        self.json
            .get("params")?
            .get("_meta")?
            .get(crate::rpc::CLAIM)
    }

    pub(crate) fn progress_token(&self) -> Option<String> {
        let token = self
            .json
            .get("params")?
            .get("_meta")?
            .get("progressToken")?;
        Some(token.to_string())
    }

    /// The whole head and body as text, for searching.
    #[must_use]
    pub fn to_text(&self) -> String {
        let body = String::from_utf8_lossy(&self.body);
        format!(
            "{} {}\r\n{}\r\n{body}",
            self.method, self.target, self.headers
        )
    }
}

/// The text of a member of a JSON object.
fn member_text(body: &[u8], name: &str) -> Option<String> {
    let members: std::collections::BTreeMap<String, Box<RawValue>> =
        serde_json::from_slice(body).ok()?;
    Some(members.get(name)?.get().to_owned())
}

/// How a response ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All of it was sent, with its end.
    Complete,
    /// The script cut it off.
    Cut,
    /// The peer closed the connection before its end, or cancelled the request of a program.
    Cancelled,
    /// It ended without an answer, since the client has cancelled the request.
    Stopped,
}

/// A response as far as it has come.
#[derive(Debug, Clone, Default)]
pub struct Response {
    /// Status, once its head is written.
    pub status: Option<u16>,
    /// Whether its head said `text/event-stream`.
    pub is_stream: bool,
    /// Bytes of head and body that the kernel took.
    pub bytes: u64,
    /// Events that the kernel took to their last byte.
    pub events: usize,
    /// Whether the kernel took no more at last: the peer does not read.
    pub blocked: bool,
    /// How it ended; `None` while it goes on.
    pub outcome: Option<Outcome>,
    /// When it ended.
    pub ended: Option<Instant>,
}

/// What an upstream saw and did.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Connections accepted.
    pub connections: usize,
    /// Connections open now.
    pub open_connections: usize,
    /// Requests received.
    pub requests: usize,
    /// Requests that were the same JSON-RPC request as an earlier one: same id, same body, same session.
    pub duplicates: usize,
    /// Event streams open now.
    pub open_streams: usize,
    /// Responses that came to their end.
    pub complete: usize,
    /// Responses whose peer left before their end.
    pub cancelled: usize,
    /// Everything received that is no HTTP, as text.
    pub malformed: Vec<String>,
    /// The requests, in order.
    pub received: Vec<Arc<Request>>,
    /// The responses; the index is the number of the request.
    pub responses: Vec<Response>,
    seen: HashSet<(Option<String>, Bytes)>,
}

impl Record {
    /// How many requests `what` names; see [`Request::is`].
    #[must_use]
    pub fn count(&self, what: &str) -> usize {
        self.all(what).count()
    }

    /// The requests `what` names, in order; see [`Request::is`].
    pub fn all<'a>(&'a self, what: &'a str) -> impl Iterator<Item = &'a Arc<Request>> {
        self.received.iter().filter(move |request| request.is(what))
    }

    /// The last request `what` names; see [`Request::is`].
    #[must_use]
    pub fn last(&self, what: &str) -> Option<&Arc<Request>> {
        self.received.iter().rev().find(|request| request.is(what))
    }

    /// The response to the last request `what` names; see [`Request::is`].
    #[must_use]
    pub fn response(&self, what: &str) -> Option<&Response> {
        self.responses.get(self.last(what)?.number)
    }

    /// How the response to the last request `what` names ended; see [`Request::is`].
    #[must_use]
    pub fn outcome(&self, what: &str) -> Option<Outcome> {
        self.response(what)?.outcome
    }

    pub(crate) fn add(&mut self, request: Arc<Request>) {
        self.requests += 1;
        if request.method == "POST" && request.id.is_some() {
            let session = request.session().map(str::to_owned);
            if !self.seen.insert((session, request.body.clone())) {
                self.duplicates += 1;
            }
        }
        self.received.push(request);
        self.responses.push(Response::default());
    }

    pub(crate) fn end(&mut self, number: usize, outcome: Outcome) {
        let response = &mut self.responses[number];
        if response.outcome.is_some() {
            return;
        }
        response.outcome = Some(outcome);
        response.ended = Some(Instant::now());
        response.blocked = false;
        if response.is_stream {
            self.open_streams -= 1;
        }
        match outcome {
            Outcome::Complete => self.complete += 1,
            Outcome::Cancelled => self.cancelled += 1,
            Outcome::Cut | Outcome::Stopped => {}
        }
    }

    /// A program has ended: what it was at is cut, but for what had been cancelled before.
    pub(crate) fn program_ended(&mut self, session: &str) {
        let of_session = |request: &&Arc<Request>| request.session() == Some(session);
        let mine: Vec<_> = self.received.iter().filter(of_session).cloned().collect();
        for request in mine.iter().filter(|request| request.id.is_some()) {
            let outcome = if mine.iter().any(|other| other.cancels(request)) {
                Outcome::Cancelled
            } else {
                Outcome::Cut
            };
            self.end(request.number, outcome);
        }
    }

    /// Every connection is gone at once.
    pub(crate) fn disconnected(&mut self) {
        self.open_connections = 0;
        for number in 0..self.responses.len() {
            self.end(number, Outcome::Cut);
        }
    }
}

/// The figures, and a line for each of the last requests.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} requests ({} duplicates) on {} connections ({} open), {} streams open, {} complete, {} cancelled",
            self.requests,
            self.duplicates,
            self.connections,
            self.open_connections,
            self.open_streams,
            self.complete,
            self.cancelled
        )?;
        for text in &self.malformed {
            writeln!(f, "  malformed: {text}")?;
        }
        let recent = self.received.len().saturating_sub(SHOWN);
        for (request, response) in self.received.iter().zip(&self.responses).skip(recent) {
            let what = request.rpc_method().unwrap_or_default();
            let id = request.id_text().unwrap_or("-");
            writeln!(
                f,
                "  #{} {} {what} id {id}: {:?} {:?}, {} bytes, {} events{}",
                request.number,
                request.method,
                response.status,
                response.outcome,
                response.bytes,
                response.events,
                if response.blocked { ", blocked" } else { "" }
            )?;
        }
        Ok(())
    }
}

/// Requests that a [`Record`] shows of itself.
const SHOWN: usize = 12;
