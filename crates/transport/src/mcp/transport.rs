//! The transports: a handler, and where it is served.

use std::fmt;
use std::sync::Arc;

use super::config::{ConfigError, HttpSseConfig, HttpTransportConfig};
use super::handler::MessageHandler;
use super::observers::Observers;
use super::service::Service;
use super::subscription::Notifier;
use crate::server::{
    ClientInventory, DeprecationObserver, Handler, Server, ServerBuilder, SseConfig, SseEndpoint,
    SseObserver,
};

/// A handler with the protocol around it, ready to be mounted.
pub(super) trait Mounted: Handler {
    fn notifier(&self) -> &Notifier;
    fn attach(&self, server: &Server);
    fn declares_logging(&self) -> bool;
}

impl<H: MessageHandler> Mounted for Service<H> {
    fn notifier(&self) -> &Notifier {
        &self.notifier
    }

    fn attach(&self, server: &Server) {
        Self::attach(self, server);
    }

    fn declares_logging(&self) -> bool {
        self.info.can("logging", None)
    }
}

/// Has the server, when it is built, tell what is mounted in it whom it notifies, and where what a client leaves
/// goes on.
fn attached(builder: ServerBuilder, service: &Arc<dyn Mounted>) -> ServerBuilder {
    let service = Arc::clone(service);
    builder.when_built(move |server| service.attach(server))
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

    /// Mounts it in a server of several endpoints; in one server only, whose sessions are those that its
    /// [`Notifier`] reaches.
    pub fn mount(&self, builder: ServerBuilder) -> ServerBuilder {
        let handler: Arc<dyn Handler> = Arc::<dyn Mounted>::clone(&self.service);
        attached(builder, &self.service).endpoint(&self.config.endpoint, ENDPOINT, handler)
    }
}

impl fmt::Debug for StreamableHttpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamableHttpTransport")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// HTTP+SSE: 2024-11-05, on two paths. Later revisions can be negotiated over it too.
#[derive(Clone)]
pub struct HttpSseTransport {
    config: HttpSseConfig,
    endpoint: SseConfig,
    service: Arc<dyn Mounted>,
    observers: Observers,
    inventory: ClientInventory,
}

impl HttpSseTransport {
    /// Serves this handler.
    ///
    /// # Errors
    /// [`ConfigError`] if the configuration says what is not possible.
    pub fn new(config: HttpSseConfig, handler: impl MessageHandler) -> Result<Self, ConfigError> {
        let service = Service::new(handler, &config.base_config);
        Self::over(config, service)
    }

    /// Serves the handler that is served over Streamable HTTP already: one [`Notifier`] reaches the clients of
    /// both, and mounted in one server they have their sessions in one
    /// [`SessionManager`](crate::server::SessionManager).
    ///
    /// # Errors
    /// [`ConfigError`] if the configuration says what is not possible.
    pub fn beside(
        config: HttpSseConfig,
        streamable: &StreamableHttpTransport,
    ) -> Result<Self, ConfigError> {
        Self::over(config, Arc::clone(&streamable.service))
    }

    fn over(config: HttpSseConfig, service: Arc<dyn Mounted>) -> Result<Self, ConfigError> {
        let endpoint = config.sse_config()?;
        let inventory = ClientInventory::default();
        let (told, successor) = (config.effective_deprecation(), config.successor()?);
        let observer = DeprecationObserver::new(told, successor, inventory.clone())
            .with_declared_logging(service.declares_logging());
        Ok(Self {
            config,
            endpoint,
            service,
            observers: Observers::of(observer),
            inventory,
        })
    }

    /// Has somebody else see its clients too, after who tells them that HTTP+SSE is
    /// [deprecated](HttpSseConfig::deprecation) and keeps the [inventory](Self::inventory). Their headers come
    /// together, and the first that answers instead of the handler does.
    #[must_use]
    pub fn observed_by(mut self, observer: Arc<dyn SseObserver>) -> Self {
        self.observers.add(observer);
        self
    }

    /// Which clients still come over HTTP+SSE.
    #[must_use]
    pub fn inventory(&self) -> &ClientInventory {
        &self.inventory
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &HttpSseConfig {
        &self.config
    }

    /// Tells clients that something changed.
    #[must_use]
    pub fn notifier(&self) -> &Notifier {
        self.service.notifier()
    }

    /// Mounts it in a server of several endpoints: in the one that the Streamable HTTP that this stands
    /// [beside](Self::beside) is mounted in.
    pub fn mount(&self, builder: ServerBuilder) -> ServerBuilder {
        attached(builder, &self.service).sse_endpoint(SseEndpoint {
            sse_path: self.config.sse_endpoint.clone(),
            messages_path: self.config.messages_endpoint.clone(),
            name: ENDPOINT.into(),
            handler: Arc::<dyn Mounted>::clone(&self.service),
            config: self.endpoint.clone(),
            observer: Some(Arc::new(self.observers.clone())),
        })
    }
}

impl fmt::Debug for HttpSseTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSseTransport")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
