//! A look at the beginning of a message that nobody parses.

use crate::rpc::scan::{Refused, Scanner};
use crate::rpc::text;

/// Tells, from the beginning of a message, whether it is a response (`Some(true)`), a request or
/// notification (`Some(false)`), or cannot be told yet. Does not validate; for bookkeeping only.
///
/// Looks for the first of `method`, `result` and `error` among the top-level members, and stops
/// there. Of a batch it tells what the first message is. Allocates nothing.
#[must_use]
pub fn peek_is_response(prefix: &[u8]) -> Option<bool> {
    let mut scanner = Scanner::new(prefix);
    scanner.space();
    if scanner.take(b'[') {
        scanner.space();
    }
    if scanner.peek() != Some(b'{') {
        return None;
    }
    let mut verdict = None;
    // What ends the walk is the verdict, or the end of the prefix.
    let _ = scanner.object(|scanner, name| {
        let written = name.span.of(scanner.text());
        let is = |word: &[u8]| {
            written == word || name.escaped && text::decoded(written).eq(word.iter().copied())
        };
        if is(b"method") {
            verdict = Some(false);
        } else if is(b"result") || is(b"error") {
            verdict = Some(true);
        }
        match verdict {
            Some(_) => Err(Refused),
            None => scanner.value(1).map(|_| ()),
        }
    });
    verdict
}
