//! A server that is to leave HTTP+SSE: it announces when, and at its end says who still came. The guide
//! `docs/src/migration.md` begins with it.

use thinpipe_transport::mcp::config::HttpSseConfig;
use thinpipe_transport::mcp::{McpServer, ServerInfo, Tools};
use tokio::net::TcpListener;

const CONFIG: &str = r#"{
    "max_streams": 800,
    "deprecation": { "migration": "active", "sunset": "2027-07-28" }
}"#;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Without a subscriber of `tracing` nothing is logged, and so no warning either.
    tracing_subscriber::fmt::init();
    let config: HttpSseConfig = serde_json::from_str(CONFIG)?;
    let address = std::env::args().nth(1);
    let address = address.unwrap_or_else(|| config.base_config.bind_address.to_string());
    let tools = Tools::new(ServerInfo::new("calculator", "1.0.0"));
    let server = McpServer::http_sse(config, tools)?.build();
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}/sse", listener.local_addr()?);
    tokio::select! {
        // Either branch may be dropped: shutting down ends what is being served.
        served = server.serve_on(listener) => served?,
        stopped = tokio::signal::ctrl_c() => {
            stopped?;
            server.shut_down().await;
        }
    }
    if let Some(inventory) = server.inventory() {
        println!("{}", serde_json::to_string_pretty(&inventory.report())?);
    }
    Ok(())
}
