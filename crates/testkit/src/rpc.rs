//! JSON-RPC messages of every revision, as text, in the order people write them.
//!
//! Functions that make answers leave out the id: [`REQUEST_ID`] stands there, and an
//! [`Upstream`](crate::Upstream) puts in the id of the request it answers, byte for byte.

use serde_json::{Value, json};

use crate::wire::Headers;

/// Stands for the id of the request in the texts of a [`Script`](crate::Script).
pub const REQUEST_ID: &str = "\"$ID\"";

/// Stands for the progress token of the request in the texts of a [`Script`](crate::Script).
pub const PROGRESS_TOKEN: &str = "\"$TOKEN\"";

/// Stands, as a JSON string, for what the client has answered to the request with this id (a string) that
/// the script has waited for: the result, or the error.
#[must_use]
pub fn answer_to(id: &str) -> String {
    format!("$ANSWER:{id}")
}

/// The stateless revision.
pub const MODERN: &str = "2026-07-28";

/// The revisions with sessions, newest first.
pub const LEGACY: [&str; 3] = ["2025-11-25", "2025-06-18", "2025-03-26"];

/// The revision that came with HTTP+SSE.
pub const OLDEST: &str = "2024-11-05";

/// Key of the claim in `_meta`.
pub const CLAIM: &str = "io.modelcontextprotocol/protocolVersion";

/// Key of the client's capabilities in `_meta`.
pub const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

/// Key of the log level that a request asks for.
pub const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";

/// Key of the server's name and version in the `_meta` of what it answers.
pub const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";

/// Key of the listen request's id in the `_meta` of what it brings.
pub const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

/// A request.
#[must_use]
pub fn request(id: impl Into<Value>, method: &str, params: &Value) -> String {
    let id = id.into();
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#)
}

/// A notification.
#[must_use]
pub fn notification(method: &str, params: &Value) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#)
}

/// What a client answers to a server's request.
#[must_use]
pub fn response(id: impl Into<Value>, result: &Value) -> String {
    let id = id.into();
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
}

/// The result of the request that is being answered.
#[must_use]
pub fn result(result: Value) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{REQUEST_ID},"result":{result}}}"#)
}

/// The error of the request that is being answered.
#[must_use]
pub fn error(code: i64, message: &str) -> String {
    error_with(code, message, &Value::Null)
}

/// The error of the request that is being answered, with data.
#[must_use]
pub fn error_with(code: i64, message: &str, data: &Value) -> String {
    let message = Value::from(message);
    let data = if data.is_null() {
        String::new()
    } else {
        format!(r#","data":{data}"#)
    };
    format!(
        r#"{{"jsonrpc":"2.0","id":{REQUEST_ID},"error":{{"code":{code},"message":{message}{data}}}}}"#
    )
}

/// A progress notification for the request that is being answered.
#[must_use]
pub fn progress(done: usize, total: usize) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{PROGRESS_TOKEN},"progress":{done},"total":{total}}}}}"#
    )
}

/// The result of a tool that says one thing.
#[must_use]
pub fn text_result(text: &str) -> String {
    result(json!({"content": [{"type": "text", "text": text}]}))
}

/// As [`text_result`], of revision 2026-07-28.
#[must_use]
pub fn modern_text_result(text: &str) -> String {
    result(json!({"resultType": "complete", "content": [{"type": "text", "text": text}]}))
}

/// `initialize`, asking for this revision.
#[must_use]
pub fn initialize(id: impl Into<Value>, revision: &str) -> String {
    let declared = json!({"elicitation": {}, "roots": {"listChanged": true}, "sampling": {}});
    initialize_declaring(id, revision, &declared)
}

/// As [`initialize`], declaring these client capabilities.
#[must_use]
pub fn initialize_declaring(id: impl Into<Value>, revision: &str, declared: &Value) -> String {
    let params = json!({
        "protocolVersion": revision,
        "capabilities": declared,
        "clientInfo": {"name": "testkit", "version": "1"},
    });
    request(id, "initialize", &params)
}

/// The result of `initialize`, agreeing on this revision.
#[must_use]
pub fn initialize_result(revision: &str) -> String {
    result(json!({
        "protocolVersion": revision,
        "capabilities": {"tools": {"listChanged": true}, "prompts": {}, "resources": {}, "logging": {}},
        "serverInfo": {"name": "counting-upstream", "version": "1"},
    }))
}

/// `notifications/initialized`.
#[must_use]
pub fn initialized() -> String {
    r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#.to_owned()
}

/// `tools/call` without arguments.
#[must_use]
pub fn call(id: impl Into<Value>, tool: &str) -> String {
    call_with(id, tool, &json!({}))
}

/// `tools/call` with these arguments. The progress token is the id.
#[must_use]
pub fn call_with(id: impl Into<Value>, tool: &str, arguments: &Value) -> String {
    let id = id.into();
    let meta = json!({"progressToken": &id});
    request(
        id,
        "tools/call",
        &json!({"name": tool, "arguments": arguments, "_meta": meta}),
    )
}

/// A request of revision 2026-07-28: the body, and the headers that must go with it.
#[derive(Debug, Clone)]
pub struct Modern {
    /// The JSON-RPC request, with `_meta`.
    pub body: String,
    /// `MCP-Protocol-Version`, `Mcp-Method` and, for the methods that have one, `Mcp-Name`.
    pub headers: Headers,
}

/// A request of revision 2026-07-28. `params` must be an object; its `_meta` is kept and added to.
///
/// # Panics
/// If `params` is no object.
#[must_use]
pub fn modern(id: impl Into<Value>, method: &str, params: Value) -> Modern {
    modern_at(MODERN, id, method, params)
}

/// As [`modern`], with this revision in the header and in the claim.
///
/// # Panics
/// If `params` is no object.
#[must_use]
pub fn modern_at(revision: &str, id: impl Into<Value>, method: &str, mut params: Value) -> Modern {
    let object = params.as_object_mut().expect("params are an object");
    let name = match method {
        "tools/call" | "prompts/get" => object.get("name"),
        "resources/read" => object.get("uri"),
        _ => None,
    };
    let mut headers = Headers::new();
    headers.push("MCP-Protocol-Version", revision);
    headers.push("Mcp-Method", method);
    if let Some(name) = name.and_then(Value::as_str) {
        headers.push("Mcp-Name", name);
    }
    let meta = object.entry("_meta").or_insert_with(|| json!({}));
    meta[CLAIM] = revision.into();
    meta[CAPABILITIES] = json!({});
    meta["io.modelcontextprotocol/clientInfo"] = json!({"name": "testkit", "version": "1"});
    Modern {
        body: request(id, method, &params),
        headers,
    }
}

impl Modern {
    /// Declaring these client capabilities instead of none.
    #[must_use]
    pub fn declaring(self, capabilities: &Value) -> Self {
        self.with_meta(CAPABILITIES, capabilities.clone())
    }

    /// With this in its `_meta`, also if something else stood there.
    ///
    /// # Panics
    /// If the body has been replaced by something without `_meta`.
    #[must_use]
    pub fn with_meta(mut self, key: &str, value: impl Into<Value>) -> Self {
        let body = serde_json::from_str(&self.body);
        let mut body: Value = body.expect("the body of a request is JSON");
        body["params"]["_meta"][key] = value.into();
        self.body = body.to_string();
        self
    }
}

/// `tools/call` of revision 2026-07-28. The progress token is the id.
#[must_use]
pub fn modern_call(id: impl Into<Value>, tool: &str) -> Modern {
    let id = id.into();
    let meta = json!({"progressToken": &id});
    modern(
        id,
        "tools/call",
        json!({"name": tool, "arguments": {}, "_meta": meta}),
    )
}
