//! The program as its users meet it: a process, its output, its exit code.

use std::time::Duration;

mod admin;
mod admin_idle;
mod bridges;
mod check;
mod doctor;
mod guide;
mod migrate;
mod pins;
mod support;

use support::{Gateway, Program, Sample, run, temporary};

const STATELESS_COUNT: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"count","arguments":{"to":STEPS},"_meta":{"progressToken":"t","io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}"#;

fn count_to(steps: u32) -> String {
    STATELESS_COUNT.replace("STEPS", &steps.to_string())
}

#[test]
fn help_shows_what_to_type() {
    let done = run(&["--help"], &[]);
    assert_eq!(done.code, 0);
    for word in [
        "Usage: thinpipe",
        "thinpipe demo",
        "--allow-host",
        "THINPIPE_LISTEN",
    ] {
        assert!(
            done.stdout.contains(word),
            "{word} is not in:\n{}",
            done.stdout
        );
    }
    assert_eq!(run(&["--version"], &[]).stdout.trim(), "thinpipe 0.1.0");
}

#[test]
fn nothing_at_all_shows_the_help() {
    let done = run(&[], &[]);
    assert_eq!(done.code, 2);
    assert!(done.stderr.contains("Examples:"), "{}", done.stderr);
}

#[test]
fn a_misspelt_command_is_not_taken_for_a_url() {
    let done = run(&["serv"], &[]);
    assert_eq!(done.code, 1);
    assert_eq!(
        done.stderr.trim(),
        "error: `serv` is neither a URL nor a command; did you mean `thinpipe serve`?"
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let done = run(&["check", "/nowhere/thinpipe.toml"], &[]);
    assert_eq!(done.code, 1);
    assert!(
        done.stderr
            .starts_with("error: cannot read /nowhere/thinpipe.toml: "),
        "{}",
        done.stderr
    );
    assert!(done.stderr.contains("\n  = help: "), "{}", done.stderr);
}

#[test]
fn what_is_near_at_hand_but_not_there_is_explained() {
    for (arguments, code, said) in [
        (
            &["thinpipe.toml"][..],
            1,
            "`thinpipe serve --config thinpipe.toml`",
        ),
        (
            &["serve", "my.yaml"],
            2,
            "error: write `thinpipe serve --config my.yaml`",
        ),
        (
            &["http://h:1/mcp", "http://u:hunter2@h:2/mcp"],
            2,
            "for several servers, list them in a file",
        ),
    ] {
        let done = run(arguments, &[]);
        assert_eq!(done.code, code, "{arguments:?}: {}", done.stderr);
        assert!(done.stderr.contains(said), "{}", done.stderr);
        assert!(!done.stderr.contains("hunter2"), "{}", done.stderr);
    }
}

/// Exit codes as operations.md has them: a value that cannot be used, a line that is none.
#[test]
fn exit_codes_are_the_documented_ones() {
    assert_eq!(run(&["--listen", "x", "http://h/mcp"], &[]).code, 1);
    assert_eq!(run(&["--lsiten", "x", "http://h/mcp"], &[]).code, 2);
}

/// Files of clients are served, with a line on what was passed over.
#[test]
fn warnings_are_said_when_serving_and_when_checking() {
    let file = temporary(
        "mcp.json",
        r#"{"inputs": [], "listen": "127.0.0.1:0", "admin": "off", "mcpServers": {"a": {"httpUrl": "http://127.0.0.1:1/mcp", "timeout": 5}}}"#,
    );
    let done = run(&["check", file.path()], &[]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let lines: Vec<_> = done.stderr.lines().collect();
    assert!(
        lines[0].starts_with("warning: beside `mcpServers`: `inputs`"),
        "{lines:?}"
    );
    assert!(
        lines[1].starts_with("warning: in mcpServers.a: `timeout`"),
        "{lines:?}"
    );
    let gateway = Gateway::start(&["serve", "--config", file.path()], &[]);
    gateway
        .program
        .said_until("warning: in mcpServers.a: `timeout`");
}

/// B18
#[test]
fn b18_other_machines_are_served_by_name_only() {
    let done = run(&["--listen", "0.0.0.0:0", "http://h/mcp"], &[]);
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("DNS rebinding"), "{}", done.stderr);
    assert!(
        done.stderr.contains("--allow-host mcp.example.com"),
        "{}",
        done.stderr
    );
}

#[test]
fn an_address_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let done = run(
        &[
            "--listen",
            &address,
            "--admin",
            "off",
            "http://127.0.0.1:1/mcp",
        ],
        &[],
    );
    assert_eq!(done.code, 1);
    assert!(
        done.stderr
            .contains(&format!("error: cannot listen on {address}: ")),
        "{}",
        done.stderr
    );
    let mend = done.stderr.split_once("\n  = help: ");
    assert!(
        mend.is_some_and(|(_, mend)| mend.contains("`--listen ADDRESS`")),
        "{}",
        done.stderr
    );
}

/// I5: the command line goes before the environment.
#[test]
fn i5_flags_go_before_the_environment() {
    let variables = [
        ("THINPIPE_LISTEN", "127.0.0.2:0"),
        ("THINPIPE_ADMIN", "off"),
    ];
    let gateway = Gateway::start(&["http://127.0.0.1:1/mcp"], &variables);
    assert!(
        gateway.url.starts_with("http://127.0.0.2:"),
        "{}",
        gateway.url
    );
    let gateway = Gateway::start(
        &["--listen", "127.0.0.1:0", "http://127.0.0.1:1/mcp"],
        &variables,
    );
    assert!(
        gateway.url.starts_with("http://127.0.0.1:"),
        "{}",
        gateway.url
    );
}

#[test]
fn the_demonstration_runs_to_its_end() {
    let done = run(&["demo"], &[]);
    assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
    assert!(done.stdout.contains("progress 3 of 3"), "{}", done.stdout);
    assert!(
        done.stdout.contains("the server asks: What is your name?"),
        "{}",
        done.stdout
    );
    assert!(
        done.stdout.contains("another request with its id gets 404"),
        "{}",
        done.stdout
    );
    assert!(done.stdout.contains("All of it worked."), "{}", done.stdout);
    assert_eq!(done.stderr, "");
}

#[test]
fn it_says_where_it_listens_what_stands_behind_it_and_what_to_tell_a_client() {
    let sample = Sample::start();
    let gateway = Gateway::to(&sample, &["--name", "files", "--admin", "127.0.0.1:0"]);
    let said = gateway.program.said_until("files serves clients of ");
    let said = said + &gateway.program.said_until("2026-07-28 (as it is)");
    assert!(
        said.contains(&format!("\"url\": \"{}\"", gateway.url)),
        "{said}"
    );
    assert!(said.contains("\"files\": {"), "{said}");
    assert!(said.contains("admin on http://127.0.0.1:"), "{said}");
    assert!(
        said.contains("stateless Streamable HTTP (2026-07-28)"),
        "{said}"
    );
}

/// What nobody has found out is not said as if it were.
#[test]
fn the_start_tells_what_is_known_from_what_is_believed() {
    let sample = Sample::start();
    let pinned = format!("era = \"streamable\"\nurl = \"{}\"", sample.url);
    let dead = "url = \"http://127.0.0.1:1/mcp?key=hunter2\"".to_owned();
    let (origin, _) = sample.url.rsplit_once('/').unwrap();
    let wrong = format!("url = \"{origin}/wrong\"");
    for (upstream, said) in [
        (
            "command = \"cat\"".to_owned(),
            "it was not asked what it speaks",
        ),
        (pinned, "is spoken to in Streamable HTTP with sessions"),
        (
            dead,
            "server at http://127.0.0.1:1/mcp cannot be used yet: ",
        ),
        (
            wrong,
            "is its URL that of its MCP endpoint, mostly /mcp or /sse?",
        ),
    ] {
        let text =
            format!("listen = \"127.0.0.1:0\"\nadmin = \"off\"\n[[upstreams]]\n{upstream}\n");
        let file = temporary("start.toml", &text);
        let mut gateway = Gateway::start(&["serve", "--config", file.path()], &[]);
        gateway.program.said_until(said);
        let (code, said) = gateway.program.stop();
        assert_eq!(code, Some(0), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
        assert!(!said.contains("server speaks"), "{said}");
    }
}

/// C18: a replica whose path is wrong is told of by name, whichever of them was asked what they speak. Its health
/// checks are content with it.
#[test]
fn c18_each_replica_is_asked_at_the_start() {
    let sample = Sample::start();
    let (origin, _) = sample.url.rsplit_once('/').unwrap();
    let wrong = format!("b={origin}/");
    let gateway = Gateway::to(&sample, &["--replica", &wrong]);
    let stray = format!("server: its replica b at {origin}/ cannot be used yet: ");
    let said = gateway.program.said_until(&stray);
    assert!(!said.contains("its replica 127.0.0.1"), "{said}");
    gateway.program.said_until("mostly /mcp or /sse?");
}

#[test]
fn json_logs_are_json_from_the_first_line_to_the_last() {
    let sample = Sample::start();
    let mut gateway = Gateway::to(&sample, &["--log-format", "json"]);
    assert_eq!(gateway.post(&count_to(1)).status, 200);
    gateway.program.said_until("speaks");
    let (code, said) = gateway.program.stop();
    assert_eq!(code, Some(0));
    for line in said.lines() {
        let record: serde_json::Value = serde_json::from_str(line).expect(line);
        assert!(
            record["level"].is_string() && record["message"].is_string(),
            "{line}"
        );
    }
    assert!(said.contains("listening on http://"), "{said}");
    assert!(
        said.contains("\"status\":200"),
        "one line for the exchange: {said}"
    );
}

/// C22: what was accepted is brought to its end, and the exit is clean.
#[test]
fn c22_a_signal_drains_what_runs() {
    let sample = Sample::start();
    let mut gateway = Gateway::to(&sample, &["--admin", "127.0.0.1:0"]);
    let mut running = gateway.open(&count_to(6));
    running.read_until("\"progress\":1,");
    gateway.program.signal("TERM");
    let ready = gateway.admin_until("/ready", |answer| answer.status == 503);
    assert!(ready.body.contains("draining"), "{}", ready.body);
    let rest = running.read_to_end();
    assert!(rest.contains("counted to 6"), "the call was cut: {rest}");
    let (code, said) = gateway.program.wait();
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("stopping: what runs has 30s to end") && said.ends_with("stopped\n"),
        "{said}"
    );
}

/// C22: the time to drain is bounded, and who is cut off hears why.
#[test]
fn c22_draining_has_an_end() {
    let sample = Sample::start();
    let config = format!(
        "listen = \"127.0.0.1:0\"\nadmin = \"off\"\nlimits = {{ drain = \"100ms\" }}\n[[upstreams]]\nurl = \"{}\"\n",
        sample.url
    );
    let file = temporary("drain.toml", &config);
    let mut gateway = Gateway::start(&["serve", "--config", file.path()], &[]);
    let mut running = gateway.open(&count_to(100));
    running.read_until("\"progress\":1,");
    gateway.program.signal("INT");
    let rest = running.read_to_end();
    assert!(
        rest.contains("\"error\"") && !rest.contains("counted to"),
        "{rest}"
    );
    let (code, said) = gateway.program.wait();
    assert_eq!(code, Some(0), "{said}");
}

/// C22: the second signal does not wait.
#[test]
fn c22_a_second_signal_stops_at_once() {
    let sample = Sample::start();
    let mut gateway = Gateway::to(&sample, &[]);
    let mut running = gateway.open(&count_to(100));
    running.read_until("\"progress\":1,");
    gateway.program.signal("TERM");
    gateway.program.said_until("stopping");
    gateway.program.signal_until_it_ends("TERM");
    let (code, _) = gateway.program.wait();
    assert_eq!(code, Some(128 + 15));
    assert!(!running.read_to_end().contains("counted to 100"));
}

/// B4: every worker serves; connections that arrive together are all answered.
#[test]
fn b4_connections_are_spread_over_the_workers() {
    let sample = Sample::start();
    let gateway = Gateway::to(&sample, &["--workers", "3"]);
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..12)
            .map(|_| scope.spawn(|| gateway.post(&count_to(1))))
            .collect();
        for call in calls {
            assert!(call.join().unwrap().body.contains("counted to 1"));
        }
    });
    let threads = gateway.program.threads();
    for name in ["worker-0", "worker-1", "worker-2"] {
        assert!(threads.iter().any(|thread| thread == name), "{threads:?}");
    }
}

/// Nobody sees a session id or token in the logs, whatever the level.
#[test]
fn logs_show_no_session_id_and_no_token_in_full() {
    let sample = Sample::start();
    let config = format!(
        "listen = \"127.0.0.1:0\"\nadmin = \"off\"\nlog = {{ level = \"trace\" }}\n[[tokens]]\nprincipal = \"alice\"\ntoken = \"0123456789abcdef-hunter2\"\n[[upstreams]]\nurl = \"{}\"\nheaders = {{ X-Api-Key = \"upstream-s3cret\" }}\n",
        sample.url
    );
    let file = temporary("secret.toml", &config);
    let mut gateway = Gateway::start(&["serve", "--config", file.path()], &[]);
    assert_eq!(gateway.post(&count_to(1)).status, 401);
    let initialize = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;
    let answer = gateway.post_with(
        initialize,
        &["Authorization: Bearer 0123456789abcdef-hunter2"],
    );
    assert_eq!(answer.status, 200, "{}", answer.body);
    let session = answer.header("mcp-session-id").expect("a session");
    gateway.program.said_until("initialize");
    let (code, said) = gateway.program.stop();
    assert_eq!(code, Some(0), "{said}");
    for secret in [session.as_str(), "hunter2", "s3cret"] {
        assert!(!said.contains(secret), "{secret} is in:\n{said}");
    }
    assert!(
        said.contains(&session[..6]),
        "the beginning of the id tells sessions apart: {said}"
    );
}

/// A program that is asked to stop before anything happened stops.
#[test]
fn c22_starting_and_stopping_ten_times() {
    for _ in 0..10 {
        let started = std::time::Instant::now();
        let mut gateway = Gateway::start(
            &[
                "--listen",
                "127.0.0.1:0",
                "--admin",
                "off",
                "http://127.0.0.1:1/mcp",
            ],
            &[],
        );
        let (code, said) = gateway.program.stop();
        assert_eq!(code, Some(0), "{said}");
        // Nothing to drain: far less than the time for draining.
        assert!(started.elapsed() < Duration::from_secs(20), "{said}");
    }
}

#[test]
fn programs_are_ended_with_their_tests() {
    let id = {
        let gateway = Gateway::start(
            &[
                "--listen",
                "127.0.0.1:0",
                "--admin",
                "off",
                "http://127.0.0.1:1/mcp",
            ],
            &[],
        );
        gateway.program.id()
    };
    assert!(!Program::exists(id));
}
