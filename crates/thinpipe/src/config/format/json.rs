//! JSON, with places.
//!
//! `serde_json` checks the whole text and cuts it into raw values; where a value stands follows from
//! where its text lies in the whole.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{MAX_DEPTH, insert, plain_text, too_deep};
use crate::config::problem::Problem;
use crate::config::tree::{Key, Node, Value};

pub(super) fn parse(text: &str) -> Result<Node, Problem> {
    let raw: &RawValue = serde_json::from_str(text).map_err(|error| not_json(&error, text))?;
    node(raw, text, 0)
}

fn not_json(error: &serde_json::Error, text: &str) -> Problem {
    let line_start = text
        .split_inclusive('\n')
        .take(error.line().saturating_sub(1))
        .map(str::len)
        .sum::<usize>();
    let at = (line_start + error.column().saturating_sub(1)).min(text.len());
    let message = error.to_string();
    let end = message.rfind(" at line ").unwrap_or(message.len());
    let problem = Problem::within(at..at, format!("this is not JSON: {}", &message[..end]));
    let rest = &text.as_bytes()[at..];
    if rest.starts_with(b"//") || rest.starts_with(b"/*") {
        return problem.mend("JSON has no comments; TOML and YAML have them");
    }
    let before = text.as_bytes()[..at].trim_ascii_end();
    if matches!(rest.first(), Some(b'}' | b']')) && before.ends_with(b",") {
        return problem.mend("take out the comma before it");
    }
    problem
}

fn node(raw: &RawValue, text: &str, depth: usize) -> Result<Node, Problem> {
    let span = span(raw, text);
    if depth > MAX_DEPTH {
        return Err(too_deep(span));
    }
    let within = |error: serde_json::Error| {
        Problem::within(span.clone(), format!("this is not JSON: {error}"))
    };
    let source = raw.get();
    let value = match source.as_bytes().first() {
        Some(b'{') => {
            let mut members = serde_json::Deserializer::from_str(source);
            let members = members.deserialize_map(Members).map_err(within)?;
            let mut entries = Vec::with_capacity(members.len());
            let mut cursor = span.start;
            for (name, raw) in members {
                let value = node(raw, text, depth + 1)?;
                let key = key(name, cursor, &value.span, text);
                cursor = value.span.end;
                insert(&mut entries, key, value)?;
            }
            Value::Table(entries)
        }
        Some(b'[') => {
            let mut items = serde_json::Deserializer::from_str(source);
            let items = items.deserialize_seq(Items).map_err(within)?;
            let items = items.into_iter().map(|raw| node(raw, text, depth + 1));
            Value::List(items.collect::<Result<_, _>>()?)
        }
        Some(b'"') => plain_text(serde_json::from_str::<String>(source).map_err(within)?),
        Some(b't') => Value::Bool(true),
        Some(b'f') => Value::Bool(false),
        Some(b'n') => Value::Null,
        _ => match source.parse::<i128>() {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Float(serde_json::from_str(source).map_err(within)?),
        },
    };
    Ok(Node { span, value })
}

/// Raw values borrow from the text that was parsed, so their place is the distance of addresses.
fn span(raw: &RawValue, text: &str) -> Range<usize> {
    let start = (raw.get().as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    let start = start.min(text.len());
    start..(start + raw.get().len()).min(text.len())
}

/// A member's key begins at the first quote after what stands before it.
fn key(name: String, cursor: usize, value: &Range<usize>, text: &str) -> Key {
    let before = &text[cursor..value.start];
    let start = cursor + before.find('"').unwrap_or(0);
    let end = text[..value.start].rfind('"').map_or(start, |at| at + 1);
    Key {
        span: start..end.max(start),
        name,
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }
}

struct Items;

impl<'de> Visitor<'de> for Items {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(items)
    }
}
