//! A small MCP server on the library's own `Handler`: three tools, both eras, nothing stored.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::{Kind, Message, RequestId, code, response};
use thinpipe_transport::body::{Body, BoxFuture};
use thinpipe_transport::server::{
    Answer, Content, Exchange, Handler, Inbound, Negotiated, Session, SessionSlot,
};
use tokio::sync::oneshot;

use super::events::{Events, Sink};

/// Between two steps of the tool that counts.
const STEP: Duration = Duration::from_millis(100);
/// Whoever is asked a question answers within this.
const PATIENCE: Duration = Duration::from_secs(60);

/// The server.
#[derive(Debug, Default)]
pub(crate) struct Sample;

/// Questions that a session's client has not answered yet.
#[derive(Debug, Default)]
struct Questions {
    asked: Mutex<(u64, HashMap<String, oneshot::Sender<Bytes>>)>,
}

impl Handler for Sample {
    fn handle(self: Arc<Self>, exchange: Exchange) -> BoxFuture<Answer> {
        Box::pin(async move {
            match exchange.inbound {
                Inbound::Initialize(message, slot) => initialize(&message, slot).await,
                Inbound::Message(message, session) => in_session(&message, session),
                Inbound::Stateless(message) => stateless(&message),
                Inbound::StatelessNotification(_) => Answer::accepted(),
                Inbound::Listen(session, _) => listen(session),
                Inbound::Terminate(_) => {
                    Answer::new(StatusCode::OK, Content::Other(None), Body::Empty)
                }
            }
        })
    }
}

async fn initialize(message: &Message, slot: SessionSlot) -> Answer {
    let Some(id) = message.id().cloned() else {
        return Answer::accepted();
    };
    let asked = message.param_str("protocolVersion").unwrap_or_default();
    let revision = match Revision::from_bytes(asked.as_bytes()) {
        Some(revision) if !revision.is_modern() => revision,
        _ => Revision::NEWEST_LEGACY,
    };
    let negotiated = Negotiated {
        revision,
        initialize_params: message.params().unwrap_or_default(),
        attachment: Bytes::new(),
    };
    match slot.open(negotiated).await {
        Ok(session) => {
            let result = json!({
                "protocolVersion": revision.as_str(),
                "capabilities": { "tools": {} },
                "serverInfo": server_info(),
            });
            result_answer(&id, &result).with_session(session.id().clone())
        }
        Err(error) => {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            Answer::error(
                status,
                Some(&id),
                code::INTERNAL_ERROR,
                &error.to_string(),
                None,
            )
        }
    }
}

/// Silent until the session ends: nothing happens here unasked.
fn listen(session: Arc<Session>) -> Answer {
    Answer::events(Events::new(|sink| async move {
        session.closed().cancelled().await;
        drop(sink);
    }))
}

fn in_session(message: &Message, session: Option<Arc<Session>>) -> Answer {
    let id = match (message.kind(), message.id()) {
        (Kind::Request, Some(id)) => id.clone(),
        (Kind::Response | Kind::ErrorResponse, Some(id)) => {
            take_answer(session.as_deref(), id, message);
            return Answer::accepted();
        }
        _ => return Answer::accepted(),
    };
    match message.method() {
        Some("ping") => result_answer(&id, &json!({})),
        Some("tools/list") => result_answer(&id, &json!({ "tools": tools() })),
        Some("tools/call") => match (call_of(message), session) {
            (Call::Echo(text), _) => result_answer(&id, &said(&text)),
            (Call::Count(to), _) => count(id, to, token(message), false),
            (Call::Ask(question), Some(session)) => ask_in_session(id, question, session),
            (Call::Ask(_), None) => refusal(&id, "asking needs a session"),
            (Call::Unknown(name), _) => refusal(&id, &format!("there is no tool `{name}`")),
        },
        _ => {
            let text = "unknown method";
            Answer::error(
                StatusCode::OK,
                Some(&id),
                code::METHOD_NOT_FOUND,
                text,
                None,
            )
        }
    }
}

fn stateless(message: &Message) -> Answer {
    let Some(id) = message.id().cloned() else {
        return Answer::accepted();
    };
    match message.method() {
        Some("server/discover") => {
            let result = json!({
                "supportedVersions": revisions(),
                "capabilities": { "tools": {} },
                "ttlMs": 60_000,
                "cacheScope": "public",
            });
            result_answer(&id, &complete(result))
        }
        Some("tools/list") => {
            let result = json!({ "tools": tools(), "ttlMs": 60_000, "cacheScope": "public" });
            result_answer(&id, &complete(result))
        }
        Some("tools/call") => match call_of(message) {
            Call::Echo(text) => result_answer(&id, &complete(said(&text))),
            Call::Count(to) => count(id, to, token(message), true),
            Call::Ask(question) => ask_stateless(&id, &question, message),
            Call::Unknown(name) => refusal(&id, &format!("there is no tool `{name}`")),
        },
        _ => {
            let (status, text) = (StatusCode::NOT_FOUND, "unknown method");
            Answer::error(status, Some(&id), code::METHOD_NOT_FOUND, text, None)
        }
    }
}

/// What a `tools/call` wants.
enum Call {
    Echo(String),
    Count(u64),
    Ask(String),
    Unknown(String),
}

fn call_of(message: &Message) -> Call {
    let params = params(message);
    let arguments = &params["arguments"];
    let text = |name: &str, default: &str| arguments[name].as_str().unwrap_or(default).to_owned();
    match params["name"].as_str().unwrap_or_default() {
        "echo" => Call::Echo(text("text", "")),
        "count" => Call::Count(arguments["to"].as_u64().unwrap_or(3).clamp(1, 100)),
        "ask" => Call::Ask(text("question", "What is your name?")),
        other => Call::Unknown(other.to_owned()),
    }
}

/// All that can be spoken here, the newest first.
fn revisions() -> Vec<&'static str> {
    let served = |revision: &Revision| *revision >= Revision::V2025_03_26;
    Revision::ALL
        .into_iter()
        .filter(served)
        .map(Revision::as_str)
        .collect()
}

fn tools() -> Value {
    let tool = |name: &str, description: &str, property: &str, kind: &str| {
        json!({
            "name": name,
            "description": description,
            "inputSchema": { "type": "object", "properties": { property: { "type": kind } } },
        })
    };
    json!([
        tool("echo", "Says what it is told", "text", "string"),
        tool(
            "count",
            "Counts aloud, one step every 100 ms",
            "to",
            "integer"
        ),
        tool(
            "ask",
            "Asks the user a question before it answers",
            "question",
            "string"
        ),
    ])
}

/// Counts with a progress notification for each step.
fn count(id: RequestId, to: u64, token: Option<Value>, modern: bool) -> Answer {
    Answer::events(Events::new(move |sink| async move {
        for step in 1..=to {
            tokio::time::sleep(STEP).await;
            if let Some(token) = &token {
                let params = json!({ "progressToken": token, "progress": step, "total": to });
                sink.notify("notifications/progress", &params).await;
            }
        }
        let result = said(&format!("counted to {to}"));
        let result = if modern { complete(result) } else { result };
        sink.send(&response(&id, result.to_string().as_bytes()))
            .await;
    }))
}

/// Asks the client in mid-stream; its answer comes as a POST of its own.
fn ask_in_session(id: RequestId, question: String, session: Arc<Session>) -> Answer {
    Answer::events(Events::new(move |sink| async move {
        let result = match ask(&sink, &question, &session).await {
            Some(name) => said(&format!("Hello, {name}")),
            None => {
                let mut result = said("no answer");
                result["isError"] = true.into();
                result
            }
        };
        sink.send(&response(&id, result.to_string().as_bytes()))
            .await;
    }))
}

async fn ask(sink: &Sink, question: &str, session: &Session) -> Option<String> {
    let (tell, told) = oneshot::channel();
    let name = {
        let questions = session.state(Questions::default)?;
        let mut asked = questions
            .asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        asked.0 += 1;
        let name = format!("question-{}", asked.0);
        asked.1.insert(name.clone(), tell);
        name
    };
    let request = json!({
        "jsonrpc": "2.0", "id": name, "method": "elicitation/create", "params": form(question),
    });
    sink.send(request.to_string().as_bytes()).await;
    let answer = tokio::time::timeout(PATIENCE, told).await.ok()?.ok()?;
    name_in(&serde_json::from_slice(&answer).ok()?)
}

fn take_answer(session: Option<&Session>, id: &RequestId, message: &Message) {
    let Some(questions) = session.and_then(|session| session.state(Questions::default)) else {
        return;
    };
    let Ok(name) = serde_json::from_slice::<String>(id.as_json()) else {
        return;
    };
    let mut asked = questions
        .asked
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if let Some(tell) = asked.1.remove(&name) {
        // Who asked may have left meanwhile.
        let _ = tell.send(message.result().unwrap_or_default());
    }
}

/// Asks by answering that input is required; the client asks again with it.
fn ask_stateless(id: &RequestId, question: &str, message: &Message) -> Answer {
    let params = params(message);
    match name_in(&params["inputResponses"]["name"]) {
        Some(name) => result_answer(id, &complete(said(&format!("Hello, {name}")))),
        None => {
            let request = json!({ "method": "elicitation/create", "params": form(question) });
            let result = json!({
                "resultType": "input_required", "inputRequests": { "name": request },
            });
            result_answer(id, &result)
        }
    }
}

fn form(question: &str) -> Value {
    json!({
        "mode": "form",
        "message": question,
        "requestedSchema": {
            "type": "object", "properties": { "name": { "type": "string" } }, "required": ["name"],
        },
    })
}

fn name_in(answer: &Value) -> Option<String> {
    (answer["action"] == "accept")
        .then(|| answer["content"]["name"].as_str())?
        .map(str::to_owned)
}

fn token(message: &Message) -> Option<Value> {
    serde_json::from_slice(&message.meta("progressToken")?).ok()
}

fn params(message: &Message) -> Value {
    message
        .params()
        .and_then(|params| serde_json::from_slice(&params).ok())
        .unwrap_or_default()
}

fn said(text: &str) -> Value {
    json!({ "content": [{ "type": "text", "text": text }] })
}

/// A result as 2026-07-28 wants it.
fn complete(mut result: Value) -> Value {
    result["resultType"] = "complete".into();
    result["_meta"] = json!({ "io.modelcontextprotocol/serverInfo": server_info() });
    result
}

fn server_info() -> Value {
    json!({ "name": "thinpipe-sample", "version": env!("CARGO_PKG_VERSION") })
}

fn result_answer(id: &RequestId, result: &Value) -> Answer {
    Answer::json(response(id, result.to_string().as_bytes()))
}

fn refusal(id: &RequestId, text: &str) -> Answer {
    Answer::error(StatusCode::OK, Some(id), code::INVALID_PARAMS, text, None)
}
