//! The end of HTTP+SSE, as clients, the log and the admin address see it.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use thinpipe_testkit::{Client, Script, SseClient, Upstream, rpc};

use crate::support::{Gateway, Mode, Settings};

/// Far enough to outlive the tests.
const SUNSET: &str = "sunset = \"9999-12-31\"";

/// A gateway with this under `[sse.deprecation]`.
async fn gateway(upstream: &Upstream, deprecation: &str) -> Gateway {
    let settings = format!("[sse.deprecation]\n{deprecation}\n");
    Gateway::start(upstream, Mode::Pass, Settings::of_gateway(&settings)).await
}

fn at(gateway: &Gateway, path: &str) -> String {
    gateway.url.replace("/mcp", path)
}

/// A client in a session, as one of so many that have come.
async fn arrive(gateway: &Gateway, sessions: u64) -> SseClient {
    let mut client = SseClient::open(&at(gateway, "/sse")).await;
    client.initialize("2024-11-05").await;
    until(gateway, |clients| clients["sessions"] == sessions).await;
    client
}

/// What `/sse-clients` says as soon as it is as wanted.
async fn until(gateway: &Gateway, wanted: impl Fn(&Value) -> bool) -> Value {
    let reading = async {
        loop {
            let clients = gateway.admin("/sse-clients").await.json().await;
            if wanted(&clients) {
                return clients;
            }
        }
    };
    let read = tokio::time::timeout(thinpipe_testkit::DEADLINE, reading).await;
    read.expect("the admin address says what is wanted")
}

/// Lines of the log about clients of HTTP+SSE, when the gateway has written everything.
async fn log_of(gateway: Gateway) -> Vec<String> {
    gateway.process.signal("TERM").await;
    let mut lines = gateway.process.lines_to_end().await;
    lines.retain(|line| line.contains("a client uses HTTP+SSE"));
    lines
}

/// A4, A20, A23, T2: what each level says, on the stream, on messages and on errors; and nothing of it over
/// Streamable HTTP, which is not deprecated.
#[tokio::test]
async fn a20_a23_each_level_says_what_it_should() {
    const STANDARD: [&str; 3] = ["deprecation", "link", "sunset"];
    const EXTENDED: [&str; 3] = [
        "x-transport-deprecated",
        "x-migration-available",
        "x-mcp-migration",
    ];
    let upstream = Upstream::start().await;
    for (level, standard, extended) in [
        ("silent", false, false),
        ("passive", true, false),
        ("active", true, true),
        ("aggressive", true, true),
    ] {
        let lines = format!("migration = \"{level}\"\n{SUNSET}");
        let gateway = gateway(&upstream, &lines).await;
        let client = arrive(&gateway, 1).await;
        let posted = client.post(rpc::initialized()).await;
        let bad = client.post("{").await;
        assert_eq!((posted.status, bad.status), (202, 400), "{level}");
        for response in [&client.stream, &posted, &bad] {
            for (names, expected) in [(STANDARD, standard), (EXTENDED, extended)] {
                for name in names {
                    let found = response.header(name).is_some();
                    assert_eq!(found, expected, "{level}: {name}");
                }
            }
        }
        if standard {
            let links: Vec<_> = posted.headers.all("link").collect();
            assert_eq!(links.len(), 2, "{links:?}");
            assert_eq!(links[1], "</mcp>; rel=\"successor-version\"");
            assert_eq!(posted.header("deprecation"), Some("@1742947200"));
            let day = "Fri, 31 Dec 9999 00:00:00 GMT";
            assert_eq!(posted.header("sunset"), Some(day));
        }
        let streamable = gateway
            .stranger()
            .post(rpc::initialize(1, "2025-11-25"))
            .await;
        assert_eq!(streamable.header("deprecation"), None, "{level}");
    }
}

/// A3, A31: switched off, nothing is said to anybody, and clients are counted all the same.
#[tokio::test]
async fn a3_switched_off_nothing_is_said() {
    let upstream = Upstream::start().await;
    let lines = format!("warnings = false\nmigration = \"aggressive\"\n{SUNSET}");
    let gateway = gateway(&upstream, &lines).await;
    let mut client = arrive(&gateway, 1).await;
    let posted = client.post(rpc::initialized()).await;
    for response in [&client.stream, &posted] {
        for name in ["deprecation", "link", "sunset", "x-transport-deprecated"] {
            assert_eq!(response.header(name), None, "{name}");
        }
    }
    assert_eq!(client.ask(rpc::call(2, "echo")).await["id"], 2);
    assert_eq!(log_of(gateway).await, [""; 0]);
}

/// A21: after the sunset, streams and messages get 410, which is no event stream, and no invitation to
/// try something else; at the address that it names, the client is served.
#[tokio::test]
async fn a21_after_the_sunset_clients_are_told_where_to_go() {
    let upstream = Upstream::start().await;
    let gateway = gateway(&upstream, "sunset = \"2026-01-01\"").await;
    let initialize = || rpc::initialize(1, "2024-11-05");
    let [stream, messages] =
        ["/sse", "/messages?sessionId=abc"].map(|path| Client::new(&at(&gateway, path)));
    for mut response in [
        SseClient::opening(&stream).await,
        messages.post(initialize()).await,
    ] {
        assert_eq!(response.status, 410);
        assert!(!response.is_stream());
        let media_type = response.header("content-type");
        assert_eq!(media_type, Some("application/problem+json"));
        let sunset = response.header("sunset");
        assert_eq!(sunset, Some("Thu, 01 Jan 2026 00:00:00 GMT"));
        let problem = response.json().await;
        assert_eq!(problem["status"], 410, "{problem}");
        assert_eq!(problem["sunset"], "2026-01-01T00:00:00Z", "{problem}");
        let successor = problem["successor"].as_str().expect("a path");
        let detail = problem["detail"].as_str().expect("a text");
        assert!(detail.contains("Streamable HTTP"), "{problem}");
        Client::new(&at(&gateway, successor))
            .initialize("2025-11-25")
            .await;
    }
    let clients = until(&gateway, |_| true).await;
    assert_eq!(clients["sessions"], 0, "{clients}");
    assert_eq!(clients["sunset"], "2026-01-01T00:00:00Z", "{clients}");
}

/// A21: the configured action after the sunset may be to go on, with the day that was announced.
#[tokio::test]
async fn a21_after_the_sunset_service_may_go_on() {
    let upstream = Upstream::start().await;
    let gateway = gateway(
        &upstream,
        "sunset = \"2026-01-01\"\nafter_sunset = \"warn\"",
    )
    .await;
    let mut client = arrive(&gateway, 1).await;
    let sunset = client.stream.header("sunset");
    assert_eq!(sunset, Some("Thu, 01 Jan 2026 00:00:00 GMT"));
    assert_eq!(client.ask(rpc::call(2, "echo")).await["id"], 2);
    let lines = log_of(gateway).await;
    assert!(lines.len() == 1 && lines[0].contains(" WARN "), "{lines:?}");
}

/// A22, T2: one line for a client however often it comes, and one for each client; at the level of the
/// configuration.
#[tokio::test]
async fn a22_the_log_is_told_once_of_each_client() {
    let upstream = Upstream::start().await;
    for (level, expected) in [("passive", " INFO "), ("active", " WARN ")] {
        let lines = format!("migration = \"{level}\"\nwarn_every = \"1d\"");
        let gateway = gateway(&upstream, &lines).await;
        for session in 1..=10 {
            arrive(&gateway, session).await;
        }
        let mut other = SseClient::open(&at(&gateway, "/sse")).await;
        let initialize = rpc::initialize(0, "2024-11-05").replace("testkit", "other");
        other.ask(initialize).await;
        other.tell(rpc::initialized()).await;
        until(&gateway, |clients| clients["sessions"] == 11).await;
        let lines = log_of(gateway).await;
        assert_eq!(lines.len(), 2, "{lines:#?}");
        for (line, name) in lines.iter().zip(["testkit", "other"]) {
            assert!(line.contains(expected), "{line}");
            assert!(line.contains(&format!("name=\"{name}\"")), "{line}");
            assert!(line.contains("successor=/mcp"), "{line}");
        }
    }
}

/// A23: the hint comes once in a session, where the server of that session has declared `logging`.
#[tokio::test]
async fn a23_a_hint_comes_where_the_server_may_log() {
    for declares in [true, false] {
        let upstream = Upstream::start().await;
        if !declares {
            // Without a session of its own, since the script issues none.
            upstream.set(|behaviour| behaviour.sessions = false);
            let result = rpc::initialize_result("2024-11-05").replace("\"logging\":{}", "\"x\":{}");
            assert!(!result.contains("logging"), "{result}");
            let script = Script::status(200).content_type("application/json");
            upstream.on("initialize", script.whole(result));
        }
        let lines = format!("migration = \"aggressive\"\n{SUNSET}");
        let gateway = gateway(&upstream, &lines).await;
        let mut client = arrive(&gateway, 1).await;
        hinted(&mut client, declares).await;
    }
}

/// A23: the same in front of a server that is a program.
#[tokio::test]
async fn a23_a_hint_comes_where_a_program_may_log() {
    for declares in [true, false] {
        let capability = if declares { "\"logging\":{}" } else { "" };
        let script = format!(
            r#"
            while IFS= read -r line; do
                case $line in
                *'"method":"initialize"'*)
                    answer "$line" '{{"protocolVersion":"2024-11-05","capabilities":{{{capability}}},"serverInfo":{{"name":"script","version":"1"}}}}'
                    ;;
                *'"method":"tools/call"'*) answer "$line" '{{"content":[]}}' ;;
                *'"id":'*) refuse "$line" -32601 ;;
                esac
            done"#
        );
        let args = json!(thinpipe_testkit::stdio_server::script(&script));
        // What the shell is to replace is not the configuration's.
        let args = args.to_string().replace("${", "$${");
        let gateway = Gateway::with_file(&format!(
            "[sse.deprecation]\nmigration = \"aggressive\"\n[[upstreams]]\ncommand = \"sh\"\nargs = {args}\n"
        ))
        .await;
        let mut client = arrive(&gateway, 1).await;
        hinted(&mut client, declares).await;
    }
}

/// Whether a hint comes, and not a second time.
async fn hinted(client: &mut SseClient, expected: bool) {
    let mut hints = Vec::new();
    for id in [2, 3] {
        client.tell(rpc::call(id, "echo")).await;
        loop {
            let message = client.stream.next_message().await;
            if message["id"] == id {
                break;
            }
            hints.push(message);
        }
    }
    assert_eq!(hints.len(), usize::from(expected), "{hints:?}");
    for hint in hints {
        assert_eq!(hint["method"], "notifications/message", "{hint}");
        assert_eq!(hint["params"]["level"], "warning", "{hint}");
        assert_eq!(hint["params"]["data"]["successor"], "/mcp", "{hint}");
    }
}

/// A31, I4: what the admin address says of clients, member by member.
#[tokio::test]
async fn a31_the_inventory_is_json_of_this_shape() {
    let upstream = Upstream::start().await;
    let gateway = gateway(&upstream, SUNSET).await;
    let client = arrive(&gateway, 1).await;
    drop(client);
    until(&gateway, |clients| clients["open"] == 0).await;
    let _client = arrive(&gateway, 2).await;
    let clients = until(&gateway, |_| true).await;
    let members = |value: &Value| -> BTreeSet<String> {
        value
            .as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect()
    };
    let expected = [
        "clients",
        "endpoints",
        "open",
        "sessions",
        "since",
        "sunset",
    ];
    assert_eq!(
        members(&clients),
        BTreeSet::from(expected.map(str::to_owned))
    );
    assert_eq!(
        (&clients["sessions"], &clients["open"]),
        (&json!(2), &json!(1))
    );
    let served = json!([{
        "name": "server",
        "url": at(&gateway, "/sse"),
        "successor": gateway.url,
    }]);
    assert_eq!(clients["endpoints"], served);
    let list = clients["clients"].as_array().expect("a list");
    assert_eq!(list.len(), 1, "{clients}");
    let mut client = list[0].clone();
    for time in ["first_seen", "last_seen"] {
        let time = client[time].take();
        let text = time.as_str().unwrap_or_default();
        assert!(
            text >= clients["since"].as_str().expect("a time"),
            "{clients}"
        );
        assert!(text.ends_with('Z') && text.len() == 20, "{clients}");
    }
    let expected = json!({
        "endpoint": "server", "name": "testkit", "version": "1",
        "first_seen": null, "last_seen": null, "sessions": 2, "open": 1,
    });
    assert_eq!(client, expected);
}

/// A31, B5: sessions and clients of HTTP+SSE are metrics of their server, and a scrape changes none.
#[tokio::test]
async fn a31_clients_of_http_sse_are_metrics() {
    let upstream = Upstream::start().await;
    let gateway = gateway(&upstream, "").await;
    drop(arrive(&gateway, 1).await);
    until(&gateway, |clients| clients["open"] == 0).await;
    let _client = arrive(&gateway, 2).await;
    for _ in 0..2 {
        let text = gateway.admin("/metrics").await.read_to_end().await;
        let text = String::from_utf8(text.to_vec()).expect("text");
        for line in [
            "sse_sessions_total{upstream=\"server\"} 2",
            "sse_sessions_open{upstream=\"server\"} 1",
            "sse_clients{upstream=\"server\"} 1",
        ] {
            let line = format!("thinpipe_upstream_{line}");
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}
