//! The figures of Thinpipe. This program is all parts of the benchmark but the gateway itself and
//! nginx: the upstream, the bare proxy, the servers, the load client and the report.

mod baseline;
mod clock;
mod figures;
mod floor;
mod histogram;
mod load;
mod machine;
mod message;
mod report;
mod run;
mod server;
mod summary;
mod upstream;
mod wire;

use std::net::SocketAddr;

use clap::Parser;

#[derive(Parser)]
#[command(name = "thinpipe-bench")]
enum Command {
    /// A fast MCP server with counters at /_stats.
    Upstream {
        #[arg(long)]
        listen: SocketAddr,
        /// What a GET stream carries.
        #[arg(long, value_enum, default_value = "idle")]
        listening: upstream::Listening,
    },
    /// A bare hyper proxy.
    Floor {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        upstream: SocketAddr,
    },
    /// A server on the library, over Streamable HTTP and HTTP+SSE.
    Library {
        #[arg(long)]
        listen: SocketAddr,
        /// Where it tells what it holds.
        #[arg(long)]
        gauges: SocketAddr,
    },
    /// A bare hyper server that answers the same bytes.
    Bare {
        #[arg(long)]
        listen: SocketAddr,
    },
    /// A server on stdin and stdout.
    Stdio,
    /// Measure and report.
    Run(run::Options),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Upstream { listen, listening } => upstream::serve(listen, listening).await,
        Command::Floor { listen, upstream } => floor::serve(listen, upstream).await,
        Command::Library { listen, gauges } => server::library::serve(listen, gauges).await,
        Command::Bare { listen } => server::bare::serve(listen).await,
        Command::Stdio => server::stdio::serve(),
        Command::Run(options) => options.run().await,
    }
}
