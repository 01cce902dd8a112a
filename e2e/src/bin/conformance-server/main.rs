//! The MCP server that the official conformance suite is run against, direct and through Thinpipe.
//!
//! It is built on rmcp, so that the gateway meets a server nobody here wrote, and offers what the
//! suite's server scenarios ask for: sessions up to 2025-11-25, and 2026-07-28 without. Its
//! standard output is one line that says where it listens; with the argument `stdio` it listens nowhere, and
//! speaks there.

mod asking;
mod fixtures;
mod flows;
mod handler;
mod tasks;

use std::env;
use std::error::Error;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rmcp::ServiceExt as _;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use crate::fixtures::Fixtures;
use crate::handler::Handler;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let handler = Handler::new(Fixtures::load()?);
    if env::args().nth(1).as_deref() == Some("stdio") {
        handler
            .serve(rmcp::transport::stdio())
            .await?
            .waiting()
            .await?;
        return Ok(());
    }
    let service = StreamableHttpService::new(
        move || Ok(handler.clone()),
        Arc::new(LocalSessionManager::default()),
        StreamableHttpServerConfig::default(),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on http://{}/mcp", listener.local_addr()?);

    let connections = TaskTracker::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = TowerToHyperService::new(service.clone());
        // A connection that fails is the peer's affair; its own log says why.
        connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}
