//! Sessions with child processes: shell scripts, as real as any.

mod ending;
mod guard;
mod logging;
mod probing;

use bytes::Bytes;
use serde_json::{Value, json};
use thinpipe_testkit::{rpc, stdio_server};
use thinpipe_transport::ByteBudget;
use thinpipe_transport::upstream::pipe::{Pipe, PipeError, PipeReceiver};
use thinpipe_transport::upstream::stdio::{StdioConfig, StdioUpstream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// An upstream whose children run a script, and what ends with them.
struct Scripted {
    upstream: StdioUpstream,
    tasks: TaskTracker,
    stop: CancellationToken,
}

fn scripted(script: &str, change: impl FnOnce(&mut StdioConfig)) -> Scripted {
    let mut config = StdioConfig::new("child".into(), "/bin/sh");
    config.args = stdio_server::script(script).map(Into::into).to_vec();
    change(&mut config);
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let budget = ByteBudget::default();
    Scripted {
        upstream: StdioUpstream::new(config, budget, tasks.clone(), stop.clone()),
        tasks,
        stop,
    }
}

impl Scripted {
    fn spawn(&self) -> Pipe {
        self.upstream.spawn().unwrap()
    }

    /// Until every child has ended, and the task of each.
    async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        assert_eq!(self.upstream.stats().running, 0);
    }
}

fn spawn(script: &str) -> Pipe {
    scripted(script, |_| {}).spawn()
}

fn json(message: &thinpipe_proto::rpc::Message) -> Value {
    serde_json::from_slice(message.source()).unwrap()
}

async fn next(receiver: &mut PipeReceiver) -> Value {
    json(&receiver.next().await.unwrap().unwrap())
}

async fn last(receiver: &mut PipeReceiver) -> PipeError {
    let error = receiver.next().await.unwrap().unwrap_err();
    assert!(receiver.next().await.is_none(), "an error is the end");
    error
}

fn bytes(text: impl Into<String>) -> Bytes {
    Bytes::from(text.into())
}

/// C24: one child for all messages of a session, and ids as they were.
#[tokio::test]
async fn c24_messages_are_lines_both_ways() {
    let scripted = scripted("serve", |_| {});
    let mut pipe = scripted.spawn();
    pipe.sender
        .send(bytes(rpc::initialize("a\"b", "2025-06-18")))
        .await
        .unwrap();
    assert_eq!(next(&mut pipe.receiver).await["id"], "a\"b");
    for id in 1..20 {
        pipe.sender
            .send(bytes(rpc::call(id, "echo")))
            .await
            .unwrap();
        assert_eq!(next(&mut pipe.receiver).await["id"], id);
    }
    let pretty = "{\r\n\"jsonrpc\": \"2.0\",\n\"method\": \"x\\n\"\n}\n";
    pipe.sender.send(bytes(pretty)).await.unwrap();
    assert_eq!(next(&mut pipe.receiver).await["method"], "x\n");
    assert_eq!(scripted.upstream.stats().spawned, 1);
}

/// More than a pipe holds, while the other direction is full as well.
#[tokio::test]
async fn c24_long_messages_go_through() {
    let mut pipe = spawn("exec cat");
    let text = "x".repeat(1 << 20);
    let call = rpc::request(1, "x", &json!({"text": text}));
    let sending = pipe.sender.send(bytes(call));
    let (sent, echoed) = tokio::join!(sending, next(&mut pipe.receiver));
    sent.unwrap();
    assert_eq!(echoed["params"]["text"], text);
}

/// C9: what was read at once is taken one by one, and others have their turn meanwhile.
#[tokio::test]
async fn c9_a_flood_of_lines_lets_others_have_their_turn() {
    const LINES: usize = 300;
    let line = r#"{"jsonrpc":"2.0","method":"x"}"#;
    // One write, of less than one read takes.
    let script = format!("yes '{line}' | head -n {LINES} | dd obs=24000 status=none");
    let mut pipe = spawn(&script);
    next(&mut pipe.receiver).await;
    let other = TaskTracker::new().spawn(async {});
    let mut taken = 1;
    while taken < LINES && !other.is_finished() {
        next(&mut pipe.receiver).await;
        taken += 1;
    }
    assert!(taken < LINES, "the other task had no turn");
}

/// A message that nobody waits for any more is written whole all the same.
#[tokio::test]
async fn a_sender_that_leaves_leaves_no_half_a_line() {
    let mut pipe = spawn("exec cat");
    let text = "x".repeat(1 << 20);
    let long = rpc::notification("long", &json!({"text": text}));
    {
        let mut sending = std::pin::pin!(pipe.sender.send(bytes(long)));
        let waker = std::task::Waker::noop();
        let mut cx = std::task::Context::from_waker(waker);
        assert!(sending.as_mut().poll(&mut cx).is_pending());
    }
    let sending = pipe
        .sender
        .send(bytes(rpc::notification("short", &json!({}))));
    let receiving = async {
        let long = next(&mut pipe.receiver).await;
        let short = next(&mut pipe.receiver).await;
        (long["method"].clone(), short["method"].clone())
    };
    let (sent, methods) = tokio::join!(sending, receiving);
    sent.unwrap();
    assert_eq!(methods, (json!("long"), json!("short")));
}

/// Protocol notes 2.4: split writes, CRLF, blank lines, batches.
#[tokio::test]
async fn lines_are_read_however_they_are_written() {
    let mut pipe = spawn(
        r#"printf '{"jsonrpc":"2.0",'; printf '"method":"split"}\n'
           printf '\r\n\n{"jsonrpc":"2.0","method":"crlf"}\r\n'
           printf '[{"jsonrpc":"2.0","method":"one"},{"jsonrpc":"2.0","method":"two"}]\n'
           serve"#,
    );
    for method in ["split", "crlf", "one", "two"] {
        assert_eq!(next(&mut pipe.receiver).await["method"], method);
    }
}

#[tokio::test]
async fn noise_is_survived_up_to_a_limit() {
    let script = r#"
        echo 'Server listening on stdio'; echo '{"jsonrpc":"2.0"}'; echo '{"half'
        printf '{"jsonrpc":"2.0","method":"x"}\n'
        for n in 1 2 3 4; do printf 'line %s \033[2J and what is long: %0300d\n' $n 0; done
        serve"#;
    let mut pipe = scripted(script, |config| config.max_noise = 3).spawn();
    assert_eq!(next(&mut pipe.receiver).await["method"], "x");
    let error = last(&mut pipe.receiver).await;
    let PipeError::Noise { lines: 4, last, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(
        last.starts_with("\"line 4 \\u{1b}[2J") && last.len() < 250,
        "{last}"
    );
}

#[tokio::test]
async fn a_message_has_a_limit() {
    for script in [
        "head -c 100000 /dev/zero",
        "head -c 100000 /dev/zero; echo; serve",
    ] {
        let scripted = scripted(script, |config| config.max_message = 50_000);
        let mut pipe = scripted.spawn();
        let error = last(&mut pipe.receiver).await;
        assert!(
            matches!(error, PipeError::TooLarge { limit: 50_000, .. }),
            "{error:?}"
        );
    }
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let mut config = StdioConfig::new("child".into(), "/bin/sh");
    config.args = stdio_server::script("head -c 100000 /dev/zero")
        .map(Into::into)
        .to_vec();
    let upstream = StdioUpstream::new(config, ByteBudget::new(0), tasks, stop);
    let error = last(&mut upstream.spawn().unwrap().receiver).await;
    assert!(matches!(error, PipeError::NoRoom { .. }), "{error:?}");
}

const ENVIRONMENT: &str = r#"
    printf '{"jsonrpc":"2.0","method":"%s|%s|%s"}\n' "${PATH:+path}" "$CARGO_MANIFEST_DIR" "$ADDED"
    serve"#;

/// A server gets what it needs to run, and none of the gateway's secrets.
#[tokio::test]
async fn the_environment_is_not_inherited_but_for_what_is_named() {
    let manifest = env!("CARGO_MANIFEST_DIR");
    for (inherit_env, expected) in [
        (false, "path||yes".to_owned()),
        (true, format!("path|{manifest}|yes")),
    ] {
        let scripted = scripted(ENVIRONMENT, |config| {
            config.env = vec![("ADDED".into(), "yes".into())];
            config.inherit_env = inherit_env;
        });
        assert!(!format!("{:?}", scripted.upstream).contains("yes"));
        let mut pipe = scripted.spawn();
        assert_eq!(next(&mut pipe.receiver).await["method"], expected);
    }
}

#[tokio::test]
async fn the_directory_and_the_program_are_as_configured() {
    let script = r#"printf '{"jsonrpc":"2.0","method":"%s"}\n' "$(pwd)"; serve"#;
    let mut pipe = scripted(script, |config| config.cwd = Some("/".into())).spawn();
    assert_eq!(next(&mut pipe.receiver).await["method"], "/");

    let missing = scripted("", |config| config.command = "no-such-program".into());
    let error = missing.upstream.spawn().unwrap_err();
    assert!(matches!(error, PipeError::Spawn { .. }) && error.is_undelivered());
    assert!(error.to_string().contains("no-such-program"), "{error}");
}

/// Who does not take messages stops the child: nothing is read ahead beyond one read.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn who_does_not_read_stops_the_child() {
    use thinpipe_testkit::eventually;

    let script = r#"printf '{"jsonrpc":"2.0","method":"%s"}\n' $$
        exec yes '{"jsonrpc":"2.0","method":"x"}'"#;
    let mut pipe = spawn(script);
    let child = next(&mut pipe.receiver).await["method"].clone();
    let io = format!("/proc/{}/io", child.as_str().unwrap());
    let before = std::cell::Cell::new(0);
    // It writes as fast as it can, so one look at which it has not written is the end of that.
    let written = eventually("the child to stop", async || {
        let now: usize = std::fs::read_to_string(&io)
            .unwrap()
            .lines()
            .find_map(|line| line.strip_prefix("wchar: "))
            .map_or(0, |count| count.parse().unwrap());
        if now > 0 && now == before.replace(now) {
            Ok(now)
        } else {
            Err(format!("{now} bytes written"))
        }
    })
    .await;
    assert!(written < 128 << 10, "{written}");
    assert_eq!(next(&mut pipe.receiver).await["method"], "x");
}
