//! What only child processes do.

use serde_json::{Value, json};
use thinpipe_gateway::Reached;
use thinpipe_testkit::{Client, SseClient, eventually, rpc, stdio_server};
use thinpipe_transport::upstream::stdio::StdioConfig;

use crate::client::{Binding, Caller};
use crate::front::Front;
use crate::server::{Carrier, Scripted};

const REVISION: &str = "2025-06-18";

fn program(script: &str) -> StdioConfig {
    let mut config = StdioConfig::new("up".into(), "/bin/sh");
    config.args = stdio_server::script(script).map(Into::into).to_vec();
    config
}

fn limited(process: StdioConfig, max_children: usize) -> Reached {
    match process.into() {
        Reached::Stdio(mut child) => {
            child.max_children = max_children;
            Reached::Stdio(child)
        }
        Reached::Http(_) => unreachable!("it was made from a process"),
    }
}

/// C24: a program that cannot be started is named, and is not tried again and again.
#[tokio::test]
async fn c24_a_program_that_is_missing() {
    let missing = "/nowhere/no such program";
    let front = Front::start(StdioConfig::new("up".into(), missing)).await;
    let client = Client::new(&front.mcp);
    for _ in 0..2 {
        let mut refused = client.post(rpc::initialize(1, REVISION)).await;
        assert_eq!(refused.status, 502);
        let error = refused.json().await["error"].clone();
        let data = json!({"reason": "upstream_unavailable", "upstream": "up"});
        assert_eq!(error["data"], data);
        let text = error["message"].as_str().unwrap();
        assert!(
            text.contains(missing) && text.contains("No such file"),
            "{text}"
        );
    }
    assert!(!front.route().is_healthy());
    let refused = client.post(rpc::initialize(1, REVISION)).await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.header("Retry-After"), Some("1"));
}

/// C24: so is one that ends over `initialize`; one that answers it makes up for it.
#[tokio::test]
async fn c24_a_program_that_ends_at_once() {
    let front = Front::start(program("echo 'no licence' >&2; exit 3")).await;
    let client = Client::new(&front.mcp);
    for _ in 0..2 {
        let mut refused = client.post(rpc::initialize(1, REVISION)).await;
        assert_eq!(refused.status, 502);
        let error = refused.json().await["error"].clone();
        assert_eq!(error["data"]["reason"], "upstream_stream_lost");
        let text = error["message"].as_str().unwrap();
        assert!(text.contains("exit status: 3"), "{text}");
    }
    assert!(!front.route().is_healthy());
    let refused = client.post(rpc::initialize(1, REVISION)).await;
    assert_eq!(refused.status, 503);
    assert!(refused.header("Retry-After").is_some());
}

/// R212: one child for each session, as many as may be, and no more than there are sessions.
#[tokio::test]
async fn r212_children_are_limited() {
    let front = Front::start(limited(program("serve"), 2)).await;
    let first = Caller::open(&front, Binding::Streamable, REVISION).await;
    let _second = Caller::open(&front, Binding::HttpSse, REVISION).await;
    let client = Client::new(&front.mcp);
    let mut refused = client.post(rpc::initialize(1, REVISION)).await;
    assert_eq!(refused.status, 503);
    assert!(refused.header("Retry-After").is_some());
    let reason = refused.json().await["error"]["data"]["reason"].clone();
    assert_eq!(reason, "upstream_overloaded");
    first.end().await;
    eventually("there is a place", async || {
        match client.post(rpc::initialize(1, REVISION)).await.status {
            200 => Ok(()),
            status => Err(format!("status {status}")),
        }
    })
    .await;
    assert_eq!(front.route().children().unwrap().spawned, 3);
}

/// C24, protocol notes 2.4: lines that are no messages are passed over.
#[tokio::test]
async fn c24_noise_on_stdout_harms_nobody() {
    let front = Front::start(program("echo 'starting up...'; echo; echo '[1]'; serve")).await;
    let mut caller = Caller::open(&front, Binding::Streamable, REVISION).await;
    let mut asked = caller.ask(rpc::request(1, "ping", &json!({}))).await;
    // The script gives each line back as it came: `initialized`, and a request of the server's now.
    let mut given_back = caller.next(&mut asked).await;
    if given_back["method"] == "notifications/initialized" {
        given_back = caller.next(&mut asked).await;
    }
    assert_eq!(given_back["method"], "ping");
}

/// R213, and protocol notes 5.2, `initialize`: the server is asked for what both sides can know, and what it
/// names beyond that opens no session.
#[tokio::test]
async fn r213_a_revision_that_is_not_known_here() {
    for binding in [Binding::Streamable, Binding::HttpSse] {
        let mut server = Scripted::start(Carrier::Stdio).await;
        let front = Front::start(server.reached()).await;
        let opening = async {
            match binding {
                Binding::Streamable => {
                    let client = Client::new(&front.mcp);
                    let mut opened = client.post(rpc::initialize(1, "2031-01-01")).await;
                    assert_eq!(opened.header("Mcp-Session-Id"), None);
                    opened.json().await
                }
                Binding::HttpSse => {
                    let mut client = SseClient::open(&front.sse).await;
                    client.ask(rpc::initialize(1, "2031-01-01")).await
                }
            }
        };
        let speaking = async {
            let mut speaker = server.session().await;
            let initialize = speaker.hears("initialize").await;
            assert_eq!(initialize["params"]["protocolVersion"], "2025-11-25");
            let result = json!({"protocolVersion": "2030-01-01", "capabilities": {}});
            speaker.answer(&initialize, result).await;
            speaker.ends().await
        };
        let (answer, rest) = tokio::join!(opening, speaking);
        assert_eq!(
            (&answer["id"], &answer["error"]["code"]),
            (&json!(1), &json!(-32602))
        );
        assert!(answer["error"]["data"]["supported"].is_array(), "{answer}");
        assert_eq!(rest, Vec::<Value>::new());
    }
}

/// R250: a call that is not answered in time gets an error, and is cancelled.
#[tokio::test]
async fn r250_a_call_that_takes_too_long() {
    for binding in [Binding::Streamable, Binding::HttpSse] {
        let mut server = Scripted::start(Carrier::Stdio).await;
        let mut reached = server.reached();
        if let Reached::Stdio(child) = &mut reached {
            child.request_timeout = std::time::Duration::from_millis(500);
        }
        let front = Front::start(reached).await;
        let (mut caller, mut speaker) = Caller::begin(&front, &mut server, binding, REVISION).await;
        let mut asked = caller.ask(rpc::call(1, "slow")).await;
        let call = speaker.hears("tools/call").await;
        let cancelled = speaker.hears("notifications/cancelled").await;
        assert_eq!(cancelled["params"]["requestId"], call["id"]);
        let answer = caller.next(&mut asked).await;
        assert_eq!(answer["id"], 1);
        let data = json!({"reason": "upstream_timeout", "upstream": "up"});
        assert_eq!(answer["error"]["data"], data);
        caller.settle(&mut speaker).await;
    }
}

/// Protocol notes 1.4: what a program speaks is known from its answer to `initialize`, and nothing is started to
/// ask.
#[tokio::test]
async fn c24_a_program_says_what_it_speaks() {
    let front = Front::start(program("serve")).await;
    assert_eq!(front.route().program_speaks(), None, "nobody asked it");
    let _caller = Caller::open(&front, Binding::Streamable, REVISION).await;
    let known = front.route().program_speaks().unwrap();
    assert!(known.contains("in sessions (2025-06-18)"), "{known}");
}

/// C22: ten times started and stopped, with a session and a call open: nothing is left.
#[tokio::test]
async fn c22_nothing_is_left_after_ten_cycles() {
    for _ in 0..10 {
        let mut server = Scripted::start(Carrier::Stdio).await;
        let front = Front::with(
            server.reached(),
            |_| {},
            |config| {
                config.limits.drain = std::time::Duration::ZERO;
            },
        )
        .await;
        let (caller, mut speaker) =
            Caller::begin(&front, &mut server, Binding::HttpSse, REVISION).await;
        let _asked = caller.ask(rpc::call(1, "slow")).await;
        speaker.hears("tools/call").await;
        front.server.shut_down().await;
        front.gateway.finish().await;
        assert_eq!(front.route().children().unwrap().running, 0);
        speaker.ends().await;
    }
}

/// A client that does not read stops its server, and is given up in the end.
#[tokio::test]
async fn a_slow_reader_stops_the_childs_writes() {
    const MESSAGES: usize = 512;
    let mut server = Scripted::start(Carrier::Stdio).await;
    let front = Front::with(
        server.reached(),
        |_| {},
        |config| {
            config.limits.write_stall = std::time::Duration::from_millis(300);
        },
    )
    .await;
    let (caller, mut speaker) =
        Caller::begin(&front, &mut server, Binding::HttpSse, REVISION).await;
    let filler = "x".repeat(128 << 10);
    let log = json!({"level": "info", "data": filler});
    let line = rpc::notification("notifications/message", &log);
    let mut written = 0;
    while written < MESSAGES && speaker.try_say(&line).await.is_ok() {
        written += 1;
    }
    assert!(
        written < MESSAGES,
        "64 MiB were taken from a server that nobody listens to"
    );
    front.no_child_runs().await;
    drop(caller);
}

/// R187, protocol notes 5.2, "SL specifics": what a client writes on several lines is one line.
#[tokio::test]
async fn line_ends_of_a_client_are_no_lines_of_the_child() {
    let mut server = Scripted::start(Carrier::Stdio).await;
    let front = Front::start(server.reached()).await;
    let (mut caller, mut speaker) =
        Caller::begin(&front, &mut server, Binding::Streamable, REVISION).await;
    let pretty = "{\n  \"jsonrpc\": \"2.0\",\r\n  \"id\": 12345678901234567890,\n  \"method\": \"tools/list\"\n}";
    let mut asked = caller.ask(pretty).await;
    let list = speaker.hears("tools/list").await;
    speaker.answer(&list, Value::Null).await;
    let answer = caller.next(&mut asked).await;
    assert_eq!(answer["id"].to_string(), "12345678901234567890", "R188");
}

/// C24, invariant 14: the session of an HTTP+SSE client that leaves is over, also while its `initialize` is
/// being answered, and so is the child that was started for it.
#[tokio::test]
async fn c24_a_client_that_leaves_over_initialize_leaves_no_child() {
    let mut server = Scripted::start(Carrier::Stdio).await;
    let front = Front::start(server.reached()).await;
    let client = SseClient::open(&front.sse).await;
    client.tell(rpc::initialize(1, REVISION)).await;
    let mut speaker = server.session().await;
    speaker.hears("initialize").await;
    client.stream.close();
    speaker.ends().await;
    front.no_child_runs().await;
}
