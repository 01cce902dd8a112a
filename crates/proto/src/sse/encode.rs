//! Writing events, and reading the data of one.

use std::borrow::Cow;
use std::time::Duration;

use bytes::BufMut;

use super::line::{self, Field};

/// Writes one event: `event`, `id`, `retry`, `data`, blank line, with LF line ends. Data with CR or
/// LF in it is split over several `data` lines. `id` and `kind` lose CR, LF and NUL.
///
/// `retry` is written in whole milliseconds. An empty `kind` is not written (it names no type), an
/// empty `id` is: it resets the id of the stream (WHATWG HTML 9.2.6).
///
/// # Panics
/// If `out` is full: give something that grows.
pub fn encode(
    out: &mut impl BufMut,
    kind: Option<&[u8]>,
    id: Option<&[u8]>,
    retry: Option<Duration>,
    data: Option<&[u8]>,
) {
    if let Some(kind) = kind.map(one_line).filter(|kind| !kind.is_empty()) {
        put_line(out, b"event:", &kind);
    }
    if let Some(id) = id {
        put_line(out, b"id:", &one_line(id));
    }
    if let Some(retry) = retry {
        put_line(out, b"retry:", retry.as_millis().to_string().as_bytes());
    }
    if let Some(mut rest) = data {
        while let Some(end) = line::find_end(rest, 0) {
            put_line(out, b"data:", &rest[..end.content]);
            rest = &rest[end.end..];
        }
        put_line(out, b"data:", rest);
    }
    out.put_u8(b'\n');
}

/// The `data` of one raw block, joined with LF; borrowed when it is one line. `None`: no `data`.
///
/// Reads up to the blank line that ends the block, or to the end of `raw`. Bytes stay as they came,
/// also invalid UTF-8.
#[must_use]
pub fn data_of(raw: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut data: Option<Cow<'_, [u8]>> = None;
    let mut has_field = false;
    let mut rest = raw;
    while !rest.is_empty() {
        let (text, next) = match line::find_end(rest, 0) {
            Some(end) => (&rest[..end.content], &rest[end.end..]),
            None => (rest, &rest[rest.len()..]),
        };
        rest = next;
        match text.first() {
            None if has_field => break,
            None | Some(b':') => continue,
            Some(_) => has_field = true,
        }
        let (Field::Data, value) = line::field(text) else {
            continue;
        };
        let value = &text[value..];
        data = Some(match data {
            None => Cow::Borrowed(value),
            Some(lines) => {
                let mut lines = lines.into_owned();
                lines.push(b'\n');
                lines.extend_from_slice(value);
                Cow::Owned(lines)
            }
        });
    }
    data
}

fn put_line(out: &mut impl BufMut, name: &[u8], value: &[u8]) {
    out.put_slice(name);
    if !value.is_empty() {
        out.put_u8(b' ');
        out.put_slice(value);
    }
    out.put_u8(b'\n');
}

/// The value without the characters that would end the line or void the field.
fn one_line(value: &[u8]) -> Cow<'_, [u8]> {
    let breaks = |byte: &u8| matches!(byte, b'\r' | b'\n' | 0);
    // Values are short. Looking at all of one is faster than stopping where there is something to find.
    if value.iter().fold(false, |found, byte| found | breaks(byte)) {
        Cow::Owned(value.iter().copied().filter(|byte| !breaks(byte)).collect())
    } else {
        Cow::Borrowed(value)
    }
}
