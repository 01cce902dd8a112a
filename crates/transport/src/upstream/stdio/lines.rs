//! Lines out of a stream of bytes.

use bytes::Bytes;
use memchr::memchr;

/// A line buffer. Push bytes, then take lines until `None`. No byte is looked for a line end twice.
#[derive(Debug)]
pub(super) struct Lines {
    held: Vec<u8>,
    /// Where the first line begins that has not been taken.
    start: usize,
    /// Up to where there is known to be no line end.
    scanned: usize,
    limit: usize,
}

/// A line is longer than the limit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Lines {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            held: Vec::new(),
            start: 0,
            scanned: 0,
            limit,
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// The next complete line, without its line end. May change after [`push`](Self::push).
    pub(super) fn next_line(&mut self) -> Result<Option<Bytes>, TooLong> {
        let Some(at) = memchr(b'\n', &self.held[self.scanned..]) else {
            self.held.drain(..self.start);
            self.start = 0;
            self.scanned = self.held.len();
            return if self.held.len() > self.limit {
                Err(TooLong)
            } else {
                Ok(None)
            };
        };
        let (start, end) = (self.start, self.scanned + at);
        self.start = end + 1;
        self.scanned = self.start;
        if end - start > self.limit {
            return Err(TooLong);
        }
        if start == 0 && self.start == self.held.len() {
            // The usual case: one message in one read, which needs no copy.
            let mut line = std::mem::take(&mut self.held);
            line.truncate(end);
            (self.start, self.scanned) = (0, 0);
            return Ok(Some(Bytes::from(line)));
        }
        Ok(Some(Bytes::copy_from_slice(&self.held[start..end])))
    }

    /// Bytes of an unfinished line now held.
    pub(super) fn pending(&self) -> usize {
        self.held.len() - self.start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(lines: &mut Lines) -> Vec<Bytes> {
        std::iter::from_fn(|| lines.next_line().unwrap()).collect()
    }

    #[test]
    fn b9_any_chunking_gives_the_same_lines() {
        let text = b"one\n\ntwo\r\nthree, which is longer\nunfinished";
        for size in 1..text.len() {
            let mut lines = Lines::new(100);
            let mut found = Vec::new();
            for chunk in text.chunks(size) {
                lines.push(chunk);
                found.extend(all(&mut lines));
            }
            let expected: [&[u8]; 4] = [b"one", b"", b"two\r", b"three, which is longer"];
            assert_eq!(found, expected, "{size}");
            assert_eq!(lines.pending(), "unfinished".len());
        }
    }

    #[test]
    fn a_line_has_a_limit_whether_it_ends_or_not() {
        let mut lines = Lines::new(4);
        lines.push(b"1234\n12345");
        assert_eq!(lines.next_line(), Ok(Some(Bytes::from_static(b"1234"))));
        assert_eq!(lines.next_line(), Err(TooLong));
        let mut lines = Lines::new(4);
        lines.push(b"12345\n");
        assert_eq!(lines.next_line(), Err(TooLong));
    }
}
