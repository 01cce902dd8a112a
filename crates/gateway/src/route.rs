//! One upstream on one path: the handler of its exchanges.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, OnceLock};

use http::StatusCode;
use thinpipe_proto::classify::is_read_only_method;
use thinpipe_proto::rpc::{Message, RequestId};
use thinpipe_transport::body::BoxFuture;
use thinpipe_transport::server::{Answer, Exchange, Inbound, Nodes, Session, WeakSessionManager};
use thinpipe_transport::upstream::UpstreamRequest;
use thinpipe_transport::{ByteBudget, Random};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::attachment::{Attached, attached};
use crate::cache::Answers;
use crate::clock::{Seldom, now};
use crate::config::{Forwarded, SessionLost, UpstreamSpec};
use crate::downgrade::Downgrade;
use crate::failure::Failure;
use crate::group::To;
use crate::headers;
use crate::health::Era;
use crate::interceptor::{Carrier, Chain, Direction, MessageContext, subject};
use crate::log::{Begun, ExchangeLog};
use crate::modern::stdio::Program;
use crate::pipe::Joined;
use crate::rate::Limiter;
use crate::relay::{Line, Owner, Purpose};
use crate::seal::{NotSealed, Seals};
use crate::session::{Setup, short};
use crate::stats::{Counters, Latencies};

mod admission;
mod adopting;
mod answer;
mod calls;
mod cancelled;
mod downgrade;
mod handler;
mod incoming;
mod initialize;
mod intercept;
mod joining;
mod kept;
mod listen;
mod multiplex;
mod opening;
mod owner;
mod pinned;
mod piped;
mod probing;
mod reestablish;
mod refuse;
mod reopening;
mod replica;
mod resume;
mod send;
mod sent_on;
mod server;
mod session;
mod sessionless;
mod setup;
mod shown;
mod sse;
mod stateless;
mod stats;
mod upgrade;
mod versions;

use answer::body_failure;
pub(crate) use incoming::Incoming;
use incoming::{goes_on, purpose_of, request_id, session_of};
use intercept::Intercepted;
pub(crate) use pinned::{Seems, against_pin};
use piped::piped;
pub(crate) use probing::{Asked, ask_child, modern, verdict_of};
use server::Server;

/// One upstream, and everything that is the same for all its exchanges.
pub struct Route {
    spec: UpstreamSpec,
    server: Server,
    /// The same, for calls of 2026-07-28, if it is a program.
    program: Option<Arc<Program>>,
    chain: Chain,
    era: Arc<Era>,
    /// Of a server that speaks against its pin.
    told: Seldom,
    counters: Counters,
    latencies: Latencies,
    /// Weak, since sessions keep their route.
    sessions: OnceLock<WeakSessionManager>,
    tasks: TaskTracker,
    /// Cancelled when the process ends: no upstream session goes on.
    stop: CancellationToken,
    buffered: ByteBudget,
    /// How clients of 2026-07-28 use a server with sessions.
    downgrade: Arc<Downgrade>,
    seals: Arc<Seals>,
    /// Sessions of the server that several clients with sessions use, if they do.
    joined: Option<Joined>,
    /// `None`: messages are not counted.
    limiter: Option<Limiter>,
    /// What a server of 2026-07-28 has said that may be said again.
    answers: Arc<Answers>,
    log: OnceLock<Arc<dyn ExchangeLog>>,
}

impl Route {
    pub(crate) fn new(
        spec: UpstreamSpec,
        chain: Chain,
        tasks: TaskTracker,
        stop: CancellationToken,
        buffered: ByteBudget,
        seals: Arc<Seals>,
        limiter: Option<Limiter>,
    ) -> Result<Self, NotSealed> {
        let (server, pin) = Server::of(&spec, &tasks, &stop, &buffered);
        let era = Arc::new(Era::new(pin));
        let program = server.program(&spec, &tasks, &stop, &buffered, &era);
        let downgrade = downgrade::of(&spec, Arc::clone(&seals), &tasks, &stop, &buffered)?;
        let joined = joining::joined(&spec);
        let (name, cache) = (Arc::clone(spec.name()), &spec.bridge.cache);
        let answers = Arc::new(Answers::new(cache, name, buffered.clone()));
        Ok(Self {
            spec,
            server,
            program,
            chain,
            era,
            told: Seldom::default(),
            counters: Counters::default(),
            latencies: Latencies::default(),
            sessions: OnceLock::new(),
            tasks,
            stop,
            buffered,
            downgrade,
            seals,
            joined,
            limiter,
            answers,
            log: OnceLock::new(),
        })
    }

    /// Name of the upstream.
    #[must_use]
    pub fn name(&self) -> &str {
        self.spec.name()
    }

    /// Path of its MCP endpoint here.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.spec.path
    }

    /// What looks at its messages.
    #[must_use]
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// What it was told of its upstream.
    #[must_use]
    pub fn spec(&self) -> &UpstreamSpec {
        &self.spec
    }

    pub(crate) fn era(&self) -> &Era {
        &self.era
    }

    pub(crate) fn random(&self) -> &Random {
        self.seals.random()
    }

    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// For answers that have to be whole.
    pub(crate) fn buffered(&self) -> &ByteBudget {
        &self.buffered
    }

    fn max_message(&self) -> usize {
        self.spec.max_message
    }

    pub(crate) fn log_to(&self, log: Arc<dyn ExchangeLog>) {
        // The first log stays: records of one route do not change place in the middle.
        let _ = self.log.set(log);
    }

    /// Its server is one of several nodes.
    pub(crate) fn among(&self, nodes: &Nodes) {
        self.downgrade.among(nodes.clone());
    }

    /// Answers an exchange. The futures of the common ones, messages in a session and requests of
    /// 2026-07-28, are kept small: they are allocated for every request, and allocators are slow beyond a
    /// kilobyte.
    fn answer(self: Arc<Self>, exchange: Exchange) -> BoxFuture<Answer> {
        self.counters.exchange();
        let begun = Begun::new(&exchange, self.log.get().is_some());
        let id = request_id(&exchange.inbound).cloned();
        if let Some(session) = session_of(&exchange.inbound).filter(|s| attached(s).is_err()) {
            let session = Arc::clone(session);
            return Box::pin(async move {
                let gone = self.unknown_here(&session).await;
                self.finished(Err(gone), id.as_ref(), &begun)
            });
        }
        if let Some(group) = self.group().filter(|it| !it.is_healthy())
            && !goes_on(&exchange.inbound)
        {
            self.counters.failed();
            let answer = Failure::unhealthy(id.as_ref(), self.name(), &group.cause());
            self.begins(&begun, &answer);
            return Box::pin(std::future::ready(answer));
        }
        let address = exchange.client();
        let mut headers = headers::end_to_end(exchange.headers);
        if self.spec.forwarded == Forwarded::Append {
            let peer = exchange.peer.map(|peer| peer.ip());
            let trail = exchange.forwarded_for.iter().copied().chain(peer);
            headers::forwarded_for(&mut headers, trail);
        }
        let call = Incoming {
            revision: exchange.revision,
            address,
            principal: exchange.principal,
            headers,
        };
        match exchange.inbound {
            Inbound::Message(message, Some(session)) if piped(&session).is_some() => {
                Box::pin(async move {
                    let answered = self.in_piped_session(call, message, session).await;
                    self.finished(answered, id.as_ref(), &begun)
                })
            }
            Inbound::Message(message, session) => Box::pin(async move {
                let of = session.clone();
                let answered = self.in_session(call, message, session).await;
                let answered = cancelled::unless_owed_to_nobody(answered, of.as_ref(), id.as_ref());
                self.finished(answered, id.as_ref(), &begun)
            }),
            Inbound::Stateless(message) => Box::pin(async move {
                let answered = self.stateless(call, message).await;
                self.finished(answered, id.as_ref(), &begun)
            }),
            inbound => Box::pin(async move {
                let answered = self.uncommon(call, inbound).await;
                self.finished(answered, id.as_ref(), &begun)
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
            Inbound::Listen(session, last) if piped(&session).is_some() => {
                self.listen_piped(&session, last.as_ref()).await
            }
            Inbound::Listen(session, last) => self.listen(call, session, last).await,
            Inbound::Terminate(session) => self.terminate(call, session).await,
        }
    }

    fn finished(
        &self,
        answered: Result<Answer, Failure>,
        id: Option<&RequestId>,
        begun: &Begun,
    ) -> Answer {
        let answer = answered.unwrap_or_else(|failure| self.failed(&failure, id));
        self.begins(begun, &answer);
        answer
    }

    /// The answer is there, and begins.
    fn begins(&self, begun: &Begun, answer: &Answer) {
        let now = now();
        self.latencies.record(begun.class, begun.took(now));
        if let Some(log) = self.log.get() {
            begun.record(&**log, self.name(), answer, now);
        }
    }

    fn failed(&self, failure: &Failure, id: Option<&RequestId>) -> Answer {
        self.counters.failed();
        tracing::warn!(
            upstream = self.name(),
            url = self.url(),
            reason = failure.reason.as_str(),
            error = %failure.text,
            "an exchange failed"
        );
        failure.answer(id, self.name())
    }

    /// Revisions with sessions: a request, notification or response.
    #[expect(
        clippy::manual_async_fn,
        reason = "the future of an `async fn` holds its arguments twice, and this one is boxed for every request"
    )]
    fn in_session(
        self: &Arc<Self>,
        call: Incoming,
        message: Message,
        session: Option<Arc<Session>>,
    ) -> impl Future<Output = Result<Answer, Failure>> + Send {
        async move {
            if session.is_none() && Box::pin(self.is_pipe()).await {
                return Box::pin(self.sessionless_piped(call, message)).await;
            }
            let context = self.context(&call, session.as_ref(), &message);
            let message = match self.intercept_now(&context, message) {
                Intercepted::Passes(message) => message,
                Intercepted::Later(future) => match future.await {
                    Ok(message) => message,
                    Err((message, rejection)) => {
                        let refused = (&message, &rejection);
                        let refusing =
                            self.refuse_in_session(&call, &context, session.as_ref(), refused);
                        return Box::pin(refusing).await;
                    }
                },
            };
            if let Some(session) = &session {
                self.note(session, &context, &message);
                if Setup::is_changed_by(&message) && self.shares_setup(session) {
                    Box::pin(self.store_setup(session, &message)).await;
                }
            } else if self.era.is_modern_only() {
                return Box::pin(self.sessionless_upgraded(call, context, message)).await;
            }
            // For a session that may be opened anew, and for what is in none.
            let reestablishes = self.spec.session_lost == SessionLost::Reestablish;
            let again = (reestablishes || session.is_none()).then(|| Box::new(call.clone()));
            let sent_in = session
                .as_ref()
                .map(|session| attached(session).unwrap_or_default());
            let to = match session
                .as_ref()
                .map(|session| (session, self.place_of(session)))
            {
                None => To::Any,
                Some((_, Ok(to))) => to,
                Some((session, Err(gone))) => {
                    let of = (Arc::clone(session), sent_in.unwrap_or_default());
                    let elsewhere = self.without_replica(again, context, of, message, &gone);
                    return Box::pin(elsewhere).await;
                }
            };
            let request = self.request_in_session(call, sent_in.as_deref(), &message);
            // Two boxes below a kilobyte are cheaper than one above.
            let asking = Box::pin(self.ask(&context, to, request)?);
            let response = match asking.await {
                Ok(answered) => answered.response,
                Err(error) => {
                    let moves = again
                        .filter(|_| self.may_move(&error, to))
                        .zip(session.zip(sent_in));
                    let Some((call, of)) = moves else {
                        return Err(self.unsent(&error));
                    };
                    let moved = self.moved(*call, context, of, message, &error);
                    return Box::pin(moved).await;
                }
            };
            if let (None, Some(again)) = (&session, again.as_ref())
                && Box::pin(self.refuses_sessions(response.status)).await
            {
                let again = Incoming::clone(again);
                drop(response);
                return Box::pin(self.sessionless_upgraded(again, context, message)).await;
            }
            if response.status == StatusCode::NOT_FOUND {
                return Box::pin(self.not_found(again, context, session.zip(sent_in), message))
                    .await;
            }
            let line = self.line(session, purpose_of(&message));
            let later = match self.relay_now(response, line, context, None) {
                Relayed::Now(answer) => return answer,
                Relayed::Later(later) => later,
            };
            later.await
        }
    }

    fn request_in_session(
        &self,
        call: Incoming,
        at: Option<&Attached>,
        message: &Message,
    ) -> UpstreamRequest {
        let id = at.and_then(|at| at.upstream_session.as_ref());
        let mut headers = call.headers;
        headers::for_post(&mut headers);
        headers::for_session(&mut headers, call.revision, id);
        UpstreamRequest {
            repeatable: message.method().is_some_and(is_read_only_method),
            ..send::posted(headers, message.source().clone())
        }
    }

    fn context(
        &self,
        call: &Incoming,
        session: Option<&Arc<Session>>,
        message: &Message,
    ) -> MessageContext {
        let describes = !self.chain.is_empty();
        let about = match message.method() {
            _ if !describes => None,
            Some(method) => {
                let name = subject(message).map(|name| name.as_ref().into());
                Some((method.into(), name))
            }
            None => session.and_then(|session| self.asked(session, message)),
        };
        let (method, name) = about.unzip();
        MessageContext {
            direction: Direction::ToUpstream,
            carrier: Carrier::Body,
            revision: call.revision,
            upstream: Arc::clone(self.spec.name()),
            principal: call.principal.clone(),
            session: session.filter(|_| describes).map(|s| short(s)),
            method,
            name: name.flatten(),
            sequence: 0,
        }
    }

    fn line(self: &Arc<Self>, session: Option<Arc<Session>>, purpose: Purpose) -> Line {
        let backoff = thinpipe_proto::backoff::Backoff::new();
        Line {
            owner: Arc::clone(self) as Arc<dyn Owner>,
            session,
            purpose,
            answered: false,
            backoff,
            edit: None,
        }
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

/// An answer, or the future of one that interceptors have to read first.
pub(crate) enum Relayed {
    Now(Result<Answer, Failure>),
    Later(BoxFuture<Result<Answer, Failure>>),
}

#[cfg(test)]
impl Route {
    /// The route of one upstream that belongs to no gateway.
    pub(crate) fn alone(spec: UpstreamSpec) -> Arc<Self> {
        let chain = Chain::build(&[], Vec::new(), &spec.chain).expect("a chain");
        let seals = Arc::new(Seals::new(&[], Random::default()).expect("random numbers"));
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let rates = Arc::new(crate::rate::Rates::new(Default::default(), now()));
        let (limiter, buffered) = (rates.limiter(spec.rate, now()), ByteBudget::default());
        let route = Self::new(spec, chain, tasks, stop, buffered, seals, limiter);
        Arc::new(route.expect("random numbers"))
    }
}
