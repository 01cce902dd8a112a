//! `thinpipe doctor`: what a server speaks, and what would break behind a gateway.
//!
//! Seen by asking ([`http`], [`pipe`]), judged by a pure function ([`judgement`]), shown ([`report`]).
//! No tool is ever called.

mod crossing;
mod http;
mod judgement;
mod list;
mod observation;
mod pin;
mod pipe;
mod report;
mod stderr;
mod successor;
mod wire;

use std::io::Write;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use thinpipe_gateway::{ProgramEra, Reached};
use thinpipe_proto::revision::{Binding, Revision};
use thinpipe_transport::ByteBudget;
use thinpipe_transport::upstream::pipe::PipeError;
use thinpipe_transport::upstream::probe::{self, ProbeError, ProbeFailure, Speaks, Verdict};
use thinpipe_transport::upstream::stdio::StdioConfig;
use thinpipe_transport::upstream::{Upstream, UpstreamConfig, UpstreamError};

use crate::causes::with_causes;
use crate::cli::{DoctorArgs, ReportFormat};
use crate::config::{self, Manner, Settings};
use crate::run::main_runtime;
use observation::{Identity, Observations, Transport, Unusable, Why};
use pin::Pin;
use stderr::LastLines;

/// For a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Nothing is said for so long.
const QUIET: Duration = Duration::from_secs(3);

/// Asks, judges and prints; whether the server can be used.
///
/// # Errors
/// If the question itself makes no sense.
pub(crate) fn run(args: &DoctorArgs) -> anyhow::Result<bool> {
    let runtime = main_runtime()?;
    let seen = match reached(args)? {
        Reached::Http(http) => {
            let target = http.client.url.to_string();
            let upstream = Upstream::new(http.client);
            let watch = Duration::from_secs(args.watch);
            runtime.block_on(over_http(&target, &upstream, watch))
        }
        Reached::Stdio(child) => {
            let target = args.server.program.join(" ");
            let lines = LastLines::hear();
            let mut seen = runtime.block_on(patiently(over_stdio(&target, child.process)));
            seen.stderr = lines.take();
            seen
        }
    };
    let pin = args.era.and_then(Pin::of);
    let mut findings = judgement::judge(&seen);
    findings.extend(pin.and_then(|pin| pin.judged(&seen)));
    let clients = match judgement::is_usable(&findings) {
        true => crossing::clients(&seen, pin),
        false => Vec::new(),
    };
    let found = report::Found {
        seen: &seen,
        findings: &findings,
        pin,
        clients: &clients,
    };
    let text = match args.format {
        ReportFormat::Table => report::table(&found),
        ReportFormat::Json => format!("{:#}\n", report::json(&found)),
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(judgement::is_usable(&findings))
}

/// The server of the command line, held to the same rules as one that is served.
fn reached(args: &DoctorArgs) -> anyhow::Result<Reached> {
    let settings = Settings {
        // Nothing listens here, so that no address is the gateway's own.
        listen: Some("127.0.0.1:0".to_owned()),
        ..Settings::default()
    };
    let none = |_: &str| None;
    let manner = Manner {
        era: args.era,
        ..Manner::default()
    };
    let config = match args.server.url.as_deref() {
        Some(url) => {
            crate::no_url(url)?;
            config::for_url(url, manner, &settings, &none)?
        }
        None => {
            let line = config::CommandLine {
                words: &args.server.program,
                env: &args.server.env,
            };
            config::for_command(line, manner, &settings, &none)?
        }
    };
    let spec = config.gateway.upstreams.into_iter().next();
    let mut reached = spec.context("there is no server to ask")?.reached;
    if let Reached::Http(http) = &mut reached {
        patient(&mut http.client);
        http.client.headers = wire::headers_of(&args.header)?;
    }
    Ok(reached)
}

fn patient(client: &mut UpstreamConfig) {
    client.connect_timeout = CONNECT;
    client.first_byte_timeout = wire::PATIENCE;
    client.request_timeout = wire::PATIENCE;
}

/// What comes of looking at a program. If that takes long, it says what it waits for.
async fn patiently(looking: impl Future<Output = Observations>) -> Observations {
    let mut looking = std::pin::pin!(looking);
    // Cancel-safe: only the reference is dropped, and the look goes on below.
    if let Ok(seen) = tokio::time::timeout(QUIET, looking.as_mut()).await {
        return seen;
    }
    eprintln!(
        "waiting for the program: its first answer may take a minute, as it may have to be downloaded"
    );
    looking.await
}

/// What is seen of a program.
async fn over_stdio(target: &str, config: StdioConfig) -> Observations {
    let mut seen = nothing_yet(target);
    match pipe::child(config).await {
        Err(error) => seen.identity = Err(unusable(&error)),
        Ok(child) => {
            seen.transport = Transport::Stdio(child.stdio);
            match child.offer {
                Ok((capabilities, lists)) => {
                    seen.note_capabilities(&capabilities);
                    seen.lists = lists;
                    seen.identity = Ok(program(&child.verdict, child.session.as_ref()));
                    if let Some((_, capabilities)) = &child.session {
                        seen.note_capabilities(capabilities);
                    }
                }
                Err(text) => {
                    let why = Why::Program;
                    seen.identity = Err(Unusable { why, text });
                }
            }
        }
    }
    seen
}

/// What is seen of the server at a URL.
async fn over_http(target: &str, upstream: &Upstream, watch: Duration) -> Observations {
    let mut seen = nothing_yet(target);
    let verdict = match probe::probe(upstream, &ByteBudget::default()).await {
        Ok(verdict) => verdict,
        Err(error) => {
            let mut unusable = unusable(&error);
            if unusable.why == Why::NotMcp {
                unusable = not_there(upstream).await.unwrap_or(unusable);
            }
            seen.identity = Err(unusable);
            return seen;
        }
    };
    if matches!(verdict.speaks, Speaks::HttpSse { .. }) {
        match pipe::http_sse(upstream).await {
            Ok((sse, (capabilities, lists))) => {
                seen.note_capabilities(&capabilities);
                seen.identity = Ok(identity(&verdict));
                seen.lists = lists;
                seen.transport = Transport::HttpSse(sse);
            }
            Err(text) => seen.identity = Err(not_mcp(text)),
        }
        seen.successor = successor::ask(upstream).await.map(|it| it.url);
        return seen;
    }
    over_streamable(&mut seen, upstream, &verdict, watch).await;
    seen
}

/// Why it is no MCP server, if it says that itself.
async fn not_there(upstream: &Upstream) -> Option<Unusable> {
    if let Some(text) = pipe::foreign_endpoint(upstream).await {
        let why = Why::ForeignEndpoint;
        return Some(Unusable { why, text });
    }
    let successor = successor::ask(upstream).await.filter(|it| it.is_gone)?;
    Some(Unusable {
        why: Why::Gone,
        text: format!(
            "this address is not served any more (410); its successor is {}",
            successor.url
        ),
    })
}

async fn over_streamable(
    seen: &mut Observations,
    upstream: &Upstream,
    verdict: &Verdict,
    watch: Duration,
) {
    let mut identity = identity(verdict);
    let mut stateless_get = None;
    if let Some(&revision) = verdict.modern().and_then(<[_]>::first) {
        let discovered = verdict.discover.as_deref().unwrap_or_default();
        let discovered: Value = serde_json::from_slice(discovered).unwrap_or_default();
        seen.note_capabilities(&discovered["capabilities"]);
        (stateless_get, seen.lists) = http::stateless(upstream, revision, &discovered).await;
    }
    let mut sessions = None;
    // A server may serve sessions and not say so, as the official Python SDK does.
    match http::sessions(upstream, Revision::NEWEST_LEGACY, watch).await {
        Ok((found, (capabilities, lists))) => {
            seen.note_capabilities(&capabilities);
            if !identity.bindings.contains(&Binding::Sessions) {
                identity.bindings.push(Binding::Sessions);
                identity.revisions.extend(found.revision);
            }
            seen.lists.extend(lists);
            sessions = Some(Box::new(found));
        }
        Err(text) if verdict.modern().is_none() => {
            seen.identity = Err(not_mcp(text));
            return;
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
}

fn nothing_yet(target: &str) -> Observations {
    Observations {
        target: target.to_owned(),
        identity: Err(not_mcp(String::new())),
        capabilities: serde_json::Map::new(),
        lists: list::Lists::new(),
        transport: Transport::Unknown,
        successor: None,
        stderr: Vec::new(),
    }
}

fn not_mcp(text: String) -> Unusable {
    Unusable {
        why: Why::NotMcp,
        text,
    }
}

fn identity(verdict: &Verdict) -> Identity {
    let mut identity = Identity {
        name: verdict.server_name.clone(),
        version: verdict.server_version.clone(),
        ..Identity::default()
    };
    identity
        .revisions
        .extend(verdict.modern().into_iter().flatten());
    identity.revisions.extend(verdict.legacy());
    match &verdict.speaks {
        Speaks::HttpSse { .. } => identity.bindings.push(Binding::HttpSse),
        Speaks::Legacy { .. } => identity.bindings.push(Binding::Sessions),
        Speaks::Modern { legacy, .. } => {
            identity.bindings.push(Binding::Stateless);
            identity.bindings.extend(legacy.map(|_| Binding::Sessions));
        }
    }
    identity
}

/// A program, and the session that it opened though it speaks 2026-07-28.
fn program(verdict: &Verdict, session: Option<&pipe::Session>) -> Identity {
    let is_modern = verdict.modern().is_some();
    let has_sessions = !is_modern || session.is_some();
    let modern = is_modern.then_some(ProgramEra::Modern);
    let mut identity = Identity {
        bindings: Vec::new(),
        eras: modern
            .into_iter()
            .chain(has_sessions.then_some(ProgramEra::Legacy))
            .collect(),
        ..identity(verdict)
    };
    let found = session.and_then(|(revision, _)| *revision);
    let found = found.filter(|revision| !identity.revisions.contains(revision));
    identity.revisions.extend(found);
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
        ProbeError::Pipe(PipeError::Upstream(_))
        | ProbeError::Upstream(_)
        | ProbeError::Body(_) => Why::Unavailable,
        ProbeError::Pipe(_) | ProbeError::Silent { .. } => Why::Program,
        _ => Why::NotMcp,
    };
    Unusable {
        why,
        text: with_causes(error),
    }
}
