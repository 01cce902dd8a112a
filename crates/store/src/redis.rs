//! What nodes share, in Redis or Valkey.
//!
//! - A session's record is a hash with a version that is compared when it is set.
//! - A stream's history is a Redis stream, bounded when it is written and when it is read.
//! - A node's inbox is a list; which nodes live, and which sessions there are, are sets of which members expire.
//!
//! Every operation is one script over keys of one session or one node, which have one hash tag, so that a cluster
//! does what a server does. Every key expires.

mod breaker;
mod client;
mod config;
mod connection;
mod event_log;
mod eviction;
mod failure;
mod inbox;
mod keys;
mod record;
mod roll;
mod sessions;
mod waiting;

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use thinpipe_proto::session::{InvalidId, NodeId, SessionId};

use crate::LogLimits;
use client::Calls;
use failure::Failure;
use inbox::Memory;
use keys::Keys;
use waiting::Waiting;

pub use config::{InvalidRedisUrl, RedisConfig, RedisCredentials, RedisKind};

/// Sessions, the history of streams and inboxes in Redis: [`SessionStore`](crate::SessionStore),
/// [`EventLog`](crate::EventLog) and [`Inbox`](crate::Inbox) over three connections: one only waits for messages, and
/// one is for heartbeats, which large messages on the third do not keep waiting.
///
/// Nothing is connected before the first operation, and what is lost is connected again by the next. An operation
/// fails with [`StoreError::Unavailable`](crate::StoreError::Unavailable) within
/// [`operation_timeout`](RedisConfig::operation_timeout) (those over many sessions within as many times that as it has
/// [`tries`](RedisConfig::tries)), and at once while Redis is known to be down; its source says what to do
/// about it. An operation that may not be done twice is not tried again once Redis may have done it.
///
/// Replicas of Redis are behind by what is under way. One that takes over may not have the last writes: a session
/// that was just opened is unknown then, and a message that was just taken may come again.
pub struct RedisStore {
    config: Arc<RedisConfig>,
    keys: Keys,
    limits: LogLimits,
    calls: Calls,
    /// Which nodes are alive: small, urgent, and behind nothing that is large or late.
    beats: Calls,
    waiting: Waiting,
    memory: Mutex<Memory>,
}

impl RedisStore {
    /// A store that connects when it is used.
    #[must_use]
    pub fn new(config: RedisConfig, limits: LogLimits) -> Self {
        let config = Arc::new(config);
        Self {
            keys: Keys::new(&config.prefix),
            limits,
            calls: Calls::new(&config),
            beats: Calls::new(&config),
            waiting: Waiting::new(&config),
            memory: Mutex::default(),
            config,
        }
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("config", &self.config)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// An id as Redis gives it back.
trait Id: Sized {
    fn read(bytes: Vec<u8>) -> Result<Self, Failure>;
}

impl Id for SessionId {
    fn read(bytes: Vec<u8>) -> Result<Self, Failure> {
        Self::from_bytes(bytes.into()).map_err(unreadable)
    }
}

impl Id for NodeId {
    fn read(bytes: Vec<u8>) -> Result<Self, Failure> {
        Self::from_bytes(bytes.into()).map_err(unreadable)
    }
}

fn unreadable(invalid: InvalidId) -> Failure {
    Failure::Unreadable(invalid.to_string())
}

/// As Redis takes times: one of less than a millisecond would be none.
fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}
