//! SIGTERM and SIGINT: the first drains, the second stops at once, unless it comes with the first.

use std::io;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::log;

/// Signals that follow the first one within this time are the same wish: `timeout` signals its child
/// and then the process group that the child is in.
const ONE_WISH: Duration = Duration::from_millis(200);

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
        let first = Instant::now();
        stop.cancel();
        let number = loop {
            let number = self.next().await;
            if is_second(first, Instant::now()) {
                break number;
            }
        };
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

/// Whether a signal is one more wish, and not the first one said twice.
fn is_second(first: Instant, now: Instant) -> bool {
    now.duration_since(first) >= ONE_WISH
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C22: a signal to the process and to its group is one signal.
    #[test]
    fn c22_signals_at_one_time_count_as_one() {
        let first = Instant::now();
        assert!(!is_second(first, first));
        assert!(!is_second(first, first + Duration::from_millis(199)));
        assert!(is_second(first, first + ONE_WISH));
    }
}
