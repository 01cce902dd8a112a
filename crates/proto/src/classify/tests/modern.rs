//! Rows 10, 11, 12 and 14, and the order of the checks behind them.

use super::*;

const CLAIM: &str = "\"2026-07-28\"";
const METHOD: (&str, &str) = ("Mcp-Method", "tools/call");
const NAME: (&str, &str) = ("Mcp-Name", "book");

fn call() -> String {
    request("tools/call", &claiming(CLAIM, r#","name":"book""#))
}

fn list() -> String {
    request("tools/list", &claiming(CLAIM, ""))
}

/// R001, R009
#[test]
fn row_10_a_modern_claim_is_served_without_a_session() {
    let class = post(&call(), &[VERSION_MODERN, METHOD, NAME, SESSION], BOTH);
    assert!(
        matches!(class, Ok(Class::Stateless(message)) if message.method() == Some("tools/call"))
    );
    let class = post(
        &list(),
        &[VERSION_MODERN, ("Mcp-Method", "tools/list")],
        MODERN,
    );
    assert!(matches!(class, Ok(Class::Stateless(_))));
}

/// R003
#[test]
fn row_10_initialize_with_a_modern_claim_is_an_unknown_method() {
    let body = request("initialize", &claiming(CLAIM, ""));
    let list = [VERSION_MODERN, ("Mcp-Method", "initialize")];
    let refusal = post(&body, &list, BOTH).unwrap_err();
    assert_eq!(
        (refusal.status, refusal.code),
        (404, code::METHOD_NOT_FOUND)
    );
    assert_eq!(refusal.id, Some(RequestId::from_integer(7)));
}

/// R007: a proxy that strips the header must not turn the request into a legacy one.
#[test]
fn row_10_without_the_header_stays_modern_and_is_refused() {
    assert_eq!(
        refused(&list(), &[("Mcp-Method", "tools/list")], BOTH),
        (400, code::HEADER_MISMATCH)
    );
    assert_eq!(
        refused(&list(), &[SESSION], BOTH),
        (400, code::HEADER_MISMATCH)
    );
}

/// R008
#[test]
fn row_10_another_version_in_the_header_is_a_mismatch() {
    for version in ["2025-11-25", "2031-01-01", "2026-07-28x", ""] {
        let list = [("MCP-Protocol-Version", version), METHOD, NAME];
        assert_eq!(refused(&call(), &list, BOTH), (400, code::HEADER_MISMATCH));
    }
    let list = [("MCP-Protocol-Version", " 2026-07-28\t"), METHOD, NAME];
    assert!(post(&call(), &list, BOTH).is_ok());
}

/// R004, R005, K5
#[test]
fn row_11_other_claims_are_unsupported() {
    for claim in ["2025-11-25", "2024-11-05", "2031-01-01", "x\\n"] {
        let body = request("tools/list", &claiming(&format!("\"{claim}\""), ""));
        let refusal = post(&body, &[SESSION], BOTH).unwrap_err();
        assert_eq!(
            (refusal.status, refusal.code),
            (400, code::UNSUPPORTED_VERSION)
        );
        let supported = r#"["2026-07-28","2025-11-25","2025-06-18","2025-03-26","2024-11-05"]"#;
        let data = format!(
            r#"{{"supported":{supported},"requested":"{claim}","reason":"unsupported_version"}}"#
        );
        assert_eq!(refusal.data, Some(data));
        assert_eq!(refusal.id, Some(RequestId::from_integer(7)));
        assert_eq!(
            refused(&body, &[VERSION_MODERN], BOTH),
            (400, code::HEADER_MISMATCH)
        );
    }
    let body = request("tools/list", &claiming("\"2025-11-25\"", ""));
    let same = ("MCP-Protocol-Version", "2025-11-25");
    assert_eq!(
        refused(&body, &[same], BOTH),
        (400, code::UNSUPPORTED_VERSION)
    );
    // Row 13 takes legacy and malformed claims only.
    let body = request("initialize", &claiming("\"2031-01-01\"", ""));
    assert_eq!(refused(&body, &[], BOTH), (400, code::UNSUPPORTED_VERSION));
}

/// Step 11
#[test]
fn row_11_a_claim_is_a_string() {
    for claim in ["5", "null", "{}"] {
        let body = request("tools/list", &claiming(claim, ""));
        assert_eq!(
            refused(&body, &[VERSION_MODERN], BOTH),
            (400, code::INVALID_PARAMS)
        );
    }
}

#[test]
fn row_11_where_2026_07_28_is_not_served_it_is_unsupported() {
    let refusal = post(&list(), &[VERSION_MODERN], LEGACY).unwrap_err();
    assert_eq!(refusal.code, code::UNSUPPORTED_VERSION);
    let data = r#"{"supported":["2025-11-25","2025-06-18","2025-03-26","2024-11-05"],"requested":"2026-07-28","reason":"unsupported_version"}"#;
    assert_eq!(refusal.data.as_deref(), Some(data));
    let unclaimed = request("tools/list", "{}");
    assert_eq!(
        refused(&unclaimed, &[VERSION_MODERN], LEGACY),
        (400, code::UNSUPPORTED_VERSION)
    );
    let note = notification(&claiming(CLAIM, ""));
    assert_eq!(
        refused(&note, &[VERSION_MODERN], LEGACY),
        (400, code::UNSUPPORTED_VERSION)
    );
    assert_eq!(
        refused(&notification("{}"), &[VERSION_MODERN], LEGACY).1,
        code::UNSUPPORTED_VERSION
    );
}

/// R006
#[test]
fn row_12_a_modern_header_without_a_claim_names_the_missing_keys() {
    let capable = format!(
        r#"{{"_meta":{{"{}":{{}}}}}}"#,
        meta_key::CLIENT_CAPABILITIES
    );
    for params in ["{}", r#"{"_meta":{}}"#, r#"{"_meta":null}"#, &capable] {
        let body = request("tools/list", params);
        let refusal = post(&body, &[VERSION_MODERN, SESSION], BOTH).unwrap_err();
        assert_eq!((refusal.status, refusal.code), (400, code::INVALID_PARAMS));
        assert!(refusal.message.contains(meta_key::PROTOCOL_VERSION));
        let names_both = refusal.message.contains(meta_key::CLIENT_CAPABILITIES);
        assert_eq!(names_both, params != capable);
    }
    // Where nothing else is served, a request without any sign is malformed in the same way.
    let body = request("tools/list", "{}");
    assert_eq!(refused(&body, &[], MODERN), (400, code::INVALID_PARAMS));
    assert_eq!(
        refused(&body, &[VERSION_LEGACY], MODERN),
        (400, code::UNSUPPORTED_VERSION)
    );
}

/// R130
#[test]
fn row_14_notifications_with_a_modern_claim_or_header() {
    let claimed = notification(&claiming(CLAIM, ""));
    for body in [&claimed, &notification("{}")] {
        for list in [
            &[VERSION_MODERN][..],
            &[VERSION_MODERN, ("Mcp-Method", "x")],
        ] {
            assert!(matches!(
                post(body, list, BOTH),
                Ok(Class::StatelessNotification(_))
            ));
        }
    }
    for list in [
        &[][..],
        &[VERSION_LEGACY],
        &[VERSION_UNKNOWN],
        &[VERSION_MODERN, VERSION_MODERN],
    ] {
        assert_eq!(refused(&claimed, list, BOTH), (400, code::HEADER_MISMATCH));
    }
    let legacy_claim = notification(&claiming("\"2025-11-25\"", ""));
    assert_eq!(
        refused(&legacy_claim, &[VERSION_MODERN], BOTH),
        (400, code::HEADER_MISMATCH)
    );
    let no_claim = notification(&claiming("1", ""));
    assert_eq!(
        refused(&no_claim, &[VERSION_MODERN], BOTH),
        (400, code::INVALID_PARAMS)
    );
    assert_eq!(
        refused(&notification("{}"), &[], MODERN),
        (400, code::HEADER_MISMATCH)
    );
    assert_eq!(
        refused(&notification("{}"), &[VERSION_LEGACY], MODERN).1,
        code::UNSUPPORTED_VERSION
    );
}

/// R009
#[test]
fn r009_client_capabilities_are_required() {
    let claim = meta_key::PROTOCOL_VERSION;
    for rest in ["", r#","io.modelcontextprotocol/clientCapabilities":null"#] {
        let body = request(
            "tools/list",
            &format!(r#"{{"_meta":{{"{claim}":{CLAIM}{rest}}}}}"#),
        );
        let refusal = post(&body, &[VERSION_MODERN], BOTH).unwrap_err();
        assert_eq!((refusal.status, refusal.code), (400, code::INVALID_PARAMS));
        assert!(refusal.message.ends_with(meta_key::CLIENT_CAPABILITIES));
        assert!(!refusal.message.contains(meta_key::PROTOCOL_VERSION));
    }
}

/// R120
#[test]
fn r120_the_method_header_must_be_there_and_equal() {
    for list in [
        &[VERSION_MODERN, NAME][..],
        &[VERSION_MODERN, NAME, ("Mcp-Method", "Tools/Call")],
        &[VERSION_MODERN, NAME, ("Mcp-Method", "tools/list")],
        &[VERSION_MODERN, NAME, ("Mcp-Method", "")],
    ] {
        assert_eq!(refused(&call(), list, BOTH), (400, code::HEADER_MISMATCH));
    }
}

/// R121, R248
#[test]
fn r121_the_name_header_must_be_there_and_equal_where_it_is_defined() {
    for (method, param) in [
        ("tools/call", "name"),
        ("prompts/get", "name"),
        ("resources/read", "uri"),
        ("tasks/get", "taskId"),
        ("tasks/update", "taskId"),
        ("tasks/cancel", "taskId"),
    ] {
        let body = request(method, &claiming(CLAIM, &format!(r#","{param}":"book""#)));
        let with = |list: Headers<'_>| {
            let all = [&[VERSION_MODERN, ("Mcp-Method", method)], list].concat();
            post(&body, &all, BOTH).map_err(|refusal| (refusal.status, refusal.code))
        };
        assert!(with(&[NAME]).is_ok());
        for list in [&[][..], &[("Mcp-Name", "Book")], &[("Mcp-Name", "")]] {
            assert_eq!(with(list).unwrap_err(), (400, code::HEADER_MISMATCH));
        }
    }
    let unnamed = request("tools/call", &claiming(CLAIM, ""));
    assert_eq!(
        refused(&unnamed, &[VERSION_MODERN, METHOD, NAME], BOTH),
        (400, code::HEADER_MISMATCH)
    );
    // On other methods the header says nothing.
    let ignored = [VERSION_MODERN, ("Mcp-Method", "tools/list"), NAME, NAME];
    assert!(post(&list(), &ignored, BOTH).is_ok());
}

/// R122, R123
#[test]
fn r122_the_name_is_decoded_before_it_is_compared() {
    let body = |name: &str| {
        request(
            "tools/call",
            &claiming(CLAIM, &format!(r#","name":"{name}""#)),
        )
    };
    let with = |body: &str, name: &str| {
        post(body, &[VERSION_MODERN, METHOD, ("Mcp-Name", name)], BOTH)
            .map_err(|refusal| refusal.code)
    };
    assert!(with(&body("日本語"), "=?base64?5pel5pys6Kqe?=").is_ok());
    assert!(with(&body("\\u65e5本語"), "=?base64?5pel5pys6Kqe?=").is_ok());
    assert!(with(&body(" padded "), "=?base64?IHBhZGRlZCA=?=").is_ok());
    assert!(with(&body("foo"), "  foo ").is_ok());
    assert!(with(&body("=?base64?Zm9v"), "=?base64?Zm9v").is_ok());
    assert!(with(&body(""), "").is_ok());
    assert!(with(&body(""), "=?base64??=").is_ok());
    for (name, header) in [
        ("foo", "=?base64?Zm9?="),
        ("foo", "=?base64?/w==?="),
        ("foo", "=?base64?Zm8=?="),
    ] {
        assert_eq!(
            with(&body(name), header).unwrap_err(),
            code::HEADER_MISMATCH
        );
    }
}

/// R127
#[test]
fn r127_repeated_headers_are_malformed() {
    for repeated in [VERSION_MODERN, METHOD, NAME] {
        let list = [VERSION_MODERN, METHOD, NAME, repeated];
        assert_eq!(refused(&call(), &list, BOTH), (400, code::HEADER_MISMATCH));
    }
}

/// Of several faults, the one that is checked first is reported (2.3.3).
#[test]
fn checks_come_in_the_order_of_the_ladder() {
    let bare = |claim: &str| {
        request(
            "tools/call",
            &format!(
                r#"{{"_meta":{{"{}":{claim}}}}}"#,
                meta_key::PROTOCOL_VERSION
            ),
        )
    };
    // 11 before 12, 12 before 13, 13 before 14, 14 before 15.
    assert_eq!(
        refused(&bare("1"), &[VERSION_LEGACY], BOTH).1,
        code::INVALID_PARAMS
    );
    assert_eq!(
        refused(&bare(CLAIM), &[VERSION_LEGACY], LEGACY).1,
        code::HEADER_MISMATCH
    );
    assert_eq!(
        refused(&bare(CLAIM), &[VERSION_MODERN], LEGACY).1,
        code::UNSUPPORTED_VERSION
    );
    assert_eq!(
        refused(&bare(CLAIM), &[], LEGACY).1,
        code::UNSUPPORTED_VERSION
    );
    assert_eq!(refused(&bare(CLAIM), &[], BOTH).1, code::INVALID_PARAMS);
    assert_eq!(
        refused(&bare(CLAIM), &[VERSION_MODERN, VERSION_MODERN], BOTH).1,
        code::INVALID_PARAMS
    );
    // 15 before 16.
    let body = request("initialize", &claiming(CLAIM, ""));
    assert_eq!(
        refused(&body, &[VERSION_MODERN], BOTH).1,
        code::HEADER_MISMATCH
    );
}

/// Q8: only what is listed may be sent twice.
#[test]
fn q8_methods_that_only_read_are_known_by_name() {
    assert!(is_read_only_method("ping") && is_read_only_method("prompts/get"));
    for method in [
        "tools/call",
        "subscriptions/listen",
        "logging/setLevel",
        "initialize",
        "tasks/cancel",
    ] {
        assert!(!is_read_only_method(method), "{method}");
    }
    assert!(is_cacheable_method("resources/read") && !is_cacheable_method("prompts/get"));
    assert_eq!(
        (name_param("resources/read"), name_param("tools/list")),
        (Some("uri"), None)
    );
    // Repeated in a header, but no name that rules could be about.
    assert_eq!(
        (name_param("tasks/get"), mirrored_param("tasks/get")),
        (None, Some("taskId"))
    );
}
