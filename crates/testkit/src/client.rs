//! A client that sends what a test wants to, and sees what came, when.

mod connection;
mod response;
mod sse;

use std::net::SocketAddr;
use std::panic::Location;
use std::pin::Pin;

use bytes::Bytes;
use serde_json::Value;

pub use connection::Connection;
pub use response::{Cutoff, Piece, Response};
pub use sse::SseClient;

use crate::deadline::within;
use crate::rpc::{self, Modern};
use crate::wire::Headers;

/// A client of one MCP endpoint. Each request goes on a connection of its own, unless it is told
/// [otherwise](RequestBuilder::on).
#[derive(Debug, Clone)]
pub struct Client {
    address: SocketAddr,
    path: String,
    session: Option<String>,
    revision: Option<String>,
    authorization: Option<String>,
}

impl Client {
    /// A client of this URL, `http://127.0.0.1:PORT/path`.
    ///
    /// # Panics
    /// If the URL is of another form.
    #[must_use]
    #[track_caller]
    pub fn new(url: &str) -> Self {
        let parts = url
            .strip_prefix("http://")
            .map(|rest| rest.split_once('/').unwrap_or((rest, "")));
        let Some((Ok(address), path)) = parts.map(|(address, path)| (address.parse(), path)) else {
            panic!("{url} is not http://ADDRESS:PORT/PATH");
        };
        Self {
            address,
            path: format!("/{path}"),
            session: None,
            revision: None,
            authorization: None,
        }
    }

    /// The same client, in its session, where another process serves the same.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    #[must_use]
    #[track_caller]
    pub fn at(&self, url: &str) -> Self {
        let Self { address, path, .. } = Self::new(url);
        Self {
            address,
            path,
            ..self.clone()
        }
    }

    /// With this token, as `Authorization: Bearer`, in every request.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        self.authorization = Some(format!("Bearer {token}"));
        self
    }

    /// Opens a session: `initialize` and `notifications/initialized`. Returns the `initialize` result.
    /// All later requests are in this session, if the server issued one.
    ///
    /// # Panics
    /// If the server refuses, or takes too long.
    #[track_caller]
    pub fn initialize(&mut self, revision: &str) -> impl Future<Output = Value> + Send {
        self.open(rpc::initialize(0, revision))
    }

    /// As [`initialize`](Self::initialize), with a whole `initialize` of one's own.
    ///
    /// # Panics
    /// As [`initialize`](Self::initialize).
    #[track_caller]
    pub fn open(&mut self, initialize: impl ToString) -> impl Future<Output = Value> + Send {
        let at = Location::caller();
        let body = initialize.to_string();
        async move {
            (self.session, self.revision) = (None, None);
            let mut response = self.post(body).await;
            let answer = response.answer().await;
            let Some(agreed) = answer
                .pointer("/result/protocolVersion")
                .and_then(Value::as_str)
            else {
                panic!(
                    "initialize at {at} was answered {} {answer}",
                    response.status
                );
            };
            self.session = response.header("Mcp-Session-Id").map(str::to_owned);
            self.revision = Some(agreed.to_owned());
            let initialized = self.post(rpc::initialized()).await;
            assert_eq!(initialized.status, 202, "notifications/initialized at {at}");
            answer["result"].clone()
        }
    }

    /// The session it is in.
    #[must_use]
    pub fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }

    /// The revision it has agreed on.
    #[must_use]
    pub fn revision(&self) -> Option<&str> {
        self.revision.as_deref()
    }

    /// Where it connects to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// POSTs a message, given as text or as a [`Value`]. Awaiting it sends it.
    #[track_caller]
    pub fn post(&self, message: impl ToString) -> RequestBuilder {
        self.request("POST")
            .header("Content-Type", "application/json")
            .header("Accept", "application/json, text/event-stream")
            .body(message.to_string())
    }

    /// POSTs a request of revision 2026-07-28 with its headers, and without a session.
    #[track_caller]
    pub fn post_modern(&self, request: &Modern) -> RequestBuilder {
        let mut builder = self
            .post(&request.body)
            .without("Mcp-Session-Id")
            .without("MCP-Protocol-Version");
        for (name, value) in request.headers.iter() {
            builder = builder.header(name, value);
        }
        builder
    }

    /// GETs the standalone stream.
    #[track_caller]
    pub fn get(&self) -> RequestBuilder {
        self.request("GET").header("Accept", "text/event-stream")
    }

    /// GETs the stream that this event is of, after it.
    #[track_caller]
    pub fn resume(&self, last_event_id: &str) -> RequestBuilder {
        self.get().header("Last-Event-ID", last_event_id)
    }

    /// DELETEs the session.
    #[track_caller]
    pub fn delete(&self) -> RequestBuilder {
        self.request("DELETE")
    }

    /// A request with nothing but `Host` and the headers of the session.
    #[track_caller]
    pub fn request(&self, method: &str) -> RequestBuilder {
        let mut headers = Headers::new();
        headers.push("Host", self.address.to_string());
        if let Some(session) = &self.session {
            headers.push("Mcp-Session-Id", session);
        }
        if let Some(revision) = &self.revision {
            headers.push("MCP-Protocol-Version", revision);
        }
        if let Some(authorization) = &self.authorization {
            headers.push("Authorization", authorization);
        }
        RequestBuilder {
            address: self.address,
            line: format!("{method} {}", self.path),
            headers,
            body: None,
            receive_buffer: None,
            connection: None,
            at: Location::caller(),
        }
    }

    /// Connects, to send bytes by hand.
    ///
    /// # Panics
    /// As [`Connection::open`].
    #[track_caller]
    pub fn connect(&self) -> impl Future<Output = Connection> + Send + use<> {
        Connection::open(self.address)
    }
}

/// A request that is sent by awaiting it; the outcome is the head of the response.
///
/// Awaiting panics if there is no response within [`DEADLINE`](crate::DEADLINE).
#[derive(Debug)]
#[must_use = "a request is sent by awaiting it"]
pub struct RequestBuilder {
    address: SocketAddr,
    line: String,
    headers: Headers,
    body: Option<Bytes>,
    receive_buffer: Option<u32>,
    connection: Option<Connection>,
    at: &'static Location<'static>,
}

impl RequestBuilder {
    /// One header field more.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push(name, value);
        self
    }

    /// Without any field of this name.
    pub fn without(mut self, name: &str) -> Self {
        self.headers.remove(name);
        self
    }

    /// This field instead of any of its name.
    pub fn replace(mut self, name: &str, value: &str) -> Self {
        self.headers.set(name, value);
        self
    }

    /// This body, with its length.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// A receive buffer of so many bytes (the kernel doubles it) for the new connection.
    pub fn receive_buffer(mut self, bytes: u32) -> Self {
        self.receive_buffer = Some(bytes);
        self
    }

    /// On this connection, instead of a new one.
    pub fn on(mut self, connection: Connection) -> Self {
        self.connection = Some(connection);
        self
    }

    /// The request as on the wire.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut head = format!("{} HTTP/1.1\r\n{}", self.line, self.headers);
        if let Some(body) = &self.body
            && !self.headers.contains("Content-Length")
            && !self.headers.contains("Transfer-Encoding")
        {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes.into()
    }

    /// Sends it and does not wait for an answer.
    ///
    /// # Panics
    /// If it cannot be sent within [`DEADLINE`](crate::DEADLINE).
    pub async fn send(mut self) -> Connection {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open_with(self.address, self.receive_buffer).await,
        };
        connection.send(self.to_bytes()).await;
        connection
    }
}

impl IntoFuture for RequestBuilder {
    type Output = Response;
    type IntoFuture = Pin<Box<dyn Future<Output = Response> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let (at, line) = (self.at, self.line.clone());
            let connection = self.send().await;
            let response = within(
                at,
                || format!("a response to {line}"),
                Response::read(connection),
            );
            response
                .await
                .unwrap_or_else(|error| panic!("no response to {line} at {at}: {error}"))
        })
    }
}
