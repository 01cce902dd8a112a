//! YAML.

use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use super::{insert, plain_text};
use crate::config::problem::Problem;
use crate::config::tree::{Key, Node, Value};

pub(super) fn parse(text: &str) -> Result<Node, Problem> {
    if text.trim().is_empty() {
        return Ok(Node::empty());
    }
    // `off` and `no` are words here ("admin: off"), as in YAML 1.2.
    let options = serde_saphyr::options! {
        strict_booleans: true,
        with_snippet: false,
    };
    let parsed: Spanned<Parsed> =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            let span = error.location().map_or(0..0, |at| range(&at, text));
            Problem::within(span, format!("this is not YAML: {}", message(&error)))
        })?;
    let mut node = convert(parsed, text)?;
    if node.value == Value::Null {
        node = Node::empty();
    }
    Ok(node)
}

/// The error without the position, which is told in our own way.
fn message(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let first = text.lines().next().unwrap_or_default();
    let end = first.find(" at line ").unwrap_or(first.len());
    first[..end].trim_start_matches("error: ").to_owned()
}

fn range(location: &Location, text: &str) -> Range<usize> {
    let span = location.span();
    let start = match span.byte_offset() {
        Some(start) => usize::try_from(start).unwrap_or(usize::MAX),
        None => offset(location, text),
    };
    let start = start.min(text.len());
    let length = usize::try_from(span.byte_len().unwrap_or(0)).unwrap_or(0);
    let end = start.saturating_add(length).min(text.len());
    start..end
}

/// Mistakes of grammar come with line and column (in characters, from 1) only.
fn offset(location: &Location, text: &str) -> usize {
    let index = |number: u64| usize::try_from(number).map_or(0, |n| n.saturating_sub(1));
    let mut lines = text.split_inclusive('\n');
    let before: usize = lines
        .by_ref()
        .take(index(location.line()))
        .map(str::len)
        .sum();
    let line = lines.next().unwrap_or_default();
    let column = line.char_indices().nth(index(location.column()));
    before + column.map_or(line.len(), |(at, _)| at)
}

fn convert(parsed: Spanned<Parsed>, text: &str) -> Result<Node, Problem> {
    let span = range(&parsed.referenced, text);
    let value = match parsed.value {
        Parsed::Scalar(value) => value,
        Parsed::List(items) => Value::List(
            items
                .into_iter()
                .map(|item| convert(item, text))
                .collect::<Result<_, _>>()?,
        ),
        Parsed::Table(parsed) => {
            let mut entries = Vec::with_capacity(parsed.len());
            for (name, value) in parsed {
                let key = Key {
                    span: range(&name.referenced, text),
                    name: name.value,
                };
                insert(&mut entries, key, convert(value, text)?)?;
            }
            Value::Table(entries)
        }
    };
    Ok(Node { span, value })
}

/// What the YAML library gives; its own limits bound depth and aliases.
enum Parsed {
    Scalar(Value),
    List(Vec<Spanned<Self>>),
    Table(Vec<(Spanned<String>, Spanned<Self>)>),
}

impl<'de> Deserialize<'de> for Parsed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Parsed;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Parsed, E> {
                Ok(Parsed::Scalar(Value::Null))
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Parsed, E> {
                Ok(Parsed::Scalar(Value::Bool(value)))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Parsed, E> {
                Ok(Parsed::Scalar(Value::Integer(value.into())))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Parsed, E> {
                Ok(Parsed::Scalar(Value::Integer(value.into())))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Parsed, E> {
                Ok(Parsed::Scalar(Value::Float(value)))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Parsed, E> {
                Ok(Parsed::Scalar(plain_text(value)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Parsed, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Parsed::List(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parsed, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Parsed::Table(entries))
            }
        }

        deserializer.deserialize_any(Any)
    }
}
