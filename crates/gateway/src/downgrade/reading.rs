//! A client's connection takes what there is for its POST. Nobody pushes: interceptors see a message when the
//! client has room for it.

mod body;

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, StatusCode};
use thinpipe_proto::rpc::{Message, member, string};
use thinpipe_transport::body::{Body, BoxFuture};
use thinpipe_transport::server::{Answer, Content};

use body::{Events, Handing, Whole, encode};

use super::post::{Item, Last, Post};
use super::session::Session;
use super::{Downgrade, Owner};
use crate::cache::Noting;
use crate::failure::{Failure, Reason};
use crate::interceptor::{Direction, MessageContext, Outcome, subject};
use crate::relay::inspect::rejection_message;

/// A request that is not answered after this gets its answer as an event stream, which is kept alive.
const COMMIT_AFTER: Duration = Duration::from_secs(15);

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
            Item::Refused(last) => {
                self.note_failure(&last);
                self.stage = Stage::Withheld;
                return Some(Next::Last(last));
            }
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
