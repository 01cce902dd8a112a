//! One connection: requests read off it, scripts played on it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::net::TcpStream;

use crate::event::Event;
use crate::sockets;
use crate::upstream::blanks::Blanks;
use crate::upstream::pipes;
use crate::upstream::record::{Outcome, Request, Via};
use crate::upstream::script::{Cut, Framing, Script, Step};
use crate::upstream::shared::Shared;
use crate::upstream::stream::Next;
use crate::wire::{BodyDecoder, Decoded, Headers, MAX_HEADERS};

/// Serves one connection until either end closes it.
pub(crate) async fn serve(shared: Arc<Shared>, stream: TcpStream) {
    let connection = shared.connected();
    let mut input = BytesMut::new();
    if pipes::is_program(&stream, &mut input).await {
        pipes::serve_program(&shared, &stream, &mut input, connection).await;
        return closed(&shared, stream);
    }
    let served = loop {
        let request = match read_request(&shared, &stream, &mut input, connection).await {
            Ok(Some(request)) => request,
            Ok(None) => break Ok(()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                shared
                    .record
                    .send_modify(|record| record.malformed.push(error.to_string()));
                break write_plain(
                    &stream,
                    b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
                )
                .await;
            }
            Err(error) => break Err(error),
        };
        let number = request.number;
        let script = match request.via {
            Via::HttpSse => pipes::post(&shared, &request),
            _ => shared.script(&request),
        };
        let mut player = Player::new(&shared, &stream, &request);
        // Neither branch loses anything: bytes read while a response is written stay in `input`, and a
        // response whose peer has left is given up for good.
        let outcome = tokio::select! {
            outcome = player.play(script) => outcome,
            () = peer_left(&stream, &mut input) => Ok(Outcome::Cancelled),
            () = shared.cancelled(&request) => Ok(Outcome::Stopped),
        };
        let outcome = match outcome {
            Ok(Outcome::Stopped) => player.finish().await.map(|()| Outcome::Stopped),
            outcome => outcome,
        };
        let keep = player.keep && outcome.is_ok();
        shared.end_opened_by(number);
        let outcome = outcome.unwrap_or(Outcome::Cancelled);
        shared
            .record
            .send_modify(|record| record.end(number, outcome));
        if !matches!(outcome, Outcome::Complete | Outcome::Stopped) || !keep {
            break Ok(());
        }
    };
    drop(served);
    closed(&shared, stream);
}

fn closed(shared: &Shared, stream: TcpStream) {
    // The socket first: who waits for a connection to be gone wants it gone.
    drop(stream);
    shared
        .record
        .send_modify(|record| record.open_connections = record.open_connections.saturating_sub(1));
}

/// Until the peer has closed or reset the connection. What it sends before is kept.
async fn peer_left(stream: &TcpStream, input: &mut BytesMut) {
    loop {
        if !matches!(read(stream, input).await, Ok(count) if count > 0) {
            return;
        }
    }
}

pub(super) async fn read(stream: &TcpStream, input: &mut BytesMut) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        input.reserve(16 << 10);
        match stream.try_read_buf(input) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
    }
}

pub(super) async fn write_plain(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn invalid(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// Reads one request with its body; `None`: the connection was closed between two.
async fn read_request(
    shared: &Shared,
    stream: &TcpStream,
    input: &mut BytesMut,
    connection: usize,
) -> io::Result<Option<Arc<Request>>> {
    let (method, target, headers) = loop {
        let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut head = httparse::Request::new(&mut fields);
        match head
            .parse(input)
            .map_err(|error| invalid(error.to_string()))?
        {
            httparse::Status::Complete(length) => {
                if head.version != Some(1) {
                    return Err(invalid("not HTTP/1.1"));
                }
                let method = head.method.unwrap_or_default().to_owned();
                let target = head.path.unwrap_or_default().to_owned();
                let headers = Headers::from_parsed(head.headers);
                let _ = input.split_to(length);
                break (method, target, headers);
            }
            httparse::Status::Partial => {
                if read(stream, input).await? == 0 {
                    return if input.is_empty() {
                        Ok(None)
                    } else {
                        Err(invalid("half a head"))
                    };
                }
            }
        }
    };
    if headers.all("host").count() != 1 {
        return Err(invalid(format!("not one Host in {headers}")));
    }
    let mut decoder = BodyDecoder::of_request(&headers).map_err(invalid)?;
    let mut body = BytesMut::new();
    loop {
        match decoder.decode(input).map_err(invalid)? {
            Decoded::Data(data, _) => body.extend_from_slice(&data),
            Decoded::End => break,
            Decoded::More => {
                if read(stream, input).await? == 0 {
                    return Err(invalid(format!("half a body of {method} {target}")));
                }
            }
        }
    }
    let (line, body) = ((method, target), body.freeze());
    Ok(Some(shared.received(|number| {
        Request::new((number, connection), line, headers, body)
    })))
}

/// Plays the script of one response.
struct Player<'a> {
    shared: &'a Shared,
    stream: &'a TcpStream,
    request: &'a Request,
    blanks: Blanks,
    status: u16,
    headers: Headers,
    framing: Framing,
    head_sent: bool,
    /// Bytes went out by hand: no end is added.
    by_hand: bool,
    keep: bool,
}

impl<'a> Player<'a> {
    fn new(shared: &'a Shared, stream: &'a TcpStream, request: &'a Request) -> Self {
        let closes = request
            .headers
            .all("connection")
            .any(|value| value.eq_ignore_ascii_case("close"));
        Self {
            shared,
            stream,
            request,
            blanks: Blanks::of(request),
            status: 200,
            headers: Headers::new(),
            framing: Framing::Auto,
            head_sent: false,
            by_hand: false,
            keep: !closes,
        }
    }

    async fn play(&mut self, script: Script) -> io::Result<Outcome> {
        for step in script.steps {
            match step {
                Step::Status(status) => self.status = status,
                Step::Header(name, value) => self.headers.push(name, value),
                Step::NoHeader(name) => self.headers.remove(&name),
                Step::Framing(framing) => self.framing = framing,
                Step::Head => self.head(None).await?,
                Step::Body(bytes) => self.body(&bytes).await?,
                Step::Whole(text) => {
                    let text = self.blanks.fill_in(&text);
                    self.head(Some(text.len())).await?;
                    self.body(text.as_bytes()).await?;
                }
                Step::Event(event) => self.event(event).await?,
                Step::PartOfEvent(event, length) => {
                    let bytes = self.blanks.filled(event).to_bytes();
                    self.body(&bytes[..length.min(bytes.len())]).await?;
                }
                Step::RestOfEvent(event, length) => {
                    let bytes = self.blanks.filled(event).to_bytes();
                    self.body(&bytes[length.min(bytes.len())..]).await?;
                    self.event_taken();
                }
                Step::Fill(part, times) => self.fill(&part, times).await?,
                Step::Pieces(pieces) => {
                    for piece in pieces {
                        self.body(&piece).await?;
                        self.read_by_peer().await;
                    }
                }
                Step::Raw(bytes) => {
                    self.by_hand = true;
                    self.head_sent = true;
                    self.write(&bytes).await?;
                }
                Step::Stream(name, at_most) => {
                    if self.carry(&name, at_most).await? {
                        break;
                    }
                }
                Step::Wait(gate) => gate.pass().await,
                Step::WaitForAnswer(id) => {
                    let answer = self.shared.answer_posted(&id).await;
                    self.blanks.answered(&id, answer);
                }
                Step::ReadByPeer => self.read_by_peer().await,
                Step::Stall => std::future::pending().await,
                Step::Cut(cut) => {
                    if cut == Cut::Reset {
                        self.stream.set_zero_linger()?;
                    }
                    return Ok(Outcome::Cut);
                }
                Step::Close => self.keep = false,
            }
        }
        self.finish().await?;
        Ok(Outcome::Complete)
    }

    /// Writes the head, if it is not written yet.
    async fn head(&mut self, length: Option<usize>) -> io::Result<()> {
        if std::mem::replace(&mut self.head_sent, true) {
            return Ok(());
        }
        if let (Framing::Auto, Some(length)) = (self.framing, length) {
            self.framing = Framing::Length(length as u64);
        }
        match self.framing {
            Framing::Length(length) => self.headers.push("Content-Length", length.to_string()),
            Framing::UntilClose => self.keep = false,
            Framing::Auto | Framing::Chunked => {
                self.framing = Framing::Chunked;
                self.headers.push("Transfer-Encoding", "chunked");
            }
        }
        let is_stream = self
            .headers
            .get("Content-Type")
            .is_some_and(|value| value.to_ascii_lowercase().starts_with("text/event-stream"));
        let head = format!(
            "HTTP/1.1 {} {}\r\n{}\r\n",
            self.status, "Scripted", self.headers
        );
        let (number, status) = (self.request.number, self.status);
        self.shared.record.send_modify(|record| {
            record.responses[number].status = Some(status);
            record.responses[number].is_stream = is_stream;
            record.open_streams += usize::from(is_stream);
        });
        self.write(head.as_bytes()).await
    }

    /// Writes a part of the body.
    async fn body(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.head(None).await?;
        if bytes.is_empty() {
            return Ok(());
        }
        if self.framing == Framing::Chunked && !self.by_hand {
            let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
            chunk.extend_from_slice(bytes);
            chunk.extend_from_slice(b"\r\n");
            self.write(&chunk).await
        } else {
            self.write(bytes).await
        }
    }

    async fn fill(&mut self, part: &[u8], times: u64) -> io::Result<()> {
        for _ in 0..times {
            self.body(part).await?;
            self.event_taken();
        }
        Ok(())
    }

    async fn event(&mut self, event: Event) -> io::Result<()> {
        let bytes = self.blanks.filled(event).to_bytes();
        self.body(&bytes).await?;
        self.event_taken();
        Ok(())
    }

    fn event_taken(&self) {
        let number = self.request.number;
        self.shared
            .record
            .send_modify(|record| record.responses[number].events += 1);
    }

    /// Carries a named stream on; `true`: there is nothing more to come on this connection.
    async fn carry(&mut self, name: &str, at_most: Option<usize>) -> io::Result<bool> {
        let stream = self.shared.streams.get(name);
        let stream = stream
            .unwrap_or_else(|| panic!("a script names a stream {name} that is not published"));
        let id = (self.request.method == "POST").then_some(self.blanks.id());
        let named = stream.request(id, self.request.progress_token());
        self.blanks.rename(named);
        let cursor = stream.connect(self.request.last_event_id(), self.request.session());
        let Some(mut cursor) = cursor else {
            panic!("a script carries {name} on after an id it does not have");
        };
        let mut left = at_most.unwrap_or(usize::MAX);
        while left > 0 {
            match cursor.next().await {
                Next::Event(event) => {
                    self.event(event).await?;
                    cursor.sent();
                }
                Next::Finished | Next::Replaced => return Ok(true),
            }
            left -= 1;
        }
        Ok(false)
    }

    /// The end of the body, as its framing has it.
    async fn finish(&mut self) -> io::Result<()> {
        if self.by_hand {
            return Ok(());
        }
        if !self.head_sent && self.framing == Framing::Auto {
            self.framing = Framing::Length(0);
        }
        self.head(None).await?;
        match self.framing {
            Framing::Chunked => self.write(b"0\r\n\r\n").await,
            _ => Ok(()),
        }
    }

    async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        let number = self.request.number;
        while !bytes.is_empty() {
            match self.stream.try_write(bytes) {
                Ok(count) => {
                    bytes = &bytes[count..];
                    self.shared.record.send_modify(|record| {
                        record.responses[number].bytes += count as u64;
                        record.responses[number].blocked = false;
                    });
                    // A script without end must not keep the thread from its other tasks.
                    tokio::task::consume_budget().await;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.shared
                        .record
                        .send_modify(|record| record.responses[number].blocked = true);
                    self.stream.writable().await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn read_by_peer(&self) {
        let ends = (self.stream.local_addr(), self.stream.peer_addr());
        if let (Ok(local), Ok(remote)) = ends {
            read_by_peer(local, remote).await;
        }
    }
}

/// Until the program at the other end has read everything sent to it, or the connection is gone.
pub(crate) async fn read_by_peer(local: SocketAddr, remote: SocketAddr) {
    while sockets::in_flight(local, remote).is_some_and(|bytes| bytes > 0) {
        tokio::time::sleep(crate::deadline::LOOK).await;
    }
}
