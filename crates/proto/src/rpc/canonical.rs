//! One text for each JSON value.

use bytes::Bytes;

use crate::rpc::MessageError;
use crate::rpc::scan::{MAX_DEPTH, Refused, Scan, Scanner};
use crate::rpc::text;

/// A JSON value in its canonical text: no white space, members sorted by name, strings with no more escapes
/// than JSON wants; numbers keep their text (protocol notes 5.4.2). Values that say the same have the same
/// text, but for numbers that are written in different ways.
///
/// # Errors
/// [`MessageError`] with `-32700` if it is not JSON, `-32600` if an object in it names a member twice or it
/// nests over 128.
pub fn canonical(value: &[u8]) -> Result<Bytes, MessageError> {
    let mut scanner = Scanner::new(value);
    let mut out = Vec::with_capacity(value.len());
    scanner.space();
    let written = write(&mut scanner, &mut out, 0).and_then(|()| scanner.end());
    match written {
        Ok(()) => Ok(out.into()),
        Err(Refused) => Err(MessageError::from_fault(scanner.fault(), None)),
    }
}

/// Writes the value under the cursor, inside `depth` open containers. It calls itself at most once for each
/// level, of which there are few.
fn write(scanner: &mut Scanner<'_>, out: &mut Vec<u8>, depth: u32) -> Scan<()> {
    let open = scanner.peek();
    if matches!(open, Some(b'{' | b'[')) && depth >= MAX_DEPTH {
        return Err(scanner.refuse_over_limit("nested more than 128 levels deep"));
    }
    match open {
        Some(b'{') => write_object(scanner, out, depth + 1),
        Some(b'[') => {
            out.push(b'[');
            let mut first = true;
            scanner.array(|scanner| {
                if !std::mem::take(&mut first) {
                    out.push(b',');
                }
                write(scanner, out, depth + 1)
            })?;
            out.push(b']');
            Ok(())
        }
        Some(b'"') => {
            let content = scanner.string()?.span.of(scanner.text());
            text::write_quoted(out, &text::unescape(content));
            Ok(())
        }
        _ => {
            let scalar = scanner.value(depth)?;
            out.extend_from_slice(scalar.of(scanner.text()));
            Ok(())
        }
    }
}

fn write_object(scanner: &mut Scanner<'_>, out: &mut Vec<u8>, depth: u32) -> Scan<()> {
    out.push(b'{');
    let start = out.len();
    // Each member with the comma behind it, so that they can change places.
    let mut places = Vec::new();
    scanner.object(|scanner, name| {
        let name = text::unescape(name.span.of(scanner.text())).into_owned();
        let at = out.len();
        text::write_quoted(out, &name);
        out.push(b':');
        write(scanner, out, depth)?;
        out.push(b',');
        places.push((name, at..out.len()));
        Ok(())
    })?;
    if !places.is_sorted_by(|(one, _), (other, _)| one < other) {
        places.sort_by(|(one, _), (other, _)| one.cmp(other));
        if places.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(scanner.refuse_over_limit("a member is there twice"));
        }
        let sorted: Vec<u8> = places
            .iter()
            .flat_map(|(_, at)| out[at.clone()].iter().copied())
            .collect();
        out.truncate(start);
        out.extend_from_slice(&sorted);
    }
    if !places.is_empty() {
        out.pop();
    }
    out.push(b'}');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_say_the_same_have_one_text() {
        for (value, text) in [
            (
                r#" { "b" : [ 1.0 , {"y":2,"x":1e400} ] , "a" : "\u00e9\/\n" } "#,
                r#"{"a":"é/\n","b":[1.0,{"x":1e400,"y":2}]}"#,
            ),
            (r#"{"\u0062":1,"a":{}}"#, r#"{"a":{},"b":1}"#),
            ("[]", "[]"),
            (" 9007199254740993 ", "9007199254740993"),
            ("null", "null"),
        ] {
            assert_eq!(canonical(value.as_bytes()).unwrap(), text);
            assert_eq!(canonical(text.as_bytes()).unwrap(), text);
        }
    }

    #[test]
    fn what_two_parsers_may_read_differently_has_none() {
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(canonical(deep(128).as_bytes()).is_ok());
        for refused in [
            "",
            "{",
            "[1,]",
            "1 2",
            r#"{"a":1,"a":1}"#,
            r#"[{"b":1,"a":1,"\u0061":2}]"#,
            &deep(129),
        ] {
            assert!(canonical(refused.as_bytes()).is_err(), "{refused}");
        }
    }
}
