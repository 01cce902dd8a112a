//! Asking a replica now and then whether it answers.

use std::sync::{Arc, Weak};
use std::time::Duration;

use http::{HeaderMap, Method};
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::Message;
use thinpipe_transport::ByteBudget;
use thinpipe_transport::body::BodyError;
use thinpipe_transport::upstream::{UpstreamError, UpstreamRequest, UpstreamResponse};
use tokio_util::sync::CancellationToken;

use super::{Health, RECOVERY_INTERVAL};
use crate::failure::with_causes;
use crate::headers;
use crate::route::Route;

/// Idle connections are looked at this often, beside the checks.
const PRUNE_INTERVAL: Duration = Duration::from_secs(10);

/// The id of checks, as JSON text: a probe that is open at the same time has another one.
const CHECK_ID: &str = "\"thinpipe-check\"";

/// Bytes of an error that a check reads.
const MAX_REFUSAL: usize = 64 << 10;

/// Checks a replica of an upstream until `stop` is cancelled or the route is dropped.
pub(crate) async fn watch(route: Weak<Route>, replica: usize, stop: CancellationToken) {
    let health = route.upgrade().and_then(|route| health_of(&route, replica));
    let Some(health) = health else {
        return;
    };
    tokio::select! {
        biased;
        // Cancel-safe: a check or a look at idle connections that was cut short is not missed.
        () = stop.cancelled() => {}
        _ = async {
            tokio::join!(keep_checking(&route, replica, &health), keep_pruning(&route))
        } => {}
    }
}

pub(super) fn health_of(route: &Route, replica: usize) -> Option<Arc<Health>> {
    let replica = route.group()?.replicas().get(replica)?;
    Some(Arc::clone(&replica.health))
}

/// The first check is made at once, so that readiness is true from the start.
async fn keep_checking(route: &Weak<Route>, replica: usize, health: &Health) {
    if health.config.interval.is_zero() {
        return;
    }
    // The route is held for the check only: whoever drops it does not wait for the interval.
    while let Some(strong) = route.upgrade() {
        if let Some(checked) = check(&strong, replica).await {
            health.record(checked, &strong, replica);
        }
        strong.prune();
        drop(strong);
        let interval = health.interval();
        // Suspicions come with every request that fails; they must not set the pace.
        let gap = interval.min(RECOVERY_INTERVAL);
        tokio::time::sleep(gap).await;
        tokio::select! {
            // Both are cancel-safe: nothing is lost but a wake-up.
            () = tokio::time::sleep(interval - gap) => {}
            () = health.suspicion.notified() => {}
        }
    }
}

/// Idle connections age whether or not anybody checks.
async fn keep_pruning(route: &Weak<Route>) {
    loop {
        tokio::time::sleep(PRUNE_INTERVAL).await;
        let Some(strong) = route.upgrade() else {
            return;
        };
        strong.prune();
    }
}

/// A real request without side effects: whether it was answered or why not, `None` if that cannot be
/// told. Its failures ask for no other check.
pub(super) async fn check(route: &Route, replica: usize) -> Option<Result<(), String>> {
    let replica = route.group()?.replicas().get(replica)?;
    let mut headers = HeaderMap::new();
    headers::for_post(&mut headers);
    let version = http::HeaderValue::from_static(Revision::NEWEST.as_str());
    let body = thinpipe_proto::probe::discover_request(CHECK_ID, Revision::NEWEST);
    let message = Message::parse(body.clone()).ok()?;
    headers::for_stateless(&mut headers, &version, &message, &message);
    let mut request = UpstreamRequest {
        method: Method::POST,
        headers,
        body,
        repeatable: true,
    };
    let context = route.context_outside(Revision::NEWEST, message.method());
    route.chain().headers(&context, &mut request.headers).ok()?;
    let asking = async {
        match replica.upstream.send(request).await {
            Ok(response) => is_alive(response, route.buffered()).await,
            // What came back is for the requests to complain about, each in its own words.
            Err(UpstreamError::Malformed { .. } | UpstreamError::Redirect { .. }) => Some(Ok(())),
            // It got as far as the head of an event stream.
            Err(UpstreamError::TooManyStreams { .. }) => Some(Ok(())),
            // The gateway's own budget: nothing was asked.
            Err(UpstreamError::Exhausted { .. }) => None,
            Err(error) => Some(Err(with_causes(&error))),
        }
    };
    let timeout = replica.health.timeout();
    let asked = tokio::time::timeout(timeout, asking).await;
    asked.unwrap_or_else(|_| Some(Err(format!("no answer within {timeout:?}"))))
}

/// Most servers refuse the request of a check (those of HTTP+SSE take no POST there at all, and a GET
/// would open a session), and some fail over it: what is not from a proxy in
/// front of a dead server is an answer. `None`: there was no room to read it.
async fn is_alive(response: UpstreamResponse, budget: &ByteBudget) -> Option<Result<(), String>> {
    let status = response.status;
    if !matches!(status.as_u16(), 502..=504) {
        return Some(Ok(()));
    }
    match response.collect(MAX_REFUSAL, budget).await {
        Err(BodyError::NoRoom(_)) => None,
        Ok(body) if Message::parse(body.clone()).is_ok() => Some(Ok(())),
        _ => Some(Err(format!("a proxy before it answers {status}"))),
    }
}
