//! An MCP server on the library, as its users write one: a tool with typed arguments, both transports on
//! one listener, on a runtime of one thread. All is as the defaults have it but for what the benchmark would
//! run into: numbers of connections and sessions, and times after which an idle one is closed.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use thinpipe_transport::mcp::config::{HttpSseConfig, HttpTransportConfig};
use thinpipe_transport::mcp::{McpServer, RpcError, ServerInfo, Tool, ToolResult, Tools};
use tokio::net::TcpListener;
use tokio::runtime::Handle;

use super::gauges::{self, Gauges};
use crate::message::Call;

/// Serves until the process is ended. `gauges`: where [`Gauges`] are told.
pub(crate) async fn serve(address: SocketAddr, gauges: SocketAddr) -> Result<()> {
    let server = build()?;
    let gauges = TcpListener::bind(gauges).await?;
    // Cancel-safe: neither ends without an error, and then the process ends.
    tokio::select! {
        ended = gauges::serve(&gauges, || read(&server)) => ended,
        ended = server.serve_on(super::listen(address)?) => Ok(ended?),
    }
}

/// The server. Clients of HTTP+SSE are told about their transport and counted, as the guide has it.
pub(super) fn build() -> Result<McpServer> {
    Ok(McpServer::http_sse(config()?, tools())?.build())
}

fn tools() -> Tools {
    let tool = Tool::new("bench", "answers at once");
    Tools::new(ServerInfo::new("bench", "1")).tool(tool, async |call: Call, _| {
        let mut text = Vec::with_capacity(call.bytes + 32);
        call.text(&mut text);
        let text = String::from_utf8(text);
        let text = text.map_err(|error| RpcError::internal(error.to_string()))?;
        Ok::<_, RpcError>(ToolResult::text(text))
    })
}

fn config() -> Result<HttpSseConfig> {
    let base = HttpTransportConfig::builder()
        .max_connections(MANY)
        .max_streams(MANY)
        .max_sessions(MANY)
        .session_timeout(LONG)
        .keep_alive_timeout(LONG)
        .build()?;
    let config = HttpSseConfig::builder()
        .base_config(base)
        .max_streams(MANY - 1)
        .session_timeout(LONG)
        .build()?;
    Ok(config)
}

fn read(server: &McpServer) -> Gauges {
    let stats = server.server().stats();
    Gauges {
        tasks: Handle::current().metrics().num_alive_tasks(),
        sessions: server.sessions().stats().live,
        streams: stats.streams_open,
        connections: stats.connections_open,
    }
}

const MANY: usize = 100_000;
const LONG: Duration = Duration::from_secs(3600);
