//! Who may use what.

use thinpipe_proto::rpc::code;

use super::{
    TO_CLIENT, TO_UPSTREAM, by, call, chain, changed, cx, forwarded, message, named, rejected,
    response, run, text,
};

fn request(method: &str, params: &str) -> thinpipe_proto::rpc::Message {
    message(&format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#
    ))
}

#[test]
fn methods_are_allowed_and_denied_by_name_and_pattern() {
    let chain = chain(
        r#"
        [[interceptors]]
        type = "access"
        methods = { allow = ["tools/*", "resources/read"], deny = ["tools/secret*"] }
        server_methods = { deny = ["sampling/*"] }
        "#,
    );
    for (method, allowed) in [
        ("tools/list", true),
        ("tools/secret", false),
        ("tools/secrets/x", false),
        ("resources/read", true),
        ("resources/reads", false),
        ("prompts/get", false),
        ("Tools/list", false),
        // What no session can do without.
        ("initialize", true),
        ("server/discover", true),
        ("ping", true),
    ] {
        let outcome = run(&chain, &cx(TO_UPSTREAM, method), &request(method, "{}"));
        if allowed {
            forwarded(outcome);
        } else {
            let rejection = rejected(outcome);
            assert_eq!(rejection.code, code::METHOD_NOT_FOUND, "{method}");
            assert_eq!(rejection.message, format!("Method not found: {method}"));
            assert_eq!(rejection.reason, "access_denied");
        }
    }
    // The server's requests have a list of their own.
    let method = "sampling/createMessage";
    let asked = request(method, "{}");
    rejected(run(&chain, &cx(TO_CLIENT, method), &asked));
    forwarded(run(
        &chain,
        &cx(TO_CLIENT, "prompts/get"),
        &request("prompts/get", "{}"),
    ));
    // An answer is not judged by the method it answers.
    let answer = response(r#"{"role":"assistant"}"#);
    forwarded(run(&chain, &cx(TO_UPSTREAM, method), &answer));
    // A notification that is not allowed is refused too.
    let note = message(r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#);
    rejected(run(
        &chain,
        &cx(TO_UPSTREAM, "notifications/roots/list_changed"),
        &note,
    ));
}

#[test]
fn denied_tools_prompts_and_resources_look_unknown() {
    let chain = chain(
        r#"
        [[interceptors]]
        type = "access"
        tools = { allow = ["read_*"], deny = ["read_secret"] }
        prompts = { deny = ["internal"] }
        resources = { allow = ["file:///public/*"] }
        "#,
    );
    let uri = |uri: &str| format!(r#"{{"uri":"{uri}"}}"#);
    let name = |name: &str| format!(r#"{{"name":"{name}"}}"#);
    for (method, subject, params, allowed) in [
        ("tools/call", "read_file", name("read_file"), true),
        ("tools/call", "read_secret", name("read_secret"), false),
        ("tools/call", "write_file", name("write_file"), false),
        ("prompts/get", "greet", name("greet"), true),
        ("prompts/get", "internal", name("internal"), false),
        (
            "resources/read",
            "file:///public/a",
            uri("file:///public/a"),
            true,
        ),
        (
            "resources/read",
            "file:///private",
            uri("file:///private"),
            false,
        ),
        (
            "resources/subscribe",
            "file:///private",
            uri("file:///private"),
            false,
        ),
    ] {
        // With the name in the context, and with only the body to go by.
        for cx in [named(TO_UPSTREAM, method, subject), cx(TO_UPSTREAM, method)] {
            let outcome = run(&chain, &cx, &request(method, &params));
            if allowed {
                forwarded(outcome);
            } else {
                let rejection = rejected(outcome);
                assert_eq!(rejection.code, code::INVALID_PARAMS, "{subject}");
                assert!(
                    rejection.message.starts_with("Unknown "),
                    "{}",
                    rejection.message
                );
            }
        }
    }
    // A call that names nothing, or not in a string, cannot be allowed.
    for params in ["{}", r#"{"name":1}"#, r#"{"name":["read_file"]}"#] {
        rejected(run(
            &chain,
            &cx(TO_UPSTREAM, "tools/call"),
            &request("tools/call", params),
        ));
    }
}

/// A path that climbs out of what is allowed, written in all the ways servers understand.
#[test]
fn uris_that_climb_are_denied() {
    let chain = chain(
        r#"interceptors = [{ type = "access", resources = { allow = ["file:///public/*"] } }]"#,
    );
    for (uri, allowed) in [
        ("file:///public/a..b/c", true),
        ("file:///public/...", true),
        ("file:///public/../etc/passwd", false),
        ("file:///public/..", false),
        ("file:///public/%2e%2E/etc", false),
        ("file:///public/.%2e/etc", false),
        ("file:///public/x%2f..%2Fetc", false),
        ("file:///public/..%5cetc", false),
    ] {
        let cx = named(TO_UPSTREAM, "resources/read", uri);
        let asked = request("resources/read", &format!(r#"{{"uri":"{uri}"}}"#));
        let outcome = run(&chain, &cx, &asked);
        if allowed {
            drop(forwarded(outcome))
        } else {
            drop(rejected(outcome))
        }
    }
}

#[test]
fn completions_and_subscriptions_go_by_the_same_lists() {
    let chain = chain(
        r#"
        [[interceptors]]
        type = "access"
        prompts.deny = ["internal"]
        resources.deny = ["secret:*"]
        "#,
    );
    let complete = "completion/complete";
    let listen = "subscriptions/listen";
    for (method, params, allowed) in [
        (
            complete,
            r#"{"ref":{"type":"ref/prompt","name":"greet"}}"#,
            true,
        ),
        (
            complete,
            r#"{"ref":{"type":"ref/prompt","name":"internal"}}"#,
            false,
        ),
        (
            complete,
            r#"{"ref":{"type":"ref/prompt","name":"greet","n\u0061me":"internal"}}"#,
            false,
        ),
        (
            complete,
            r#"{"ref":{"type":"ref/resource","uri":"secret:{id}"}}"#,
            false,
        ),
        (
            listen,
            r#"{"notifications":{"resourceSubscriptions":["a:1"]}}"#,
            true,
        ),
        (
            listen,
            r#"{"notifications":{"resourceSubscriptions":["a:1","secret:1"]}}"#,
            false,
        ),
        (
            listen,
            r#"{"notifications":{"resourceSubscriptions":[["secret:1"]]}}"#,
            false,
        ),
    ] {
        let outcome = run(&chain, &cx(TO_UPSTREAM, method), &request(method, params));
        if allowed {
            drop(forwarded(outcome))
        } else {
            drop(rejected(outcome))
        }
    }
    // What must not be read does not show by its changes either.
    let updated = "notifications/resources/updated";
    for (uri, allowed) in [("a:1", true), ("secret:1", false)] {
        let note = message(&format!(
            r#"{{"jsonrpc":"2.0","method":"{updated}","params":{{"uri":"{uri}"}}}}"#
        ));
        let outcome = run(&chain, &cx(TO_CLIENT, updated), &note);
        if allowed {
            drop(forwarded(outcome))
        } else {
            drop(rejected(outcome))
        }
    }
}

#[test]
fn lists_lack_what_is_denied_and_nothing_else_in_them_changes() {
    let chain = chain(
        r#"
        [[interceptors]]
        type = "access"
        tools.deny = ["b*"]
        prompts.allow = ["p"]
        resources.allow = ["file:///public/*"]
        "#,
    );
    for (method, before, after) in [
        (
            "tools/list",
            r#"{ "nextCursor":"\u0062", "tools" : [ {"name":"a","x": 1.0} , {"name":"b1"},{ "name":"c"} ], "ttlMs":1}"#,
            r#"{ "nextCursor":"\u0062", "tools" : [{"name":"a","x": 1.0},{ "name":"c"}], "ttlMs":1}"#,
        ),
        (
            "tools/list",
            r#"{"tools":[{"name":"b"}]}"#,
            r#"{"tools":[]}"#,
        ),
        // Readers may disagree on which name counts.
        (
            "tools/list",
            r#"{"tools":[{"name":"a","n\u0061me":"b"},{"name":"\u0062"},{},1]}"#,
            r#"{"tools":[]}"#,
        ),
        (
            "tools/list",
            r#"{"tools":[{"name":"a"}],"tools":[{"name":"b"}]}"#,
            r#"{"tools":[{"name":"a"}],"tools":[]}"#,
        ),
        (
            "prompts/list",
            r#"{"prompts":[{"name":"p"},{"name":"q"}]}"#,
            r#"{"prompts":[{"name":"p"}]}"#,
        ),
        (
            "resources/list",
            r#"{"resources":[{"uri":"file:///public/1"},{"uri":"file:///etc"}]}"#,
            r#"{"resources":[{"uri":"file:///public/1"}]}"#,
        ),
        (
            "resources/templates/list",
            r#"{"resourceTemplates":[{"uriTemplate":"file:///public/{p}"},{"uriTemplate":"file:///{p}"}]}"#,
            r#"{"resourceTemplates":[{"uriTemplate":"file:///public/{p}"}]}"#,
        ),
    ] {
        let outcome = run(&chain, &cx(TO_CLIENT, method), &response(before));
        assert_eq!(changed(outcome), text(&response(after)), "{method}");
    }
    let whole = response(r#"{"tools":[{"name":"a"},{"name":"c"}]}"#);
    assert_eq!(
        forwarded(run(&chain, &cx(TO_CLIENT, "tools/list"), &whole)),
        text(&whole)
    );
}

/// Principals see different lists, so that caches must not share them (protocol notes 4.4).
#[test]
fn a_policy_can_be_about_some_principals_and_makes_their_lists_private() {
    let chain = chain(
        r#"
        [[interceptors]]
        type = "access"
        principals = ["guest*"]
        tools.allow = ["read"]
        [[interceptors]]
        type = "access"
        except_principals = ["admin"]
        tools.deny = ["shutdown"]
        "#,
    );
    let call_cx = |name: &str| named(TO_UPSTREAM, "tools/call", name);
    for (principal, tool, allowed) in [
        ("guest-1", "read", true),
        ("guest-1", "write", false),
        ("alice", "write", true),
        ("alice", "shutdown", false),
        ("admin", "shutdown", true),
    ] {
        let outcome = run(&chain, &by(principal, call_cx(tool)), &call(tool, "{}"));
        if allowed {
            drop(forwarded(outcome))
        } else {
            drop(rejected(outcome))
        }
    }
    // Who is nobody is no guest, and no exception either.
    forwarded(run(&chain, &call_cx("write"), &call("write", "{}")));
    rejected(run(&chain, &call_cx("shutdown"), &call("shutdown", "{}")));

    let list = response(r#"{"cacheScope":"public","tools":[{"name":"read"},{"name":"write"}]}"#);
    let list_cx = cx(TO_CLIENT, "tools/list");
    let all = r#"{"cacheScope":"private","tools":[{"name":"read"},{"name":"write"}]}"#;
    let outcome = run(&chain, &by("admin", list_cx.clone()), &list);
    assert_eq!(changed(outcome), text(&response(all)));
    let some = r#"{"cacheScope":"private","tools":[{"name":"read"}]}"#;
    assert_eq!(
        changed(run(&chain, &by("guest", list_cx), &list)),
        text(&response(some))
    );
}

/// E8: it asks only for what its lists are about.
#[test]
fn e8_only_what_the_policy_is_about_is_read() {
    let tools = chain(r#"interceptors = [{ type = "access", tools = { deny = ["x"] } }]"#);
    assert!(tools.wants(TO_UPSTREAM, Some("tools/call")));
    assert!(tools.wants(TO_CLIENT, Some("tools/list")));
    for method in ["tools/list", "prompts/get", "ping"] {
        assert!(!tools.wants(TO_UPSTREAM, Some(method)), "{method}");
    }
    for method in ["tools/call", "notifications/progress"] {
        assert!(!tools.wants(TO_CLIENT, Some(method)), "{method}");
    }
}
