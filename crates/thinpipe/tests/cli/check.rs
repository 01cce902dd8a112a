//! `thinpipe check`: what is wrong with a file, what is hardly meant, and what is in effect.

use std::io::pipe;
use std::process::Command;

use crate::support::{run, temporary};

#[test]
fn check_says_what_is_wrong_where_and_how_to_mend_it() {
    let file = temporary("wrong.toml", "lsiten = \"127.0.0.1:0\"\n");
    let done = run(&["check", file.path()], &[]);
    assert_eq!(done.code, 1);
    assert!(
        done.stderr.starts_with("error: unknown key `lsiten`\n"),
        "{}",
        done.stderr
    );
    assert!(done.stderr.contains("wrong.toml:1:1"), "{}", done.stderr);
    assert!(
        done.stderr.contains("did you mean `listen`?"),
        "{}",
        done.stderr
    );
    assert_eq!(done.stdout, "");
    // What is wrong with a file keeps it from being served, in the same words.
    assert_eq!(
        run(&["serve", "--config", file.path()], &[]).stderr,
        done.stderr
    );
}

#[test]
fn check_shows_everything_that_is_in_effect_but_no_secret() {
    let file = temporary(
        "right.yaml",
        "tokens: [{principal: alice, token: 0123456789abcdef-hunter2}]\nupstreams: [{url: 'http://h/mcp', headers: {X-Key: \"${KEY}\"}}]\n",
    );
    let done = run(
        &["check", file.path()],
        &[("KEY", "s3cret"), ("THINPIPE_WORKERS", "3")],
    );
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(
        done.stdout.contains("listen = \"127.0.0.1:8080\""),
        "{}",
        done.stdout
    );
    assert!(done.stdout.contains("workers = 3"), "{}", done.stdout);
    assert!(
        done.stdout.contains("x-key = \"${KEY}\""),
        "{}",
        done.stdout
    );
    assert!(!done.stdout.contains("hunter2") && !done.stdout.contains("s3cret"));
}

/// I5: a secret that is the default of a variable is one, wherever it stands.
#[test]
fn i5_check_shows_no_default_that_is_a_secret() {
    let file = temporary(
        "defaults.toml",
        r#"interceptors = [{ type = "headers", request.set = { x-key = "${X:-hunter2}" } }]
tokens = [{ principal = "${WHO:-alice}", token = "${X:-0123456789abcdef-hunter2}" }]
[[upstreams]]
name = "a"
url = "http://${HOST:-localhost}/mcp?${TOKEN:-hunter2}"
headers = { Authorization = "Bearer ${X:-hunter2}" }
[[upstreams]]
name = "b"
command = "sh"
args = ["--api-key", "${X:-hunter2}", "--token=${X:-hunter2}", "${DIR:-/tmp}"]
env = { KEY = "${env:X:-hunter2}" }
"#,
    );
    let done = run(&["check", file.path()], &[]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(!done.stdout.contains("hunter2"), "{}", done.stdout);
    for shown in [
        "authorization = \"Bearer ${X}\"",
        "url = \"http://${HOST:-localhost}/mcp?${TOKEN}\"",
        "\"--token=${X}\"",
        "\"${DIR:-/tmp}\"",
        "KEY = \"${env:X}\"",
        "principal = \"${WHO:-alice}\"",
    ] {
        assert!(done.stdout.contains(shown), "{shown}: {}", done.stdout);
    }
}

/// A21, I5: what is valid and hardly meant is said, by `check` as well as at the start.
#[test]
fn a21_a_day_that_is_over_and_an_open_admin_side_are_said() {
    let file = |more: &str| {
        let text = format!("{more}\n[[upstreams]]\nurl = \"http://h/mcp\"\n");
        temporary("doubts.toml", &text)
    };
    let past = "[sse.deprecation]\nsunset = \"2026-01-01\"";
    let kept = format!("{past}\nafter_sunset = \"warn\"");
    let off = format!("[sse]\nenabled = false\n{past}");
    for (text, said) in [
        (
            past,
            "sunset: 2026-01-01 is over, so that clients of HTTP+SSE get 410",
        ),
        (&kept, "2026-01-01 is over and HTTP+SSE is still served"),
        (&off, ""),
        (
            "admin = \"0.0.0.0:8081\"",
            "warning: admin: whoever reaches 0.0.0.0:8081",
        ),
        ("admin = \"[::1]:8081\"", ""),
    ] {
        let done = run(&["check", file(text).path()], &[]);
        assert_eq!(done.code, 0, "{}", done.stderr);
        assert!(done.stderr.contains(said), "{text}: {}", done.stderr);
        assert_eq!(done.stderr.is_empty(), said.is_empty(), "{}", done.stderr);
    }
}

/// I5: who reads only the first lines does not make a valid file a wrong one, nor the program panic.
#[test]
fn i5_check_may_be_read_in_part() {
    let right = temporary(
        "right.toml",
        "[[upstreams]]\nurl = \"http://127.0.0.1:9/mcp\"\n",
    );
    let wrong = temporary("wrong.toml", "lsiten = \"127.0.0.1:0\"\n");
    for (file, code) in [(right, 0), (wrong, 1)] {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let status = Command::new(env!("CARGO_BIN_EXE_thinpipe"))
            .args(["check", file.path()])
            .stdout(writer.try_clone().unwrap())
            .stderr(writer)
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(code), "{}", file.path());
    }
}
