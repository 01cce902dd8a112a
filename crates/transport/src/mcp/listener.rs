//! A server of the transports.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use thinpipe_store::SessionStore;
use tokio::net::TcpListener;

use super::config::{ConfigError, HttpSseConfig, HttpTransportConfig};
use super::handler::MessageHandler;
use super::pages;
use super::subscription::Notifier;
use super::transport::{HttpSseTransport, StreamableHttpTransport};
use crate::server::{
    AccessToken, ClientInventory, Server, ServerConfig, SessionManager, SseObserver, Stores,
};

/// An MCP server, ready to listen. Cheap to clone; every clone is the same server.
#[derive(Debug, Clone)]
pub struct McpServer {
    server: Server,
    bind_address: SocketAddr,
    notifier: Notifier,
    inventory: Option<ClientInventory>,
}

/// Builds an [`McpServer`].
#[must_use]
pub struct McpServerBuilder {
    streamable: StreamableHttpTransport,
    http_sse: Option<HttpSseTransport>,
    config: ServerConfig,
    stores: Option<Stores>,
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
            streamable: StreamableHttpTransport::new(config, handler)?,
            http_sse: None,
            config: server,
            stores: None,
        })
    }

    /// Serves this handler over Streamable HTTP, and over HTTP+SSE beside it.
    ///
    /// # Errors
    /// [`ConfigError`] if the configuration says what is not possible.
    pub fn http_sse(
        config: HttpSseConfig,
        handler: impl MessageHandler,
    ) -> Result<McpServerBuilder, ConfigError> {
        let server = config.server_config()?;
        let mut builder = Self::streamable(config.base_config.clone(), handler)?;
        builder.config = server;
        builder.http_sse = Some(HttpSseTransport::beside(config, &builder.streamable)?);
        Ok(builder)
    }

    /// Listens on [`bind_address`](HttpTransportConfig::bind_address) and serves until
    /// [`shut_down`](Self::shut_down) is done, as [`serve_on`](Self::serve_on) does.
    ///
    /// # Errors
    /// The address cannot be listened on, or the listener failed for good.
    pub async fn serve(&self) -> std::io::Result<()> {
        let address = self.bind_address;
        let listener = TcpListener::bind(address).await.map_err(|error| {
            let text = format!("{address} cannot be listened on: {error}");
            std::io::Error::new(error.kind(), text)
        })?;
        self.serve_on(listener).await
    }

    /// Serves on a listener that is there already, until [`shut_down`](Self::shut_down) is done: a program may end when
    /// this returns, and cuts nothing off. Do not hand it to [`Server::spawn`], whose tasks shutting down waits for.
    ///
    /// # Errors
    /// The listener failed for good.
    pub async fn serve_on(&self, listener: TcpListener) -> std::io::Result<()> {
        self.server.serve(listener).await?;
        // Among several nodes, no connection is accepted from the beginning of shutting down, while calls run on.
        self.server.ended().await;
        Ok(())
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

    /// Which clients still come over HTTP+SSE; `None` if that is not served.
    #[must_use]
    pub fn inventory(&self) -> Option<&ClientInventory> {
        self.inventory.as_ref()
    }

    /// The server side beneath: figures, connections of one's own.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }
}

impl McpServerBuilder {
    /// Keeps sessions in this store instead of in memory.
    pub fn store(self, store: Arc<dyn SessionStore>) -> Self {
        self.stores(Stores {
            sessions: store,
            shared: None,
        })
    }

    /// Keeps sessions, and what several processes share, in these stores: with [`Stores::shared`] each takes any request,
    /// and sends what only another can answer there. Sessions end with the process that has them, unless the server says
    /// [that they go on](super::ServerInfo::with_sessions_that_go_on).
    pub fn stores(mut self, stores: Stores) -> Self {
        self.stores = Some(stores);
        self
    }

    /// Serves only who brings one of these bearer tokens. Default: everybody.
    pub fn tokens(mut self, tokens: Vec<AccessToken>) -> Self {
        self.config.tokens = tokens;
        self
    }

    /// Has somebody else see the clients of HTTP+SSE too: see [`HttpSseTransport::observed_by`].
    ///
    /// # Errors
    /// [`ConfigError::NoHttpSse`]: it would never see any.
    pub fn observed_by(mut self, observer: Arc<dyn SseObserver>) -> Result<Self, ConfigError> {
        let http_sse = self.http_sse.take().ok_or(ConfigError::NoHttpSse)?;
        self.http_sse = Some(http_sse.observed_by(observer));
        Ok(self)
    }

    /// The server. Must be called inside a tokio runtime, as
    /// [`ServerBuilder::build`](crate::server::ServerBuilder::build).
    #[must_use]
    pub fn build(self) -> McpServer {
        let mut builder = self.streamable.mount(Server::builder(self.config));
        if let Some(http_sse) = &self.http_sse {
            builder = http_sse.mount(builder);
        }
        if self.streamable.config().pages {
            builder = pages::mount(builder, self.streamable.config());
        }
        if let Some(stores) = self.stores {
            builder = builder.stores(stores);
        }
        McpServer {
            server: builder.build(),
            bind_address: self.streamable.config().bind_address,
            notifier: self.streamable.notifier().clone(),
            inventory: self.http_sse.map(|http_sse| http_sse.inventory().clone()),
        }
    }
}

impl fmt::Debug for McpServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("McpServerBuilder")
            .field("streamable", &self.streamable)
            .finish_non_exhaustive()
    }
}
