//! `thinpipe migrate`: who is left on HTTP+SSE in front of a running gateway, and what to change.

use serde_json::{Value, json};
use thinpipe_testkit::{Client, SseClient};

use crate::support::{Gateway, PATIENCE, Sample, Temporary, run, temporary};

/// A gateway that is run by a file.
struct Served {
    gateway: Gateway,
    file: Temporary,
    admin: String,
    _sample: Sample,
}

fn served(name: &str, more: &str) -> Served {
    let sample = Sample::start();
    let upstream = format!(
        "[[upstreams]]\nname = \"files\"\nurl = \"{}\"\n",
        sample.url
    );
    let text = format!("listen = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n{more}\n{upstream}");
    let file = temporary(name, &text);
    let gateway = Gateway::start(&["serve", "--config", file.path()], &[]);
    let admin = gateway.admin_authority();
    Served {
        gateway,
        file,
        admin,
        _sample: sample,
    }
}

/// A client of HTTP+SSE that the gateway knows by its name.
async fn client_of(gateway: &Gateway) -> SseClient {
    let mut client = SseClient::open(&gateway.url.replace("/mcp", "/sse")).await;
    client.initialize("2024-11-05").await;
    gateway.admin_until("/sse-clients", |answer| answer.body.contains("testkit"));
    client
}

/// A28, A31: the report has the client that is there; what it proposes for the client's configuration is
/// an address where that client is served.
#[tokio::test]
async fn a31_the_report_names_clients_and_the_way_out() {
    let served = served("migrate.toml", "[sse.deprecation]\nsunset = \"9999-12-31\"");
    let (admin, url) = (&served.admin, &served.gateway.url);
    let _client = client_of(&served.gateway).await;
    let done = run(
        &["migrate", "--admin", admin, "--config", served.file.path()],
        &[],
    );
    assert_eq!(done.code, 0, "{}", done.stderr);
    let old = url.replace("/mcp", "/sse");
    for words in [
        "open now: 1.\n",
        "It ends here on 9999-12-31.",
        "testkit 1  files",
        &format!("\"type\": \"sse\",\n        \"url\": \"{old}\""),
        &format!("\"type\": \"http\",\n        \"url\": \"{url}\""),
        "sse.deprecation.migration = \"active\"  (it is \"passive\")",
        "sse.enabled = false  (it is true)",
    ] {
        assert!(done.stdout.contains(words), "{words}: {}", done.stdout);
    }
    assert!(
        !done.stdout.contains("sse.deprecation.sunset ="),
        "{}",
        done.stdout
    );
    assert_eq!(done.stderr, "");

    // The environment has the address, too.
    let done = run(
        &["migrate", "--format", "json"],
        &[("THINPIPE_ADMIN", admin)],
    );
    let report: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(
        (done.code, &report["gateway"]),
        (0, &Value::Null),
        "{report}"
    );
    assert_eq!(report["clients"][0]["name"], "testkit", "{report}");
    let entry =
        |kind: &str, url: &str| json!({ "mcpServers": { "files": { "type": kind, "url": url } } });
    let configuration = json!({ "was": entry("sse", &old), "new": entry("http", url) });
    assert_eq!(report["client_configuration"], configuration);
    let new = &report["client_configuration"]["new"]["mcpServers"]["files"]["url"];
    let mut moved = Client::new(new.as_str().unwrap());
    moved.initialize("2025-11-25").await;
}

/// A31: nobody is left, or nothing is served: that is a report too.
#[test]
fn a31_where_nobody_is_left_the_report_says_so() {
    let served_on = served("nobody.toml", "");
    let done = run(
        &[
            "migrate",
            "--admin",
            &served_on.admin,
            "--config",
            served_on.file.path(),
        ],
        &[],
    );
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(
        done.stdout.contains("no client has used HTTP+SSE"),
        "{}",
        done.stdout
    );
    // It was started a moment ago, so that this says little.
    for words in [
        " only: ask again later.\n",
        "at last:\n\n  sse.enabled = false",
    ] {
        assert!(done.stdout.contains(words), "{words}: {}", done.stdout);
    }
    assert!(!done.stdout.contains("not what"), "{}", done.stdout);

    let off = served("off.toml", "[sse]\nenabled = false");
    let arguments = [
        "migrate",
        "--admin",
        &off.admin,
        "--config",
        off.file.path(),
    ];
    let done = run(&arguments, &[]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(
        done.stdout.contains("switched off in this gateway"),
        "{}",
        done.stdout
    );
    assert!(done.stdout.contains("nothing to change"), "{}", done.stdout);

    // The other gateway's file.
    let mixed = [
        "migrate",
        "--admin",
        &served_on.admin,
        "--config",
        off.file.path(),
    ];
    let done = run(&mixed, &[]);
    let said = " is not what this gateway was started with";
    assert!(done.stdout.contains(said), "{}", done.stdout);
}

/// A31: who cannot be asked is told apart: switched off, not there, somebody else.
#[test]
fn a31_an_admin_address_that_does_not_answer_is_explained() {
    let sample = Sample::start();
    let (foreign, _) = sample.url.rsplit_once('/').unwrap();
    let file = "admin = \"off\"\n[[upstreams]]\nurl = \"http://127.0.0.1:1/mcp\"\n";
    let file = temporary("admin-off.toml", file);
    let wrong = temporary("wrong.toml", "lsiten = 1\n");
    for (arguments, said) in [
        (&["--admin", "off"][..], "admin = \"127.0.0.1:8081\""),
        (&["--config", file.path()], "admin address is off"),
        (
            &["--admin", "127.0.0.1:1"],
            "no gateway answers on 127.0.0.1:1: ",
        ),
        (&["--admin", "127.0.0.1:1"], "--admin 127.0.0.1:8081"),
        (
            &["--admin", foreign],
            "is not the admin address of a gateway",
        ),
        (&["--admin", "nonsense"], "`nonsense` is no address"),
        (&["--config", wrong.path()], "unknown key `lsiten`"),
    ] {
        let line: Vec<_> = ["migrate"].iter().chain(arguments).copied().collect();
        let done = run(&line, &[]);
        assert_eq!((done.code, done.stdout.as_str()), (1, ""), "{arguments:?}");
        assert!(done.stderr.starts_with("error: "), "{}", done.stderr);
        assert!(done.stderr.contains(said), "{arguments:?}: {}", done.stderr);
    }
}

/// A31: somebody who speaks no HTTP, and somebody who says what is no list.
#[test]
fn a31_other_programs_are_told_from_a_gateway() {
    for (answer, said) in [
        ("SSH-2.0-OpenSSH_9.6\r\n\r\n", "is not the admin address"),
        (
            "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>",
            "what it says is no list",
        ),
    ] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let other = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut request = [0; 4096];
            let read = std::io::Read::read(&mut stream, &mut request).unwrap();
            assert!(request[..read].starts_with(b"GET /sse-clients "));
            std::io::Write::write_all(&mut stream, answer.as_bytes()).unwrap();
        });
        let done = run(&["migrate", "--admin", &address], &[]);
        assert!(other.join().is_ok());
        assert_eq!(done.code, 1);
        assert!(done.stderr.contains(said), "{}", done.stderr);
    }
}
