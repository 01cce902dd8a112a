//! A client session in front of an upstream session.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes;
use thinpipe_proto::bridge::MemberId;
use thinpipe_proto::revision::Binding;
use thinpipe_proto::rpc::RequestId;
use thinpipe_proto::session::{Principal, UpstreamSessionId};
use thinpipe_transport::server::Session;
use thinpipe_transport::server::conversation::{Conversation, Inlet, Outlet};
use tokio::sync::{SetOnce, oneshot};
use tokio::time::timeout;

use super::UpstreamSession;
use super::patience::Patience;
use super::presence::{Presence, Watched};
use crate::clock::now;
use crate::failure::Failure;
use crate::held::Over;
use crate::interceptor::MessageContext;
use crate::session::Call;
use crate::sync::lock;

/// One client session, as its upstream session knows it.
pub(crate) struct Member {
    id: MemberId,
    /// Set once `initialize` has opened the session.
    place: SetOnce<Place>,
    opening: Mutex<Option<Opening>>,
    /// Requests that are being answered.
    open: Mutex<BTreeMap<RequestId, Open>>,
    principal: Principal,
    /// What others that use the same session of the server have for all that this principal has in it, if it has a name.
    patience: Arc<Mutex<Patience>>,
}

/// Where a client session is.
pub(crate) struct Place {
    /// Not held: it holds this.
    pub(crate) session: Weak<Session>,
    pub(crate) conversation: Arc<Conversation>,
    /// What all messages to it have in common.
    pub(crate) context: MessageContext,
    /// HTTP+SSE: the longest message that may be said there, in bytes.
    pub(crate) max_message: usize,
}

impl Place {
    pub(crate) fn is_too_large(&self, message: &[u8]) -> bool {
        message.len() > self.max_message && self.is_over_sse()
    }

    /// A response, or an error in the place of one that is too large.
    pub(super) fn bounded(&self, request: &RequestId, message: Bytes, upstream: &str) -> Bytes {
        if self.is_too_large(&message) {
            return Failure::too_large_for_client(self.max_message)
                .message(Some(request), upstream);
        }
        message
    }

    /// Whether all that is said to the client is said on one stream, which is its session.
    pub(super) fn is_over_sse(&self) -> bool {
        let session = self.session.upgrade();
        session.is_some_and(|session| session.binding() == Binding::HttpSse)
    }
}

/// `initialize` is being answered.
struct Opening {
    request: RequestId,
    answer: oneshot::Sender<Bytes>,
}

/// A request that is being answered.
pub(super) struct Open {
    pub(super) reply: Reply,
    /// What it asks for, where interceptors want to know.
    pub(super) call: Option<Call>,
    /// Dropped when it has been answered, or will not be.
    pub(super) answering: oneshot::Sender<Infallible>,
}

/// Where the response to a request goes.
pub(super) enum Reply {
    /// To where the rest about it is said.
    Stream(Outlet),
    /// To its handler alone.
    Handler(oneshot::Sender<Bytes>),
    /// To nobody: that it came is all that matters.
    Nobody,
}

/// A request that was begun, as its handler sees it.
pub(crate) struct Begun {
    pub(crate) inlet: Inlet,
    response: Option<oneshot::Receiver<Bytes>>,
    done: oneshot::Receiver<Infallible>,
}

impl Begun {
    /// The response, of a request whose response goes to its handler; `None`: there is none.
    pub(crate) async fn response(self) -> Option<Bytes> {
        match self.response {
            // Without a response its sender is dropped.
            Some(response) => response.await.ok(),
            None => {
                // Nothing is ever sent: it ends with its sender.
                let _ = self.done.await;
                None
            }
        }
    }
}

impl Member {
    pub(super) fn new(
        id: MemberId,
        initialize: RequestId,
        among: (&Principal, &BTreeMap<MemberId, Arc<Self>>),
    ) -> (Arc<Self>, oneshot::Receiver<Bytes>) {
        let (answer, answered) = oneshot::channel();
        let opening = Opening {
            request: initialize,
            answer,
        };
        (Self::of(id, Some(opening), among), answered)
    }

    /// One whose `initialize` is answered.
    pub(super) fn initialized(
        id: MemberId,
        among: (&Principal, &BTreeMap<MemberId, Arc<Self>>),
    ) -> Arc<Self> {
        Self::of(id, None, among)
    }

    fn of(
        id: MemberId,
        opening: Option<Opening>,
        (principal, others): (&Principal, &BTreeMap<MemberId, Arc<Self>>),
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            place: SetOnce::new(),
            opening: Mutex::new(opening),
            open: Mutex::default(),
            patience: patience_for(principal, others),
            principal: principal.clone(),
        })
    }

    pub(crate) fn id(&self) -> MemberId {
        self.id
    }

    /// What comes of it, if it comes before others have waited for this client for too long: for one that reads slowly
    /// they wait each time, for one that does not read they do not wait again.
    pub(super) async fn waited_for<T>(&self, saying: impl Future<Output = T>) -> Option<T> {
        let left = lock(&self.patience).left(now());
        let said = timeout(left, saying).await.ok();
        if said.is_none() {
            lock(&self.patience).spent(now());
        }
        said
    }

    pub(crate) fn place(&self) -> &SetOnce<Place> {
        &self.place
    }

    /// Whether `initialize` has not been answered yet.
    pub(super) fn is_opening(&self) -> bool {
        lock(&self.opening).is_some()
    }

    /// Where the answer to `initialize` goes, if this request is it.
    pub(super) fn take_opening(
        &self,
        request: Option<&RequestId>,
    ) -> Option<oneshot::Sender<Bytes>> {
        let mut opening = lock(&self.opening);
        let taken = opening.take_if(|opening| Some(&opening.request) == request);
        taken.map(|opening| opening.answer)
    }

    /// Begins the answer to a request; `None`: one with this id is being answered.
    fn begin(&self, request: &RequestId, call: Option<Call>, inline: bool) -> Option<Begun> {
        let conversation = &self.place.get()?.conversation;
        let mut open = lock(&self.open);
        if open.contains_key(request) {
            return None;
        }
        let (outlet, inlet) = conversation.begin(request);
        let (answering, done) = oneshot::channel();
        let (to_handler, response) = inline.then(oneshot::channel).unzip();
        let begun = Open {
            reply: to_handler.map_or(Reply::Stream(outlet), Reply::Handler),
            call,
            answering,
        };
        open.insert(request.clone(), begun);
        Some(Begun {
            inlet,
            response,
            done,
        })
    }

    /// Begins the answer to a request that the gateway makes in the client's place. What comes of it ends the
    /// receiver.
    fn begin_unread(&self, request: &RequestId) -> oneshot::Receiver<Infallible> {
        let (answering, answered) = oneshot::channel();
        let begun = Open {
            reply: Reply::Nobody,
            call: None,
            answering,
        };
        lock(&self.open).insert(request.clone(), begun);
        answered
    }

    /// Whether a request is being answered.
    pub(super) fn is_answering(&self, request: &RequestId) -> bool {
        lock(&self.open).contains_key(request)
    }

    /// Whether nobody reads the stream of a request that is being answered.
    pub(super) fn is_unattended(&self, request: &RequestId) -> bool {
        match lock(&self.open).get(request).map(|open| &open.reply) {
            Some(Reply::Stream(outlet)) => !outlet.is_attended(),
            Some(Reply::Handler(_) | Reply::Nobody) | None => false,
        }
    }

    /// The request that is answered now, or not at all.
    pub(super) fn take(&self, request: &RequestId) -> Option<Open> {
        lock(&self.open).remove(request)
    }
}

/// Keeps a client session attached to an upstream session.
pub(crate) struct Attachment {
    upstream: Arc<UpstreamSession>,
    member: Arc<Member>,
}

impl Attachment {
    pub(super) fn new(upstream: Arc<UpstreamSession>, member: Arc<Member>) -> Self {
        Self { upstream, member }
    }

    pub(crate) fn upstream(&self) -> &UpstreamSession {
        &self.upstream
    }

    pub(crate) fn member(&self) -> &Member {
        &self.member
    }

    /// Says where the client session is: what the server says comes to it from now on.
    pub(crate) fn settle(&self, place: Place) {
        place
            .conversation
            .notify_held(Arc::clone(&self.upstream.timer));
        // A client session is opened once, by whoever holds this.
        let first = self.member.place.set(place).is_ok();
        debug_assert!(first, "a client session has one place");
        self.upstream.look_for_stream(&self.member);
    }

    /// Whether all that is said to the client is said on one stream.
    pub(crate) fn is_over_sse(&self) -> bool {
        self.member.place.get().is_some_and(Place::is_over_sse)
    }

    /// Held by a stream of the client, which it has opened now: tells the session when it is dropped.
    pub(crate) fn watched(&self, stream: Watched) -> Presence {
        Presence::new(Arc::clone(&self.upstream), Arc::clone(&self.member), stream)
    }

    /// Begins the answer to a request, whose response goes to its handler if it is `inline`. `None`: one
    /// with this id is being answered.
    pub(crate) fn begin(
        &self,
        request: &RequestId,
        call: Option<Call>,
        inline: bool,
    ) -> Option<Begun> {
        self.member.begin(request, call, inline)
    }

    /// Begins the answer to a request that the gateway makes in the client's place: the receiver ends when it has
    /// been answered, or will not be.
    pub(crate) fn begin_unread(&self, request: &RequestId) -> oneshot::Receiver<Infallible> {
        self.member.begin_unread(request)
    }

    /// A request that was begun and is not sent.
    pub(crate) fn forget(&self, request: &RequestId) {
        self.member.take(request);
    }

    /// The id that the server has given its session, if it has.
    pub(crate) fn upstream_id(&self) -> Option<UpstreamSessionId> {
        self.upstream.sender()?.session()
    }

    /// The name of the connections to its server, while there are any.
    pub(crate) fn connected_as(&self) -> Option<Arc<str>> {
        Some(self.upstream.sender()?.upstream())
    }

    /// How the session reaches its server.
    pub(crate) fn over(&self) -> Over {
        if self.upstream.is_of_calls() {
            Over::Calls
        } else if self.upstream.has_streams() {
            Over::Streams
        } else {
            Over::Pipe
        }
    }

    /// Another process goes on with the client session: its streams end here and can be come back to there, and
    /// the server is told nothing.
    pub(crate) fn leave(&self) {
        if let Some(place) = self.member.place.get() {
            place.conversation.hand_over();
        }
        self.upstream.leave();
        self.detach();
    }

    /// The client session is over: its streams end, what it has asked for is cancelled.
    pub(crate) fn detach(&self) {
        if let Some(place) = self.member.place.get() {
            place.conversation.close();
        }
        self.upstream.detach(self.member.id);
        // Outside of the lock: an outlet that is dropped tells its conversation.
        let open = std::mem::take(&mut *lock(&self.member.open));
        drop(open);
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.detach();
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attachment")
            .field("member", &self.member.id)
            .finish_non_exhaustive()
    }
}

/// What there is for one more client session of this principal: it is one for all of them. Of those without a name nobody
/// can say which belong together.
fn patience_for(
    principal: &Principal,
    others: &BTreeMap<MemberId, Arc<Member>>,
) -> Arc<Mutex<Patience>> {
    let is_same =
        |other: &&Arc<Member>| *principal != Principal::Anonymous && other.principal == *principal;
    match others.values().find(is_same) {
        Some(other) => Arc::clone(&other.patience),
        None => Arc::new(Mutex::new(Patience::new(now()))),
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Duration;

    use tokio::time::sleep;

    use super::*;

    /// F6: a client that takes what it is sent, however slowly, is waited for. One that has stopped is waited for once,
    /// however many streams it does not read.
    #[tokio::test(start_paused = true)]
    async fn f6_who_reads_slowly_is_waited_for() {
        let member = Member::initialized(MemberId(0), (&Principal::Anonymous, &BTreeMap::new()));
        for _ in 0..100 {
            let reading = sleep(Duration::from_millis(250));
            assert!(member.waited_for(reading).await.is_some());
        }
        let stopped = now();
        for _ in 0..6 {
            assert!(member.waited_for(pending::<()>()).await.is_none());
        }
        assert_eq!((now() - stopped).as_secs(), 5);
    }
    /// F6: a principal gets no more of it with more sessions.
    #[tokio::test(start_paused = true)]
    async fn f6_the_sessions_of_a_principal_share_what_there_is_for_it() {
        let named = |name: &str| Principal::Named(name.into());
        let mut members = BTreeMap::new();
        for (id, principal) in [
            named("one"),
            named("two"),
            named("one"),
            Principal::Anonymous,
            Principal::Anonymous,
        ]
        .iter()
        .enumerate()
        {
            let id = MemberId(id as u64);
            let member = Member::initialized(id, (principal, &members));
            members.insert(id, member);
        }
        let mut waited = Vec::new();
        for member in members.values() {
            let stopped = now();
            assert!(member.waited_for(pending::<()>()).await.is_none());
            waited.push((now() - stopped).as_secs());
        }
        // A tenth of what the other was waited for is back.
        assert_eq!(waited, [5, 5, 0, 5, 5]);
    }
}
