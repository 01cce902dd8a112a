//! SIGTERM and SIGINT: the first drains, the second stops at once.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::log;

/// Receives signals from the moment it is made.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Takes the signals over from the system, which would end the process. Must be called inside a
    /// runtime.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Cancels `stop` at the first signal; at the second the process ends, with the status that shells
    /// know.
    pub(crate) async fn watch(mut self, stop: CancellationToken) {
        self.next().await;
        stop.cancel();
        let number = self.next().await;
        tracing::warn!("second signal: stopping at once");
        log::flush();
        std::process::exit(128 + number);
    }

    /// The number of the next signal.
    async fn next(&mut self) -> i32 {
        tokio::select! {
            // Both are cancel-safe: a signal that was not returned is returned next time.
            _ = self.interrupt.recv() => SignalKind::interrupt().as_raw_value(),
            _ = self.terminate.recv() => SignalKind::terminate().as_raw_value(),
        }
    }
}
