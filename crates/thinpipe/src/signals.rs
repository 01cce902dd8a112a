//! SIGTERM and SIGINT: the first drains, the second stops at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Cancels `stop` at the first signal; at the second the process ends, with the status shells know.
pub(crate) async fn watch(stop: CancellationToken) {
    let (mut interrupt, mut terminate) = match (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) {
        (Ok(interrupt), Ok(terminate)) => (interrupt, terminate),
        (Err(error), _) | (_, Err(error)) => {
            tracing::warn!(%error, "signals cannot be received; stop the process otherwise");
            return;
        }
    };
    next(&mut interrupt, &mut terminate).await;
    stop.cancel();
    let number = next(&mut interrupt, &mut terminate).await;
    tracing::warn!("second signal: stopping at once");
    std::process::exit(128 + number);
}

/// The number of the next signal.
async fn next(interrupt: &mut Signal, terminate: &mut Signal) -> i32 {
    tokio::select! {
        // Both are cancel-safe: a signal that was not returned is returned next time.
        _ = interrupt.recv() => SignalKind::interrupt().as_raw_value(),
        _ = terminate.recv() => SignalKind::terminate().as_raw_value(),
    }
}
