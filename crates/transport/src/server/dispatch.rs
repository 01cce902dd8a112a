//! From a request with its body to the handler: steps 8 to 15 of the validation ladder, the session,
//! and the future that answers.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use thinpipe_proto::classify::{self, Class, Refusal};
use thinpipe_proto::header::{LAST_EVENT_ID, PROTOCOL_VERSION};
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::{Kind, Message, Payload, RequestId, code};
use thinpipe_proto::session::{EventId, Principal};
use thinpipe_store::StoreError;

use crate::body::BoxFuture;
use crate::io::now;
use crate::server::exchange::{Answer, Exchange, Inbound};
use crate::server::head::RequestHead;
use crate::server::ladder::{Admitted, Posted, Refused, Requester, Step, busy};
use crate::server::permit::{Permit, add};
use crate::server::reply::{Asked, Holds};
use crate::server::session::{InFlight, Located, NotBegun, Session, SessionEnd};
use crate::server::{Endpoint, Shared, batch, ladder, sse};

pub(crate) mod admission;
mod answering;
mod lookup;
mod tunnel;

pub(crate) use answering::{Answering, left_behind};
pub(crate) use lookup::{session_failed, unknown_session};

pub(crate) use tunnel::tunnelled;

use lookup::{Place, decided_session, header_id, live_session, locate, place_of};

/// Everything about a request but its message.
pub(crate) struct Envelope {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) principal: Principal,
    pub(crate) headers: HeaderMap,
    pub(crate) peer: Option<std::net::SocketAddr>,
    pub(crate) forwarded_for: Vec<std::net::IpAddr>,
    /// For the log, if it is refused.
    pub(crate) requester: Requester,
    /// Another node has sent it here: it is not sent on.
    pub(crate) is_tunnelled: bool,
}

impl Envelope {
    pub(crate) fn exchange(&self, inbound: Inbound, revision: Revision) -> Exchange {
        Exchange {
            inbound,
            revision,
            principal: self.principal.clone(),
            headers: self.headers.clone(),
            endpoint: Arc::clone(&self.endpoint.name),
            peer: self.peer,
            read_at: now(),
            forwarded_for: self.forwarded_for.clone(),
        }
    }

    fn into_exchange(self, inbound: Inbound, revision: Revision) -> Exchange {
        Exchange {
            inbound,
            revision,
            principal: self.principal,
            headers: self.headers,
            endpoint: Arc::clone(&self.endpoint.name),
            peer: self.peer,
            read_at: now(),
            forwarded_for: self.forwarded_for,
        }
    }
}

/// A request handed to its handler, or about to be.
pub(crate) enum Dispatched {
    /// It is being answered.
    Now(Answering),
    /// The session has to be looked for, or opened, first.
    Later(BoxFuture<Answering>),
}

impl Dispatched {
    /// A request whose answer is known, and its refusal told.
    pub(crate) fn answered(shared: &Arc<Shared>, answer: Answer) -> Self {
        Self::Now(Answering::ready(shared, answer, Holds::default()))
    }

    /// A request that reaches no handler.
    pub(crate) fn refused(shared: &Arc<Shared>, answer: Answer) -> Self {
        ladder::log_refusal(shared, &answer, None);
        Self::answered(shared, answer)
    }
}

/// Hands a request to its handler, unless it is new and the server drains. `body` is empty for GET and
/// DELETE.
///
/// What happens thousands of times a second, a message in a session that is live here, needs neither
/// an await nor an allocation of its own.
pub(crate) fn dispatch(
    shared: &Arc<Shared>,
    admitted: Admitted,
    head: RequestHead,
    body: Bytes,
) -> Result<Dispatched, Refused> {
    if let Some(refused) = ladder::refuse_new_work(shared, &admitted, &head, &body) {
        return Err(refused);
    }
    add(&shared.counters.requests);
    let Admitted {
        endpoint,
        principal,
        step,
        permit,
    } = admitted;
    let forwarded_for = head.trail(&shared.config);
    let envelope = Envelope {
        endpoint,
        principal,
        requester: Requester::of(&head, &forwarded_for),
        forwarded_for,
        headers: head.headers,
        peer: head.peer,
        is_tunnelled: false,
    };
    let class = match step {
        Step::OpenStream(mount) => return Ok(sse::open(shared, envelope, mount, permit)),
        Step::PostToStream(mount, of) => {
            let posted = match of {
                Posted::Here(of) => sse::post(shared, envelope, &mount, &of, body, permit),
                Posted::Elsewhere(id) => tunnel::post(shared, envelope, id, body, permit),
            };
            return Ok(Dispatched::Now(posted));
        }
        Step::Bodiless(class) => Ok(class),
        Step::ReadBody => classify_body(shared, body, &envelope).map_err(|refusal| {
            let session = live_session(shared, &envelope);
            let revision =
                named_revision(&envelope.headers).or_else(|| session.map(|s| s.revision()));
            Answer::refused_message(refusal, revision)
        }),
    };
    let class = class.and_then(|class| admission::ask(&envelope, &class).map(|()| class));
    let refused = match class {
        Ok(Class::Message(message)) => match decided_session(shared, &envelope) {
            Some(session) => {
                let asked = Asked::Call(message.id().cloned());
                let from = envelope.requester.clone();
                let prepared = in_session(shared, envelope, message, Some(session));
                return Ok(Dispatched::Now(start(
                    shared, prepared, permit, asked, &from,
                )));
            }
            None => return Ok(later(shared, envelope, Class::Message(message), permit)),
        },
        Ok(Class::Terminate) => {
            let ending = answering::ending(shared, envelope, permit);
            return Ok(Dispatched::Now(ending));
        }
        Ok(class) => return Ok(later(shared, envelope, class, permit)),
        Err(answer) => Err(answer),
    };
    let from = &envelope.requester;
    let refused = start(shared, refused, permit, Asked::Safe, from);
    Ok(Dispatched::Now(refused))
}

#[expect(
    clippy::async_yields_async,
    reason = "what comes later is the start of an answering, which its connection then drives"
)]
fn later(shared: &Arc<Shared>, envelope: Envelope, class: Class, permit: Permit) -> Dispatched {
    let shared = Arc::clone(shared);
    let asked = asked_by(&class);
    let from = envelope.requester.clone();
    Dispatched::Later(Box::pin(async move {
        let prepared = match prepare(&shared, envelope, class).await {
            Ok(Planned::Here(prepared)) => Ok(prepared),
            Err(refusal) => Err(refusal),
            Ok(Planned::Elsewhere(asking)) => {
                let holds = Holds {
                    request: Some(permit),
                    asked,
                    ..Holds::default()
                };
                return Answering::elsewhere(&shared, asking, holds);
            }
        };
        start(&shared, prepared, permit, asked, &from)
    }))
}

fn asked_by(class: &Class) -> Asked {
    match class {
        Class::Stateless(message)
        | Class::StatelessNotification(message)
        | Class::Initialize(message)
        | Class::Message(message) => Asked::Call(message.id().cloned()),
        Class::Batch(_) => Asked::Call(None),
        Class::Listen | Class::Terminate => Asked::Safe,
    }
}

fn start(
    shared: &Arc<Shared>,
    prepared: Result<Prepared, Answer>,
    permit: Permit,
    asked: Asked,
    from: &Requester,
) -> Answering {
    prepared
        .unwrap_or_else(|answer| {
            ladder::log_late_refusal(&answer, from);
            Prepared::done(answer)
        })
        .start(shared, permit, asked)
}

fn classify_body(shared: &Shared, body: Bytes, envelope: &Envelope) -> Result<Class, Refusal> {
    let payload = Payload::parse(body)?;
    let served = ladder::served_at(shared, &envelope.endpoint);
    classify::classify_post(payload, &envelope.headers, served)
}

/// The revision a request's header names, if it is known.
fn named_revision(headers: &HeaderMap) -> Option<Revision> {
    Revision::from_bytes(headers.get(PROTOCOL_VERSION)?.as_bytes())
}

/// A handler's future, and what is held while it runs.
pub(crate) struct Prepared {
    future: BoxFuture<Answer>,
    session: Option<Arc<Session>>,
    running: Option<InFlight>,
    runs_on: bool,
}

/// Who answers.
enum Planned {
    Here(Prepared),
    /// Another node, as far as is known.
    Elsewhere(BoxFuture<Result<Answer, Box<Prepared>>>),
}

impl Prepared {
    fn done(answer: Answer) -> Self {
        let future = Box::pin(std::future::ready(answer));
        Self::cancellable(future, None)
    }

    /// A future of a session, which runs to its end even when the client leaves.
    pub(crate) fn in_session(future: BoxFuture<Answer>, session: Option<Arc<Session>>) -> Self {
        Self {
            future,
            session,
            running: None,
            runs_on: true,
        }
    }

    fn cancellable(future: BoxFuture<Answer>, session: Option<Arc<Session>>) -> Self {
        Self {
            future,
            session,
            running: None,
            runs_on: false,
        }
    }

    fn start(self, shared: &Arc<Shared>, permit: Permit, asked: Asked) -> Answering {
        let activity = self.session.as_ref().map(Session::enter);
        let holds = Holds {
            request: Some(permit),
            activity,
            running: self.running,
            asked,
        };
        let answering = Answering::waiting(shared, self.future, holds);
        if self.runs_on {
            answering.that_runs_on()
        } else {
            answering
        }
    }
}

async fn prepare(
    shared: &Arc<Shared>,
    envelope: Envelope,
    class: Class,
) -> Result<Planned, Answer> {
    let handler = Arc::clone(&envelope.endpoint.handler);
    let prepared = match class {
        Class::Stateless(message) => {
            if message.method() == Some("subscriptions/listen") {
                room_for_stream(shared, message.id())?;
            }
            let inbound = Inbound::Stateless(message);
            let exchange = envelope.into_exchange(inbound, Revision::NEWEST);
            Prepared::cancellable(handler.handle(exchange), None)
        }
        Class::StatelessNotification(message) => {
            let inbound = Inbound::StatelessNotification(message);
            let exchange = envelope.into_exchange(inbound, Revision::NEWEST);
            Prepared::cancellable(handler.handle(exchange), None)
        }
        Class::Initialize(message) => initialize(shared, envelope, message).await?,
        Class::Message(_) | Class::Batch(_) | Class::Listen | Class::Terminate => {
            match place_of(shared, &envelope, &class).await? {
                Place::Here(session) => prepare_here(shared, envelope, class, session)?,
                Place::Elsewhere(node) => {
                    let asking = tunnel::through(shared, envelope, class, node);
                    return Ok(Planned::Elsewhere(asking));
                }
            }
        }
    };
    Ok(Planned::Here(prepared))
}

/// What comes in a session that is live here, or in none.
fn prepare_here(
    shared: &Arc<Shared>,
    envelope: Envelope,
    class: Class,
    session: Option<Arc<Session>>,
) -> Result<Prepared, Answer> {
    match (class, session) {
        (Class::Message(message), session) => in_session(shared, envelope, message, session),
        (Class::Batch(messages), session) => batch::prepare(shared, envelope, messages, session),
        (Class::Terminate, Some(session)) => terminate(shared, envelope, &session),
        (Class::Listen, Some(session)) => listen(shared, envelope, session),
        _ => Err(unknown_session(None)),
    }
}

fn terminate(
    shared: &Arc<Shared>,
    envelope: Envelope,
    session: &Arc<Session>,
) -> Result<Prepared, Answer> {
    let revision = legacy_revision(&envelope.headers, Some(session))?;
    if shared.sessions.may_be_elsewhere(session) {
        // Before anybody is told: it would go on there.
        let error = StoreError::Unavailable("this node is cut off from the others".into());
        return Err(session_failed(&error.into(), None));
    }
    let handler = Arc::clone(&envelope.endpoint.handler);
    let exchange = envelope.into_exchange(Inbound::Terminate(Arc::clone(session)), revision);
    let ending = Arc::clone(session);
    let shared = Arc::clone(shared);
    let future = Box::pin(async move {
        let answer = handler.handle(exchange).await;
        let stays = [
            StatusCode::METHOD_NOT_ALLOWED,
            StatusCode::SERVICE_UNAVAILABLE,
        ];
        if stays.contains(&answer.status) {
            return answer;
        }
        match shared.sessions.end(&ending, SessionEnd::Deleted).await {
            Ok(()) => answer,
            Err(error) => session_failed(&error, None),
        }
    });
    Ok(Prepared::in_session(future, None))
}

async fn initialize(
    shared: &Arc<Shared>,
    envelope: Envelope,
    message: Message,
) -> Result<Prepared, Answer> {
    ladder::check_initialize(&message)?;
    let located = match header_id(&envelope.headers) {
        Some(Ok(id)) => locate(shared, &envelope, (&id, message.id()), None).await?,
        _ => Located::Nowhere,
    };
    if !matches!(located, Located::Nowhere) {
        return Err(initialized_already(message.id()));
    }
    let handler = Arc::clone(&envelope.endpoint.handler);
    let endpoint = Arc::clone(&envelope.endpoint.name);
    let slot = shared
        .sessions
        .reserve(Arc::clone(&handler), endpoint, envelope.principal.clone());
    let slot = slot
        .await
        .map_err(|error| session_failed(&error, message.id()))?;
    let exchange =
        envelope.into_exchange(Inbound::Initialize(message, slot), Revision::NEWEST_LEGACY);
    Ok(Prepared::in_session(handler.handle(exchange), None))
}

fn in_session(
    shared: &Arc<Shared>,
    envelope: Envelope,
    message: Message,
    session: Option<Arc<Session>>,
) -> Result<Prepared, Answer> {
    let revision = legacy_revision(&envelope.headers, session.as_ref())?;
    let running = match &session {
        Some(session) if message.kind() == Kind::Request => Some(begin(shared, session, &message)?),
        _ => None,
    };
    let handler = Arc::clone(&envelope.endpoint.handler);
    let inbound = Inbound::Message(message, session.clone());
    let future = handler.handle(envelope.into_exchange(inbound, revision));
    let mut prepared = Prepared::in_session(future, session);
    prepared.running = running;
    Ok(prepared)
}

/// Registers a request of a session.
pub(crate) fn begin(
    shared: &Shared,
    session: &Arc<Session>,
    message: &Message,
) -> Result<InFlight, Answer> {
    let limit = max_requests(shared, session);
    let id = message.id();
    let begun = id.map_or(Err(NotBegun::Running), |id| session.begin(id, limit));
    begun.map_err(|why| match why {
        NotBegun::Running => invalid(id, "a request with this id is running already"),
        NotBegun::Full => {
            let text = "too many requests are running in this session";
            busy(id, text, Some(limit))
        }
    })
}

/// How many requests may run in a session at one time.
fn max_requests(shared: &Shared, session: &Session) -> usize {
    let limit = shared.config.limits.max_requests_per_session;
    session
        .stream()
        .map_or(limit, |stream| stream.max_requests())
}

/// What is known beforehand to stream is refused before anybody is asked.
pub(crate) fn room_for_stream(shared: &Shared, id: Option<&RequestId>) -> Result<(), Answer> {
    let limit = shared.streams.limit();
    if shared.streams.used() < limit {
        return Ok(());
    }
    Err(busy(id, "too many event streams are open", Some(limit)))
}

fn listen(
    shared: &Arc<Shared>,
    envelope: Envelope,
    session: Arc<Session>,
) -> Result<Prepared, Answer> {
    let revision = legacy_revision(&envelope.headers, Some(&session))?;
    let last = match envelope.headers.get(LAST_EVENT_ID) {
        None => None,
        // An empty id is "nothing to resume from" (WHATWG HTML 9.2.3).
        Some(value) if value.is_empty() => None,
        Some(value) => {
            let id = EventId::from_bytes(Bytes::copy_from_slice(value.as_bytes()));
            Some(id.map_err(|_| invalid(None, "Last-Event-ID is no event id: it is too long"))?)
        }
    };
    room_for_stream(shared, None)?;
    let handler = Arc::clone(&envelope.endpoint.handler);
    let inbound = Inbound::Listen(Arc::clone(&session), last);
    let future = handler.handle(envelope.into_exchange(inbound, revision));
    // Nothing is lost when a listener leaves before its stream has begun.
    Ok(Prepared::cancellable(future, Some(session)))
}

pub(crate) fn legacy_revision(
    headers: &HeaderMap,
    session: Option<&Arc<Session>>,
) -> Result<Revision, Answer> {
    let negotiated = session.map(|s| s.revision());
    classify::legacy_revision(headers, negotiated).map_err(|r: Refusal| Answer::refused(&r))
}

/// A second `initialize` of one session.
pub(crate) fn initialized_already(id: Option<&RequestId>) -> Answer {
    let text = "this session is initialized already";
    let (status, data) = (StatusCode::BAD_REQUEST, reason!("initialized"));
    Answer::error(status, id, code::INVALID_REQUEST, text, Some(data))
}

pub(crate) fn invalid(id: Option<&RequestId>, text: &str) -> Answer {
    Answer::error(
        StatusCode::BAD_REQUEST,
        id,
        code::INVALID_REQUEST,
        text,
        Some(reason!("bad_request")),
    )
}
