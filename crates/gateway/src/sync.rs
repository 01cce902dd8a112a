//! What is shared between tasks: taking a lock, and waiting for what others change.

use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// A poisoned lock means a panic elsewhere; what the gateway guards is valid at every step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What `look` finds, which is asked now and each time that all waiters are notified.
pub(crate) async fn found<T>(changed: &Notify, mut look: impl FnMut() -> Option<T>) -> T {
    loop {
        let mut change = pin!(changed.notified());
        // Registered before looking, or what changes in between would be missed.
        change.as_mut().enable();
        if let Some(found) = look() {
            return found;
        }
        change.await;
    }
}
