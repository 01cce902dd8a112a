//! What a full server has beside the plain tools, the same in every revision and over every transport.

use serde_json::{Value, json};

use crate::rpc;
use crate::upstream::asking;
use crate::upstream::behaviour::{Behaviour, tool_list};
use crate::upstream::record::{Request, Via};
use crate::upstream::script::Script;
use crate::upstream::shared::Shared;

/// The answer to a request, if its method or tool is one of those.
pub(super) fn answer(shared: &Shared, behaviour: &Behaviour, request: &Request) -> Option<Script> {
    let method = request.rpc_method()?;
    if let Some(absent) = lacking(behaviour, method) {
        let text = format!("there are no {absent} here");
        return Some(Script::error(not_found(request), -32601, &text));
    }
    let legacy = !request.is_modern();
    let result = match method {
        "ping" if legacy => json!({}),
        "tools/list" => tools(request),
        "prompts/list" => return Some(prompts(behaviour, request)),
        "prompts/get" => return Some(prompt(shared, request)),
        "resources/list" => json!({"resources": [
            {"uri": "file:///a", "name": "a"},
            {"uri": "file:///b", "name": "b"},
        ]}),
        "resources/templates/list" => {
            json!({"resourceTemplates": [{"uriTemplate": "file:///{name}", "name": "files"}]})
        }
        "resources/read" => return Some(read(shared, behaviour, request)),
        "completion/complete" => {
            json!({"completion": {"values": ["one", "two"], "hasMore": false}})
        }
        "logging/setLevel" if legacy => return Some(set_level(shared, request)),
        "resources/subscribe" if legacy => subscribe(shared, request, true),
        "resources/unsubscribe" if legacy => subscribe(shared, request, false),
        "tools/call" => return tool(shared, behaviour, request),
        _ => return None,
    };
    Some(complete(behaviour, request, result))
}

/// A result in the form of the request's revision.
pub(super) fn complete(behaviour: &Behaviour, request: &Request, mut result: Value) -> Script {
    if request.is_modern() {
        result["resultType"] = "complete".into();
        result["_meta"] = json!({rpc::SERVER_INFO: {"name": "counting-upstream", "version": "1"}});
        if request
            .rpc_method()
            .is_some_and(|method| CACHEABLE.contains(&method))
        {
            result["ttlMs"] = behaviour.ttl_ms.into();
            result["cacheScope"] = behaviour.cache_scope.into();
        }
    }
    Script::json(rpc::result(result))
}

/// What the server does not declare, and this method needs.
fn lacking(behaviour: &Behaviour, method: &str) -> Option<&'static str> {
    let needed = match method.split('/').next()? {
        "tools" => "tools",
        "prompts" => "prompts",
        "resources" => "resources",
        "completion" => "completions",
        "logging" => "logging",
        _ => return None,
    };
    behaviour
        .capabilities
        .get(needed)
        .is_none()
        .then_some(needed)
}

fn not_found(request: &Request) -> u16 {
    if request.is_modern() { 404 } else { 200 }
}

fn tools(request: &Request) -> Value {
    let mut list = tool_list();
    let more = asking::TOOLS.iter().chain(&TOOLS);
    let more = more.map(|name| json!({"name": name, "inputSchema": {"type": "object"}}));
    let tools = list["tools"].as_array_mut().expect("a list of tools");
    tools.retain(|tool| tool["name"] != "ask");
    tools.extend(more);
    let region = json!({"type": "string", "x-mcp-header": "Region"});
    tools.push(json!({
        "name": "region",
        "inputSchema": {"type": "object", "properties": {"region": region}},
    }));
    tools.push(json!({
        "name": "bad_header",
        "inputSchema": {
            "type": "object",
            "properties": {"ratio": {"type": "number", "x-mcp-header": "Ratio"}},
        },
    }));
    if request.is_modern() {
        tools.push(json!({
            "name": "numbers",
            "inputSchema": {"type": "object"},
            "outputSchema": {"type": "array", "items": {"type": "integer"}},
        }));
    }
    list
}

fn tool(shared: &Shared, behaviour: &Behaviour, request: &Request) -> Option<Script> {
    match request.tool()? {
        "log" => Some(log(shared, behaviour, request)),
        "region" => Some(region(behaviour, request)),
        "numbers" if request.is_modern() => Some(complete(
            behaviour,
            request,
            json!({"content": [], "structuredContent": [1, 2]}),
        )),
        "needs_url" if !request.is_modern() => Some(needs_url(shared, behaviour, request)),
        name => asking::answer(shared, request, name),
    }
}

/// Log lines of three levels, if they are asked for; then the result.
fn log(shared: &Shared, behaviour: &Behaviour, request: &Request) -> Script {
    let asked = if request.is_modern() {
        let meta = request.param("/_meta");
        meta.get(rpc::LOG_LEVEL)
            .and_then(Value::as_str)
            .map(str::to_owned)
    } else {
        let asked = shared.with_session(request.session(), |session| session.log_level.clone());
        // Until a client says what it wants to hear, a server says what it thinks right.
        Some(asked.flatten().unwrap_or_else(|| "info".to_owned()))
    };
    let rank = |level: &str| LEVELS.iter().position(|other| *other == level);
    let least = asked.as_deref().and_then(rank);
    let result = complete(behaviour, request, text("logged"));
    let lines = ["debug", "info", "error"];
    let mut lines = lines
        .iter()
        .filter(|level| least.is_some() && rank(level) >= least)
        .peekable();
    if lines.peek().is_none() {
        return result;
    }
    let lines = lines.fold(Script::events(), |script, level| {
        let params =
            json!({"level": level, "logger": "testkit", "data": format!("a line of {level}")});
        script.message(rpc::notification("notifications/message", &params))
    });
    lines.then(result)
}

/// A tool whose argument is also in a header.
fn region(behaviour: &Behaviour, request: &Request) -> Script {
    let wanted = request.param("/arguments/region");
    let header = request.headers.get("Mcp-Param-Region");
    let must_have = request.is_modern() && request.via == Via::Http;
    if must_have && header != wanted.as_str() {
        return Script::error(400, -32020, "Mcp-Param-Region is not the argument");
    }
    complete(behaviour, request, text(wanted.as_str().unwrap_or("none")))
}

/// Fails until the test has said that the user has been to the page.
fn needs_url(shared: &Shared, behaviour: &Behaviour, request: &Request) -> Script {
    let done = shared.with_session(request.session(), |session| session.elicited);
    if done == Some(true) {
        return complete(behaviour, request, text("been there"));
    }
    let id = format!("elicitation-{}", request.number);
    let elicitation = json!({
        "mode": "url",
        "elicitationId": id,
        "url": "https://example.com/consent",
        "message": "Allow it?",
    });
    let error = rpc::error_with(
        -32042,
        "a user must allow it",
        &json!({"elicitations": [elicitation]}),
    );
    Script::json(error)
}

fn prompts(behaviour: &Behaviour, request: &Request) -> Script {
    // A cursor of a session is worth nothing in another.
    let second = format!("page-2-of-{}", request.session().unwrap_or("all"));
    let result = match request.param("/cursor") {
        Value::Null => json!({"prompts": [{"name": "greet"}], "nextCursor": second}),
        Value::String(cursor) if *cursor == second => json!({"prompts": [{"name": "ask"}]}),
        _ => return Script::error(200, -32602, "no such cursor"),
    };
    complete(behaviour, request, result)
}

fn prompt(shared: &Shared, request: &Request) -> Script {
    let said = |text: &str| json!({"messages": [{"role": "user", "content": {"type": "text", "text": text}}]});
    match request.tool() {
        Some("greet") => plain(request, said("hello")),
        Some("ask") => asking::ask_once(shared, request, said("asked")),
        _ => Script::error(200, -32602, "no such prompt"),
    }
}

fn read(shared: &Shared, behaviour: &Behaviour, request: &Request) -> Script {
    let uri = request.param("/uri").clone();
    let contents = json!({"contents": [{"uri": uri, "text": "text"}]});
    match uri.as_str() {
        Some("file:///a" | "file:///b") => complete(behaviour, request, contents),
        Some("ask:///") => asking::ask_once(shared, request, contents),
        _ => {
            let code = if request.is_modern() { -32602 } else { -32002 };
            let error = rpc::error_with(code, "no such resource", &json!({"uri": uri}));
            Script::json(error)
        }
    }
}

fn set_level(shared: &Shared, request: &Request) -> Script {
    let level = request.param("/level").as_str().unwrap_or_default();
    if !LEVELS.contains(&level) {
        return Script::error(200, -32602, "no such level");
    }
    shared.with_session(request.session(), |session| {
        session.log_level = Some(level.to_owned());
    });
    plain(request, json!({}))
}

fn subscribe(shared: &Shared, request: &Request, wanted: bool) -> Value {
    let uri = request
        .param("/uri")
        .as_str()
        .unwrap_or_default()
        .to_owned();
    shared.with_session(request.session(), |session| {
        session.subscriptions.retain(|other| *other != uri);
        if wanted {
            session.subscriptions.push(uri);
        }
    });
    json!({})
}

/// A result without hints for caches.
pub(super) fn plain(request: &Request, mut result: Value) -> Script {
    if request.is_modern() {
        result["resultType"] = "complete".into();
    }
    Script::json(rpc::result(result))
}

/// What a tool gives that says one thing.
pub(super) fn text(text: &str) -> Value {
    json!({"content": [{"type": "text", "text": text}]})
}

/// The tools of this file that have a schema like others.
const TOOLS: [&str; 2] = ["log", "needs_url"];

/// From the least to the most severe.
const LEVELS: [&str; 8] = [
    "debug",
    "info",
    "notice",
    "warning",
    "error",
    "critical",
    "alert",
    "emergency",
];

/// Whose results have hints for caches.
const CACHEABLE: [&str; 6] = [
    "server/discover",
    "tools/list",
    "prompts/list",
    "resources/list",
    "resources/templates/list",
    "resources/read",
];
