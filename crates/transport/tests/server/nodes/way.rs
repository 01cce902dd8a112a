//! The way of a node to its stores, which can be cut, and on which things get lost.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use thinpipe_proto::session::{NodeId, SessionId};
use thinpipe_store::{
    BoxFuture, DeliverError, Inbox, SessionRecord, SessionStore, StoreError, Version, Versioned,
};

use super::support::Shelf;

/// A session, and what is said of its record.
type Unreadable = (SessionId, fn() -> StoreError);

/// The stores as one node reaches them, or does not.
#[derive(Default)]
pub(crate) struct Way {
    pub(super) shelf: Shelf,
    pub(super) is_cut: AtomicBool,
    /// The store takes its next beat late.
    pub(super) beats_late: AtomicBool,
    /// It has one on the way.
    pub(super) is_beating: AtomicBool,
    /// It does not find out who is alive at all.
    pub(super) has_no_list: AtomicBool,
    /// Messages stay in its inbox.
    pub(super) is_deaf: AtomicBool,
    /// They do by now.
    pub(super) hears_nothing: AtomicBool,
    /// What it says next is lost.
    pub(super) is_mute: AtomicBool,
    /// What it says next does not arrive, and it is told so.
    pub(super) fails: AtomicBool,
    /// Nor does anything that it says.
    pub(super) fails_always: AtomicBool,
    /// The store has no memory for what it says.
    pub(super) is_full: AtomicBool,
    /// The store does not take its next touch of a record.
    pub(super) fails_touch: AtomicBool,
    /// Nor its next update of one.
    pub(super) fails_update: AtomicBool,
    /// Nor its next deletion.
    pub(super) fails_delete: AtomicBool,
    /// The store does its next update of a record, and does not say so.
    pub(super) doubts_update: AtomicBool,
    /// What it says next arrives, and it is told that it does not.
    pub(super) doubts: AtomicBool,
    /// Messages that it has sent.
    pub(super) sent: AtomicUsize,
    /// It cannot read the record of this session, and why.
    pub(super) unreadable: Mutex<Option<Unreadable>>,
}

impl Way {
    fn stores(&self) -> Result<&Shelf, StoreError> {
        if self.is_cut.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("it is cut".into()));
        }
        Ok(&self.shelf)
    }

    /// The same, if it can read all of these records.
    fn stores_with(&self, ids: &[SessionId]) -> Result<&Shelf, StoreError> {
        match &*self.unreadable.lock().unwrap() {
            Some((id, why)) if ids.contains(id) => Err(why()),
            _ => self.stores(),
        }
    }
}

fn unheard() -> StoreError {
    StoreError::Unavailable("no answer".into())
}

/// The same call, if the way is not cut.
macro_rules! through {
    ($self:ident.$store:ident.$call:ident($($argument:expr),*)) => {
        through!($self.stores(), $store.$call($($argument),*))
    };
    ($shelf:expr, $store:ident.$call:ident($($argument:expr),*)) => {
        match $shelf {
            Ok(shelf) => shelf.$store.$call($($argument),*),
            Err(error) => Box::pin(std::future::ready(Err(error.into()))),
        }
    };
}

impl SessionStore for Way {
    fn create<'a>(
        &'a self,
        record: &'a SessionRecord,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        through!(self.sessions.create(record, ttl))
    }

    fn get<'a>(
        &'a self,
        id: &'a SessionId,
    ) -> BoxFuture<'a, Result<Option<Versioned>, StoreError>> {
        through!(self.stores_with(std::slice::from_ref(id)), sessions.get(id))
    }

    fn get_many<'a>(
        &'a self,
        ids: &'a [SessionId],
    ) -> BoxFuture<'a, Result<Vec<Option<Versioned>>, StoreError>> {
        through!(self.stores_with(ids), sessions.get_many(ids))
    }

    fn update<'a>(
        &'a self,
        record: &'a SessionRecord,
        expected: Version,
    ) -> BoxFuture<'a, Result<Version, StoreError>> {
        if self.fails_update.swap(false, Ordering::SeqCst) {
            return Box::pin(std::future::ready(Err(unheard())));
        }
        if self.doubts_update.swap(false, Ordering::SeqCst) {
            return Box::pin(async move {
                self.shelf.sessions.update(record, expected).await?;
                Err(unheard())
            });
        }
        through!(self.sessions.update(record, expected))
    }

    fn touch<'a>(
        &'a self,
        id: &'a SessionId,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        if self.fails_touch.swap(false, Ordering::SeqCst) {
            return Box::pin(std::future::ready(Err(unheard())));
        }
        through!(self.sessions.touch(id, ttl))
    }

    fn delete<'a>(&'a self, id: &'a SessionId) -> BoxFuture<'a, Result<bool, StoreError>> {
        let mut unreadable = self.unreadable.lock().unwrap();
        unreadable.take_if(|(of, _)| of == id);
        drop(unreadable);
        if self.fails_delete.swap(false, Ordering::SeqCst) {
            return Box::pin(std::future::ready(Err(unheard())));
        }
        through!(self.sessions.delete(id))
    }

    fn count(&self) -> BoxFuture<'_, Result<usize, StoreError>> {
        through!(self.sessions.count())
    }

    fn list<'a>(
        &'a self,
        after: Option<&'a SessionId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<SessionId>, StoreError>> {
        through!(self.sessions.list(after, limit))
    }
}

impl Inbox for Way {
    fn beat<'a>(
        &'a self,
        node: &'a NodeId,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            while self.beats_late.load(Ordering::SeqCst) {
                self.is_beating.store(true, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            self.stores()?.inbox.beat(node, ttl).await
        })
    }

    fn leave<'a>(&'a self, node: &'a NodeId) -> BoxFuture<'a, Result<(), StoreError>> {
        through!(self.inbox.leave(node))
    }

    fn nodes(&self) -> BoxFuture<'_, Result<Vec<NodeId>, StoreError>> {
        if self.has_no_list.load(Ordering::SeqCst) {
            return Box::pin(std::future::ready(Err(unheard())));
        }
        through!(self.inbox.nodes())
    }

    fn dead<'a>(&'a self, among: &'a [NodeId]) -> BoxFuture<'a, Result<Vec<NodeId>, StoreError>> {
        through!(self.inbox.dead(among))
    }

    fn deliver<'a>(
        &'a self,
        to: &'a NodeId,
        message: Bytes,
    ) -> BoxFuture<'a, Result<(), DeliverError>> {
        self.sent.fetch_add(1, Ordering::SeqCst);
        if self.is_mute.swap(false, Ordering::SeqCst) {
            return Box::pin(std::future::ready(Ok(())));
        }
        let fails = self.fails.swap(false, Ordering::SeqCst);
        if fails || self.fails_always.load(Ordering::SeqCst) {
            return Box::pin(std::future::ready(Err(unheard().into())));
        }
        if self.is_full.load(Ordering::SeqCst) {
            return Box::pin(std::future::ready(Err(DeliverError::Refused(unheard()))));
        }
        if self.doubts.swap(false, Ordering::SeqCst) {
            return Box::pin(async move {
                self.shelf.inbox.deliver(to, message).await?;
                // It is taken before anybody could take it back.
                tokio::time::sleep(Duration::from_secs(1)).await;
                Err(unheard().into())
            });
        }
        through!(self.inbox.deliver(to, message))
    }

    fn withdraw<'a>(
        &'a self,
        to: &'a NodeId,
        message: &'a Bytes,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        through!(self.inbox.withdraw(to, message))
    }

    fn take<'a>(
        &'a self,
        node: &'a NodeId,
        limit: usize,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Vec<Bytes>, StoreError>> {
        Box::pin(async move {
            let until = tokio::time::Instant::now() + wait;
            loop {
                let shelf = self.stores()?;
                if !self.is_deaf.load(Ordering::SeqCst) {
                    // In short turns: the way may be cut at any time.
                    let turn = wait.min(Duration::from_millis(20));
                    let taken = shelf.inbox.take(node, limit, turn).await?;
                    if !taken.is_empty() {
                        return Ok(taken);
                    }
                } else {
                    self.hears_nothing.store(true, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                if tokio::time::Instant::now() >= until {
                    return Ok(Vec::new());
                }
            }
        })
    }

    fn secret<'a>(
        &'a self,
        name: &'a str,
        proposed: Bytes,
    ) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        through!(self.inbox.secret(name, proposed))
    }
}
