//! The MCP server that the official conformance suite is run against to see whether the server library
//! conforms. It offers what the server on rmcp offers, from the same fixtures.
//!
//! Its standard output is one line that says where it listens.

mod flows;
mod handler;
#[path = "../conformance-server/tasks.rs"]
mod tasks;

use std::error::Error;

use thinpipe_transport::mcp::McpServer;
use thinpipe_transport::mcp::config::{HttpTransportConfig, Resumability};
use tokio::net::TcpListener;

use crate::handler::Fixtures;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let config = HttpTransportConfig::builder()
        .resumability(Resumability::default())
        // The suite keeps more streams of one session open than a client would.
        .max_concurrent_requests(64_usize)
        .build()?;
    let fixtures = Fixtures::load()?;
    let notifier = fixtures.notifier();
    let server = McpServer::streamable(config, fixtures)?.build();
    notifier
        .set(server.notifier().clone())
        .map_err(|_| "set twice")?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on http://{}/mcp", listener.local_addr()?);
    server.serve_on(listener).await?;
    Ok(())
}
