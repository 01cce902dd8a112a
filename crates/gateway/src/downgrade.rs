//! Clients of 2026-07-28 in front of a server with sessions (protocol notes 5.4): which session a request runs
//! on, and what of it a client keeps until it comes back.
//!
//! What becomes of a message [`Downgrading`] decides. Each session of the server has one task; each client
//! takes what there is for it over its own connection, so that who does not read makes nobody wait for long.

mod cursor;
mod delivery;
mod opening;
mod parked;
mod place;
mod pool;
mod post;
mod reading;
mod refusal;
mod session;
mod state;
mod task;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use thinpipe_proto::bridge::downgrade::{
    AttachmentId, Channel, ExchangeId, Lifetime, Refused, Request, Ticket, UrlAnswers, url_answers,
};
use thinpipe_proto::bridge::shape::Responses;
use thinpipe_proto::rpc::{Message, response};
use thinpipe_proto::session::{NodeId, Principal};
use thinpipe_transport::body::BoxFuture;
use thinpipe_transport::server::{Answer, Nodes};
use thinpipe_transport::upstream::pipe::{Pipe, PipeError};
use thinpipe_transport::{ByteBudget, Random};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cache::Noting;
use crate::clock::{now, unix_now};
use crate::config::{BridgeConfig, Clients};
use crate::failure::{Failure, Reason};
use crate::interceptor::MessageContext;
use crate::owner::UpstreamOwner;
use crate::seal::{self, NotSealed, Scope, Seals};
use crate::sync::lock;
use parked::{Parked, ParkedPlace};
use place::Place;
use pool::Pool;
use post::{Kind, Post};
use reading::Reading;
use session::Session;
use state::{Boot, SessionKey, State, Waits};

pub(crate) use post::Client;
pub(crate) use refusal::Refusal;

/// Whose server it is.
pub(crate) trait Owner: UpstreamOwner {
    /// Opens a session in which nothing is said yet. The headers, a client's, go with what the gateway itself
    /// says; `None`: only those that the gateway adds, whoever asks.
    fn open(self: Arc<Self>, headers: Option<HeaderMap>) -> BoxFuture<Result<Pipe, Failure>>;

    /// The server has answered `initialize` with this result.
    fn opened(&self, result: &Bytes);

    /// The server has answered `initialize` with this error: what is to be said of that beside it, if anything.
    fn refused(&self, answer: &Message) -> Option<String>;

    /// The same of an answer without one, of a server that has a stream for each request.
    fn not_taken(&self, error: &PipeError) -> Option<String>;

    /// No session was opened. `had_pipe`: there was a way to the server, and it said nothing of use on it;
    /// otherwise whoever [was to open](Self::open) one has said why there is none.
    fn never_opened(&self, had_pipe: bool);

    /// The server says that its tools have changed.
    fn tools_changed(&self);
}

/// What is told of the server.
pub(crate) struct Settings {
    pub(crate) upstream: Arc<str>,
    pub(crate) bridge: BridgeConfig,
    /// The setting that bounds the sessions of all.
    pub(crate) total_key: &'static str,
    pub(crate) clients: Clients,
    /// How long a request may stay without progress.
    pub(crate) idle: Duration,
    /// The same, once an event stream answers it.
    pub(crate) stream_idle: Duration,
    /// For what waits until clients take it.
    pub(crate) budget: ByteBudget,
}

/// One server with sessions, as clients of 2026-07-28 use it.
pub(crate) struct Downgrade {
    settings: Settings,
    seals: Arc<Seals>,
    boot: Boot,
    parked: Arc<Parked>,
    pool: Pool<Session>,
    /// Sessions that are not forgotten, those without a place in the pool too.
    sessions: Mutex<HashMap<SessionKey, Weak<Session>>>,
    /// What the last session of an anonymous request said of the server.
    discovered: Mutex<Option<(Instant, Bytes)>>,
    /// The last number that was given to a session or a POST.
    last: AtomicU64,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Set if there are several.
    nodes: OnceLock<Nodes>,
}

/// A request of a client, which interceptors have let pass.
pub(crate) struct Asked {
    pub(crate) message: Message,
    pub(crate) client: Client,
    /// Those of its headers that may reach the server.
    pub(crate) headers: HeaderMap,
    /// What all messages to the client have in common.
    pub(crate) context: MessageContext,
    /// How the server's messages come.
    pub(crate) channel: Channel,
    /// Is shown the answer that the client gets.
    pub(crate) learning: Option<Box<Noting>>,
}

impl From<NotSealed> for Failure {
    fn from(error: NotSealed) -> Self {
        Self::new(Reason::Unavailable, error.to_string())
    }
}

impl Downgrade {
    /// # Errors
    /// [`NotSealed`]: there are no random numbers.
    pub(crate) fn new(
        settings: Settings,
        seals: Arc<Seals>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, NotSealed> {
        let boot = Boot(number(seals.random())?);
        Ok(Arc::new(Self {
            parked: Parked::new(settings.bridge.parked),
            pool: Pool::new(settings.bridge.pool.total),
            settings,
            seals,
            boot,
            sessions: Mutex::default(),
            discovered: Mutex::default(),
            last: AtomicU64::new(0),
            tasks,
            stop,
            nodes: OnceLock::new(),
        }))
    }

    /// Answers a request.
    ///
    /// # Errors
    /// [`Refusal`]: nothing of it has run.
    pub(crate) async fn answer(
        self: &Arc<Self>,
        owner: Arc<dyn Owner>,
        mut asked: Asked,
    ) -> Result<Answer, Refusal> {
        let context = asked.context.clone();
        let learning = asked.learning.take();
        let (post, session) = self.begin(&owner, asked).await?;
        let shared = Arc::clone(self);
        let reading = Reading::new(post, (shared, session), owner, (context, learning));
        Ok(reading.answer().await?)
    }

    async fn begin(
        self: &Arc<Self>,
        owner: &Arc<dyn Owner>,
        asked: Asked,
    ) -> Result<(Arc<Post>, Option<Arc<Session>>), Refusal> {
        // Looked at before anything else of a retry (protocol notes 5.4.2).
        let responses = Responses::of(&asked.message)?;
        let (message, first) = match has_pages(&asked) {
            true => cursor::opened(self, &asked.client.principal, &asked.message)?,
            false => (asked.message.clone(), None),
        };
        let post = self.post(&asked)?;
        if self.is_discovered(&post) {
            return Ok((post, None));
        }
        let state = asked.message.param("requestState");
        let waits = state.map(|state| self.waiting(&state, &post)).transpose()?;
        let (elicitations, first) = match waits {
            None => (Vec::new(), first),
            Some((session, Waits::Parked(ticket))) => {
                let session = session.and_then(|session| self.session(session));
                let session = session.ok_or(Refusal::Stale)?;
                session.retry(ticket, &message, &post)?;
                return Ok((post, Some(session)));
            }
            Some((session, Waits::Rerun(elicitations))) => {
                match url_answers(&responses, elicitations.len()) {
                    // What comes before it, its own session alone hears of: without that, it runs at once.
                    UrlAnswers::Accepted => {
                        match session.filter(|key| self.session(*key).is_some()) {
                            Some(session) => (elicitations, Some(session)),
                            None => (Vec::new(), None),
                        }
                    }
                    UrlAnswers::Missing => (Vec::new(), session),
                    UrlAnswers::Declined => return Err(Refusal::Declined),
                }
            }
        };
        let exchange = number(self.seals.random())
            .map(ExchangeId)
            .map_err(Failure::from)?;
        let request = Request {
            elicitations,
            ..Request::new(exchange, post.id, message)
        };
        let session = self.run(owner, request, &post, first).await?;
        Ok((post, Some(session)))
    }

    fn post(&self, asked: &Asked) -> Result<Arc<Post>, Refusal> {
        let Asked {
            message,
            client,
            headers,
            channel,
            ..
        } = asked;
        let place = Place::of(message, &client.principal, &self.settings.bridge, *channel);
        let place = place.map_err(|error| Refusal::InvalidCapabilities(error.to_string()))?;
        let kind = match message.method().unwrap_or_default() {
            "subscriptions/listen" => Kind::Listen,
            "server/discover" => Kind::Discover,
            method if cursor::has_pages(method) && place.lifetime != Lifetime::PerRequest => {
                Kind::List
            }
            _ => Kind::Plain,
        };
        let no_id = || Refusal::Machine(Refused::InvalidParameter { parameter: "id" });
        let id = message.id().cloned().ok_or_else(no_id)?;
        Ok(Post::new(
            (AttachmentId(self.number()), id),
            client.clone(),
            place,
            kind,
            (headers.clone(), message.clone()),
            (
                Arc::clone(&self.settings.upstream),
                self.settings.budget.clone(),
            ),
        ))
    }

    /// Answers what was asked not long ago, where each question would open a session of its own (protocol
    /// notes 5.4.1).
    fn is_discovered(&self, post: &Post) -> bool {
        let known = lock(&self.discovered).clone();
        let fresh = known.filter(|(at, _)| now() < *at + self.idle());
        let Some((_, result)) = fresh.filter(|_| post.is_anyones_question()) else {
            return false;
        };
        post.push(post::Item::Last(post::Last {
            message: response(&post.request, &result),
            status: 200,
            parks: None,
        }));
        true
    }

    /// The answer to such a question.
    fn discovered(&self, post: &Post, answer: &Bytes) {
        if post.is_anyones_question()
            && let Ok(answer) = Message::parse(answer.clone())
            && let Some(result) = answer.result()
        {
            // A copy, which does not keep the message.
            let result = Bytes::copy_from_slice(&result);
            *lock(&self.discovered) = Some((now(), result));
        }
    }

    /// It may be another server by now.
    fn undiscover(&self) {
        *lock(&self.discovered) = None;
    }

    /// What a `requestState` stands for, if the request may use it, and its session, if that may be here.
    fn waiting(&self, state: &Bytes, post: &Post) -> Result<(Option<SessionKey>, Waits), Refusal> {
        let sealed = state::given(state).ok_or(Refusal::Stale)?;
        let content = self.seals.open(self.scope(post), &sealed);
        let state = content.and_then(|content| State::from_bytes(&content));
        let state = state.ok_or(Refusal::Stale)?;
        if Some(state.digest) != post.digest() || state.expires <= unix_now() {
            return Err(Refusal::Stale);
        }
        // Numbers of sessions begin anew with each process.
        let session = Some(state.session).filter(|_| state.owner == self.boot);
        match state.waits {
            Waits::Parked(_) if session.is_none() => Err(Refusal::Lost),
            waits => Ok((session, waits)),
        }
    }

    /// There are several nodes: what waits for its client here is told of in what they seal.
    pub(crate) fn among(&self, nodes: Nodes) {
        // A server is one node for as long as it runs.
        let _ = self.nodes.set(nodes);
    }

    /// The other node on which what a request goes on with waits, as its `requestState` says.
    pub(crate) fn elsewhere(
        &self,
        message: &Message,
        principal: &Principal,
    ) -> Option<(&Nodes, NodeId)> {
        let nodes = self.nodes.get()?;
        let sealed = state::given(&message.param("requestState")?)?;
        let scope = Scope {
            kind: seal::Kind::State,
            upstream: self.name(),
            principal,
        };
        let state = State::from_bytes(&self.seals.open(scope, &sealed)?)?;
        let node = state.node.filter(|node| node != nodes.this())?;
        Some((nodes, node))
    }

    /// Whether a call waits for its client to come back.
    pub(crate) fn awaits_clients(&self) -> bool {
        self.parked.count() > 0
    }

    fn park(&self, client: &Client) -> Result<ParkedPlace, Failure> {
        let full = |full: parked::Full| Failure::new(Reason::TooManyParked, full.to_string());
        self.parked.take(client).map_err(full)
    }

    /// What a client gives back to its call that waits.
    fn parked_state(
        &self,
        session: SessionKey,
        post: &Post,
        ticket: Ticket,
    ) -> Result<String, Failure> {
        Ok(self.sealed(session, post, Waits::Parked(ticket))?)
    }

    /// What a client gives back to run its call again.
    fn rerun_state(
        &self,
        session: SessionKey,
        post: &Post,
        elicitations: Vec<String>,
    ) -> Result<String, Failure> {
        Ok(self.sealed(session, post, Waits::Rerun(elicitations))?)
    }

    fn sealed(&self, session: SessionKey, post: &Post, waits: Waits) -> Result<String, NotSealed> {
        let state = State {
            owner: self.boot,
            node: self.nodes.get().map(|nodes| nodes.this().clone()),
            session,
            digest: post.digest().ok_or(NotSealed)?,
            expires: unix_now().saturating_add(self.settings.bridge.parked.age.as_secs()),
            waits,
        };
        self.seals.seal(self.scope(post), &state.to_bytes())
    }

    fn scope<'a>(&'a self, post: &'a Post) -> Scope<'a> {
        Scope {
            kind: seal::Kind::State,
            upstream: self.name(),
            principal: &post.client.principal,
        }
    }

    /// Sessions that requests share.
    pub(crate) fn pooled(&self) -> usize {
        self.pool.count()
    }

    /// Calls that wait for their clients.
    pub(crate) fn parked(&self) -> usize {
        self.parked.count()
    }

    fn name(&self) -> &str {
        &self.settings.upstream
    }

    /// How long a session is kept that nobody uses.
    fn idle(&self) -> Duration {
        self.settings.bridge.pool.idle
    }

    /// How long the server may do nothing while it has something to do.
    fn silence(&self) -> Duration {
        self.settings.idle
    }

    fn freed(&self) {
        self.pool.freed();
    }

    /// How often those who wait for a session were told to look.
    #[cfg(test)]
    fn freed_count(&self) -> u64 {
        self.pool.changes()
    }

    fn ended(&self) {
        self.pool.ended();
    }

    fn session(&self, key: SessionKey) -> Option<Arc<Session>> {
        self.lock().get(&key)?.upgrade()
    }

    fn forget(&self, key: SessionKey) {
        self.lock().remove(&key);
    }

    fn number(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionKey, Weak<Session>>> {
        lock(&self.sessions)
    }
}

fn has_pages(asked: &Asked) -> bool {
    asked.message.method().is_some_and(cursor::has_pages)
}

fn number(random: &Random) -> Result<u128, NotSealed> {
    Ok(u128::from_be_bytes(random.bytes()?))
}

impl fmt::Debug for Downgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Downgrade")
            .field("upstream", &self.settings.upstream)
            .field("sessions", &self.lock().len())
            .finish_non_exhaustive()
    }
}
