//! What nodes share: sessions ([`SessionStore`]), the history of streams that can be resumed ([`EventLog`])
//! and a way to reach each other ([`Inbox`]).
//!
//! This crate decides nothing: not when a session ends, not who owns it, not what a message means. A
//! [`SessionRecord`] is what another process would need to go on with a session, and holds no message and no
//! cursor.
//!
//! [`MemoryStore`] is the embedded default; [`MemoryLog`] and [`MemoryInbox`] are for several gateways in one
//! process. [`conformance`] has the suites of behaviour that each of them must show, wherever it is kept.

pub mod conformance;
mod event_log;
mod inbox;
mod memory;
mod record;
#[cfg(feature = "redis")]
mod redis;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use thinpipe_proto::session::SessionId;

pub use event_log::{
    EventLog, LogEntry, LogError, LogLimits, LogPage, MAX_STREAMS, StreamHead, StreamKey,
    UNFINISHED_FOR,
};
pub use inbox::{DeliverError, Inbox, KEPT_AFTER_DEATH, MAX_WAITING, MAX_WAITING_BYTES};
pub use memory::{MemoryInbox, MemoryLog, MemoryStore};
pub use record::{SessionRecord, Version};
#[cfg(feature = "redis")]
pub use redis::{InvalidRedisUrl, RedisConfig, RedisCredentials, RedisKind, RedisStore};

/// A boxed future that can move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A record, and the version that an update of it must name.
pub type Versioned = (SessionRecord, Version);

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A record with this id exists already.
    #[error("a session with this id exists already")]
    Exists,
    /// No record with this id exists (any more).
    #[error("no session has this id")]
    NotFound,
    /// The record was changed by somebody else since it was read.
    #[error("the session was changed by another writer")]
    Conflict,
    /// What is kept of the session is no record that this release can read: a later one has written it.
    #[error("the record of the session cannot be read")]
    Unreadable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What is kept of the session is no record at all: nobody can go on with it.
    #[error("the record of the session is damaged")]
    Damaged(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The store cannot be reached, or does not answer in time.
    #[error("the session store is unreachable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl StoreError {
    /// Whether the same call may succeed later without anything being done about it.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

/// Records of sessions, with expiry. All operations are atomic.
pub trait SessionStore: Send + Sync + 'static {
    /// Stores a new record that expires after `ttl` without a touch.
    ///
    /// # Errors
    /// [`StoreError::Exists`] if the id is taken; an expired or deleted id is not taken.
    fn create<'a>(
        &'a self,
        record: &'a SessionRecord,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// The record and its version; `None` if there is none or it has expired.
    ///
    /// # Errors
    /// [`StoreError::Unreadable`], [`StoreError::Damaged`], [`StoreError::Unavailable`].
    fn get<'a>(&'a self, id: &'a SessionId)
    -> BoxFuture<'a, Result<Option<Versioned>, StoreError>>;

    /// Several records at once, in the order of the ids (F3).
    ///
    /// # Errors
    /// [`StoreError::Unreadable`] or [`StoreError::Damaged`] if one of them is, [`StoreError::Unavailable`].
    fn get_many<'a>(
        &'a self,
        ids: &'a [SessionId],
    ) -> BoxFuture<'a, Result<Vec<Option<Versioned>>, StoreError>>;

    /// Replaces a record if its version is still `expected` (compare-and-set).
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if it is not, [`StoreError::NotFound`] if the record is gone.
    fn update<'a>(
        &'a self,
        record: &'a SessionRecord,
        expected: Version,
    ) -> BoxFuture<'a, Result<Version, StoreError>>;

    /// Lets the record live for `ttl` from now at least: of several nodes that use a session, none shortens what
    /// another has promised.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if the record is gone.
    fn touch<'a>(
        &'a self,
        id: &'a SessionId,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Removes a record; `true` if it was there.
    fn delete<'a>(&'a self, id: &'a SessionId) -> BoxFuture<'a, Result<bool, StoreError>>;

    /// How many records there are that have not expired.
    fn count(&self) -> BoxFuture<'_, Result<usize, StoreError>>;

    /// Up to `limit` ids greater than `after`, in ascending order: a page of a listing that never
    /// holds the whole in memory.
    fn list<'a>(
        &'a self,
        after: Option<&'a SessionId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<SessionId>, StoreError>>;
}
