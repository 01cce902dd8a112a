//! What a server's author writes: who the server is, and how it answers requests.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use thinpipe_proto::rpc::Message;

use super::{Context, RpcError};

/// The code of an MCP server. Everything that is the same for all servers is done for it: `initialize`,
/// `ping`, `server/discover`, `logging/setLevel`, subscriptions, cancellation, and the shape of results in
/// each revision.
///
/// ```
/// use serde_json::json;
/// use thinpipe_transport::mcp::{Context, MessageHandler, Outcome, Request, RpcError, ServerInfo};
///
/// struct Greeter;
///
/// impl MessageHandler for Greeter {
///     fn info(&self) -> ServerInfo {
///         ServerInfo::new("greeter", "1.0.0").capability("prompts", json!({}))
///     }
///
///     async fn request(&self, request: Request, _: Context) -> Result<Outcome, RpcError> {
///         match request.method() {
///             "prompts/list" => Ok(json!({ "prompts": [{ "name": "hello" }] }).into()),
///             "prompts/get" => {
///                 let content = json!({ "type": "text", "text": "Say hello." });
///                 Ok(json!({ "messages": [{ "role": "user", "content": content }] }).into())
///             }
///             _ => Err(RpcError::method_not_found(request.method())),
///         }
///     }
/// }
/// ```
pub trait MessageHandler: Send + Sync + 'static {
    /// Who this server is and what it can do. Asked once, before the first request.
    fn info(&self) -> ServerInfo;

    /// Answers a request of a client. Methods of [capabilities](ServerInfo::capability) that were not
    /// declared, and those that are answered for every server, do not come here.
    ///
    /// The future is dropped when the client cancels the request, when its session ends, and, outside of
    /// sessions (2026-07-28), when the client leaves. A panic is answered with an error and harms no other
    /// request.
    ///
    /// # Errors
    /// [`RpcError`] is told to the client. A tool that failed is no such error: it is a
    /// [result](super::ToolResult::error) that says so.
    fn request(
        &self,
        request: Request,
        context: Context,
    ) -> impl Future<Output = Result<Outcome, RpcError>> + Send;

    /// Takes a notification of a client in a session, beside those that are handled for every server
    /// (`notifications/initialized`, `notifications/cancelled`).
    fn notification(
        &self,
        notification: Request,
        context: Context,
    ) -> impl Future<Output = ()> + Send {
        let _ = (notification, context);
        std::future::ready(())
    }

    /// The `inputSchema` of a tool, if it is known: then the `Mcp-Param-*` headers of a call are compared with
    /// its arguments (2026-07-28, "Custom Headers from Tool Parameters").
    fn tool_schema(&self, name: &str) -> Option<&Value> {
        let _ = name;
        None
    }
}

/// Who a server is, and what it can do.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct ServerInfo {
    implementation: Map<String, Value>,
    instructions: Option<String>,
    capabilities: Map<String, Value>,
    cache: Cache,
    sessions_go_on: bool,
}

/// How long clients may keep lists and contents (2026-07-28, `ttlMs` and `cacheScope`), where a result does
/// not say so itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cache {
    /// How long. Default: not at all.
    pub ttl: Duration,
    /// Whether it may be kept for others than whoever asked. Default: false.
    pub public: bool,
}

impl ServerInfo {
    /// A server of this name and version that can do nothing yet.
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Self {
        let mut implementation = Map::new();
        implementation.insert("name".to_owned(), Value::String(name.into()));
        implementation.insert("version".to_owned(), Value::String(version.into()));
        Self {
            implementation,
            instructions: None,
            capabilities: Map::new(),
            cache: Cache::default(),
            sessions_go_on: false,
        }
    }

    /// Its name as people read it.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        let title = Value::String(title.into());
        self.implementation.insert("title".to_owned(), title);
        self
    }

    /// How a model should use it.
    pub fn instructions(mut self, text: impl Into<String>) -> Self {
        self.instructions = Some(text.into());
        self
    }

    /// Declares a capability: `tools`, `prompts`, `resources`, `completions`, `logging`, `extensions`, with its
    /// settings, such as `{"listChanged": true}`. A server only gets requests of capabilities it declares.
    pub fn capability(mut self, name: impl Into<String>, settings: Value) -> Self {
        self.capabilities.insert(name.into(), settings);
        self
    }

    /// How long clients may keep lists and contents.
    pub fn cache(mut self, cache: Cache) -> Self {
        self.cache = cache;
        self
    }

    /// Sessions go on in another process, of several that share their [stores](crate::server::Stores), when this one
    /// shuts down or is gone. It knows what the client declared, its log level and what it has subscribed to; of
    /// anything else that a handler keeps about a session in memory, it knows nothing. Default: a session ends
    /// with its process. So do those of HTTP+SSE in any case, and those that have subscribed to more than 128 KiB of
    /// URIs.
    pub fn with_sessions_that_go_on(mut self) -> Self {
        self.sessions_go_on = true;
        self
    }

    pub(super) fn sessions_go_on(&self) -> bool {
        self.sessions_go_on
    }

    /// Whether a capability is declared, or a setting of it is on.
    #[must_use]
    pub fn can(&self, capability: &str, setting: Option<&str>) -> bool {
        let declared = self.capabilities.get(capability);
        match setting {
            None => declared.is_some(),
            Some(setting) => declared.is_some_and(|d| d[setting] == Value::Bool(true)),
        }
    }

    pub(super) fn implementation(&self) -> &Map<String, Value> {
        &self.implementation
    }

    /// The result of `initialize`, but for the revision.
    pub(super) fn for_initialize(&self, revision: &str) -> Value {
        let mut capabilities = self.capabilities.clone();
        // What came with 2026-07-28 means nothing to anyone who still initializes.
        capabilities.remove("extensions");
        let mut result = json!({
            "protocolVersion": revision,
            "capabilities": capabilities,
            "serverInfo": self.implementation,
        });
        if let Some(text) = &self.instructions {
            result["instructions"] = text.as_str().into();
        }
        result
    }

    /// The result of `server/discover`, but for what all results have.
    pub(super) fn for_discover(&self, revisions: &[&str]) -> Value {
        let mut result = json!({
            "supportedVersions": revisions,
            "capabilities": self.capabilities,
        });
        if let Some(text) = &self.instructions {
            result["instructions"] = text.as_str().into();
        }
        result
    }

    pub(super) fn caching(&self) -> Cache {
        self.cache
    }
}

/// A request or notification of a client.
#[derive(Debug, Clone)]
pub struct Request {
    message: Message,
}

impl Request {
    pub(super) fn new(message: Message) -> Self {
        Self { message }
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &str {
        self.message.method().unwrap_or_default()
    }

    /// The parameters as JSON text; `{}` if there are none.
    #[must_use]
    pub fn params_json(&self) -> Bytes {
        let none = || Bytes::from_static(b"{}");
        self.message.params().unwrap_or_else(none)
    }

    /// The parameters, read as `T`.
    ///
    /// # Errors
    /// `-32602` (Invalid params) that says what is wrong.
    pub fn params<T: DeserializeOwned>(&self) -> Result<T, RpcError> {
        let read = serde_json::from_slice(&self.params_json());
        read.map_err(|error| RpcError::invalid_params(error.to_string()))
    }

    /// One member of the parameters, read as `T`; absent is read as `null`.
    ///
    /// # Errors
    /// `-32602` (Invalid params) that says what is wrong.
    pub fn param<T: DeserializeOwned>(&self, name: &str) -> Result<T, RpcError> {
        let null = || Bytes::from_static(b"null");
        let member = self.message.param(name).unwrap_or_else(null);
        let read = serde_json::from_slice(&member);
        read.map_err(|error| RpcError::invalid_params(format!("{name}: {error}")))
    }

    /// The message itself, with its bytes as they came.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.message
    }
}

/// How a request ends if it does not fail.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The result, an object. What its revision wants beside (`resultType`, `ttlMs`, `cacheScope`, who the
    /// server is) is added.
    Result(Value),
    /// The same as JSON text.
    Text(Bytes),
    /// The client has to answer something first; only for `tools/call`, `prompts/get` and `resources/read`.
    ///
    /// In 2026-07-28 it is told so, and sends the request again with the answers. In sessions the library asks
    /// it, and calls the handler again with the answers. Either way they are then in
    /// [`Context::input`], and the state in [`Context::request_state`].
    InputRequired {
        /// What is asked, by a key of the handler's choice.
        requests: BTreeMap<String, InputRequest>,
        /// What the client is to give back as it is. It comes from the client again: whoever trusts it has to
        /// seal it (2026-07-28, "Multi Round-Trip Requests").
        state: Option<String>,
    },
}

/// A question to the client: `elicitation/create`, `sampling/createMessage` or `roots/list`.
#[derive(Debug, Clone, PartialEq)]
pub struct InputRequest {
    /// The method.
    pub method: String,
    /// Its parameters, an object.
    pub params: Value,
}

impl InputRequest {
    /// Asks the user to fill in a form (`elicitation/create`). `schema`: a flat JSON Schema of an object.
    #[must_use]
    pub fn form(message: &str, schema: &Value) -> Self {
        let params = json!({ "mode": "form", "message": message, "requestedSchema": schema });
        Self {
            method: "elicitation/create".to_owned(),
            params,
        }
    }
}

impl Outcome {
    /// One question, under this key.
    #[must_use]
    pub fn input_required(key: impl Into<String>, request: InputRequest) -> Self {
        Self::InputRequired {
            requests: BTreeMap::from([(key.into(), request)]),
            state: None,
        }
    }
}

impl From<Value> for Outcome {
    fn from(result: Value) -> Self {
        Self::Result(result)
    }
}
