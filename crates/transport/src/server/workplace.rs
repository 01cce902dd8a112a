//! Threads that take what no connection of theirs has brought: what other nodes ask of this one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::{Handle, Id};
use tokio_util::task::TaskTracker;

/// A runtime on which requests of other nodes are answered, until this is dropped; see
/// [`Server::works_here`](super::Server::works_here).
#[derive(Debug)]
#[must_use = "nothing is answered there any more once it is dropped"]
pub struct Workplace {
    id: Id,
    among: Arc<Workplaces>,
}

/// All of them, which take turns.
#[derive(Debug, Default)]
pub(crate) struct Workplaces {
    runtimes: Mutex<Vec<Handle>>,
    next: AtomicUsize,
}

impl Workplaces {
    /// The runtime that this is called from is one of them.
    pub(super) fn enter(self: &Arc<Self>) -> Workplace {
        let runtime = Handle::current();
        let id = runtime.id();
        self.lock().push(runtime);
        Workplace {
            id,
            among: Arc::clone(self),
        }
    }

    /// Runs a task on the next of them, or here if there is none.
    pub(crate) fn spawn(
        &self,
        tasks: &TaskTracker,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        match self.next() {
            Some(runtime) => tasks.spawn_on(task, &runtime),
            None => tasks.spawn(task),
        };
    }

    fn next(&self) -> Option<Handle> {
        let runtimes = self.lock();
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let at = turn.checked_rem(runtimes.len())?;
        runtimes.get(at).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Handle>> {
        // Nothing panics while it is held.
        self.runtimes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        let mut runtimes = self.among.lock();
        if let Some(at) = runtimes.iter().position(|runtime| runtime.id() == self.id) {
            runtimes.swap_remove(at);
        }
    }
}
