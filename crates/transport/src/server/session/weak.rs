//! The manager of a server's sessions, for whoever belongs to that server.

use std::fmt;
use std::sync::{Arc, Weak};

use super::SessionManager;
use super::manager::Inner;

/// A [`SessionManager`] that is not kept alive. A handler that needs the sessions of its server keeps this: sessions
/// keep their handlers, so that with a manager of its own neither would ever be dropped, nor what it is connected
/// to be closed. Cheap to clone.
#[derive(Clone)]
pub struct WeakSessionManager {
    inner: Weak<Inner>,
    has_nodes: bool,
}

impl SessionManager {
    /// The same manager, without keeping it alive.
    #[must_use]
    pub fn downgrade(&self) -> WeakSessionManager {
        WeakSessionManager {
            inner: Arc::downgrade(&self.inner),
            has_nodes: self.has_nodes(),
        }
    }
}

impl WeakSessionManager {
    /// The manager; `None`: its server is gone.
    #[must_use]
    pub fn upgrade(&self) -> Option<SessionManager> {
        let inner = self.inner.upgrade()?;
        Some(SessionManager { inner })
    }

    /// As [`SessionManager::has_nodes`], at no cost.
    #[must_use]
    pub fn has_nodes(&self) -> bool {
        self.has_nodes
    }

    /// Whether this is the manager of that server.
    pub(crate) fn is_of(&self, sessions: &SessionManager) -> bool {
        std::ptr::eq(self.inner.as_ptr(), Arc::as_ptr(&sessions.inner))
    }
}

impl fmt::Debug for WeakSessionManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakSessionManager").finish_non_exhaustive()
    }
}
