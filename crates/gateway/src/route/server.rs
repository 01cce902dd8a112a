//! How the server of a route is reached, and how an upstream session is opened where that is a pipe.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};
use thinpipe_proto::bridge::{
    AttachError, Config, DEFAULT_ABSOLUTE_CAP, DEFAULT_CAP, End, Limits, Refused, Sharing,
};
use thinpipe_proto::revision::{Binding, Revision};
use thinpipe_proto::rpc::Message;
use thinpipe_proto::session::Principal;
use thinpipe_transport::ByteBudget;
use thinpipe_transport::upstream::pipe::{Pipe, PipeError};
use thinpipe_transport::upstream::probe::{Speaks, Verdict};
use thinpipe_transport::upstream::stdio::{StdioStats, StdioUpstream};
use thinpipe_transport::upstream::{Upstream, sse};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::calls::OverHttp;
use super::initialize::is_unknown_here;
use super::opening::negotiated;
use super::pinned::Seems;
use super::{Incoming, Route};
use crate::config::{ProgramEra, Reached, UpstreamSpec};
use crate::failure::{Failure, Reason};
use crate::headers;
use crate::health::Era;
use crate::interceptor::MessageContext;
use crate::modern::ModernServer;
use crate::modern::stdio::Program;
use crate::pipe::{
    AT_ONCE, Attachment, Children, NotSent, Owner, SharedSessions, Spoken, UpstreamSession,
};

/// How a server is reached.
pub(super) enum Server {
    /// Over HTTP.
    Http(Upstream),
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
                return (Self::Http(Upstream::new(http.client.clone())), http.pin);
            }
            Reached::Stdio(reached) => reached,
        };
        let (process, budget) = (reached.process.clone(), buffered.clone());
        let upstream = StdioUpstream::new(process, budget, tasks.clone(), stop.child_token());
        let (sharing, limit) = (spec.bridge.pipe_sharing(), reached.max_children);
        let children = Arc::new(Children::new(upstream, sharing, limit));
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

/// An upstream session that did not open.
enum NotOpened {
    /// Another one has to be tried: this one is over, or of another revision.
    Elsewhere,
    Failed(Failure),
}

impl From<Failure> for NotOpened {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Route {
    /// Its pool of connections; `None` for a server that is a child process.
    #[must_use]
    pub fn upstream(&self) -> Option<&Upstream> {
        match &self.server {
            Server::Http(upstream) => Some(upstream),
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
        let starts = match &self.server {
            Server::Http(_) => true,
            Server::Stdio(children) => children.failed_starts() < self.spec.health.failures.max(1),
        };
        starts && self.health.is_healthy()
    }

    /// Idle connections age, and so do children that nobody uses.
    pub(crate) fn prune(&self) {
        match &self.server {
            Server::Http(upstream) => upstream.prune(),
            Server::Stdio(_) => {
                if let Some(program) = &self.program {
                    program.age();
                }
            }
        }
    }

    /// # Errors
    /// The server is none of HTTP: what needs one has come here by mistake.
    pub(crate) fn http(&self) -> Result<&Upstream, Failure> {
        let text = "a server that is a child process is not asked over HTTP";
        self.upstream()
            .ok_or_else(|| Failure::new(Reason::Binding, text))
    }

    /// How long a server may take to answer.
    pub(super) fn request_timeout(&self) -> Duration {
        self.spec.request_timeout()
    }

    /// The bounds of an upstream session, whatever it is.
    pub(super) fn session_limits(&self) -> Limits {
        let idle = self.request_timeout();
        Limits {
            idle,
            cap: DEFAULT_CAP.max(idle),
            absolute_cap: DEFAULT_ABSOLUTE_CAP.max(idle),
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
        let Server::Http(upstream) = &self.server else {
            return !self.era().is_modern_only();
        };
        match self.era().known() {
            Some(verdict) => speaks_sse(&verdict),
            None if upstream.config().url.path().ends_with("/sse") => self.turns_out_a_pipe().await,
            None => false,
        }
    }

    /// The same; the server is asked.
    pub(super) async fn turns_out_a_pipe(&self) -> bool {
        let verdict = self.find_out().await;
        verdict.is_ok_and(|verdict| speaks_sse(&verdict))
    }

    /// Opens an upstream session with this `initialize`, or lets it join one, and gives the answer.
    pub(super) async fn open_piped(
        self: &Arc<Self>,
        call: Incoming,
        context: &MessageContext,
        message: &Message,
    ) -> Result<(Attachment, Bytes), Failure> {
        let principal = call.principal.clone();
        let asked = (&principal, message);
        let opened = match &self.server {
            Server::Http(upstream) => {
                let pipe = self.open_stream(upstream, call, context).await?;
                let session = self.begin(pipe, Sharing::PerClient, AT_ONCE);
                self.ask_initialize(&session, asked).await
            }
            Server::Stdio(children) => match children.shared() {
                Some(shared) => self.join(children, shared, asked).await,
                None => {
                    let session = self.start(children, Sharing::PerClient)?;
                    self.ask_started(children, &session, asked).await
                }
            },
        };
        opened.map_err(|not_opened| match not_opened {
            NotOpened::Failed(failure) => failure,
            NotOpened::Elsewhere => {
                let text = format!("{} ended its session over initialize", self.name());
                Failure::new(Reason::StreamLost, text)
            }
        })
    }

    /// Headers of a client's request that reach a server of HTTP+SSE; interceptors have their say about them.
    ///
    /// # Errors
    /// An interceptor failed.
    pub(super) fn headers_over_sse(
        &self,
        headers: HeaderMap,
        context: &MessageContext,
    ) -> Result<HeaderMap, Failure> {
        let mut headers = headers::without_session(headers);
        // Those of the client's POST; each request to the server has its own.
        headers.remove(ACCEPT);
        headers.remove(CONTENT_TYPE);
        self.chain.headers(context, &mut headers)?;
        Ok(headers)
    }

    /// HTTP+SSE: GET of the stream. Its headers go with what the gateway itself says in the session, too.
    async fn open_stream(
        &self,
        upstream: &Upstream,
        call: Incoming,
        context: &MessageContext,
    ) -> Result<Pipe, Failure> {
        let headers = self.headers_over_sse(call.headers, context)?;
        self.open_sse(upstream, headers).await
    }

    /// The same, with headers that are complete.
    pub(super) async fn open_sse(
        &self,
        upstream: &Upstream,
        headers: HeaderMap,
    ) -> Result<Pipe, Failure> {
        let opened = sse::open(upstream, headers, self.max_message(), self.buffered()).await;
        opened.map_err(|error| {
            if matches!(
                error,
                PipeError::NotAStream { .. } | PipeError::NotAnEndpoint { .. }
            ) {
                self.era().contradicted_stream();
            }
            if matches!(error, PipeError::Upstream(_)) {
                self.health.suspect();
            }
            self.not_opened(&error)
        })
    }

    /// Joins a session that all clients share; the first client starts it.
    async fn join(
        self: &Arc<Self>,
        children: &Children,
        shared: &SharedSessions,
        asked: (&Principal, &Message),
    ) -> Result<(Attachment, Bytes), NotOpened> {
        let (running, is_new) = self.joinable(children, shared)?;
        for session in &running {
            let answered = if is_new {
                self.ask_started(children, session, asked).await
            } else {
                self.ask_initialize(session, asked).await
            };
            match answered {
                Err(NotOpened::Elsewhere) => {}
                answered => return answered,
            }
        }
        // One for another revision: there are no more of them than revisions.
        let session = self.start(children, Sharing::Shared)?;
        shared.lock().push(Arc::downgrade(&session));
        self.ask_started(children, &session, asked).await
    }

    /// The sessions that clients may join, at least one; `true`: it is a new one. Clients that come at
    /// the same time start one together.
    fn joinable(
        self: &Arc<Self>,
        children: &Children,
        shared: &SharedSessions,
    ) -> Result<(Vec<Arc<UpstreamSession>>, bool), Failure> {
        let mut shared = shared.lock();
        let running = shared.iter().filter_map(std::sync::Weak::upgrade);
        let running: Vec<_> = running.filter(|session| session.end().is_none()).collect();
        let is_new = running.is_empty();
        let running = match is_new {
            true => vec![self.start(children, Sharing::Shared)?],
            false => running,
        };
        *shared = running.iter().map(Arc::downgrade).collect();
        Ok((running, is_new))
    }

    fn start(
        self: &Arc<Self>,
        children: &Children,
        sharing: Sharing,
    ) -> Result<Arc<UpstreamSession>, Failure> {
        let pipe = children
            .start()
            .map_err(|not| not.into_failure(self.name()))?;
        Ok(self.begin(pipe, sharing, 1))
    }

    /// Begins an upstream session over a pipe that is open.
    fn begin(
        self: &Arc<Self>,
        pipe: Pipe,
        sharing: Sharing,
        at_once: usize,
    ) -> Arc<UpstreamSession> {
        let config = Config {
            upstream: self.name().to_owned(),
            sharing,
            limits: self.session_limits(),
        };
        self.stats().session_opened();
        let session = UpstreamSession::new(pipe.sender.clone(), config);
        let owner: Arc<dyn Owner> = Arc::clone(self) as _;
        let running = Arc::clone(&session).run(pipe, at_once, owner, self.stop.clone());
        self.tasks.spawn(running);
        session
    }

    /// As [`ask_initialize`](Self::ask_initialize), of a child that was started for this.
    async fn ask_started(
        &self,
        children: &Children,
        session: &Arc<UpstreamSession>,
        asked: (&Principal, &Message),
    ) -> Result<(Attachment, Bytes), NotOpened> {
        let answered = self.ask_initialize(session, asked).await;
        match (&answered, session.end()) {
            (Ok((_, answer)), _) => {
                let speaks = spoken(answer);
                self.program_said(children, speaks);
                if speaks == Some(Spoken::Stateless) {
                    let text = format!(
                        "{} has no initialize: it speaks 2026-07-28 without sessions only",
                        self.name()
                    );
                    let failure = Failure::new(Reason::Binding, text);
                    return Err(self.doubted(failure, Seems::Modern).into());
                }
            }
            (Err(_), Some(End::UpstreamLost(_) | End::InitializeUnanswered)) => {
                children.start_failed();
            }
            (Err(_), _) => {}
        }
        answered
    }

    /// A program has answered `initialize`, and by that said what it speaks; `None`: not that.
    pub(super) fn program_said(&self, children: &Children, speaks: Option<Spoken>) {
        children.answered(self.name(), speaks);
        self.era().said(speaks);
    }

    /// Attaches a client session of this principal and gives its `initialize`; what comes back is the answer of the
    /// server, or the machine's.
    async fn ask_initialize(
        &self,
        session: &Arc<UpstreamSession>,
        (principal, message): (&Principal, &Message),
    ) -> Result<(Attachment, Bytes), NotOpened> {
        let Some(id) = message.id() else {
            return Err(Failure::new(Reason::Invalid, "initialize without an id").into());
        };
        let (attachment, answer) = session.attach(id, principal).map_err(|error| match error {
            AttachError::Over => NotOpened::Elsewhere,
            error => Failure::new(Reason::Overloaded, error.to_string()).into(),
        })?;
        match session.send(attachment.member().id(), message, None).await {
            Ok(()) => {}
            Err(NotSent::Refused(Refused::Over | Refused::OtherRevision)) => {
                return Err(NotOpened::Elsewhere);
            }
            Err(NotSent::Refused(refused)) => {
                let answer = refused.answer(message, self.name());
                let failure = || Failure::new(Reason::Invalid, refused.to_string());
                return Ok((attachment, answer.ok_or_else(failure)?));
            }
            Err(NotSent::Stuck) => {
                let text = format!("{} does not take what it is sent", self.name());
                return Err(Failure::new(Reason::Timeout, text).into());
            }
        }
        let answer = answer.await;
        let failure = match (session.end(), answer) {
            (Some(End::UpstreamLost(reason)), _) => {
                Failure::new(Reason::StreamLost, format!("initialize failed: {reason}"))
            }
            (Some(End::InitializeUnanswered), _) => {
                Failure::new(Reason::Timeout, "initialize was not answered in time")
            }
            (_, Ok(answer)) => return Ok((attachment, answer)),
            (_, Err(_)) => Failure::session_gone(),
        };
        Err(failure.into())
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
