//! What comes out of an upstream session for one POST of a client, until the client takes it.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use thinpipe_proto::bridge::downgrade::{AttachmentId, ExchangeId, Lifetime, Listening, Request};
use thinpipe_proto::rpc::{Message, RequestId};
use thinpipe_proto::session::Principal;
use tokio::sync::Notify;

use super::place::Place;
use super::state::Digest;
use crate::cache::is_known_by_principal;
use crate::sync::{found, lock};

/// Messages that wait for one client. Beyond, its upstream session is not read. Change notices wait beside
/// them: one for each kind and URI, of which the upstream session bounds the number.
const MAX_WAITING: usize = 100;

/// Bytes of them, one message more not counted.
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
    /// Those that count, and their bytes.
    counted: usize,
    bytes: usize,
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
        headers: HeaderMap,
        message: Message,
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
            queue: Mutex::default(),
            room: Notify::new(),
        })
    }

    /// What the request says to this upstream; `None`: it is a listen.
    pub(super) fn digest(&self, upstream: &str) -> Option<Digest> {
        let message = self.message.as_ref()?;
        Some(*self.digest.get_or_init(|| Digest::of(upstream, message)))
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
        let mut queue = self.lock();
        if queue.is_over || queue.is_known(&item) {
            return;
        }
        if let Item::Message(message) = &item {
            queue.counted += 1;
            queue.bytes += message.len();
        }
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
        let Some(item) = queue.items.pop_front() else {
            match &mut queue.reader {
                Some(waker) => waker.clone_from(cx.waker()),
                reader => *reader = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        };
        if let Item::Message(message) = &item {
            queue.counted -= 1;
            queue.bytes -= message.len();
        }
        drop(queue);
        self.room.notify_waiters();
        Poll::Ready(Some(item))
    }

    /// Nobody reads it any more.
    pub(super) fn end(&self) {
        let mut queue = self.lock();
        queue.is_over = true;
        let items = std::mem::take(&mut queue.items);
        let reader = queue.reader.take();
        drop(queue);
        drop(items);
        if let Some(reader) = reader {
            reader.wake();
        }
        self.room.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        lock(&self.queue)
    }
}

impl Queue {
    fn has_room(&self) -> bool {
        self.is_over || (self.counted < MAX_WAITING && self.bytes < MAX_WAITING_BYTES)
    }

    fn is_known(&self, item: &Item) -> bool {
        let Item::Notice(new) = item else {
            return false;
        };
        let waits = |item: &Item| matches!(item, Item::Notice(old) if old == new);
        self.items.iter().any(waits)
    }
}
