//! The answer to `initialize`: read as far as the response, which decides about the head of ours, then
//! relayed like any other.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use thinpipe_proto::header::MediaType;
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::{self, Kind, Message, RequestId};
use thinpipe_proto::session::UpstreamSessionId;
use thinpipe_proto::sse::{Decoder, Item};
use thinpipe_transport::Reserved;
use thinpipe_transport::body::{BodyError, BodyStream, Filled};
use thinpipe_transport::server::{Answer, Session};
use thinpipe_transport::upstream::UpstreamResponse;

use super::Route;
use super::answer::{body_failure, place_of};
use crate::failure::{Failure, Reason};
use crate::group::To;
use crate::interceptor::{MessageContext, Outcome};
use crate::relay::Purpose;
use crate::relay::inspect::{InspectEvents, rejection_message};
use crate::relay::source::{Source, into_stream};
use crate::session::{LiveStream, Origin};

/// The answer to `initialize` as the upstream gave it.
pub(super) struct Opening {
    pub(super) message: Message,
    /// The stream it came on, from its beginning; `None`: it is all there is.
    events: Option<Replayed>,
}

impl Opening {
    /// With another message in the place of one that is all there is.
    pub(super) fn heard(self, heard: impl FnOnce(Message) -> Message) -> Self {
        match self.events {
            None => Self {
                message: heard(self.message),
                events: None,
            },
            Some(_) => self,
        }
    }
}

/// The same after the interceptors had their say, if they have one.
pub(super) enum Judged {
    /// The body of an answer in JSON, which is the upstream's own (if it is to be shown) or an error.
    Json { body: Bytes, shown: bool },
    /// Nobody reads these events.
    Unread(Box<Replayed>, MessageContext),
    /// They are read, and the response has passed.
    Read(Box<InspectEvents>),
}

impl Judged {
    /// Whether the client gets to see the upstream's answer.
    pub(super) fn is_shown(&self) -> bool {
        match self {
            Self::Json { shown, .. } => *shown,
            Self::Unread(..) => true,
            Self::Read(events) => events.is_answered_as_asked(),
        }
    }
}

impl Route {
    /// Reads the answer as far as the response, which has this id.
    pub(super) async fn read_opening(
        &self,
        response: UpstreamResponse,
        id: Option<&RequestId>,
    ) -> Result<Opening, Failure> {
        match response.media_type {
            MediaType::Json => {
                let body = response.collect(self.max_message(), self.buffered()).await;
                let body = body.map_err(|error| body_failure(&error))?;
                let message = Message::parse(body).map_err(|error| self.no_answer(&error))?;
                // An error may come without an id, from a server that could not read it.
                let of_none = message.kind() == Kind::ErrorResponse && message.id().is_none();
                if !of_none && !answers(&message, id) {
                    let text =
                        format!("{} answered initialize with no response to it", self.name());
                    return Err(Failure::new(Reason::Invalid, text));
                }
                Ok(Opening {
                    message,
                    events: None,
                })
            }
            MediaType::EventStream => {
                let limit = self.request_timeout();
                let read = self.read_stream(response, id);
                let read = tokio::time::timeout(limit, read).await;
                read.map_err(|_| {
                    Failure::new(Reason::Timeout, "initialize was not answered in time")
                })?
            }
            MediaType::Other => {
                let text = format!(
                    "{} answers initialize with neither JSON nor events",
                    self.name()
                );
                Err(Failure::new(Reason::Invalid, text))
            }
        }
    }

    /// Reads an event stream as far as the response with this id.
    pub(super) async fn read_stream(
        &self,
        response: UpstreamResponse,
        id: Option<&RequestId>,
    ) -> Result<Opening, Failure> {
        let body = into_stream(response.into_body());
        read_response(body, self.max_message(), self.buffered().empty(), id).await
    }

    pub(super) fn no_answer(&self, error: &rpc::MessageError) -> Failure {
        let text = format!("{} answered no JSON-RPC message: {error}", self.name());
        Failure::new(Reason::Invalid, text)
    }

    /// Lets the interceptors decide as far as the response: only what they show may open a session.
    pub(super) async fn judge_opening(
        self: &Arc<Self>,
        opening: Opening,
        context: MessageContext,
        (to, upstream_session): (To, Option<UpstreamSessionId>),
    ) -> Judged {
        let Opening { message, events } = opening;
        let Some(mut events) = events else {
            let (body, shown) = self.judge_whole(&message, &context).await;
            return Judged::Json { body, shown };
        };
        if !self.reads() {
            return Judged::Unread(Box::new(events), context);
        }
        self.stats().inspected();
        let purpose = purpose_of(message.id());
        drop(message);
        let live = LiveStream::unregistered();
        // What is replayed takes its place in the event that is read.
        let room = std::mem::replace(&mut events.room, self.buffered().empty());
        let source = Source::new(Box::new(events), live.stop_token());
        let line = self.line(None, purpose);
        let events = InspectEvents::new(source, line, live, room, context, Vec::new());
        let mut events = Box::new(events.with_origin(Origin::opening(to, upstream_session)));
        events.until_answered().await;
        Judged::Read(events)
    }

    /// What the client gets in the place of an answer that is there as a whole, and whether that is the
    /// upstream's own.
    pub(super) async fn judge_whole(
        &self,
        message: &Message,
        context: &MessageContext,
    ) -> (Bytes, bool) {
        if !self.reads() {
            self.stats().passed();
            return (message.source().clone(), true);
        }
        self.stats().inspected();
        match self.chain().judge(context, message).await {
            Outcome::Forward(message) | Outcome::Changed(message) => {
                (message.source().clone(), true)
            }
            Outcome::Rejected(rejection) => (rejection_message(message, &rejection), false),
        }
    }

    /// The answer for the client, whose stream ends with the session that it opens.
    pub(super) fn opening_answer(
        self: &Arc<Self>,
        judged: Judged,
        session: Option<Arc<Session>>,
        id: Option<&RequestId>,
    ) -> Answer {
        let opened = session.as_ref().map(|session| session.id().clone());
        let mut answer = match judged {
            Judged::Json { body, .. } => Answer::json(body),
            Judged::Unread(events, context) => {
                let line = self.line(session, purpose_of(id));
                self.events(events, line, context, None, None)
            }
            Judged::Read(mut events) => {
                if let Some(session) = session {
                    let live = place_of(Some(&session), false);
                    events.join(session, live);
                }
                Answer::events(*events)
            }
        };
        answer.session = opened;
        answer
    }
}

fn purpose_of(id: Option<&RequestId>) -> Purpose {
    id.map_or(Purpose::Resumed, |id| Purpose::Request(id.clone()))
}

/// A stream of which the beginning was read already.
pub(super) struct Replayed {
    read: Vec<u8>,
    /// What that takes of the budget.
    room: Reserved,
    rest: Box<dyn BodyStream>,
}

impl BodyStream for Replayed {
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<Result<Filled, BodyError>> {
        if !self.read.is_empty() {
            out.append(&mut self.read);
            self.read = Vec::new();
            return Poll::Ready(Ok(Filled::More));
        }
        // Who asks for more has written what there was. Giving back never fails.
        let _ = self.room.resize(0);
        self.rest.poll_fill(cx, out)
    }

    fn unwatch(&mut self) -> bool {
        self.rest.unwatch()
    }
}

async fn read_response(
    mut rest: Box<dyn BodyStream>,
    max: usize,
    mut room: Reserved,
    id: Option<&RequestId>,
) -> Result<Opening, Failure> {
    let mut decoder = Decoder::new(max);
    let mut read = Vec::new();
    loop {
        while let Some(item) = next_item(&mut decoder)? {
            if let Some(message) = response_in(item, id) {
                let events = Some(Replayed { read, room, rest });
                return Ok(Opening { message, events });
            }
        }
        if read.len() > max {
            let text = format!("the response is not among the first {max} bytes of its stream");
            return Err(Failure::new(Reason::TooLarge, text));
        }
        let before = read.len();
        let filled = poll_fn(|cx| rest.poll_fill(cx, &mut read)).await;
        let filled = filled.map_err(|error| body_failure(&error))?;
        if read.len() > before {
            decoder.push(Bytes::copy_from_slice(&read[before..]));
            // What the decoder has of it is a copy that goes with the response.
            let held = room.resize(read.len());
            held.map_err(|error| body_failure(&error.into()))?;
        } else if filled == Filled::End {
            let text = "the stream ended before the response";
            return Err(Failure::new(Reason::StreamLost, text));
        }
    }
}

/// The response to this request in an event.
fn response_in(item: Item, id: Option<&RequestId>) -> Option<Message> {
    let Item::Event(event) = item else {
        return None;
    };
    let message = Message::parse(event.data.filter(|data| !data.is_empty())?).ok()?;
    answers(&message, id).then_some(message)
}

/// Whether a message is the response to this request (without one, to any).
fn answers(message: &Message, id: Option<&RequestId>) -> bool {
    message.kind().is_response() && (id.is_none() || message.id() == id)
}

fn next_item(decoder: &mut Decoder) -> Result<Option<Item>, Failure> {
    decoder
        .next_item()
        .map_err(|error| Failure::new(Reason::TooLarge, error.to_string()))
}

/// The revision of a successful answer; `None` if it is an error.
pub(super) fn negotiated(message: &Message) -> Result<Option<Revision>, Failure> {
    if message.kind() != Kind::Response {
        return Ok(None);
    }
    let result = message.result().unwrap_or_default();
    let version: Option<String> = rpc::members(&result).ok().and_then(|members| {
        let (_, value) = members
            .into_iter()
            .find(|(name, _)| name == "protocolVersion")?;
        serde_json::from_slice(&value).ok()
    });
    let known = version
        .as_deref()
        .and_then(|v| Revision::from_bytes(v.as_bytes()));
    match known.filter(|revision| !revision.is_modern()) {
        Some(revision) => Ok(Some(revision)),
        None => {
            let text = format!("the upstream negotiated revision {version:?}, which is not known");
            Err(Failure::new(Reason::Invalid, text))
        }
    }
}

/// What the server says it can do, as it wrote it. A copy, which does not keep the answer in memory.
pub(super) fn declared(answer: &Message) -> Bytes {
    let result = answer.result().unwrap_or_default();
    let declared = rpc::member(&result, "capabilities");
    Bytes::copy_from_slice(&declared.unwrap_or_default())
}

/// The same, decoded; null if the server has not said it.
pub(super) fn capabilities(declared: &[u8]) -> serde_json::Value {
    serde_json::from_slice(declared).unwrap_or_default()
}
