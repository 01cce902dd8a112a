//! What clients of HTTP+SSE and the log are told, and who is counted.

use std::fmt::{self, Write};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use thinpipe_proto::deprecation::{AfterSunset, DeprecationConfig, MigrationLevel, Timestamp};
use thinpipe_testkit::{Client, SseClient, rpc};
use thinpipe_transport::server::{ClientInventory, DeprecationObserver, SseObserver};
use tracing::field::{Field, Visit};
use tracing::{Level, Subscriber, span};

use super::support::{Setup, start};
use crate::support::{Running, call, until};

/// A server with this configuration, and its inventory.
async fn running(config: DeprecationConfig, declares_logging: bool) -> (Running, ClientInventory) {
    let inventory = ClientInventory::default();
    let observer = DeprecationObserver::new(config, "/mcp".parse().unwrap(), inventory.clone())
        .with_declared_logging(declares_logging);
    let observer: Option<Arc<dyn SseObserver>> = Some(Arc::new(observer));
    let setup = Setup {
        observer,
        ..Setup::default()
    };
    (start(setup).await, inventory)
}

fn at_level(level: MigrationLevel) -> DeprecationConfig {
    DeprecationConfig::default().with_migration(level)
}

fn past() -> DeprecationConfig {
    let sunset: Timestamp = "2025-03-27".parse().unwrap();
    DeprecationConfig::default()
        .with_sunset(Some(sunset))
        .unwrap()
}

/// A client that the observer knows, as the only one that has just come.
async fn ready(running: &Running, inventory: &ClientInventory) -> SseClient {
    let before = inventory.report().sessions;
    let client = running.sse_client().await;
    until("the client is counted", || {
        inventory.report().sessions > before
    })
    .await;
    client
}

/// A20: on the stream, on what is posted, on errors; and not on Streamable HTTP, which is not deprecated.
#[tokio::test]
async fn a20_both_endpoints_say_that_they_are_deprecated() {
    let (running, _) = running(at_level(MigrationLevel::Active), false).await;
    let client = running.sse_client().await;
    let posted = client.post(rpc::initialized()).await;
    let bad = client.post("{").await;
    let wrong = Client::new(&running.sse_url()).request("DELETE").await;
    assert_eq!((posted.status, bad.status, wrong.status), (202, 400, 405));
    for response in [&client.stream, &posted, &bad, &wrong] {
        assert_eq!(response.header("deprecation"), Some("@1742947200"));
        assert_eq!(response.header("x-transport-deprecated"), Some("true"));
        assert_eq!(response.header("x-migration-available"), Some("true"));
        assert_eq!(
            response.header("x-mcp-migration"),
            Some("http-streamable-available")
        );
        let links: Vec<_> = response.headers.all("link").collect();
        assert_eq!(links.len(), 2);
        assert!(links[1].starts_with("</mcp>; rel=\"successor-version\""));
    }
    let streamable = running.client("2025-11-25").await;
    let answer = streamable.post(call(2, "echo")).await;
    assert_eq!(answer.header("deprecation"), None);
}

/// A4, A21: the configured date reaches the wire, and HTTP+SSE is served until then, and on if it is to be.
#[tokio::test]
async fn a21_the_sunset_is_announced_and_service_goes_on_until_then() {
    let later: Timestamp = "9999-12-31".parse().unwrap();
    let future = DeprecationConfig::default()
        .with_sunset(Some(later))
        .unwrap();
    for (config, sunset) in [
        (future, "Fri, 31 Dec 9999 00:00:00 GMT"),
        (
            past().with_after_sunset(AfterSunset::Warn),
            "Thu, 27 Mar 2025 00:00:00 GMT",
        ),
    ] {
        let (running, inventory) = running(config, false).await;
        let client = ready(&running, &inventory).await;
        assert_eq!(client.stream.header("sunset"), Some(sunset));
    }
}

/// A21: after the sunset both endpoints answer 410 and say where to go; there the client is served.
#[tokio::test]
async fn a21_after_the_sunset_clients_are_sent_to_the_successor() {
    let (running, inventory) = running(past(), false).await;
    let mut gone = Client::new(&running.sse_url()).request("GET").await;
    assert_eq!(gone.status, 410);
    assert_eq!(
        gone.header("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(gone.header("deprecation"), Some("@1742947200"));
    let problem: Value = serde_json::from_slice(&gone.read_to_end().await).unwrap();
    assert_eq!(
        (&problem["status"], &problem["successor"]),
        (&410.into(), &"/mcp".into())
    );
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("Streamable HTTP transport at /mcp")
    );

    let messages = format!("http://{}/messages?sessionId=abc", running.address);
    let posted = Client::new(&messages)
        .post(rpc::initialize(1, "2024-11-05"))
        .await;
    assert_eq!(posted.status, 410);
    // R200: nor is anyone sent to look for what is gone, as 405 does.
    for (url, method) in [(running.sse_url(), "POST"), (messages, "GET")] {
        let other = Client::new(&url).request(method).await;
        assert_eq!(other.status, 410, "{method} {url}");
    }
    running.client("2025-11-25").await;
    assert_eq!(inventory.report().sessions, 0);
}

/// A31: a client that never sends `notifications/initialized` is counted and told of in the log, at the
/// latest when it has the answer to `initialize`; and so is one that leaves then.
#[tokio::test]
async fn a31_clients_are_counted_when_initialize_is_answered() {
    let (running, inventory) = running(DeprecationConfig::default(), false).await;
    let mut client = running.sse().await;
    let answer = client.ask(rpc::initialize(0, "2024-11-05")).await;
    assert_eq!(answer["id"], 0);
    let report = inventory.report();
    assert_eq!((report.sessions, report.open), (1, 1));
    client.ask(call(1, "echo")).await;
    assert_eq!(inventory.report().sessions, 1);
    client.stream.close();
    until("its session is gone", || inventory.report().open == 0).await;
}

/// A23: the hint is sent once, at the level that has it, where the handler declared `logging`.
#[tokio::test]
async fn a23_only_aggressive_servers_that_may_log_send_a_hint() {
    for (level, declared, expected) in [
        (MigrationLevel::Aggressive, true, true),
        (MigrationLevel::Aggressive, false, false),
        (MigrationLevel::Active, true, false),
    ] {
        let (running, inventory) = running(at_level(level), declared).await;
        let mut client = ready(&running, &inventory).await;
        client.tell(call(2, "echo")).await;
        let first = client.stream.next_event().await.unwrap().json();
        assert_eq!(
            first["method"] == "notifications/message",
            expected,
            "{first}"
        );
        if expected {
            assert_eq!(first["params"]["data"]["successor"], "/mcp");
            let second = client.stream.next_event().await.unwrap().json();
            assert_eq!(second["id"], 2);
        }
    }
}

/// A3: switched off, there is no header, no log line and no event; who comes is counted all the same.
#[tokio::test]
async fn a3_switched_off_nothing_is_said() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let config = at_level(MigrationLevel::Aggressive).with_warnings(false);
    let (running, inventory) = running(config, true).await;
    let mut client = ready(&running, &inventory).await;
    for name in [
        "deprecation",
        "link",
        "sunset",
        "x-transport-deprecated",
        "x-mcp-migration",
    ] {
        assert_eq!(client.stream.header(name), None, "{name}");
    }
    assert_eq!(client.ask(call(2, "echo")).await["id"], 2);
    assert_eq!(log.about_deprecation(), []);
    assert_eq!(inventory.report().sessions, 1);
}

/// A22, A23: one line for a client, whichever its level, however often it comes.
#[tokio::test]
async fn a22_the_log_is_told_once_of_a_client() {
    for (level, expected) in [
        (MigrationLevel::Passive, Level::INFO),
        (MigrationLevel::Active, Level::WARN),
    ] {
        let log = Log::default();
        let _guard = tracing::subscriber::set_default(log.clone());
        let (running, inventory) = running(at_level(level), false).await;
        for _ in 0..20 {
            ready(&running, &inventory).await;
        }
        assert_eq!(inventory.report().sessions, 20);
        let lines = log.about_deprecation();
        assert_eq!(lines.len(), 1, "{lines:?}");
        let (level, line) = &lines[0];
        assert_eq!(*level, expected);
        assert!(
            line.contains("name=\"testkit\"") && line.contains("successor=/mcp"),
            "{line}"
        );
    }
}

/// A31: who uses it is counted under its name, and given back when it has gone, however it went.
#[tokio::test]
async fn a31_clients_are_in_the_inventory_while_they_are_there() {
    let (running, inventory) = running(DeprecationConfig::default(), false).await;
    // One that never tells its name is nobody.
    let nameless = running.sse().await;
    let clients = [
        ready(&running, &inventory).await,
        ready(&running, &inventory).await,
    ];
    let report = inventory.report();
    assert_eq!((report.sessions, report.open), (2, 2));
    let shown = &report.clients[0];
    assert_eq!(
        (
            shown.endpoint.as_str(),
            shown.name.as_str(),
            shown.version.as_str()
        ),
        ("sample", "testkit", "1")
    );
    drop((nameless, clients));
    until("all are gone", || inventory.report().open == 0).await;
    assert_eq!(inventory.report().sessions, 2);
}

/// What was logged on this thread.
#[derive(Clone, Default)]
struct Log {
    lines: Arc<Mutex<Vec<(Level, String)>>>,
}

impl Log {
    fn about_deprecation(&self) -> Vec<(Level, String)> {
        let lines = self.lines.lock().unwrap();
        let about = |line: &&(Level, String)| line.1.contains("deprecated");
        lines.iter().filter(about).cloned().collect()
    }
}

impl Subscriber for Log {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        let level = *event.metadata().level();
        self.lines.lock().unwrap().push((level, text.0));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        write!(self.0, "{field}={value:?} ").unwrap();
    }
}
