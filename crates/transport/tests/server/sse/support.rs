//! A server with both bindings, and clients of the old one.

use std::sync::Arc;

use thinpipe_testkit::SseClient;
use thinpipe_transport::server::{
    Handler, Server, ServerConfig, SseConfig, SseEndpoint, SseObserver,
};
use tokio::net::TcpListener;

use crate::support::{Running, Sample};

/// What a test can set.
#[derive(Default)]
pub(crate) struct Setup {
    pub(crate) config: Option<ServerConfig>,
    pub(crate) sse: SseConfig,
    pub(crate) observer: Option<Arc<dyn SseObserver>>,
}

/// Serves the sample at `/mcp`, and at `/sse` with `/messages`.
pub(crate) async fn start(setup: Setup) -> Running {
    let sample = Arc::new(Sample::default());
    let handler = Arc::clone(&sample) as Arc<dyn Handler>;
    let (server, address) = serve(setup, handler).await;
    Running {
        server,
        sample,
        address,
        url: format!("http://{address}/mcp"),
    }
}

/// As [`start`], with another handler.
pub(crate) async fn serve(
    setup: Setup,
    handler: Arc<dyn Handler>,
) -> (Server, std::net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = server(setup, handler);
    let accepting = server.clone();
    server.spawn(async move { accepting.serve(listener).await.expect("accepting goes on") });
    (server, address)
}

/// The same without a listener.
pub(crate) fn server(setup: Setup, handler: Arc<dyn Handler>) -> Server {
    let config = setup.config.unwrap_or_else(crate::support::config);
    let endpoint = SseEndpoint {
        sse_path: "/sse".to_owned(),
        messages_path: "/messages".to_owned(),
        name: "sample".into(),
        handler: Arc::clone(&handler),
        config: setup.sse,
        observer: setup.observer,
    };
    Server::builder(config)
        .endpoint("/mcp", "sample", handler)
        .sse_endpoint(endpoint)
        .build()
}

impl Running {
    /// Where streams are opened.
    pub(crate) fn sse_url(&self) -> String {
        format!("http://{}/sse", self.address)
    }

    /// A client with an open stream.
    pub(crate) async fn sse(&self) -> SseClient {
        SseClient::open(&self.sse_url()).await
    }

    /// A client that has been answered `initialize`.
    pub(crate) async fn sse_client(&self) -> SseClient {
        let mut client = self.sse().await;
        client.initialize("2024-11-05").await;
        client
    }
}

/// Runs something beside the test.
pub(crate) fn beside<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio_util::task::TaskTracker::new().spawn(work)
}
