//! What is kept in this process: nothing installed, and nothing outlives it.

mod event_log;
mod inbox;
mod sessions;

use std::time::Instant;

use crate::BoxFuture;

pub use event_log::MemoryLog;
pub use inbox::MemoryInbox;
pub use sessions::MemoryStore;

/// Tells the time, so that tests can do it themselves.
type Clock = Box<dyn Fn() -> Instant + Send + Sync>;

/// Everything here is answered at once; the traits are asynchronous for stores across a network.
fn ready<'a, T: Send + 'a>(value: T) -> BoxFuture<'a, T> {
    Box::pin(std::future::ready(value))
}
