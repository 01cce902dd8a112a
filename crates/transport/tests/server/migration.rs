//! From the configuration of HTTP+SSE to a server that runs.

use thinpipe_testkit::rpc;
use thinpipe_transport::mcp::config::HttpSseConfig;
use thinpipe_transport::migration::MigrationHelper;

use crate::support::{call, start};

/// A24: the generated configuration starts a server that answers, and its limits are those that were
/// generated: sessions that HTTP+SSE had room for have room.
#[tokio::test]
async fn a24_the_generated_configuration_starts_a_streamable_server() {
    let mut old = HttpSseConfig {
        max_streams: 3,
        ..HttpSseConfig::default()
    };
    old.base_config.max_sessions = 2;
    let config = MigrationHelper::generate_streamable_config(&old);
    let running = start(config.server_config().unwrap()).await;
    let mut clients = Vec::new();
    for revision in ["2025-03-26", "2025-06-18", "2025-11-25"] {
        clients.push(running.client(revision).await);
    }
    for client in &clients {
        let mut answer = client.post(call(7, "echo")).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json().await["result"]["content"][0]["text"], "done");
    }
    let one_more = running.stranger().post(rpc::initialize(1, "2025-11-25"));
    assert_eq!(one_more.await.status, 503);
}
