//! `thinpipe doctor`: what a server speaks, and what would break behind a gateway.
//!
//! Seen by asking ([`http`]), judged by a pure function ([`judgement`]), shown ([`report`]). No tool is
//! ever called.

mod http;
mod judgement;
mod observation;
mod report;
mod wire;

use std::io::Write;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use thinpipe_proto::revision::{Binding, Revision};
use thinpipe_transport::ByteBudget;
use thinpipe_transport::upstream::probe::{self, ProbeError, ProbeFailure, Verdict};
use thinpipe_transport::upstream::{Upstream, UpstreamConfig, UpstreamError};

use crate::cli::{DoctorArgs, ReportFormat};
use crate::run::main_runtime;
use observation::{Identity, Observations, Transport, Unusable, Why};

/// For a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// Asks, judges and prints; whether the server can be used.
///
/// # Errors
/// If the question itself makes no sense.
pub(crate) fn run(args: &DoctorArgs) -> anyhow::Result<bool> {
    let url = args.server.url.as_deref().unwrap_or_default();
    crate::no_url(url)?;
    let uri = url
        .parse()
        .ok()
        .filter(|uri: &::http::Uri| uri.authority().is_some());
    let mut config = UpstreamConfig::new("server".into(), uri.context("this is no URL")?);
    config.headers = wire::headers_of(&args.header)?;
    config.connect_timeout = CONNECT;
    config.first_byte_timeout = wire::PATIENCE;
    config.request_timeout = wire::PATIENCE;
    let watch = Duration::from_secs(args.watch);
    let seen = main_runtime()?.block_on(over_http(url, &Upstream::new(config), watch));
    let findings = judgement::judge(&seen);
    let text = match args.format {
        ReportFormat::Table => report::table(&seen, &findings),
        ReportFormat::Json => format!("{:#}\n", report::json(&seen, &findings)),
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(judgement::is_usable(&findings))
}

/// What is seen of the server at a URL.
async fn over_http(target: &str, upstream: &Upstream, watch: Duration) -> Observations {
    let mut seen = Observations {
        target: target.to_owned(),
        identity: Err(Unusable {
            why: Why::Unavailable,
            text: String::new(),
        }),
        lists: http::Lists::new(),
        transport: Transport::Unknown,
    };
    let verdict = match probe::probe(upstream, &ByteBudget::default()).await {
        Ok(verdict) => verdict,
        Err(error) => {
            seen.identity = Err(unusable(&error));
            return seen;
        }
    };
    let mut identity = identity(&verdict);
    let mut stateless_get = None;
    if let Some(&revision) = verdict.modern.as_deref().and_then(<[_]>::first) {
        let discovered = verdict.discover.as_deref().unwrap_or_default();
        let discovered: Value = serde_json::from_slice(discovered).unwrap_or_default();
        (stateless_get, seen.lists) = http::stateless(upstream, revision, &discovered).await;
    }
    let mut sessions = None;
    // A server may serve sessions and not say so, as the official Python SDK does.
    match http::sessions(upstream, Revision::NEWEST_LEGACY, watch).await {
        Ok((found, lists)) => {
            if !identity.bindings.contains(&Binding::Sessions) {
                identity.bindings.push(Binding::Sessions);
                identity.revisions.extend(found.revision);
            }
            seen.lists.extend(lists);
            sessions = Some(Box::new(found));
        }
        Err(text) if verdict.modern.is_none() => {
            let why = Why::NotMcp;
            seen.identity = Err(Unusable { why, text });
            return seen;
        }
        Err(_) => identity
            .bindings
            .retain(|binding| *binding != Binding::Sessions),
    }
    seen.identity = Ok(identity);
    seen.transport = Transport::Streamable {
        sessions,
        stateless_get,
    };
    seen
}

fn identity(verdict: &Verdict) -> Identity {
    let mut identity = Identity {
        name: verdict.server_name.clone(),
        version: verdict.server_version.clone(),
        ..Identity::default()
    };
    if let Some(revisions) = &verdict.modern {
        identity.bindings.push(Binding::Stateless);
        identity.revisions.extend(revisions);
    }
    if let Some(revision) = verdict.legacy {
        identity.bindings.push(Binding::Sessions);
        identity.revisions.push(revision);
    }
    identity
}

fn unusable(error: &ProbeError) -> Unusable {
    let why = match error {
        ProbeError::Failed(ProbeFailure::Unauthorized { .. }) => Why::Unauthorized,
        ProbeError::Failed(ProbeFailure::Unavailable { .. }) => Why::Unavailable,
        ProbeError::Failed(ProbeFailure::Refused { .. }) => Why::HeadersMissing,
        ProbeError::Failed(ProbeFailure::VersionMismatch { .. }) => Why::Version,
        ProbeError::Failed(_)
        | ProbeError::Upstream(UpstreamError::Malformed { .. } | UpstreamError::Redirect { .. }) => {
            Why::NotMcp
        }
        ProbeError::Upstream(_) | ProbeError::Body(_) => Why::Unavailable,
        _ => Why::NotMcp,
    };
    Unusable {
        why,
        text: wire::with_causes(error),
    }
}
