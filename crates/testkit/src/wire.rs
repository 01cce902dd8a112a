//! HTTP/1.1 as both peers need it: header lists, and bodies by length, by chunks or until the end.
//!
//! Hand-kept on purpose. The framing of the gateway is proved against this one, so they share no code.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};

/// Header fields in the order they came; names keep their case and compare without it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// No fields.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The first value under this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut fields = self.0.iter();
        let field = fields.find(|(other, _)| other.eq_ignore_ascii_case(name))?;
        Some(&field.1)
    }

    /// Every value under this name, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Whether there is a field of this name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// All fields, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Adds a field at the end, whether or not there is one of its name.
    pub fn push(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.push((name.into(), value.into()));
    }

    /// Removes every field of this name.
    pub fn remove(&mut self, name: &str) {
        self.0
            .retain(|(other, _)| !other.eq_ignore_ascii_case(name));
    }

    /// Removes every field of this name and adds one.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let name = name.into();
        self.remove(&name);
        self.push(name, value);
    }

    pub(crate) fn from_parsed(parsed: &[httparse::Header<'_>]) -> Self {
        Self(
            parsed
                .iter()
                .map(|field| {
                    let value = String::from_utf8_lossy(field.value).into_owned();
                    (field.name.to_owned(), value)
                })
                .collect(),
        )
    }
}

/// The fields as on the wire, without the blank line at the end.
impl fmt::Display for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.0 {
            write!(f, "{name}: {value}\r\n")?;
        }
        Ok(())
    }
}

/// Takes a body apart, whatever its framing.
#[derive(Debug)]
pub(crate) enum BodyDecoder {
    Length(u64),
    UntilClose,
    Chunked(ChunkState),
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChunkState {
    Size,
    Data(u64),
    DataEnd,
    Trailers,
}

/// What [`BodyDecoder::decode`] found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decoded {
    /// Bytes of the body, and whether a chunk ends with them.
    Data(Bytes, bool),
    End,
    More,
}

impl BodyDecoder {
    /// The framing of a request body.
    pub(crate) fn of_request(headers: &Headers) -> Result<Self, String> {
        Self::of(headers, Self::Done)
    }

    /// The framing of a response body.
    pub(crate) fn of_response(
        headers: &Headers,
        status: u16,
        head_only: bool,
    ) -> Result<Self, String> {
        if head_only || status == 204 || status == 304 || (100..200).contains(&status) {
            return Ok(Self::Done);
        }
        Self::of(headers, Self::UntilClose)
    }

    fn of(headers: &Headers, otherwise: Self) -> Result<Self, String> {
        let codings: Vec<_> = headers.all("transfer-encoding").collect();
        let lengths: Vec<_> = headers.all("content-length").collect();
        match (&codings[..], &lengths[..]) {
            ([], []) => Ok(otherwise),
            ([one], []) if one.eq_ignore_ascii_case("chunked") => {
                Ok(Self::Chunked(ChunkState::Size))
            }
            ([], [one]) => match one.parse() {
                Ok(0) => Ok(Self::Done),
                Ok(length) => Ok(Self::Length(length)),
                Err(_) => Err(format!("Content-Length {one:?}")),
            },
            _ => Err(format!(
                "Transfer-Encoding {codings:?} with Content-Length {lengths:?}"
            )),
        }
    }

    /// Whether the body may end where the connection ends.
    pub(crate) fn may_end_here(&self) -> bool {
        matches!(self, Self::UntilClose | Self::Done)
    }

    pub(crate) fn decode(&mut self, input: &mut BytesMut) -> Result<Decoded, String> {
        loop {
            match self {
                Self::Done => return Ok(Decoded::End),
                _ if input.is_empty() => return Ok(Decoded::More),
                Self::UntilClose => return Ok(Decoded::Data(input.split().freeze(), false)),
                Self::Length(left) => {
                    let data = take(input, left);
                    if *left == 0 {
                        *self = Self::Done;
                    }
                    return Ok(Decoded::Data(data, false));
                }
                Self::Chunked(state) => match state {
                    ChunkState::Size => {
                        let Some(line) = line(input)? else {
                            return Ok(Decoded::More);
                        };
                        let digits = line.split(';').next().unwrap_or_default().trim();
                        let size = u64::from_str_radix(digits, 16)
                            .map_err(|_| format!("chunk size line {line:?}"))?;
                        *state = if size == 0 {
                            ChunkState::Trailers
                        } else {
                            ChunkState::Data(size)
                        };
                    }
                    ChunkState::Data(left) => {
                        let data = take(input, left);
                        let whole = *left == 0;
                        if whole {
                            *state = ChunkState::DataEnd;
                        }
                        return Ok(Decoded::Data(data, whole));
                    }
                    ChunkState::DataEnd => match line(input)?.as_deref() {
                        None => return Ok(Decoded::More),
                        Some("") => *state = ChunkState::Size,
                        Some(other) => return Err(format!("{other:?} after a chunk")),
                    },
                    ChunkState::Trailers => match line(input)?.as_deref() {
                        None => return Ok(Decoded::More),
                        Some("") => *self = Self::Done,
                        Some(_) => {}
                    },
                },
            }
        }
    }
}

fn take(input: &mut BytesMut, left: &mut u64) -> Bytes {
    let now = usize::try_from(*left)
        .unwrap_or(usize::MAX)
        .min(input.len());
    *left -= now as u64;
    input.split_to(now).freeze()
}

/// The next line without its CRLF, if all of it is there.
fn line(input: &mut BytesMut) -> Result<Option<String>, String> {
    let Some(end) = input.windows(2).position(|pair| pair == b"\r\n") else {
        return if input.len() > MAX_LINE {
            Err("a chunk line without end".into())
        } else {
            Ok(None)
        };
    };
    let line = input.split_to(end);
    input.advance(2);
    String::from_utf8(line.to_vec())
        .map(Some)
        .map_err(|_| "a chunk line that is no text".into())
}

/// Bytes of a chunk's size line, extensions included.
const MAX_LINE: usize = 16 << 10;

/// Header fields that either peer parses in one head.
pub(crate) const MAX_HEADERS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(
        mut decoder: BodyDecoder,
        wire: &[u8],
        step: usize,
    ) -> Result<(Vec<u8>, bool), String> {
        let (mut input, mut out) = (BytesMut::new(), Vec::new());
        for piece in wire.chunks(step) {
            input.extend_from_slice(piece);
            loop {
                match decoder.decode(&mut input)? {
                    Decoded::Data(data, _) => out.extend_from_slice(&data),
                    Decoded::End => return Ok((out, true)),
                    Decoded::More => break,
                }
            }
        }
        Ok((out, decoder.may_end_here()))
    }

    #[test]
    fn chunks_come_out_whole_however_they_are_split() {
        let wire = b"5\r\nhello\r\nA;x=y\r\n, wonderfu\r\n1\r\nl\r\n0\r\nTrailer: x\r\n\r\n";
        for step in 1..wire.len() {
            let decoded = decode(BodyDecoder::Chunked(ChunkState::Size), wire, step);
            assert_eq!(
                decoded,
                Ok((b"hello, wonderful".to_vec(), true)),
                "in steps of {step}"
            );
        }
    }

    #[test]
    fn a_body_that_is_cut_does_not_end() {
        for wire in [&b"5\r\nhel"[..], b"5\r\nhello\r\n", b"5\r\nhello\r\n0\r\n"] {
            let decoded = decode(BodyDecoder::Chunked(ChunkState::Size), wire, 3);
            assert!(matches!(decoded, Ok((_, false))), "{wire:?}: {decoded:?}");
        }
        assert_eq!(
            decode(BodyDecoder::Length(4), b"abc", 3),
            Ok((b"abc".to_vec(), false))
        );
        assert!(decode(BodyDecoder::Chunked(ChunkState::Size), b"2\r\nabc\r\n", 9).is_err());
    }

    #[test]
    fn length_and_chunks_at_once_are_refused() {
        let mut headers = Headers::new();
        headers.push("content-length", "3");
        headers.push("Transfer-Encoding", "chunked");
        assert!(BodyDecoder::of_request(&headers).is_err());
        headers.remove("CONTENT-LENGTH");
        assert!(matches!(
            BodyDecoder::of_request(&headers),
            Ok(BodyDecoder::Chunked(_))
        ));
    }
}
