//! E6: what cannot work is refused when the chain is built.

use std::sync::Arc;

use thinpipe_gateway::interceptor::{
    Action, Chain, ChainConfig, ChainError, InterceptorConfig, MessageContext,
};
use thinpipe_proto::rpc::Message;

use super::{Call, File, try_chain};

/// E6: the error names the interceptor, the field, and what would be right.
#[test]
fn e6_a_configuration_that_cannot_work_is_refused_with_its_place() {
    for (toml, field, reason) in [
        (r#"type = "access""#, "methods", "nothing is allowed"),
        (
            r#"type = "access"
            tools.allow = ["a", ""]"#,
            "tools.allow[1]",
            "empty pattern",
        ),
        (
            r#"type = "access"
            resources.deny = [""]"#,
            "resources.deny[0]",
            "empty pattern",
        ),
        (
            r#"type = "access"
            principals = [""]
            tools.deny = ["x"]"#,
            "principals[0]",
            "empty pattern",
        ),
        (r#"type = "headers""#, "request", "neither"),
        (
            r#"type = "headers"
            request.set = { "Mcp-Session-Id" = "x" }"#,
            "request.set.Mcp-Session-Id",
            "in charge",
        ),
        (
            r#"type = "headers"
            response.remove = ["x-ok", "Content-Length"]"#,
            "response.remove[1]",
            "in charge",
        ),
        (
            r#"type = "headers"
            request.set = { "mcp-param-tenant" = "x" }"#,
            "request.set.mcp-param-tenant",
            "in charge",
        ),
        (
            r#"type = "headers"
            request.set = { "a b" = "x" }"#,
            "request.set.a b",
            "not a header name",
        ),
        (
            r#"type = "headers"
            request.set = { a = "x\r\ny: z" }"#,
            "request.set.a",
            "control characters",
        ),
        (
            r#"type = "headers"
            request = { set = { a = "x" }, remove = ["A"] }"#,
            "request.set.a",
            "set and removed",
        ),
        (
            r#"type = "redact"
            rules = []"#,
            "rules",
            "nothing to replace",
        ),
        (
            r#"type = "redact"
            rules = [{ pointer = "params/a" }]"#,
            "rules[0].pointer",
            "begins with /",
        ),
        (
            r#"type = "redact"
            rules = [{ pointer = "/params/a" }, { pointer = "/id" }]"#,
            "rules[1].pointer",
            "below",
        ),
        (
            r#"type = "redact"
            rules = [{ pointer = "/result" }]"#,
            "rules[0].pointer",
            "below",
        ),
        (
            r#"type = "redact"
            rules = [{ pointer = "/result/a~2" }]"#,
            "rules[0].pointer",
            "~",
        ),
        (
            r#"type = "redact"
            rules = [{ pointer = "/result/a", methods = [""] }]"#,
            "rules[0].methods[0]",
            "empty",
        ),
        (
            r#"type = "sanitize"
            definitions = false
            results = false
            messages = false"#,
            "definitions",
            "nothing to look at",
        ),
        (
            r#"type = "pin"
            tools = { add = "md5:12" }"#,
            "tools.add",
            "sha256",
        ),
        (
            r#"type = "pin"
            on_unknown = "refuse""#,
            "on_unknown",
            "every tool",
        ),
        (
            r#"type = "fault""#,
            "delay_ms",
            "neither a delay nor a failure",
        ),
        (
            r#"type = "fault"
            delay_ms = 5000"#,
            "delay_ms",
            "timeout_ms",
        ),
        (
            r#"type = "fault"
            delay_ms = 9
            delay_max_ms = 5"#,
            "delay_max_ms",
            "at least",
        ),
        (
            r#"type = "fault"
            delay_ms = 9
            probability = 1.5"#,
            "probability",
            "between 0 and 1",
        ),
        (
            r#"type = "fault"
            delay_ms = 9
            probability = nan"#,
            "probability",
            "between 0 and 1",
        ),
        (
            r#"type = "fault"
            delay_ms = 9
            every = 0"#,
            "every",
            "at least 1",
        ),
        (
            r#"type = "rules"
            rules = []"#,
            "rules",
            "no rule",
        ),
        (
            r#"type = "rules"
            rules = [{ then = [] }]"#,
            "rules[0].then",
            "nothing is done",
        ),
        (
            r#"type = "rules"
            rules = [{ then = ["continue", { delay = { ms = 1 } }] }]"#,
            "rules[0].then[0]",
            "never done",
        ),
        (
            r#"type = "rules"
            rules = [{ then = [{ delay = { ms = 3000 } }, { delay = { ms = 2000 } }] }]"#,
            "rules[0].then[1].delay.ms",
            "timeout_ms",
        ),
        (
            r#"type = "rules"
            rules = [{ then = [{ set = { pointer = "/params/*", value = 1 } }] }]"#,
            "rules[0].then[0].set.pointer",
            "no one place",
        ),
        (
            r#"type = "rules"
            rules = [{ then = [{ set = { pointer = "/id", value = 1 } }] }]"#,
            "rules[0].then[0].set.pointer",
            "below",
        ),
        (
            r#"type = "rules"
            rules = [{ then = [{ set = { pointer = "/params/a", value = 1 } }, { reject = {} }] }]"#,
            "rules[0].then",
            "needs no set",
        ),
        (
            r#"type = "rules"
            rules = [{ when = { revisions = ["2025-11-25", "2025-01-01"] }, then = ["continue"] }]"#,
            "rules[0].when.revisions[1]",
            "unknown revision; known are 2026-07-28",
        ),
        (
            r#"type = "rules"
            rules = [{ when = { session = true, revisions = ["2026-07-28"] }, then = ["continue"] }]"#,
            "rules[0].when.session",
            "no sessions",
        ),
        (
            r#"type = "rules"
            rules = [{ when = { authenticated = false, principals = ["a"] }, then = ["continue"] }]"#,
            "rules[0].when.principals",
            "not authenticated",
        ),
        (
            r#"type = "rules"
            rules = [{ when = { kinds = ["request"], result = [{ pointer = "/a", exists = true }] }, then = ["continue"] }]"#,
            "rules[0].when.result",
            "only responses",
        ),
        (
            r#"type = "rules"
            rules = [{ when = { kinds = ["response", "error"], params = [{ pointer = "/a", exists = true }] }, then = ["continue"] }]"#,
            "rules[0].when.params",
            "only requests",
        ),
        (
            r#"type = "rules"
            rules = [{ when = { any = [{}, { not = { all = [{ params = [{ pointer = "a", exists = true }] }] } }] }, then = ["continue"] }]"#,
            "rules[0].when.any[1].not.all[0].params[0].pointer",
            "begins with /",
        ),
        (
            r#"type = "rules"
            rules = [{ when = { params = [{ pointer = "/a" }] }, then = ["continue"] }]"#,
            "rules[0].when.params[0]",
            "exists, equals and matches",
        ),
        (
            r#"type = "rules"
            rules = [{ when = { params = [{ pointer = "/a", exists = true, equals = 1 }] }, then = ["continue"] }]"#,
            "rules[0].when.params[0]",
            "exists, equals and matches",
        ),
    ] {
        let log = "[[interceptors]]\ntype = \"log\"";
        let file = format!("{log}\n[[interceptors]]\n{toml}\n");
        let error = try_chain(&file).expect_err(toml);
        let shown = error.to_string();
        let ChainError::Interceptor {
            index,
            field: at,
            reason: why,
            ..
        } = error
        else {
            panic!("{toml}: {shown}");
        };
        assert_eq!((index, &*at), (1, field), "{toml}: {shown}");
        assert!(why.contains(reason), "{toml}: {shown}");
        assert!(
            shown.starts_with("interceptors[1] (") && shown.contains(field),
            "{shown}"
        );
    }
}

/// E6
#[test]
fn e6_settings_and_interceptors_of_programs_are_checked_too() {
    let settings = ChainConfig {
        timeout_ms: 0,
        ..ChainConfig::default()
    };
    let error = Chain::build(&[], Vec::new(), &settings).unwrap_err();
    assert!(
        matches!(
            error,
            ChainError::Setting {
                field: "timeout_ms",
                ..
            }
        ),
        "{error}"
    );

    let nameless = Call(" ", |_: &MessageContext, _: &Message| Action::Continue);
    let error = Chain::build(&[], vec![Arc::new(nameless)], &ChainConfig::default()).unwrap_err();
    let is_name =
        matches!(&error, ChainError::Interceptor { index: 0, field, .. } if field == "name");
    assert!(is_name, "{error}");
}

/// Unknown fields, types and values are errors wherever they stand.
#[test]
fn e6_unknown_fields_are_errors() {
    for toml in [
        r#"interceptors = [{ type = "logs" }]"#,
        r#"interceptors = [{ level = "info" }]"#,
        r#"interceptors = [{ type = "log", levle = "info" }]"#,
        r#"interceptors = [{ type = "log", level = "loud" }]"#,
        r#"interceptors = [{ type = "access", tools = { alow = ["a"] } }]"#,
        r#"interceptors = [{ type = "headers", request = { add = {} } }]"#,
        r#"interceptors = [{ type = "redact", rules = [{ pointer = "/params/a", with = 1 }] }]"#,
        r#"interceptors = [{ type = "sanitize", strip = true }]"#,
        r#"interceptors = [{ type = "pin", tool = {} }]"#,
        r#"interceptors = [{ type = "fault", fail = { status = 1 } }]"#,
        r#"interceptors = [{ type = "rules", rules = [{ when = { metod = "a" }, then = [] }] }]"#,
        r#"interceptors = [{ type = "rules", rules = [{ then = [{ reject = { cod = 1 } }] }] }]"#,
        r#"interceptors = [{ type = "rules", rules = [{ when = {} }] }]"#,
    ] {
        assert!(toml::from_str::<File>(toml).is_err(), "{toml}");
    }
}

/// The same configuration in TOML, YAML and JSON; and what is written reads back as the same.
#[test]
fn toml_yaml_and_json_say_the_same() {
    let toml = r#"
        [[interceptors]]
        type = "access"
        except_principals = ["admin"]
        methods.deny = ["logging/*"]
        tools = { allow = ["read_*"], deny = ["read_secret"] }

        [[interceptors]]
        type = "headers"
        request.set = { x-team = "blue" }

        [[interceptors]]
        type = "redact"
        rules = [{ pointer = "/result/content/*/text", methods = ["tools/call"], replace = { a = [1, 2.5, true] } }]

        [[interceptors]]
        type = "sanitize"
        mode = "strip"
        hidden = true

        [[interceptors]]
        type = "pin"
        on_change = "warn"
        [interceptors.tools]
        add = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

        [[interceptors]]
        type = "log"
        level = "debug"
        payload = true

        [[interceptors]]
        type = "fault"
        delay_ms = 100
        delay_max_ms = 200
        probability = 0.5
        fail = { code = -32000 }

        [[interceptors]]
        type = "rules"
        [[interceptors.rules]]
        name = "no-deletes"
        priority = 10
        when = { methods = ["tools/call"], names = ["delete_*"], not = { principals = ["admin"] } }
        then = [{ delay = { ms = 5 } }, { reject = { code = -32602, message = "no" } }]
        [[interceptors.rules]]
        when.params = [{ pointer = "/arguments/path", matches = "/etc/*" }, { pointer = "/a", equals = 1 }]
        then = [{ set = { pointer = "/params/arguments/path", value = "/dev/null" } }, "continue"]
    "#;
    let yaml = r#"
interceptors:
  - type: access
    except_principals: [admin]
    methods: { deny: [logging/*] }
    tools:
      allow: ["read_*"]
      deny: [read_secret]
  - type: headers
    request:
      set: { x-team: blue }
  - type: redact
    rules:
      - pointer: /result/content/*/text
        methods: [tools/call]
        replace: { a: [1, 2.5, true] }
  - type: sanitize
    mode: strip
    hidden: true
  - type: pin
    on_change: warn
    tools:
      add: ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad
  - type: log
    level: debug
    payload: true
  - type: fault
    delay_ms: 100
    delay_max_ms: 200
    probability: 0.5
    fail: { code: -32000 }
  - type: rules
    rules:
      - name: no-deletes
        priority: 10
        when:
          methods: [tools/call]
          names: ["delete_*"]
          not: { principals: [admin] }
        then:
          - delay: { ms: 5 }
          - reject: { code: -32602, message: "no" }
      - when:
          params:
            - { pointer: /arguments/path, matches: "/etc/*" }
            - { pointer: /a, equals: 1 }
        then:
          - set: { pointer: /params/arguments/path, value: /dev/null }
          - continue
"#;
    let from_toml = super::configs(toml);
    let from_yaml = serde_saphyr::from_str::<File>(yaml).unwrap().interceptors;
    assert_eq!(from_toml, from_yaml);
    assert_eq!(try_chain(toml).unwrap().stats().len(), 8);
    let json = serde_json::to_string(&from_toml).unwrap();
    let read: Vec<InterceptorConfig> = serde_json::from_str(&json).unwrap();
    assert_eq!(read, from_toml);
}
