//! Names and numbers in header fields.

use http::header::{
    ACCEPT, ALLOW, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, InvalidHeaderName, LOCATION,
    ORIGIN, RETRY_AFTER,
};
use http::{HeaderMap, HeaderName};
use thinpipe_proto::header::{LAST_EVENT_ID, METHOD, NAME, PROTOCOL_VERSION, SESSION_ID};

/// The name of a field. Those of MCP, which `http` does not know, are shared and not made anew: every
/// request has two of them.
pub(crate) fn name(text: &str) -> Result<HeaderName, InvalidHeaderName> {
    let known = match text.len() {
        8 => NAME,
        10 => METHOD,
        13 => LAST_EVENT_ID,
        14 => SESSION_ID,
        20 => PROTOCOL_VERSION,
        _ => return HeaderName::from_bytes(text.as_bytes()),
    };
    if text.eq_ignore_ascii_case(known.as_str()) {
        Ok(known)
    } else {
        HeaderName::from_bytes(text.as_bytes())
    }
}

/// Removes a field that `Connection` names: it goes no further than this hop (RFC 9110 7.6.1).
pub(crate) fn remove_named(headers: &mut HeaderMap, named: &[u8]) {
    if let Ok(name) = HeaderName::from_bytes(named)
        && !is_end_to_end(&name)
    {
        headers.remove(name);
    }
}

/// Fields that are meant for whoever reads the message, and never for one hop: naming them in `Connection`
/// must not switch off the checks that are made of them.
fn is_end_to_end(name: &HeaderName) -> bool {
    let known = [
        ACCEPT,
        ALLOW,
        AUTHORIZATION,
        CONTENT_ENCODING,
        CONTENT_TYPE,
        LAST_EVENT_ID,
        LOCATION,
        ORIGIN,
        RETRY_AFTER,
    ];
    known.contains(name) || name.as_str().starts_with("mcp-")
}

/// Writes a number by hand: for a few digits, `write!` costs more than the field it stands in.
pub(crate) fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_http_makes_of_them() {
        for text in [
            "Mcp-Name",
            "mcp-method",
            "Last-Event-ID",
            "MCP-SESSION-ID",
            "Mcp-Protocol-Version",
            "location",
            "mcp-param-tenant",
        ] {
            assert_eq!(name(text).unwrap(), HeaderName::try_from(text).unwrap());
        }
        assert!(name("a b").is_err() && name("").is_err());
    }

    #[test]
    fn numbers_have_their_digits() {
        for number in [0, 9, 10, 1234, u64::MAX] {
            assert_eq!(decimal(number, &mut [0; 20]), number.to_string().as_bytes());
        }
    }
}
