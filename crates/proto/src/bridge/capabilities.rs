//! What clients and servers declare they can do, carried from one era to the other (protocol notes 5.3 and
//! 5.4.1).

mod client;
mod server;

#[cfg(test)]
mod tests;

pub use client::{Carried, Declared, MAX_DECLARED, Mode, Undeclared, fingerprint};
pub use server::{Heard, discover_result, initialize_result};

/// The tasks extension, which is not carried over unless tasks are translated (protocol notes 5.6).
pub const TASKS_EXTENSION: &str = "io.modelcontextprotocol/tasks";

use bytes::Bytes;

use crate::rpc::{Message, Object, meta_key};

/// Whether a request of 2026-07-28 declares the tasks extension. Without it, its client is told of no task, and
/// may not ask to be: `-32021` (protocol notes 2.3.7).
#[must_use]
pub fn declares_tasks(request: &Message) -> bool {
    let declared = request.meta(meta_key::CLIENT_CAPABILITIES);
    let declared = declared.and_then(|declared| Object::parse(&declared).ok());
    let extensions = declared.and_then(|declared| declared.object("extensions"));
    extensions.is_some_and(|extensions| extensions.object(TASKS_EXTENSION).is_some())
}

/// Its `extensions` without tasks, if any are left.
fn extensions_without_tasks(capabilities: &Object) -> Option<Bytes> {
    let mut extensions = capabilities.object("extensions")?;
    extensions.remove(TASKS_EXTENSION);
    (!extensions.is_empty()).then(|| extensions.into_bytes())
}
