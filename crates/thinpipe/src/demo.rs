//! `thinpipe demo`: a sample server, the gateway in front of it, and a client that shows what happens.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use thinpipe_transport::mcp::McpServer;
use thinpipe_transport::mcp::config::HttpTransportConfig;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::announce::Announcer;
use crate::config::{self, Config, Manner, Settings};
use crate::log;
use crate::run::{self, Running};
use crate::signals::Signals;

mod client;
mod sample;
mod story;

/// The whole demonstration takes less than two seconds where nothing is wrong.
const DEADLINE: Duration = Duration::from_secs(30);

/// Runs the demonstration; with `keep`, the gateway stays until a signal.
///
/// # Errors
/// Anything that did not happen as it should.
pub(crate) fn run(keep: bool, listen: &str) -> anyhow::Result<()> {
    run::main_runtime()?.block_on(async {
        let stop = CancellationToken::new();
        // Watched to the very end: the second signal may come while the first one is obeyed.
        TaskTracker::new().spawn(Signals::new()?.watch(stop.clone()));
        let (sample, address) = start_sample()
            .await
            .context("cannot start the sample server")?;
        let config = gateway_config(address, listen)?;
        log::init(&config.log)?;
        let gateway = Running::start(config, Announcer::silent()).await?;
        let url = format!("http://{}/mcp", gateway.listen);
        let story = async {
            let told = within(&stop, story::tell(&format!("http://{address}/mcp"), &url)).await;
            if keep && told.is_ok() {
                println!("The gateway stays on {url} until Ctrl-C.");
                stop.cancelled().await;
            }
            stop.cancel();
            told
        };
        let (told, ended) = tokio::join!(story, gateway.until(stop.clone()));
        sample.shut_down().await;
        told.and(ended)
    })
}

async fn within(
    stop: &CancellationToken,
    story: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    tokio::select! {
        // The story is dropped in the middle; everything it talks to shuts down next.
        () = stop.cancelled() => anyhow::bail!("stopped before the end"),
        told = tokio::time::timeout(DEADLINE, story) => {
            told.with_context(|| format!("not done within {DEADLINE:?}"))?
        }
    }
}

/// The sample server on a free port, its connections on this thread.
async fn start_sample() -> anyhow::Result<(McpServer, SocketAddr)> {
    let config = HttpTransportConfig::builder()
        // As long as the gateway keeps a session that nobody uses.
        .session_timeout(Duration::from_secs(30 * 60))
        .build()?;
    let server = McpServer::streamable(config, sample::tools())?.build();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    // A task that shutting down waits for: it ends when no connection is accepted any more.
    let accepting = server.server().clone();
    server.server().spawn(async move {
        if let Err(error) = accepting.serve(listener).await {
            tracing::error!(%error, "the sample server stopped");
        }
    });
    Ok((server, address))
}

fn gateway_config(sample: SocketAddr, listen: &str) -> anyhow::Result<Config> {
    let flags = Settings {
        listen: Some(listen.to_owned()),
        admin: Some("off".to_owned()),
        workers: Some("1".to_owned()),
        ..Settings::default()
    };
    let url = format!("http://{sample}/mcp");
    // The story is the output; of the log only what is wrong, unless it is asked for.
    let variable = |name: &str| match (name, std::env::var(name).ok()) {
        ("THINPIPE_LOG", None) => Some("warn".to_owned()),
        (_, value) => value,
    };
    Ok(config::for_url(
        &url,
        Manner::named("sample"),
        &flags,
        &variable,
    )?)
}
