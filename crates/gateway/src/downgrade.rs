//! Clients of 2026-07-28 in front of a server with sessions (protocol notes 5.4): which session a request runs
//! on, and what of it a client keeps until it comes back.
//!
//! What becomes of a message [`Downgrading`] decides. Each session of the server has one task; each client
//! takes what there is for it over its own connection, so that who does not read makes nobody wait for long.

mod cursor;
mod delivery;
mod parked;
mod place;
mod pool;
mod post;
mod reading;
mod seal;
mod session;
mod state;
mod task;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use thinpipe_proto::bridge::downgrade::{
    AttachmentId, Channel, Config, Downgrading, ExchangeId, Lifetime, Limits, Listening, Refused,
    Request, Ticket, UrlAnswers, url_answers,
};
use thinpipe_proto::bridge::shape::{Caching, CachingScope, Responses};
use thinpipe_proto::bridge::{DEFAULT_ABSOLUTE_CAP, DEFAULT_CAP};
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::{Message, code, error_response, response};
use thinpipe_transport::body::BoxFuture;
use thinpipe_transport::server::{Answer, Content};
use thinpipe_transport::upstream::pipe::Pipe;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{BridgeConfig, Clients};
use crate::failure::{Failure, Reason};
use crate::interceptor::{Chain, MessageContext};
use crate::stats::Counters;
use parked::{Parked, ParkedPlace};
use place::Place;
use pool::{NoSession, Offer, Pool};
use post::{Kind, Post};
use reading::Reading;
use seal::{NotSealed, Scope};
use session::Session;
use state::{Boot, Digest, SessionKey, State, Waits};

pub(crate) use post::Client;
pub(crate) use seal::Seals;

/// Whose server it is.
pub(crate) trait Owner: Send + Sync {
    /// What looks at its messages.
    fn chain(&self) -> &Chain;

    fn stats(&self) -> &Counters;

    /// Opens a session in which nothing is said yet. The headers go with what the gateway itself says.
    fn open(self: Arc<Self>, headers: HeaderMap) -> BoxFuture<Result<Pipe, Failure>>;

    /// The server has answered `initialize` with this result.
    fn opened(&self, result: &Bytes);

    /// It was reached, perhaps, but no session was opened.
    fn never_opened(&self);

    /// No connection could be made.
    fn suspect(&self);
}

/// What is told of the server.
pub(crate) struct Settings {
    pub(crate) upstream: Arc<str>,
    pub(crate) bridge: BridgeConfig,
    pub(crate) clients: Clients,
    /// How long a request may stay without progress.
    pub(crate) idle: Duration,
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
    /// The last number that was given to a session or a POST.
    last: AtomicU64,
    tasks: TaskTracker,
    stop: CancellationToken,
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
}

/// Why a request is not answered by the server.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It gives back something that nothing waits for: one text for whatever is wrong with it.
    Stale,
    /// What it waits for was kept by a process that has ended.
    Lost,
    InvalidResponses,
    InvalidCursor,
    InvalidCapabilities(String),
    /// The client did not do what comes before the call.
    Declined,
    Machine(Refused),
    Failed(Failure),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<NotSealed> for Failure {
    fn from(error: NotSealed) -> Self {
        Self::new(Reason::Unavailable, error.to_string())
    }
}

impl Downgrade {
    pub(crate) fn new(
        settings: Settings,
        seals: Arc<Seals>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            parked: Parked::new(settings.bridge.parked),
            settings,
            seals,
            boot: Boot(random().unwrap_or_default()),
            pool: Pool::new(),
            sessions: Mutex::default(),
            last: AtomicU64::new(0),
            tasks,
            stop,
        })
    }

    /// Answers a request.
    ///
    /// # Errors
    /// [`Refusal`]: nothing of it has run.
    pub(crate) async fn answer(
        self: &Arc<Self>,
        owner: Arc<dyn Owner>,
        asked: Asked,
    ) -> Result<Answer, Refusal> {
        let context = asked.context.clone();
        let (post, session) = self.begin(&owner, asked).await?;
        let reading = Reading::new(post, session, owner, context);
        Ok(reading.answer().await?)
    }

    async fn begin(
        self: &Arc<Self>,
        owner: &Arc<dyn Owner>,
        asked: Asked,
    ) -> Result<(Arc<Post>, Arc<Session>), Refusal> {
        // Looked at before anything else of a retry (protocol notes 5.4.2).
        let responses = Responses::of(&asked.message).map_err(|_| Refusal::InvalidResponses)?;
        let (message, first) = match has_pages(&asked) {
            true => cursor::opened(self, &asked.client.principal, &asked.message)?,
            false => (asked.message.clone(), None),
        };
        let post = self.post(&asked)?;
        let state = asked.message.param("requestState");
        let waits = state.map(|state| self.waiting(&state, &post)).transpose()?;
        let (elicitations, first) = match waits {
            None => (Vec::new(), first),
            Some((session, Waits::Parked(ticket))) => {
                let session = self.session(session).ok_or(Refusal::Stale)?;
                let retried = session.retry(ticket, &message, &post);
                retried.map_err(|_| Refusal::Stale)?;
                return Ok((post, session));
            }
            Some((session, Waits::Rerun(elicitations))) => {
                match url_answers(&responses, elicitations.len()) {
                    UrlAnswers::Accepted => (elicitations, Some(session)),
                    UrlAnswers::Missing => (Vec::new(), Some(session)),
                    UrlAnswers::Declined => return Err(Refusal::Declined),
                }
            }
        };
        let exchange = random().map(ExchangeId).map_err(Failure::from)?;
        let request = Request {
            elicitations,
            ..Request::new(exchange, post.id, message)
        };
        let session = self.run(owner, request, &post, first).await?;
        Ok((post, session))
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
            Digest::of(self.name(), message),
            kind,
            headers.clone(),
        ))
    }

    /// What a `requestState` stands for, if the request may use it.
    fn waiting(&self, state: &Bytes, post: &Post) -> Result<(SessionKey, Waits), Refusal> {
        let sealed = state::given(state).ok_or(Refusal::Stale)?;
        let content = self.seals.open(self.scope(post), &sealed);
        let state = content.and_then(|content| State::from_bytes(&content));
        let state = state.ok_or(Refusal::Stale)?;
        if state.digest != post.digest || state.expires <= unix_now() {
            return Err(Refusal::Stale);
        }
        match state.waits {
            // It never ran, and can run wherever.
            Waits::Rerun(_) => Ok((state.session, state.waits)),
            Waits::Parked(_) if state.owner == self.boot => Ok((state.session, state.waits)),
            Waits::Parked(_) => Err(Refusal::Lost),
        }
    }

    /// Gives a request to a session, to `first` if that is there and takes it.
    async fn run(
        self: &Arc<Self>,
        owner: &Arc<dyn Owner>,
        request: Request,
        post: &Arc<Post>,
        first: Option<SessionKey>,
    ) -> Result<Arc<Session>, Refusal> {
        let offer = |session: &Arc<Session>| offered(session.request(request.clone(), post));
        if post.place.lifetime == Lifetime::PerRequest {
            // The session that a client was sent away on waits for it.
            let before = first.and_then(|first| self.session(first));
            if let Some(session) = before
                && matches!(offer(&session), Offer::Taken)
            {
                return Ok(session);
            }
            let session = self.open(owner, post);
            return match session.request(request, post) {
                Ok(()) => Ok(session),
                Err(refused) => Err(Refusal::Machine(refused)),
            };
        }
        self.offer(owner, post, first, offer).await
    }

    async fn offer(
        self: &Arc<Self>,
        owner: &Arc<dyn Owner>,
        post: &Arc<Post>,
        first: Option<SessionKey>,
        offer: impl FnMut(&Arc<Session>) -> Offer<Refused>,
    ) -> Result<Arc<Session>, Refusal> {
        let pool = &self.settings.bridge.pool;
        let max = match post.place.lifetime {
            Lifetime::Shared => 1,
            _ => pool.max,
        };
        let is_first = |session: &Session| Some(session.key) == first;
        let open = || self.open(owner, post);
        let offered = self
            .pool
            .offer(&post.place, (max, pool.wait), is_first, offer, open);
        offered.await.map_err(|none| match none {
            NoSession::Refused(refused) => Refusal::Machine(refused),
            NoSession::Full => {
                let text = format!("all {max} sessions with {} are in use", self.name());
                Refusal::Failed(Failure::new(Reason::Overloaded, text))
            }
        })
    }

    /// Begins a session. Whoever has something for it need not wait until it is open.
    fn open(self: &Arc<Self>, owner: &Arc<dyn Owner>, post: &Post) -> Arc<Session> {
        let key = SessionKey(self.number());
        let machine = Downgrading::new(self.config(&post.place));
        let session = Arc::new(Session::new(key, Arc::clone(self), machine));
        self.lock().insert(key, Arc::downgrade(&session));
        let opening = Arc::clone(owner).open(post.headers.clone());
        let running = Arc::clone(&session).run(opening, Arc::clone(owner), self.stop.clone());
        self.tasks.spawn(running);
        session
    }

    fn config(&self, place: &Place) -> Config {
        let Settings {
            upstream,
            bridge,
            clients,
            idle,
        } = &self.settings;
        let served = match clients {
            Clients::Modern => vec![Revision::NEWEST],
            Clients::Any | Clients::Legacy => Revision::ALL.into_iter().rev().collect(),
        };
        Config {
            upstream: upstream.to_string(),
            channel: place.channel,
            lifetime: place.lifetime,
            revision: Revision::NEWEST_LEGACY,
            capabilities: place.declared.clone(),
            client_info: Bytes::from_static(CLIENT_INFO.as_bytes()),
            served,
            caching: Caching {
                ttl: bridge.list_ttl,
                scope: CachingScope::Private,
            },
            limits: Limits {
                idle: *idle,
                cap: DEFAULT_CAP.max(*idle),
                absolute_cap: DEFAULT_ABSOLUTE_CAP.max(*idle),
                parked_age: bridge.parked.age,
                ..Limits::default()
            },
        }
    }

    /// A request whose session is gone before it ran goes to another one.
    async fn again(
        self: &Arc<Self>,
        owner: &Arc<dyn Owner>,
        request: Request,
        post: &Arc<Post>,
    ) -> Result<Arc<Session>, Failure> {
        let ran = self.run(owner, request, post, None).await;
        ran.map_err(|refusal| self.session_lost(refusal))
    }

    /// A listen whose session is gone goes on with another one.
    async fn relisten(
        self: &Arc<Self>,
        owner: &Arc<dyn Owner>,
        listening: Listening,
        post: &Arc<Post>,
    ) -> Result<Arc<Session>, Failure> {
        let adopt = |session: &Arc<Session>| offered(session.adopt(listening.clone(), post));
        let adopted = if post.place.lifetime == Lifetime::PerRequest {
            let session = self.open(owner, post);
            let adopted = session.adopt(listening.clone(), post);
            adopted.map(|()| session).map_err(Refusal::Machine)
        } else {
            self.offer(owner, post, None, adopt).await
        };
        adopted.map_err(|refusal| self.session_lost(refusal))
    }

    fn session_lost(&self, refusal: Refusal) -> Failure {
        match refusal {
            Refusal::Failed(failure) => failure,
            _ => {
                let text = format!(
                    "the session with {} was lost, and no other took over",
                    self.name()
                );
                Failure::new(Reason::SessionLost, text)
            }
        }
    }

    fn park(&self, client: &Client) -> Option<ParkedPlace> {
        self.parked.take(client)
    }

    /// What a client gives back to its call that waits; `None`: it cannot wait.
    fn parked_state(&self, session: SessionKey, post: &Post, ticket: Ticket) -> Option<String> {
        self.sealed(session, post, Waits::Parked(ticket)).ok()
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
            session,
            digest: post.digest,
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

    fn name(&self) -> &str {
        &self.settings.upstream
    }

    /// How long a session is kept that nobody uses.
    fn idle(&self) -> Duration {
        self.settings.bridge.pool.idle
    }

    fn freed(&self) {
        self.pool.freed();
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
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Refusal {
    /// The answer to the request.
    pub(crate) fn answer(self, request: &Message, upstream: &str) -> Result<Answer, Failure> {
        let id = request.id();
        let invalid =
            |text: &str| Answer::error(StatusCode::OK, id, code::INVALID_PARAMS, text, None);
        Ok(match self {
            Self::Stale => invalid("requestState invalid or expired"),
            Self::InvalidResponses => invalid("\"inputResponses\" is an object of objects"),
            Self::InvalidCursor => invalid("the cursor is not valid here; begin the list anew"),
            Self::InvalidCapabilities(text) => Answer {
                status: StatusCode::BAD_REQUEST,
                ..invalid(&text)
            },
            Self::Declined => declined(request),
            Self::Lost => {
                let text = "the call was kept by a process that has ended; its outcome is unknown";
                return Err(Failure::new(Reason::ExchangeLost, text));
            }
            Self::Failed(failure) => return Err(failure),
            Self::Machine(refused) => {
                let status = StatusCode::from_u16(refused.status());
                let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                if status == StatusCode::SERVICE_UNAVAILABLE {
                    return Err(Failure::new(Reason::Overloaded, refused.to_string()));
                }
                let body = refused.answer(request, upstream).unwrap_or_default();
                Answer::new(status, Content::Json, body.into())
            }
        })
    }
}

/// The client did not visit the pages that the server wants visited before the call.
fn declined(request: &Message) -> Answer {
    let text = "the client declined what the server asks for before this call";
    let body = match (request.id(), request.method()) {
        (Some(id), Some("tools/call")) => {
            let result = format!(
                r#"{{"resultType":"complete","isError":true,"content":[{{"type":"text","text":"{text}"}}]}}"#
            );
            response(id, result.as_bytes())
        }
        (id, _) => error_response(id, code::INTERNAL_ERROR, text, None),
    };
    Answer::json(body)
}

fn has_pages(asked: &Asked) -> bool {
    asked.message.method().is_some_and(cursor::has_pages)
}

fn offered(taken: Result<(), Refused>) -> Offer<Refused> {
    match taken {
        Ok(()) => Offer::Taken,
        Err(Refused::Over | Refused::Busy | Refused::TooManyInFlight { .. }) => Offer::Elsewhere,
        Err(refused) => Offer::Refused(refused),
    }
}

/// As which client the gateway opens sessions.
const CLIENT_INFO: &str = concat!(
    r#"{"name":"thinpipe","version":""#,
    env!("CARGO_PKG_VERSION"),
    r#""}"#
);

fn random() -> Result<u128, NotSealed> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|_| NotSealed)?;
    Ok(u128::from_be_bytes(random))
}

/// Seconds since 1970.
fn unix_now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

impl fmt::Debug for Downgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Downgrade")
            .field("upstream", &self.settings.upstream)
            .field("sessions", &self.lock().len())
            .finish_non_exhaustive()
    }
}
