//! Kinds of values in the words of configuration files: what was expected, what was found, what to write.

use serde::de::Unexpected;

use super::tree::Value;

/// What to write where serde says only what it wanted.
pub(super) fn mend_of(path: &str, message: &str) -> Option<&'static str> {
    let list = message.starts_with("expected a list");
    let table = message.starts_with("expected a table");
    let key = path.rsplit('.').next().unwrap_or_default();
    let key = key.split('[').next().unwrap_or_default();
    let quoted = message.ends_with("found a string");
    Some(match key {
        "tokens" if list || table => {
            "each token is a table: `[[tokens]]` in TOML, with `principal = \"alice\"` and `token = \"${ALICE_TOKEN}\"`"
        }
        "state_keys" if list || table => {
            "each key is a table: `[[state_keys]]` in TOML, with `key = \"${STATE_KEY}\"` or `file = \"/run/secrets/state-key\"`"
        }
        "headers" if table => "write a table, as in `{ Authorization = \"Bearer ${API_TOKEN}\" }`",
        "env" if table => "write a table, as in `{ API_KEY = \"${API_KEY}\" }`",
        "session_pool" if table => "write a table, as in `{ max = 8 }`",
        "parked" if table => "write a table, as in `{ age = \"10m\" }`",
        "cache" if table => "write a table, as in `{ enabled = false }`",
        "upstreams" if list => {
            "each upstream is an entry of a list: `[[upstreams]]` in TOML, `- url: ..` in YAML"
        }
        "interceptors" if list => "each interceptor is a table: `[{ type = \"sanitize\" }]`",
        _ if list => "write a list, as in `[\"a\", \"b\"]`",
        _ if message.starts_with("expected `true` or `false`") => {
            "write `true` or `false` without quotes"
        }
        _ if quoted && message.starts_with("expected a whole number") => {
            "write the number without quotes"
        }
        _ if message.starts_with("expected a duration") => {
            "write a number with its unit, in quotes, as in `\"30s\"`"
        }
        // Of a choice of words: those are quoted in the message.
        _ if message.starts_with("expected `") => "write one of these words, in quotes",
        _ => return None,
    })
}

/// What was found: its kind alone, since a value of the wrong kind may be a secret in the wrong place.
pub(super) fn kind(found: &Unexpected<'_>) -> &'static str {
    match found {
        Unexpected::Bool(true) => "`true`",
        Unexpected::Bool(false) => "`false`",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) | Unexpected::Float(_) => "a number",
        Unexpected::Str(_) | Unexpected::Char(_) | Unexpected::Bytes(_) => "a string",
        Unexpected::Unit | Unexpected::Option => "nothing",
        Unexpected::Seq => "a list",
        Unexpected::Map => "a table",
        _ => "something else",
    }
}

/// What was wanted, in the words of configuration files rather than of Rust.
pub(super) fn plain(expected: &str) -> &str {
    match expected.split(' ').next().unwrap_or_default() {
        "struct" | "internally" | "adjacently" | "map" => "a table",
        "enum" | "variant" | "unit" => "a word",
        "tuple" => "a list",
        "u8" | "u16" | "u32" | "u64" | "usize" | "i32" | "i64" => "a whole number",
        "f32" | "f64" => "a number",
        _ => match expected {
            "a map" => "a table",
            "a sequence" => "a list",
            "a boolean" => "`true` or `false`",
            other => other,
        },
    }
}

/// A table with the keys that it needs, where these are few.
pub(super) fn table_with(keys: &[&str]) -> &'static str {
    match keys {
        ["principal", "token", "tier"] => "a table with `principal` and `token`",
        ["key", "file"] => "a table with `key` or `file`",
        _ => "a table",
    }
}

/// The words that there are to choose from.
pub(super) fn words(known: &[&str]) -> String {
    let quoted: Vec<_> = known.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

/// A value, as serde speaks of one.
pub(super) fn found(value: &Value) -> Unexpected<'_> {
    match value {
        Value::Null => Unexpected::Unit,
        Value::Bool(value) => Unexpected::Bool(*value),
        Value::Integer(_) => Unexpected::Unsigned(0),
        Value::Float(number) => Unexpected::Float(*number),
        Value::Text(text) => Unexpected::Str(&text.value),
        Value::List(_) => Unexpected::Seq,
        Value::Table(_) => Unexpected::Map,
    }
}
