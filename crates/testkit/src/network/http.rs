//! HTTP/1.1 over any stream, for peers of both sides. It panics nowhere and waits without a deadline of its own:
//! whoever uses it decides how long.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::wire::{BodyDecoder, Decoded, Headers, MAX_HEADERS};

/// One connection. Its reading methods lose nothing when they are dropped half-way.
#[derive(Debug)]
pub struct Http<S> {
    stream: S,
    input: BytesMut,
    body: BodyDecoder,
}

/// A request, read whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// `POST`, `GET`, ...
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Header fields.
    pub headers: Headers,
    /// Body.
    pub body: Bytes,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Http<S> {
    /// A connection on which nothing has been said.
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
            body: BodyDecoder::Done,
        }
    }

    /// Whether a whole response has been read, so that another request may follow.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self.body, BodyDecoder::Done) && self.input.is_empty()
    }

    /// Sends a request.
    ///
    /// # Errors
    /// What the stream says.
    pub async fn send(&mut self, request: &HttpRequest) -> io::Result<()> {
        let HttpRequest {
            method,
            target,
            headers,
            body,
        } = request;
        let length = body.len();
        let mut bytes = format!("{method} {target} HTTP/1.1\r\n{headers}").into_bytes();
        if !body.is_empty() {
            bytes.extend_from_slice(format!("Content-Length: {length}\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body);
        self.stream.write_all(&bytes).await
    }

    /// The head of the response to a request that was sent: status and header fields.
    ///
    /// # Errors
    /// What the stream says; `UnexpectedEof` if it ends before, `InvalidData` if it is no head.
    pub async fn response(&mut self) -> io::Result<(u16, Headers)> {
        loop {
            let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
            let mut head = httparse::Response::new(&mut fields);
            if let httparse::Status::Complete(length) = head.parse(&self.input).map_err(invalid)? {
                let status = head.code.unwrap_or_default();
                let headers = Headers::from_parsed(head.headers);
                let _ = self.input.split_to(length);
                self.body = BodyDecoder::of_response(&headers, status, false).map_err(invalid)?;
                return Ok((status, headers));
            }
            self.more().await?;
        }
    }

    /// The next bytes of the response's body; `None`: it is whole.
    ///
    /// # Errors
    /// What the stream says; `UnexpectedEof` if the body is cut off.
    pub async fn body(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            match self.body.decode(&mut self.input).map_err(invalid)? {
                Decoded::Data(data, _) if data.is_empty() => {}
                Decoded::Data(data, _) => return Ok(Some(data)),
                Decoded::End => return Ok(None),
                Decoded::More => {
                    if self.read().await? == 0 {
                        return match self.body.may_end_here() {
                            true => Ok(None),
                            false => Err(io::ErrorKind::UnexpectedEof.into()),
                        };
                    }
                }
            }
        }
    }

    /// The next request; `None`: the connection was closed between two.
    ///
    /// # Errors
    /// What the stream says; `UnexpectedEof` in the middle of one, `InvalidData` if it is none.
    pub async fn request(&mut self) -> io::Result<Option<HttpRequest>> {
        let (method, target, headers) = loop {
            let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
            let mut head = httparse::Request::new(&mut fields);
            if let httparse::Status::Complete(length) = head.parse(&self.input).map_err(invalid)? {
                let method = head.method.unwrap_or_default().to_owned();
                let target = head.path.unwrap_or_default().to_owned();
                let headers = Headers::from_parsed(head.headers);
                let _ = self.input.split_to(length);
                break (method, target, headers);
            }
            let begun = !self.input.is_empty();
            match self.read().await? {
                0 if begun => return Err(io::ErrorKind::UnexpectedEof.into()),
                0 => return Ok(None),
                _ => {}
            }
        };
        self.body = BodyDecoder::of_request(&headers).map_err(invalid)?;
        let mut body = BytesMut::new();
        while let Some(data) = self.body().await? {
            body.extend_from_slice(&data);
        }
        Ok(Some(HttpRequest {
            method,
            target,
            headers,
            body: body.freeze(),
        }))
    }

    /// Answers a request with a whole body.
    ///
    /// # Errors
    /// What the stream says.
    pub async fn respond(&mut self, status: u16, headers: &Headers, body: &str) -> io::Result<()> {
        let length = body.len();
        let head = format!("HTTP/1.1 {status} Status\r\n{headers}Content-Length: {length}\r\n\r\n");
        self.stream.write_all((head + body).as_bytes()).await
    }

    /// Begins an answer with a body in pieces.
    ///
    /// # Errors
    /// What the stream says.
    pub async fn begin(&mut self, status: u16, headers: &Headers) -> io::Result<()> {
        let head =
            format!("HTTP/1.1 {status} Status\r\n{headers}Transfer-Encoding: chunked\r\n\r\n");
        self.stream.write_all(head.as_bytes()).await
    }

    /// Writes a piece of the body; an empty one ends it.
    ///
    /// # Errors
    /// What the stream says.
    pub async fn piece(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut piece = format!("{:x}\r\n", bytes.len()).into_bytes();
        piece.extend_from_slice(bytes);
        piece.extend_from_slice(b"\r\n");
        self.stream.write_all(&piece).await
    }

    /// Until the peer has closed or reset the connection. What it sends before is kept.
    pub async fn left(&mut self) {
        while matches!(self.read().await, Ok(count) if count > 0) {}
    }

    async fn more(&mut self) -> io::Result<()> {
        match self.read().await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    async fn read(&mut self) -> io::Result<usize> {
        self.input.reserve(4 << 10);
        self.stream.read_buf(&mut self.input).await
    }
}

fn invalid(error: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}
