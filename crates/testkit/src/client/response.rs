//! A response, read as far as a test wants to.

use std::collections::VecDeque;
use std::panic::Location;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use serde_json::Value;

use crate::client::connection::Connection;
use crate::deadline::within;
use crate::event::{Event, EventReader};
use crate::wire::{BodyDecoder, Decoded, Headers, MAX_HEADERS};

/// A response whose body is read when, and only as far as, a test asks for it.
///
/// Dropping it closes the connection; so does a client that leaves.
#[derive(Debug)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Header fields, in order.
    pub headers: Headers,
    connection: Connection,
    body: BodyDecoder,
    events: EventReader,
    ready: VecDeque<Event>,
    body_bytes: u64,
}

/// A part of a body as it came out of its framing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The bytes: a chunk, or what was there of it.
    pub data: Bytes,
    /// Whether a chunk ends with them.
    pub ends_chunk: bool,
    /// When they were read.
    pub at: Instant,
}

/// A body that did not come to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cutoff {
    /// What the socket or the framing said.
    pub reason: String,
    /// Bytes of the body until then.
    pub bytes: u64,
}

impl Response {
    pub(crate) async fn read(mut connection: Connection) -> Result<Self, String> {
        loop {
            let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
            let mut head = httparse::Response::new(&mut fields);
            match head
                .parse(&connection.input)
                .map_err(|error| error.to_string())?
            {
                httparse::Status::Complete(length) => {
                    let status = head.code.unwrap_or_default();
                    let headers = Headers::from_parsed(head.headers);
                    let _ = connection.input.split_to(length);
                    if (100..200).contains(&status) {
                        continue;
                    }
                    return Ok(Self {
                        body: BodyDecoder::of_response(&headers, status, false)?,
                        status,
                        headers,
                        connection,
                        events: EventReader::new(),
                        ready: VecDeque::new(),
                        body_bytes: 0,
                    });
                }
                httparse::Status::Partial => match connection.read().await {
                    Ok(0) => return Err(format!("the end after {:?}", connection.input)),
                    Ok(_) => {}
                    Err(error) => return Err(format!("{error} after {:?}", connection.input)),
                },
            }
        }
    }

    /// The first header of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }

    /// Whether it is an event stream.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        self.header("Content-Type")
            .is_some_and(|value| value.starts_with("text/event-stream"))
    }

    /// The next part of the body; `None` at its proper end.
    ///
    /// # Errors
    /// [`Cutoff`], if the connection ended before the body.
    ///
    /// # Panics
    /// If nothing comes within [`DEADLINE`](crate::DEADLINE).
    #[track_caller]
    pub fn piece(&mut self) -> impl Future<Output = Result<Option<Piece>, Cutoff>> + Send {
        let at = Location::caller();
        async move {
            let read = self.body_bytes;
            within(
                at,
                || format!("more of a body after {read} bytes"),
                self.next_piece(),
            )
            .await
        }
    }

    async fn next_piece(&mut self) -> Result<Option<Piece>, Cutoff> {
        loop {
            let decoded = self.body.decode(&mut self.connection.input);
            match decoded.map_err(|reason| self.cutoff(reason))? {
                Decoded::Data(data, ends_chunk) => {
                    self.body_bytes += data.len() as u64;
                    return Ok(Some(Piece {
                        data,
                        ends_chunk,
                        at: Instant::now(),
                    }));
                }
                Decoded::End => return Ok(None),
                Decoded::More => match self.connection.read().await {
                    Ok(0) if self.body.may_end_here() => self.body = BodyDecoder::Done,
                    Ok(0) => return Err(self.cutoff("the connection was closed")),
                    Ok(_) => {}
                    Err(error) => return Err(self.cutoff(error.to_string())),
                },
            }
        }
    }

    fn cutoff(&self, reason: impl Into<String>) -> Cutoff {
        Cutoff {
            reason: reason.into(),
            bytes: self.body_bytes,
        }
    }

    /// The next block of the event stream, comments too; `None` at the proper end of the body.
    ///
    /// # Errors
    /// [`Cutoff`], if the connection ended before the body.
    ///
    /// # Panics
    /// If nothing comes within [`DEADLINE`](crate::DEADLINE).
    #[track_caller]
    pub fn try_next_block(&mut self) -> impl Future<Output = Result<Option<Event>, Cutoff>> + Send {
        let at = Location::caller();
        async move {
            let (status, read) = (self.status, self.body_bytes);
            let what = || format!("an event ({status}, {read} bytes of body so far)");
            within(at, what, self.next_block(true)).await
        }
    }

    /// The next event that is no mere comment; `None` at the proper end of the body.
    ///
    /// # Panics
    /// If the body is cut, or nothing comes within [`DEADLINE`](crate::DEADLINE).
    #[track_caller]
    pub fn next_event(&mut self) -> impl Future<Output = Option<Event>> + Send {
        let at = Location::caller();
        async move {
            let (status, read) = (self.status, self.body_bytes);
            let what = || format!("an event ({status}, {read} bytes of body so far)");
            let event = within(at, what, self.next_block(false)).await;
            event.unwrap_or_else(|cutoff| panic!("no event at {at}, but {cutoff:?}"))
        }
    }

    async fn next_block(&mut self, comments: bool) -> Result<Option<Event>, Cutoff> {
        loop {
            while let Some(event) = self.ready.pop_front() {
                if comments || !event.is_comment() {
                    return Ok(Some(event));
                }
            }
            let Some(piece) = self.next_piece().await? else {
                return Ok(None);
            };
            self.events.push(&piece.data);
            self.ready
                .extend(std::iter::from_fn(|| self.events.next_event()));
        }
    }

    /// The next message of the event stream: priming events and comments are passed over.
    ///
    /// # Panics
    /// If there is none: the stream ended or was cut, or nothing came within
    /// [`DEADLINE`](crate::DEADLINE).
    #[track_caller]
    pub fn next_message(&mut self) -> impl Future<Output = Value> + Send {
        let at = Location::caller();
        async move {
            let (status, read) = (self.status, self.body_bytes);
            let what = || format!("a message ({status}, {read} bytes of body so far)");
            let message = async {
                loop {
                    match self.next_block(false).await {
                        Ok(Some(event)) if event.has_message() => return event.json(),
                        Ok(Some(_)) => {}
                        other => panic!("no message at {at}, but {other:?}"),
                    }
                }
            };
            within(at, what, message).await
        }
    }

    /// The events until the body ends, properly or not; comments are left out.
    ///
    /// # Panics
    /// If it does not end within [`DEADLINE`](crate::DEADLINE).
    #[track_caller]
    pub fn events_to_end(
        &mut self,
    ) -> impl Future<Output = (Vec<Event>, Result<(), Cutoff>)> + Send {
        let at = Location::caller();
        async move {
            let mut events = Vec::new();
            let all = async {
                loop {
                    match self.next_block(false).await {
                        Ok(Some(event)) => events.push(event),
                        Ok(None) => return Ok(()),
                        Err(cutoff) => return Err(cutoff),
                    }
                }
            };
            let end = within(at, || "the end of an event stream".to_owned(), all).await;
            (events, end)
        }
    }

    /// Whether the event stream stands within an event: some of its bytes have come.
    #[must_use]
    pub fn is_inside_event(&self) -> bool {
        self.events.is_inside_event()
    }

    /// The rest of the body, as far as it comes, and how it ended.
    ///
    /// # Panics
    /// If it does not end within [`DEADLINE`](crate::DEADLINE).
    #[track_caller]
    pub fn try_read_to_end(&mut self) -> impl Future<Output = (Bytes, Result<(), Cutoff>)> + Send {
        let at = Location::caller();
        async move {
            let mut body = BytesMut::new();
            let all = async {
                loop {
                    match self.next_piece().await {
                        Ok(Some(piece)) => body.extend_from_slice(&piece.data),
                        Ok(None) => return Ok(()),
                        Err(cutoff) => return Err(cutoff),
                    }
                }
            };
            let end = within(at, || "the end of a body".to_owned(), all).await;
            (body.freeze(), end)
        }
    }

    /// The rest of the body.
    ///
    /// # Panics
    /// If it is cut, or does not end within [`DEADLINE`](crate::DEADLINE).
    #[track_caller]
    pub fn read_to_end(&mut self) -> impl Future<Output = Bytes> + Send {
        let at = Location::caller();
        let body = self.try_read_to_end();
        async move {
            let (body, end) = body.await;
            match end {
                Ok(()) => body,
                Err(cutoff) => panic!("no whole body at {at}, but {body:?} and {cutoff:?}"),
            }
        }
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// As [`Response::read_to_end`], and if it is not JSON.
    #[track_caller]
    pub fn json(&mut self) -> impl Future<Output = Value> + Send {
        let at = Location::caller();
        let body = self.read_to_end();
        async move {
            let body = body.await;
            serde_json::from_slice(&body)
                .unwrap_or_else(|error| panic!("no JSON at {at} ({error}), but {body:?}"))
        }
    }

    /// The JSON-RPC answer, whether it comes as JSON or as the last message of an event stream.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    pub fn answer(&mut self) -> impl Future<Output = Value> + Send {
        let at = Location::caller();
        async move {
            if !self.is_stream() {
                return self.json().await;
            }
            let (events, end) = self.events_to_end().await;
            let last = events.iter().rev().find(|event| event.has_message());
            match last {
                Some(event) => event.json(),
                None => panic!("no message at {at} in a stream that ended {end:?}"),
            }
        }
    }

    /// The connection, for another request. Only at the end of the body.
    ///
    /// # Panics
    /// If the body has not been read to its end.
    #[must_use]
    pub fn into_connection(self) -> Connection {
        assert!(
            matches!(self.body, BodyDecoder::Done),
            "the body has not been read to its end"
        );
        self.connection
    }

    /// The connection as it is, in the middle of the body: to close, reset or half-close it.
    #[must_use]
    pub fn into_raw(self) -> Connection {
        self.connection
    }

    /// Leaves: closes the connection.
    pub fn close(self) {
        drop(self);
    }
}
