//! What stands behind the server side, as far as the binary has to know it.
//!
//! This is the one seam to the gateway: running, admin and metrics know it by [`Backend`] only.

use std::sync::Arc;

use thinpipe_gateway::interceptor::InterceptorStats;
use thinpipe_gateway::{
    ExchangeLog, Gateway, GatewayConfig, GatewayError, MethodStats, ProgramEra, Reached,
    ReplicaStats, Route, describe,
};
use thinpipe_proto::deprecation::{EndpointUse, InventoryReport};
use thinpipe_transport::body::BoxFuture;
use thinpipe_transport::server::{Server, ServerConfig, Stores};

use crate::crossing::{Server as Reaches, may_have_sessions, spoken};
use crate::figures::Figure;

mod replicas;

/// Whatever answers the requests that the server takes.
pub(crate) trait Backend: Send + Sync + 'static {
    /// The state of each upstream. Reading it changes nothing.
    fn upstreams(&self) -> Vec<UpstreamState>;

    /// Asks each upstream what it speaks, in the order of [`upstreams`](Self::upstreams).
    fn probe(&self) -> BoxFuture<Vec<Found>>;

    /// Asks each of several replicas, and says for people which of them are no MCP servers, each with its upstream.
    fn strays(&self) -> BoxFuture<Vec<String>>;

    /// Which clients still use HTTP+SSE. Reading it changes nothing.
    fn sse_clients(&self) -> InventoryReport;

    /// Waits for what still runs after the server has shut down.
    fn finish(&self) -> BoxFuture<()>;
}

/// What asking an upstream came to.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// What is to be said of it, for people.
    pub(crate) text: String,
    /// What it speaks; empty if that is not known.
    pub(crate) speaks: Vec<Reaches>,
}

/// What is known of an upstream.
#[derive(Debug, Clone)]
pub(crate) struct UpstreamState {
    /// Its name.
    pub(crate) name: String,
    /// Path of its endpoint here.
    pub(crate) path: String,
    /// Whether it answers its health checks.
    pub(crate) healthy: bool,
    /// What its replicas do, if it has several or a breaker.
    pub(crate) replicas: Vec<ReplicaStats>,
    /// What was counted.
    pub(crate) figures: Vec<Figure>,
    /// How often each method was answered, and how long that took.
    pub(crate) methods: Vec<MethodStats>,
}

/// A server with the gateway mounted on it, and the gateway. Must be called inside a runtime that
/// lives as long as both.
///
/// # Errors
/// What the gateway refuses.
pub(crate) fn gateway(
    server: ServerConfig,
    gateway: GatewayConfig,
    log: Option<Arc<dyn ExchangeLog>>,
    stores: Stores,
) -> Result<(Server, Arc<dyn Backend>), GatewayError> {
    let builder = Server::builder(server).stores(stores);
    let gateway = Gateway::new(gateway, builder.buffered())?;
    if let Some(log) = &log {
        gateway.log_exchanges(log);
    }
    let server = gateway.mount(builder).build();
    gateway.start(&server);
    Ok((server, Arc::new(gateway)))
}

impl Backend for Gateway {
    fn upstreams(&self) -> Vec<UpstreamState> {
        let states = self.routes().iter().map(|route| {
            let route_stats = route.route_stats();
            let mut figures = vec![
                Figure::counter("exchanges", "Exchanges handled", route_stats.exchanges),
                Figure::counter(
                    "passed",
                    "Answers that no interceptor read",
                    route_stats.passed,
                ),
                Figure::counter(
                    "inspected",
                    "Answers that interceptors read",
                    route_stats.inspected,
                ),
                Figure::counter(
                    "failed",
                    "Exchanges answered with an error of the gateway's own",
                    route_stats.failed,
                ),
                Figure::counter(
                    "rate_limited",
                    "Messages refused because there were too many in their time",
                    route_stats.rate_limited,
                ),
                Figure::counter(
                    "streams_resumed",
                    "Upstream streams that were resumed",
                    route_stats.streams_resumed,
                ),
                Figure::counter(
                    "streams_lost",
                    "Upstream streams that ended early and could not be resumed",
                    route_stats.streams_lost,
                ),
                Figure::counter(
                    "sessions_opened",
                    "Upstream sessions that were opened",
                    route_stats.sessions_opened,
                ),
                Figure::gauge(
                    "sessions_pooled",
                    "Upstream sessions that requests of 2026-07-28 share",
                    route_stats.sessions_pooled,
                ),
                Figure::gauge(
                    "calls_parked",
                    "Calls that wait for their client to come back",
                    route_stats.calls_parked,
                ),
                Figure::counter(
                    "sessions_lost",
                    "Upstream sessions that were gone when needed",
                    route_stats.sessions_lost,
                ),
                Figure::counter(
                    "sessions_reestablished",
                    "Upstream sessions opened anew",
                    route_stats.sessions_reestablished,
                ),
            ];
            figures.extend(replicas::of_server(route));
            figures.extend(of_sse_clients(&self.sse_use(route.name())));
            for stats in route.chain().stats() {
                figures.extend(of_interceptor(&stats));
            }
            UpstreamState {
                name: route.name().to_owned(),
                path: route.path().to_owned(),
                healthy: route.is_healthy(),
                replicas: replicas::shown(&route.replicas()),
                figures,
                methods: route.method_stats(),
            }
        });
        states.collect()
    }

    fn probe(&self) -> BoxFuture<Vec<Found>> {
        let routes = self.routes().to_vec();
        Box::pin(async move {
            let mut found = Vec::with_capacity(routes.len());
            for route in routes {
                found.push(asked(&route).await);
            }
            found
        })
    }

    fn strays(&self) -> BoxFuture<Vec<String>> {
        let routes = self.routes().to_vec();
        Box::pin(async move {
            let mut strays = Vec::new();
            for route in routes {
                let of = route.strays().await;
                let name = route.name();
                strays.extend(of.iter().map(|stray| format!("{name}: its {stray}")));
            }
            strays
        })
    }

    fn sse_clients(&self) -> InventoryReport {
        Self::sse_clients(self)
    }

    fn finish(&self) -> BoxFuture<()> {
        let gateway = self.clone();
        Box::pin(async move { gateway.finish().await })
    }
}

/// What an upstream speaks. What was not found out is not said as if it were.
async fn asked(route: &Route) -> Found {
    if let Reached::Stdio(program) = &route.spec().reached {
        return of_program(route, program.pin);
    }
    match route.probe().await {
        Ok(verdict) => {
            let (speaks, described) = (spoken(&verdict), describe(&verdict));
            let text = match route.is_pinned() {
                true => format!(
                    "is spoken to in {described}, as its `era` says; it was not asked, as `thinpipe doctor` does"
                ),
                // To try would be to open a session.
                false if may_have_sessions(route.spec(), &speaks) => format!(
                    "speaks {described}; it names no sessions but may have them, which `thinpipe doctor` tries"
                ),
                false => format!("speaks {described}"),
            };
            Found { text, speaks }
        }
        Err(error) => {
            let url = route.url().unwrap_or_default();
            Found {
                text: format!("at {url} cannot be used yet: {error}"),
                speaks: Vec::new(),
            }
        }
    }
}

/// Of a program of which the configuration says what it speaks.
const PINNED_PROGRAM: &str =
    "as its `era` says; it was not asked, as `thinpipe doctor -- COMMAND` does";

/// What a program speaks, as far as that is known: to ask it would be to start one.
fn of_program(route: &Route, pin: Option<ProgramEra>) -> Found {
    let (text, speaks) = match (route.program_speaks(), pin) {
        (_, Some(ProgramEra::Legacy)) => (
            format!("is spoken to in sessions, {PINNED_PROGRAM}"),
            vec![Reaches::LegacyProgram],
        ),
        (_, Some(ProgramEra::Modern)) => (
            format!("is spoken to in 2026-07-28, {PINNED_PROGRAM}"),
            vec![Reaches::ModernProgram],
        ),
        (Some(speaks), None) => (format!("speaks {speaks}"), Vec::new()),
        (None, None) => (
            "is a program that a client's first message starts; it was not asked what it speaks, as \
             `thinpipe doctor -- COMMAND` does"
                .to_owned(),
            Vec::new(),
        ),
    };
    Found { text, speaks }
}

/// The clients that still use HTTP+SSE.
fn of_sse_clients(used: &EndpointUse) -> [Figure; 3] {
    [
        Figure::counter(
            "sse_sessions",
            "Sessions that clients opened over HTTP+SSE",
            used.sessions,
        ),
        Figure::gauge(
            "sse_sessions_open",
            "Sessions over HTTP+SSE open now",
            used.open,
        ),
        Figure::gauge(
            "sse_clients",
            "Clients by name and version that have used HTTP+SSE",
            used.clients,
        ),
    ]
}

fn of_interceptor(stats: &InterceptorStats) -> [Figure; 4] {
    [
        Figure::counter(
            "interceptor_seen",
            "Messages an interceptor was shown",
            stats.seen,
        ),
        Figure::counter(
            "interceptor_changed",
            "Messages an interceptor changed",
            stats.changed,
        ),
        Figure::counter(
            "interceptor_rejected",
            "Messages an interceptor refused",
            stats.rejected,
        ),
        Figure::counter(
            "interceptor_failed",
            "Times an interceptor failed",
            stats.failed,
        ),
    ]
    .map(|figure| figure.labelled("interceptor", stats.name.clone()))
}
