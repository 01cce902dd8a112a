//! TOML.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{MAX_DEPTH, plain_text, too_deep};
use crate::config::problem::Problem;
use crate::config::tree::{Key, Node, Value};

pub(super) fn parse(text: &str) -> Result<Node, Problem> {
    let table = DeTable::parse(text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        let message = error.message().trim().replace('\n', ", ");
        let is_store = message == "duplicate key" && text.get(span.clone()) == Some("store");
        // The parser takes what begins no string for the kind of value that it begins like.
        let is_value = UNQUOTED.iter().any(|begins| message.starts_with(begins));
        let problem = Problem::within(span, format!("this is not TOML: {message}"));
        match is_store {
            true => {
                problem.mend("`store` is a URL or a table: in `[store]`, write the URL as `url`")
            }
            false if is_value => problem.mend("text stands in quotes, as in `name = \"files\"`"),
            false => problem,
        }
    })?;
    let span = table.span();
    Ok(Node {
        value: entries(table.into_inner(), 0)?,
        span,
    })
}

/// How the parser complains of a value that is no string, and mostly meant to be one.
const UNQUOTED: [&str; 5] = [
    "invalid float",
    "invalid integer",
    "invalid boolean",
    "invalid datetime",
    "string values must be quoted",
];

fn entries(table: DeTable<'_>, depth: usize) -> Result<Value, Problem> {
    let mut entries = Vec::with_capacity(table.len());
    for (name, value) in table {
        let key = Key {
            span: name.span(),
            name: name.into_inner().into_owned(),
        };
        entries.push((key, node(value, depth + 1)?));
    }
    // The parser sorts keys; problems are told, and settings shown, in the order of the file.
    entries.sort_by_key(|(key, _)| key.span.start);
    Ok(Value::Table(entries))
}

fn node(value: Spanned<DeValue<'_>>, depth: usize) -> Result<Node, Problem> {
    let span = value.span();
    if depth > MAX_DEPTH {
        return Err(too_deep(span));
    }
    let value = match value.into_inner() {
        DeValue::String(text) => plain_text(text),
        DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix())
            .map(Value::Integer)
            .map_err(|_| Problem::within(span.clone(), "this number is too large"))?,
        DeValue::Float(number) => number
            .as_str()
            .parse()
            .map(Value::Float)
            .map_err(|_| Problem::within(span.clone(), "this number cannot be read"))?,
        DeValue::Boolean(value) => Value::Bool(value),
        // No setting is a date; as text it will be refused by name.
        DeValue::Datetime(date) => plain_text(date.to_string()),
        DeValue::Array(items) => Value::List(
            items
                .into_iter()
                .map(|item| node(item, depth + 1))
                .collect::<Result<_, _>>()?,
        ),
        DeValue::Table(table) => entries(table, depth)?,
    };
    Ok(Node { span, value })
}
