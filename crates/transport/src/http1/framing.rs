//! Where a body ends, and its bytes without the framing.

use memchr::memchr2;

use crate::body::BodyError;

/// How a body is delimited, with the state of reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Framing {
    /// So many bytes are still to come.
    Length(u64),
    /// Chunked coding.
    Chunked(Chunked),
    /// Everything until the connection closes (responses only).
    UntilClose,
}

/// State of the chunked coding (RFC 9112, section 7.1).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Chunked {
    at: At,
    /// The size being read, then the bytes of the chunk still to come.
    size: u64,
    /// Digits of the size being read.
    digits: u8,
    /// Bytes of extensions and trailers read in this body: nothing reads them, so they are bounded
    /// by the body and not by the chunk.
    ignored: u16,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum At {
    #[default]
    Size,
    /// White space after a size, which only an extension may follow.
    Blank,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// The first byte of a trailer field, or of the line that ends them.
    TrailerStart,
    Trailer,
    TrailerLf,
    EndLf,
    Done,
}

/// 16 hexadecimal digits are all that a `u64` holds.
const MAX_SIZE_DIGITS: u8 = 16;

/// Extensions and trailers of one body, in bytes. They are dropped, so this is generous.
const MAX_IGNORED: u16 = 16 << 10;

impl Framing {
    /// Chunked coding, at its start.
    pub(crate) fn chunked() -> Self {
        Self::Chunked(Chunked::default())
    }

    /// Decodes `input`, appends the body's bytes to `out`, and returns how many bytes of `input`
    /// belonged to this body; what follows belongs to the next message.
    ///
    /// # Errors
    /// [`BodyError::Framing`]. What was appended before the fault stays.
    pub(crate) fn decode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, BodyError> {
        match self {
            Self::Length(left) => {
                let take = run(*left, input);
                out.extend_from_slice(&input[..take]);
                *left -= take as u64;
                Ok(take)
            }
            Self::Chunked(chunked) => chunked.decode(input, out),
            Self::UntilClose => {
                out.extend_from_slice(input);
                Ok(input.len())
            }
        }
    }

    /// Whether the body is complete. One that ends with its connection never says so.
    pub(crate) fn is_done(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunked) => chunked.at == At::Done,
            Self::UntilClose => false,
        }
    }

    /// Bytes still to come, if that is known.
    pub(crate) fn remaining(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Chunked(chunked) => (chunked.at == At::Done).then_some(0),
            Self::UntilClose => None,
        }
    }
}

impl Chunked {
    fn decode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, BodyError> {
        let mut used = 0;
        while let Some(&byte) = input.get(used) {
            used += match self.at {
                At::Data => {
                    let take = run(self.size, &input[used..]);
                    out.extend_from_slice(&input[used..used + take]);
                    self.size -= take as u64;
                    if self.size == 0 {
                        self.at = At::DataCr;
                    }
                    take
                }
                At::Extension | At::Trailer => self.skip_line(&input[used..])?,
                At::Done => break,
                _ => {
                    self.at = self.step(byte)?;
                    1
                }
            };
        }
        Ok(used)
    }

    /// Reads one byte of the framing itself.
    fn step(&mut self, byte: u8) -> Result<At, BodyError> {
        Ok(match (self.at, byte) {
            (At::Size, _) => return self.size(byte),
            (At::Blank, b' ' | b'\t') => {
                self.ignore(1)?;
                At::Blank
            }
            (At::Blank, b';') => At::Extension,
            (At::SizeLf, b'\n') => {
                self.digits = 0;
                if self.size == 0 {
                    At::TrailerStart
                } else {
                    At::Data
                }
            }
            (At::DataCr, b'\r') => At::DataLf,
            (At::DataLf, b'\n') => At::Size,
            (At::TrailerStart, b'\r') => At::EndLf,
            (At::TrailerStart, b'\n') => return Err(BodyError::Framing("a bare LF")),
            (At::TrailerStart, _) => {
                self.ignore(1)?;
                At::Trailer
            }
            (At::TrailerLf, b'\n') => At::TrailerStart,
            (At::EndLf, b'\n') => At::Done,
            (At::Blank, _) => return Err(BodyError::Framing("a chunk size with more behind it")),
            (At::DataCr, _) => return Err(BodyError::Framing("a chunk longer than its size")),
            _ => return Err(BodyError::Framing("a CR without its LF")),
        })
    }

    fn size(&mut self, byte: u8) -> Result<At, BodyError> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ if self.digits == 0 => return Err(BodyError::Framing("a chunk without a size")),
            b'\r' => return Ok(At::SizeLf),
            b';' => return Ok(At::Extension),
            b' ' | b'\t' => {
                self.ignore(1)?;
                return Ok(At::Blank);
            }
            _ => return Err(BodyError::Framing("a chunk size that is no number")),
        };
        if self.digits == MAX_SIZE_DIGITS {
            return Err(BodyError::Framing("a chunk size with too many digits"));
        }
        self.digits += 1;
        self.size = (self.size << 4) | u64::from(digit);
        Ok(At::Size)
    }

    /// Skips a line that nobody reads, up to and including its CR.
    fn skip_line(&mut self, input: &[u8]) -> Result<usize, BodyError> {
        let end = memchr2(b'\r', b'\n', input);
        self.ignore(end.unwrap_or(input.len()))?;
        let Some(end) = end else {
            return Ok(input.len());
        };
        if input[end] == b'\n' {
            return Err(BodyError::Framing("a bare LF"));
        }
        self.at = if self.at == At::Trailer {
            At::TrailerLf
        } else {
            At::SizeLf
        };
        Ok(end + 1)
    }

    fn ignore(&mut self, bytes: usize) -> Result<(), BodyError> {
        let sum = usize::from(self.ignored) + bytes;
        self.ignored = u16::try_from(sum)
            .ok()
            .filter(|sum| *sum <= MAX_IGNORED)
            .ok_or(BodyError::Framing("too many extensions or trailers"))?;
        Ok(())
    }
}

/// How much of `input` belongs to a run of `left` bytes.
fn run(left: u64, input: &[u8]) -> usize {
    usize::try_from(left).map_or(input.len(), |left| left.min(input.len()))
}

#[cfg(test)]
mod tests;
