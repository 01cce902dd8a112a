//! The text of JSON strings that the scanner has accepted.

use std::borrow::Cow;
use std::cmp::Ordering;

use crate::rpc::scan::code_unit;

/// Resolves the escapes in the content of a string.
pub(super) fn unescape(content: &[u8]) -> Cow<'_, str> {
    if memchr::memchr(b'\\', content).is_none() {
        return String::from_utf8_lossy(content);
    }
    let decoded: Vec<u8> = decoded(content).collect();
    Cow::Owned(String::from_utf8(decoded).unwrap_or_default())
}

/// The content of a JSON string, given as JSON text; `None` if it is no string.
pub(super) fn string_of(value: &[u8]) -> Option<Cow<'_, str>> {
    match value {
        [b'"', content @ .., b'"'] => Some(unescape(content)),
        _ => None,
    }
}

/// Compares the contents of two strings by what they say.
pub(super) fn compare(left: &[u8], right: &[u8]) -> Ordering {
    let escaped = |content| memchr::memchr(b'\\', content).is_some();
    if escaped(left) || escaped(right) {
        decoded(left).cmp(decoded(right))
    } else {
        left.cmp(right)
    }
}

/// Writes a JSON string, quotes included.
pub(super) fn write_quoted(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for &byte in text.as_bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..0x20 => {
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)]);
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// The UTF-8 bytes of a string's content, escapes resolved.
pub(super) fn decoded(content: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let mut rest = content;
    // What an escape stands for, lowest byte first, while it is given out.
    let mut pending = 0u32;
    let mut left = 0;
    std::iter::from_fn(move || {
        if left == 0 {
            let (&first, after) = rest.split_first()?;
            if first != b'\\' {
                rest = after;
                return Some(first);
            }
            let (letter, length) = escaped_char(rest);
            rest = rest.get(length..).unwrap_or_default();
            let mut bytes = [0; 4];
            left = letter.encode_utf8(&mut bytes).len();
            pending = u32::from_le_bytes(bytes);
        }
        let [byte, ..] = pending.to_le_bytes();
        pending >>= 8;
        left -= 1;
        Some(byte)
    })
}

/// The character that the escape at the beginning of `escape` names, and its length in bytes.
fn escaped_char(escape: &[u8]) -> (char, usize) {
    match escape.get(1) {
        Some(b'b') => ('\u{8}', 2),
        Some(b'f') => ('\u{c}', 2),
        Some(b'n') => ('\n', 2),
        Some(b'r') => ('\r', 2),
        Some(b't') => ('\t', 2),
        Some(b'u') => {
            let unit = code_unit(escape).unwrap_or(0xfffd);
            if let Some(letter) = char::from_u32(unit) {
                return (letter, 6);
            }
            // A surrogate: the scanner has seen its other half.
            let low = escape.get(6..).and_then(code_unit).unwrap_or(0xdc00);
            let code = 0x10000 + ((unit & 0x3ff) << 10) + (low & 0x3ff);
            (
                char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER),
                12,
            )
        }
        Some(&byte) => (char::from(byte), 2),
        None => (char::REPLACEMENT_CHARACTER, 1),
    }
}
