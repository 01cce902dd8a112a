//! Where a head ends.

use memchr::memchr_iter;

/// Finds the end of a head without reading any byte twice.
#[derive(Debug, Default)]
pub(crate) struct HeadEnd {
    scanned: usize,
    line: usize,
}

impl HeadEnd {
    /// The length of the head at the start of `bytes`, once it is complete. Every call must see the
    /// bytes of the last one, and those that came since.
    ///
    /// # Errors
    /// For lines that do not end in CRLF, which RFC 9112 2.2 lets a recipient refuse, and for a folded
    /// line: whoever takes them otherwise sees another message.
    pub(crate) fn find(&mut self, bytes: &[u8]) -> Result<Option<usize>, &'static str> {
        for at in memchr_iter(b'\n', &bytes[self.scanned..]) {
            let lf = self.scanned + at;
            if lf == self.line || bytes[lf - 1] != b'\r' {
                return Err("a line of the head ends in a bare LF");
            }
            if lf - 1 == self.line {
                return Ok(Some(lf + 1));
            }
            if matches!(bytes[self.line], b' ' | b'\t') {
                return Err("a line of the head is folded");
            }
            self.line = lf + 1;
        }
        self.scanned = bytes.len();
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_found_however_it_is_cut() {
        let text = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nbody\r\n\r\n";
        for cut in 0..text.len() {
            let mut end = HeadEnd::default();
            let first = end.find(&text[..cut]).unwrap();
            let found = first.or_else(|| end.find(text).unwrap());
            assert_eq!(found, Some(25));
            assert_eq!(first.is_some(), cut >= 25);
        }
    }
}
