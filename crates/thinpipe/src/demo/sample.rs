//! A small MCP server on the server library: three tools, both eras, nothing stored.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use thinpipe_transport::mcp::{
    Context, InputRequest, Outcome, RpcError, ServerInfo, Tool, ToolResult, Tools,
};

/// Between two steps of the tool that counts.
const STEP: Duration = Duration::from_millis(100);

#[derive(Deserialize)]
struct Echo {
    #[serde(default)]
    text: String,
}

#[derive(Deserialize)]
struct Count {
    #[serde(default = "three")]
    to: u32,
}

#[derive(Deserialize)]
struct Question {
    #[serde(default = "name")]
    question: String,
}

/// The server.
pub(crate) fn tools() -> Tools {
    Tools::new(ServerInfo::new(
        "thinpipe-sample",
        env!("CARGO_PKG_VERSION"),
    ))
    .tool(
        tool("echo", "Says what it is told", "text", "string"),
        async |echo: Echo, _| Ok::<_, RpcError>(ToolResult::text(echo.text)),
    )
    .tool(
        tool(
            "count",
            "Counts aloud, one step every 100 ms",
            "to",
            "integer",
        ),
        count,
    )
    .tool(
        tool(
            "ask",
            "Asks the user a question before it answers",
            "question",
            "string",
        ),
        ask,
    )
}

fn tool(name: &str, description: &str, property: &str, kind: &str) -> Tool {
    Tool::new(name, description).input(json!({
        "type": "object", "properties": { property: { "type": kind } },
    }))
}

async fn count(count: Count, context: Context) -> Result<ToolResult, RpcError> {
    let to = count.to.clamp(1, 100);
    for step in 1..=to {
        tokio::time::sleep(STEP).await;
        let total = Some(f64::from(to));
        context.progress(f64::from(step), total, None).await;
    }
    Ok(ToolResult::text(format!("counted to {to}")))
}

/// In a session the client is asked in mid-stream, in 2026-07-28 by the result.
async fn ask(asked: Question, context: Context) -> Result<Outcome, RpcError> {
    let Some(answer) = context.input("name") else {
        let schema = json!({
            "type": "object",
            "properties": { "name": { "type": "string" } },
            "required": ["name"],
        });
        let form = InputRequest::form(&asked.question, &schema);
        return Ok(Outcome::input_required("name", form));
    };
    let name = answer["content"]["name"].as_str();
    let result = match name.filter(|_| answer["action"] == "accept") {
        Some(name) => ToolResult::text(format!("Hello, {name}")),
        None => ToolResult::error("no answer"),
    };
    Ok(result.into())
}

fn three() -> u32 {
    3
}

fn name() -> String {
    "What is your name?".to_owned()
}
