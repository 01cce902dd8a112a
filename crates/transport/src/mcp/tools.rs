//! A server whose tools are functions.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::handler::{MessageHandler, Outcome, Request, ServerInfo};
use super::{Context, RpcError};
use crate::body::BoxFuture;

/// A [`MessageHandler`] that has tools and nothing else.
///
/// ```
/// use serde::Deserialize;
/// use serde_json::json;
/// use thinpipe_transport::mcp::{RpcError, ServerInfo, Tool, ToolResult, Tools};
///
/// #[derive(Deserialize)]
/// struct Terms {
///     a: f64,
///     b: f64,
/// }
///
/// let add = Tool::new("add", "Adds two numbers")
///     .input(json!({
///         "type": "object",
///         "properties": { "a": { "type": "number" }, "b": { "type": "number" } },
///         "required": ["a", "b"],
///     }));
/// let tools = Tools::new(ServerInfo::new("calculator", "1.0.0"))
///     .tool(add, async |terms: Terms, _| Ok::<_, RpcError>(ToolResult::text((terms.a + terms.b).to_string())));
/// # let _ = tools;
/// ```
#[must_use]
pub struct Tools {
    info: ServerInfo,
    tools: Vec<(Tool, Arc<Function>)>,
}

/// Arguments as JSON text.
type Function = dyn Fn(Bytes, Context) -> BoxFuture<Result<Outcome, RpcError>> + Send + Sync;

/// What clients are told of a tool.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct Tool {
    name: String,
    listed: Value,
}

impl Tool {
    /// A tool of this name, with a description for the model. It takes no arguments until
    /// [`input`](Self::input) says otherwise.
    pub fn new(name: impl Into<String>, description: impl Into<String>) -> Self {
        let name = name.into();
        let listed = json!({
            "name": name,
            "description": description.into(),
            "inputSchema": { "type": "object" },
        });
        Self { name, listed }
    }

    /// JSON Schema of its arguments, an object. The server reads arguments as the function's type wants them;
    /// it does not check them against this.
    pub fn input(self, schema: Value) -> Self {
        self.member("inputSchema", schema)
    }

    /// Another member of its description: `title`, `outputSchema`, `annotations`, `icons`.
    pub fn member(mut self, name: &str, value: Value) -> Self {
        self.listed[name] = value;
        self
    }
}

/// What a tool answers.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolResult {
    result: Value,
}

impl ToolResult {
    /// A text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        let mut part = Map::new();
        part.insert("type".to_owned(), "text".into());
        part.insert("text".to_owned(), Value::String(text.into()));
        Self::content(Value::Array(vec![Value::Object(part)]))
    }

    /// Any content, an array.
    #[must_use]
    pub fn content(content: Value) -> Self {
        // Not with `json!`, which copies what is put in, member by member.
        let mut result = Map::new();
        result.insert("content".to_owned(), content);
        Self {
            result: Value::Object(result),
        }
    }

    /// The tool failed, and the model should know why.
    #[must_use]
    pub fn error(text: impl Into<String>) -> Self {
        let mut failed = Self::text(text);
        failed.result["isError"] = true.into();
        failed
    }

    /// A value for programs, with itself as text for everybody else.
    ///
    /// # Errors
    /// `-32603`, if it cannot be written as JSON.
    pub fn structured(value: impl Serialize) -> Result<Self, RpcError> {
        let value = serde_json::to_value(value);
        let value = value.map_err(|error| RpcError::internal(error.to_string()))?;
        let mut answer = Self::text(value.to_string());
        answer.result["structuredContent"] = value;
        Ok(answer)
    }
}

impl From<ToolResult> for Outcome {
    fn from(answer: ToolResult) -> Self {
        Self::Result(answer.result)
    }
}

impl Tools {
    /// A server without tools.
    pub fn new(info: ServerInfo) -> Self {
        Self {
            info: if info.can("tools", None) {
                info
            } else {
                info.capability("tools", json!({}))
            },
            tools: Vec::new(),
        }
    }

    /// Adds a tool. Its arguments are read as `A`; what is not fit for that is answered with `-32602`. A tool of
    /// the same name that was there before is replaced.
    pub fn tool<A, F, R>(
        mut self,
        tool: Tool,
        function: impl Fn(A, Context) -> F + Send + Sync + 'static,
    ) -> Self
    where
        A: DeserializeOwned + Send,
        F: Future<Output = Result<R, RpcError>> + Send + 'static,
        R: Into<Outcome>,
    {
        let function = move |arguments: Bytes, context: Context| -> BoxFuture<_> {
            match serde_json::from_slice::<A>(&arguments) {
                Ok(arguments) => {
                    let called = function(arguments, context);
                    Box::pin(async move { called.await.map(Into::into) })
                }
                Err(error) => {
                    let error = RpcError::invalid_params(format!("arguments: {error}"));
                    Box::pin(std::future::ready(Err(error)))
                }
            }
        };
        self.tools.retain(|(known, _)| known.name != tool.name);
        self.tools.push((tool, Arc::new(function)));
        self
    }

    fn named(&self, name: &str) -> Option<&(Tool, Arc<Function>)> {
        self.tools.iter().find(|(tool, _)| tool.name == name)
    }

    async fn call(&self, request: &Request, context: Context) -> Result<Outcome, RpcError> {
        let message = request.message();
        let name = message.param_text("name");
        let name = name.ok_or_else(|| RpcError::invalid_params("name is not a text"))?;
        let (_, function) = self
            .named(&name)
            .ok_or_else(|| RpcError::invalid_params(format!("there is no tool {name:?}")))?;
        let arguments = message.param("arguments").filter(|text| text != "null");
        function(
            arguments.unwrap_or_else(|| Bytes::from_static(b"{}")),
            context,
        )
        .await
    }
}

impl MessageHandler for Tools {
    fn info(&self) -> ServerInfo {
        self.info.clone()
    }

    async fn request(&self, request: Request, context: Context) -> Result<Outcome, RpcError> {
        match request.method() {
            "tools/list" => {
                if request.param::<Option<Value>>("cursor")?.is_some() {
                    return Err(RpcError::invalid_params("there is one page only"));
                }
                let listed: Vec<_> = self.tools.iter().map(|(tool, _)| &tool.listed).collect();
                Ok(json!({ "tools": listed }).into())
            }
            "tools/call" => self.call(&request, context).await,
            other => Err(RpcError::method_not_found(other)),
        }
    }

    fn tool_schema(&self, name: &str) -> Option<&Value> {
        let (tool, _) = self.named(name)?;
        tool.listed.get("inputSchema")
    }
}

impl fmt::Debug for Tools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.tools.iter().map(|(tool, _)| &tool.name).collect();
        f.debug_struct("Tools")
            .field("info", &self.info)
            .field("tools", &names)
            .finish()
    }
}
