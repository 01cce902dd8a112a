//! The values of headers that repeat arguments.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::header::{decode_value, encode_value};
use crate::rpc::string;

/// The largest integer that a header may carry: 2^53 - 1.
const MAX_INTEGER: f64 = 9_007_199_254_740_991.0;

/// An argument that no header can carry: a number beyond 2^53 - 1, of either sign. The call cannot be made:
/// `-32602`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the argument {argument:?} is beyond 2^53 - 1, which no {header} header can repeat")]
pub struct NotCarried {
    /// The header that would repeat it.
    pub header: HeaderName,
    /// Which one: the names that lead to it, with `/` between them, cut off at 64 characters.
    pub argument: String,
}

/// The number is too large for a header.
pub(super) struct TooLarge;

/// The value that repeats an argument (JSON text); `None`: nothing does.
pub(super) fn header(value: &Bytes) -> Result<Option<HeaderValue>, TooLarge> {
    let text = match value.first() {
        Some(b'"') => match string(value) {
            Some(text) => encode_value(&text).into_owned(),
            None => return Ok(None),
        },
        Some(b't' | b'f') => String::from_utf8_lossy(value).into_owned(),
        Some(b'-' | b'0'..=b'9') => decimal(value).ok_or(TooLarge)?,
        _ => return Ok(None),
    };
    Ok(HeaderValue::from_str(&text).ok())
}

/// A number as headers write it: integers in decimal, whichever way JSON wrote them. `None`: too large.
fn decimal(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    let number: f64 = text.parse().ok()?;
    if number.abs() > MAX_INTEGER {
        return None;
    }
    if number.fract() != 0.0 {
        return Some(text.to_owned());
    }
    // No fraction, and small enough: no digit is lost. JSON's minus zero is zero.
    Some(format!("{:.0}", number + 0.0))
}

/// Compares the header with the argument; tells what is wrong.
pub(super) fn compare(
    headers: &HeaderMap,
    name: &HeaderName,
    value: Option<&Bytes>,
) -> Result<(), &'static str> {
    let mut given = headers.get_all(name).iter();
    let value = value.filter(|value| &value[..] != b"null");
    let (header, value) = match (given.next(), given.next(), value) {
        (None, _, None) => return Ok(()),
        (None, _, Some(_)) => return Err("is missing"),
        (Some(_), _, None) => return Err("repeats no argument"),
        (Some(_), Some(_), Some(_)) => return Err("is there more than once"),
        (Some(header), None, Some(value)) => (header, value),
    };
    let text = decode_value(header.as_bytes()).map_err(|_| "is no valid Base64 of UTF-8")?;
    let same = match value.first() {
        Some(b'"') => string(value) == Some(text),
        Some(b't' | b'f') => text.as_bytes() == &value[..],
        Some(b'-' | b'0'..=b'9') => is_number(&text, value),
        _ => false,
    };
    if same {
        Ok(())
    } else {
        Err("differs from the argument")
    }
}

fn is_number(text: &str, value: &[u8]) -> bool {
    if text.as_bytes() == value {
        return true;
    }
    let number = |text: &str| {
        let number: f64 = text.parse().ok()?;
        Some(number).filter(|number| number.abs() <= MAX_INTEGER)
    };
    // What Rust takes for a number and nobody else does.
    let plain =
        |&byte: &u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E');
    if !text.bytes().all(|byte| plain(&byte)) {
        return false;
    }
    let value = std::str::from_utf8(value).ok().and_then(number);
    value.is_some() && number(text) == value
}
