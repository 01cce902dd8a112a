//! Responses whose request is not known any more: whoever may be meant acts.

use thinpipe_gateway::interceptor::{Direction, MessageContext, Outcome};
use thinpipe_proto::rpc::Message;

use super::{
    TO_CLIENT, TO_UPSTREAM, chain, changed, cx, finish, forwarded, message, rejected, response,
    run, text,
};

/// The context of a response of which nothing else is known.
fn unknown(direction: Direction) -> MessageContext {
    MessageContext {
        method: None,
        ..cx(direction, "")
    }
}

/// The context of a response that answers this method, but nobody knows for which tool.
fn of(method: &str) -> MessageContext {
    cx(TO_CLIENT, method)
}

fn rules(rules: &str) -> String {
    format!(r#"interceptors = [{{ type = "rules", rules = [{rules}] }}]"#)
}

fn outcome(interceptors: &str, cx: &MessageContext, message: &Message) -> Outcome {
    run(&chain(interceptors), cx, message)
}

/// E3: what may be meant is redacted, what cannot be is not.
#[test]
fn e3_redact_acts_on_what_may_be_meant() {
    let secret = response(r#"{"content":[],"structuredContent":{"key":1}}"#);
    let hidden = text(&secret).replace(":1}", r#":"[redacted]"}"#);
    for (rule, cx, acts) in [
        (r#"methods = ["tools/call"]"#, unknown(TO_CLIENT), true),
        (r#"names = ["query_*"]"#, unknown(TO_CLIENT), true),
        (r#"names = ["query_*"]"#, of("tools/call"), true),
        (
            r#"methods = ["tools/*"], names = ["q"]"#,
            unknown(TO_CLIENT),
            true,
        ),
        // A method that names nothing cannot have named it, and another method is another one.
        (r#"names = ["query_*"]"#, of("tools/list"), false),
        (r#"methods = ["prompts/get"]"#, of("tools/call"), false),
        // Servers do not call tools, and clients do not ask for sampling.
        (r#"methods = ["tools/call"]"#, unknown(TO_UPSTREAM), false),
        (
            r#"methods = ["sampling/createMessage"]"#,
            unknown(TO_UPSTREAM),
            true,
        ),
        (
            r#"methods = ["sampling/createMessage"]"#,
            unknown(TO_CLIENT),
            false,
        ),
    ] {
        let redact = format!(
            r#"interceptors = [{{ type = "redact", rules = [{{ pointer = "/result/structuredContent/key", {rule} }}] }}]"#
        );
        let outcome = outcome(&redact, &cx, &secret);
        let shown = format!("{rule} {:?} {:?}", cx.direction, cx.method);
        match outcome {
            Outcome::Changed(message) => assert!(acts && text(&message) == hidden, "{shown}"),
            Outcome::Forward(_) => assert!(!acts, "{shown}"),
            Outcome::Rejected(_) => panic!("{shown}"),
        }
    }
}

/// E3: a request says itself what it is about; one that names nothing is not taken for another.
#[test]
fn e3_requests_are_never_unknown() {
    let request =
        message(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"arguments":{}}}"#);
    let reject = rules(r#"{ when = { names = ["delete"] }, then = [{ reject = {} }] }"#);
    let outcome = outcome(&reject, &cx(TO_UPSTREAM, "tools/call"), &request);
    forwarded(outcome);
}

/// E3: a rule that forbids acts on what it may mean, also in the negative; one that lets pass lets
/// only pass what it means for sure.
#[test]
fn e3_rules_fail_closed() {
    let reject = "then = [{ reject = {} }]";
    let call = r#"methods = ["tools/call"], names = ["delete"]"#;
    for (when, refused) in [
        (format!("{{ {call} }}"), true),
        (r#"{ methods = ["*"] }"#.to_owned(), true),
        (format!("{{ not = {{ {call} }} }}"), true),
        (
            format!("{{ any = [{{ kinds = [\"error\"] }}, {{ {call} }}] }}"),
            true,
        ),
        (format!("{{ kinds = [\"error\"], {call} }}"), false),
        (
            r#"{ methods = ["sampling/createMessage"] }"#.to_owned(),
            false,
        ),
        (format!("{{ direction = \"to_upstream\", {call} }}"), false),
    ] {
        let rules = rules(&format!("{{ when = {when}, {reject} }}"));
        let outcome = outcome(&rules, &unknown(TO_CLIENT), &response("{}"));
        assert_eq!(matches!(outcome, Outcome::Rejected(_)), refused, "{when}");
    }

    let exempt = rules(
        r#"{ when.names = ["harmless"], then = ["continue"] }, { then = [{ reject = {} }] }"#,
    );
    rejected(outcome(&exempt, &of("tools/call"), &response("{}")));
    let sure = MessageContext {
        name: Some("harmless".into()),
        ..of("tools/call")
    };
    forwarded(outcome(&exempt, &sure, &response("{}")));
}

/// E3: all rules that may hold change their part, up to one that holds for sure or refuses.
#[tokio::test(start_paused = true)]
async fn e3_rules_that_may_hold_act_together() {
    let set = |name: &str, more: &str| {
        format!(
            r#"{{ when.names = ["{name}"], then = [{{ set = {{ pointer = "/result/{name}", value = 1 }} }}{more}] }}"#
        )
    };
    let delay = |ms: u64| format!(", {{ delay = {{ ms = {ms} }} }}");
    let last = r#"{ then = [{ set = { pointer = "/result/last", value = 1 } }] }"#;
    let toml = rules(&format!(
        "{}, {}, {last}, {}",
        set("a", &delay(30)),
        set("b", &delay(70)),
        set("never", "")
    ));
    let start = tokio::time::Instant::now();
    let outcome = finish(&chain(&toml), &of("tools/call"), &response("{}")).await;
    assert_eq!(
        changed(outcome),
        text(&response(r#"{"a":1,"b":1,"last":1}"#))
    );
    assert_eq!(start.elapsed().as_millis(), 70);
}

/// E3: `fault` hits what it may mean.
#[test]
fn e3_fault_acts_on_what_may_be_meant() {
    let fault = |rest: &str| {
        format!(
            r#"interceptors = [{{ type = "fault", direction = "to_client", fail = {{}}, {rest} }}]"#
        )
    };
    let known = of("tools/list");
    for rest in [r#"methods = ["tools/call"]"#, r#"names = ["slow"]"#] {
        rejected(outcome(&fault(rest), &unknown(TO_CLIENT), &response("{}")));
        forwarded(outcome(&fault(rest), &known, &response("{}")));
    }
}

/// E11: lists are filtered whatever they answer.
#[test]
fn e11_access_and_pin_know_a_list_by_its_looks() {
    let list = response(r#"{"tools":[{"name":"delete"},{"name":"read"}]}"#);
    let filtered = response(r#"{"tools":[{"name":"read"}]}"#);
    let access =
        r#"interceptors = [{ type = "access", tools.deny = ["delete"], prompts.deny = ["x"] }]"#;
    assert_eq!(
        changed(outcome(access, &unknown(TO_CLIENT), &list)),
        text(&filtered)
    );
    let prompts = response(r#"{"prompts":[{"name":"delete"},{"name":"x"}]}"#);
    assert_eq!(
        changed(outcome(access, &unknown(TO_CLIENT), &prompts)),
        text(&response(r#"{"prompts":[{"name":"delete"}]}"#))
    );
    let hash = "0".repeat(64);
    let pin = format!(
        r#"interceptors = [{{ type = "pin", tools = {{ delete = "{hash}" }}, on_unknown = "allow" }}]"#
    );
    assert_eq!(
        changed(outcome(&pin, &unknown(TO_CLIENT), &list)),
        text(&filtered)
    );
}

/// E11: what may be a definition is looked at where definitions are, and never half changed.
#[test]
fn e11_sanitize_looks_at_what_may_be_a_definition() {
    let unclean = response(r#"{"serverInfo":{"name":"a\u0007b"},"instructions":"c\u0007d"}"#);
    let sanitize = |rest: &str| {
        format!(r#"interceptors = [{{ type = "sanitize", messages = false, {rest} }}]"#)
    };
    for (settings, refused) in [
        ("results = false", true),
        ("definitions = false", true),
        (r#"mode = "strip""#, true),
    ] {
        let outcome = outcome(&sanitize(settings), &unknown(TO_CLIENT), &unclean);
        assert_eq!(
            matches!(outcome, Outcome::Rejected(_)),
            refused,
            "{settings}"
        );
    }
    // Without looking at definitions, it can only be a result.
    let results = sanitize(r#"mode = "strip", definitions = false"#);
    let stripped = response(r#"{"serverInfo":{"name":"ab"},"instructions":"cd"}"#);
    assert_eq!(
        changed(outcome(&results, &unknown(TO_CLIENT), &unclean)),
        text(&stripped)
    );
    let list = response(r#"{"tools":[{"name":"a\u0007b"},{"name":"c"}]}"#);
    assert_eq!(
        changed(outcome(
            &sanitize("results = false"),
            &unknown(TO_CLIENT),
            &list
        )),
        text(&response(r#"{"tools":[{"name":"c"}]}"#))
    );
}
