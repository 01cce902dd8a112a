//! What of a session another process has to know, and when it is stored.

use bytes::Bytes;

use super::SessionState;
use crate::sync::lock;

/// What of a session another process has to know is stored by one at a time.
#[derive(Debug, Default)]
pub(super) struct Storing {
    is_running: bool,
    is_due: bool,
}

impl SessionState {
    /// Remembers what the server has offered, for another process.
    pub(crate) fn note_offered(&self, offered: Bytes) {
        // It does so once.
        let _ = self.seldom().offered.set(offered);
    }

    pub(crate) fn offered(&self) -> Option<&Bytes> {
        self.seldom.get()?.offered.get()
    }

    /// There is something to store. `true`: nobody does yet.
    pub(crate) fn begins_storing(&self) -> bool {
        let mut storing = lock(&self.seldom().storing);
        storing.is_due = true;
        !std::mem::replace(&mut storing.is_running, true)
    }

    /// It was not stored: there still is.
    pub(crate) fn has_not_stored(&self) {
        lock(&self.seldom().storing).is_due = true;
    }

    /// Whether there still is, for whoever does.
    pub(crate) fn has_to_store(&self) -> bool {
        let mut storing = lock(&self.seldom().storing);
        storing.is_running = std::mem::take(&mut storing.is_due);
        storing.is_running
    }
}
