//! HTTP/1.1 framing by hand: just what the benchmark's own peers and the proxies between them say.

use std::io;

use anyhow::{Context, Result, bail};
use bytes::{Buf, BytesMut};
use memchr::memmem;
use socket2::{SockFilter, SockRef};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One connection and what has been read from it but not used.
pub(crate) struct Wire {
    socket: TcpStream,
    input: BytesMut,
}

/// The start line and those headers that matter here.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Head {
    pub(crate) start: Start,
    pub(crate) body: Body,
    pub(crate) session: Option<String>,
    pub(crate) event_stream: bool,
    /// `MCP-Protocol-Version` names the stateless revision.
    pub(crate) stateless: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Start {
    #[default]
    Unknown,
    Get,
    Stats,
    Post,
    Delete,
    Status(u16),
}

/// What is still to come of a body.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Body {
    Length(u64),
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailer,
}

impl Wire {
    pub(crate) fn new(socket: TcpStream) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        Ok(Self {
            socket,
            input: BytesMut::new(),
        })
    }

    /// Lets the kernel drop whatever comes for this socket before TCP sees it: no data, no acknowledgement, no end.
    /// To its peer it is as if the cable were cut.
    pub(crate) fn cut(&self) -> io::Result<()> {
        // `BPF_RET`: keep this many bytes of each packet.
        let drop_all = SockFilter::new(0x06, 0, 0, 0);
        SockRef::from(&self.socket).attach_filter(&[drop_all])
    }

    /// Waits for more input; 0 at the end.
    pub(crate) async fn fill(&mut self) -> io::Result<usize> {
        self.input.reserve(READ);
        self.socket.read_buf(&mut self.input).await
    }

    /// Drops what has been read and not used.
    pub(crate) fn forget(&mut self) {
        self.input.clear();
    }

    /// The next head; `None` if the peer has closed between messages.
    pub(crate) async fn head(&mut self) -> Result<Option<Head>> {
        loop {
            if let Some(end) = memmem::find(&self.input, b"\r\n\r\n") {
                let head = Head::parse(&self.input[..end])?;
                self.input.advance(end + 4);
                return Ok(Some(head));
            }
            if self.input.len() > MAX_HEAD {
                bail!("a head of more than {MAX_HEAD} bytes");
            }
            if self.fill().await? == 0 {
                if self.input.is_empty() {
                    return Ok(None);
                }
                bail!("the connection ended within a head");
            }
        }
    }

    /// Appends the whole of `body` to `output`.
    pub(crate) async fn whole(&mut self, mut body: Body, output: &mut Vec<u8>) -> Result<()> {
        while self.some(&mut body, output).await? {}
        Ok(())
    }

    /// Appends what is there of `body`, waiting for at least something. False once it is complete.
    pub(crate) async fn some(&mut self, body: &mut Body, output: &mut Vec<u8>) -> Result<bool> {
        let before = output.len();
        loop {
            if body.take(&mut self.input, output)? {
                return Ok(false);
            }
            if output.len() > before {
                return Ok(true);
            }
            if self.fill().await? == 0 {
                bail!("the connection ended within a body");
            }
        }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes).await
    }

    /// Sends a part of `bytes` and says how much the kernel took.
    pub(crate) async fn send_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write(bytes).await
    }
}

impl Head {
    fn parse(text: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(text)?;
        let (first, headers) = text.split_once("\r\n").unwrap_or((text, ""));
        let mut head = Self {
            start: Start::parse(first)?,
            ..Self::default()
        };
        for line in headers.split("\r\n") {
            let Some((name, value)) = line.split_once(':') else {
                continue;
            };
            head.header(name, value.trim())?;
        }
        Ok(head)
    }

    fn header(&mut self, name: &str, value: &str) -> Result<()> {
        if name.eq_ignore_ascii_case("content-length") {
            self.body = Body::Length(value.parse()?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            self.body = Body::ChunkSize;
        } else if name.eq_ignore_ascii_case("mcp-session-id") {
            self.session = Some(value.to_owned());
        } else if name.eq_ignore_ascii_case("content-type") {
            self.event_stream = value.starts_with("text/event-stream");
        } else if name.eq_ignore_ascii_case("mcp-protocol-version") {
            self.stateless = value == crate::message::STATELESS;
        }
        Ok(())
    }

    /// The status of a response; 0 for a request.
    pub(crate) fn status(&self) -> u16 {
        match self.start {
            Start::Status(status) => status,
            _ => 0,
        }
    }
}

impl Start {
    fn parse(line: &str) -> Result<Self> {
        let mut words = line.split(' ');
        let first = words.next().unwrap_or_default();
        let second = words.next().context("a start line of one word")?;
        Ok(match first {
            "GET" if second.starts_with("/_stats") => Self::Stats,
            "GET" => Self::Get,
            "POST" => Self::Post,
            "DELETE" => Self::Delete,
            _ if first.starts_with("HTTP/1.") => Self::Status(second.parse()?),
            _ => Self::Unknown,
        })
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::Length(0)
    }
}

impl Body {
    /// Moves what has arrived from `input` to `output`; true once the body is complete.
    fn take(&mut self, input: &mut BytesMut, output: &mut Vec<u8>) -> Result<bool> {
        loop {
            match self {
                Self::Length(left) => {
                    *left -= data(*left, input, output);
                    return Ok(*left == 0);
                }
                Self::Chunk(left) => {
                    *left -= data(*left, input, output);
                    if *left > 0 {
                        return Ok(false);
                    }
                    *self = Self::ChunkEnd;
                }
                Self::ChunkSize | Self::ChunkEnd | Self::Trailer => {
                    let Some(end) = memchr::memchr(b'\n', input) else {
                        return Ok(false);
                    };
                    let line = input[..end].trim_ascii_end();
                    let next = self.after_line(line)?;
                    input.advance(end + 1);
                    let Some(next) = next else { return Ok(true) };
                    *self = next;
                }
            }
        }
    }

    fn after_line(self, line: &[u8]) -> Result<Option<Self>> {
        Ok(match self {
            Self::ChunkSize => match hex(line).context("no chunk size")? {
                0 => Some(Self::Trailer),
                size => Some(Self::Chunk(size)),
            },
            Self::Trailer if line.is_empty() => None,
            Self::Trailer => Some(Self::Trailer),
            _ if line.is_empty() => Some(Self::ChunkSize),
            _ => bail!("a chunk is longer than its size"),
        })
    }
}

fn data(left: u64, input: &mut BytesMut, output: &mut Vec<u8>) -> u64 {
    let count = left.min(input.len() as u64);
    output.extend_from_slice(&input[..count as usize]);
    input.advance(count as usize);
    count
}

fn hex(line: &[u8]) -> Option<u64> {
    let digits = line.split(|byte| *byte == b';').next()?.trim_ascii();
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

const READ: usize = 64 * 1024;
const MAX_HEAD: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunked_body_is_the_same_in_any_cut() {
        let wire = b"5\r\nhello\r\nA;x=1\r\n, chunked \r\n6\r\nworld!\r\n0\r\nT: 1\r\n\r\nnext";
        for step in 1..wire.len() {
            let (mut body, mut input, mut output) = (Body::ChunkSize, BytesMut::new(), Vec::new());
            let mut done = false;
            for piece in wire.chunks(step) {
                input.extend_from_slice(piece);
                done = done || body.take(&mut input, &mut output).unwrap();
            }
            assert!(done);
            assert_eq!(output, b"hello, chunked world!");
            assert_eq!(input, b"next"[..]);
        }
    }

    #[test]
    fn heads_of_both_kinds() {
        let head = Head::parse(b"POST /mcp HTTP/1.1\r\nMcp-Session-Id: a\r\ncontent-length: 7");
        let head = head.unwrap();
        assert_eq!((head.start, head.body), (Start::Post, Body::Length(7)));
        assert_eq!(head.session.as_deref(), Some("a"));
        let text =
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; x\r\nTransfer-Encoding: chunked";
        let head = Head::parse(text).unwrap();
        assert_eq!(
            (head.status(), head.body, head.event_stream),
            (200, Body::ChunkSize, true)
        );
    }
}
