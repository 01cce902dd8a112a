//! A client's connection takes what there is for its POST. Nobody pushes: interceptors see a message when the
//! client has room for it.

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, StatusCode};
use thinpipe_proto::bridge::downgrade::ExchangeId;
use thinpipe_proto::rpc::{Message, member, string};
use thinpipe_proto::sse;
use thinpipe_transport::body::{Body, BodyError, BodyStream, BoxFuture, Filled};
use thinpipe_transport::server::{Answer, Content};

use super::post::{self, Item, Last, Post};
use super::session::Session;
use super::{Downgrade, Owner};
use crate::cache::Noting;
use crate::failure::{Failure, Reason};
use crate::interceptor::{Direction, MessageContext, Outcome, subject};
use crate::relay::inspect::rejection_message;

/// A request that is not answered after this gets its answer as an event stream, which is kept alive.
const COMMIT_AFTER: Duration = Duration::from_secs(15);

/// Bytes that one poll appends before others have their turn.
const GULP: usize = 32 << 10;

/// The answer to one POST, as its client takes it. Dropping it before the end tells the upstream session that
/// the client has left.
pub(super) struct Reading {
    post: Arc<Post>,
    shared: Arc<Downgrade>,
    /// `None`: the answer was there already.
    session: Option<Arc<Session>>,
    owner: Arc<dyn Owner>,
    /// What all messages to the client have in common.
    context: MessageContext,
    /// Is shown the last message, as the client gets it.
    learning: Option<Box<Noting>>,
    stage: Stage,
}

enum Stage {
    /// It waits for what comes next.
    Waiting,
    /// Something is done about what came: interceptors read it, another session is looked for.
    Working(BoxFuture<Worked>),
    /// The last message was taken.
    Said,
    /// It was, and says nothing of what the server asks: the call that waits is cancelled.
    Withheld,
    /// Nothing more is to be done.
    Over,
}

/// What came of it.
enum Worked {
    /// `None`: interceptors let nothing pass.
    Message(Option<Bytes>),
    Last(Last),
    /// In the place of a last message.
    Refused(Last),
    /// Another session goes on.
    Moved(Arc<Session>),
}

/// What is next for the client.
enum Next {
    Message(Bytes),
    Last(Last),
    /// There is nothing: the stream is to break off.
    Broken,
}

impl Reading {
    pub(super) fn new(
        post: Arc<Post>,
        (shared, session): (Arc<Downgrade>, Option<Arc<Session>>),
        owner: Arc<dyn Owner>,
        (context, learning): (MessageContext, Option<Box<Noting>>),
    ) -> Self {
        Self {
            post,
            shared,
            session,
            owner,
            context,
            learning,
            stage: Stage::Waiting,
        }
    }

    /// The answer: JSON if the last message is the first, and comes soon; else an event stream.
    pub(super) async fn answer(mut self) -> Result<Answer, Failure> {
        let first = std::future::poll_fn(|cx| self.poll_next(cx));
        match tokio::time::timeout(COMMIT_AFTER, first).await {
            Ok(Next::Last(last)) => Ok(self.whole(last)),
            Ok(Next::Message(message)) => {
                let mut pending = BytesMut::new();
                encode(&mut pending, &message);
                Ok(Answer::events(Events::new(self, pending.freeze())))
            }
            Ok(Next::Broken) => {
                let text = "nobody takes the answer any more";
                Err(Failure::new(Reason::StreamLost, text))
            }
            // From here on it can be kept alive.
            Err(_) => Ok(Answer::events(Events::new(self, Bytes::new()))),
        }
    }

    /// The last message as the whole answer.
    fn whole(mut self, last: Last) -> Answer {
        let status = StatusCode::from_u16(last.status).unwrap_or(StatusCode::OK);
        let body = match last.parks {
            None => {
                self.said();
                Body::from(last.message)
            }
            Some(exchange) => Body::stream(Whole {
                message: last.message,
                handing: Handing::new(self, exchange),
            }),
        };
        let mut answer = Answer::new(status, Content::Json, body);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            let soon = HeaderValue::from_static("1");
            answer.headers.insert(http::header::RETRY_AFTER, soon);
        }
        answer
    }

    /// The last message is there, and nothing waits for its client.
    fn said(&mut self) {
        if !matches!(self.stage, Stage::Withheld) {
            self.stage = Stage::Over;
        }
    }

    /// Dropping the future that polls it loses nothing.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        loop {
            match &mut self.stage {
                Stage::Waiting => match ready!(self.post.poll_next(cx)) {
                    Some(item) => {
                        if let Some(next) = self.begin(item) {
                            return Poll::Ready(next);
                        }
                    }
                    None => return Poll::Ready(Next::Broken),
                },
                Stage::Working(working) => {
                    let worked = ready!(working.as_mut().poll(cx));
                    self.stage = Stage::Waiting;
                    match worked {
                        Worked::Message(Some(message)) => {
                            return Poll::Ready(Next::Message(message));
                        }
                        Worked::Message(None) => {}
                        Worked::Last(last) => {
                            self.note_failure(&last);
                            self.stage = Stage::Said;
                            return Poll::Ready(Next::Last(last));
                        }
                        Worked::Refused(last) => {
                            self.stage = Stage::Withheld;
                            return Poll::Ready(Next::Last(last));
                        }
                        Worked::Moved(session) => self.session = Some(session),
                    }
                }
                Stage::Said | Stage::Withheld | Stage::Over => return Poll::Ready(Next::Broken),
            }
        }
    }

    /// Something came: what is next, or it has to be worked on.
    fn begin(&mut self, item: Item) -> Option<Next> {
        let is_read = self.owner.chain().wants_any(Direction::ToClient);
        self.stage = Stage::Working(match item {
            Item::Message(message) | Item::Notice(message) if !is_read => {
                self.owner.stats().passed();
                return Some(Next::Message(message));
            }
            Item::Message(message) | Item::Notice(message) => self.judge(message),
            Item::Last(last) if !is_read => {
                self.owner.stats().passed();
                self.note_failure(&last);
                self.stage = Stage::Said;
                if let Some(learning) = &mut self.learning
                    && let Ok(message) = Message::parse(last.message.clone())
                {
                    learning.note(&message);
                }
                return Some(Next::Last(last));
            }
            Item::Last(last) => self.judge_last(last),
            Item::Again(request) => {
                let (owner, post) = (Arc::clone(&self.owner), Arc::clone(&self.post));
                let shared = Arc::clone(&self.shared);
                Box::pin(async move {
                    let moved = shared.again(&owner, request, &post).await;
                    moved.map_or_else(|failure| failed(&failure, &shared, &post), Worked::Moved)
                })
            }
            Item::Relisten(listening) => {
                let (owner, post) = (Arc::clone(&self.owner), Arc::clone(&self.post));
                let shared = Arc::clone(&self.shared);
                Box::pin(async move {
                    let ending = listening.final_result();
                    let moved = shared.relisten(&owner, listening, &post).await;
                    moved.map_or_else(|_| Worked::Last(ended(ending)), Worked::Moved)
                })
            }
        });
        None
    }

    /// A failure of the gateway's own is said in the log, too: the machine tells it to the client alone.
    fn note_failure(&self, last: &Last) {
        if last.status < 500 {
            return;
        }
        let Some(error) = Message::parse(last.message.clone())
            .ok()
            .and_then(|answer| answer.error())
        else {
            return;
        };
        let reason = member(&error, "data").and_then(|data| member(&data, "reason"));
        let (reason, text) = (reason.unwrap_or_default(), member(&error, "message"));
        let (reason, text) = (string(&reason), text.unwrap_or_default());
        let Some(reason) = reason else {
            return;
        };
        self.owner.stats().failed();
        tracing::warn!(
            upstream = self.shared.name(),
            reason = &*reason,
            error = %string(&text).unwrap_or_default(),
            "an exchange failed"
        );
    }

    fn judge(&self, message: Bytes) -> BoxFuture<Worked> {
        self.owner.stats().inspected();
        let (owner, context) = (Arc::clone(&self.owner), self.context.clone());
        Box::pin(async move {
            let Ok(message) = Message::parse(message) else {
                return Worked::Message(None);
            };
            let context = MessageContext {
                method: message.method().map(Into::into),
                name: subject(&message).map(|name| name.as_ref().into()),
                ..context
            };
            let outcome = owner.chain().judge(&context, &message).await;
            Worked::Message(match outcome {
                Outcome::Forward(message) | Outcome::Changed(message) => {
                    Some(message.source().clone())
                }
                // Nothing answers a notification.
                Outcome::Rejected(_) => None,
            })
        })
    }

    fn judge_last(&mut self, last: Last) -> BoxFuture<Worked> {
        self.owner.stats().inspected();
        let (owner, context) = (Arc::clone(&self.owner), self.context.clone());
        let learning = self.learning.take();
        Box::pin(async move {
            let Ok(message) = Message::parse(last.message.clone()) else {
                return Worked::Last(last);
            };
            match owner.chain().judge(&context, &message).await {
                Outcome::Forward(message) | Outcome::Changed(message)
                    if is_asked(&message, &last) =>
                {
                    if let Some(mut learning) = learning {
                        learning.note(&message);
                    }
                    let message = message.source().clone();
                    Worked::Last(Last { message, ..last })
                }
                Outcome::Forward(message) | Outcome::Changed(message) => Worked::Refused(Last {
                    message: message.source().clone(),
                    status: last.status,
                    parks: None,
                }),
                // What waits for a client that never hears of it is cancelled.
                Outcome::Rejected(rejection) => Worked::Refused(Last {
                    message: rejection_message(&message, &rejection),
                    status: 200,
                    parks: None,
                }),
            }
        })
    }
}

/// Whether a client that gets this in the place of `last` can come back to its call, if that waits.
fn is_asked(message: &Message, last: &Last) -> bool {
    let asked = |message: &Message| {
        let result = message.result()?;
        let kind = member(&result, "resultType")?;
        let is_asked = string(&kind).is_some_and(|kind| kind == "input_required");
        member(&result, "requestState").filter(|_| is_asked)
    };
    last.parks.is_none()
        || Message::parse(last.message.clone()).is_ok_and(|told| asked(&told) == asked(message))
}

fn failed(failure: &Failure, shared: &Downgrade, post: &Post) -> Worked {
    Worked::Last(Last {
        message: failure.message(Some(&post.request), shared.name()),
        status: failure.status().as_u16(),
        parks: None,
    })
}

fn ended(message: Bytes) -> Last {
    Last {
        message,
        status: 200,
        parks: None,
    }
}

/// The client has left, or has everything.
impl Drop for Reading {
    fn drop(&mut self) {
        self.post.end();
        if let Some(session) = &self.session
            && !matches!(self.stage, Stage::Over)
        {
            session.detach(self.post.id);
        }
    }
}

/// Says that a client has its last message, once the socket took it: it is asked for more when nothing is
/// left to be written.
struct Handing {
    /// `None`: it was said.
    reading: Option<Reading>,
    exchange: ExchangeId,
    has_waited: bool,
}

impl Handing {
    fn new(reading: Reading, exchange: ExchangeId) -> Self {
        Self {
            reading: Some(reading),
            exchange,
            has_waited: false,
        }
    }

    fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        if !std::mem::replace(&mut self.has_waited, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(mut reading) = self.reading.take() {
            reading.stage = Stage::Over;
            if let Some(session) = &reading.session {
                session.handed_out(reading.post.id, self.exchange);
            }
        }
        Poll::Ready(())
    }
}

/// A whole answer whose end has to be told of.
struct Whole {
    message: Bytes,
    handing: Handing,
}

impl BodyStream for Whole {
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<Result<Filled, BodyError>> {
        if self.message.is_empty() {
            ready!(self.handing.poll(cx));
            return Poll::Ready(Ok(Filled::End));
        }
        let length = self.message.len().min(GULP);
        out.extend_from_slice(&self.message.split_to(length));
        Poll::Ready(Ok(Filled::More))
    }

    fn remaining(&self) -> Option<u64> {
        Some(self.message.len() as u64)
    }
}

/// The answer as events.
struct Events {
    end: End,
    /// Encoded and not handed out yet.
    pending: Bytes,
    /// `pending` begins inside an event.
    is_inside: bool,
}

/// How far it is.
enum End {
    Reading(Reading),
    /// Everything is handed out; the client's call waits when the client has it.
    Handing(Handing),
    Over,
}

impl Events {
    fn new(reading: Reading, pending: Bytes) -> Self {
        Self {
            end: End::Reading(reading),
            pending,
            is_inside: false,
        }
    }

    fn hand_out(&mut self, out: &mut Vec<u8>) {
        let length = self.pending.len().min(GULP);
        out.extend_from_slice(&self.pending.split_to(length));
        self.is_inside = !self.pending.is_empty();
    }

    fn last(&mut self, last: Last) {
        let mut event = BytesMut::new();
        encode(&mut event, &last.message);
        self.pending = event.freeze();
        let End::Reading(mut reading) = std::mem::replace(&mut self.end, End::Over) else {
            return;
        };
        match last.parks {
            None => reading.said(),
            Some(exchange) => self.end = End::Handing(Handing::new(reading, exchange)),
        }
    }
}

impl BodyStream for Events {
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<Result<Filled, BodyError>> {
        let before = out.len();
        loop {
            if !self.pending.is_empty() {
                self.hand_out(out);
            }
            if out.len() - before >= GULP || !self.pending.is_empty() {
                return Poll::Ready(Ok(Filled::More));
            }
            let next = match &mut self.end {
                End::Reading(reading) => reading.poll_next(cx),
                _ if out.len() > before => return Poll::Ready(Ok(Filled::More)),
                End::Handing(handing) => {
                    ready!(handing.poll(cx));
                    self.end = End::Over;
                    return Poll::Ready(Ok(Filled::End));
                }
                End::Over => return Poll::Ready(Ok(Filled::End)),
            };
            match next {
                Poll::Ready(Next::Message(message)) => {
                    let mut event = BytesMut::new();
                    encode(&mut event, &message);
                    self.pending = event.freeze();
                }
                Poll::Ready(Next::Last(last)) => self.last(last),
                Poll::Ready(Next::Broken) => {
                    self.end = End::Over;
                    let text = "the client does not read its answer, and loses it";
                    return Poll::Ready(Err(BodyError::Aborted(text.to_owned())));
                }
                Poll::Pending if out.len() > before => return Poll::Ready(Ok(Filled::More)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn at_boundary(&self) -> bool {
        !self.is_inside
    }

    /// A listen gets its final result; a call runs on for as long as it may, and is answered with an error
    /// then.
    fn shut_down(&mut self, force: bool, out: &mut Vec<u8>) -> bool {
        let End::Reading(reading) = &self.end else {
            return force;
        };
        if let Some(session) = &reading.session
            && reading.post.kind == post::Kind::Listen
        {
            session.drain();
        }
        if force && !self.is_inside {
            let failure = Failure::new(Reason::ShuttingDown, "the gateway shuts down");
            let name = reading.shared.name();
            out.extend_from_slice(&failure.event(&reading.post.request, name));
        }
        force
    }
}

fn encode(out: &mut BytesMut, message: &[u8]) {
    sse::encode(out, Some(b"message"), None, None, Some(message));
}
