//! The transports, and a server of them.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use thinpipe_store::SessionStore;
use tokio::net::TcpListener;

use super::config::{ConfigError, HttpTransportConfig};
use super::handler::MessageHandler;
use super::service::Service;
use super::subscription::Notifier;
use crate::server::{AccessToken, Handler, Server, ServerBuilder, ServerConfig, SessionManager};

/// A handler with the protocol around it, ready to be mounted.
pub(super) trait Mounted: Handler {
    fn notifier(&self) -> &Notifier;
    fn attach(&self, sessions: &SessionManager);
}

impl<H: MessageHandler> Mounted for Service<H> {
    fn notifier(&self) -> &Notifier {
        &self.notifier
    }

    fn attach(&self, sessions: &SessionManager) {
        Self::attach(self, sessions);
    }
}

/// Name of the endpoint in logs and in the session store.
const ENDPOINT: &str = "mcp";

/// Streamable HTTP: 2025-03-26 to 2025-11-25 with sessions, and 2026-07-28 without, on one path.
#[derive(Clone)]
pub struct StreamableHttpTransport {
    config: HttpTransportConfig,
    service: Arc<dyn Mounted>,
}

impl StreamableHttpTransport {
    /// Serves this handler.
    ///
    /// # Errors
    /// [`ConfigError`] if the configuration says what is not possible.
    pub fn new(
        config: HttpTransportConfig,
        handler: impl MessageHandler,
    ) -> Result<Self, ConfigError> {
        config.server_config()?;
        let service = Service::new(handler, &config);
        Ok(Self { config, service })
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &HttpTransportConfig {
        &self.config
    }

    /// Tells clients that something changed.
    #[must_use]
    pub fn notifier(&self) -> &Notifier {
        self.service.notifier()
    }

    /// Mounts it in a server of several endpoints. [`attach`](Self::attach) has to be called when that is
    /// built.
    pub fn mount(&self, builder: ServerBuilder) -> ServerBuilder {
        let handler: Arc<dyn Handler> = Arc::<dyn Mounted>::clone(&self.service);
        builder.endpoint(&self.config.endpoint, ENDPOINT, handler)
    }

    /// Tells it the sessions of the server that it was mounted in: whom it notifies, and where what a client
    /// leaves goes on.
    pub fn attach(&self, server: &Server) {
        self.service.attach(server.sessions());
    }
}

impl fmt::Debug for StreamableHttpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamableHttpTransport")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// A listening MCP server. Cheap to clone; every clone is the same server.
#[derive(Debug, Clone)]
pub struct McpServer {
    server: Server,
    bind_address: SocketAddr,
    notifier: Notifier,
}

/// Builds an [`McpServer`].
#[must_use]
pub struct McpServerBuilder {
    transport: StreamableHttpTransport,
    config: ServerConfig,
    store: Option<Arc<dyn SessionStore>>,
}

impl McpServer {
    /// Serves this handler over Streamable HTTP.
    ///
    /// # Errors
    /// [`ConfigError`] if the configuration says what is not possible.
    pub fn streamable(
        config: HttpTransportConfig,
        handler: impl MessageHandler,
    ) -> Result<McpServerBuilder, ConfigError> {
        let server = config.server_config()?;
        Ok(McpServerBuilder {
            transport: StreamableHttpTransport::new(config, handler)?,
            config: server,
            store: None,
        })
    }

    /// Listens on [`bind_address`](HttpTransportConfig::bind_address) and serves until it is
    /// [shut down](Self::shut_down).
    ///
    /// # Errors
    /// The address cannot be listened on, or the listener failed for good.
    pub async fn serve(&self) -> std::io::Result<()> {
        self.serve_on(TcpListener::bind(self.bind_address).await?)
            .await
    }

    /// Serves on a listener that is there already.
    ///
    /// # Errors
    /// The listener failed for good.
    pub async fn serve_on(&self, listener: TcpListener) -> std::io::Result<()> {
        self.server.serve(listener).await
    }

    /// Ends it: no new work, then what runs within the time for draining, as [`Server::shut_down`] says.
    pub async fn shut_down(&self) {
        self.server.shut_down().await;
    }

    /// The sessions, of all transports.
    #[must_use]
    pub fn sessions(&self) -> &SessionManager {
        self.server.sessions()
    }

    /// Tells clients that something changed.
    #[must_use]
    pub fn notifier(&self) -> &Notifier {
        &self.notifier
    }

    /// The server side beneath: figures, connections of one's own.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }
}

impl McpServerBuilder {
    /// Keeps sessions in this store instead of in memory.
    pub fn store(mut self, store: Arc<dyn SessionStore>) -> Self {
        self.store = Some(store);
        self
    }

    /// Serves only who brings one of these bearer tokens. Default: everybody.
    pub fn tokens(mut self, tokens: Vec<AccessToken>) -> Self {
        self.config.tokens = tokens;
        self
    }

    /// The server. Must be called inside a tokio runtime, as [`ServerBuilder::build`].
    #[must_use]
    pub fn build(self) -> McpServer {
        let mut builder = self.transport.mount(Server::builder(self.config));
        if let Some(store) = self.store {
            builder = builder.store(store);
        }
        let server = builder.build();
        self.transport.attach(&server);
        McpServer {
            server,
            bind_address: self.transport.config.bind_address,
            notifier: self.transport.notifier().clone(),
        }
    }
}

impl fmt::Debug for McpServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("McpServerBuilder")
            .field("transport", &self.transport)
            .finish_non_exhaustive()
    }
}
