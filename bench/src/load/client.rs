//! One MCP client on one connection, which checks every answer it gets.

pub(crate) mod resuming;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::{Context, Result, bail, ensure};
use memchr::memmem;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

use crate::clock;
use crate::histogram::Histogram;
use crate::message::{self, Call, SEQUENCE, number_after, put};
use crate::upstream::Counts;
use crate::wire::{Body, Head, Wire};

pub(crate) struct Client {
    wire: Wire,
    address: SocketAddr,
    headers: String,
    stateless: bool,
    identity: Identity,
    request: Vec<u8>,
    message: Vec<u8>,
    answer: Vec<u8>,
}

/// What a client takes along from one connection to the next.
pub(crate) struct Identity {
    session: Option<String>,
    number: u64,
    sequence: u64,
}

impl Client {
    /// Connects and greets, so that calls can follow.
    pub(crate) async fn open(address: SocketAddr, stateless: bool) -> Result<Self> {
        let socket = TcpStream::connect(address).await?;
        let mut client = Self::on(socket, address, stateless, Identity::new())?;
        client.greet().await?;
        Ok(client)
    }

    /// Connects in the session that it has elsewhere.
    pub(crate) async fn visit(address: SocketAddr, identity: Identity) -> Result<Self> {
        Self::over(TcpStream::connect(address).await?, address, identity)
    }

    /// The same, on a connection that there is.
    pub(crate) fn over(socket: TcpStream, address: SocketAddr, identity: Identity) -> Result<Self> {
        Self::on(socket, address, false, identity)
    }

    fn on(
        socket: TcpStream,
        address: SocketAddr,
        stateless: bool,
        identity: Identity,
    ) -> Result<Self> {
        Ok(Self {
            wire: Wire::new(socket)?,
            address,
            headers: headers(address, stateless, identity.session.as_deref()),
            stateless,
            identity,
            request: Vec::new(),
            message: Vec::new(),
            answer: Vec::new(),
        })
    }

    /// Gives the connection up, and not the session.
    pub(crate) fn leave(self) -> Identity {
        self.identity
    }

    /// Opens another session on the same connection, and leaves the last one as it is.
    pub(crate) async fn renew(&mut self) -> Result<()> {
        self.identity = Identity::new();
        self.headers = headers(self.address, self.stateless, None);
        self.greet().await
    }

    async fn greet(&mut self) -> Result<()> {
        let head = self.exchange(&message::hello(self.stateless)).await?;
        ensure!(
            head.status() == 200,
            "the greeting was answered with {}",
            head.status()
        );
        let answer = String::from_utf8_lossy(&self.answer);
        ensure!(
            answer.contains(r#""result""#),
            "the greeting was refused: {answer}"
        );
        if !self.stateless {
            let session = head.session.context("initialize gave no session")?;
            self.headers = headers(self.address, false, Some(&session));
            self.identity.session = Some(session);
            let head = self.exchange(message::INITIALIZED).await?;
            ensure!(
                head.status() == 202,
                "initialized was answered with {}",
                head.status()
            );
        }
        Ok(())
    }

    /// The status that a call is answered with; a result is checked.
    pub(crate) async fn ask(&mut self, call: &Call) -> Result<u16> {
        let head = self.call(call).await?;
        self.answer.clear();
        self.wire.whole(head.body, &mut self.answer).await?;
        if head.status() == 200 {
            check_result(&self.answer, self.identity.sequence, call.bytes)?;
        }
        Ok(head.status())
    }

    /// The tools of the server, whatever they are.
    pub(crate) async fn list(&mut self) -> Result<()> {
        let head = self.exchange(message::LIST).await?;
        ensure!(head.status() == 200, "a list got {}", head.status());
        let listed = memmem::find(&self.answer, br#""tools""#).is_some();
        ensure!(listed, "a list was {}", self.answer.escape_ascii());
        Ok(())
    }

    /// Ends the session.
    pub(crate) async fn end(&mut self) -> Result<()> {
        let request = format!("DELETE /mcp HTTP/1.1\r\n{}\r\n", self.headers);
        let head = self.send(&request).await?;
        let ended = matches!(head.status(), 200 | 202 | 204);
        ensure!(ended, "the end of a session got {}", head.status());
        Ok(())
    }

    /// One call with a JSON answer.
    pub(crate) async fn json(&mut self, call: &Call) -> Result<()> {
        let head = self.call(call).await?;
        ensure!(
            head.status() == 200 && !head.event_stream,
            "a call got {}",
            head.status()
        );
        self.answer.clear();
        self.wire.whole(head.body, &mut self.answer).await?;
        check_result(&self.answer, self.identity.sequence, call.bytes)
    }

    /// One call whose server asks for input, and which then waits for its retry.
    pub(crate) async fn parked(&mut self) -> Result<()> {
        let call = Call {
            asks: true,
            ..Call::default()
        };
        let head = self.call(&call).await?;
        self.answer.clear();
        self.wire.whole(head.body, &mut self.answer).await?;
        let answer = String::from_utf8_lossy(&self.answer);
        ensure!(
            head.status() == 200 && answer.contains("\"input_required\""),
            "a call that is to be parked got {}: {answer}",
            head.status()
        );
        Ok(())
    }

    /// The body of the last answer.
    #[cfg(test)]
    pub(crate) fn answer(&self) -> &[u8] {
        &self.answer
    }

    /// One call answered by a stream. `each` is told the number of new events after every read,
    /// and says whether their ages (nanoseconds since their making) are to be recorded.
    pub(crate) async fn stream(
        &mut self,
        call: &Call,
        mut each: impl FnMut(u64) -> bool,
        ages: &mut Histogram,
    ) -> Result<()> {
        let mut body = self.begin_stream(call).await?;
        let mut reading = Reading {
            sequence: self.identity.sequence,
            bytes: call.bytes,
            ..Reading::default()
        };
        self.answer.clear();
        let mut more = true;
        let mut timed = false;
        while more {
            more = self.wire.some(&mut body, &mut self.answer).await?;
            let before = reading.events;
            let used = reading.take(&self.answer, timed.then_some(&mut *ages))?;
            self.answer.drain(..used);
            timed = each(reading.events - before);
        }
        ensure!(self.answer.is_empty(), "a stream ended within an event");
        ensure!(
            reading.finished && reading.events == call.events,
            "a stream ended early"
        );
        Ok(())
    }

    /// Makes a call that a stream answers, and reads nothing of that.
    async fn begin_stream(&mut self, call: &Call) -> Result<Body> {
        let head = self.call(call).await?;
        ensure!(
            head.status() == 200 && head.event_stream,
            "a stream got {}",
            head.status()
        );
        Ok(head.body)
    }

    /// Reads a stream until its first event is there.
    async fn first_event(&mut self, mut body: Body) -> Result<()> {
        let (mut text, mut more) = (Vec::new(), true);
        while first_event_end(&text).is_none() {
            ensure!(more, "the stream ended at once");
            more = self.wire.some(&mut body, &mut text).await?;
        }
        Ok(())
    }

    /// Opens the listening stream and waits for its first event. What follows is unread.
    pub(crate) async fn listen(&mut self) -> Result<()> {
        let request = format!("GET /mcp HTTP/1.1\r\n{}\r\n", self.headers);
        self.wire.send(request.as_bytes()).await?;
        let head = self.wire.head().await?.context("closed before an answer")?;
        ensure!(
            head.status() == 200 && head.event_stream,
            "a GET got {}",
            head.status()
        );
        self.first_event(head.body).await?;
        self.request = Vec::new();
        self.message = Vec::new();
        self.answer = Vec::new();
        Ok(())
    }

    /// From now on nothing that its peer sends reaches this end, which says nothing of that either.
    pub(crate) fn cut(&self) -> Result<()> {
        Ok(self.wire.cut()?)
    }

    /// Reads and drops what comes until the peer closes.
    pub(crate) async fn drain(&mut self) -> Result<()> {
        while self.wire.fill().await? > 0 {
            self.wire.forget();
        }
        Ok(())
    }

    /// The head of the answer to one `tools/call`.
    async fn call(&mut self, call: &Call) -> Result<Head> {
        self.identity.sequence += 1;
        let call = Call {
            client: self.identity.number,
            sequence: self.identity.sequence,
            ..*call
        };
        self.message.clear();
        message::request(&mut self.message, &call, self.stateless);
        self.request.clear();
        let (headers, length) = (&self.headers, self.message.len());
        let method = if self.stateless {
            "Mcp-Method: tools/call\r\nMcp-Name: bench\r\n"
        } else {
            ""
        };
        put(
            &mut self.request,
            format_args!("{POST}{headers}{method}Content-Length: {length}\r\n\r\n"),
        );
        self.request.extend_from_slice(&self.message);
        self.wire.send(&self.request).await?;
        self.wire.head().await?.context("closed before an answer")
    }

    async fn exchange(&mut self, text: &str) -> Result<Head> {
        let (headers, length) = (&self.headers, text.len());
        let method = if self.stateless {
            "Mcp-Method: server/discover\r\n"
        } else {
            ""
        };
        let request = format!("{POST}{headers}{method}Content-Length: {length}\r\n\r\n{text}");
        self.send(&request).await
    }

    /// Sends a request and reads its answer.
    async fn send(&mut self, request: &str) -> Result<Head> {
        self.wire.send(request.as_bytes()).await?;
        let head = self.wire.head().await?.context("closed before an answer")?;
        self.answer.clear();
        self.wire.whole(head.body, &mut self.answer).await?;
        Ok(head)
    }
}

/// What has been seen of one stream.
#[derive(Default)]
struct Reading {
    sequence: u64,
    bytes: usize,
    events: u64,
    finished: bool,
}

impl Reading {
    /// Checks every whole event in `text` and says how many bytes those were.
    fn take(&mut self, text: &[u8], mut ages: Option<&mut Histogram>) -> Result<usize> {
        let now = ages.as_ref().map_or(0, |_| clock::now());
        let mut used = 0;
        for end in memmem::find_iter(text, b"\n\n") {
            let event = &text[used..end];
            used = end + 2;
            if let Some(progress) = number_after(event, b"\"progress\":") {
                ensure!(
                    progress == self.events,
                    "event {progress} came, not {}",
                    self.events
                );
                self.events += 1;
                if let (Some(ages), Some(made)) = (&mut ages, number_after(event, b"\"t=")) {
                    ages.record(now.saturating_sub(made));
                }
            } else if memmem::find(event, b"\"result\"").is_some() {
                check_result(event, self.sequence, self.bytes)?;
                self.finished = true;
            } else {
                // A proxy may keep a stream alive with comments, and begin it with an id.
                ensure!(
                    event.split(|byte| *byte == b'\n').all(is_silent),
                    "an event nobody sent: {}",
                    event[..event.len().min(300)].escape_ascii()
                );
            }
        }
        Ok(used)
    }
}

/// Whether a line of an event says nothing to whom reads messages.
fn is_silent(line: &[u8]) -> bool {
    let silent = [&b":"[..], b"id:", b"retry:", b"event:"];
    silent.iter().any(|start| line.starts_with(start)) || line.trim_ascii_end() == b"data:"
}

impl Identity {
    fn new() -> Self {
        Self {
            session: None,
            number: next_number(),
            sequence: 0,
        }
    }
}

/// The upstream's counters.
pub(crate) async fn counts(upstream: SocketAddr) -> Result<Counts> {
    stats(upstream).await
}

/// What a peer says at `/_stats`.
pub(crate) async fn stats<T: DeserializeOwned>(peer: SocketAddr) -> Result<T> {
    let mut wire = Wire::new(TcpStream::connect(peer).await?)?;
    wire.send(b"GET /_stats HTTP/1.1\r\nHost: bench\r\n\r\n")
        .await?;
    let head = wire.head().await?.context("no answer to /_stats")?;
    let mut body = Vec::new();
    wire.whole(head.body, &mut body).await?;
    Ok(serde_json::from_slice(&body)?)
}

/// What every request of a client carries.
fn headers(address: SocketAddr, stateless: bool, session: Option<&str>) -> String {
    let revision = if stateless {
        message::STATELESS
    } else {
        message::SESSIONS
    };
    let session = session.map_or_else(String::new, |id| format!("Mcp-Session-Id: {id}\r\n"));
    format!(
        "Host: {address}\r\nAccept: application/json, text/event-stream\r\n\
         MCP-Protocol-Version: {revision}\r\n{session}"
    )
}

/// The answer must carry the call's id, its sequence number and all of its bytes.
pub(crate) fn check_result(text: &[u8], sequence: u64, bytes: usize) -> Result<()> {
    let id = number_after(text, b"\"id\":");
    let found = number_after(text, SEQUENCE.as_bytes());
    if id != Some(sequence) || found != Some(sequence) || text.len() < bytes {
        let start = String::from_utf8_lossy(&text[..text.len().min(200)]);
        bail!("the answer to call {sequence} was {start}");
    }
    Ok(())
}

fn first_event_end(text: &[u8]) -> Option<usize> {
    let start = memmem::find(text, b"data:")?;
    memmem::find(&text[start..], b"\n\n")
}

const POST: &str = "POST /mcp HTTP/1.1\r\nContent-Type: application/json\r\n";

/// Every client of this process has a number of its own, so that none of its calls can be taken
/// for another's.
static CLIENTS: AtomicU64 = AtomicU64::new(1);

pub(crate) fn next_number() -> u64 {
    CLIENTS.fetch_add(1, Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(numbers: &[u64]) -> Vec<u8> {
        let mut text = Vec::new();
        numbers
            .iter()
            .for_each(|number| message::progress(&mut text, "1", *number, 9));
        text
    }

    #[test]
    fn a_gap_a_repeat_and_a_foreign_answer_are_seen() {
        let mut ages = Histogram::default();
        let mut reading = Reading {
            sequence: 1,
            bytes: 2,
            ..Reading::default()
        };
        let mut text = events(&[0, 1, 2]);
        let whole = text.len();
        text.extend_from_slice(b": comment\n\nevent: mess");
        assert_eq!(reading.take(&text, Some(&mut ages)).unwrap(), whole + 11);
        assert_eq!((reading.events, ages.total()), (3, 3));
        assert!(Reading::default().take(&events(&[0, 2]), None).is_err());
        assert!(Reading::default().take(&events(&[0, 0]), None).is_err());
        let other = b"data: {\"id\":2,\"result\":\"seq=2;\"}\n\n";
        assert!(reading.take(other, None).is_err());
        let right = b"data: {\"id\":1,\"result\":\"seq=1;\"}\n\n";
        reading.take(right, None).unwrap();
        assert!(reading.finished);
    }
}
