//! The admin address: `/health`, `/ready`, `/metrics`, `/status`, `/sse-clients`. It reads, and changes nothing.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use serde_json::{Value, json};
use thinpipe_gateway::{MethodStats, ReplicaStats};
use thinpipe_proto::access::AccessPolicy;
use thinpipe_proto::balance::Condition;
use thinpipe_transport::server::Server;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backend::Backend;
use crate::figures;
use crate::metrics::{self, Metrics};
use crate::sse_clients::{SseClients, SseServed};
use crate::store::{Observations, Store};

/// Admin connections at one time; probes and scrapers need few.
const MAX_CONNECTIONS: usize = 64;
/// For a request's head to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(3);
/// A connection lives no longer than this, so that it cannot be parked.
const LIFETIME: Duration = Duration::from_secs(300);

/// Answers on the admin address.
pub(crate) struct Admin {
    server: Server,
    backend: Arc<dyn Backend>,
    metrics: Metrics,
    access: AccessPolicy,
    workers: usize,
    sse: SseServed,
    store: Store,
    started: Instant,
}

impl Admin {
    /// The admin side of a server and what stands behind it, on this address.
    pub(crate) fn new(
        server: Server,
        backend: Arc<dyn Backend>,
        workers: usize,
        address: SocketAddr,
        sse: SseServed,
        store: Store,
    ) -> Self {
        let loopback = address.ip().is_loopback();
        // On loopback, web pages must not read it through DNS rebinding. Elsewhere it is asked by
        // addresses that nobody can list (container probes), and holds no secret.
        let access = AccessPolicy {
            loopback,
            any_host: !loopback,
            ..AccessPolicy::default()
        };
        let metrics = Metrics::new(server.clone(), Arc::clone(&backend), store.clone());
        Self {
            server,
            backend,
            metrics,
            access,
            workers,
            sse,
            store,
            started: Instant::now(),
        }
    }

    /// Serves connections until `stop` is cancelled.
    pub(crate) async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) {
        let places = Places::new();
        loop {
            let accepted = tokio::select! {
                // Both are cancel-safe: a connection that was not returned stays in the backlog.
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "accepting an admin connection failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let place = tokio::select! {
                // Cancel-safe: nobody is owed a place any more.
                () = stop.cancelled() => return,
                place = places.take() => place,
            };
            let Some(place) = place else { return };
            let admin = Arc::clone(&self);
            let stop = stop.clone();
            tasks.spawn(async move {
                tokio::select! {
                    // Dropping the connection closes it; nothing of it is needed then.
                    () = stop.cancelled() => {}
                    () = place.used.left.cancelled() => {}
                    () = admin.connection(stream, &place.used) => {}
                }
            });
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, used: &Arc<Used>) {
        let used = Arc::clone(used);
        let service = service_fn(move |request| {
            used.now();
            let answer = self.answer(&request);
            std::future::ready(Ok::<_, Infallible>(answer))
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service);
        match tokio::time::timeout(LIFETIME, connection).await {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(error)) => tracing::debug!(%error, "an admin connection failed"),
        }
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let host = request
            .headers()
            .get(header::HOST)
            .map(HeaderValue::as_bytes);
        let origin = request
            .headers()
            .get(header::ORIGIN)
            .map(HeaderValue::as_bytes);
        if !self.access.allows_host(host) || !self.access.allows_origin(origin) {
            return text(
                StatusCode::FORBIDDEN,
                "this Host or Origin is not served here\n",
            );
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD\n");
            answer
                .headers_mut()
                .insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        match request.uri().path() {
            "/health" => self.health(),
            "/ready" => self.ready(),
            "/metrics" => self.metrics(),
            "/status" => json_answer(StatusCode::OK, &self.status()),
            "/sse-clients" => json_answer(StatusCode::OK, &self.sse_clients()),
            _ => text(
                StatusCode::NOT_FOUND,
                "/health, /ready, /metrics, /status or /sse-clients\n",
            ),
        }
    }

    /// The process is up, and in this state.
    fn health(&self) -> Response<Full<Bytes>> {
        let upstreams: Vec<_> = self
            .backend
            .upstreams()
            .into_iter()
            .map(|upstream| json!({ "name": upstream.name, "healthy": upstream.healthy }))
            .collect();
        let body = json!({
            "status": self.state().0,
            "uptime_seconds": self.started.elapsed().as_secs(),
            "upstreams": upstreams,
        });
        json_answer(StatusCode::OK, &body)
    }

    /// Whether new requests should be sent here.
    fn ready(&self) -> Response<Full<Bytes>> {
        let (state, ready) = self.state();
        let status = if ready {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        json_answer(status, &json!({ "ready": ready, "status": state }))
    }

    fn state(&self) -> (&'static str, bool) {
        let upstreams = self.backend.upstreams();
        let healthy = upstreams.iter().filter(|upstream| upstream.healthy).count();
        let store = self.store.observations();
        if self.server.draining().is_cancelled() {
            ("draining", false)
        } else if store.is_some_and(|seen| !seen.was_reached()) {
            // No session can be opened or found. What had sessions before goes on without a store.
            ("store_unreachable", false)
        } else if healthy == upstreams.len() && store.is_none_or(Observations::is_up) {
            ("ok", true)
        } else if healthy > 0 {
            ("degraded", true)
        } else {
            ("unhealthy", false)
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        match self.metrics.scrape() {
            Ok(body) => {
                let mut answer = Response::new(Full::from(body));
                let media_type = HeaderValue::from_static(metrics::MEDIA_TYPE);
                answer
                    .headers_mut()
                    .insert(header::CONTENT_TYPE, media_type);
                answer
            }
            Err(_) => text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the metrics cannot be written\n",
            ),
        }
    }

    fn sse_clients(&self) -> SseClients {
        SseClients {
            report: self.backend.sse_clients(),
            served: self.sse.clone(),
        }
    }

    fn store_status(&self) -> Value {
        let place = self.store.place();
        let Some(seen) = self.store.observations() else {
            return json!({ "place": place });
        };
        let operations = seen.operations().into_iter().map(|stats| {
            let (count, failed) = (stats.count(), stats.failed);
            let mean = stats.total.as_micros() / u128::from(count.max(1));
            let mean = u64::try_from(mean).unwrap_or(u64::MAX);
            let figures = json!({ "count": count, "failed": failed, "mean_us": mean });
            (stats.operation.to_owned(), figures)
        });
        let operations = Value::Object(operations.collect());
        json!({ "place": place, "up": seen.is_up(), "nodes": seen.nodes(), "operations": operations })
    }

    fn status(&self) -> Value {
        let sessions = self.server.sessions().stats();
        let by_name = |figures: &[figures::Figure]| -> Value {
            let entries = figures.iter().map(|figure| {
                let name = match &figure.label {
                    Some((_, value)) => format!("{}_{value}", figure.name),
                    None => figure.name.to_owned(),
                };
                (name, Value::from(figure.value))
            });
            Value::Object(entries.collect())
        };
        let upstreams = self.backend.upstreams().into_iter().map(|upstream| {
            json!({
                "name": upstream.name,
                "path": upstream.path,
                "healthy": upstream.healthy,
                "replicas": by_replica(&upstream.replicas),
                "figures": by_name(&upstream.figures),
                "methods": by_method(&upstream.methods),
            })
        });
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "status": self.state().0,
            "uptime_seconds": self.started.elapsed().as_secs(),
            "workers": self.workers,
            "sessions": { "live": sessions.live, "max": sessions.max },
            "store": self.store_status(),
            "node": self.server.nodes().map(|nodes| by_name(&figures::of_node(&nodes.stats()))),
            "server": by_name(&figures::of_server(&self.server.stats())),
            "process": by_name(&figures::of_process()),
            "upstreams": upstreams.collect::<Vec<_>>(),
        })
    }
}

/// What each replica gets, and for how long it still gets nothing.
fn by_replica(replicas: &[ReplicaStats]) -> Vec<Value> {
    let shown = replicas.iter().map(|replica| {
        let condition = replica.condition.map(Condition::as_str);
        let pause = match replica.condition {
            Some(Condition::Open(pause)) => Some(pause.as_secs()),
            _ => None,
        };
        json!({
            "name": replica.name.as_deref(),
            "healthy": replica.is_healthy,
            "condition": condition,
            "open_seconds": pause,
        })
    });
    shown.collect()
}

/// Places for connections. When all are taken, the one that has said nothing for longest makes room: whoever
/// holds idle connections must not keep probes out.
#[derive(Clone)]
struct Places {
    free: Arc<Semaphore>,
    taken: Arc<Mutex<Vec<Arc<Used>>>>,
}

/// A taken place; dropping it gives it back.
struct Place {
    used: Arc<Used>,
    places: Places,
    _permit: OwnedSemaphorePermit,
}

/// When a connection was last used, and the word that it has to go.
struct Used {
    at: Mutex<Instant>,
    left: CancellationToken,
}

impl Places {
    fn new() -> Self {
        Self {
            free: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            taken: Arc::default(),
        }
    }

    /// A place, made free if there is none. `None` cannot come: nobody closes the semaphore.
    async fn take(&self) -> Option<Place> {
        let permit = match Arc::clone(&self.free).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                if let Some(oldest) = lock(&self.taken).iter().min_by_key(|used| *lock(&used.at)) {
                    oldest.left.cancel();
                }
                Arc::clone(&self.free).acquire_owned().await.ok()?
            }
        };
        let used = Arc::new(Used {
            at: Mutex::new(Instant::now()),
            left: CancellationToken::new(),
        });
        lock(&self.taken).push(Arc::clone(&used));
        Some(Place {
            used,
            places: self.clone(),
            _permit: permit,
        })
    }
}

impl Used {
    fn now(&self) {
        *lock(&self.at) = Instant::now();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.places.taken).retain(|used| !Arc::ptr_eq(used, &self.used));
    }
}

/// A poisoned lock means a panic elsewhere; what it guards here is valid at every step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How often each method came, and how soon its answers began.
fn by_method(methods: &[MethodStats]) -> Value {
    let entries = methods.iter().map(|stats| {
        let within =
            |part: f64| u64::try_from(stats.quantile(part).as_micros()).unwrap_or(u64::MAX);
        let figures = json!({
            "count": stats.count(),
            "p50_us": within(0.5),
            "p90_us": within(0.9),
            "p99_us": within(0.99),
        });
        (stats.method.to_owned(), figures)
    });
    Value::Object(entries.collect())
}

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::from(body));
    *answer.status_mut() = status;
    let media_type = HeaderValue::from_static("text/plain; charset=utf-8");
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, media_type);
    answer
}

fn json_answer(status: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    // Nothing that is given here can fail to be JSON: its keys are text.
    let body = serde_json::to_string_pretty(body).unwrap_or_default();
    let mut answer = Response::new(Full::from(format!("{body}\n")));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
