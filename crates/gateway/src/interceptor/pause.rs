//! Traffic that stops until somebody lets it go on.

use std::sync::Arc;

use thinpipe_transport::body::BoxFuture;
use tokio::sync::watch;

use super::Action;

/// A gate for the messages of an interceptor: closed by [`pause`](Self::pause), opened by
/// [`resume`](Self::resume). Cheap to clone; clones are the same gate.
///
/// An interceptor answers with [`action`](Self::action). Messages of one stream keep their order
/// while they wait, since a stream's next message is not looked at before this one is through. No
/// message waits longer than the chain's `timeout_ms`; after that `on_failure` decides.
#[derive(Debug, Clone)]
pub struct PauseGate {
    paused: Arc<watch::Sender<bool>>,
}

impl PauseGate {
    /// A gate that is open.
    #[must_use]
    pub fn new() -> Self {
        Self {
            paused: Arc::new(watch::Sender::new(false)),
        }
    }

    /// Stops messages from here on.
    pub fn pause(&self) {
        self.paused.send_replace(true);
    }

    /// Lets the messages that wait, and those to come, go on.
    pub fn resume(&self) {
        self.paused.send_replace(false);
    }

    /// Whether messages wait.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        *self.paused.borrow()
    }

    /// Resolves when the gate is open; at once if it is.
    pub fn opened(&self) -> impl Future<Output = ()> + Send + 'static {
        // The gate is kept along, so that the channel cannot close under the one who waits.
        let gate = self.clone();
        let mut receiver = self.paused.subscribe();
        async move {
            let _ = receiver.wait_for(|paused| !paused).await;
            drop(gate);
        }
    }

    /// `Continue`, at once or as soon as the gate opens.
    #[must_use]
    pub fn action(&self) -> Action {
        if !self.is_paused() {
            return Action::Continue;
        }
        let opened = self.opened();
        let wait: BoxFuture<Action> = Box::pin(async move {
            opened.await;
            Action::Continue
        });
        Action::Later(wait)
    }
}

impl Default for PauseGate {
    fn default() -> Self {
        Self::new()
    }
}
