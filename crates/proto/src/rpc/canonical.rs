//! One way of writing each JSON value, to compare what two requests say.

use std::ops::Range;

use crate::rpc::scan::{MAX_DEPTH, Scan, Scanner};
use crate::rpc::{MessageError, text};

/// Writes a JSON value so that two texts which differ in nothing but their writing come out equal: members
/// sorted, strings without escapes that they do not need, no white space. The text of numbers is kept, so
/// `1` and `1.0` differ: which of them a server tells apart, nobody else knows. If the value is an object,
/// those of its members whose names are in `without` are left out; in objects inside of it they are not.
///
/// # Errors
/// [`MessageError`] with `-32700` if `value` is no JSON, `-32600` if it nests over 128.
pub fn canonical(value: &[u8], without: &[&str]) -> Result<Vec<u8>, MessageError> {
    if u32::try_from(value.len()).is_err() {
        return Err(MessageError::invalid("longer than 4 GiB", None));
    }
    let mut scanner = Scanner::new(value);
    let mut out = Vec::with_capacity(value.len());
    scanner.space();
    let written = write(&mut scanner, &mut out, 0, without);
    match written.and_then(|()| scanner.end()) {
        Ok(()) => Ok(out),
        Err(_) => Err(MessageError::from_fault(scanner.fault(), None)),
    }
}

/// Writes the value under the cursor, inside `depth` open containers.
fn write(scanner: &mut Scanner<'_>, out: &mut Vec<u8>, depth: u32, without: &[&str]) -> Scan<()> {
    let open = scanner.peek();
    if matches!(open, Some(b'{' | b'[')) && depth >= MAX_DEPTH {
        return Err(scanner.refuse_over_limit("nested more than 128 levels deep"));
    }
    match open {
        Some(b'{') => write_object(scanner, out, depth, without),
        Some(b'[') => {
            out.push(b'[');
            let mut is_first = true;
            scanner.array(|scanner| {
                if !std::mem::take(&mut is_first) {
                    out.push(b',');
                }
                write(scanner, out, depth + 1, &[])
            })?;
            out.push(b']');
            Ok(())
        }
        Some(b'"') => {
            let string = scanner.string()?;
            let content = text::unescape(string.span.of(scanner.text()));
            text::write_quoted(out, &content);
            Ok(())
        }
        _ => {
            let value = scanner.value(depth)?;
            out.extend_from_slice(value.of(scanner.text()));
            Ok(())
        }
    }
}

/// Where a member was written: its name, and all of it.
struct Written {
    name: Range<usize>,
    whole: Range<usize>,
}

fn write_object(
    scanner: &mut Scanner<'_>,
    out: &mut Vec<u8>,
    depth: u32,
    without: &[&str],
) -> Scan<()> {
    let start = out.len();
    let mut members: Vec<Written> = Vec::new();
    scanner.object(|scanner, name| {
        let name = text::unescape(name.span.of(scanner.text()));
        if without.contains(&&*name) {
            return scanner.value(depth + 1).map(drop);
        }
        let begin = out.len();
        text::write_quoted(out, &name);
        let name = begin..out.len();
        out.push(b':');
        write(scanner, out, depth + 1, &[])?;
        let whole = begin..out.len();
        members.push(Written { name, whole });
        Ok(())
    })?;
    let is_before =
        |left: &Written, right: &Written| out[left.name.clone()].cmp(&out[right.name.clone()]);
    members.sort_by(is_before);
    let mut sorted = Vec::with_capacity(out.len() - start + members.len() + 2);
    sorted.push(b'{');
    for (index, member) in members.iter().enumerate() {
        if index > 0 {
            sorted.push(b',');
        }
        sorted.extend_from_slice(&out[member.whole.clone()]);
    }
    sorted.push(b'}');
    out.truncate(start);
    out.append(&mut sorted);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> String {
        String::from_utf8(canonical(value.as_bytes(), &[]).unwrap()).unwrap()
    }

    /// R234: what a request says counts, not how it is written.
    #[test]
    fn r234_writing_makes_no_difference() {
        let one = r#"{"b":[1, {"y":true,"x":null}],"a":"\u00e4\/\n","B":{}}"#;
        let other =
            " {\t\"B\": { },\"\\u0061\" : \"ä/\\u000a\",\n\"b\":[1,{\"x\":null,\"y\":true}] } ";
        assert_eq!(of(one), of(other));
        assert_eq!(
            of(one),
            "{\"B\":{},\"a\":\"ä/\\n\",\"b\":[1,{\"x\":null,\"y\":true}]}"
        );
    }

    /// R234: numbers are as they were written; the order of an array counts.
    #[test]
    fn r234_what_says_something_else_differs() {
        for (one, other) in [
            ("1", "1.0"),
            ("100", "1e2"),
            ("9007199254740993", "9007199254740992"),
            ("1", "\"1\""),
            ("[1,2]", "[2,1]"),
            ("{}", "[]"),
            ("{\"a\":null}", "{}"),
            ("[[1],2]", "[[1,2]]"),
            (r#"{"a":"b\":\"c"}"#, r#"{"a":"b","c":""}"#),
        ] {
            assert_ne!(of(one), of(other));
        }
    }

    #[test]
    fn r234_only_outer_members_are_left_out() {
        let params = br#"{"_meta":{"x":1},"arguments":{"_meta":2,"requestState":3},"\u005fmeta":4,"name":"n"}"#;
        let written = canonical(params, &["_meta", "requestState"]).unwrap();
        let expected = r#"{"arguments":{"_meta":2,"requestState":3},"name":"n"}"#;
        assert_eq!(String::from_utf8(written).unwrap(), expected);
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for (text, code) in [
            ("", -32700),
            ("{\"a\":}", -32700),
            ("{} x", -32700),
            ("[\"\\ud800\"]", -32700),
            (&"[".repeat(200), -32600),
        ] {
            assert_eq!(
                canonical(text.as_bytes(), &[]).unwrap_err().code,
                code,
                "{text}"
            );
        }
        let deep = format!("{}{}", "[".repeat(128), "]".repeat(128));
        assert_eq!(of(&deep), deep);
    }
}
