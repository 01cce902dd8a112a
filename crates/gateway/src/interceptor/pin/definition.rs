//! The hash of a definition.

use std::borrow::Cow;
use std::fmt;

use sha2::{Digest, Sha256};

use crate::interceptor::json::{self, Value};

/// A SHA-256 hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Hash([u8; 32]);

impl Hash {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The hash of a definition in its canonical form; `None` if it names a member twice, so that
    /// readers could disagree on what it says.
    pub(super) fn of_definition(definition: Value<'_>) -> Option<Self> {
        let mut canonical = Vec::with_capacity(definition.raw().len());
        write_canonical(definition, &mut canonical)?;
        Some(Self::of(&canonical))
    }

    /// Reads what [`Display`](fmt::Display) writes; the prefix may be left out.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(PREFIX).unwrap_or(text).as_bytes();
        let mut hash = [0; 32];
        if digits.len() != 2 * hash.len() {
            return None;
        }
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            let [high, low] =
                [pair.first()?, pair.get(1)?].map(|digit| char::from(*digit).to_digit(16));
            *byte = u8::try_from(high? << 4 | low?).ok()?;
        }
        Some(Self(hash))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

const PREFIX: &str = "sha256:";

/// The hash that [`PinConfig::tools`](crate::interceptor::PinConfig::tools) takes, of a tool's
/// definition as an entry of a `tools/list` result: `sha256:` and 64 hexadecimal digits.
///
/// White space, the order of members and the escaping of strings do not count; the text of numbers
/// does. `None` for what is no JSON object, and for one in which a member is there twice.
///
/// ```
/// use thinpipe_gateway::interceptor::definition_hash;
///
/// let hash = definition_hash(br#"{"name":"add","description":"Adds."}"#);
/// assert_eq!(hash, definition_hash(br#"{ "description": "\u0041dds.", "name": "add" }"#));
/// assert_ne!(hash, definition_hash(br#"{"name":"add","description":"Adds!"}"#));
/// ```
#[must_use]
pub fn definition_hash(definition: &[u8]) -> Option<String> {
    let parsed: &serde_json::value::RawValue = serde_json::from_slice(definition).ok()?;
    let value = Value::root(parsed.get().as_bytes());
    if !value.is_object() {
        return None;
    }
    Hash::of_definition(value).map(|hash| hash.to_string())
}

/// Members sorted by name, no white space, strings escaped in one way, numbers as they came.
fn write_canonical(value: Value<'_>, out: &mut Vec<u8>) -> Option<()> {
    if value.is_object() {
        let mut members: Vec<(Cow<'_, str>, Value<'_>)> = value
            .members()
            .map(|member| (member.name.string().unwrap_or_default(), member.value))
            .collect();
        members.sort_by(|(left, _), (right, _)| left.cmp(right));
        if members
            .windows(2)
            .any(|pair| matches!(pair, [left, right] if left.0 == right.0))
        {
            return None;
        }
        out.push(b'{');
        for (index, (name, value)) in members.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            json::write_quoted(out, name);
            out.push(b':');
            write_canonical(*value, out)?;
        }
        out.push(b'}');
    } else if value.is_array() {
        out.push(b'[');
        for (index, element) in value.elements().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            write_canonical(element, out)?;
        }
        out.push(b']');
    } else {
        match value.string() {
            Some(Cow::Owned(text)) => json::write_quoted(out, &text),
            // A string without escapes is as it would be written.
            _ => out.extend_from_slice(value.raw()),
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_reads_back_and_nothing_else_does() {
        let hash = Hash::of(b"abc");
        let text = hash.to_string();
        // FIPS 180-2, appendix B.1.
        let known = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(text, known);
        assert_eq!(Hash::parse(&text), Some(hash));
        assert_eq!(
            Hash::parse(&text["sha256:".len()..].to_uppercase()),
            Some(hash)
        );
        for wrong in [
            "",
            "sha256:",
            "sha256:12",
            "md5:ab",
            &text[..70],
            &text.replace('b', "é"),
        ] {
            assert_eq!(Hash::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_canonical_form_sorts_members_at_every_depth_and_keeps_numbers() {
        let canonical = |text: &str| {
            let mut out = Vec::new();
            write_canonical(Value::root(text.as_bytes()), &mut out)?;
            Some(String::from_utf8(out).unwrap())
        };
        let text = r#" { "b" : [ { "z":1.0, "a":9007199254740993 } , null ] , "a":"\u00e9\/" } "#;
        let expected = r#"{"a":"é/","b":[{"a":9007199254740993,"z":1.0},null]}"#;
        assert_eq!(canonical(text).as_deref(), Some(expected));
        assert_eq!(canonical(r#"{"a":{"x":1,"\u0078":2}}"#), None);
        assert_eq!(definition_hash(b"[]"), None);
        assert_eq!(definition_hash(b"{"), None);
    }
}
