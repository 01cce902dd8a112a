//! Requests whose session another node holds, at both of its ends: sent there, and answered there as if they
//! had come there.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use http::Method;
use thinpipe_proto::classify::Class;
use thinpipe_proto::rpc::{Kind, Message, Payload, RequestId};
use thinpipe_proto::session::{NodeId, SessionId};
use thinpipe_proto::tunnel::{Broken, Target, TunnelRequest};

use super::lookup::{header_id, locate, seeker};
use super::{
    Answering, Envelope, Holds, Permit, Planned, Prepared, Requester, asked_by, classify_body,
    prepare, prepare_here, session_failed, start, unknown_session,
};
use crate::body::BoxFuture;
use crate::server::exchange::Answer;
use crate::server::nodes::{NotAnswered, Tail, outcome_unknown};
use crate::server::reply::Asked;
use crate::server::session::{HandOver, Located, SessionError};
use crate::server::sse::{self, Half, SseMount};
use crate::server::{Endpoint, Route, Shared, ladder};

/// How many nodes are asked for a session that changes its node just then.
const ROUNDS: usize = 4;

/// Has another node answer a request of a session. If that node is dead, and has not seen it, the request is
/// answered here.
pub(super) fn through(
    shared: &Arc<Shared>,
    envelope: Envelope,
    class: Class,
    node: NodeId,
) -> BoxFuture<Result<Answer, Box<Prepared>>> {
    let shared = Arc::clone(shared);
    Box::pin(async move {
        let from = envelope.requester.clone();
        let answered = answered_by(&shared, envelope, class, node).await;
        answered.unwrap_or_else(|refusal| {
            ladder::log_late_refusal(&refusal, &from);
            Ok(refusal)
        })
    })
}

async fn answered_by(
    shared: &Arc<Shared>,
    envelope: Envelope,
    class: Class,
    mut node: NodeId,
) -> Result<Result<Answer, Box<Prepared>>, Answer> {
    let request = Request::of(&class);
    let Some(nodes) = &shared.nodes else {
        return Err(unknown_session(request.id()));
    };
    let session = header_id(&envelope.headers).and_then(Result::ok);
    let Some(session) = session else {
        return Err(unknown_session(request.id()));
    };
    for _ in 0..ROUNDS {
        let asked = envelope.tunnelled(target_of(&class), body_of(&class));
        let dead = match nodes.ask(&node, asked).await {
            Ok((head, asking)) => {
                let answer = Answer::tunnelled(head, asking, request.tail(), Some(&session));
                return Ok(Ok(answer));
            }
            Err(NotAnswered::Dead) => Some(&node),
            // Nor does its record say so by now, unless it came back there meanwhile.
            Err(NotAnswered::NotHere) => None,
            Err(not_answered) => return Ok(Ok(request.refusal(not_answered))),
        };
        let sought = (&session, request.id());
        let located = locate(shared, &envelope, sought, dead).await?;
        node = match located {
            Located::Here(session) => {
                let prepared = prepare_here(shared, envelope, class, Some(session))?;
                return Ok(Err(Box::new(prepared)));
            }
            Located::Elsewhere(next) => next,
            Located::Nowhere => return Err(unknown_session(request.id())),
        };
    }
    // Its record is there: it has not ended.
    Err(session_failed(&SessionError::PutOff, request.id()))
}

/// Has the node that holds the stream of a session of HTTP+SSE take a message of its client.
pub(super) fn post(
    shared: &Arc<Shared>,
    envelope: Envelope,
    id: SessionId,
    body: Bytes,
    permit: Permit,
) -> Answering {
    let holds = Holds {
        request: Some(permit),
        ..Holds::default()
    };
    let shared_too = Arc::clone(shared);
    let answered = Box::pin(async move {
        let from = envelope.requester.clone();
        let posted = post_to_node(&shared_too, envelope, id, body).await;
        posted.unwrap_or_else(|refusal| {
            ladder::log_late_refusal(&refusal, &from);
            refusal
        })
    });
    Answering::waiting(shared, answered, holds)
}

async fn post_to_node(
    shared: &Arc<Shared>,
    envelope: Envelope,
    id: SessionId,
    body: Bytes,
) -> Result<Answer, Answer> {
    let failed = |error: SessionError| session_failed(&error, None);
    let unknown = || unknown_session(None);
    let nodes = shared.nodes.as_ref().ok_or_else(unknown)?;
    let located = shared.sessions.locate_stream(&id, seeker(&envelope)).await;
    let node = located.map_err(failed)?.ok_or_else(unknown)?;
    let asked = envelope.tunnelled(Target::Stream(id.clone()), body.clone());
    match nodes.ask(&node, asked).await {
        Ok((head, asking)) => Ok(Answer::tunnelled(head, asking, Tail::Call(None), None)),
        Err(NotAnswered::Dead) => {
            // Its stream has ended with its node.
            shared.sessions.bury(&id).await.map_err(failed)?;
            Err(unknown())
        }
        Err(NotAnswered::NotHere) => Err(unknown()),
        // Accepted, a request would have to be answered on the stream, and its node may never have got it.
        Err(NotAnswered::Unknown) => {
            let posted = Message::parse(body).ok().map(Class::Message);
            let posted = posted.as_ref().map_or(Request::Told, Request::of);
            Ok(posted.refusal(NotAnswered::Unknown))
        }
        Err(not_answered) => Err(Request::Told.refusal(not_answered)),
    }
}

impl Envelope {
    fn tunnelled(&self, target: Target, body: Bytes) -> TunnelRequest {
        TunnelRequest {
            target,
            endpoint: self.endpoint.name.to_string(),
            path: self.requester.path().clone(),
            principal: self.principal.clone(),
            headers: self.headers.clone(),
            peer: self.peer,
            forwarded_for: self.forwarded_for.clone(),
            body,
        }
    }
}

fn target_of(class: &Class) -> Target {
    match class {
        Class::Listen => Target::Listen,
        Class::Terminate => Target::Terminate,
        _ => Target::Post,
    }
}

/// The body that a request came with; that of a batch is put together again.
fn body_of(class: &Class) -> Bytes {
    match class {
        Class::Stateless(message)
        | Class::StatelessNotification(message)
        | Class::Initialize(message)
        | Class::Message(message) => message.source().clone(),
        Class::Batch(messages) => array_of(messages),
        Class::Listen | Class::Terminate => Bytes::new(),
    }
}

fn array_of(messages: &[Message]) -> Bytes {
    let length: usize = messages.iter().map(|m| m.source().len() + 1).sum();
    let mut array = BytesMut::with_capacity(length + 1);
    for (at, message) in messages.iter().enumerate() {
        array.put_u8(if at == 0 { b'[' } else { b',' });
        array.extend_from_slice(message.source());
    }
    array.put_u8(b']');
    array.freeze()
}

/// What has to be known of a request when its answer does not come, or breaks off.
enum Request {
    /// It can be made again: GET or DELETE.
    Safe,
    /// It needs an answer; with its id, if it is one.
    Call(Option<RequestId>),
    /// A notification or a response: nothing is owed.
    Told,
}

impl Request {
    fn of(class: &Class) -> Self {
        let is_request = |message: &Message| message.kind() == Kind::Request;
        match class {
            Class::Message(message) if is_request(message) => Self::Call(message.id().cloned()),
            Class::Batch(messages) if messages.iter().any(is_request) => Self::Call(None),
            Class::Listen | Class::Terminate => Self::Safe,
            _ => Self::Told,
        }
    }

    fn id(&self) -> Option<&RequestId> {
        match self {
            Self::Call(id) => id.as_ref(),
            Self::Safe | Self::Told => None,
        }
    }

    fn tail(&self) -> Tail {
        match self {
            Self::Safe => Tail::Listen,
            Self::Call(id) => Tail::Call(id.clone()),
            Self::Told => Tail::Call(None),
        }
    }

    fn refusal(&self, why: NotAnswered) -> Answer {
        match (why, self) {
            (NotAnswered::Store(error), _) => session_failed(&error.into(), self.id()),
            (NotAnswered::Busy, _) => {
                let text = "the node of this session takes nothing more now";
                ladder::busy(self.id(), text, None)
            }
            (_, Self::Told) => Answer::accepted(),
            (_, Self::Safe) => {
                let text = "the node of this session does not answer: ask again";
                ladder::busy(None, text, None)
            }
            (_, Self::Call(_)) => outcome_unknown(self.id()),
        }
    }
}

/// Begins to answer what another node has sent here.
///
/// # Errors
/// [`Broken`]: the session is not here, and nothing has run.
pub(crate) async fn tunnelled(
    shared: &Arc<Shared>,
    request: TunnelRequest,
    permit: Permit,
) -> Result<Answering, Broken> {
    let Ok(body) = shared.buffered.hold(request.body.clone()) else {
        let answer = ladder::no_room(shared);
        return Ok(Answering::ready(shared, answer, Holds::default()));
    };
    if let Target::Stream(id) = &request.target {
        let mount = mount_of(shared, &request).ok_or(Broken::NotHere)?;
        let endpoint = Arc::clone(&mount.endpoint);
        let envelope = envelope_of(request.clone(), endpoint, Method::POST);
        return to_stream(shared, envelope, &mount, id, body, permit);
    }
    let endpoint = endpoint_of(shared, &request).ok_or(Broken::NotHere)?;
    let method = match request.target {
        Target::Post | Target::Stream(_) => Method::POST,
        Target::Listen => Method::GET,
        Target::Terminate => Method::DELETE,
    };
    let target = request.target.clone();
    let envelope = envelope_of(request, endpoint, method);
    let class = match target {
        Target::Listen => Ok(Class::Listen),
        Target::Terminate => Ok(Class::Terminate),
        Target::Post | Target::Stream(_) => classify_body(shared, body, &envelope)
            .map_err(|refusal| Answer::refused_message(refusal, None)),
    };
    if let Some(Ok(id)) = header_id(&envelope.headers) {
        match shared.sessions.held_here(&id, seeker(&envelope)).await {
            Ok(true) => {}
            Ok(false) => return Err(Broken::NotHere),
            Err(error) => {
                let request = class.as_ref().ok().map(Request::of);
                let id = request.as_ref().and_then(Request::id);
                let refusal = session_failed(&error, id);
                ladder::log_late_refusal(&refusal, &envelope.requester);
                return Ok(Answering::ready(shared, refusal, Holds::default()));
            }
        }
    }
    if let Ok(class) = &class
        && shared.is_draining()
        && gives_up(shared, &envelope, class).await
    {
        return Err(Broken::NotHere);
    }
    Ok(begin(shared, envelope, class, permit).await)
}

/// Whether this node, which drains, has given a session up to whoever asks for new work in it. What runs of it here is
/// waited for, which is no longer than the time for draining: what is asked for is done by the session's next node then,
/// and nobody is refused.
async fn gives_up(shared: &Arc<Shared>, envelope: &Envelope, class: &Class) -> bool {
    if ladder::new_work_of(class, &envelope.endpoint).is_none() {
        return false;
    }
    let Some(Ok(id)) = header_id(&envelope.headers) else {
        return false;
    };
    let session = shared.sessions.live_here(&id);
    let session = session.filter(|session| {
        session.principal() == &envelope.principal && session.handler().can_hand_over(session)
    });
    let Some(session) = session else {
        return false;
    };
    session.rested().await;
    // Others that waited may have been quicker, and so may the end of this node.
    let sessions = &shared.sessions;
    session.is_ended() || sessions.hand_over(&session).await == HandOver::Done || session.is_ended()
}

async fn begin(
    shared: &Arc<Shared>,
    envelope: Envelope,
    class: Result<Class, Answer>,
    permit: Permit,
) -> Answering {
    let from = envelope.requester.clone();
    let class = class.and_then(|class| {
        let refusal = ladder::new_work_of(&class, &envelope.endpoint);
        match refusal.filter(|_| shared.is_draining()) {
            Some(refusal) => Err(refusal),
            None => Ok(class),
        }
    });
    let (asked, prepared) = match class {
        Ok(class) => {
            let asked = asked_by(&class);
            let prepared = match prepare(shared, envelope, class).await {
                Ok(Planned::Here(prepared)) => Ok(prepared),
                // It is never sent on.
                Ok(Planned::Elsewhere(_)) => Err(unknown_session(None)),
                Err(refusal) => Err(refusal),
            };
            (asked, prepared)
        }
        Err(refusal) => (Asked::Safe, Err(refusal)),
    };
    start(shared, prepared, permit, asked, &from)
}

fn to_stream(
    shared: &Arc<Shared>,
    envelope: Envelope,
    mount: &Arc<SseMount>,
    id: &SessionId,
    body: Bytes,
    permit: Permit,
) -> Result<Answering, Broken> {
    let (principal, name) = (&envelope.principal, &envelope.endpoint.name);
    let found = shared.sessions.live_stream(id.as_bytes(), principal, name);
    let of = found.ok_or(Broken::NotHere)?;
    let refusal = match of.stream.is_up() {
        false => Some(sse::not_up_yet()),
        true => refused_while_draining(shared, &envelope, &body),
    };
    if let Some(refusal) = refusal {
        ladder::log_late_refusal(&refusal, &envelope.requester);
        return Ok(Answering::ready(shared, refusal, Holds::default()));
    }
    Ok(sse::post(shared, envelope, mount, &of, body, permit))
}

fn refused_while_draining(shared: &Shared, envelope: &Envelope, body: &Bytes) -> Option<Answer> {
    if !shared.is_draining() {
        return None;
    }
    let class = match Payload::parse(body.clone()).ok()? {
        Payload::Single(message) => Class::Message(message),
        Payload::Batch(messages) => Class::Batch(messages),
    };
    ladder::new_work_of(&class, &envelope.endpoint)
}

/// The endpoint of HTTP+SSE that a request came to.
fn mount_of(shared: &Shared, request: &TunnelRequest) -> Option<Arc<SseMount>> {
    route_of(shared, request, |route| match route {
        Route::Sse(mount, Half::Messages) if *mount.endpoint.name == *request.endpoint => {
            Some(Arc::clone(mount))
        }
        Route::Sse(..) | Route::Mcp(_) | Route::Page(_) => None,
    })
}

/// The endpoint of Streamable HTTP that a request came to.
fn endpoint_of(shared: &Shared, request: &TunnelRequest) -> Option<Arc<Endpoint>> {
    route_of(shared, request, |route| match route {
        Route::Mcp(endpoint) if *endpoint.name == *request.endpoint => Some(Arc::clone(endpoint)),
        Route::Sse(..) | Route::Mcp(_) | Route::Page(_) => None,
    })
}

/// What a request came to: by its path, which is the same on all nodes, or else by name.
fn route_of<T>(
    shared: &Shared,
    request: &TunnelRequest,
    is_its: impl Fn(&Route) -> Option<T>,
) -> Option<T> {
    let by_path = shared.route(&request.path).and_then(&is_its);
    by_path.or_else(|| shared.routes.iter().find_map(|(_, route)| is_its(route)))
}

fn envelope_of(request: TunnelRequest, endpoint: Arc<Endpoint>, method: Method) -> Envelope {
    let hops = &request.forwarded_for;
    Envelope {
        endpoint,
        requester: Requester::tunnelled(method, request.path, request.peer, hops),
        principal: request.principal,
        headers: request.headers,
        peer: request.peer,
        forwarded_for: request.forwarded_for,
        is_tunnelled: true,
    }
}
