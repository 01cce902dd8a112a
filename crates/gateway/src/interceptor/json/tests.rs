use super::*;

#[test]
fn members_and_elements_are_seen_in_order_and_twice_if_they_are_there_twice() {
    let text = br#" { "a" : [ 1 , "]" , {"x":[]} ] , "\u0061":"b\"c\\", "n":-1.5e3 } "#;
    let root = Value::root(text);
    let values: Vec<_> = root.all("a").map(|value| value.raw().to_vec()).collect();
    assert_eq!(values.len(), 2);
    assert_eq!(values[1], br#""b\"c\\""#);
    let first = root.all("a").next().unwrap();
    let elements: Vec<_> = first.elements().map(|value| value.raw()).collect();
    assert_eq!(elements, [&b"1"[..], br#""]""#, br#"{"x":[]}"#]);
    let number = root.all("n").next().unwrap();
    assert_eq!(number.raw(), b"-1.5e3");
    assert!(number.elements().next().is_none() && number.members().next().is_none());
}

#[test]
fn escapes_are_resolved_as_serde_json_does() {
    for text in [
        r#""plain é""#,
        r#""\u0041\n\t\r\b\f\/\\\"z""#,
        r#""a\ud83d\ude00b""#,
        r#""""#,
    ] {
        let expected: String = serde_json::from_str(text).unwrap();
        assert_eq!(Value::root(text.as_bytes()).string().unwrap(), expected);
    }
    let half = br#""\ud83d\u0041""#;
    assert_eq!(Value::root(half).string().unwrap(), "\u{fffd}A");
}

#[test]
fn text_that_is_no_json_ends_the_walk_and_never_panics() {
    let text = br#"{"a":[1,{"b":"c\u00e9\""}],"d":"\ud800"}"#;
    for end in 0..text.len() {
        for start in 0..=end {
            let root = Value::root(&text[start..end]);
            let _ = root.string();
            for member in root.members() {
                let _ = (member.is_named("a"), member.value.elements().count());
            }
            let _ = root.elements().count();
            let _ = Place::of(root).entries(|_, entry| {
                entry.entries(|_, inner| ControlFlow::Continue(inner.value().range().end))
            });
        }
    }
    assert_eq!(Value::root(b"}]").members().count(), 0);
}

#[test]
fn entries_are_those_that_the_iterators_give() {
    let shown = |place: Place<'_>| {
        let mut shown = Vec::new();
        let end = place.entries(|key, entry| {
            let value = entry.value();
            shown.push((format!("{key:?}"), value.range()));
            ControlFlow::Continue(value.range().end)
        });
        (shown, end)
    };
    for text in [
        r#"{}"#,
        r#" [ ] "#,
        r#"{ "a" : [1,{"b":2}] , "c\\\"" : "}" , "long name of more than 24 characters":null } "#,
        r#"[ 1 , "a]" , [[]],{"a":{}} ]"#,
        "1",
    ] {
        let root = Value::root(text.as_bytes());
        let (shown, end) = shown(Place::of(root));
        assert_eq!(end, ControlFlow::Continue(root.range().end), "{text}");
        let members = root.members().map(|member| member.value.range());
        let elements = root.elements().map(Value::range);
        let expected: Vec<_> = members.chain(elements).collect();
        let ranges: Vec<_> = shown.into_iter().map(|(_, range)| range).collect();
        assert_eq!(ranges, expected, "{text}");
    }
}

#[test]
fn strings_end_at_the_first_quote_that_is_not_escaped() {
    for length in 0..150 {
        for filler in ["a", "\u{e9}", "#", "]"] {
            let content = filler.repeat(length);
            for end in ["", r#"\""#, r"\\", r#"\\\""#, r"\u00e9"] {
                let text = format!(r#"["{content}{end}", 1]"#);
                let strings: Vec<_> = Value::root(text.as_bytes()).elements().collect();
                assert_eq!(strings.len(), 2, "{text}");
                assert_eq!(strings[0].raw(), format!("\"{content}{end}\"").as_bytes());
            }
        }
    }
}

#[test]
fn only_edited_bytes_change() {
    let text = br#"{"keep": 1.0, "list":[ 1, 22 ,3 ]}"#;
    let list = Value::root(text).all("list").next().unwrap();
    let kept: Vec<_> = list.elements().filter(|e| e.raw() != b"1").collect();
    let changed = splice(text, &[keep(list, &kept)]);
    assert_eq!(&changed[..], br#"{"keep": 1.0, "list":[22,3]}"#);
    assert_eq!(
        &splice(text, &[keep(list, &[])])[..],
        br#"{"keep": 1.0, "list":[]}"#
    );
}
