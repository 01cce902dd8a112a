//! What a server speaks, found out by asking it (2026-07-28, "Versioning"): first `server/discover`, then
//! `initialize`, and over HTTP at last the event stream of HTTP+SSE. None has side effects worth
//! mentioning; nothing else is ever used to probe, since some servers run a `tools/call` that nobody
//! initialized.
//!
//! Pure: answers go in, the next request or the verdict comes out.

mod asking;
mod http;
mod stdio;

use std::time::Duration;

use bytes::Bytes;

use crate::revision::Revision;

pub use http::{NotOpened, Probe, http_sse};
pub use stdio::{DISCOVER_TIMEOUT, StdioNext, StdioProbe};

/// How long the first event of an HTTP+SSE stream may take.
pub const ENDPOINT_TIMEOUT: Duration = Duration::from_secs(10);

/// What was found out about a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What it speaks.
    pub speaks: Speaks,
    /// What it calls itself.
    pub server_name: Option<String>,
    /// The version it says it is.
    pub server_version: Option<String>,
    /// The result of `server/discover`, as JSON text.
    pub discover: Option<Bytes>,
}

/// What a server speaks: the eras of the protocol, and over HTTP the binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Speaks {
    /// Requests that describe themselves: stateless Streamable HTTP, or stdio.
    Modern {
        /// The revisions it serves so, newest first; never empty.
        revisions: Vec<Revision>,
        /// The newest revision with `initialize` that it serves too, as far as it says so.
        legacy: Option<Revision>,
    },
    /// `initialize` first: Streamable HTTP with sessions, or stdio.
    Legacy {
        /// The revision it agreed to.
        revision: Revision,
    },
    /// HTTP+SSE, with `initialize` first.
    HttpSse {
        /// The revision it agreed to; `None`: its stream was opened, and that was all.
        revision: Option<Revision>,
    },
}

impl Verdict {
    /// Modern revisions it serves, newest first; `None`: it is not modern.
    #[must_use]
    pub fn modern(&self) -> Option<&[Revision]> {
        match &self.speaks {
            Speaks::Modern { revisions, .. } => Some(revisions),
            Speaks::Legacy { .. } | Speaks::HttpSse { .. } => None,
        }
    }

    /// The newest revision with `initialize` that it serves, as far as it is known.
    #[must_use]
    pub fn legacy(&self) -> Option<Revision> {
        match self.speaks {
            Speaks::Modern { legacy, .. } => legacy,
            Speaks::Legacy { revision } => Some(revision),
            Speaks::HttpSse { revision } => revision,
        }
    }
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Send `server/discover` in this revision.
    Discover(Revision),
    /// Send `initialize` that asks for this revision, without session and without version header.
    Initialize(Revision),
    /// GET the URL as an event stream and wait for its first event, [`ENDPOINT_TIMEOUT`] at most. If that
    /// is an endpoint to post to, [`http_sse`] makes the verdict.
    OpenStream,
    /// The verdict is found.
    Done(Verdict),
    /// There is no verdict.
    Failed(ProbeFailure),
}

/// Why there is no verdict.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeFailure {
    /// 401 or 403: says nothing about revisions. Authorize, then probe again.
    #[error("it wants other credentials (status {status})")]
    Unauthorized {
        /// The status.
        status: u16,
    },
    /// 408, 425, 429 or 5xx: says nothing about revisions. Probe again later.
    #[error("it is not available (status {status})")]
    Unavailable {
        /// The status.
        status: u16,
    },
    /// It is an MCP server of revisions nobody here knows, or it contradicts itself.
    #[error("it speaks none of the revisions known here, but {supported:?}")]
    VersionMismatch {
        /// What it says it supports, as it says it: the first few.
        supported: Vec<String>,
    },
    /// It is modern and says that headers were missing, or a capability.
    #[error(
        "it is modern and refused the probe with {code}: are headers stripped on the way, or does \
         it need a capability?"
    )]
    Refused {
        /// -32020 or -32021.
        code: i32,
    },
    /// No request was answered as an MCP server does.
    #[error(
        "it is no MCP server of a known kind: server/discover gave {discover}, initialize gave \
         {initialize}{}", .stream.as_deref().map(|saw| format!(", GET gave {saw}")).unwrap_or_default()
    )]
    NotMcp {
        /// What `server/discover` was answered with.
        discover: String,
        /// What `initialize` was answered with.
        initialize: String,
        /// What GET was answered with; `None`: it was not tried, since nothing spoke for HTTP+SSE.
        stream: Option<String>,
    },
}

impl ProbeFailure {
    /// Whether it says nothing about the server's revisions: nothing may be concluded or stored.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unauthorized { .. } | Self::Unavailable { .. })
    }
}

/// The request `server/discover`, with `id` as JSON text.
#[must_use]
pub fn discover_request(id: &str, revision: Revision) -> Bytes {
    let version = env!("CARGO_PKG_VERSION");
    Bytes::from(format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"server/discover","params":{{"_meta":{{"io.modelcontextprotocol/protocolVersion":"{revision}","io.modelcontextprotocol/clientCapabilities":{{}},"io.modelcontextprotocol/clientInfo":{{"name":"thinpipe","version":"{version}"}}}}}}}}"#
    ))
}

/// The request `initialize`, with `id` as JSON text.
#[must_use]
pub fn initialize_request(id: &str, revision: Revision) -> Bytes {
    let version = env!("CARGO_PKG_VERSION");
    Bytes::from(format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"initialize","params":{{"protocolVersion":"{revision}","capabilities":{{}},"clientInfo":{{"name":"thinpipe","version":"{version}"}}}}}}"#
    ))
}

#[cfg(test)]
mod tests;
