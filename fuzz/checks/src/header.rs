//! Header values: the sentinel rules, media types and `Accept`.

use http::{HeaderName, HeaderValue};
use thinpipe_proto::header::{self, Accept, MediaType};

/// Checks one input: a header value, or the text of one.
pub fn check(input: &[u8]) {
    if let Ok(text) = header::decode_value(input) {
        check_text(&text);
    }
    if let Ok(text) = std::str::from_utf8(input) {
        check_text(text);
    }
    let (lower, upper) = (input.to_ascii_lowercase(), input.to_ascii_uppercase());
    assert_eq!(MediaType::parse(&lower), MediaType::parse(&upper), "case");
    let values = || input.split(|byte| *byte == b'\n');
    let accept = Accept::parse(values());
    let joined = values().collect::<Vec<_>>().join(&b","[..]);
    if !joined.contains(&b'"') {
        let once = Accept::parse([joined.as_slice()].into_iter());
        assert_eq!(accept, once, "several values are one list");
    }
    if let Ok(name) = HeaderName::from_bytes(input) {
        let _ = header::is_hop_by_hop(&name);
    }
}

/// Any text survives a header.
fn check_text(text: &str) {
    let value = header::encode_value(text);
    assert!(
        HeaderValue::from_str(&value).is_ok(),
        "{value:?} is no header value"
    );
    assert!(value.is_ascii());
    assert_eq!(header::decode_value(value.as_bytes()).as_deref(), Ok(text));
}
