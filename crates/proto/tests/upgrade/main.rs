//! The bridge between a legacy client session and a server of 2026-07-28, row by row of protocol notes 5.3.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod calls;
mod handshake;
mod listens;
mod rounds;
mod subscriptions;
mod tasks;
mod tools;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};

use thinpipe_proto::bridge::upgrade::{self, Action, Config, Upgrading};
use thinpipe_proto::bridge::{CallId, MemberId, Refused};
use thinpipe_proto::rpc::{Message, RequestId};

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

const PROTOCOL: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
const CLIENT: &str = "io.modelcontextprotocol/clientInfo";
const LEVEL: &str = "io.modelcontextprotocol/logLevel";

/// A machine with its clock, whose actions are read as lines: `3 tools/call {..}` for call 3 with its params
/// (without the envelope, which is looked at once), `close 3`, `7: ..` delivered for the client's request 7
/// (`7!` as its response, `-` for none), `finish 7`, `doubt`, `over ..`.
struct Session {
    machine: Upgrading,
    start: Instant,
    now: Instant,
    calls: BTreeMap<String, CallId>,
    /// What the last call said of the client, and its `Mcp-Param-*` headers.
    envelope: Value,
    headers: Vec<(String, String)>,
    /// Whether it may be sent again below.
    repeatable: bool,
}

const NEWEST: &str = "2025-11-25";

impl Session {
    /// A server that offers all there is, in front of which a client of 2025-11-25 has declared this.
    fn new(declared: Value) -> Self {
        Self::with(NEWEST, declared, everything(), |_| {})
    }

    fn with(
        revision: &str,
        declared: Value,
        offered: Value,
        configure: impl FnOnce(&mut Config),
    ) -> Self {
        let initialize = initialize(revision, declared);
        let opening = upgrade::initialize(&initialize, &discovered(offered), "u").unwrap();
        let mut config = Config::new("u", MemberId(1), 7);
        config.headers = false;
        configure(&mut config);
        let start = Instant::now();
        Self {
            machine: Upgrading::new(config, opening.handshake, start),
            start,
            now: start,
            calls: BTreeMap::new(),
            envelope: Value::Null,
            headers: Vec::new(),
            repeatable: false,
        }
    }

    /// A message of the client, which is taken.
    fn says(&mut self, message: Value) -> Vec<String> {
        self.tries(message).expect("taken")
    }

    fn tries(&mut self, message: Value) -> Result<Vec<String>, Refused> {
        self.machine.client(&parse(message), self.now)?;
        Ok(self.actions())
    }

    fn asks(&mut self, id: i64, method: &str, params: Value) -> Vec<String> {
        self.says(request(json!(id), method, params))
    }

    /// A message on the stream of a call.
    fn hears(&mut self, call: u64, message: Value) -> Vec<String> {
        let call = self.calls[&call.to_string()];
        self.machine.upstream(call, &parse(message), self.now);
        self.actions()
    }

    /// The result of a call.
    fn gets(&mut self, call: u64, result: Value) -> Vec<String> {
        self.hears(
            call,
            json!({"jsonrpc": "2.0", "id": call, "result": result}),
        )
    }

    fn complete(&mut self, call: u64, mut result: Value) -> Vec<String> {
        result["resultType"] = json!("complete");
        self.gets(call, result)
    }

    fn refused(&mut self, call: u64, code: i32, data: Value) -> Vec<String> {
        let error = json!({"code": code, "message": "no", "data": data});
        self.hears(call, json!({"jsonrpc": "2.0", "id": call, "error": error}))
    }

    /// A call that ends without a response.
    fn fails(&mut self, call: u64, undelivered: bool) -> Vec<String> {
        let call = self.calls[&call.to_string()];
        let why = ("upstream_stream_lost", "it broke");
        self.machine.call_failed(call, undelivered, why, self.now);
        self.actions()
    }

    fn acknowledges(&mut self, call: u64, filter: Value) -> Vec<String> {
        let params = json!({"notifications": filter, "_meta": stamp(call)});
        let method = "notifications/subscriptions/acknowledged";
        self.hears(call, notification(method, params))
    }

    fn opens(&mut self) -> Vec<String> {
        self.machine.stream_opened(self.now);
        self.actions()
    }

    fn closes(&mut self) -> Vec<String> {
        self.machine.stream_closed(self.now);
        self.actions()
    }

    /// The client answers a question.
    fn answers(&mut self, question: i64, result: Value) -> Vec<String> {
        self.says(json!({"jsonrpc": "2.0", "id": question, "result": result}))
    }

    fn cancels(&mut self, request: Value) -> Vec<String> {
        self.says(notification(
            "notifications/cancelled",
            json!({"requestId": request}),
        ))
    }

    /// So long after the beginning; timers fire as they are due.
    fn at(&mut self, since: Duration) -> Vec<String> {
        let until = self.start + since;
        let mut lines = Vec::new();
        while let Some(due) = self.machine.poll_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.machine.on_timeout(self.now);
            lines.extend(self.actions());
            let next = self.machine.poll_timeout();
            assert!(
                next.is_none_or(|next| next > self.now),
                "a timer that spins"
            );
        }
        self.now = until;
        lines
    }

    fn passes(&mut self, time: Duration) -> Vec<String> {
        self.at(self.now - self.start + time)
    }

    fn actions(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(action) = self.machine.poll_action() {
            lines.push(self.line(&action));
        }
        lines
    }

    fn line(&mut self, action: &Action) -> String {
        match action {
            Action::Call(call) => {
                let mut message = value(&call.message);
                self.envelope = take_envelope(&mut message);
                self.headers = call
                    .params
                    .iter()
                    .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
                    .collect();
                let id = message["id"].to_string();
                self.calls.insert(id.clone(), call.id);
                self.repeatable = call.repeatable;
                let params = message["params"].to_string();
                format!("{id} {} {params}", message["method"].as_str().unwrap())
            }
            Action::Cancel(call) => format!("close {:?}", call.to_request_id()),
            Action::Deliver(delivery) => {
                assert_eq!(delivery.member, MemberId(1));
                let related = delivery.related.as_ref().map_or_else(|| "-".to_owned(), id);
                let last = if delivery.is_last() { "!" } else { "" };
                format!("{related}{last}: {}", value(&delivery.message))
            }
            Action::Finish { request, .. } => format!("finish {}", id(request)),
            Action::Doubt => "doubt".to_owned(),
            Action::Close(end) => format!("over {end:?}"),
        }
    }

    /// Nothing is left of requests, questions and calls but so many listens.
    fn is_quiet(&self, listens: usize) {
        let left = [
            self.machine.in_flight(),
            self.machine.server_requests(),
            self.machine.calls(),
        ];
        assert_eq!(left, [0, 0, listens]);
    }
}

fn take_envelope(message: &mut Value) -> Value {
    let params = message["params"].as_object_mut().expect("params");
    let meta = params["_meta"].as_object_mut().expect("_meta");
    assert_eq!(meta.remove(PROTOCOL), Some(json!("2026-07-28")));
    let envelope = json!({
        "capabilities": meta.remove(CAPABILITIES).expect("capabilities"),
        "info": meta.remove(CLIENT),
        "level": meta.remove(LEVEL),
    });
    if meta.is_empty() {
        params.remove("_meta");
    }
    envelope
}

fn id(id: &RequestId) -> String {
    String::from_utf8(id.as_json().to_vec()).unwrap()
}

fn value(bytes: &Bytes) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

fn parse(message: Value) -> Message {
    Message::parse(message.to_string().into()).expect("a message")
}

fn everything() -> Value {
    json!({
        "tools": {"listChanged": true},
        "prompts": {"listChanged": true},
        "resources": {"listChanged": true, "subscribe": true},
        "logging": {}, "completions": {},
    })
}

fn discovered(capabilities: Value) -> Bytes {
    json!({
        "resultType": "complete", "ttlMs": 0, "cacheScope": "private",
        "supportedVersions": ["2026-07-28"], "capabilities": capabilities,
        "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "s", "version": "3"}},
    })
    .to_string()
    .into()
}

fn initialize(revision: &str, declared: Value) -> Message {
    parse(request(
        json!(0),
        "initialize",
        json!({
            "protocolVersion": revision, "capabilities": declared,
            "clientInfo": {"name": "c", "version": "2"},
        }),
    ))
}

fn request(id: Value, method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

fn notification(method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "method": method, "params": params})
}

fn stamp(call: u64) -> Value {
    json!({"io.modelcontextprotocol/subscriptionId": call})
}

/// A line that delivers the response to a request.
fn result(id: Value, result: Value) -> String {
    format!(
        "{id}!: {}",
        json!({"jsonrpc": "2.0", "id": id, "result": result})
    )
}

fn error(id: Value, code: i32, message: &str) -> String {
    let error = json!({"code": code, "message": message});
    format!(
        "{id}!: {}",
        json!({"jsonrpc": "2.0", "id": id, "error": error})
    )
}

/// An error of the gateway's own.
fn own_error(id: Value, message: &str, reason: &str) -> String {
    gateways_error(id, -32603, message, reason)
}

/// A method that is not served is refused by the gateway, and says so.
fn not_served(id: Value, method: &str) -> String {
    let message = format!("{method} is not served here");
    gateways_error(id, -32601, &message, "method_not_found")
}

fn gateways_error(id: Value, code: i32, message: &str, reason: &str) -> String {
    let data = json!({"reason": reason, "upstream": "u"});
    let error = json!({"code": code, "message": message, "data": data});
    format!(
        "{id}!: {}",
        json!({"jsonrpc": "2.0", "id": id, "error": error})
    )
}

/// A line that tells the client of a change.
fn changed(kind: &str) -> String {
    let method = format!("notifications/{kind}/list_changed");
    format!("-: {}", json!({"jsonrpc": "2.0", "method": method}))
}

fn updated(uri: &str) -> String {
    let method = "notifications/resources/updated";
    format!("-: {}", notification(method, json!({"uri": uri})))
}
