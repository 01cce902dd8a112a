//! `Mcp-Param-*`: headers that repeat arguments, after somebody has changed those (`protocol.md` 4.2).
//!
//! Which argument a header repeats stands in the tool's schema, which nobody has here. But a header that
//! repeats one has its value: so it is known by that.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use thinpipe_proto::header::{PARAM_PREFIX, decode_value, encode_value};
use thinpipe_proto::rpc::Message;

/// The largest integer that a header may carry (protocol notes 2.3.4).
const MAX_INTEGER: f64 = 9_007_199_254_740_991.0;

/// Whether a header repeats an argument.
pub(super) fn is_param(name: &HeaderName) -> bool {
    name.as_str().starts_with(PARAM_PREFIX)
}

/// Lets the headers follow a change of the message: what repeated an argument that is no more repeats what
/// has taken its place, or goes. What was taken out of the body must not leave in the head.
pub(super) fn follow(headers: &mut HeaderMap, before: &Message, after: &Message) {
    let names: Vec<_> = headers
        .keys()
        .filter(|name| is_param(name))
        .cloned()
        .collect();
    if names.is_empty() || before.source() == after.source() {
        return;
    }
    let (before, after) = (arguments(before), arguments(after));
    for name in names {
        match followed(headers, &name, &before, &after) {
            Some(value) => headers.insert(name, value),
            None => headers.remove(name),
        };
    }
}

/// What a header says from now on; `None`: nothing.
fn followed(
    headers: &HeaderMap,
    name: &HeaderName,
    before: &Value,
    after: &Value,
) -> Option<HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    let text = decode_value(value.as_bytes()).ok()?;
    if scalars(after).iter().any(|(_, scalar)| says(scalar, &text)) {
        return Some(value.clone());
    }
    let repeated = scalars(before);
    let repeated = repeated.iter().filter(|(_, scalar)| says(scalar, &text));
    let mut now = repeated.map(|(at, _)| after.pointer(at).and_then(text_of));
    let first = now.next()??;
    // If it is not clear which argument it repeats, it is not clear what it has to say.
    let value = now.all(|other| other.as_deref() == Some(&*first));
    let value = value.then(|| encode_value(&first).into_owned())?;
    HeaderValue::from_str(&value).ok()
}

fn arguments(message: &Message) -> Value {
    let arguments = message.param("arguments").unwrap_or_default();
    serde_json::from_slice(&arguments).unwrap_or_default()
}

/// The scalars that a header can repeat, with their JSON pointers: members of objects at any depth.
fn scalars(arguments: &Value) -> Vec<(String, &Value)> {
    let mut found = Vec::new();
    let mut open = vec![(String::new(), arguments)];
    while let Some((at, value)) = open.pop() {
        match value {
            Value::Object(members) => open.extend(members.iter().map(|(name, member)| {
                let name = name.replace('~', "~0").replace('/', "~1");
                (format!("{at}/{name}"), member)
            })),
            Value::Array(_) | Value::Null => {}
            _ => found.push((at, value)),
        }
    }
    found
}

/// Whether a header with this value repeats this argument (protocol notes 2.3.4: numbers by value).
fn says(scalar: &Value, text: &str) -> bool {
    let number = || scalar.as_f64().filter(|number| number.abs() <= MAX_INTEGER);
    text_of(scalar).as_deref() == Some(text)
        || number().is_some_and(|number| text.parse() == Ok(number))
}

/// What a header that repeats this argument says, before it is encoded.
fn text_of(scalar: &Value) -> Option<String> {
    match scalar {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(scalar.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(arguments: &str) -> Message {
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"t","arguments":{arguments}}}}}"#
        );
        Message::parse(text.into()).expect("a message")
    }

    /// R126, protocol notes 4.2: what repeats an argument goes with it; numbers are compared by value, and
    /// what was never an argument is not told any more, since nobody knows what it repeats.
    #[test]
    fn r126_params_follow_the_arguments() {
        let before =
            r#"{"a":"eu","b":"eu","n":42,"deep":{"/x":"é"},"yes":true,"list":["in a list"]}"#;
        for (said, after, expected) in [
            ("eu", r#"{"a":"us","b":"eu"}"#, Some("eu")),
            ("eu", r#"{"a":"us","b":"us"}"#, Some("us")),
            ("eu", r#"{"a":"us","b":"cn"}"#, None),
            ("eu", r#"{"a":"us"}"#, None),
            ("eu", r#"{"a":null,"b":["eu"]}"#, None),
            ("42.0", r#"{"n":42,"a":"x"}"#, Some("42.0")),
            ("42", r#"{"n":43}"#, Some("43")),
            ("42", r#"{"n":"42"}"#, Some("42")),
            ("true", r#"{"yes":false}"#, Some("false")),
            (
                "=?base64?w6k=?=",
                r#"{"deep":{"/x":"è"}}"#,
                Some("=?base64?w6g=?="),
            ),
            ("=?base64?w6k=?=", r#"{"deep":{}}"#, None),
            ("=?base64?!?=", r#"{"a":"x"}"#, None),
            ("in a list", r#"{"list":["in a list"]}"#, None),
            ("no argument", r#"{"a":"x"}"#, None),
            ("eu", "[]", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("mcp-param-p", HeaderValue::from_static(said));
            headers.insert("x-other", HeaderValue::from_static(said));
            follow(&mut headers, &call(before), &call(after));
            let told = headers.get("mcp-param-p").map(|value| value.as_bytes());
            assert_eq!(told, expected.map(str::as_bytes), "{said} {after}");
            assert_eq!(headers["x-other"], said);
        }
        let mut headers = HeaderMap::new();
        headers.insert("mcp-param-p", HeaderValue::from_static("no argument"));
        follow(&mut headers, &call(before), &call(before));
        assert!(headers.contains_key("mcp-param-p"), "nothing was changed");
    }
}
