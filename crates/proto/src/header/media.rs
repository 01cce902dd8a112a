//! Media types and what a client accepts of them (RFC 9110 8.3.1 and 12.5.1).

use crate::header::trim;

/// A parsed media type, as far as transports care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaType {
    /// `application/json`, whatever its parameters.
    Json,
    /// `text/event-stream`, whatever its parameters.
    EventStream,
    /// Anything else, also look-alikes (`text/event-streamx`, `application/json-seq`), and what is
    /// no media type at all.
    Other,
}

impl MediaType {
    /// Parses a `Content-Type` value (RFC 9110 8.3.1).
    #[must_use]
    pub fn parse(value: &[u8]) -> Self {
        // What nearly every message has, to the letter.
        match value {
            b"application/json" => return Self::Json,
            b"text/event-stream" => return Self::EventStream,
            _ => {}
        }
        let Some((essence, mut rest)) = Essence::parse(trim(value)) else {
            return Self::Other;
        };
        loop {
            match parameter(rest) {
                Parameter::None => break,
                Parameter::One { rest: behind, .. } => rest = behind,
                Parameter::Malformed => return Self::Other,
            }
        }
        if essence.is(b"application", b"json") {
            Self::Json
        } else if essence.is(b"text", b"event-stream") {
            Self::EventStream
        } else {
            Self::Other
        }
    }
}

/// Which media types an `Accept` header admits. Absent means all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accept {
    /// Admits `application/json`.
    pub json: bool,
    /// Admits `text/event-stream`.
    pub event_stream: bool,
}

impl Accept {
    /// Parses all `Accept` values of a request; wildcards count, `q=0` refuses, and the most specific
    /// range decides. Ranges that are malformed count for nothing; no value at all, or none but
    /// empty ones, admits everything.
    pub fn parse<'a>(values: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut ranges = Ranges::default();
        for value in values {
            let mut rest = value;
            while !rest.is_empty() {
                let (range, behind) = split_list(rest);
                rest = behind;
                let range = trim(range);
                if !range.is_empty() {
                    ranges.empty = false;
                    ranges.add(range);
                }
            }
        }
        Self {
            json: ranges.admits(ranges.json),
            event_stream: ranges.admits(ranges.event_stream),
        }
    }
}

/// How specific the range that decides is so far, and what it says.
type Decision = Option<(u8, bool)>;

struct Ranges {
    empty: bool,
    json: Decision,
    event_stream: Decision,
}

impl Default for Ranges {
    fn default() -> Self {
        Self {
            empty: true,
            json: None,
            event_stream: None,
        }
    }
}

impl Ranges {
    fn admits(&self, decision: Decision) -> bool {
        decision.map_or(self.empty, |(_, admitted)| admitted)
    }

    fn add(&mut self, range: &[u8]) {
        let Some((essence, mut rest)) = Essence::parse(range) else {
            return;
        };
        let mut admitted = true;
        loop {
            match parameter(rest) {
                Parameter::None => break,
                Parameter::One {
                    name,
                    value,
                    rest: behind,
                } => {
                    if name.eq_ignore_ascii_case(b"q") {
                        let Some(weighs) = weighs(value) else { return };
                        admitted = weighs;
                    }
                    rest = behind;
                }
                Parameter::Malformed => return,
            }
        }
        let offers: [(&mut Decision, &[u8], &[u8]); 2] = [
            (&mut self.json, b"application", b"json"),
            (&mut self.event_stream, b"text", b"event-stream"),
        ];
        for (decision, kind, subtype) in offers {
            let specific = match (essence.kind, essence.subtype) {
                (b"*", b"*") => 1,
                (found, b"*") if found.eq_ignore_ascii_case(kind) => 2,
                _ if essence.is(kind, subtype) => 3,
                _ => continue,
            };
            match decision {
                Some((before, _)) if *before > specific => {}
                // Named twice: once admitted is admitted.
                Some((before, other)) if *before == specific => *other |= admitted,
                _ => *decision = Some((specific, admitted)),
            }
        }
    }
}

/// Whether a weight is above zero; `None` if it is none.
fn weighs(value: &[u8]) -> Option<bool> {
    let (whole, thousandths) = match value {
        [whole] => (whole, &[][..]),
        [whole, b'.', thousandths @ ..] if thousandths.len() <= 3 => (whole, thousandths),
        _ => return None,
    };
    let valid = match whole {
        b'0' => thousandths.iter().all(u8::is_ascii_digit),
        b'1' => thousandths.iter().all(|digit| *digit == b'0'),
        _ => false,
    };
    valid.then(|| *whole == b'1' || thousandths.iter().any(|digit| *digit != b'0'))
}

/// `type/subtype`.
struct Essence<'a> {
    kind: &'a [u8],
    subtype: &'a [u8],
}

impl<'a> Essence<'a> {
    fn parse(text: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (kind, rest) = token(text)?;
        let (subtype, rest) = token(rest.strip_prefix(b"/")?)?;
        Some((Self { kind, subtype }, rest))
    }

    fn is(&self, kind: &[u8], subtype: &[u8]) -> bool {
        self.kind.eq_ignore_ascii_case(kind) && self.subtype.eq_ignore_ascii_case(subtype)
    }
}

enum Parameter<'a> {
    None,
    One {
        name: &'a [u8],
        value: &'a [u8],
        rest: &'a [u8],
    },
    Malformed,
}

/// The next of `*( OWS ";" OWS [ name "=" value ] )`. Empty ones are skipped.
fn parameter(text: &[u8]) -> Parameter<'_> {
    let mut rest = trim(text);
    loop {
        match rest {
            [] => return Parameter::None,
            [b';', behind @ ..] => rest = trim(behind),
            _ => return Parameter::Malformed,
        }
        if !matches!(rest, [] | [b';', ..]) {
            break;
        }
    }
    let named = token(rest).and_then(|(name, rest)| Some((name, rest.strip_prefix(b"=")?)));
    let Some((name, rest)) = named else {
        return Parameter::Malformed;
    };
    let valued = if rest.first() == Some(&b'"') {
        quoted(rest)
    } else {
        token(rest)
    };
    match valued {
        Some((value, rest)) => Parameter::One { name, value, rest },
        None => Parameter::Malformed,
    }
}

/// RFC 9110 5.6.2
fn token(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let part = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let end = text
        .iter()
        .position(|byte| !part(byte))
        .unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// RFC 9110 5.6.4; the value is between the quotes, as written.
fn quoted(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut at = 1;
    loop {
        match text.get(at)? {
            b'"' => return Some((&text[1..at], &text[at + 1..])),
            b'\\' => at += 2,
            0..0x20 | 0x7f if text[at] != b'\t' => return None,
            _ => at += 1,
        }
    }
}

/// The first element of a list, and what is behind its comma. A comma in quotes separates nothing.
fn split_list(text: &[u8]) -> (&[u8], &[u8]) {
    let mut in_quotes = false;
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => in_quotes = !in_quotes,
            b'\\' if in_quotes => at += 1,
            b',' if !in_quotes => return (&text[..at], &text[at + 1..]),
            _ => {}
        }
        at += 1;
    }
    (text, &[])
}
