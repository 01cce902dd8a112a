//! Instructions that a chain of interceptors takes (E7, E10). Counted by valgrind, so that runs can
//! be compared whatever else the machine does. The interceptors chapter of the documentation has the
//! command and the figures.

#![expect(
    missing_docs,
    unused_qualifications,
    reason = "in code that the benchmark macros write"
)]

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use gungraun::{library_benchmark, library_benchmark_group, main};
use serde::Deserialize;
use thinpipe_gateway::interceptor::{
    Action, Carrier, Chain, ChainConfig, Direction, Interceptor, InterceptorConfig, Interest,
    MessageContext, Methods, Outcome, Step,
};
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::Message;
use thinpipe_proto::session::Principal;

/// Messages per run; figures are to be divided by it.
const COUNT: usize = 1_000;

/// What is measured: a chain, and messages of one kind.
struct Input {
    chain: Chain,
    cx: MessageContext,
    messages: Vec<Bytes>,
}

/// Reads what a policy would read, and lets the message go on.
struct Reader;

impl Interceptor for Reader {
    fn name(&self) -> &str {
        "reader"
    }

    fn interest(&self) -> Interest {
        Interest {
            to_client: Methods::All,
            ..Interest::default()
        }
    }

    fn intercept(&self, cx: &MessageContext, message: &Message) -> Action {
        black_box((
            cx.method.as_deref(),
            message.kind(),
            message.param("progress"),
        ));
        Action::Continue
    }
}

fn cx(direction: Direction, method: &str, name: Option<&str>) -> MessageContext {
    MessageContext {
        direction,
        carrier: Carrier::Event,
        revision: Revision::V2025_11_25,
        upstream: "files".into(),
        principal: Principal::Named("alice".into()),
        session: Some("4f0c21".into()),
        method: Some(method.into()),
        name: name.map(Arc::from),
        sequence: 0,
    }
}

fn input(chain: Chain, cx: MessageContext, message: impl Fn(usize) -> String) -> Input {
    Input {
        chain,
        cx,
        messages: (0..COUNT)
            .map(|number| Bytes::from(message(number)))
            .collect(),
    }
}

/// Events of a stream that passes so many interceptors.
fn events(interceptors: usize) -> Input {
    let extra = (0..interceptors)
        .map(|_| Arc::new(Reader) as Arc<dyn Interceptor>)
        .collect();
    let chain = Chain::build(&[], extra, &ChainConfig::default()).expect("a reader can be built");
    let method = "notifications/progress";
    input(chain, cx(Direction::ToClient, method, None), |number| {
        format!(
            r#"{{"jsonrpc":"2.0","method":"{method}","params":{{"progressToken":"t-1","progress":{number},"message":"reading the files of the project"}}}}"#
        )
    })
}

#[derive(Deserialize)]
struct File {
    interceptors: Vec<InterceptorConfig>,
}

fn configured(toml: &str) -> Chain {
    let file: File = toml::from_str(toml).expect("it is valid TOML");
    Chain::build(&file.interceptors, Vec::new(), &ChainConfig::default()).expect("it can be built")
}

fn call(number: usize) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{number},"method":"tools/call","params":{{"name":"read_file","arguments":{{"path":"/srv/project/src/file{number}.rs","token":"s3cret"}}}}}}"#
    )
}

fn calls(toml: &str) -> Input {
    input(
        configured(toml),
        cx(Direction::ToUpstream, "tools/call", Some("read_file")),
        call,
    )
}

fn results(toml: &str) -> Input {
    let text = r"a line of text with \\ and \n in it, ".repeat(100);
    let cx = cx(Direction::ToClient, "tools/call", Some("read_file"));
    input(configured(toml), cx, |number| {
        format!(
            r#"{{"jsonrpc":"2.0","id":{number},"result":{{"content":[{{"type":"text","text":"{text}"}}],"structuredContent":{{"token":"s3cret"}}}}}}"#
        )
    })
}

fn lists(toml: &str) -> Input {
    let tools: Vec<String> = (0..50)
        .map(|number| {
            format!(
                r#"{{"name":"tool_{number}","description":"Does what tool number {number} does.","inputSchema":{{"type":"object","properties":{{"path":{{"type":"string","description":"Where it is."}}}},"required":["path"]}}}}"#
            )
        })
        .collect();
    let tools = tools.join(",");
    input(
        configured(toml),
        cx(Direction::ToClient, "tools/list", None),
        |number| format!(r#"{{"jsonrpc":"2.0","id":{number},"result":{{"tools":[{tools}]}}}}"#),
    )
}

const ACCESS: &str = r#"
    [[interceptors]]
    type = "access"
    methods.allow = ["tools/*", "prompts/*", "resources/*", "completion/complete"]
    tools.allow = ["list_*", "stat_*", "search_*", "git_*", "read_*"]
    tools.deny = ["*_secret", "shell", "exec", "delete_*", "tool_7"]
"#;

const RULES: &str = r#"
    [[interceptors]]
    type = "rules"
    [[interceptors.rules]]
    when = { methods = ["prompts/*"] }
    then = [{ reject = {} }]
    [[interceptors.rules]]
    when = { names = ["delete_*"], not = { principals = ["admin"] } }
    then = [{ reject = {} }]
    [[interceptors.rules]]
    when.params = [{ pointer = "/arguments/path", matches = "/etc/*" }]
    then = [{ reject = {} }]
    [[interceptors.rules]]
    when.any = [{ session = false }, { params = [{ pointer = "/arguments/force", equals = true }] }]
    then = [{ reject = {} }]
    [[interceptors.rules]]
    when.revisions = ["2024-11-05"]
    then = [{ reject = {} }]
"#;

const REDACT: &str = r#"
    [[interceptors]]
    type = "redact"
    rules = [{ pointer = "/params/arguments/token" }, { pointer = "/result/structuredContent/token" }]
"#;

const SANITIZE: &str = r#"interceptors = [{ type = "sanitize" }]"#;
const PIN: &str = r#"interceptors = [{ type = "pin" }]"#;
const LOG: &str = r#"interceptors = [{ type = "log" }]"#;

/// What the relay does with each message: ask, outline, run, take the bytes. `0` interceptors: ask.
fn relay(input: Input) -> (Input, usize) {
    let mut sent = 0;
    for source in &input.messages {
        if !input
            .chain
            .wants(input.cx.direction, input.cx.method.as_deref())
        {
            sent += black_box(source).len();
            continue;
        }
        let Ok(message) = Message::parse(source.clone()) else {
            continue;
        };
        if let Step::Done(Outcome::Forward(message) | Outcome::Changed(message)) =
            input.chain.run(&input.cx, message)
        {
            sent += black_box(message.source()).len();
        }
    }
    (input, sent)
}

#[library_benchmark]
#[bench::none(events(0))]
#[bench::one(events(1))]
#[bench::five(events(5))]
#[bench::ten(events(10))]
fn small_event(input: Input) -> (Input, usize) {
    relay(input)
}

#[library_benchmark]
#[bench::no_interceptor(calls("interceptors = []"))]
#[bench::access(calls(ACCESS))]
#[bench::rules(calls(RULES))]
#[bench::redact(calls(REDACT))]
#[bench::pin(calls(PIN))]
#[bench::log_without_reader(calls(LOG))]
fn small_call(input: Input) -> (Input, usize) {
    relay(input)
}

#[library_benchmark]
#[bench::sanitize(results(SANITIZE))]
#[bench::redact(results(REDACT))]
#[bench::log_without_reader(results(LOG))]
fn result_of_4_kib(input: Input) -> (Input, usize) {
    relay(input)
}

#[library_benchmark]
#[bench::access(lists(ACCESS))]
#[bench::sanitize(lists(SANITIZE))]
#[bench::pin(lists(PIN))]
#[bench::log_without_reader(lists(LOG))]
fn list_of_50_tools(input: Input) -> (Input, usize) {
    relay(input)
}

library_benchmark_group!(
    name = chain;
    benchmarks = small_event, small_call, result_of_4_kib, list_of_50_tools
);

main!(library_benchmark_groups = chain);
