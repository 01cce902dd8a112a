//! What clients send is what the advice for clients is tested with.

use std::process::Command;

use serde_json::{Map, Value};
use thinpipe_e2e::peers;
use thinpipe_e2e::process::{PATIENCE, Process};

/// What clients sent when it was written down.
const RECORDS: &str = include_str!("../../crates/proto/src/deprecation/tests/clients.json");

/// A26
#[test]
fn a26_typescript_v1_sends_what_is_on_record() {
    let version = "@modelcontextprotocol/sdk 1.32.2";
    compare(version, "SSEClientTransport", typescript, &["v1", "sse"]);
    let transport = "StreamableHTTPClientTransport";
    compare(version, transport, typescript, &["v1", "streamable"]);
}

/// A26
#[test]
fn a26_typescript_v2_sends_what_is_on_record() {
    let version = "@modelcontextprotocol/client 2.4.0";
    compare(version, "SSEClientTransport", typescript, &["v2", "sse"]);
    let transport = "StreamableHTTPClientTransport";
    compare(version, transport, typescript, &["v2", "streamable"]);
    let transport = "StreamableHTTPClientTransport, versionNegotiation auto";
    compare(version, transport, typescript, &["v2", "auto"]);
}

/// A26
#[test]
fn a26_python_sends_what_is_on_record() {
    let version = "mcp 2.3.0";
    compare(version, "sse_client", python, &["sse"]);
    compare(version, "streamable_http_client", python, &["streamable"]);
    compare(version, "Client(url)", python, &["auto"]);
}

/// A26
#[test]
fn a26_fastmcp_sends_what_is_on_record() {
    compare("fastmcp 4.2.3", "SSETransport", fastmcp, &["sse"]);
    let transport = "StreamableHttpTransport";
    compare("fastmcp 4.2.3", transport, fastmcp, &["streamable"]);
}

fn typescript() -> Command {
    peers::script("clients/brief.mjs")
}

fn python() -> Command {
    peers::python("clients/brief.py")
}

fn fastmcp() -> Command {
    peers::python("clients/brief_fastmcp.py")
}

/// Runs a client and compares what it sends with the record.
#[track_caller]
fn compare(version: &str, transport: &str, client: fn() -> Command, arguments: &[&str]) {
    let server = Process::start("the recording server", &peers::script("servers/record.mjs"));
    let origin = server.await_line(|line| {
        let (_, url) = line.split_once("listening on ")?;
        url.strip_suffix("/mcp").map(str::to_owned)
    });
    let mut command = client();
    command.arg(&origin).args(arguments);
    let ended = Process::start(&format!("{version} {transport}"), &command).finish(PATIENCE);
    assert!(ended.status.success(), "{}\n{}", ended.status, ended.log);
    let sent = ended
        .stdout
        .last()
        .expect("the client prints what was recorded");
    let sent: Value = serde_json::from_str(sent).expect("what was recorded is JSON");

    let records: Value = serde_json::from_str(RECORDS).expect("the records are JSON");
    let record = records.as_array().expect("the records are a list").iter();
    let record = record
        .filter(|it| it["version"] == version && it["transport"] == transport)
        .map(|it| &it["requests"])
        .next()
        .unwrap_or_else(|| panic!("{version} {transport} is not on record"));
    assert_eq!(telling(&sent), telling(record), "{version} {transport}");
}

/// What is told by the requests that a client makes in order: not those for a second stream and for the
/// end of a session, which come when they come, and only the headers that say something of MCP.
fn telling(requests: &Value) -> Vec<(&Value, Map<String, Value>)> {
    let requests = requests.as_array().expect("requests are a list").iter();
    let says_something = |name: &str| {
        name.starts_with("mcp-") || ["accept", "content-type", "user-agent"].contains(&name)
    };
    requests
        .filter(|it| it["message"] != Value::Null || it["headers"].get("mcp-session-id").is_none())
        .map(|it| {
            let headers = it["headers"].as_object().expect("headers are an object");
            let headers = headers.iter().filter(|(name, _)| says_something(name));
            let headers = headers.map(|(name, value)| (name.clone(), value.clone()));
            (&it["message"], headers.collect())
        })
        .collect()
}
