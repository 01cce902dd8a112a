//! Header values: the sentinel rules, media types, `Accept`, and who a request was forwarded for.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};
use thinpipe_proto::forwarded::{self, ForwardedHeader, TrustedProxies};
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
    check_trail(input);
    if let Ok(name) = HeaderName::from_bytes(input) {
        let _ = header::is_hop_by_hop(&name);
    }
}

/// Whatever stands before what a trusted proxy appends, its word is what counts, and the way a request
/// came is written as it is read.
fn check_trail(input: &[u8]) {
    let peer: IpAddr = [10, 0, 0, 1].into();
    let client: IpAddr = [203, 0, 113, 7].into();
    let appended: [(ForwardedHeader, &[u8]); 2] = [
        (ForwardedHeader::XForwardedFor, b", 203.0.113.7"),
        (ForwardedHeader::Forwarded, b", for=203.0.113.7"),
    ];
    for (header, last) in appended {
        let proxies = TrustedProxies {
            networks: "10.0.0.0/8".parse().into_iter().collect(),
            header,
        };
        let name = match header {
            ForwardedHeader::XForwardedFor => forwarded::X_FORWARDED_FOR,
            ForwardedHeader::Forwarded => forwarded::FORWARDED,
        };
        let trail = |value: &[u8]| {
            let value = HeaderValue::from_bytes(value).ok()?;
            Some(proxies.trail(peer, &HeaderMap::from_iter([(name.clone(), value)])))
        };
        let Some(found) = trail(input) else { return };
        assert!(found.len() <= forwarded::MAX_HOPS);
        if let Some(appended) = trail(&[input, last].concat()) {
            assert_eq!(appended, [client]);
        }
        let written = forwarded::header_values(found.iter().copied());
        let written = written.into_iter().find(|(written, _)| *written == name);
        if let Some((_, value)) = written.filter(|_| !found.is_empty()) {
            assert_eq!(trail(value.as_bytes()), Some(found));
        }
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
