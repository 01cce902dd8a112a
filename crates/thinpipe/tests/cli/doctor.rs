//! `thinpipe doctor` against servers that behave, and servers that do not.

use serde_json::{Value, json};
use thinpipe_testkit::{Cut, Era, Script, Upstream};

use crate::support::{Done, Gateway, Sample, run, temporary};

/// Runs the doctor beside the server of the test.
async fn doctor(arguments: &[&str]) -> (Done, Value) {
    let mut line = vec![
        "doctor".to_owned(),
        "--format".to_owned(),
        "json".to_owned(),
    ];
    line.extend(arguments.iter().map(|&argument| argument.to_owned()));
    let asked = tokio::task::spawn_blocking(move || {
        let line: Vec<_> = line.iter().map(String::as_str).collect();
        run(&line, &[])
    });
    let done = asked.await.expect("the doctor ends");
    let report = serde_json::from_str(&done.stdout).unwrap_or(Value::Null);
    (done, report)
}

/// The worst level of a check, or nothing if it was not made.
fn level<'a>(report: &'a Value, check: &str) -> Option<&'a str> {
    const LEVELS: [&str; 4] = ["ok", "note", "warning", "failure"];
    let checks = report["checks"].as_array()?.iter();
    let found = checks.filter(|found| found["check"] == check);
    let levels = found.filter_map(|found| found["level"].as_str());
    levels.max_by_key(|level| LEVELS.iter().position(|known| known == level))
}

#[tokio::test]
async fn a_server_that_behaves_is_usable_and_nothing_was_called() {
    let upstream = Upstream::start().await;
    upstream.set(|behaviour| behaviour.event_ids = true);
    let (done, report) = doctor(&["--watch", "0", upstream.url()]).await;
    assert_eq!(done.code, 0, "{report:#}");
    assert_eq!(report["usable"], true);
    let both = ["stateless Streamable HTTP", "Streamable HTTP with sessions"];
    assert_eq!(report["bindings"], serde_json::json!(both));
    assert!(
        report["lists"]["tools/list"]
            .as_array()
            .is_some_and(|tools| tools.len() >= 5)
    );
    for check in [
        "session",
        "unknown_session",
        "delete",
        "second_session",
        "stream",
    ] {
        assert_eq!(level(&report, check), Some("ok"), "{check}: {report:#}");
    }
    let record = upstream.record();
    let harmless = [
        "server/discover",
        "initialize",
        "notifications/initialized",
        "ping",
        "tools/list",
        "prompts/list",
        "resources/list",
    ];
    for request in &record.received {
        let method = request.rpc_method().unwrap_or("ping");
        assert!(harmless.contains(&method), "{method} was called");
    }
}

/// What clients of a transport get, and the names of what cannot cross.
fn client<'a>(report: &'a Value, client: &str) -> (&'a str, Vec<&'a str>) {
    let clients = report["clients"].as_array().expect("clients");
    let found = clients.iter().find(|found| found["client"] == client);
    let found = found.unwrap_or_else(|| panic!("no {client} in {report:#}"));
    let lost = found["cannot_cross"].as_array().expect("a list").iter();
    let names = lost.map(|lost| {
        assert!(!lost["text"].as_str().expect("a text").is_empty());
        lost["what"].as_str().expect("a name")
    });
    (found["way"].as_str().expect("a way"), names.collect())
}

/// 5.1: for each transport of clients, whether a server's messages pass or are bridged, and what cannot
/// cross, as far as the server has it.
#[tokio::test]
async fn what_each_client_will_get_is_told() {
    for (era, ways, has, has_not) in [
        (
            Era::Sessions,
            ["bridged", "passed", "bridged"],
            ("stateless", "questions-outside-of-calls"),
            ("sessions", "roots-list-changed"),
        ),
        (
            Era::Stateless,
            ["bridged", "bridged", "passed"],
            ("sessions", "roots-list-changed"),
            ("stateless", "questions-outside-of-calls"),
        ),
        (
            Era::Both,
            ["bridged", "passed", "passed"],
            ("http+sse", "resuming-http-sse"),
            ("http+sse", "roots-list-changed"),
        ),
    ] {
        let upstream = Upstream::start().await;
        upstream.set(|behaviour| behaviour.era = era);
        let (done, report) = doctor(&["--watch", "0", upstream.url()]).await;
        assert_eq!(done.code, 0, "{report:#}");
        let found = ["http+sse", "sessions", "stateless"].map(|of| client(&report, of).0);
        assert_eq!(found, ways, "{era:?}");
        assert!(client(&report, has.0).1.contains(&has.1), "{report:#}");
        assert!(
            !client(&report, has_not.0).1.contains(&has_not.1),
            "{report:#}"
        );
    }
}

/// 5.1: the same of programs of either era, and of HTTP+SSE.
#[tokio::test]
async fn what_each_client_will_get_of_a_program_is_told() {
    for (era, lost_up, lost_down) in [(Era::Sessions, false, true), (Era::Stateless, true, false)] {
        let upstream = Upstream::start().await;
        upstream.set(|behaviour| {
            behaviour.full = true;
            behaviour.era = era;
        });
        let [program, argument] = upstream.program();
        let (done, report) = doctor(&["--", &program, &argument]).await;
        assert_eq!(done.code, 0, "{era:?} {report:#}");
        for of in ["http+sse", "sessions", "stateless"] {
            assert_eq!(client(&report, of).0, "bridged", "{era:?} {of}");
        }
        let has = |of, what: &str| client(&report, of).1.contains(&what);
        assert_eq!(has("sessions", "roots-list-changed"), lost_up, "{report:#}");
        assert_eq!(
            has("stateless", "state-between-requests"),
            lost_down,
            "{report:#}"
        );
    }
    // One of both eras is started in that of each client, as the gateway does.
    let upstream = Upstream::start().await;
    upstream.set(|behaviour| behaviour.full = true);
    let [program, argument] = upstream.program();
    let (done, report) = doctor(&["--", &program, &argument]).await;
    assert_eq!(done.code, 0, "{report:#}");
    for (of, what) in [
        ("sessions", "roots-list-changed"),
        ("stateless", "state-between-requests"),
    ] {
        assert!(!client(&report, of).1.contains(&what), "{report:#}");
    }
    let (done, report) = doctor(&[&upstream.sse_url()]).await;
    assert_eq!(done.code, 0, "{report:#}");
    assert_eq!(client(&report, "sessions").0, "bridged");
    assert!(
        client(&report, "stateless")
            .1
            .contains(&"questions-outside-of-calls")
    );
}

/// K1: what clients get if the gateway is told what the server speaks, and whether that is right.
#[tokio::test]
async fn k1_a_pin_is_held_against_the_server() {
    let upstream = Upstream::start().await;
    let url = upstream.url().to_owned();
    let asked = async |speaks, era: &str| {
        upstream.set(|behaviour| behaviour.era = speaks);
        doctor(&["--watch", "0", "--era", era, &url]).await
    };
    for (speaks, era, ways) in [
        (Era::Both, "stateless", ["bridged", "bridged", "passed"]),
        (Era::Both, "streamable", ["bridged", "passed", "bridged"]),
        (
            Era::Sessions,
            "streamable",
            ["bridged", "passed", "bridged"],
        ),
    ] {
        let (done, report) = asked(speaks, era).await;
        assert_eq!(
            (done.code, level(&report, "era")),
            (0, Some("ok")),
            "{report:#}"
        );
        assert_eq!(report["era"], era);
        let found = ["http+sse", "sessions", "stateless"].map(|of| client(&report, of).0);
        assert_eq!(found, ways, "{speaks:?} {era}");
    }
    for (speaks, era) in [
        (Era::Sessions, "stateless"),
        (Era::Stateless, "streamable"),
        (Era::Both, "http+sse"),
    ] {
        let (done, report) = asked(speaks, era).await;
        assert_eq!(
            (done.code, level(&report, "era")),
            (1, Some("failure")),
            "{report:#}"
        );
        assert_eq!(report["clients"], json!([]), "{speaks:?} {era}");
    }
    let (done, report) = asked(Era::Both, "auto").await;
    assert_eq!((done.code, level(&report, "era")), (0, None), "{report:#}");
    let (done, _) = asked(Era::Both, "modern").await;
    assert_eq!(done.code, 1);
    assert!(
        done.stderr.contains("error: --era: only a program"),
        "{}",
        done.stderr
    );
}

/// K1: the same of programs, of which one of 2026-07-28 may have sessions and not say so.
#[tokio::test]
async fn k1_a_pin_is_held_against_a_program() {
    for (speaks, era, found) in [
        (Era::Sessions, "legacy", "ok"),
        (Era::Sessions, "modern", "failure"),
        (Era::Stateless, "modern", "ok"),
        (Era::Stateless, "legacy", "failure"),
        (Era::Both, "legacy", "ok"),
        (Era::Both, "modern", "ok"),
    ] {
        let upstream = Upstream::start().await;
        upstream.set(|behaviour| behaviour.era = speaks);
        let [program, argument] = upstream.program();
        let (done, report) = doctor(&["--era", era, "--", &program, &argument]).await;
        assert_eq!(
            level(&report, "era"),
            Some(found),
            "{speaks:?} {era} {report:#}"
        );
        assert_eq!(done.code, i32::from(found == "failure"));
    }
}

/// Nothing is promised of a server that cannot be used.
#[tokio::test]
async fn nothing_is_said_of_clients_where_there_is_no_server() {
    let (done, report) = doctor(&["http://127.0.0.1:1/mcp"]).await;
    assert_eq!(done.code, 1);
    assert_eq!(report["clients"], json!([]));
}

#[tokio::test]
async fn what_a_server_does_wrong_is_told() {
    let upstream = Upstream::start().await;
    upstream.set(|behaviour| {
        behaviour.era = Era::Sessions;
        behaviour.standalone = false;
    });
    upstream.on("DELETE", Script::status(405));
    upstream.on("prompts/list", Script::error(200, -32601, "no such method"));
    upstream.on("ping", Script::error(400, -32000, "bad session"));
    let (done, report) = doctor(&[upstream.url()]).await;
    assert_eq!(done.code, 0, "{report:#}");
    for (check, expected) in [
        ("unknown_session", "warning"),
        ("delete", "note"),
        ("stream", "note"),
        ("lists", "warning"),
    ] {
        assert_eq!(level(&report, check), Some(expected), "{check}: {report:#}");
    }
}

/// Lists are read page by page, and not for ever.
#[tokio::test]
async fn lists_are_read_to_their_end_or_to_a_bound() {
    for (pages, read, unfinished) in [(3, 3, 0), (u64::MAX, 20, 1)] {
        let upstream = Upstream::start().await;
        upstream.set(|behaviour| behaviour.era = Era::Sessions);
        upstream.on_each("tools/list", move |request| {
            let message = request.json();
            let cursor = message["params"]["cursor"].as_str().unwrap_or("1");
            let page: u64 = cursor.parse().expect("a cursor comes back as it was");
            let mut result = json!({ "tools": [{ "name": format!("tool {page}") }] });
            if page < pages {
                result["nextCursor"] = (page + 1).to_string().into();
            }
            let id = &message["id"];
            Some(Script::json(
                json!({ "jsonrpc": "2.0", "id": id, "result": result }),
            ))
        });
        let (done, report) = doctor(&["--watch", "0", upstream.url()]).await;
        assert_eq!(done.code, 0, "{report:#}");
        let names = report["lists"]["tools/list"].as_array().unwrap();
        assert_eq!(names.len(), read);
        assert_eq!(names[read - 1], format!("tool {read}"));
        let more = report["unfinished_lists"].as_array().unwrap();
        assert_eq!(more.len(), unfinished, "{report:#}");
    }
}

/// A session that cannot be used is ended, too.
#[tokio::test]
async fn what_the_doctor_opens_it_ends() {
    let upstream = Upstream::start().await;
    upstream.set(|behaviour| behaviour.era = Era::Sessions);
    upstream.on_each("notifications/initialized", |_| {
        Some(Script::new().cut(Cut::Fin))
    });
    let (done, report) = doctor(&["--watch", "0", upstream.url()]).await;
    assert_eq!(done.code, 1, "{report:#}");
    let record = upstream.record();
    assert!(record.count("initialize") > 0);
    assert_eq!(record.count("DELETE"), record.count("initialize"));
}

#[tokio::test]
async fn a_server_that_wants_credentials_is_told_apart_from_one_that_is_not_there() {
    let upstream = Upstream::start().await;
    upstream.on_each("POST", |request| {
        let token = request.headers.get("authorization");
        (token != Some("Bearer s3cret")).then(|| Script::status(401))
    });
    let (done, report) = doctor(&[upstream.url()]).await;
    assert_eq!((done.code, level(&report, "speaks")), (1, Some("failure")));
    assert!(done.stdout.contains("--header"), "{report:#}");
    let header = [
        "--watch",
        "0",
        "--header",
        "Authorization: Bearer s3cret",
        upstream.url(),
    ];
    let (done, report) = doctor(&header).await;
    assert_eq!(done.code, 0, "{report:#}");
    assert!(!done.stdout.contains("s3cret"), "{report:#}");

    let (done, report) = doctor(&["http://127.0.0.1:1/mcp"]).await;
    assert_eq!((done.code, report["usable"].as_bool()), (1, Some(false)));
    assert!(done.stdout.contains("is it started"), "{report:#}");
}

/// C24: a program that ends by itself, one that says what is no message, and one that is not there.
#[test]
fn c24_programs_that_are_no_servers_are_not_usable() {
    for script in ["exit 3", "while true; do echo nonsense; done"] {
        let done = run(&["doctor", "--", "sh", "-c", script], &[]);
        assert_eq!(done.code, 1, "{script}: {}", done.stdout);
        assert!(done.stdout.contains("failure speaks"), "{}", done.stdout);
    }
    let done = run(&["doctor", "--", "no-such-program"], &[]);
    assert_eq!(done.code, 1);
    assert!(
        done.stderr
            .contains("there is no program `no-such-program`")
    );
}

/// The table is what people see.
#[test]
fn the_table_says_what_the_sample_server_speaks() {
    let sample = Sample::start();
    let done = run(&["doctor", "--watch", "0", &sample.url], &[]);
    assert_eq!(done.code, 0, "{}", done.stdout);
    assert!(done.stdout.contains(": usable\n"), "{}", done.stdout);
    assert!(done.stdout.contains("speaks"), "{}", done.stdout);
    let said = "clients of 2026-07-28 get its messages as they are";
    assert!(done.stdout.contains(said), "{}", done.stdout);
}

/// A21, A31: a server whose HTTP+SSE ends, or has ended, says where to go, and the doctor passes it on.
#[tokio::test]
async fn a21_the_successor_that_a_server_names_is_told() {
    let sample = Sample::start();
    for (sunset, code) in [("9999-12-31", 0), ("2026-01-01", 1)] {
        let deprecation = format!("migration = \"active\"\nsunset = \"{sunset}\"");
        let text = format!(
            "listen = \"127.0.0.1:0\"\nadmin = \"off\"\n[sse.deprecation]\n{deprecation}\n[[upstreams]]\nurl = \"{}\"\n",
            sample.url
        );
        let file = temporary("ending.toml", &text);
        let gateway = Gateway::start(&["serve", "--config", file.path()], &[]);
        let url = gateway.url.replace("/mcp", "/sse");
        let (done, report) = doctor(&[&url]).await;
        assert_eq!(done.code, code, "{report:#}");
        let said = format!(
            "its successor{} {}",
            [":", " is"][code as usize],
            gateway.url
        );
        assert!(done.stdout.contains(&said), "{said}: {report:#}");
    }
}

/// What a program says of its end is in the report, as well as what is wrong with an address.
#[test]
fn what_keeps_a_server_from_being_asked_is_said() {
    let script = "for i in 1 2 3; do echo \"port $i taken\" >&2; done; exit 1";
    let done = run(&["doctor", "--", "sh", "-c", script], &[]);
    assert_eq!(done.code, 1);
    for line in ["note    stderr", "port 1 taken", "port 3 taken"] {
        assert!(done.stdout.contains(line), "{line}: {}", done.stdout);
    }
    let done = run(&["doctor", ""], &[]);
    assert_eq!((done.code, done.stdout.as_str()), (1, ""));
    assert!(done.stderr.contains("the URL is empty"), "{}", done.stderr);
    let sample = Sample::start();
    let url = sample.url.replace("http://", "https://");
    let done = run(&["doctor", &url], &[]);
    assert_eq!(done.code, 1);
    assert!(
        done.stdout.contains("it does not speak TLS"),
        "{}",
        done.stdout
    );
}
