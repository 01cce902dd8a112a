//! How an upstream behaves when no script says otherwise: the revisions with sessions.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use serde_json::{Value, json};

use crate::event::Event;
use crate::rpc;
use crate::upstream::pipes;
use crate::upstream::record::{Request, Via};
use crate::upstream::script::Script;
use crate::upstream::shared::Shared;
use crate::upstream::stream::EventStream;
use crate::upstream::{features, lock, stateless};

/// Which revisions an upstream serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Era {
    /// All of them, on one endpoint.
    #[default]
    Both,
    /// 2025-03-26 to 2025-11-25.
    Sessions,
    /// 2026-07-28.
    Stateless,
}

/// How an upstream behaves when no script says otherwise.
///
/// It serves `initialize` (with a session id), `ping`, `tools/list`, `tools/call`, empty lists of
/// prompts and resources, the standalone stream, resumption and DELETE; statelessly `server/discover`,
/// `tools/list`, `tools/call` and `subscriptions/listen`. It is strict: a request that breaks a rule of
/// its revision (media types, session, version, mirrored headers, arrays) is refused with the status
/// that the specification or the SDKs have for it.
///
/// Tools: `echo` returns its arguments; `slow` answers when the [gate](crate::Upstream::gate) `slow` is
/// opened; `progress` sends as many progress notifications as `arguments.steps` says (3) and then its
/// result, as a stream; `ask` sends an elicitation with the id `"ask-1"` on its stream and answers when
/// the client has posted an answer to it; `fail` returns an error in band.
///
/// A [full](Self::full) server has more, the same in every revision: prompts (`greet`, and `ask`, which asks;
/// two pages with a cursor that is worth nothing in another session), resources (`file:///a`, `file:///b`,
/// and `ask:///`, which asks; with subscriptions), completions, log lines by level, and tools: `ask`, `sample`,
/// `roots`, `url`, `both`, `twice`, `endless`, `undeclared` and `state` ask the client, by requests in
/// sessions and by `input_required` without, and have the answers in `structuredContent.answers`; `log`
/// writes a line of each of `debug`, `info` and `error`; `region` wants its argument `region` in
/// `Mcp-Param-Region` too; `bad_header` breaks the rules of such headers; `numbers` returns what is no object
/// (2026-07-28); `needs_url` fails with -32042 until [`Upstream::elicited`](crate::Upstream::elicited)
/// (sessions).
///
/// What it serves at `/mcp` it serves over HTTP+SSE too, at `/sse`, and over stdio, by the program
/// [`Upstream::program`](crate::Upstream::program): over HTTP+SSE in sessions, over stdio in the eras
/// it is told.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// Which revisions it serves. Default: both eras.
    pub era: Era,
    /// Whether it issues session ids. Default: true.
    pub sessions: bool,
    /// Whether the events of its legacy streams have ids, and streams can be resumed. Default: false.
    pub event_ids: bool,
    /// Whether every tool answers by an event stream. Default: false.
    pub always_stream: bool,
    /// Whether there is a standalone stream; else GET is 405. Default: true.
    pub standalone: bool,
    /// Whether it is a full server. Default: false.
    pub full: bool,
    /// What a full server declares. What is not in it is refused. Default: all there is.
    pub capabilities: Value,
    /// `ttlMs` of a full server's results. Default: 0.
    pub ttl_ms: u64,
    /// `cacheScope` of a full server's results. Default: `private`.
    pub cache_scope: &'static str,
    /// Whether a request of a session, or of a program, that is cancelled ends then, without an answer.
    /// Default: false, it is answered all the same.
    pub heeds_cancel: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            era: Era::Both,
            sessions: true,
            event_ids: false,
            always_stream: false,
            standalone: true,
            full: false,
            capabilities: json!({
                "tools": {"listChanged": true},
                "prompts": {"listChanged": true},
                "resources": {"listChanged": true, "subscribe": true},
                "completions": {},
                "logging": {},
            }),
            ttl_ms: 0,
            cache_scope: "private",
            heeds_cancel: false,
        }
    }
}

/// A session that an upstream has issued.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) id: String,
    /// Empty until `initialize`.
    pub(crate) revision: String,
    pub(crate) via: Via,
    /// Number of the request whose response is the session's stream.
    pub(crate) opened_by: Option<usize>,
    pub(crate) log_level: Option<String>,
    pub(crate) subscriptions: Vec<String>,
    /// Whether its user has been to the page that `needs_url` wants.
    pub(crate) elicited: bool,
}

impl Session {
    pub(crate) fn new(id: String, via: Via) -> Self {
        Self {
            id,
            revision: String::new(),
            via,
            opened_by: None,
            log_level: None,
            subscriptions: Vec::new(),
            elicited: false,
        }
    }
}

/// Name of the standalone stream of a session.
pub(crate) fn standalone(session: &str) -> String {
    // The last digits of the id tell sessions apart well enough, and keep it out of event ids: what a
    // session is called must not be seen on the other side.
    let end = session.len().saturating_sub(8);
    format!("standalone-{}", &session[end..])
}

/// The script for a request that no rule names.
pub(crate) fn answer(shared: &Shared, request: &Request) -> Script {
    let behaviour = lock(&shared.behaviour).clone();
    if request.via != Via::Http {
        return post(shared, &behaviour, request);
    }
    if request.target == "/sse" && request.method == "GET" && behaviour.era != Era::Stateless {
        return pipes::open_sse(shared, request);
    }
    if request.target.split('?').next() != Some("/mcp") {
        return Script::status(404)
            .content_type("text/plain")
            .whole("no such path");
    }
    match request.method.as_str() {
        "POST" => post(shared, &behaviour, request),
        "GET" | "DELETE" if is_modern_header(request) || behaviour.era == Era::Stateless => {
            not_allowed("POST")
        }
        "GET" => get(shared, &behaviour, request),
        "DELETE" => delete(shared, request),
        _ => not_allowed("GET, POST, DELETE"),
    }
}

fn post(shared: &Shared, behaviour: &Behaviour, request: &Request) -> Script {
    if request.via == Via::Http
        && let Some(refusal) = refused_media_types(request)
    {
        return refusal;
    }
    let message = request.json();
    let is_message = message.get("jsonrpc").and_then(Value::as_str) == Some("2.0");
    if message.is_null() {
        return Script::error(400, -32700, "not JSON");
    }
    if !is_message {
        return Script::error(400, -32600, "not one JSON-RPC message");
    }
    let era = match request.via {
        // There is no other revision on that transport.
        Via::HttpSse => Era::Sessions,
        Via::Http | Via::Stdio => behaviour.era,
    };
    if era != Era::Sessions && (request.is_modern() || is_modern_header(request)) {
        return stateless::answer(shared, behaviour, request);
    }
    if era == Era::Stateless {
        return stateless::unsupported(behaviour, request.rpc_method().unwrap_or_default());
    }
    if request.rpc_method() == Some("initialize") {
        return initialize(shared, behaviour, request);
    }
    let revision = match session(shared, behaviour, request) {
        Ok(revision) => revision,
        Err(refusal) => return *refusal,
    };
    match request.rpc_method() {
        Some(method) if request.id.is_some() => {
            legacy_request(shared, behaviour, request, method, &revision)
        }
        _ => Script::accepted(),
    }
}

fn initialize(shared: &Shared, behaviour: &Behaviour, request: &Request) -> Script {
    let wanted = request
        .json()
        .pointer("/params/protocolVersion")
        .and_then(Value::as_str);
    let Some(wanted) = wanted else {
        return Script::error(200, -32602, "no protocolVersion");
    };
    let oldest = behaviour.full.then_some(&rpc::OLDEST);
    let mut supported = rpc::LEGACY.iter().chain(oldest);
    let supported = supported.find(|revision| **revision == wanted);
    let revision = supported.copied().unwrap_or(rpc::LEGACY[0]);
    let result = if behaviour.full {
        rpc::result(json!({
            "protocolVersion": revision,
            "capabilities": behaviour.capabilities,
            "serverInfo": {"name": "counting-upstream", "version": "1"},
            "instructions": "Ask for a seat.",
        }))
    } else {
        rpc::initialize_result(revision)
    };
    if request.via != Via::Http {
        shared.with_session(request.session(), |session| {
            revision.clone_into(&mut session.revision);
        });
        return Script::json(result);
    }
    let script = if behaviour.always_stream {
        Script::status(200)
            .content_type("text/event-stream")
            .chunked()
    } else {
        Script::status(200).content_type("application/json")
    };
    let script = if behaviour.sessions {
        let id = new_session(shared, revision);
        script.header("Mcp-Session-Id", &id)
    } else {
        script
    };
    if behaviour.always_stream {
        script.message(result)
    } else {
        script.whole(result)
    }
}

fn new_session(shared: &Shared, revision: &str) -> String {
    // Keys of a `RandomState` come from the system's random source.
    let state = RandomState::new();
    let id = format!(
        "upstream-{:016x}{:016x}",
        state.hash_one(1),
        state.hash_one(2)
    );
    let session = Session {
        revision: revision.to_owned(),
        ..Session::new(id.clone(), Via::Http)
    };
    shared.add_session(session, EventStream::of_session(&id));
    id
}

/// The revision of the session that a request is in, or why it is refused.
fn session(
    shared: &Shared,
    behaviour: &Behaviour,
    request: &Request,
) -> Result<String, Box<Script>> {
    let version = request.headers.get("MCP-Protocol-Version");
    if !behaviour.sessions && request.via == Via::Http {
        return Ok(version.unwrap_or(rpc::LEGACY[2]).to_owned());
    }
    let Some(id) = request.session() else {
        return Err(Box::new(Script::error(400, -32000, "no Mcp-Session-Id")));
    };
    let sessions = lock(&shared.sessions);
    let Some(session) = sessions.iter().find(|session| session.id == id) else {
        return Err(Box::new(Script::error(404, -32001, "no such session")));
    };
    if version.is_some_and(|version| version != session.revision) {
        return Err(Box::new(Script::error(
            400,
            -32000,
            "another MCP-Protocol-Version than the session",
        )));
    }
    Ok(session.revision.clone())
}

fn legacy_request(
    shared: &Shared,
    behaviour: &Behaviour,
    request: &Request,
    method: &str,
    revision: &str,
) -> Script {
    if behaviour.full
        && let Some(script) = features::answer(shared, behaviour, request)
    {
        return script;
    }
    let result = match method {
        "ping" | "logging/setLevel" => json!({}),
        "tools/list" => tool_list(),
        "prompts/list" => json!({"prompts": []}),
        "resources/list" => json!({"resources": []}),
        "resources/templates/list" => json!({"resourceTemplates": []}),
        "tools/call" => return tool(shared, behaviour, request, revision),
        _ => return Script::error(200, -32601, "no such method"),
    };
    Script::json(rpc::result(result))
}

/// What `tools/list` has.
pub(crate) fn tool_list() -> Value {
    let tools = ["echo", "slow", "progress", "ask", "fail"];
    let tools = tools.map(|name| {
        json!({"name": name, "description": format!("the tool {name}"), "inputSchema": {"type": "object"}})
    });
    json!({ "tools": tools })
}

pub(super) fn tool(
    shared: &Shared,
    behaviour: &Behaviour,
    request: &Request,
    revision: &str,
) -> Script {
    let arguments = request
        .json()
        .pointer("/params/arguments")
        .cloned()
        .unwrap_or_default();
    let text_result = if request.is_modern() {
        rpc::modern_text_result
    } else {
        rpc::text_result
    };
    let mut events = Vec::new();
    let mut script = Script::new();
    let last = match request.tool().unwrap_or_default() {
        "echo" => text_result(&arguments.to_string()),
        "slow" => {
            script = script.wait(&shared.gate("slow"));
            text_result("slow")
        }
        "progress" => {
            let steps = arguments.get("steps").and_then(Value::as_u64).unwrap_or(3);
            let steps = usize::try_from(steps).unwrap_or(usize::MAX);
            events.extend((1..=steps).map(|step| Event::message(rpc::progress(step, steps))));
            text_result("progressed")
        }
        "ask" => return ask(),
        "fail" => rpc::error(-32603, "the tool failed"),
        _ => rpc::error(-32602, "no such tool"),
    };
    if events.is_empty() && !behaviour.always_stream {
        script.steps.extend(Script::json(last).steps);
        return script;
    }
    events.push(Event::message(last));
    if !behaviour.event_ids || request.is_modern() {
        script.steps.extend(
            events
                .into_iter()
                .fold(Script::events(), Script::event)
                .steps,
        );
        return script;
    }
    let name = format!("call-{}", request.number);
    if revision >= rpc::LEGACY[0] {
        events.insert(0, Event::data("").with_retry(20));
    }
    for (index, event) in events.iter_mut().enumerate() {
        event.id = Some(format!("{name}-{index}"));
    }
    shared.streams.insert(&name, EventStream::new(events, true));
    script.steps.extend(Script::stream(&name).steps);
    script
}

fn ask() -> Script {
    let params =
        json!({"message": "Seat?", "requestedSchema": {"type": "object", "properties": {}}});
    Script::events()
        .message(rpc::request("ask-1", "elicitation/create", &params))
        .wait_for_answer("\"ask-1\"")
        .message(rpc::text_result("answered"))
}

fn get(shared: &Shared, behaviour: &Behaviour, request: &Request) -> Script {
    if !accepts(request, "text/event-stream") {
        return Script::error(406, -32000, "Accept has no text/event-stream");
    }
    if !behaviour.standalone && request.last_event_id().is_none() {
        return not_allowed("POST, DELETE");
    }
    if let Err(refusal) = session(shared, behaviour, request) {
        return *refusal;
    }
    let name = match request.last_event_id() {
        Some(id) => shared.streams.of_event(id, request.session()),
        None => request.session().map(standalone),
    };
    match name {
        Some(name) => Script::stream(&name),
        None if request.last_event_id().is_none() => Script::events().stall(),
        None => Script::error(400, -32600, "no such event"),
    }
}

fn delete(shared: &Shared, request: &Request) -> Script {
    let Some(id) = request.session() else {
        return Script::error(400, -32000, "no Mcp-Session-Id");
    };
    if !lock(&shared.sessions)
        .iter()
        .any(|session| session.id == id)
    {
        return Script::error(404, -32001, "no such session");
    }
    shared.end_session(id);
    Script::status(200)
}

/// Why a POST is refused for its media types, if it is.
fn refused_media_types(request: &Request) -> Option<Script> {
    let content_type = request.headers.get("Content-Type").unwrap_or_default();
    if content_type.split(';').next().map(str::trim) != Some("application/json") {
        return Some(Script::error(
            415,
            -32000,
            "Content-Type is not application/json",
        ));
    }
    // As the servers of the SDKs: the names themselves, no `*/*`.
    let both = accepts(request, "application/json") && accepts(request, "text/event-stream");
    (!both).then(|| Script::error(406, -32000, "Accept lacks one of the two"))
}

fn accepts(request: &Request, media_type: &str) -> bool {
    request
        .headers
        .all("Accept")
        .any(|value| value.contains(media_type))
}

fn is_modern_header(request: &Request) -> bool {
    request
        .headers
        .get("MCP-Protocol-Version")
        .is_some_and(|version| version >= rpc::MODERN)
}

fn not_allowed(allowed: &str) -> Script {
    Script::error(405, -32000, "method not allowed").header("Allow", allowed)
}
