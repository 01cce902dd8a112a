//! A server with a tool for everything that a handler can do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use thinpipe_testkit::{Client, Gate, eventually, rpc};
use thinpipe_transport::mcp::config::{HttpSseConfig, HttpTransportConfig};
use thinpipe_transport::mcp::{
    Context, InputRequest, LogLevel, McpServer, MessageHandler, Outcome, Request, RpcError,
    ServerInfo, Tool, ToolResult, Tools,
};
use tokio::net::TcpListener;

/// What the tools share with the test.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    /// The tool `wait` answers when this opens.
    pub(crate) gate: Gate,
    /// Calls of `wait` that are running.
    pub(crate) running: Arc<AtomicUsize>,
    /// Calls of `wait` that came to their end.
    pub(crate) finished: Arc<AtomicUsize>,
    /// Notifications that the handler got.
    pub(crate) told: Arc<AtomicUsize>,
}

impl Seen {
    /// Until so many calls of `wait` run.
    pub(crate) async fn running(&self, count: usize) {
        eventually("running calls", || async {
            let now = self.running.load(Ordering::SeqCst);
            (now == count)
                .then_some(())
                .ok_or_else(|| format!("{now} run"))
        })
        .await;
    }
}

/// Counts a call for as long as its future is there.
struct Running(Arc<AtomicUsize>);

impl Running {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The handler.
pub(crate) struct Sample {
    tools: Tools,
    seen: Seen,
}

#[derive(Deserialize)]
struct Text {
    text: String,
}

type Done = Result<ToolResult, RpcError>;

impl Sample {
    pub(crate) fn new(seen: &Seen) -> Self {
        let waiting = seen.clone();
        let echo = Tool::new("echo", "Says what it is told").input(json!({
            "type": "object",
            "properties": { "text": { "type": "string", "x-mcp-header": "Text" } },
            "required": ["text"],
        }));
        let tools = Tools::new(info())
            .tool(echo, async |args: Text, _| {
                Done::Ok(ToolResult::text(args.text))
            })
            .tool(
                Tool::new("count", "Reports progress"),
                async |_: Value, context: Context| {
                    for step in [1.0, 2.0, 2.0, 1.5, 3.0] {
                        context.progress(step, Some(3.0), Some("on the way")).await;
                    }
                    Done::Ok(ToolResult::text("counted"))
                },
            )
            .tool(
                Tool::new("wait", "Waits for the test"),
                move |_: Value, context: Context| {
                    let seen = waiting.clone();
                    async move {
                        let _running = Running::new(&seen.running);
                        context.progress(1.0, None, None).await;
                        seen.gate.pass().await;
                        seen.finished.fetch_add(1, Ordering::SeqCst);
                        Done::Ok(ToolResult::text("waited"))
                    }
                },
            )
            .tool(Tool::new("hang", "Never answers"), async |_: Value, _| {
                std::future::pending::<()>().await;
                Done::Ok(ToolResult::text("never"))
            })
            .tool(Tool::new("panic", "Panics"), async |_: Value, _| -> Done {
                panic!("the test wants it so")
            })
            .tool(
                Tool::new("log", "Logs"),
                async |_: Value, context: Context| {
                    for level in [LogLevel::Debug, LogLevel::Info, LogLevel::Error] {
                        context.log(level, Some("test"), level.as_str()).await;
                    }
                    Done::Ok(ToolResult::text("logged"))
                },
            )
            .tool(
                Tool::new("elicit", "Asks in mid-course"),
                async |_: Value, context: Context| {
                    let answer = context.elicit("Who?", &json!({ "type": "object" })).await?;
                    Done::Ok(ToolResult::text(answer["content"]["name"].to_string()))
                },
            )
            .tool(
                Tool::new("require", "Requires input"),
                async |_: Value, context: Context| {
                    Ok(match context.input("who") {
                        Some(who) => ToolResult::text(who["content"]["name"].to_string()).into(),
                        None => {
                            let form = InputRequest::form("Who?", &json!({ "type": "object" }));
                            Outcome::input_required("who", form)
                        }
                    })
                },
            )
            .tool(
                Tool::new("leave", "Has the client come back"),
                leave(seen.clone()),
            );
        Self {
            tools,
            seen: seen.clone(),
        }
    }
}

/// Leaves its stream, and answers when the gate opens.
fn leave(
    seen: Seen,
) -> impl Fn(Value, Context) -> thinpipe_transport::body::BoxFuture<Done> + Send + Sync {
    move |_, context| {
        let seen = seen.clone();
        Box::pin(async move {
            let left = context.leave_stream(Duration::from_millis(20));
            if left {
                seen.gate.pass().await;
            }
            Ok(ToolResult::text(if left { "left" } else { "stayed" }))
        })
    }
}

fn info() -> ServerInfo {
    ServerInfo::new("sample", "1")
        .title("A sample")
        .instructions("Use it well.")
        .capability("tools", json!({ "listChanged": true }))
        .capability("resources", json!({ "subscribe": true }))
        .capability("logging", json!({}))
        .capability("extensions", json!({ "com.example/x": {} }))
}

impl MessageHandler for Sample {
    fn info(&self) -> ServerInfo {
        self.tools.info()
    }

    async fn request(&self, request: Request, context: Context) -> Result<Outcome, RpcError> {
        match request.method() {
            "resources/read" => {
                let uri: String = request.param("uri")?;
                Err(RpcError::resource_not_found(&uri))
            }
            "acme/raw" => Ok(Outcome::Text(request.params_json())),
            "acme/needs" => Err(RpcError::missing_capability(json!({ "sampling": {} }))),
            _ => self.tools.request(request, context).await,
        }
    }

    async fn notification(&self, _: Request, _: Context) {
        self.seen.told.fetch_add(1, Ordering::SeqCst);
    }

    fn tool_schema(&self, name: &str) -> Option<&Value> {
        self.tools.tool_schema(name)
    }
}

/// A running server, and what its tools share with the test.
pub(crate) struct Sampled {
    pub(crate) server: McpServer,
    pub(crate) seen: Seen,
    base: String,
}

impl Sampled {
    /// The endpoint of Streamable HTTP.
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.url("/mcp"))
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// A client in a session.
    pub(crate) async fn session(&self, revision: &str) -> Client {
        let mut client = self.client();
        client.initialize(revision).await;
        client
    }
}

/// Serves the sample over Streamable HTTP.
pub(crate) async fn streamable(config: HttpTransportConfig) -> Sampled {
    let seen = Seen::default();
    let server = McpServer::streamable(config, Sample::new(&seen)).unwrap();
    start(server.build(), seen).await
}

/// Serves the sample over both transports.
pub(crate) async fn both(config: HttpSseConfig) -> Sampled {
    let seen = Seen::default();
    let server = McpServer::http_sse(config, Sample::new(&seen)).unwrap();
    start(server.build(), seen).await
}

pub(crate) async fn start(server: McpServer, seen: Seen) -> Sampled {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let serving = server.clone();
    server
        .server()
        .spawn(async move { serving.serve_on(listener).await.unwrap() });
    Sampled { server, seen, base }
}

/// The text in the result of a tool.
pub(crate) fn text(answer: &Value) -> &str {
    let text = answer
        .pointer("/result/content/0/text")
        .and_then(Value::as_str);
    text.unwrap_or_else(|| panic!("no text in {answer}"))
}

/// A modern call with other client capabilities than none.
pub(crate) fn modern_with(
    id: u64,
    method: &str,
    mut params: Value,
    capabilities: &Value,
) -> rpc::Modern {
    params["_meta"] = json!({ "progressToken": id });
    let mut request = rpc::modern(id, method, params);
    let mut body: Value = serde_json::from_str(&request.body).unwrap();
    body["params"]["_meta"][rpc::CAPABILITIES] = capabilities.clone();
    request.body = body.to_string();
    request
}
