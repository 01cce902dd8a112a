//! A look at the beginning of a message that nobody parses.

use std::borrow::Cow;

use crate::rpc::scan::{Refused, Scanner, Text};
use crate::rpc::{RequestId, text};

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
        let is = |word| is_named(scanner, name, word);
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

/// The id and the method of a message that is a request; `None` if it is none. Does not validate: for messages
/// that this program has written, or has parsed before.
///
/// Stops where it knows both, which is before the parameters in what this program writes.
#[must_use]
pub fn peek_request(message: &[u8]) -> Option<(RequestId, Cow<'_, str>)> {
    let mut scanner = Scanner::new(message);
    scanner.space();
    if scanner.peek() != Some(b'{') {
        return None;
    }
    let (mut id, mut method) = (None, None);
    // What ends the walk is that both are known, or the end of the message.
    let _ = scanner.object(|scanner, name| {
        let is = |word| is_named(scanner, name, word);
        let (is_id, is_method) = (is(b"id"), is(b"method"));
        let value = scanner.value(1)?.of(scanner.text());
        if is_id {
            id = RequestId::from_valid(value);
        } else if is_method {
            method = text::string_of(value);
        }
        if id.is_some() && method.is_some() {
            return Err(Refused);
        }
        Ok(())
    });
    id.zip(method)
}

fn is_named(scanner: &Scanner<'_>, name: Text, word: &[u8]) -> bool {
    let written = name.span.of(scanner.text());
    written == word || name.escaped && text::decoded(written).eq(word.iter().copied())
}
