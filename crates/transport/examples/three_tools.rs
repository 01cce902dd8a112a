//! A server with three tools, over Streamable HTTP (all revisions) and HTTP+SSE side by side.
//!
//!     cargo run --example three_tools [ADDRESS]

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use thinpipe_transport::mcp::config::HttpSseConfig;
use thinpipe_transport::mcp::{Context, McpServer, RpcError, ServerInfo, Tool, ToolResult, Tools};
use tokio::net::TcpListener;

#[derive(Deserialize)]
struct Terms {
    a: f64,
    b: f64,
}

#[derive(Deserialize)]
struct Count {
    to: u32,
}

/// What a tool ends with.
type Done = Result<ToolResult, RpcError>;

fn tools() -> Tools {
    let terms = json!({
        "type": "object",
        "properties": { "a": { "type": "number" }, "b": { "type": "number" } },
        "required": ["a", "b"],
    });
    let count = json!({
        "type": "object",
        "properties": { "to": { "type": "integer", "minimum": 1, "maximum": 100 } },
        "required": ["to"],
    });
    Tools::new(ServerInfo::new("three-tools", env!("CARGO_PKG_VERSION")))
        .tool(
            Tool::new("add", "Adds two numbers").input(terms),
            async |terms: Terms, _| Done::Ok(ToolResult::text((terms.a + terms.b).to_string())),
        )
        .tool(
            Tool::new("count", "Counts, and reports progress").input(count),
            async |count: Count, context: Context| {
                for step in 1..=count.to.min(100) {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    let (step, total) = (f64::from(step), f64::from(count.to));
                    context.progress(step, Some(total), None).await;
                }
                Done::Ok(ToolResult::text(format!("counted to {}", count.to)))
            },
        )
        .tool(
            Tool::new("whoami", "Says what the server knows of its client"),
            async |_: Value, context: Context| {
                ToolResult::structured(json!({
                    "client": context.client_info(),
                    "revision": context.revision().as_str(),
                    "binding": context.binding().to_string(),
                }))
            },
        )
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = HttpSseConfig::default();
    let address = std::env::args().nth(1);
    let address = address.unwrap_or_else(|| config.base_config.bind_address.to_string());
    let server = McpServer::http_sse(config, tools())?.build();
    let listener = TcpListener::bind(address).await?;
    println!(
        "listening on http://{}/mcp and /sse",
        listener.local_addr()?
    );
    tokio::select! {
        // Either branch may be dropped: shutting down ends what is being served.
        served = server.serve_on(listener) => served?,
        stopped = tokio::signal::ctrl_c() => {
            stopped?;
            server.shut_down().await;
        }
    }
    Ok(())
}
