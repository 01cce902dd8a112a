//! How an upstream behaves when no script says otherwise: revision 2026-07-28.

use serde_json::{Value, json};

use crate::rpc;
use crate::upstream::behaviour::{self, Behaviour, Era};
use crate::upstream::record::{Request, Via};
use crate::upstream::script::Script;
use crate::upstream::shared::Shared;
use crate::upstream::{features, listens};

pub(super) fn answer(shared: &Shared, behaviour: &Behaviour, request: &Request) -> Script {
    if request.id.is_none() {
        return Script::accepted();
    }
    if let Some(refusal) = refused(behaviour, request) {
        return refusal;
    }
    if behaviour.full
        && let Some(script) = features::answer(shared, behaviour, request)
    {
        return script;
    }
    let complete = |result| features::complete(behaviour, request, result);
    match request.rpc_method() {
        Some("server/discover") if behaviour.full => complete(json!({
            "supportedVersions": supported(behaviour),
            "capabilities": behaviour.capabilities,
            "instructions": "Ask for a seat.",
        })),
        Some("server/discover") => complete(json!({
            "supportedVersions": supported(behaviour),
            "capabilities": {"tools": {"listChanged": true}},
        })),
        Some("tools/list") => complete(behaviour::tool_list()),
        Some("tools/call") => call(shared, behaviour, request),
        Some("subscriptions/listen") => listens::open(shared, behaviour, request),
        _ => Script::error(404, -32601, "no such method"),
    }
}

/// The refusal of a revision that is not served.
pub(super) fn unsupported(behaviour: &Behaviour, requested: &str) -> Script {
    let data = json!({"supported": supported(behaviour), "requested": requested});
    Script::status(400)
        .content_type("application/json")
        .whole(rpc::error_with(-32022, "revision not supported", &data))
}

/// Why a request is refused before anybody looks at its method, if it is.
fn refused(behaviour: &Behaviour, request: &Request) -> Option<Script> {
    let mismatch = |what: &str| Some(Script::error(400, -32020, what));
    let Some(claim) = request.claim() else {
        return Some(Script::error(400, -32602, "no claim in _meta"));
    };
    let Some(claim) = claim.as_str() else {
        return Some(Script::error(400, -32602, "the claim is no string"));
    };
    let one = |name| {
        let mut values = request.headers.all(name);
        values.next().filter(|_| values.next().is_none())
    };
    if request.headers.contains("MCP-Protocol-Version")
        && one("MCP-Protocol-Version") != Some(claim)
    {
        return mismatch("MCP-Protocol-Version differs from the claim");
    }
    if claim != rpc::MODERN {
        return Some(unsupported(behaviour, claim));
    }
    let meta = request
        .json()
        .pointer("/params/_meta")
        .cloned()
        .unwrap_or_default();
    if !meta.get(rpc::CAPABILITIES).is_some_and(Value::is_object) {
        return Some(Script::error(400, -32602, "no clientCapabilities in _meta"));
    }
    if request.via == Via::Stdio {
        return None;
    }
    if one("MCP-Protocol-Version").is_none() {
        return mismatch("not one MCP-Protocol-Version");
    }
    if one("Mcp-Method") != request.rpc_method() {
        return mismatch("Mcp-Method is not the method");
    }
    let named = match request.rpc_method() {
        Some("tools/call" | "prompts/get") => request.json().pointer("/params/name"),
        Some("resources/read") => request.json().pointer("/params/uri"),
        _ => None,
    };
    // Sentinels are not decoded: tests that send them look at the header as it came.
    let header = one("Mcp-Name");
    let plain = header.is_some_and(|value| !value.starts_with("=?base64?"));
    if named.is_some() && (header.is_none() || plain && header != named.and_then(Value::as_str)) {
        return mismatch("Mcp-Name is not the name");
    }
    None
}

fn supported(behaviour: &Behaviour) -> Vec<&'static str> {
    match behaviour.era {
        Era::Stateless => vec![rpc::MODERN],
        Era::Both => [&[rpc::MODERN][..], &rpc::LEGACY].concat(),
        Era::Sessions => rpc::LEGACY.to_vec(),
    }
}

/// The tools of the revisions with sessions, with results of this revision.
fn call(shared: &Shared, behaviour: &Behaviour, request: &Request) -> Script {
    if request.tool() == Some("ask") && !behaviour.full {
        return Script::error(
            400,
            -32602,
            "no such tool in a revision without server requests",
        );
    }
    behaviour::tool(shared, behaviour, request, rpc::MODERN)
}
