//! A walk over JSON text that an outline has already accepted: no allocation, no decoding, and
//! members that are there twice are seen twice, because a policy must not overlook the second.
//!
//! On text that is not JSON the walk ends early; it never panics.

use std::borrow::Cow;
use std::ops::{ControlFlow, Range};

use bytes::Bytes;

/// A value: the text it lies in, and where.
#[derive(Debug, Clone, Copy)]
pub(super) struct Value<'a> {
    text: &'a [u8],
    start: usize,
    end: usize,
}

impl<'a> Value<'a> {
    /// The value that `text` consists of, with nothing but white space around it.
    pub(super) fn root(text: &'a [u8]) -> Self {
        Self {
            text,
            start: skip_space(text, 0),
            end: text.trim_ascii_end().len(),
        }
    }

    /// Where it lies.
    pub(super) fn range(self) -> Range<usize> {
        self.start..self.end
    }

    /// Its text.
    pub(super) fn raw(self) -> &'a [u8] {
        self.text.get(self.range()).unwrap_or_default()
    }

    /// Its members, in order; none if it is no object.
    pub(super) fn members(self) -> Members<'a> {
        Members(self.entries(b'{'))
    }

    /// Its elements, in order; none if it is no array.
    pub(super) fn elements(self) -> Elements<'a> {
        Elements(self.entries(b'['))
    }

    /// The members of this name: one, or none, or (in objects that nobody checked) several.
    pub(super) fn all(self, name: &'a str) -> impl Iterator<Item = Value<'a>> {
        self.members()
            .filter(move |member| member.is_named(name))
            .map(|member| member.value)
    }

    /// What a string says, escapes resolved; `None` if it is no string.
    pub(super) fn string(self) -> Option<Cow<'a, str>> {
        match self.raw() {
            [b'"', content @ .., b'"'] => Some(unescape(content)),
            _ => None,
        }
    }

    pub(super) fn is_object(self) -> bool {
        self.raw().first() == Some(&b'{')
    }

    pub(super) fn is_array(self) -> bool {
        self.raw().first() == Some(&b'[')
    }

    fn entries(self, open: u8) -> Entries<'a> {
        let inside = self.raw().first() == Some(&open);
        Entries {
            text: self.text,
            at: if inside { self.start + 1 } else { usize::MAX },
        }
    }
}

/// A member of an object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member<'a> {
    /// Its name, as a string value.
    pub(super) name: Value<'a>,
    /// Its value.
    pub(super) value: Value<'a>,
}

impl Member<'_> {
    /// Whether it has this name, however that is escaped.
    pub(super) fn is_named(&self, name: &str) -> bool {
        is_string(self.name.raw(), name)
    }
}

/// Whether the text of a string says `expected`, however that is escaped.
fn is_string(raw: &[u8], expected: &str) -> bool {
    let [b'"', content @ .., b'"'] = raw else {
        return false;
    };
    // An escape is longer than what it stands for.
    if content.len() < expected.len() {
        false
    } else if content.contains(&b'\\') {
        unescape(content) == expected
    } else {
        content == expected.as_bytes()
    }
}

/// The members of an object.
pub(super) struct Members<'a>(Entries<'a>);

impl<'a> Iterator for Members<'a> {
    type Item = Member<'a>;

    fn next(&mut self) -> Option<Member<'a>> {
        let name = self.0.value()?;
        let text = self.0.text;
        let colon = skip_space(text, name.end);
        if text.get(colon) != Some(&b':') {
            return None;
        }
        self.0.at = colon + 1;
        let value = self.0.value()?;
        self.0.separator();
        Some(Member { name, value })
    }
}

/// The elements of an array.
pub(super) struct Elements<'a>(Entries<'a>);

impl<'a> Iterator for Elements<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        let value = self.0.value()?;
        self.0.separator();
        Some(value)
    }
}

/// The inside of an object or array; past the text once it is through.
struct Entries<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Entries<'a> {
    fn value(&mut self) -> Option<Value<'a>> {
        let start = skip_space(self.text, self.at);
        let end = value_end(self.text, start);
        if end == start {
            return None;
        }
        self.at = end;
        Some(Value {
            text: self.text,
            start,
            end,
        })
    }

    fn separator(&mut self) {
        let at = skip_space(self.text, self.at);
        self.at = match self.text.get(at) {
            Some(b',') => at + 1,
            _ => usize::MAX,
        };
    }
}

/// A value whose end nobody looked for yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    text: &'a [u8],
    start: usize,
}

/// What an entry of an object or array is called.
#[derive(Debug, Clone, Copy)]
pub(super) enum Key<'a> {
    Name(&'a [u8]),
    Index(usize),
}

impl Key<'_> {
    /// Whether it is a member of this name, however that is escaped.
    pub(super) fn is_named(self, name: &str) -> bool {
        matches!(self, Self::Name(raw) if is_string(raw, name))
    }
}

impl<'a> Place<'a> {
    pub(super) fn of(value: Value<'a>) -> Self {
        Self {
            text: value.text,
            start: value.start,
        }
    }

    /// The value, with its end.
    pub(super) fn value(self) -> Value<'a> {
        Value {
            text: self.text,
            start: self.start,
            end: value_end(self.text, self.start),
        }
    }

    /// Shows each entry of an object or array, none of anything else, and gives the end of the value.
    /// `each` gives the end of the entry, so that no byte is looked at twice.
    pub(super) fn entries(
        self,
        mut each: impl FnMut(Key<'_>, Self) -> ControlFlow<(), usize>,
    ) -> ControlFlow<(), usize> {
        let text = self.text;
        let is_object = match text.get(self.start) {
            Some(b'{') => true,
            Some(b'[') => false,
            _ => return ControlFlow::Continue(value_end(text, self.start)),
        };
        let mut at = skip_space(text, self.start + 1);
        for index in 0.. {
            let key = if is_object {
                if text.get(at) != Some(&b'"') {
                    break;
                }
                let end = string_end(text, at);
                let name = text.get(at..end).unwrap_or_default();
                // Past the colon.
                at = skip_space(text, skip_space(text, end) + 1);
                Key::Name(name)
            } else {
                if matches!(text.get(at), None | Some(b']')) {
                    break;
                }
                Key::Index(index)
            };
            at = skip_space(text, each(key, Self { text, start: at })?);
            if text.get(at) != Some(&b',') {
                break;
            }
            at = skip_space(text, at + 1);
        }
        ControlFlow::Continue(at + 1)
    }
}

/// One change: this part of the text, and what stands there instead.
pub(super) type Edit<'a> = (Range<usize>, Cow<'a, [u8]>);

/// The text with these changes, which are in order and do not overlap.
pub(super) fn splice(text: &[u8], edits: &[Edit<'_>]) -> Bytes {
    let added: usize = edits.iter().map(|(_, with)| with.len()).sum();
    let mut out = Vec::with_capacity(text.len() + added);
    write_edited(&mut out, text, 0..text.len(), edits);
    Bytes::from(out)
}

/// The change that leaves only some elements in an array: their bytes stay as they are.
pub(super) fn keep<'a>(array: Value<'_>, kept: &[Value<'_>]) -> Edit<'a> {
    keep_edited(array, kept, &[])
}

/// The change that leaves only some elements in an array, with changes inside of them.
pub(super) fn keep_edited<'a>(
    array: Value<'_>,
    kept: &[Value<'_>],
    edits: &[Edit<'_>],
) -> Edit<'a> {
    let mut out = Vec::with_capacity(array.raw().len());
    out.push(b'[');
    for (index, element) in kept.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        let range = element.range();
        let first = edits.partition_point(|(edit, _)| edit.start < range.start);
        let end = edits.partition_point(|(edit, _)| edit.start < range.end);
        write_edited(
            &mut out,
            array.text,
            range,
            edits.get(first..end).unwrap_or_default(),
        );
    }
    out.push(b']');
    (array.range(), Cow::Owned(out))
}

/// Writes a part of the text with the changes in it.
fn write_edited(out: &mut Vec<u8>, text: &[u8], part: Range<usize>, edits: &[Edit<'_>]) {
    let mut at = part.start;
    for (range, with) in edits {
        out.extend_from_slice(text.get(at..range.start).unwrap_or_default());
        out.extend_from_slice(with);
        at = range.end;
    }
    out.extend_from_slice(text.get(at..part.end).unwrap_or_default());
}

/// A JSON string that says this.
pub(super) fn quoted(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 2);
    write_quoted(&mut out, text);
    out
}

/// Appends a JSON string that says this, escaping only what has to be escaped.
pub(super) fn write_quoted(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("text can always be written into memory");
}

/// Resolves escapes; half a surrogate pair becomes U+FFFD, as bytes that are no UTF-8 do.
pub(super) fn unescape(content: &[u8]) -> Cow<'_, str> {
    let Some(first) = memchr::memchr(b'\\', content) else {
        return String::from_utf8_lossy(content);
    };
    let mut out = String::with_capacity(content.len());
    let (plain, mut rest) = content.split_at(first);
    out.push_str(&String::from_utf8_lossy(plain));
    while let [b'\\', escape, tail @ ..] = rest {
        rest = tail;
        let plain = match escape {
            b'n' => '\n',
            b't' => '\t',
            b'r' => '\r',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'u' => {
                let (decoded, after) = unicode_escape(rest);
                rest = after;
                decoded
            }
            other => char::from(*other),
        };
        out.push(plain);
        let next = memchr::memchr(b'\\', rest).unwrap_or(rest.len());
        let (plain, tail) = rest.split_at(next);
        out.push_str(&String::from_utf8_lossy(plain));
        rest = tail;
    }
    Cow::Owned(out)
}

/// The character after `\u`, and what follows it; takes the second half of a pair along.
fn unicode_escape(rest: &[u8]) -> (char, &[u8]) {
    let unit = |digits: Option<&[u8]>| {
        let digits = std::str::from_utf8(digits?).ok()?;
        u32::from_str_radix(digits, 16).ok()
    };
    let Some(high) = unit(rest.get(..4)) else {
        return (char::REPLACEMENT_CHARACTER, &[]);
    };
    let after = rest.get(4..).unwrap_or_default();
    if let (0xd800..0xdc00, Some(b"\\u")) = (high, after.get(..2))
        && let Some(low @ 0xdc00..0xe000) = unit(after.get(2..6))
    {
        let both = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
        let decoded = char::from_u32(both).unwrap_or(char::REPLACEMENT_CHARACTER);
        return (decoded, after.get(6..).unwrap_or_default());
    }
    let decoded = char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER);
    (decoded, after)
}

fn skip_space(text: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = text.get(at) {
        at += 1;
    }
    at
}

/// Where the value that begins at `start` ends; `start` itself if none begins there.
fn value_end(text: &[u8], start: usize) -> usize {
    match text.get(start) {
        Some(b'"') => string_end(text, start),
        Some(b'{' | b'[') => container_end(text, start),
        Some(_) => {
            let rest = text.get(start..).unwrap_or_default();
            let ends = |byte: &u8| b",]}: \t\r\n".contains(byte);
            start + rest.iter().position(ends).unwrap_or(rest.len())
        }
        None => start,
    }
}

fn string_end(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(found) = quote_or_escape(text.get(at..).unwrap_or_default()) {
        let position = at + found;
        if text.get(position) == Some(&b'"') {
            return position + 1;
        }
        at = position + 2;
    }
    text.len()
}

/// Where the next quote or backslash is. Eight bytes at a time at first: most strings, and most of
/// the ways between escapes, are shorter than a call of memchr is worth.
fn quote_or_escape(text: &[u8]) -> Option<usize> {
    const NEAR: usize = 64;
    let mut at = 0;
    while let Some(word) = text.get(at..).and_then(<[u8]>::first_chunk) {
        if let Some(found) = first_special(u64::from_le_bytes(*word)) {
            return Some(at + found);
        }
        at += size_of::<u64>();
        if at >= NEAR {
            break;
        }
    }
    let rest = text.get(at..)?;
    Some(at + memchr::memchr2(b'"', b'\\', rest)?)
}

/// Which byte of a word, counted from the lowest, is the first quote or backslash.
fn first_special(word: u64) -> Option<usize> {
    const LOW: u64 = u64::from_le_bytes([0x01; 8]);
    const HIGH: u64 = u64::from_le_bytes([0x80; 8]);
    // The high bit of each byte that is zero; a borrow can only set bits above the first of them.
    let zeros = |word: u64| word.wrapping_sub(LOW) & !word & HIGH;
    let specials = zeros(word ^ (LOW * u64::from(b'"'))) | zeros(word ^ (LOW * u64::from(b'\\')));
    (specials != 0).then(|| specials.trailing_zeros() as usize / 8)
}

fn container_end(text: &[u8], start: usize) -> usize {
    let mut depth = 0usize;
    let mut at = start;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => {
                at = string_end(text, at);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
        at += 1;
    }
    text.len()
}

#[cfg(test)]
mod tests;
