//! What changes at a server, and who hears of it: listens of 2026-07-28, and sessions.

use serde_json::{Value, json};

use crate::event::Event;
use crate::rpc;
use crate::upstream::behaviour::{self, Behaviour};
use crate::upstream::lock;
use crate::upstream::record::{Request, Via};
use crate::upstream::script::Script;
use crate::upstream::shared::Shared;
use crate::upstream::stream::EventStream;

/// One open `subscriptions/listen`.
#[derive(Debug)]
pub(crate) struct Listen {
    /// Number of the request that opened it.
    pub(crate) number: usize,
    /// Its JSON-RPC id.
    id: Value,
    /// What it is told, in the form of the request.
    honoured: Value,
    via: Via,
    stream: EventStream,
}

/// Acknowledges what the server can tell of what is wanted, and goes on until the client or the test ends it.
pub(super) fn open(shared: &Shared, behaviour: &Behaviour, request: &Request) -> Script {
    let wanted = request.param("/notifications");
    if !wanted.is_object() {
        return Script::error(200, -32602, "no notifications");
    }
    let honoured = if behaviour.full {
        honoured(wanted, &behaviour.capabilities)
    } else {
        wanted.clone()
    };
    let id = request.json()["id"].clone();
    let params = json!({"notifications": honoured, "_meta": {rpc::SUBSCRIPTION: id}});
    let acknowledged = rpc::notification(ACKNOWLEDGED, &params);
    let stream = EventStream::new(vec![Event::message(acknowledged)], false);
    let name = format!("listen-{}", request.number);
    shared.streams.insert(&name, stream.clone());
    lock(&shared.listens).push(Listen {
        number: request.number,
        id,
        honoured,
        via: request.via,
        stream,
    });
    Script::stream(&name)
}

/// The part of a filter that these capabilities can serve.
fn honoured(wanted: &Value, capabilities: &Value) -> Value {
    let can = |pointer| capabilities.pointer(pointer) == Some(&Value::Bool(true));
    let kinds = [
        ("toolsListChanged", "/tools/listChanged"),
        ("promptsListChanged", "/prompts/listChanged"),
        ("resourcesListChanged", "/resources/listChanged"),
        ("resourceSubscriptions", "/resources/subscribe"),
    ];
    let mut honoured = json!({});
    for (kind, capability) in kinds {
        if let Some(value) = wanted.get(kind).filter(|_| can(capability)) {
            honoured[kind] = value.clone();
        }
    }
    honoured
}

/// Tells every session and every listen that wants to hear it of a change.
pub(super) fn announce(shared: &Shared, method: &str, params: &Value) {
    let uri = params.get("uri");
    let ids: Vec<String> = lock(&shared.sessions)
        .iter()
        .filter(|session| match uri.and_then(Value::as_str) {
            Some(uri) => session.subscriptions.iter().any(|other| other == uri),
            None => !session.revision.is_empty(),
        })
        .map(|session| session.id.clone())
        .collect();
    for id in ids {
        shared.notify(&id, rpc::notification(method, params));
    }
    let listens = lock(&shared.listens);
    for listen in listens.iter().filter(|listen| listen.wants(method, uri)) {
        let mut params = params.clone();
        params["_meta"] = json!({rpc::SUBSCRIPTION: listen.id});
        let message = rpc::notification(method, &params);
        listen.stream.append(Event::message(message));
    }
}

/// Ends every listen as a server does that stops: with its result. `false`: without, by the end of its stream,
/// or, where there is none of its own, by saying that it is cancelled.
pub(super) fn end(shared: &Shared, with_result: bool) {
    for listen in lock(&shared.listens).drain(..) {
        if with_result {
            let result = json!({"resultType": "complete", "_meta": {rpc::SUBSCRIPTION: listen.id}});
            listen.stream.append(Event::message(rpc::result(result)));
        } else if listen.via == Via::Stdio {
            let cancelled = json!({"requestId": listen.id});
            let cancelled = rpc::notification("notifications/cancelled", &cancelled);
            listen.stream.append(Event::message(cancelled));
        }
        listen.stream.finish();
    }
}

impl Listen {
    fn wants(&self, method: &str, uri: Option<&Value>) -> bool {
        let kind = match method {
            "notifications/tools/list_changed" => "toolsListChanged",
            "notifications/prompts/list_changed" => "promptsListChanged",
            "notifications/resources/list_changed" => "resourcesListChanged",
            _ => "resourceSubscriptions",
        };
        match &self.honoured[kind] {
            Value::Array(uris) => uri.is_some_and(|uri| uris.contains(uri)),
            wanted => *wanted == true,
        }
    }
}

impl Shared {
    /// Sends a message on the standalone stream of a session.
    pub(super) fn notify(&self, session: &str, message: String) {
        let name = behaviour::standalone(session);
        let stream = self.streams.get(&name);
        let stream = stream.unwrap_or_else(|| panic!("there is no stream {name}"));
        let mut event = Event::message(message);
        if lock(&self.behaviour).event_ids {
            event = event.with_id(format!("{name}-{}", stream.len()));
        }
        stream.append(event);
    }
}

const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";
