//! Relays: event streams from an upstream to a client, unread or inspected.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use thinpipe_proto::backoff::Backoff;
use thinpipe_proto::rpc::{self, Message, RequestId};
use thinpipe_proto::session::EventId;
use thinpipe_transport::body::{BodyStream, BoxFuture, Filled};
use thinpipe_transport::server::Session;

use crate::failure::{Failure, Reason};
use crate::interceptor::{Chain, MessageContext, Rejection, subject};
use crate::session::{Call, Origin, SessionState, note_asked};
use crate::stats::Counters;

pub(crate) mod inspect;
pub(crate) mod pass;
mod shape;
pub(crate) mod source;

/// How long a server's words pile up, in the socket, before they are read and discarded.
const BETWEEN_GULPS: Duration = Duration::from_millis(100);

/// Bytes read and discarded before others have their turn.
const GULP: usize = 1 << 20;

/// What a stream is for, which decides how it may end.
#[derive(Debug, Clone)]
pub(crate) enum Purpose {
    /// Answers this request of a session.
    Request(RequestId),
    /// Answers this self-describing request; leaving cancels it.
    Stateless(RequestId),
    /// `subscriptions/listen`: ends with a final result.
    Subscription(RequestId),
    /// A session's standalone stream.
    Standalone,
    /// Some stream of a session, resumed by the client. Which request it answers is not known.
    Resumed,
    /// Comes after a notification or a response, which nothing answers.
    Unasked,
}

impl Purpose {
    /// The request that must be answered on this stream.
    pub(crate) fn request(&self) -> Option<&RequestId> {
        match self {
            Self::Request(id) | Self::Stateless(id) | Self::Subscription(id) => Some(id),
            Self::Standalone | Self::Resumed | Self::Unasked => None,
        }
    }

    /// Streams of sessions can be resumed; stateless ones never.
    pub(crate) fn is_resumable(&self) -> bool {
        matches!(self, Self::Request(_) | Self::Standalone | Self::Resumed)
    }
}

/// Whose streams are relayed: what a relay asks and tells beside the bytes.
pub(crate) trait Owner: Send + Sync {
    /// Name of the upstream.
    fn name(&self) -> &str;

    /// What looks at its messages.
    fn chain(&self) -> &Chain;

    fn stats(&self) -> &Counters;

    /// Bytes of an event that is read.
    fn max_message(&self) -> usize;

    /// Whether streams that broke are asked for again.
    fn resumes(&self) -> bool;

    /// Whether sessions outlive the process, so that their clients go on at another one.
    fn outlives_process(&self) -> bool {
        false
    }

    /// Asks for a stream again after its last event, with growing delays, until it goes on or the
    /// upstream says that it will not.
    fn resume(self: Arc<Self>, stream: Broken) -> BoxFuture<Resumed>;

    /// Answers a server's request, of this context, that the client does not get to see.
    ///
    /// # Errors
    /// More such answers are on their way than may be.
    fn answer_upstream(
        self: Arc<Self>,
        origin: &mut Origin,
        session: Option<&Arc<Session>>,
        context: &MessageContext,
        error: Bytes,
    ) -> Result<(), Failure>;
}

/// A stream that can be resumed.
pub(crate) struct Broken {
    pub(crate) session: Arc<Session>,
    /// The last id it carried.
    pub(crate) last: EventId,
    /// The delay its server asked for.
    pub(crate) retry: Option<Duration>,
    pub(crate) backoff: Backoff,
    pub(crate) is_standalone: bool,
}

/// What becomes of messages before interceptors and clients see them.
pub(crate) trait Edit: Send + Sync {
    /// The message, as it is or changed; `None`: nobody gets to see it.
    fn edit(&self, message: Message) -> Option<Message>;

    /// The failure in the place of a refusal with this status that is no message.
    fn not_read(&self, _status: StatusCode, failure: Failure) -> Failure {
        failure
    }
}

/// The parts of a relay that do not depend on whether events are read.
pub(crate) struct Line {
    pub(crate) owner: Arc<dyn Owner>,
    pub(crate) session: Option<Arc<Session>>,
    pub(crate) purpose: Purpose,
    /// The response has passed.
    pub(crate) answered: bool,
    pub(crate) backoff: Backoff,
    /// Where messages have to be read for the gateway's own sake.
    pub(crate) edit: Option<Arc<dyn Edit>>,
}

/// What a relay does when its upstream's body has ended.
pub(crate) enum Ending {
    /// The stream is complete.
    Complete,
    /// The stream goes on with another body, which this future fetches.
    Resume(BoxFuture<Resumed>),
    /// The request is answered with this event, then the stream is over.
    Fail(Bytes),
}

/// What came of resuming an upstream's stream.
pub(crate) enum Resumed {
    /// It goes on; so has the schedule of delays.
    Body(Box<dyn BodyStream>, Backoff),
    /// The session was opened anew, and so was its standalone stream; it begins with these events.
    Fresh(Box<dyn BodyStream>, Vec<u8>),
    /// It cannot.
    Lost,
}

impl Line {
    /// A message of the upstream, as it goes on from here.
    pub(crate) fn edited(&self, message: Message) -> Option<Message> {
        match &self.edit {
            Some(edit) => edit.edit(message),
            None => Some(message),
        }
    }

    /// Sets method and name of the context: those of the message, or of the request it answers. `own`
    /// is the request that this line is the answer to.
    ///
    /// `Err`: what it answers cannot be told, so that nobody can say who has to look at it.
    pub(crate) fn describe(
        &self,
        context: &mut MessageContext,
        own: Option<&Call>,
        message: &Message,
    ) -> Result<(), Rejection> {
        if let Some(method) = message.method() {
            if context.method.as_deref() != Some(method) {
                context.method = Some(method.into());
            }
            context.name = subject(message).map(|name| name.as_ref().into());
            if let Some(session) = &self.session {
                note_asked(session, self.owner.chain(), context, message);
            }
            return Ok(());
        }
        let is_own = self
            .purpose
            .request()
            .is_some_and(|id| message.id() == Some(id));
        let call = if is_own {
            own.cloned()
        } else {
            shape::checked(self.remembered(message), message)
                .map_err(|shape::Ambiguous| unknown_response())?
        };
        (context.method, context.name) = match call {
            Some((method, name)) => (Some(method), name),
            None => (None, None),
        };
        Ok(())
    }

    /// What is known of the request that a response on another stream answers: nothing, where other processes may have
    /// passed a request of the same id.
    fn remembered(&self, message: &Message) -> Option<Call> {
        let session = self.session.as_ref()?;
        let knows_all = session.is_held() || !self.owner.outlives_process();
        let state = session
            .existing_state::<SessionState>()
            .filter(|_| knows_all)?;
        state.call_of(message.id()?)
    }

    /// An event has come: the delays start anew if it takes the stream on from where it was resumed
    /// and has data. One that only says where the stream stands does not, were its id a new one, or a
    /// server that takes and drops every connection would be asked without end (G7).
    pub(crate) fn note_progress(
        &mut self,
        at: Option<&[u8]>,
        resumed_after: Option<&EventId>,
        has_data: bool,
    ) {
        let Some(resumed_after) = resumed_after else {
            return;
        };
        if has_data && at.is_some_and(|id| id != &resumed_after.as_bytes()[..]) {
            self.backoff.reset();
        }
    }

    /// Decides what follows the end of the upstream's body. `retry` is what the server asked for.
    pub(crate) fn ending(&self, last: Option<EventId>, retry: Option<Duration>) -> Ending {
        if self.answered || self.is_cancelled() {
            return Ending::Complete;
        }
        if let (Some(session), Some(last)) = (&self.session, last)
            && self.purpose.is_resumable()
            && self.owner.resumes()
        {
            let broken = Broken {
                session: Arc::clone(session),
                last,
                retry,
                backoff: self.backoff.clone(),
                is_standalone: matches!(self.purpose, Purpose::Standalone),
            };
            return Ending::Resume(Arc::clone(&self.owner).resume(broken));
        }
        self.lost()
    }

    /// The request that is to be answered on this stream: it was not yet, and its client has not cancelled it.
    pub(crate) fn owes(&self) -> Option<&RequestId> {
        let id = self.purpose.request();
        id.filter(|_| !self.answered && !self.is_cancelled())
    }

    fn is_cancelled(&self) -> bool {
        let asked = self.session.as_ref().zip(self.purpose.request());
        asked.is_some_and(|(session, id)| session.is_cancelled(id))
    }

    /// The end of a stream that cannot go on.
    pub(crate) fn lost(&self) -> Ending {
        let Some(id) = self.owes() else {
            return Ending::Complete;
        };
        let text = "the upstream's stream ended before the response; the call may have run";
        let failure = Failure::new(Reason::StreamLost, text);
        self.owner.stats().streams_lost();
        Ending::Fail(failure.event(id, self.owner.name()))
    }

    /// The end of a stream that was told to stop. If its session is over, nobody will answer its request
    /// any more; if another connection took its place, that one will.
    pub(crate) fn stopped(&self) -> Ending {
        let over = self.session.as_ref().is_some_and(|s| s.is_ended());
        if over { self.lost() } else { Ending::Complete }
    }

    /// What the client sees when the process shuts down; `true`: the stream is over.
    ///
    /// A session ends with its process, as long as its record is in memory only, and then nobody can
    /// resume its streams. So a call runs on for as long as it may, whether or not its events have ids, and
    /// in the end is answered with an error: then a cursor would be of no use. Where sessions outlive the
    /// process, a call with ids gets the cursor instead, as standalone streams do in any case.
    pub(crate) fn shut_down(&self, force: bool, resumable: bool, out: &mut Vec<u8>) -> bool {
        let answers = !matches!(self.purpose, Purpose::Standalone | Purpose::Subscription(_));
        if answers && !force {
            return false;
        }
        let primes = self
            .session
            .as_ref()
            .is_some_and(|s| s.revision().primes_streams());
        let awaited = self.purpose.request().is_some();
        let has_cursor = resumable && primes && self.purpose.is_resumable() && !self.answered;
        if has_cursor && (!awaited || self.owner.outlives_process()) {
            // The client waits that long before it comes back, here or at another instance.
            out.extend_from_slice(b"retry: 1000\n\n");
            return true;
        }
        match &self.purpose {
            Purpose::Subscription(id) => out.extend_from_slice(&subscription_end(id)),
            _ => {
                if let Some(id) = self.owes() {
                    let failure = Failure::new(Reason::ShuttingDown, "the gateway shuts down");
                    out.extend_from_slice(&failure.event(id, self.owner.name()));
                }
            }
        }
        true
    }

    /// A client that leaves has not cancelled a request of a session: if it cannot resume, the
    /// answer is read to its end and discarded, so that the call ends as the server means it.
    pub(crate) fn abandon(
        &self,
        resumable: bool,
        body: Option<Box<dyn BodyStream>>,
    ) -> Option<BoxFuture<()>> {
        let drains = matches!(self.purpose, Purpose::Request(_)) && !self.answered && !resumable;
        let body = body.filter(|_| drains)?;
        Some(Box::pin(discard(body)))
    }
}

fn unknown_response() -> Rejection {
    Rejection {
        code: rpc::code::INTERNAL_ERROR,
        message: "The gateway cannot tell which request this answers".into(),
        reason: "unknown_response".into(),
    }
}

/// Reads to the end what nobody wants any more. Event by event it would cost as much as the streams that
/// somebody reads, so what can be read by the clock is read in gulps.
async fn discard(mut body: Box<dyn BodyStream>) {
    let unwatched = body.unwatch();
    let mut out = Vec::new();
    loop {
        let mut taken = 0;
        // All that is there is taken, so that a server in a hurry is not held up.
        let gulp = poll_fn(|cx| {
            loop {
                out.clear();
                match body.poll_fill(cx, &mut out) {
                    Poll::Ready(Ok(Filled::More)) if taken < GULP => taken += out.len(),
                    Poll::Ready(Ok(Filled::More)) => return Poll::Ready(Gulp::More),
                    Poll::Ready(_) => return Poll::Ready(Gulp::Last),
                    Poll::Pending if unwatched => return Poll::Ready(Gulp::All),
                    Poll::Pending => return Poll::Pending,
                }
            }
        });
        match gulp.await {
            Gulp::Last => return,
            // Others have their turn.
            Gulp::More => tokio::task::yield_now().await,
            Gulp::All => tokio::time::sleep(BETWEEN_GULPS).await,
        }
    }
}

/// What is left after a gulp.
enum Gulp {
    More,
    /// Nothing for now.
    All,
    Last,
}

fn subscription_end(id: &RequestId) -> Vec<u8> {
    let id = String::from_utf8_lossy(id.as_json());
    let meta = format!(r#"{{"io.modelcontextprotocol/subscriptionId":{id}}}"#);
    let result = format!(r#"{{"resultType":"complete","_meta":{meta}}}"#);
    format!("data: {{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{result}}}\n\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use std::task::Context;

    use thinpipe_transport::body::BodyError;

    use super::*;

    /// A server that always has more to say.
    struct Endless;

    impl BodyStream for Endless {
        fn poll_fill(
            &mut self,
            _: &mut Context<'_>,
            out: &mut Vec<u8>,
        ) -> Poll<Result<Filled, BodyError>> {
            out.extend_from_slice(&[b'x'; 1024]);
            Poll::Ready(Ok(Filled::More))
        }

        fn unwatch(&mut self) -> bool {
            true
        }
    }

    /// C9: what is drained without a reader holds up nobody, and its time-out ends it.
    #[tokio::test]
    async fn c9_draining_lets_others_have_their_turn() {
        let draining = discard(Box::new(Endless));
        let ended = tokio::time::timeout(Duration::from_millis(5), draining).await;
        assert!(ended.is_err());
    }
}
