//! From an upstream's response to the answer a client gets.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use thinpipe_proto::header::MediaType;
use thinpipe_proto::rpc::{Kind, Message, Payload};
use thinpipe_proto::session::EventId;
use thinpipe_proto::sse;
use thinpipe_transport::body::{Body, BodyError};
use thinpipe_transport::server::{Answer, Content, Session};
use thinpipe_transport::upstream::UpstreamResponse;

use super::{Relayed, Route};
use crate::cache::narrowed;
use crate::failure::{Failure, Reason};
use crate::headers;
use crate::health::is_refusal;
use crate::interceptor::{Carrier, Direction, MessageContext, Outcome};
use crate::relay::inspect::InspectEvents;
use crate::relay::pass::PassEvents;
use crate::relay::source::{Source, into_stream};
use crate::relay::{Line, Purpose};
use crate::session::{LiveStream, Origin, SessionState};

impl Route {
    /// Relays the answer to a POST by the cheapest way that is right.
    pub(super) async fn relay(
        self: &Arc<Self>,
        response: UpstreamResponse,
        line: Line,
        context: MessageContext,
    ) -> Result<Answer, Failure> {
        match self.relay_now(response, line, context, None) {
            Relayed::Now(answer) => answer,
            Relayed::Later(future) => future.await,
        }
    }

    /// The same without a future, unless a body has to be read first.
    pub(super) fn relay_now(
        self: &Arc<Self>,
        response: UpstreamResponse,
        line: Line,
        context: MessageContext,
        resumed_after: Option<&EventId>,
    ) -> Relayed {
        self.relay_placed(response, line, context, resumed_after, None)
    }

    /// As [`relay_now`](Self::relay_now), for a stream that may have been registered before.
    pub(super) fn relay_placed(
        self: &Arc<Self>,
        response: UpstreamResponse,
        line: Line,
        mut context: MessageContext,
        resumed_after: Option<&EventId>,
        place: Option<LiveStream>,
    ) -> Relayed {
        let status = response.status;
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            let name = self.name();
            let text = format!("{name} answers {status}: its credentials are wrong");
            return Relayed::Now(Err(Failure::new(Reason::Auth, text)));
        }
        context.direction = Direction::ToClient;
        let mut extra = match self.client_headers(&context, &response) {
            Ok(extra) => extra,
            Err(failure) => return Relayed::Now(Err(failure)),
        };
        if status == StatusCode::METHOD_NOT_ALLOWED {
            let at = (&line.purpose, context.revision);
            headers::for_not_allowed(&mut extra, &response.headers, at);
        }
        match response.media_type {
            MediaType::EventStream if is_stream_status(status) => {
                let body = into_stream(response.into_body());
                let mut answer = self.events(body, line, context, resumed_after, place);
                answer.status = status;
                Relayed::Now(Ok(with_headers(answer, extra)))
            }
            MediaType::Json if self.reads() || line.edit.is_some() => {
                let route = Arc::clone(self);
                Relayed::Later(Box::pin(async move {
                    let answer = route.inspect_json(response, &context, line).await?;
                    Ok(with_headers(answer, extra))
                }))
            }
            // In silence there is nothing to read.
            _ if self.reads() && !response.is_empty() => {
                let text = format!("{} answers neither JSON nor events", self.name());
                let failure = Failure::new(Reason::Invalid, text);
                let answer = self.unreadable(status, &line, failure);
                Relayed::Now(answer.map(|answer| with_headers(answer, extra)))
            }
            media_type => {
                let answer = self.pass_whole(response, media_type);
                Relayed::Now(answer.map(|answer| with_headers(answer, extra)))
            }
        }
    }

    /// The headers that an answer keeps, or that interceptors give it.
    pub(super) fn client_headers(
        &self,
        context: &MessageContext,
        response: &UpstreamResponse,
    ) -> Result<HeaderMap, Failure> {
        let mut headers = headers::for_client(&response.headers);
        self.chain().headers(context, &mut headers)?;
        Ok(headers)
    }

    /// Whether answers must be read. What an answer holds does not follow from what was asked: messages of
    /// any kind may be on a stream, and a JSON body may be the response to another request. Nor does its
    /// beginning tell, since a member may be there twice.
    pub(super) fn reads(&self) -> bool {
        self.chain().wants_any(Direction::ToClient)
    }

    /// An event stream, relayed.
    pub(super) fn events(
        self: &Arc<Self>,
        body: Box<dyn thinpipe_transport::body::BodyStream>,
        line: Line,
        context: MessageContext,
        resumed_after: Option<&EventId>,
        place: Option<LiveStream>,
    ) -> Answer {
        let prefix = self.opening(&line, resumed_after);
        let standalone = matches!(line.purpose, Purpose::Standalone);
        let live = place.unwrap_or_else(|| place_of(line.session.as_ref(), standalone));
        let source = Source::new(body, live.stop_token());
        if self.reads() || line.edit.is_some() {
            self.stats().inspected();
            let room = self.buffered().empty();
            let events = InspectEvents::new(source, line, live, room, context, prefix);
            return Answer::events(events);
        }
        self.stats().passed();
        Answer::events(PassEvents::new(source, line, live, prefix))
    }

    /// What a stream begins with before anything the upstream sends.
    fn opening(&self, line: &Line, resumed_after: Option<&EventId>) -> Vec<u8> {
        let mut prefix = bytes::BytesMut::new();
        let Some(session) = &line.session else {
            return Vec::new();
        };
        // R117: a client that resumes and is cut again before any event still knows where it was.
        // Ids from clients that encode headers in Latin-1 are left out: event streams are UTF-8.
        let is_text = |id: &&EventId| std::str::from_utf8(id.as_bytes()).is_ok();
        let primes = session.revision().primes_streams();
        if let Some(id) = resumed_after.filter(|_| primes).filter(is_text) {
            sse::encode(&mut prefix, None, Some(id.as_bytes()), None, Some(b""));
        }
        if matches!(line.purpose, Purpose::Standalone)
            && let Some(state) = session.state(SessionState::default)
        {
            for notice in state.take_notices() {
                sse::encode(&mut prefix, None, None, None, Some(&notice));
            }
        }
        prefix.to_vec()
    }

    async fn inspect_json(
        &self,
        response: UpstreamResponse,
        context: &MessageContext,
        line: Line,
    ) -> Result<Answer, Failure> {
        self.stats().inspected();
        let mut origin = Origin::default();
        let status = response.status;
        let messages = match self.read_json(response, context, &line).await {
            Ok(None) => return Ok(Answer::new(status, Content::Json, Body::Empty)),
            Ok(Some(Payload::Single(message))) => {
                let decided = self
                    .inspect_body(&message, context, &line, &mut origin)
                    .await?;
                // A body that nobody may see is no body.
                let body = decided.map_or(Body::Empty, Body::Full);
                return Ok(Answer::new(status, Content::Json, body));
            }
            Ok(Some(Payload::Batch(messages))) => messages,
            Err(failure) => return self.unreadable(status, &line, failure),
        };
        let mut decided = Vec::with_capacity(messages.len());
        for message in &messages {
            decided.extend(
                self.inspect_body(message, context, &line, &mut origin)
                    .await?,
            );
        }
        let body = [&b"["[..], &decided.join(&b","[..]), b"]"].concat().into();
        let held = self.buffered().hold(body);
        let body = held.map_err(|error| body_failure(&error.into()))?;
        Ok(Answer::new(status, Content::Json, Body::Full(body)))
    }

    /// A refusal, in which the revisions are to be those that both sides do. Nobody else reads it, and what is
    /// no message passes as it is.
    pub(super) async fn relay_refusal(
        &self,
        response: UpstreamResponse,
        mut context: MessageContext,
    ) -> Result<Answer, Failure> {
        context.direction = Direction::ToClient;
        let extra = self.client_headers(&context, &response)?;
        self.stats().passed();
        let status = response.status;
        let body = response.collect(self.max_message(), self.buffered()).await;
        let body = body.map_err(|error| body_failure(&error))?;
        let body = match Message::parse(body.clone()) {
            Ok(message) => self.with_versions(message).source().clone(),
            Err(_) => body,
        };
        let answer = Answer::new(status, Content::Json, body.into());
        Ok(with_headers(answer, extra))
    }

    /// The messages in a JSON body; `None`: it is empty.
    async fn read_json(
        &self,
        response: UpstreamResponse,
        context: &MessageContext,
        line: &Line,
    ) -> Result<Option<Payload>, Failure> {
        let status = response.status;
        let body = response.collect(self.max_message(), self.buffered()).await;
        let body = body.map_err(|error| body_failure(&error))?;
        if body.is_empty() {
            return Ok(None);
        }
        let text = match Payload::parse(body) {
            Ok(Payload::Batch(_)) if !context.revision.allows_batches() => {
                format!("{} answered an array of messages", self.name())
            }
            Ok(payload)
                if !messages_of(&payload)
                    .iter()
                    .all(|m| belongs(m, status, line)) =>
            {
                format!("{} answered another request than this one", self.name())
            }
            Ok(payload) => return Ok(Some(payload)),
            Err(error) => format!("{} answered no JSON-RPC message: {error}", self.name()),
        };
        Err(Failure::new(Reason::Invalid, text))
    }

    /// The answer in the place of one that interceptors were to read and cannot: what they have not
    /// seen, the client does not get to see. An error keeps its status.
    fn unreadable(
        &self,
        status: StatusCode,
        line: &Line,
        failure: Failure,
    ) -> Result<Answer, Failure> {
        if status.is_success() {
            return match line.purpose {
                Purpose::Unasked => Ok(Answer::new(status, Content::Other(None), Body::Empty)),
                _ => Err(failure),
            };
        }
        let failure = match &line.edit {
            Some(edit) => edit.not_read(status, failure),
            None => failure,
        };
        if is_refusal(status) && !line.purpose.is_resumable() {
            self.era().contradicted();
        }
        self.stats().failed();
        tracing::warn!(upstream = self.name(), %status, error = %failure.text, "an error was not read");
        Ok(failure.answer_as(status, line.purpose.request(), self.name()))
    }

    /// What becomes of a message in a JSON body; `None`: the client does not get to see it.
    pub(super) async fn inspect_body(
        &self,
        message: &Message,
        context: &MessageContext,
        line: &Line,
        origin: &mut Origin,
    ) -> Result<Option<Bytes>, Failure> {
        let Some(message) = &line.edited(message.clone()) else {
            return Ok(None);
        };
        let own = context.call();
        let mut context = MessageContext {
            carrier: Carrier::Body,
            ..context.clone()
        };
        let outcome = match line.describe(&mut context, own.as_ref(), message) {
            Ok(()) => self.chain().judge(&context, message).await,
            Err(rejection) => Outcome::Rejected(rejection),
        };
        match narrowed(self.chain(), &context, outcome) {
            Outcome::Forward(message) | Outcome::Changed(message) => {
                Ok(Some(message.source().clone()))
            }
            Outcome::Rejected(rejection) => line.refused(origin, &context, message, &rejection),
        }
    }

    /// Anything that is not read: status, type and bytes as they came.
    fn pass_whole(
        &self,
        response: UpstreamResponse,
        media_type: MediaType,
    ) -> Result<Answer, Failure> {
        self.stats().passed();
        let limit = self.spec().max_passed_body;
        if response.content_length.is_some_and(|n| n > limit) {
            let text = format!("the answer of {} exceeds {limit} bytes", self.name());
            return Err(Failure::new(Reason::TooLarge, text));
        }
        let content = match media_type {
            MediaType::Json => Content::Json,
            _ => Content::Other(response.headers.get(http::header::CONTENT_TYPE).cloned()),
        };
        let status = response.status;
        let bounded = response.content_length.is_some();
        let body = match response.into_body() {
            Body::Stream(stream) if !bounded => {
                Body::stream(crate::relay::source::Bounded::new(stream, limit))
            }
            body => body,
        };
        Ok(Answer::new(status, content, body))
    }
}

fn messages_of(payload: &Payload) -> &[Message] {
    match payload {
        Payload::Single(message) => std::slice::from_ref(message),
        Payload::Batch(messages) => messages,
    }
}

/// Whether a message may be in the JSON body of this answer. A response to another request would be judged
/// as if it were one to this. An error below an error status is about this exchange, under whatever id:
/// servers write ids of their own there, and clients go by the status.
fn belongs(message: &Message, status: StatusCode, line: &Line) -> bool {
    let is_free = match message.kind() {
        Kind::Response => false,
        Kind::ErrorResponse => !status.is_success() || message.id().is_none(),
        Kind::Request | Kind::Notification => true,
    };
    is_free || message.id() == line.purpose.request()
}

/// Whether an answer of this status can be a stream: it is a success, and has a body.
fn is_stream_status(status: StatusCode) -> bool {
    let has_body = !matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT);
    status.is_success() && has_body
}

pub(super) fn with_headers(mut answer: Answer, extra: HeaderMap) -> Answer {
    if answer.headers.is_empty() {
        answer.headers = extra;
    } else {
        answer.headers.extend(extra);
    }
    answer
}

/// A place among the live streams of a session, if there is one.
pub(super) fn place_of(session: Option<&Arc<Session>>, standalone: bool) -> LiveStream {
    let Some((session, state)) = session.and_then(|s| Some((s, s.state(SessionState::default)?)))
    else {
        return LiveStream::unregistered();
    };
    let stop = session.closed().child_token();
    state.open(Some(Arc::clone(session)), stop, standalone)
}

pub(crate) fn body_failure(error: &BodyError) -> Failure {
    let reason = match error {
        BodyError::TooLarge { .. } => Reason::TooLarge,
        error if error.is_timeout() => Reason::Timeout,
        BodyError::NoRoom(_) => return Failure::no_room(error),
        _ => Reason::StreamLost,
    };
    Failure::new(reason, crate::failure::with_causes(error))
}
