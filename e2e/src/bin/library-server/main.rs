//! The MCP server that the official conformance suite is run against to see whether the server library
//! conforms. It offers what the server on rmcp offers, from the same fixtures.
//!
//! Its standard output is one line that says where it listens.

mod flows;
mod handler;
#[path = "../conformance-server/tasks.rs"]
mod tasks;

use std::env;
use std::error::Error;

use thinpipe_transport::mcp::McpServer;
use thinpipe_transport::mcp::config::{HttpSseConfig, HttpTransportConfig, Resumability};
use tokio::net::TcpListener;

use crate::handler::Fixtures;

/// Over HTTP+SSE with the argument `sse`.
#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let config = HttpTransportConfig::builder()
        .resumability(Resumability::default())
        // The suite keeps more streams of one session open than a client would.
        .max_concurrent_requests(64_usize)
        .max_connections(2_000_usize)
        .build()?;
    let config = HttpSseConfig::builder().base_config(config).build()?;
    let over_sse = env::args().nth(1).as_deref() == Some("sse");
    let path = if over_sse {
        config.sse_endpoint.clone()
    } else {
        config.base_config.endpoint.clone()
    };
    let fixtures = Fixtures::load()?;
    let notifier = fixtures.notifier();
    let server = McpServer::http_sse(config, fixtures)?.build();
    notifier
        .set(server.notifier().clone())
        .map_err(|_| "set twice")?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on http://{}{path}", listener.local_addr()?);
    server.serve_on(listener).await?;
    Ok(())
}
