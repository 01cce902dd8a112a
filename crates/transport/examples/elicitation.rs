//! A server that asks the user before it does something. One function does for all revisions: in sessions the
//! library asks while the call runs; in 2026-07-28 the result says what is required, and the client calls again.
//!
//!     cargo run --example elicitation [ADDRESS]

use serde::Deserialize;
use serde_json::json;
use thinpipe_transport::mcp::config::HttpSseConfig;
use thinpipe_transport::mcp::{
    Context, InputRequest, McpServer, Outcome, RpcError, ServerInfo, Tool, ToolResult, Tools,
};
use tokio::net::TcpListener;

#[derive(Deserialize)]
struct Trip {
    to: String,
}

async fn book(trip: Trip, context: Context) -> Result<Outcome, RpcError> {
    let Some(answer) = context.input("seat") else {
        let seat = json!({
            "type": "object",
            "properties": { "seat": { "type": "string", "enum": ["window", "aisle"] } },
            "required": ["seat"],
        });
        let question = InputRequest::form(&format!("Which seat to {}?", trip.to), &seat);
        return Ok(Outcome::input_required("seat", question));
    };
    let text = match (
        answer["action"].as_str(),
        answer["content"]["seat"].as_str(),
    ) {
        (Some("accept"), Some(seat)) => format!("Booked to {}, {seat} seat.", trip.to),
        _ => "Nothing was booked.".to_owned(),
    };
    Ok(ToolResult::text(text).into())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let trip = json!({
        "type": "object",
        "properties": { "to": { "type": "string" } },
        "required": ["to"],
    });
    let tools = Tools::new(ServerInfo::new("elicitation", env!("CARGO_PKG_VERSION"))).tool(
        Tool::new("book", "Books a trip, and asks for the seat").input(trip),
        book,
    );
    let config = HttpSseConfig::default();
    let address = std::env::args().nth(1);
    let address = address.unwrap_or_else(|| config.base_config.bind_address.to_string());
    let server = McpServer::http_sse(config, tools)?.build();
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
