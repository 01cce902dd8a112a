//! One MCP client over HTTP+SSE: a stream that carries every answer, and a connection for what it says.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use memchr::memmem;
use tokio::net::TcpStream;

use super::client::{check_result, next_number};
use crate::message::{self, Call, put};
use crate::wire::{Body, Wire};

pub(crate) struct SseClient {
    stream: Wire,
    body: Body,
    /// What has come on the stream and is not a whole event yet.
    unread: Vec<u8>,
    sender: Wire,
    head: String,
    number: u64,
    sequence: u64,
    message: Vec<u8>,
    request: Vec<u8>,
}

impl SseClient {
    /// Opens the stream and a second connection, and greets, so that calls can follow.
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let mut stream = Wire::new(TcpStream::connect(address).await?)?;
        let request = format!(
            "GET /sse HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\n\
             Cache-Control: no-store\r\n\r\n"
        );
        stream.send(request.as_bytes()).await?;
        let head = stream.head().await?.context("closed before an answer")?;
        ensure!(
            head.status() == 200 && head.event_stream,
            "the stream got {}",
            head.status()
        );
        let mut client = Self {
            stream,
            body: head.body,
            unread: Vec::new(),
            sender: Wire::new(TcpStream::connect(address).await?)?,
            head: String::new(),
            number: next_number(),
            sequence: 0,
            message: Vec::new(),
            request: Vec::new(),
        };
        let endpoint = client.endpoint().await?;
        client.head = format!(
            "POST {endpoint} HTTP/1.1\r\nHost: {address}\r\nAccept: application/json, \
             text/event-stream\r\nContent-Type: application/json\r\n"
        );
        client.greet().await?;
        Ok(client)
    }

    /// One call: its POST, what that is answered with, and its event on the stream.
    pub(crate) async fn call(&mut self, call: &Call) -> Result<()> {
        self.sequence += 1;
        let (sequence, bytes) = (self.sequence, call.bytes);
        let call = Call {
            client: self.number,
            sequence,
            ..*call
        };
        self.message.clear();
        message::request(&mut self.message, &call, false);
        self.post().await?;
        self.event(|event| check_result(event, sequence, bytes))
            .await
    }

    /// Reads and drops what comes on the stream until the peer closes it.
    pub(crate) async fn drain(&mut self) -> Result<()> {
        while self.stream.some(&mut self.body, &mut self.unread).await? {
            self.unread.clear();
        }
        Ok(())
    }

    /// Where to send to, which is the first that the stream says.
    async fn endpoint(&mut self) -> Result<String> {
        self.event(|event| {
            let event = std::str::from_utf8(event)?;
            ensure!(
                event.lines().any(|line| line == "event: endpoint"),
                "the first event was {event}"
            );
            let data = event.lines().find_map(|line| line.strip_prefix("data: "));
            Ok(data.context("an endpoint without address")?.to_owned())
        })
        .await
    }

    async fn greet(&mut self) -> Result<()> {
        self.message.extend(message::hello(false).into_bytes());
        self.post().await?;
        self.event(|event| {
            let answered = memmem::find(event, br#""result""#).is_some();
            ensure!(
                answered,
                "the greeting was refused: {}",
                event.escape_ascii()
            );
            Ok(())
        })
        .await?;
        self.message.clear();
        self.message
            .extend_from_slice(message::INITIALIZED.as_bytes());
        self.post().await
    }

    /// Sends the message and reads the status that it is answered with.
    async fn post(&mut self) -> Result<()> {
        self.request.clear();
        let (head, length) = (&self.head, self.message.len());
        put(
            &mut self.request,
            format_args!("{head}Content-Length: {length}\r\n\r\n"),
        );
        self.request.extend_from_slice(&self.message);
        self.sender.send(&self.request).await?;
        let head = self.sender.head().await?;
        let head = head.context("closed before an answer")?;
        self.request.clear();
        self.sender.whole(head.body, &mut self.request).await?;
        ensure!(head.status() == 202, "a message got {}", head.status());
        Ok(())
    }

    /// Waits for the next event that is no comment, and reads it.
    async fn event<T>(&mut self, read: impl FnOnce(&[u8]) -> Result<T>) -> Result<T> {
        loop {
            while let Some(end) = memmem::find(&self.unread, b"\n\n") {
                if !self.unread.starts_with(b":") {
                    let found = read(&self.unread[..end]);
                    self.unread.drain(..end + 2);
                    return found;
                }
                self.unread.drain(..end + 2);
            }
            if !self.stream.some(&mut self.body, &mut self.unread).await? {
                bail!("the stream ended");
            }
        }
    }
}
