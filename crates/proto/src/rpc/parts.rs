//! The parts of JSON values outside the outline, for those who edit results.

use std::borrow::Cow;

use bytes::Bytes;

use crate::rpc::edit::replace;
use crate::rpc::outline::{MAX_MEMBERS, Member, Members};
use crate::rpc::scan::{Refused, Scan, Scanner, Span};
use crate::rpc::{MessageError, text};

/// `source` with one part of it replaced. `part` must be a slice of `source` itself, as
/// [`Message::param`](crate::rpc::Message::param), [`Message::result`](crate::rpc::Message::result),
/// [`members`] and [`elements`] give them.
///
/// `None` if `part` lies somewhere else; equal bytes are not enough.
#[must_use]
pub fn splice(source: &Bytes, part: &Bytes, with: &[u8]) -> Option<Bytes> {
    let start = (part.as_ptr() as usize).checked_sub(source.as_ptr() as usize)?;
    let end = start.checked_add(part.len())?;
    if end > source.len() || u32::try_from(source.len()).is_err() {
        return None;
    }
    Some(replace(source, Span::new(start, end), &[with]))
}

/// The members of an object given as JSON text, in order: names with escapes resolved, values as
/// JSON text, which are slices of `object`.
///
/// # Errors
/// [`MessageError`] with `-32700` if it is not JSON, `-32600` if it is no object, names a member
/// twice, has more than 65,536 members or nests over 128.
pub fn members(object: &Bytes) -> Result<Vec<(String, Bytes)>, MessageError> {
    let found = unique_members(object)?;
    let part = |member: &Member| {
        let name = text::unescape(member.name.of(object)).into_owned();
        (name, object.slice(member.value.range()))
    };
    Ok(found.iter().map(part).collect())
}

/// One member of an object given as JSON text, as a slice of `object`. `None` if it is absent or
/// there more than once, or if `object` is no valid JSON object.
#[must_use]
pub fn member(object: &Bytes, name: &str) -> Option<Bytes> {
    let found = scan_members(object).ok()?;
    let mut named = found
        .iter()
        .filter(|member| found.is_named(member.name.of(object), name.as_bytes()));
    let only = named.next()?;
    if named.next().is_some() {
        return None;
    }
    Some(object.slice(only.value.range()))
}

/// The elements of an array given as JSON text, in order; they are slices of `array`.
///
/// # Errors
/// [`MessageError`] with `-32700` if it is not JSON, `-32600` if it is no array, has more than
/// 65,536 elements or nests over 128.
pub fn elements(array: &Bytes) -> Result<Vec<Bytes>, MessageError> {
    let mut found = Vec::new();
    scan_container(array, b'[', "not an array", |scanner| {
        scanner.array(|scanner| {
            let value = scanner.value(1)?;
            if found.len() == MAX_MEMBERS {
                return Err(scanner.refuse_over_limit("an array of more than 65536 elements"));
            }
            found.push(array.slice(value.range()));
            Ok(())
        })
    })?;
    Ok(found)
}

/// The text in a JSON string; `None` if `value` is no valid JSON string.
#[must_use]
pub fn string(value: &[u8]) -> Option<Cow<'_, str>> {
    let mut scanner = Scanner::new(value);
    if scanner.peek() != Some(b'"') || scanner.string().is_err() || scanner.end().is_err() {
        return None;
    }
    text::string_of(value)
}

/// Where the members of an object are, which has none twice.
pub(super) fn unique_members(object: &[u8]) -> Result<Members, MessageError> {
    let found = scan_members(object)?;
    if found.has_duplicates(object) {
        return Err(MessageError::invalid("a member is there twice", None));
    }
    Ok(found)
}

fn scan_members(object: &[u8]) -> Result<Members, MessageError> {
    let mut found = Members::default();
    scan_container(object, b'{', "not an object", |scanner| {
        found.scan(scanner, 1)
    })?;
    Ok(found)
}

/// Runs `walk` on a text that holds one object or array, and nothing else.
fn scan_container<T>(
    source: &[u8],
    open: u8,
    other: &'static str,
    walk: impl FnOnce(&mut Scanner<'_>) -> Scan<T>,
) -> Result<T, MessageError> {
    let mut scanner = Scanner::new(source);
    scanner.space();
    let found = if scanner.peek() == Some(open) {
        walk(&mut scanner).map(Some)
    } else {
        scanner.value(0).map(|_| None)
    };
    let found = found.and_then(|found| scanner.end().map(|()| found));
    match found {
        Ok(Some(found)) => Ok(found),
        Ok(None) => Err(MessageError::invalid(other, None)),
        Err(Refused) => Err(MessageError::from_fault(scanner.fault(), None)),
    }
}
