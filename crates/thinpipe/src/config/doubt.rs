//! What is valid and probably not meant: it is said, and kept as it is.

use thinpipe_gateway::Anonymous;
use thinpipe_proto::deprecation::{AfterSunset, Timestamp};

use super::{Config, StoreConfig};

/// What somebody who reads a file of this meaning at this time should hear.
pub(super) fn doubts(config: &Config, now: Timestamp) -> Vec<String> {
    let doubts = [
        sunset(config, now),
        admin(config),
        rate_key(config),
        carried_headers(config),
    ];
    doubts
        .into_iter()
        .flatten()
        .chain(idle_tiers(config))
        .collect()
}

fn rate_key(config: &Config) -> Option<String> {
    let rates = &config.gateway.rates;
    let is_idle = rates.anonymous == Anonymous::ByAddress && rates.principal.is_none();
    is_idle.then(|| {
        "limits.rate_key: there is no `limits.rate` that clients could be told apart for".to_owned()
    })
}

// Not an error, as `store` may come from the environment of where it is served.
fn carried_headers(config: &Config) -> Option<String> {
    let is_idle =
        matches!(config.store, StoreConfig::Memory) && !config.server.carried_headers.is_empty();
    is_idle.then(|| {
        "carried_headers: means nothing here, as there is no `store` that other gateways share"
            .to_owned()
    })
}

fn idle_tiers(config: &Config) -> impl Iterator<Item = String> {
    let rates = &config.gateway.rates;
    let is_idle = |tier: &&String| !rates.tier_of.values().any(|used| used == *tier);
    let idle = rates.tiers.keys().filter(is_idle);
    idle.map(|tier| format!("limits.tiers.{tier}: no `tokens.tier` names it"))
}

fn sunset(config: &Config, now: Timestamp) -> Option<String> {
    let mut upstreams = config.gateway.upstreams.iter();
    let deprecation = &config.gateway.deprecation;
    let is_served = upstreams.any(|upstream| upstream.sse.is_some());
    let day = deprecation
        .sunset()
        .filter(|day| is_served && *day <= now)?
        .date_text();
    Some(match deprecation.after_sunset() {
        AfterSunset::Gone => format!(
            "sse.deprecation.sunset: {day} is over, so that clients of HTTP+SSE get 410; choose a later \
             day to serve them, or `sse.enabled = false` to end it"
        ),
        AfterSunset::Warn => format!(
            "sse.deprecation.sunset: {day} is over and HTTP+SSE is still served, because of \
             `after_sunset = \"warn\"`"
        ),
    })
}

fn admin(config: &Config) -> Option<String> {
    let address = config.admin.filter(|it| !it.ip().is_loopback())?;
    Some(format!(
        "admin: whoever reaches {address} reads metrics and the names of clients without a token; \
         127.0.0.1 is for this machine alone"
    ))
}
