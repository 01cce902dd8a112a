//! Sessions that are being taken over from a node that is gone.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thinpipe_proto::session::SessionId;
use tokio_util::sync::CancellationToken;

use super::{SessionError, SessionManager};

/// Sessions that are being taken over: whoever asks for one meanwhile waits for that.
#[derive(Default)]
pub(super) struct Taking {
    open: Mutex<HashMap<SessionId, Arc<Attempt>>>,
}

/// One of them.
#[derive(Default)]
pub(super) struct Attempt {
    over: CancellationToken,
    is_put_off: AtomicBool,
}

impl Taking {
    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Attempt>>> {
        // Nothing panics while it is held.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn of(&self, id: &SessionId) -> Option<Arc<Attempt>> {
        self.lock().get(id).cloned()
    }
}

impl Attempt {
    /// Until it is over: where the session is now is to be looked for again.
    ///
    /// # Errors
    /// [`SessionError::PutOff`].
    pub(super) async fn over(&self) -> Result<(), SessionError> {
        self.over.cancelled().await;
        match self.is_put_off.load(Ordering::Acquire) {
            true => Err(SessionError::PutOff),
            false => Ok(()),
        }
    }
}

/// A session that is being taken over; dropping it tells those who wait.
pub(super) struct Taken {
    sessions: SessionManager,
    id: SessionId,
    attempt: Arc<Attempt>,
}

impl Taken {
    /// Begins it, unless that has begun.
    pub(super) fn begin(sessions: &SessionManager, id: SessionId) -> Result<Self, Arc<Attempt>> {
        let attempt = Arc::new(Attempt::default());
        {
            let mut taking = sessions.inner.taking.lock();
            if let Some(begun) = taking.get(&id) {
                return Err(Arc::clone(begun));
            }
            taking.insert(id.clone(), Arc::clone(&attempt));
        }
        Ok(Self {
            sessions: sessions.clone(),
            id,
            attempt,
        })
    }

    pub(super) fn attempt(&self) -> Arc<Attempt> {
        Arc::clone(&self.attempt)
    }

    /// Whoever waits is told that it cannot go on here just now.
    pub(super) fn put_off(&self) {
        self.attempt.is_put_off.store(true, Ordering::Release);
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.sessions.inner.taking.lock().remove(&self.id);
        self.attempt.over.cancel();
    }
}
