//! What comes out of an upstream session for one POST of a client, until the client takes it.

use std::collections::{HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use thinpipe_proto::bridge::downgrade::{AttachmentId, ExchangeId, Lifetime, Listening, Request};
use thinpipe_proto::rpc::{Message, RequestId};
use thinpipe_proto::session::Principal;
use thinpipe_transport::ByteBudget;
use tokio::sync::Notify;

use super::place::Place;
use super::state::Digest;
use crate::cache::is_known_by_principal;
use crate::failure::Failure;
use crate::sync::{found, lock};

/// Messages that wait for one client. Beyond, its upstream session is not read.
const MAX_WAITING: usize = 100;

/// Change notices that wait beside them: no two of one kind and URI. A server may name parts of the resources
/// that were subscribed to, so that there may be more of them than of those.
const MAX_NOTICES: usize = 2000;

/// Bytes of both, one message more not counted.
const MAX_WAITING_BYTES: usize = 1 << 20;

/// A POST of a client, which carries a request or a listen now.
pub(super) struct Post {
    pub(super) id: AttachmentId,
    /// The client's own id of the request.
    pub(super) request: RequestId,
    /// Whose it is.
    pub(super) client: Client,
    pub(super) place: Place,
    pub(super) kind: Kind,
    /// The headers of its own that go to the server with its request, where that has headers.
    pub(super) headers: HeaderMap,
    /// The request as it came, and what it says: of most nobody wants to know. A listen, which may last for days
    /// and never waits for its client's input, keeps neither.
    message: Option<Message>,
    digest: OnceLock<Digest>,
    upstream: Arc<str>,
    /// What waits here counts for as long as its client has not taken it.
    budget: ByteBudget,
    queue: Mutex<Queue>,
    room: Notify,
}

/// Who sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) principal: Principal,
    /// Its address, if it has one.
    pub(crate) address: Option<IpAddr>,
}

/// What is special about its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    /// A list with cursors that mean something on one upstream session only.
    List,
    /// It runs until one side ends it.
    Listen,
    /// What the server is, which all of its sessions say alike.
    Discover,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    /// How many messages before the last one wait, and the bytes of them and of notices.
    messages: usize,
    bytes: usize,
    notices: HashSet<Bytes>,
    /// Some found no room, and were dropped.
    has_dropped: bool,
    /// Its client has left, or is to be left.
    is_over: bool,
    reader: Option<Waker>,
}

/// What is next for a client.
#[derive(Debug)]
pub(super) enum Item {
    /// A message before the last one.
    Message(Bytes),
    /// "Read again": of equal ones that wait, one is enough.
    Notice(Bytes),
    Last(Last),
    /// In the place of a last message, for which there is no room: a call that waits is cancelled.
    Refused(Last),
    /// The upstream session is gone before the request ran: it may be given to another one.
    Again(Request),
    /// The same for a listen.
    Relisten(Listening),
}

/// The last message.
#[derive(Debug)]
pub(super) struct Last {
    pub(super) message: Bytes,
    /// The HTTP status, if none was sent yet.
    pub(super) status: u16,
    /// The request waits for its client: it has to be said when the client has this.
    pub(super) parks: Option<ExchangeId>,
}

impl Post {
    pub(super) fn new(
        (id, request): (AttachmentId, RequestId),
        client: Client,
        place: Place,
        kind: Kind,
        (headers, message): (HeaderMap, Message),
        (upstream, budget): (Arc<str>, ByteBudget),
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            request,
            client,
            place,
            kind,
            headers,
            message: Some(message).filter(|_| kind != Kind::Listen),
            digest: OnceLock::new(),
            upstream,
            budget,
            queue: Mutex::default(),
            room: Notify::new(),
        })
    }

    /// What the request says to its upstream; `None`: it is a listen.
    pub(super) fn digest(&self) -> Option<Digest> {
        let message = self.message.as_ref()?;
        Some(
            *self
                .digest
                .get_or_init(|| Digest::of(&self.upstream, message)),
        )
    }

    /// Whether it asks what everybody may know, and would have a session for that alone. A header that nobody
    /// here knows may be what the server tells its clients apart by.
    pub(super) fn is_anyones_question(&self) -> bool {
        self.kind == Kind::Discover
            && self.place.lifetime == Lifetime::PerRequest
            && self.client.principal == Principal::Anonymous
            && is_known_by_principal(&self.client.principal, &self.headers)
    }

    /// Never waits: who gives more than there is [room](Self::room) for gives no more for now.
    pub(super) fn push(&self, item: Item) {
        let item = self.held(item);
        let mut queue = self.lock();
        if queue.is_over || item.as_ref().is_some_and(|item| !queue.admits(item)) {
            return;
        }
        let Some(item) = item else {
            // Said once: there may be many of them.
            let is_first = !std::mem::replace(&mut queue.has_dropped, true);
            drop(queue);
            if is_first {
                let upstream = &*self.upstream;
                tracing::warn!(
                    upstream,
                    "notifications for a client are dropped: too much is held"
                );
            }
            return;
        };
        queue.items.push_back(item);
        let reader = queue.reader.take();
        drop(queue);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Until there is room, or nobody reads; `false`: neither within `patience`.
    pub(super) async fn room(&self, patience: Option<Duration>) -> bool {
        if self.lock().has_room() {
            return true;
        }
        let waiting = found(&self.room, || self.lock().has_room().then_some(()));
        match patience {
            Some(patience) => tokio::time::timeout(patience, waiting).await.is_ok(),
            None => {
                waiting.await;
                true
            }
        }
    }

    /// What is next; `None`: it broke off.
    pub(super) fn poll_next(&self, cx: &Context<'_>) -> Poll<Option<Item>> {
        let mut queue = self.lock();
        if queue.is_over {
            return Poll::Ready(None);
        }
        let Some(item) = queue.pop() else {
            match &mut queue.reader {
                Some(waker) => waker.clone_from(cx.waker()),
                reader => *reader = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        };
        drop(queue);
        self.room.notify_waiters();
        Poll::Ready(Some(item))
    }

    /// Nobody reads it any more.
    pub(super) fn end(&self) {
        let mut queue = self.lock();
        queue.is_over = true;
        let items = std::mem::take(&mut queue.items);
        queue.notices.clear();
        let reader = queue.reader.take();
        drop(queue);
        drop(items);
        if let Some(reader) = reader {
            reader.wake();
        }
        self.room.notify_waiters();
    }

    /// The same, and it counts; `None`: there is no room for a notification.
    fn held(&self, item: Item) -> Option<Item> {
        match item {
            Item::Message(message) => self.budget.hold(message).ok().map(Item::Message),
            Item::Notice(notice) => self.budget.hold(notice).ok().map(Item::Notice),
            Item::Last(last) => Some(match self.budget.hold(last.message) {
                Ok(message) => Item::Last(Last { message, ..last }),
                Err(error) => {
                    let failure = Failure::no_room(&error);
                    Item::Refused(Last {
                        message: failure.message(Some(&self.request), &self.upstream),
                        status: failure.status().as_u16(),
                        parks: None,
                    })
                }
            }),
            other => Some(other),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        lock(&self.queue)
    }
}

impl Queue {
    fn has_room(&self) -> bool {
        let has_room = self.messages < MAX_WAITING
            && self.notices.len() < MAX_NOTICES
            && self.bytes < MAX_WAITING_BYTES;
        self.is_over || has_room
    }

    /// Counts what is to wait; `false`: an equal notice waits already.
    fn admits(&mut self, item: &Item) -> bool {
        match item {
            Item::Message(message) => {
                self.messages += 1;
                self.bytes += message.len();
            }
            Item::Notice(notice) => {
                if !self.notices.insert(notice.clone()) {
                    return false;
                }
                self.bytes += notice.len();
            }
            _ => {}
        }
        true
    }

    fn pop(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        match &item {
            Item::Message(message) => {
                self.messages -= 1;
                self.bytes -= message.len();
            }
            Item::Notice(notice) => {
                self.notices.remove(notice);
                self.bytes -= notice.len();
            }
            _ => {}
        }
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use thinpipe_proto::bridge::downgrade::Channel;

    use super::*;
    use crate::config::BridgeConfig;

    fn post(budget: &ByteBudget) -> Arc<Post> {
        let text = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t"}}"#;
        let request = Message::parse(text.into()).unwrap();
        let principal = Principal::Anonymous;
        let bridge = BridgeConfig::default();
        Post::new(
            (AttachmentId(1), RequestId::from_integer(7)),
            Client {
                principal: principal.clone(),
                address: None,
            },
            Place::of(&request, &principal, &bridge, Channel::Streams).unwrap(),
            Kind::Plain,
            (HeaderMap::new(), request),
            ("up".into(), budget.clone()),
        )
    }

    fn next(post: &Post) -> Option<Item> {
        match post.poll_next(&Context::from_waker(Waker::noop())) {
            Poll::Ready(item) => item,
            Poll::Pending => None,
        }
    }

    fn last(length: usize, parks: Option<ExchangeId>) -> Item {
        Item::Last(Last {
            message: "x".repeat(length).into(),
            status: 200,
            parks,
        })
    }

    /// Memory: what waits for a client counts for as long as it waits, and what finds no room is refused, not
    /// held.
    #[test]
    fn c9_what_waits_for_a_client_counts() {
        let budget = ByteBudget::new(100 << 10);
        let slow = post(&budget);
        slow.push(last(80 << 10, None));
        assert_eq!(budget.used(), 80 << 10);
        for parks in [None, Some(ExchangeId(3))] {
            let other = post(&budget);
            other.push(Item::Message("x".repeat(30 << 10).into()));
            other.push(last(80 << 10, parks));
            let Some(Item::Refused(refused)) = next(&other) else {
                panic!("an answer without room");
            };
            let refused: serde_json::Value = serde_json::from_slice(&refused.message).unwrap();
            assert_eq!(refused["id"], 7);
            assert_eq!(refused["error"]["data"]["reason"], "buffer_full");
        }
        assert!(matches!(next(&slow), Some(Item::Last(_))));
        assert_eq!(budget.used(), 0);
        slow.push(last(80 << 10, None));
        slow.end();
        assert_eq!(budget.used(), 0);
    }

    /// Invariant 18: a storm costs one slot for each thing that changes; who names ever new ones waits.
    #[test]
    fn r239_change_notices_that_wait_are_bounded() {
        let post = post(&ByteBudget::default());
        let notice = |number: usize| Item::Notice(format!("notice {number}").into());
        for number in 0..MAX_NOTICES {
            assert!(post.lock().has_room());
            post.push(notice(number));
            post.push(notice(number));
        }
        assert!(!post.lock().has_room());
        assert_eq!(post.lock().items.len(), MAX_NOTICES);
        assert!(matches!(next(&post), Some(Item::Notice(first)) if first == "notice 0"));
        assert!(post.lock().has_room());
        post.push(notice(0));
        assert_eq!(post.lock().items.len(), MAX_NOTICES);
    }
}
