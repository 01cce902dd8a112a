//! One log line for each message.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use tracing::level_filters::LevelFilter;
use tracing::subscriber;

use super::{TO_CLIENT, TO_UPSTREAM, by, call, chain, forwarded, message, named, run};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is logged while this runs.
fn logged(level: LevelFilter, run: impl FnOnce()) -> Vec<String> {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    subscriber::with_default(subscriber, run);
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    text.lines().map(String::from).collect()
}

/// One line, whatever is in the message; arguments only where they are asked for.
#[test]
fn a_message_is_one_line_without_its_arguments() {
    let given = message(
        r#"{"jsonrpc":"2.0","id":"a\nb","method":"tools/call","params":{"name":"re\nad","arguments":{"key":"s3cret"}}}"#,
    );
    let cx = by("alice", named(TO_UPSTREAM, "tools/call", "re\nad"));
    let plain = chain(r#"interceptors = [{ type = "log" }]"#);
    let lines = logged(LevelFilter::INFO, || {
        drop(forwarded(run(&plain, &cx, &given)))
    });
    assert_eq!(lines.len(), 1, "{lines:?}");
    for part in [
        "INFO thinpipe::messages: message direction=ToUpstream kind=\"request\"",
        r#"method="tools/call" name="re\nad""#,
        r#"id="a\nb" bytes=107 sequence=0 upstream="files" session="4f0c21" principal="alice""#,
    ] {
        assert!(lines[0].contains(part), "{part} is not in {}", lines[0]);
    }
    assert!(
        !lines[0].contains("s3cret") && !lines[0].contains("payload"),
        "{}",
        lines[0]
    );

    let payload = chain(
        r#"interceptors = [{ type = "log", level = "debug", payload = true, max_payload = 20 }]"#,
    );
    let lines = logged(LevelFilter::DEBUG, || {
        drop(forwarded(run(&payload, &cx, &given)))
    });
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].contains(r#"payload={"jsonrpc":"2.0","id… (107 bytes)"#),
        "{}",
        lines[0]
    );
    assert!(lines[0].contains("DEBUG"));
    let quiet = logged(LevelFilter::INFO, || {
        drop(forwarded(run(&payload, &cx, &given)))
    });
    assert!(quiet.is_empty(), "{quiet:?}");
}

/// Both ways, and messages of every kind.
#[test]
fn everything_is_logged() {
    let chain = chain(r#"interceptors = [{ type = "log" }]"#);
    assert!(chain.wants(TO_UPSTREAM, None) && chain.wants(TO_CLIENT, None));
    for (kind, given) in [
        ("request", call("a", "{}")),
        ("notification", message(r#"{"jsonrpc":"2.0","method":"x"}"#)),
        ("response", super::response("{}")),
        (
            "error",
            message(r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"m"}}"#),
        ),
    ] {
        let cx = super::cx(TO_CLIENT, "x");
        let lines = logged(LevelFilter::INFO, || {
            drop(forwarded(run(&chain, &cx, &given)))
        });
        assert!(
            lines.len() == 1 && lines[0].contains(&format!("kind=\"{kind}\"")),
            "{lines:?}"
        );
    }
}
