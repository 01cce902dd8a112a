//! The whole gateway: its routes, mounted on a server.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use thinpipe_proto::deprecation::{DeprecationConfig, EndpointUse, InventoryReport};
use thinpipe_transport::ByteBudget;
use thinpipe_transport::server::{
    ClientInventory, DeprecationObserver, Handler, Nodes, Server, ServerBuilder, SseEndpoint,
    SseObserver,
};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::now;
use crate::config::{GatewayConfig, Reached, UpstreamSpec};
use crate::health;
use crate::interceptor::{Chain, ChainError, Interceptor};
use crate::log::ExchangeLog;
use crate::rate::Rates;
use crate::route::Route;
use crate::seal::Seals;
use crate::session::declares_logging;

/// A gateway in front of one or several MCP servers.
#[derive(Debug, Clone)]
pub struct Gateway {
    routes: Vec<Arc<Route>>,
    /// For each route in turn; `None`: it does not serve HTTP+SSE.
    observers: Vec<Option<Arc<DeprecationObserver>>>,
    clients: ClientInventory,
    tasks: TaskTracker,
    /// Ends the upstream sessions.
    stop: CancellationToken,
    seals: Arc<Seals>,
}

/// How long an upstream is waited for at the end of the process.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How long is waited before a store that failed is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// Why a gateway cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// An interceptor of an upstream is misconfigured.
    #[error("the interceptors of upstream {upstream} are misconfigured")]
    Chain {
        /// Name of the upstream.
        upstream: String,
        /// What is wrong.
        #[source]
        source: ChainError,
    },
    /// Clients of HTTP+SSE cannot be told where to go instead.
    #[error("the path {path} cannot stand in a link")]
    Link {
        /// Path of the endpoint, with the public base before it.
        path: String,
    },
    /// The system gives no random numbers, without which nothing can be sealed.
    #[error("the system gives no random numbers")]
    Random,
    /// Two upstreams have the same path or name.
    #[error("two upstreams have the {what} {value}")]
    Duplicate {
        /// "path" or "name".
        what: &'static str,
        /// The value they share.
        value: String,
    },
}

impl Gateway {
    /// Builds a gateway; nothing is connected to yet. What it has to hold whole comes out of
    /// `buffered`: that of the server it will be [mounted](Self::mount) on
    /// ([`ServerBuilder::buffered`]), so that one limit holds for requests and answers together.
    ///
    /// # Errors
    /// [`GatewayError`].
    pub fn new(config: GatewayConfig, buffered: &ByteBudget) -> Result<Self, GatewayError> {
        Self::with_interceptors(config, buffered, &[])
    }

    /// As [`new`](Self::new), with interceptors of the embedding program behind the configured ones
    /// of every upstream.
    ///
    /// # Errors
    /// [`GatewayError`].
    pub fn with_interceptors(
        config: GatewayConfig,
        buffered: &ByteBudget,
        extra: &[Arc<dyn Interceptor>],
    ) -> Result<Self, GatewayError> {
        let tasks = TaskTracker::new();
        let stop = CancellationToken::new();
        let seals = Seals::new(&config.state_keys, config.random.clone());
        let seals = seals.map_err(|_| GatewayError::Random)?;
        let seals = Arc::new(seals);
        let rates = Arc::new(Rates::new(config.rates, now()));
        let mut seen = HashSet::new();
        let mut routes = Vec::with_capacity(config.upstreams.len());
        let mut observers = Vec::with_capacity(config.upstreams.len());
        let clients = ClientInventory::default();
        for mut spec in config.upstreams {
            if let Reached::Http(http) = &mut spec.reached {
                http.client.random = config.random.clone();
            }
            let mut keys = vec![
                ("path", spec.path.clone()),
                ("name", spec.name().to_string()),
            ];
            if let Some(sse) = &spec.sse {
                keys.push(("path", sse.stream.clone()));
                keys.push(("path", sse.messages.clone()));
            }
            for (what, value) in keys {
                if !seen.insert((what, value.clone())) {
                    return Err(GatewayError::Duplicate { what, value });
                }
            }
            let (configs, settings) = (&spec.interceptors, &spec.chain);
            let chain = Chain::build_within(configs, extra.to_vec(), settings, buffered);
            let chain = chain.map_err(|source| GatewayError::Chain {
                upstream: spec.name().to_string(),
                source,
            })?;
            let limiter = rates.limiter(spec.rate, now());
            observers.push(observer(&spec, &config.deprecation, &clients)?);
            let route = Route::new(
                spec,
                chain,
                tasks.clone(),
                stop.clone(),
                buffered.clone(),
                Arc::clone(&seals),
                limiter,
            );
            routes.push(Arc::new(route.map_err(|_| GatewayError::Random)?));
        }
        Ok(Self {
            routes,
            observers,
            clients,
            tasks,
            stop,
            seals,
        })
    }

    /// Adds the routes to a server that is being built.
    pub fn mount(&self, mut server: ServerBuilder) -> ServerBuilder {
        for (route, observer) in self.routes.iter().zip(&self.observers) {
            let handler: Arc<dyn Handler> = Arc::clone(route) as _;
            server = server.endpoint(route.path(), route.name(), Arc::clone(&handler));
            let spec = route.spec();
            // Its clients have sessions.
            let sse = spec.sse.as_ref().filter(|_| spec.clients.served().legacy);
            if let Some(sse) = sse {
                server = server.sse_endpoint(SseEndpoint {
                    sse_path: sse.stream.clone(),
                    messages_path: sse.messages.clone(),
                    name: Arc::clone(spec.name()),
                    handler,
                    config: sse.config.clone(),
                    observer: observer.clone().map(|it| it as Arc<dyn SseObserver>),
                });
            }
        }
        server
    }

    /// Gives a record of every exchange to `log`. Call it before the server is given connections.
    pub fn log_exchanges(&self, log: &Arc<dyn ExchangeLog>) {
        for route in &self.routes {
            route.log_to(Arc::clone(log));
        }
    }

    /// Begins to watch the upstreams, until the server shuts down. Call it once, with the server the
    /// routes were mounted on.
    pub fn start(&self, server: &Server) {
        if let Some(nodes) = server.nodes() {
            server.spawn(share(
                Arc::clone(&self.seals),
                nodes.clone(),
                server.draining().clone(),
            ));
        }
        for route in &self.routes {
            route.attach(server.sessions());
            if let Some(nodes) = server.nodes() {
                route.among(nodes);
            }
            // A child process is not started only to see whether it starts: it has no replicas.
            for replica in 0..route.replicas().len() {
                let stop = server.draining().clone();
                server.spawn(health::watch(Arc::downgrade(route), replica, stop));
            }
        }
    }

    /// Ends the upstream sessions that are left, and waits, but not for long, for what runs beside the
    /// server's own tasks (child processes, refusals on their way to upstreams). Call it after the server
    /// has shut down.
    ///
    /// Sessions that live in this process ([`Resume::Log`](crate::Resume::Log), shared ones, child processes) go on until then,
    /// also when the gateway and its server are dropped; without such sessions dropping both is enough.
    pub async fn finish(&self) {
        self.stop.cancel();
        self.tasks.close();
        let done = tokio::time::timeout(LAST_WORDS, self.tasks.wait()).await;
        if done.is_err() {
            let left = self.tasks.len();
            tracing::warn!(
                left,
                "some upstreams do not take what they are told; leaving them"
            );
        }
    }

    /// Which clients still use HTTP+SSE.
    #[must_use]
    pub fn sse_clients(&self) -> InventoryReport {
        self.clients.report()
    }

    /// How many use HTTP+SSE in front of the upstream of this name. Cheap enough for every scrape.
    #[must_use]
    pub fn sse_use(&self, upstream: &str) -> EndpointUse {
        self.clients.of_endpoint(upstream)
    }

    /// The routes, in the order of the configuration.
    #[must_use]
    pub fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }
}

/// Has all nodes seal with one key, as soon as the store can be reached.
async fn share(seals: Arc<Seals>, nodes: Nodes, stop: CancellationToken) {
    let sharing = async {
        while let Err(error) = seals.share(&nodes).await {
            tracing::debug!(%error, "the nodes' common key cannot be read now");
            tokio::time::sleep(AGAIN).await;
        }
    };
    // Cancel-safe: what is dropped here is dropped for good.
    let _ = stop.run_until_cancelled(sharing).await;
}

/// Who tells the clients of an upstream's HTTP+SSE that it ends, and counts them.
fn observer(
    spec: &UpstreamSpec,
    deprecation: &DeprecationConfig,
    clients: &ClientInventory,
) -> Result<Option<Arc<DeprecationObserver>>, GatewayError> {
    let Some(sse) = &spec.sse else {
        return Ok(None);
    };
    let path = format!("{}{}", sse.config.public_base.as_str(), spec.path);
    let Ok(successor) = path.parse() else {
        return Err(GatewayError::Link { path });
    };
    let observer = DeprecationObserver::new(deprecation.clone(), successor, clients.clone());
    let observer = observer.with_logging_declared_in(declares_logging);
    Ok(Some(Arc::new(observer)))
}
