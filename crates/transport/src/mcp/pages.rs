//! `/health`, `/status` and `/metrics` of a server on the library. Reading them changes nothing.

use std::fmt::Write;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::config::HttpTransportConfig;
use crate::body::Body;
use crate::io::now;
use crate::server::{Answer, Content, Figures, PageAccess, ServerBuilder};

/// Their paths.
pub(super) const PATHS: [&str; 3] = ["/health", "/status", "/metrics"];

/// Sessions that the status page lists.
const MAX_LISTED: usize = 100;

/// Mounts them.
pub(super) fn mount(builder: ServerBuilder, config: &HttpTransportConfig) -> ServerBuilder {
    let [health_path, status_path, metrics_path] = PATHS;
    let (config, begun) = (config.clone(), now());
    builder
        .page(health_path, PageAccess::Open, health)
        .page(status_path, PageAccess::Authenticated, move |figures| {
            status(figures, &config, begun)
        })
        .page(metrics_path, PageAccess::Authenticated, metrics)
}

/// 200 as long as new work is taken, else 503: whoever balances load sends it elsewhere.
fn health(figures: &Figures) -> Answer {
    let (status, state) = if figures.is_draining {
        (StatusCode::SERVICE_UNAVAILABLE, "draining")
    } else {
        (StatusCode::OK, "ok")
    };
    let body = json!({ "status": state }).to_string();
    Answer::new(status, Content::Json, Body::Full(Bytes::from(body)))
}

/// What is going on, for people. Ids of sessions are shown as in logs: not in full.
fn status(figures: &Figures, config: &HttpTransportConfig, begun: Instant) -> Answer {
    let stats = &figures.stats;
    let live = figures.sessions.list();
    let listed = live.iter().take(MAX_LISTED);
    let sessions: Vec<Value> = listed
        .map(|session| {
            json!({
                "id": format!("{:?}", session.id()),
                "binding": session.binding().to_string(),
                "revision": session.revision().as_str(),
                "requests": session.in_flight(),
            })
        })
        .collect();
    let status = json!({
        "draining": figures.is_draining,
        "uptimeSeconds": now().saturating_duration_since(begun).as_secs(),
        "connections": { "open": stats.connections_open, "max": config.max_connections },
        "streams": { "open": stats.streams_open, "max": config.max_streams },
        "requests": { "open": stats.requests_open, "total": stats.requests },
        "sessions": {
            "live": stats.sessions, "max": config.max_sessions, "some": sessions,
        },
    });
    Answer::json(Bytes::from(status.to_string()))
}

/// Prometheus text (exposition format 0.0.4).
fn metrics(figures: &Figures) -> Answer {
    const TYPE: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    let stats = &figures.stats;
    let mut text = String::new();
    let mut write = |name: &str, kind: &str, help: &str, value: u64| {
        let name = format!("mcp_server_{name}");
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"
        );
    };
    let gauges = [
        ("connections", "Connections open", stats.connections_open),
        ("requests", "Requests being answered", stats.requests_open),
        ("streams", "Event streams being written", stats.streams_open),
        ("sessions", "Sessions", stats.sessions),
        ("buffered_bytes", "Bytes held whole", stats.buffered_bytes),
    ];
    for (name, help, value) in gauges {
        write(name, "gauge", help, value as u64);
    }
    let [_, succeeded, _, refused, failed] = stats.answers;
    let counters = [
        (
            "connections_total",
            "Connections accepted",
            stats.connections,
        ),
        (
            "connections_refused_total",
            "Connections refused, all places taken",
            stats.connections_refused,
        ),
        ("requests_total", "Requests", stats.requests),
        ("streams_total", "Event streams", stats.streams),
        (
            "answers_2xx_total",
            "Answers with a status of success",
            succeeded,
        ),
        ("answers_4xx_total", "Answers that refuse", refused),
        ("answers_5xx_total", "Answers that fail", failed),
        (
            "stalled_total",
            "Clients disconnected because they did not read",
            stats.stalled,
        ),
        (
            "detached_total",
            "Answers worked on without their client",
            stats.detached,
        ),
    ];
    for (name, help, value) in counters {
        write(name, "counter", help, value);
    }
    let body = Body::Full(Bytes::from(text));
    Answer::new(StatusCode::OK, Content::Other(Some(TYPE)), body)
}
