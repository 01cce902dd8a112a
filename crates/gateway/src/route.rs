//! One upstream on one path: the handler of its exchanges.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Method};
use thinpipe_proto::rpc::{Kind, Message, RequestId};
use thinpipe_transport::body::BoxFuture;
use thinpipe_transport::server::{
    Answer, Exchange, Handler, Inbound, Session, SessionEnd, SessionManager,
};
use thinpipe_transport::upstream::{Upstream, UpstreamError, UpstreamRequest, UpstreamResponse};
use tokio_util::task::TaskTracker;

use crate::config::{Resume, SessionLost, UpstreamSpec};
use crate::failure::Failure;
use crate::headers;
use crate::health::{Era, Health};
use crate::interceptor::{Carrier, Chain, Direction, MessageContext, Outcome, Rejection, Step};
use crate::log::{Begun, ExchangeLog};
use crate::relay::{Line, Purpose};
use crate::session::{Call, SessionState};
use crate::stats::{Counters, RouteStats};

mod answer;
mod initialize;
mod resume;
mod sessions;
mod stateless;

pub(crate) use initialize::unsupported;

/// One upstream, and everything that is the same for all its exchanges.
pub struct Route {
    spec: UpstreamSpec,
    upstream: Upstream,
    chain: Chain,
    health: Health,
    era: Era,
    counters: Counters,
    sessions: OnceLock<SessionManager>,
    tasks: TaskTracker,
    log: OnceLock<Arc<dyn ExchangeLog>>,
}

impl Route {
    pub(crate) fn new(spec: UpstreamSpec, chain: Chain, tasks: TaskTracker) -> Self {
        let upstream = Upstream::new(spec.client.clone());
        let health = Health::new(spec.health);
        Self {
            spec,
            upstream,
            chain,
            health,
            era: Era::default(),
            counters: Counters::default(),
            sessions: OnceLock::new(),
            tasks,
            log: OnceLock::new(),
        }
    }

    /// Name of the upstream.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.spec.client.name
    }

    /// Path of its MCP endpoint here.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.spec.path
    }

    /// Its pool of connections.
    #[must_use]
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Whether it answers its health checks.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.health.is_healthy()
    }

    /// What it has counted.
    #[must_use]
    pub fn route_stats(&self) -> RouteStats {
        self.counters.snapshot()
    }

    /// What looks at its messages.
    #[must_use]
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    pub(crate) fn spec(&self) -> &UpstreamSpec {
        &self.spec
    }

    pub(crate) fn health(&self) -> &Health {
        &self.health
    }

    pub(crate) fn era(&self) -> &Era {
        &self.era
    }

    pub(crate) fn stats(&self) -> &Counters {
        &self.counters
    }

    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    pub(crate) fn max_message(&self) -> usize {
        self.spec.max_message
    }

    pub(crate) fn resumes(&self) -> bool {
        self.spec.resume == Resume::Upstream
    }

    pub(crate) fn log_to(&self, log: Arc<dyn ExchangeLog>) {
        // The first log stays: records of one route do not change place in the middle.
        let _ = self.log.set(log);
    }

    /// The manager of the sessions this route takes part in; set when it is mounted.
    pub(crate) fn attach(&self, sessions: SessionManager) {
        // A route is mounted once; a second server would have sessions of its own to end.
        let first = self.sessions.set(sessions).is_ok();
        debug_assert!(first, "a route belongs to one server");
    }

    /// Answers an exchange. The future of the common one, a message in a session, is kept small: it
    /// is allocated for every request, and allocators are slow beyond a kilobyte.
    fn answer(self: Arc<Self>, exchange: Exchange) -> BoxFuture<Answer> {
        self.counters.exchange();
        let begun = self.log.get().map(|_| Box::new(Begun::new(&exchange)));
        let id = request_id(&exchange.inbound).cloned();
        if !self.health.is_healthy() && !matches!(exchange.inbound, Inbound::Terminate(_)) {
            self.counters.failed();
            let answer = Failure::unhealthy(id.as_ref(), self.name());
            self.log(begun.as_deref(), &answer);
            return Box::pin(std::future::ready(answer));
        }
        let call = Incoming {
            revision: exchange.revision,
            principal: exchange.principal,
            headers: exchange.headers,
        };
        match exchange.inbound {
            Inbound::Message(message, session) => Box::pin(async move {
                let answered = self.in_session(call, message, session).await;
                self.finished(answered, id.as_ref(), begun.as_deref())
            }),
            inbound => Box::pin(async move {
                let answered = self.uncommon(call, inbound).await;
                self.finished(answered, id.as_ref(), begun.as_deref())
            }),
        }
    }

    async fn uncommon(
        self: &Arc<Self>,
        call: Incoming,
        inbound: Inbound,
    ) -> Result<Answer, Failure> {
        match inbound {
            Inbound::Stateless(message) => self.stateless(call, message).await,
            Inbound::StatelessNotification(message) => {
                self.stateless_notification(call, message).await
            }
            Inbound::Initialize(message, slot) => self.initialize(call, message, slot).await,
            Inbound::Message(message, session) => self.in_session(call, message, session).await,
            Inbound::Listen(session, last) => self.listen(call, session, last).await,
            Inbound::Terminate(session) => self.terminate(call, session).await,
        }
    }

    fn finished(
        &self,
        answered: Result<Answer, Failure>,
        id: Option<&RequestId>,
        begun: Option<&Begun>,
    ) -> Answer {
        let answer = answered.unwrap_or_else(|failure| self.failed(&failure, id));
        self.log(begun, &answer);
        answer
    }

    fn log(&self, begun: Option<&Begun>, answer: &Answer) {
        if let (Some(log), Some(begun)) = (self.log.get(), begun) {
            begun.record(&**log, self.name(), answer);
        }
    }

    fn failed(&self, failure: &Failure, id: Option<&RequestId>) -> Answer {
        self.counters.failed();
        tracing::warn!(
            upstream = self.name(),
            reason = failure.reason.as_str(),
            error = %failure.text,
            "an exchange failed"
        );
        failure.answer(id, self.name())
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        headers: HeaderMap,
        body: Bytes,
        repeatable: bool,
    ) -> Result<UpstreamResponse, Failure> {
        let request = UpstreamRequest {
            method,
            headers,
            body,
            repeatable,
        };
        let sent = self.upstream.send(request).await;
        sent.map_err(|error| self.unsent(&error))
    }

    /// What a request that got no response means for its client, and for the upstream's health.
    fn unsent(&self, error: &UpstreamError) -> Failure {
        if matches!(error, UpstreamError::Connect { .. }) {
            self.health.suspect();
        }
        Failure::from(error)
    }

    /// Runs the chain over a message from the client. `Err`: it was refused.
    async fn intercept(
        &self,
        context: &MessageContext,
        message: Message,
    ) -> Result<Message, (Message, Rejection)> {
        match self.intercept_now(context, message) {
            Intercepted::Passes(message) => Ok(message),
            Intercepted::Later(future) => future.await,
        }
    }

    /// As [`intercept`](Self::intercept), without a future where none is needed.
    fn intercept_now(&self, context: &MessageContext, message: Message) -> Intercepted {
        if !self
            .chain
            .wants(Direction::ToUpstream, context.method.as_deref())
        {
            return Intercepted::Passes(message);
        }
        let decided = |outcome, message| match outcome {
            Outcome::Forward(message) | Outcome::Changed(message) => Ok(message),
            Outcome::Rejected(rejection) => Err((message, rejection)),
        };
        match self.chain.run(context, message.clone()) {
            Step::Done(outcome) => match decided(outcome, message) {
                Ok(message) => Intercepted::Passes(message),
                refused => Intercepted::Later(Box::pin(std::future::ready(refused))),
            },
            Step::Wait(future) => {
                Intercepted::Later(Box::pin(async move { decided(future.await, message) }))
            }
        }
    }

    fn edit_headers(
        &self,
        context: &MessageContext,
        headers: &mut HeaderMap,
    ) -> Result<(), Failure> {
        Ok(self.chain.headers(context, headers)?)
    }

    fn context(
        &self,
        call: &Incoming,
        session: Option<&Arc<Session>>,
        message: &Message,
    ) -> MessageContext {
        let describes = !self.chain.is_empty();
        let method = message.method().filter(|_| describes);
        let name = method
            .and_then(thinpipe_proto::classify::name_param)
            .and_then(|param| message.param_str(param));
        MessageContext {
            direction: Direction::ToUpstream,
            carrier: Carrier::Body,
            revision: call.revision,
            upstream: Arc::clone(&self.spec.client.name),
            principal: call.principal.clone(),
            session: session.filter(|_| describes).map(short),
            method: method.map(Into::into),
            name: name.map(Into::into),
            sequence: 0,
        }
    }

    /// Remembers what later exchanges of the session need to know of this one.
    fn note(&self, session: &Arc<Session>, context: &MessageContext, message: &Message) {
        let reestablishes = self.spec.session_lost == SessionLost::Reestablish;
        let reads = self.chain.wants_any(Direction::ToClient);
        if !reestablishes && !reads {
            return;
        }
        let Some(state) = session.state(SessionState::default) else {
            return;
        };
        if reestablishes {
            state.note_setup(message);
        }
        if let (true, Some(id), Some(method)) = (reads, message.id(), &context.method) {
            state.remember_call(id, (Arc::clone(method), context.name.clone()));
        }
    }

    pub(crate) fn call_of(&self, session: &Arc<Session>, id: &RequestId) -> Option<Call> {
        session.state(SessionState::default)?.call_of(id)
    }

    pub(crate) fn forget_call(&self, session: &Arc<Session>, id: &RequestId) {
        if let Some(state) = session.state(SessionState::default) {
            state.forget_call(id);
        }
    }

    /// Answers a server's request that the client does not get to see.
    pub(crate) fn answer_upstream(self: &Arc<Self>, session: &Arc<Session>, error: Bytes) {
        let route = Arc::clone(self);
        let session = Arc::clone(session);
        self.tasks.spawn(async move {
            let mut headers = HeaderMap::new();
            headers::for_post(&mut headers);
            let id = session.upstream_session();
            headers::for_session(&mut headers, session.revision(), id.as_ref());
            if let Err(failure) = route.send(Method::POST, headers, error, false).await {
                let error = failure.text;
                tracing::warn!(upstream = route.name(), %error, "a refusal did not arrive");
            }
        });
    }

    pub(crate) async fn end_session(&self, session: &Arc<Session>, why: SessionEnd) {
        let Some(sessions) = self.sessions.get() else {
            return;
        };
        if let Err(error) = sessions.end(session, why).await {
            tracing::warn!(session = ?session.id(), %error, "a session's record stays behind");
        }
    }

    pub(crate) fn sessions(&self) -> Option<&SessionManager> {
        self.sessions.get()
    }

    fn line(self: &Arc<Self>, session: Option<Arc<Session>>, purpose: Purpose) -> Line {
        let backoff = thinpipe_proto::backoff::Backoff::new();
        Line {
            route: Arc::clone(self),
            session,
            purpose,
            answered: false,
            backoff,
        }
    }
}

impl Handler for Route {
    fn handle(self: Arc<Self>, exchange: Exchange) -> BoxFuture<Answer> {
        self.answer(exchange)
    }

    fn session_ended(self: Arc<Self>, session: Arc<Session>, why: SessionEnd) -> BoxFuture<()> {
        // After DELETE the upstream was told already; a session it lost needs no telling.
        let told = matches!(why, SessionEnd::Deleted | SessionEnd::UpstreamGone);
        let id = session.upstream_session().filter(|_| !told);
        tracing::debug!(session = ?session.id(), upstream = self.name(), ?why, "a session ended");
        Box::pin(async move {
            if let Some(id) = id {
                self.delete_upstream(HeaderMap::new(), &session, &id).await;
            }
        })
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route")
            .field("name", &self.name())
            .field("path", &self.path())
            .finish()
    }
}

/// What the chain says of a message from the client.
enum Intercepted {
    /// It goes on.
    Passes(Message),
    /// It is refused, or that is not decided yet.
    Later(BoxFuture<Result<Message, (Message, Rejection)>>),
}

/// An answer, or the future of one that interceptors have to read first.
pub(crate) enum Relayed {
    Now(Result<Answer, Failure>),
    Later(BoxFuture<Result<Answer, Failure>>),
}

/// Everything of an exchange but its message.
#[derive(Clone)]
pub(crate) struct Incoming {
    pub(crate) revision: thinpipe_proto::revision::Revision,
    pub(crate) principal: thinpipe_proto::session::Principal,
    pub(crate) headers: HeaderMap,
}

fn request_id(inbound: &Inbound) -> Option<&RequestId> {
    match inbound {
        Inbound::Stateless(message)
        | Inbound::Initialize(message, _)
        | Inbound::Message(message, _) => message.id().filter(|_| message.kind() == Kind::Request),
        _ => None,
    }
}

/// Enough of a session's id to follow it in a log, too little to use it.
pub(crate) fn short(session: &Arc<Session>) -> Arc<str> {
    let id = session.id().as_str();
    id[..id.len().min(6)].into()
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
