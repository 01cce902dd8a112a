use proptest::prelude::*;

use super::*;

/// R122, R123: the vectors of protocol notes 2.3.4.
#[test]
fn r122_values_are_encoded_and_decoded_by_the_vectors() {
    for (value, header) in [
        (" padded ", "=?base64?IHBhZGRlZCA=?="),
        ("日本語", "=?base64?5pel5pys6Kqe?="),
        ("plain value", "plain value"),
        ("tab\tinside", "tab\tinside"),
        ("\tedge", "=?base64?CWVkZ2U=?="),
        ("a\nb", "=?base64?YQpi?="),
        ("del\u{7f}", "=?base64?ZGVsfw==?="),
        ("=?base64?x?=", "=?base64?PT9iYXNlNjQ/eD89?="),
        ("=?base64?x", "=?base64?x"),
        ("", ""),
    ] {
        assert_eq!(encode_value(value), header);
        assert_eq!(decode_value(header.as_bytes()).unwrap(), value);
    }
    assert_eq!(decode_value(b"=?base64?SGVsbG8=?=").unwrap(), "Hello");
    assert_eq!(decode_value(b"=?base64??=").unwrap(), "");
    assert_eq!(decode_value(b" \t foo \t").unwrap(), "foo");
    assert_eq!(decode_value(b"  =?base64?SGVsbG8=?= ").unwrap(), "Hello");
    assert_eq!(decode_value(b"  ").unwrap(), "");
}

/// R123
#[test]
fn r123_bad_sentinels_are_refused_and_half_ones_are_literal() {
    for bad in [
        &b"=?base64?SGVsbG8?="[..],
        b"=?base64?SGVsbG8==?=",
        b"=?base64?SGVsbG9=?=",
        b"=?base64?SGVs bG8=?=",
        b"=?base64?SGVs_G8=?=",
        b"=?base64?====?=",
        b"=?base64?/w==?=",
        b"\xff",
    ] {
        assert_eq!(
            decode_value(bad),
            Err(InvalidSentinel),
            "{}",
            bad.escape_ascii()
        );
    }
    for literal in [
        "=?base64?SGVsbG8=",
        "SGVsbG8=?=",
        "=?BASE64?SGVsbG8=?=",
        "=?base64?=",
        "é",
    ] {
        assert_eq!(decode_value(literal.as_bytes()).unwrap(), literal);
    }
}

proptest! {
    /// R122
    #[test]
    fn r122_every_value_survives_its_header(value in any::<String>()) {
        let header = encode_value(&value).into_owned();
        prop_assert!(http::HeaderValue::from_str(&header).is_ok());
        prop_assert_eq!(decode_value(header.as_bytes()).unwrap(), value);
    }

    #[test]
    fn no_bytes_make_the_parsers_panic(value in prop::collection::vec(any::<u8>(), 0..40)) {
        let _ = decode_value(&value);
        let _ = MediaType::parse(&value);
        let _ = Accept::parse(std::iter::once(value.as_slice()));
    }
}

/// C1, R064, R173
#[test]
fn c1_media_types_are_parsed_and_look_alikes_are_not_taken() {
    for value in [
        "text/event-stream",
        "text/event-stream; charset=utf-8",
        "Text/Event-Stream;charset=\"utf-8\"",
        " text/event-stream ;\tcharset=utf-8 ; x=\"a;b,\\\"c\" ",
        "text/event-stream;",
        "text/event-stream;;a=b",
    ] {
        assert_eq!(
            MediaType::parse(value.as_bytes()),
            MediaType::EventStream,
            "{value}"
        );
    }
    for value in [
        "application/json",
        "APPLICATION/JSON",
        "application/json; profile=\"x/y\"",
    ] {
        assert_eq!(
            MediaType::parse(value.as_bytes()),
            MediaType::Json,
            "{value}"
        );
    }
    for value in [
        "",
        "text/event-streamx",
        "xtext/event-stream",
        "text/event-stream+json",
        "application/json-seq",
        "application/jsonl",
        "application/vnd.api+json",
        "text/plain; x=\"text/event-stream\"",
        "text/plain;text/event-stream",
        "text /event-stream",
        "text/ event-stream",
        "text",
        "/",
        "text/",
        "application/json, text/event-stream",
        "text/event-stream; charset",
        "text/event-stream; a=",
        "text/event-stream; a=\"b",
        "text/event-stream; a=\"b\"c",
        "text/event-stream charset=utf-8",
        "text/*",
        "text/event-stream; a=\"\u{1}\"",
    ] {
        assert_eq!(
            MediaType::parse(value.as_bytes()),
            MediaType::Other,
            "{value}"
        );
    }
    assert_eq!(MediaType::parse(b"text/event-stream\xff"), MediaType::Other);
}

/// R062, R063
#[test]
fn r062_accept_knows_wildcards_weights_and_precedence() {
    for (values, json, event_stream) in [
        (&[][..], true, true),
        (&[""], true, true),
        (&[" , ,"], true, true),
        (&["*/*"], true, true),
        (&["application/json, text/event-stream"], true, true),
        (&["application/json", "text/event-stream"], true, true),
        (&["APPLICATION/json;charset=utf-8"], true, false),
        (&["text/event-stream"], false, true),
        (&["text/*"], false, true),
        (&["application/*;q=0.1"], true, false),
        (&["*/*, application/json;q=0"], false, true),
        (&["application/json; q=0.000, */*;q=0.001"], false, true),
        (&["text/*;q=0, text/event-stream;q=1.000, */*"], true, true),
        (&["*/*;q=0"], false, false),
        (&["application/json;q=0, application/json"], true, false),
        (&["text/html;x=\"a, application/json\""], false, false),
        (&["text/html;x=\"\\\"\", application/json"], true, false),
        (
            &["application/json;q=2, text/event-stream;q=-1"],
            false,
            false,
        ),
        (
            &["application/json;q=0.0001, text/event-stream;q=1.001"],
            false,
            false,
        ),
        (
            &["application/json;q=x, nonsense, text/event-stream"],
            false,
            true,
        ),
        (&["*/json, text/html"], false, false),
    ] {
        let parsed = Accept::parse(values.iter().map(|value| value.as_bytes()));
        assert_eq!(parsed, Accept { json, event_stream }, "{values:?}");
    }
}

fn name(text: &str) -> HeaderName {
    HeaderName::from_bytes(text.as_bytes()).unwrap()
}

/// R180, R181, C15
#[test]
fn c15_request_headers_pass_unless_they_are_ours_or_secret() {
    for text in [
        "Connection",
        "Keep-Alive",
        "Proxy-Connection",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
        "Proxy-Authenticate",
        "Proxy-Authorization",
        "Proxy-Anything",
        "Host",
        "Content-Length",
        "Expect",
        "Accept-Encoding",
        "Authorization",
        "Cookie",
        "X-Api-Key",
        "Mcp-Session-Id",
        "MCP-Protocol-Version",
        "Mcp-Method",
        "Mcp-Name",
        "Origin",
        "Forwarded",
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "Via",
        "Last-Event-ID",
        "Sec-Fetch-Site",
    ] {
        assert!(!forwardable_request_header(&name(text)), "{text}");
    }
    // K3, R126: unknown `Mcp-Param-*` included.
    for text in [
        "Mcp-Param-Tenant",
        "traceparent",
        "tracestate",
        "baggage",
        "User-Agent",
        "Accept-Language",
        "X-Request-Id",
        "X-Custom",
        "Accept",
        "Content-Type",
    ] {
        assert!(forwardable_request_header(&name(text)), "{text}");
    }
}

/// C15, 5.8: between nodes headers pass by list only.
#[test]
fn c15_request_headers_are_carried_by_list_only() {
    let carried = [
        "Mcp-Session-Id",
        "Mcp-Param-Tenant",
        "Last-Event-ID",
        "Accept",
        "Content-Type",
        "traceparent",
    ];
    for text in carried {
        assert!(carried_request_header(&name(text)), "{text}");
    }
    for text in ["Authorization", "X-Api-Key", "X-Vault-Token", "X-Custom"] {
        assert!(!carried_request_header(&name(text)), "{text}");
    }
}

/// R181, C15
#[test]
fn r181_response_headers_pass_by_list_only() {
    for text in [
        "Cache-Control",
        "Retry-After",
        "Content-Language",
        "traceresponse",
        "X-Request-Id",
        "X-Accel-Buffering",
        "RateLimit",
        "RateLimit-Policy",
        "X-RateLimit-Remaining",
    ] {
        assert!(forwardable_response_header(&name(text)), "{text}");
    }
    for text in [
        "Set-Cookie",
        "WWW-Authenticate",
        "Server",
        "Mcp-Session-Id",
        "Deprecation",
        "Sunset",
        "Link",
        "Access-Control-Allow-Origin",
        "Connection",
        "Transfer-Encoding",
        "Content-Length",
        "Content-Type",
        "Proxy-Authenticate",
        "X-Powered-By",
        "Location",
        "Alt-Svc",
        "Strict-Transport-Security",
    ] {
        assert!(!forwardable_response_header(&name(text)), "{text}");
    }
}

/// R180
#[test]
fn r180_hop_by_hop_headers_are_known_by_name() {
    assert!(is_hop_by_hop(&name("Transfer-Encoding")));
    assert!(!is_hop_by_hop(&name("Content-Type")));
}

/// R081: names are compared without case.
#[test]
fn r081_header_names_have_no_case() {
    assert_eq!(name("MCP-Session-Id"), SESSION_ID);
    assert_eq!(name("mcp-protocol-version"), PROTOCOL_VERSION);
    assert_eq!(name("LAST-EVENT-ID"), LAST_EVENT_ID);
    assert_eq!((name("Mcp-Method"), name("Mcp-Name")), (METHOD, NAME));
    assert!(name("Mcp-Param-X").as_str().starts_with(PARAM_PREFIX));
}
