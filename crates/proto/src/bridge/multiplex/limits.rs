//! The bounds of one program.

use std::time::Duration;

use crate::bridge::limits::{DEFAULT_CAP, DEFAULT_IDLE, DEFAULT_IN_FLIGHT};

/// [`Limits::listens`] unless configured.
pub const DEFAULT_LISTENS: usize = 1024;

/// The longest `subscriptions/listen` that is taken, in bytes: it is kept, to be sent again.
pub const MAX_LISTEN: usize = 64 << 10;

/// The most kinds, URIs and ids that one `subscriptions/listen` may ask for. Each may be told once after a
/// restart.
pub const MAX_TOPICS: usize = 1000;

/// How often a listen is sent again before one of them is acknowledged.
pub const MAX_RESENDS: u32 = 3;

/// How often in a row a program may fail to start before its listens end.
pub const MAX_FAILED_STARTS: u32 = 5;

/// Bounds of one program and the calls on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// How long a request may stay without progress, and a listen without its acknowledgement. 60 s by
    /// default.
    pub idle: Duration,
    /// How long a request may take, with progress. A listen may go on for ever. 10 min by default.
    pub cap: Duration,
    /// The most requests at a time that are no listens, waiting and cancelled ones counted. 1024 by
    /// default. Of each bound one principal has its [`share`](crate::bridge::share).
    pub in_flight: usize,
    /// The most listens at a time, waiting and cancelled ones counted. 1024 by default.
    pub listens: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            idle: DEFAULT_IDLE,
            cap: DEFAULT_CAP,
            in_flight: DEFAULT_IN_FLIGHT,
            listens: DEFAULT_LISTENS,
        }
    }
}
