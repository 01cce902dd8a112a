use super::*;
use crate::session::Principal;

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn headers(schema: &str) -> ToolHeaders {
    ToolHeaders::of(&bytes(schema)).expect("a schema that keeps the rules")
}

const SCHEMA: &str = r#"{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"},"deep":{"type":"object","properties":{"n":{"type":"integer","x-mcp-header":"N"}}},"yes":{"type":"boolean","x-mcp-header":"Method"},"free":{"type":"string"}}}"#;

/// Protocol notes 2.3.4: the rules, each broken.
#[test]
fn r141_a_tool_that_breaks_a_rule_is_told_from_others() {
    use Violation::*;
    let property = |property: &str| format!(r#"{{"properties":{{"a":{property}}}}}"#);
    let string = r#"{"type":"string","x-mcp-header":"A"}"#;
    for (schema, broken) in [
        (property(r#"{"type":"string","x-mcp-header":""}"#), NoName),
        (property(r#"{"type":"string","x-mcp-header":7}"#), NoName),
        (property(r#"{"type":"string","x-mcp-header":null}"#), NoName),
        (
            property(r#"{"type":"string","x-mcp-header":"a b"}"#),
            NoToken("a b".to_owned()),
        ),
        (
            property(r#"{"type":"string","x-mcp-header":"é"}"#),
            NoToken("é".to_owned()),
        ),
        (
            property(r#"{"type":"string","x-mcp-header":"a\r\nb"}"#),
            NoToken("a\r\nb".to_owned()),
        ),
        (
            property(r#"{"type":"number","x-mcp-header":"A"}"#),
            Type("A".to_owned()),
        ),
        (
            property(r#"{"type":["string","null"],"x-mcp-header":"A"}"#),
            Type("A".to_owned()),
        ),
        (
            property(r#"{"type":["string"],"x-mcp-header":"A"}"#),
            Type("A".to_owned()),
        ),
        (property(r#"{"x-mcp-header":"A"}"#), Type("A".to_owned())),
        (
            property(r#"{"type":"object","x-mcp-header":"A"}"#),
            Type("A".to_owned()),
        ),
        (
            format!(
                r#"{{"properties":{{"a":{string},"b":{{"properties":{{"c":{{"type":"integer","x-mcp-header":"a"}}}}}}}}}}"#
            ),
            Twice("a".to_owned()),
        ),
        (string.to_owned(), Unreachable("the root")),
        (
            property(&format!(r#"{{"items":{string}}}"#)),
            Unreachable("items"),
        ),
        (
            property(&format!(r#"{{"items":[{string}]}}"#)),
            Unreachable("items"),
        ),
        (
            format!(r#"{{"anyOf":[true,{string}]}}"#),
            Unreachable("anyOf"),
        ),
        (
            format!(r#"{{"$defs":{{"d":{string}}}}}"#),
            Unreachable("$defs"),
        ),
        (
            format!(r#"{{"if":{{"properties":{{"a":{string}}}}}}}"#),
            Unreachable("if"),
        ),
        (
            property(&format!(r#"{{"additionalProperties":{string}}}"#)),
            Unreachable("additionalProperties"),
        ),
        (
            property(r#"{"x-mcp-header":"A","x-mcp-header":"B"}"#),
            Unreadable,
        ),
        (
            property(r#"{"type":"string","x-mcp-\u0068eader":""}"#),
            NoName,
        ),
        (r#"["x-mcp-header"]"#.to_owned(), Unreadable),
    ] {
        let found = ToolHeaders::of(&bytes(&schema)).err();
        let expected = match broken {
            // An array is no schema, and has no properties.
            Unreadable if schema.starts_with('[') => None,
            broken => Some(broken),
        };
        assert_eq!(found, expected, "{schema}");
    }
    let many: Vec<String> = (0..=MAX_PARAMS)
        .map(|n| format!(r#""p{n}":{{"type":"string","x-mcp-header":"P{n}"}}"#))
        .collect();
    let many = format!(r#"{{"properties":{{{}}}}}"#, many.join(","));
    assert_eq!(ToolHeaders::of(&bytes(&many)), Err(TooMany));
}

#[test]
fn what_only_looks_like_the_keyword_is_none() {
    for schema in [
        "{}",
        "true",
        "null",
        r#"{"properties":{"x-mcp-header":{"type":"string"}}}"#,
        r#"{"properties":{"a":{"default":{"x-mcp-header":""},"enum":[{"x-mcp-header":7}]}}}"#,
        r#"{"properties":7,"description":"x-mcp-header"}"#,
        r#"{"properties":{"a":{"const":1,"const":2}}}"#,
    ] {
        assert!(headers(schema).is_empty(), "{schema}");
    }
    // As deep as JSON may nest: not looked through, and no stack is used up.
    let deep = format!(
        "{}{{\"x-mcp-header\":7}}{}",
        r#"{"properties":{"a":"#.repeat(60),
        "}}".repeat(60)
    );
    assert!(headers(&deep).is_empty());
}

/// R140: built from the schema, and encoded.
#[test]
fn r140_headers_repeat_the_arguments() {
    let tool = headers(SCHEMA);
    let built = |arguments: &str| {
        let built = tool.build(Some(&bytes(arguments))).unwrap();
        let built = built.iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        });
        built.collect::<Vec<_>>()
    };
    let one = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    assert_eq!(
        built(r#"{"yes":true,"region":"eu","deep":{"n":42}}"#),
        [
            ("mcp-param-region".to_owned(), "eu".to_owned()),
            ("mcp-param-n".to_owned(), "42".to_owned()),
            ("mcp-param-method".to_owned(), "true".to_owned()),
        ]
    );
    for (region, value) in [
        (r#"" padded ""#, "=?base64?IHBhZGRlZCA=?="),
        (r#""\u65e5本語""#, "=?base64?5pel5pys6Kqe?="),
        (r#""=?base64?x?=""#, "=?base64?PT9iYXNlNjQ/eD89?="),
        (r#""a\r\nb""#, "=?base64?YQ0KYg==?="),
        (r#""""#, ""),
        ("7", "7"),
        ("false", "false"),
    ] {
        assert_eq!(
            built(&format!(r#"{{"region":{region}}}"#)),
            one("mcp-param-region", value)
        );
    }
    for (n, value) in [
        ("-0", "0"),
        ("42.0", "42"),
        ("4.2e1", "42"),
        ("9007199254740991", "9007199254740991"),
        ("-9007199254740991", "-9007199254740991"),
        ("1.5", "1.5"),
    ] {
        assert_eq!(
            built(&format!(r#"{{"deep":{{"n":{n}}}}}"#)),
            one("mcp-param-n", value)
        );
    }
    for nothing in [
        r#"{"region":null}"#,
        r#"{"region":["eu"]}"#,
        r#"{"region":{}}"#,
        r#"{"deep":7}"#,
        r#"{"deep":null}"#,
        r#"{"region":"a","region":"b"}"#,
        "[]",
        "{}",
    ] {
        assert_eq!(built(nothing), [], "{nothing}");
    }
    assert_eq!(tool.build(None), Ok(Vec::new()));
    for large in ["9007199254740993", "-9007199254740993", "1e400", "1e16"] {
        assert!(
            tool.build(Some(&bytes(&format!(r#"{{"deep":{{"n":{large}}}}}"#))))
                .is_err()
        );
    }
}

/// R124, R125, R126, R127
#[test]
fn r124_headers_say_what_the_arguments_say() {
    let tool = headers(SCHEMA);
    let checked = |sent: &[(&'static str, &'static str)], arguments: &str| {
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            headers.append(*name, HeaderValue::from_static(value));
        }
        tool.check(&headers, Some(&bytes(arguments))).is_ok()
    };
    let region = |value| ("mcp-param-region", value);
    let n = |value| ("mcp-param-n", value);
    for (sent, arguments) in [
        (&[][..], r#"{"free":"x"}"#),
        (&[][..], r#"{"region":null}"#),
        (&[region("eu")], r#"{"region":"eu"}"#),
        (&[region(" eu ")], r#"{"region":"\u0065u"}"#),
        (&[region("=?base64?w6k=?=")], r#"{"region":"é"}"#),
        (&[region("=?base64?ZXU=?=")], r#"{"region":"eu"}"#),
        (&[region("")], r#"{"region":""}"#),
        (&[region("=?base64??=")], r#"{"region":""}"#),
        (&[region("=?base64?ZXU=")], r#"{"region":"=?base64?ZXU="}"#),
        (&[n("42.0")], r#"{"deep":{"n":42}}"#),
        (&[n("42")], r#"{"deep":{"n":4.2e1}}"#),
        (&[("mcp-param-method", "true")], r#"{"yes":true}"#),
        (&[("mcp-param-other", "x")], "{}"),
    ] {
        assert!(checked(sent, arguments), "{sent:?} {arguments}");
    }
    for (sent, arguments) in [
        (&[][..], r#"{"region":"eu"}"#),
        (&[][..], r#"{"region":""}"#),
        (&[region("eu")], r#"{"region":"us"}"#),
        (&[region("eu")], r#"{"region":null}"#),
        (&[region("eu")], "{}"),
        (&[region("eu")], r#"{"region":["eu"]}"#),
        (&[region("eu"), region("eu")], r#"{"region":"eu"}"#),
        (&[region("eu")], r#"{"region":"eu","region":"us"}"#),
        (&[][..], r#"{"region":"eu","x":1,"x":2}"#),
        (&[region("=?base64?!?=")], r#"{"region":"eu"}"#),
        (&[region("=?base64?/w==?=")], r#"{"region":"eu"}"#),
        (&[n("43")], r#"{"deep":{"n":42}}"#),
        (&[n("inf")], r#"{"deep":{"n":1e400}}"#),
        (
            &[n("9007199254740992")],
            r#"{"deep":{"n":9007199254740993}}"#,
        ),
        (&[n("nan")], r#"{"deep":{"n":0}}"#),
        (&[("mcp-param-method", "TRUE")], r#"{"yes":true}"#),
    ] {
        assert!(!checked(sent, arguments), "{sent:?} {arguments}");
    }
    let error = tool.check(&HeaderMap::new(), Some(&bytes(r#"{"region":"eu"}"#)));
    assert_eq!(
        error.unwrap_err().to_string(),
        "mcp-param-region is missing"
    );
}

/// R141: the others stay as they came.
#[test]
fn r141_lists_lose_the_tools_that_break_the_rules() {
    let list = bytes(
        r#"{"tools":[{"name":"good","n":1e400},{"name":"bad","inputSchema":{"x-mcp-header":"A"}},7],"nextCursor":"c"}"#,
    );
    let (kept, violating) = without_violating(&list).unwrap();
    assert_eq!(
        kept,
        r#"{"tools":[{"name":"good","n":1e400},7],"nextCursor":"c"}"#
    );
    assert_eq!(
        violating,
        [("bad".to_owned(), Violation::Unreachable("the root"))]
    );
    let same = bytes(r#"{ "tools": [ {"name":"good"} ] }"#);
    assert_eq!(
        without_violating(&same).unwrap(),
        (same.clone(), Vec::new())
    );
    for invalid in ["[]", "{}", r#"{"tools":{}}"#, r#"{"tools":null}"#] {
        assert!(without_violating(&bytes(invalid)).is_err());
    }
}

#[test]
fn schemas_are_learned_page_by_page_and_forgotten() {
    let mut schemas = Schemas::default();
    let page = format!(
        r#"{{"tools":[{{"name":"a","inputSchema":{SCHEMA}}},{{"name":"b"}},{{}}],"nextCursor":"2"}}"#
    );
    let learned = schemas.learn(&bytes(&page)).unwrap();
    assert_eq!(learned.next_cursor.as_deref(), Some("2"));
    assert!(!schemas.is_listed());
    let last = r#"{"tools":[{"name":"c","inputSchema":{"x-mcp-header":"A"}}]}"#;
    let learned = schemas.learn(&bytes(last)).unwrap();
    assert_eq!(learned.violating.len(), 1);
    assert!(schemas.is_listed());
    assert_eq!(schemas.get("a"), Known::Headers(&headers(SCHEMA)));
    assert_eq!(schemas.get("b"), Known::Headers(&ToolHeaders::default()));
    assert_eq!(
        schemas.get("c"),
        Known::Violating(&Violation::Unreachable("the root"))
    );
    assert_eq!(schemas.get("d"), Known::Unknown);
    // The latest schema counts.
    schemas
        .learn(&bytes(r#"{"tools":[{"name":"a"}]}"#))
        .unwrap();
    assert_eq!(schemas.get("a"), Known::Headers(&ToolHeaders::default()));
    schemas.forget();
    assert!(!schemas.is_listed());
    assert_eq!(schemas.get("a"), Known::Unknown);
}

#[test]
fn no_list_makes_the_memory_of_schemas_grow_beyond_its_bounds() {
    let mut schemas = Schemas::default();
    let tools: Vec<String> = (0..=MAX_SCHEMA_TOOLS)
        .map(|n| format!(r#"{{"name":"{n}"}}"#))
        .collect();
    schemas
        .learn(&bytes(&format!(r#"{{"tools":[{}]}}"#, tools.join(","))))
        .unwrap();
    assert_eq!(
        schemas.get(&(MAX_SCHEMA_TOOLS - 1).to_string()),
        Known::Headers(&ToolHeaders::default())
    );
    assert_eq!(schemas.get(&MAX_SCHEMA_TOOLS.to_string()), Known::Unknown);

    let mut schemas = Schemas::default();
    let name = "n".repeat(MAX_SCHEMA_BYTES);
    schemas
        .learn(&bytes(&format!(
            r#"{{"tools":[{{"name":"{name}"}},{{"name":"b"}}]}}"#
        )))
        .unwrap();
    assert_eq!(schemas.get(&name), Known::Unknown);
    assert_eq!(schemas.get("b"), Known::Headers(&ToolHeaders::default()));
}

/// R124: a schema counts for whom it was shown to.
#[test]
fn r124_each_principal_knows_the_tools_it_was_shown() {
    let (a, b) = (Principal::Named("a".into()), Principal::Named("b".into()));
    let list = |schema: &str, scope: &str| {
        let text = format!(
            r#"{{"tools":[{{"name":"t","inputSchema":{schema}}}],"cacheScope":"{scope}"}}"#
        );
        bytes(&text)
    };
    let mut directory = Directory::default();
    directory.learn(Some(&a), &list(SCHEMA, "private")).unwrap();
    directory.learn(None, &list(SCHEMA, "private")).unwrap();
    assert_eq!(
        directory.get(Some(&a), "t"),
        Known::Headers(&headers(SCHEMA))
    );
    assert_eq!(directory.get(Some(&b), "t"), Known::Unknown);
    assert_eq!(directory.get(None, "t"), Known::Unknown);
    assert!(directory.has_headers());

    let mut directory = Directory::default();
    directory.learn(Some(&a), &list(SCHEMA, "public")).unwrap();
    directory.learn(Some(&b), &list("{}", "private")).unwrap();
    assert_eq!(
        directory.get(Some(&a), "t"),
        Known::Headers(&headers(SCHEMA))
    );
    assert_eq!(
        directory.get(Some(&b), "t"),
        Known::Headers(&ToolHeaders::default())
    );
    assert_eq!(directory.get(None, "t"), Known::Headers(&headers(SCHEMA)));
    directory.forget();
    assert!(!directory.has_headers());

    for n in 0..=MAX_DIRECTORY {
        let principal = Principal::Named(n.to_string().into());
        directory
            .learn(Some(&principal), &list(SCHEMA, "private"))
            .unwrap();
    }
    assert_eq!(
        directory.get(Some(&Principal::Named("0".into())), "t"),
        Known::Unknown
    );
    assert_eq!(
        directory.get(Some(&Principal::Named("1".into())), "t"),
        Known::Headers(&headers(SCHEMA))
    );
}
