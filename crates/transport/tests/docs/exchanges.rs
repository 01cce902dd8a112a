//! What the guides show on the wire is what is seen there.

use std::net::SocketAddr;

use serde_json::{Value, json};
use thinpipe_proto::deprecation::{DeprecationConfig, Timestamp, gone, headers};
use thinpipe_testkit::{Client, Event, RequestBuilder, Response};
use thinpipe_transport::mcp::config::HttpSseConfig;
use thinpipe_transport::mcp::{McpServer, RpcError, ServerInfo, Tool, ToolResult, Tools};
use tokio::net::TcpListener;

use crate::{MIGRATION, SERVER, fenced};

/// The configuration in the migration guide. It is served whatever the day is on which this runs.
fn config() -> HttpSseConfig {
    let (_, rest) = MIGRATION.split_once("r#\"").expect("a configuration");
    let (text, _) = rest.split_once("\"#").expect("its end");
    let mut config: Value = serde_json::from_str(text).unwrap();
    config["deprecation"]["after_sunset"] = "warn".into();
    serde_json::from_value(config).unwrap()
}

/// The server of the guides: it adds, and it tells its clients of the end of HTTP+SSE.
async fn serve() -> (McpServer, SocketAddr) {
    let config = config();
    let add = Tool::new("add", "Adds two numbers");
    let tools =
        Tools::new(ServerInfo::new("calculator", "1.0.0")).tool(add, async |terms: Value, _| {
            let sum = terms["a"].as_f64().zip(terms["b"].as_f64());
            let sum = sum.map(|(a, b)| a + b).unwrap_or_default();
            Ok::<_, RpcError>(ToolResult::text(sum.to_string()))
        });
    let server = McpServer::http_sse(config, tools).unwrap().build();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = server.clone();
    server
        .server()
        .spawn(async move { serving.serve_on(listener).await.expect("accepting goes on") });
    (server, address)
}

/// Words of a command line, as a shell splits it; quoted with `'`.
fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (part, quoted) in command.split('\'').zip([false, true].into_iter().cycle()) {
        if quoted {
            words.push(part.to_owned());
        } else {
            let plain = part.split_whitespace().filter(|word| *word != "\\");
            words.extend(plain.map(str::to_owned));
        }
    }
    words
}

/// The request that a `curl` in a guide makes, to a server at this address.
fn request(command: &str, address: SocketAddr) -> Option<RequestBuilder> {
    let mut words = words(command).into_iter();
    if words.next()? != "curl" {
        return None;
    }
    let (mut url, mut fields, mut body) = (None, Vec::new(), None);
    while let Some(word) = words.next() {
        match word.as_str() {
            "-i" | "-N" => {}
            "-H" => fields.push(words.next()?),
            "-d" => body = words.next(),
            _ => url = Some(word.replace("127.0.0.1:3000", &address.to_string())),
        }
    }
    let method = if body.is_some() { "POST" } else { "GET" };
    let mut request = Client::new(&url?).request(method);
    for field in &fields {
        let (name, value) = field.split_once(": ").expect("a header");
        request = request.header(name, value);
    }
    Some(request.body(body.unwrap_or_default()))
}

/// `shown` ends in `…` where it goes on differently each time.
fn is_like(shown: &str, seen: &str) -> bool {
    match shown.strip_suffix('…') {
        Some(beginning) => seen.starts_with(beginning),
        None => shown == seen,
    }
}

/// The response is as it is shown: its status, the headers that are, and its first event if there is one.
async fn assert_shown(shown: &str, response: &mut Response) {
    let (head, body) = shown
        .split_once("\n\n")
        .unwrap_or_else(|| (shown.trim_end(), ""));
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    assert_eq!(status, Some(&*response.status.to_string()));
    for line in lines {
        let (name, value) = line.split_once(": ").expect("a header");
        let found = response.headers.all(name).any(|seen| seen == value);
        assert!(found, "{line:?} is not in {:?}", response.headers);
    }
    if body.is_empty() {
        return;
    }
    let event = response.next_event().await.expect("an event");
    let Event {
        kind, retry, data, ..
    } = event;
    let seen = [
        ("event", kind),
        ("retry", retry.map(|retry| retry.to_string())),
        ("data", data),
    ];
    for line in body.lines() {
        let (field, value) = line.split_once(": ").expect("a field");
        let of_field = |(name, seen): &(&str, Option<String>)| {
            *name == field && seen.as_deref().is_some_and(|seen| is_like(value, seen))
        };
        assert!(seen.iter().any(of_field), "{line:?} is not in {seen:?}");
    }
}

/// A29: what the guides show of requests and responses is real.
#[tokio::test]
async fn a29_every_exchange_of_the_guides_is_real() {
    let (server, address) = serve().await;
    let mut shown = 0;
    for chapter in [SERVER, MIGRATION] {
        let blocks = fenced(chapter);
        for (at, (language, command)) in blocks.iter().enumerate() {
            if *language != "sh" {
                continue;
            }
            let Some(request) = request(command, address) else {
                continue;
            };
            let mut response = request.await;
            match blocks.get(at + 1) {
                Some(("http", answer)) => assert_shown(answer, &mut response).await,
                _ => {
                    let answer = response.json().await;
                    let text = &answer["result"]["content"][0]["text"];
                    assert_eq!(*text, json!("3"), "{command}{answer}");
                }
            }
            shown += 1;
        }
    }
    assert_eq!(shown, 3, "exchanges were found");
    server.shut_down().await;
}

/// A21, A29: the answer after the sunset is the one that is shown.
#[test]
fn a21_the_answer_after_the_sunset_is_as_shown() {
    let config = config();
    let successor = config.successor().unwrap();
    let sunset: Timestamp = "2027-07-28".parse().unwrap();
    let gone_then = DeprecationConfig::default()
        .with_sunset(Some(sunset))
        .unwrap();
    let problem = gone(&gone_then, sunset, &successor).expect("it is gone on that day");
    let shown = fenced(MIGRATION).into_iter().find_map(|(language, text)| {
        let text = text.strip_prefix("HTTP/1.1 410 Gone\n")?;
        (language == "http").then_some(text)
    });
    let body = String::from_utf8(problem.to_json()).unwrap();
    let expected = format!("Content-Type: application/problem+json\n\n{body}\n");
    assert_eq!(shown, Some(&*expected));
}

/// A20, A23: the table of levels says which headers there are.
#[test]
fn a23_the_levels_have_the_headers_of_the_table() {
    let config = config().effective_deprecation();
    let successor = "/mcp".parse().unwrap();
    for (level, documented, count) in [
        ("silent", "| `silent` | none |", 0),
        (
            "passive",
            "| `passive` (default) | `Deprecation`, `Link`, `Sunset` |",
            4,
        ),
        (
            "active",
            "| `active` | the same, and the three with `X-` |",
            7,
        ),
        ("aggressive", "| `aggressive` | the same as `active` |", 7),
    ] {
        assert!(MIGRATION.contains(documented), "{level}");
        let level = serde_json::from_value(json!(level)).unwrap();
        let config = config.clone().with_migration(level);
        assert_eq!(
            headers(&config, &successor).len(),
            count,
            "{:?}",
            config.migration()
        );
    }
}
