//! How the server of a route is reached, and how an upstream session is opened where that is a pipe.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use thinpipe_proto::bridge::{DEFAULT_ABSOLUTE_CAP, DEFAULT_CAP, Limits};
use thinpipe_proto::revision::{Binding, Revision};
use thinpipe_proto::rpc::Message;
use thinpipe_transport::ByteBudget;
use thinpipe_transport::upstream::Upstream;
use thinpipe_transport::upstream::probe::{Speaks, Verdict};
use thinpipe_transport::upstream::stdio::{StdioStats, StdioUpstream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Route;
use super::calls::OverHttp;
use super::initialize::is_unknown_here;
use super::opening::negotiated;
use crate::config::{ProgramEra, Reached, UpstreamSpec};
use crate::failure::{Failure, Reason};
use crate::group::{Group, ReplicaStats};
use crate::health::Era;
use crate::modern::ModernServer;
use crate::modern::stdio::Program;
use crate::pipe::{Children, Spoken};

/// How a server is reached.
pub(super) enum Server {
    /// Over HTTP.
    Http(Box<Group>),
    /// As a child process.
    Stdio(Arc<Children>),
}

impl Server {
    /// How a server is reached, and what the configuration says it speaks, if it does.
    pub(super) fn of(
        spec: &UpstreamSpec,
        tasks: &TaskTracker,
        stop: &CancellationToken,
        buffered: &ByteBudget,
    ) -> (Self, Option<Binding>) {
        let reached = match &spec.reached {
            Reached::Http(http) => {
                return (Self::Http(Box::new(Group::of(http, spec.health))), http.pin);
            }
            Reached::Stdio(reached) => reached,
        };
        let (process, budget) = (reached.process.clone(), buffered.clone());
        let upstream = StdioUpstream::new(process, budget, tasks.clone(), stop.child_token());
        let children = Arc::new(Children::new(upstream, reached.max_children));
        (Self::Stdio(children), reached.pin.map(binding_of))
    }

    /// What calls of 2026-07-28 are made on, if it is a program.
    pub(super) fn program(
        &self,
        spec: &UpstreamSpec,
        tasks: &TaskTracker,
        stop: &CancellationToken,
        buffered: &ByteBudget,
        era: &Arc<Era>,
    ) -> Option<Arc<Program>> {
        let (Self::Stdio(children), Reached::Stdio(reached)) = (self, &spec.reached) else {
            return None;
        };
        Some(Arc::new(Program::new(
            (
                Arc::clone(spec.name()),
                Arc::clone(children),
                Arc::clone(era),
            ),
            reached.request_timeout,
            (tasks.clone(), stop.child_token()),
            buffered.clone(),
            spec.bridge.one_anonymous(),
        )))
    }
}

impl Route {
    /// Its pool of connections, that of its first replica if there are several; `None` for a server that is a
    /// child process.
    #[must_use]
    pub fn upstream(&self) -> Option<&Upstream> {
        Some(&self.group()?.replicas()[0].upstream)
    }

    /// What its replicas do and get, in the order of the configuration; none for a server that is a child
    /// process.
    #[must_use]
    pub fn replicas(&self) -> Vec<ReplicaStats> {
        self.group().map(Group::stats).unwrap_or_default()
    }

    pub(crate) fn group(&self) -> Option<&Group> {
        match &self.server {
            Server::Http(group) => Some(group),
            Server::Stdio(_) => None,
        }
    }

    /// What became of its children; `None` for a server at a URL.
    #[must_use]
    pub fn children(&self) -> Option<StdioStats> {
        match &self.server {
            Server::Http(_) => None,
            Server::Stdio(children) => Some(children.stats()),
        }
    }

    /// What its program speaks, in words for people, if a client has made it known: to ask would be to
    /// start one.
    #[must_use]
    pub fn program_speaks(&self) -> Option<String> {
        match &self.server {
            Server::Stdio(children) => children.speaks().map(|speaks| speaks.to_string()),
            Server::Http(_) => None,
        }
    }

    /// Whether it answers its health checks. Of a child process: whether its last starts succeeded, as
    /// none is started only to see.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        match &self.server {
            Server::Http(group) => group.is_healthy(),
            Server::Stdio(children) => children.failed_starts() < self.spec.health.failures.max(1),
        }
    }

    /// Something failed that the health checks should know of.
    pub(crate) fn suspect(&self) {
        if let Some(group) = self.group() {
            group.suspect();
        }
    }

    /// Idle connections age, and so do children that nobody uses.
    pub(crate) fn prune(&self) {
        match &self.server {
            Server::Http(group) => group.prune(),
            Server::Stdio(_) => {
                if let Some(program) = &self.program {
                    program.age();
                }
            }
        }
    }

    /// # Errors
    /// The server is none of HTTP: what needs one has come here by mistake.
    pub(crate) fn http(&self) -> Result<&Group, Failure> {
        let text = "a server that is a child process is not asked over HTTP";
        self.group()
            .ok_or_else(|| Failure::new(Reason::Binding, text))
    }

    /// How long a server may take to answer.
    pub(super) fn request_timeout(&self) -> Duration {
        self.spec.request_timeout()
    }

    /// The bounds of an upstream session, whatever it is.
    pub(super) fn session_limits(&self) -> Limits {
        let (idle, stream_idle) = (self.request_timeout(), self.spec.stream_idle());
        let longest = idle.max(stream_idle);
        Limits {
            idle,
            stream_idle,
            cap: DEFAULT_CAP.max(longest),
            absolute_cap: DEFAULT_ABSOLUTE_CAP.max(longest),
            ..Limits::default()
        }
    }

    /// The server, for calls of 2026-07-28, past what is kept of its answers.
    pub(crate) fn modern_server(self: &Arc<Self>) -> Arc<dyn ModernServer> {
        self.remembering(match &self.program {
            Some(program) => Arc::clone(program) as _,
            None => Arc::new(OverHttp::new(Arc::clone(self))),
        })
    }

    /// Whether a session of this server is a pipe of messages, as far as that is known: a program that is not
    /// known to have none is tried. Of a URL that ends as those of HTTP+SSE servers do, it is found out first
    /// (protocol notes 1.3, "E0 hint").
    pub(super) async fn is_pipe(&self) -> bool {
        let Some(upstream) = self.upstream() else {
            return !self.era().is_modern_only();
        };
        match self.era().known() {
            Some(verdict) => speaks_sse(&verdict),
            None if upstream.config().url.path().ends_with("/sse") => self.turns_out_a_pipe().await,
            None => false,
        }
    }

    /// Whether a client that begins a session gets one that is a pipe, as its server has no other or the
    /// configuration says so.
    pub(super) async fn holds_sessions(&self) -> bool {
        if self.is_pipe().await {
            return true;
        }
        if !self.spec.holds_sessions() || self.upstream().is_none() {
            return false;
        }
        if self.era().known().is_none() {
            // What it speaks decides how it is opened. One that cannot be asked is taken for one with sessions, and
            // opening that will tell.
            let _ = self.find_out().await;
        }
        !self.era().is_modern_only()
    }

    /// The same as [`is_pipe`](Self::is_pipe); the server is asked.
    pub(super) async fn turns_out_a_pipe(&self) -> bool {
        let verdict = self.find_out().await;
        verdict.is_ok_and(|verdict| speaks_sse(&verdict))
    }

    /// A program has answered `initialize`, and by that said what it speaks; `None`: not that.
    pub(super) fn program_said(&self, children: &Children, speaks: Option<Spoken>) {
        children.answered(self.name(), speaks);
        self.era().said(speaks);
    }
}

/// The binding over HTTP that has what a program of this era has.
fn binding_of(era: ProgramEra) -> Binding {
    match era {
        ProgramEra::Legacy => Binding::Sessions,
        ProgramEra::Modern => Binding::Stateless,
    }
}

fn speaks_sse(verdict: &Verdict) -> bool {
    matches!(verdict.speaks, Speaks::HttpSse { .. })
}

/// What a program speaks by its answer to `initialize`; `None`: that cannot be said.
pub(super) fn spoken(answer: &Bytes) -> Option<Spoken> {
    let answer = Message::parse(answer.clone()).ok()?;
    if let Ok(Some(revision)) = negotiated(&answer) {
        return Some(Spoken::Sessions(revision));
    }
    // A server of 2026-07-28 that names what it supports may have sessions in another revision.
    let is_legacy = |version: &serde_json::Value| {
        let known = version
            .as_str()
            .and_then(|v| Revision::from_bytes(v.as_bytes()));
        known.is_some_and(|revision| !revision.is_modern())
    };
    let error = answer.error().unwrap_or_default();
    let error: serde_json::Value = serde_json::from_slice(&error).unwrap_or_default();
    let supported = error["data"]["supported"].as_array();
    let has_sessions = supported.is_some_and(|versions| versions.iter().any(is_legacy));
    (is_unknown_here(&answer) && !has_sessions).then_some(Spoken::Stateless)
}
