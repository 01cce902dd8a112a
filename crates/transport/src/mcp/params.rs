//! `Mcp-Param-*`: headers that repeat the arguments of a tool whose schema is known (protocol notes 2.3.4).

use std::collections::HashSet;

use http::{HeaderMap, HeaderName};
use serde_json::Value;
use thinpipe_proto::header::{PARAM_PREFIX, decode_value};
use thinpipe_proto::rpc::code;

use super::RpcError;

/// The largest integer that a header may carry.
const MAX_INTEGER: f64 = 9_007_199_254_740_991.0;

/// Properties nest at most this deep in a schema that is looked through.
const MAX_DEPTH: usize = 32;

/// Compares the headers of a call with its arguments.
///
/// # Errors
/// `-32020` (Header mismatch).
pub(super) fn check(
    headers: &HeaderMap,
    schema: &Value,
    arguments: &Value,
) -> Result<(), RpcError> {
    let mut seen = HashSet::new();
    walk(schema, arguments, 0, &mut |name, value| {
        let full = format!("{PARAM_PREFIX}{}", name.to_ascii_lowercase());
        let Ok(header) = HeaderName::try_from(full) else {
            return Ok(());
        };
        if seen.insert(header.clone()) {
            compare(headers, &header, value)
        } else {
            Ok(())
        }
    })
}

/// Visits every property that a header repeats, with its value.
fn walk(
    schema: &Value,
    value: &Value,
    depth: usize,
    visit: &mut impl FnMut(&str, &Value) -> Result<(), RpcError>,
) -> Result<(), RpcError> {
    let Some(properties) = schema["properties"]
        .as_object()
        .filter(|_| depth < MAX_DEPTH)
    else {
        return Ok(());
    };
    for (name, property) in properties {
        let value = &value[name];
        if let Some(header) = property["x-mcp-header"].as_str() {
            visit(header, value)?;
        }
        walk(property, value, depth + 1, visit)?;
    }
    Ok(())
}

fn compare(headers: &HeaderMap, name: &HeaderName, value: &Value) -> Result<(), RpcError> {
    let mut given = headers.get_all(name).iter();
    let header = match (given.next(), given.next(), value) {
        (None, _, Value::Null) => return Ok(()),
        (None, _, _) => return Err(mismatch(name, "is missing")),
        (Some(_), _, Value::Null) => return Err(mismatch(name, "repeats no argument")),
        (Some(_), Some(_), _) => return Err(mismatch(name, "is there more than once")),
        (Some(header), None, _) => header,
    };
    let text =
        decode_value(header.as_bytes()).map_err(|error| mismatch(name, &format!("is {error}")))?;
    let same = match value {
        Value::String(value) => *value == *text,
        Value::Bool(value) => *text == *value.to_string(),
        Value::Number(number) => {
            let wanted = number.as_f64().filter(|n| n.abs() <= MAX_INTEGER);
            *text == *number.to_string() || (wanted.is_some() && text.parse().ok() == wanted)
        }
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    };
    if same {
        return Ok(());
    }
    Err(mismatch(name, "differs from the argument"))
}

fn mismatch(name: &HeaderName, what: &str) -> RpcError {
    RpcError::new(code::HEADER_MISMATCH, format!("{name} {what}"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use serde_json::json;

    use super::*;

    /// R124, R125, R127
    #[test]
    fn r124_headers_say_what_the_arguments_say() {
        let schema = json!({ "type": "object", "properties": {
            "region": { "type": "string", "x-mcp-header": "Region" },
            "deep": { "type": "object", "properties": {
                "n": { "type": "integer", "x-mcp-header": "N" },
            } },
            "free": { "type": "string" },
        } });
        let checked = |sent: &[(&'static str, &'static str)], arguments: Value| {
            let mut headers = HeaderMap::new();
            for (name, value) in sent {
                headers.append(*name, HeaderValue::from_static(value));
            }
            check(&headers, &schema, &arguments).is_ok()
        };
        let region = ("mcp-param-region", "eu");
        assert!(checked(&[], json!({ "free": "x" })));
        assert!(checked(&[region], json!({ "region": "eu" })));
        assert!(checked(
            &[("mcp-param-region", " eu ")],
            json!({ "region": "eu" })
        ));
        assert!(checked(
            &[("mcp-param-region", "=?base64?w6k=?=")],
            json!({ "region": "é" })
        ));
        assert!(checked(
            &[("mcp-param-n", "42.0")],
            json!({ "deep": { "n": 42 } })
        ));
        assert!(
            checked(&[("mcp-param-other", "x")], json!({})),
            "unknown ones are no affair of ours"
        );
        assert!(!checked(&[], json!({ "region": "eu" })));
        assert!(!checked(&[region], json!({ "region": "us" })));
        assert!(!checked(&[region], json!({ "region": null })));
        assert!(!checked(&[region], json!({})));
        assert!(!checked(&[region, region], json!({ "region": "eu" })));
        assert!(!checked(
            &[("mcp-param-region", "=?base64?!?=")],
            json!({ "region": "eu" })
        ));
        assert!(!checked(
            &[("mcp-param-n", "43")],
            json!({ "deep": { "n": 42 } })
        ));
    }
}
