//! An MCP server as a part of a web application: mounted in axum as a tower service, beside a page of its own.
//!
//!     cargo run --example axum [ADDRESS]

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::middleware::{self, Next};
use axum::routing::get;
use serde_json::Value;
use std::net::SocketAddr;
use thinpipe_transport::mcp::config::HttpSseConfig;
use thinpipe_transport::mcp::{Context, McpServer, RpcError, ServerInfo, Tool, ToolResult, Tools};
use tokio::net::TcpListener;

/// Tells the MCP server who the peer is: it logs that, and hands it to tools.
async fn with_peer(
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> axum::response::Response {
    request.extensions_mut().insert(peer);
    next.run(request).await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let whence = Tool::new("whence", "Says where its client is");
    let tools = Tools::new(ServerInfo::new("axum", env!("CARGO_PKG_VERSION"))).tool(
        whence,
        async |_: Value, context: Context| {
            let client = context.client().map(|address| address.to_string());
            Ok::<_, RpcError>(ToolResult::text(client.unwrap_or_default()))
        },
    );
    // axum strips the prefix, so clients of HTTP+SSE have to be told of it.
    let config = HttpSseConfig::builder()
        .public_base(Some("/tools".to_owned()))
        .build()?;
    let server = McpServer::http_sse(config, tools)?.build();
    let app = Router::new()
        .route(
            "/",
            get(async || "The MCP server is at /tools/mcp and /tools/sse.\n"),
        )
        .nest_service("/tools", server.server().service())
        .layer(middleware::from_fn(with_peer));

    let address = std::env::args().nth(1);
    let listener = TcpListener::bind(address.as_deref().unwrap_or("127.0.0.1:3000")).await?;
    println!(
        "listening on http://{}/tools/mcp and /tools/sse",
        listener.local_addr()?
    );
    let stopping = server.clone();
    axum::serve(
        listener,
        app.into_make_service_with_connect_info::<SocketAddr>(),
    )
    .with_graceful_shutdown(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stopping.shut_down().await;
        }
    })
    .await?;
    Ok(())
}
