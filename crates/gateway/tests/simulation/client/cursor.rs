//! What a client has had of a stream: which events, in which order.

use std::collections::BTreeSet;

use serde_json::Value;
use thinpipe_testkit::Event;

/// Of one stream, over all connections that carried it.
#[derive(Default)]
pub(crate) struct Cursor {
    seen: BTreeSet<String>,
    pub(crate) last: Option<String>,
    /// How long to wait before resuming, in ms.
    pub(crate) retry: Option<u64>,
}

impl Cursor {
    /// Takes note of an event. `Ok(None)`: there is no message in it.
    ///
    /// # Errors
    /// What must not be.
    pub(crate) fn take(&mut self, event: &Event) -> Result<Option<Value>, String> {
        self.retry = event.retry.or(self.retry);
        if let Some(id) = &event.id {
            // A stream that goes on may begin with the id that it was asked to go on after.
            let again = self.last.as_ref() == Some(id) && !event.has_message();
            if !self.seen.insert(id.clone()) && !again {
                return Err(format!("the event {id} comes twice"));
            }
            self.last = Some(id.clone());
        }
        if !event.has_message() {
            return Ok(None);
        }
        let data = event.data.as_deref().unwrap_or_default();
        match serde_json::from_str(data) {
            Ok(message) => Ok(Some(message)),
            Err(_) => Err(format!("an event that is no JSON: {data:?}")),
        }
    }
}
