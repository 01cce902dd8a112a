//! What time it is, and waiting for a time.

use std::future;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// As the runtime has it, whose clock a test may stop.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Seconds since 1970.
pub(crate) fn unix_now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

/// Until this is due; `None`: nothing ever is.
pub(crate) async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => future::pending().await,
    }
}
