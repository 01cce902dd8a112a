//! How nodes reach each other: through the store, so that they need no addresses.

use std::time::Duration;

use bytes::Bytes;
use thinpipe_proto::session::NodeId;

use crate::{BoxFuture, StoreError};

/// Why a message was not delivered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeliverError {
    /// That node is not alive.
    #[error("the node is gone")]
    Gone,
    /// Too much waits there already.
    #[error("the inbox of the node is full")]
    Full,
    /// The store failed, or has no memory for it, and has certainly not taken it.
    #[error(transparent)]
    Refused(StoreError),
    /// The store failed. It may have taken it all the same.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Messages that wait for a node.
pub const MAX_WAITING: usize = 10_000;

/// Bytes that wait for a node; a single message may not be larger either.
pub const MAX_WAITING_BYTES: usize = 64 << 20;

/// How long what waits for a node is kept after it died, to be taken back.
pub const KEPT_AFTER_DEATH: Duration = Duration::from_secs(60);

/// Messages between nodes, and which nodes there are.
///
/// Messages of one sender arrive in order, each at most once: it is taken off the inbox before anybody sees it, and
/// what a node has taken dies with it.
pub trait Inbox: Send + Sync + 'static {
    /// Says that this node is alive; it counts as dead when `ttl` has passed without another word.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    fn beat<'a>(&'a self, node: &'a NodeId, ttl: Duration)
    -> BoxFuture<'a, Result<(), StoreError>>;

    /// Says that this node is gone, and forgets what waits for it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    fn leave<'a>(&'a self, node: &'a NodeId) -> BoxFuture<'a, Result<(), StoreError>>;

    /// The nodes that are alive, as far as that is known in one place: what hangs on a node being dead goes by
    /// [`dead`](Self::dead).
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    fn nodes(&self) -> BoxFuture<'_, Result<Vec<NodeId>, StoreError>>;

    /// Those of these nodes that are dead. One of which that cannot be found out is not among them: in a store of
    /// several parts each may be in another.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], if it can be found out of none of them.
    fn dead<'a>(&'a self, among: &'a [NodeId]) -> BoxFuture<'a, Result<Vec<NodeId>, StoreError>>;

    /// Puts a message into the inbox of a node that is alive.
    ///
    /// # Errors
    /// [`DeliverError`]. After [`DeliverError::Store`] it may have been delivered all the same.
    fn deliver<'a>(
        &'a self,
        to: &'a NodeId,
        message: Bytes,
    ) -> BoxFuture<'a, Result<(), DeliverError>>;

    /// Takes back a message that nobody has taken; `true`: nobody will get it. Works for dead nodes for
    /// [`KEPT_AFTER_DEATH`].
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    fn withdraw<'a>(
        &'a self,
        to: &'a NodeId,
        message: &'a Bytes,
    ) -> BoxFuture<'a, Result<bool, StoreError>>;

    /// Takes up to `limit` messages, and waits up to `wait` for the first. Only the node itself calls it, and
    /// one call at a time. A call that is dropped or fails loses nothing.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    fn take<'a>(
        &'a self,
        node: &'a NodeId,
        limit: usize,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Vec<Bytes>, StoreError>>;

    /// A secret that all nodes share: the one that is kept under this name, or else `proposed`, which is kept
    /// from now on.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    fn secret<'a>(
        &'a self,
        name: &'a str,
        proposed: Bytes,
    ) -> BoxFuture<'a, Result<Bytes, StoreError>>;
}
