//! What time it is, and waiting for a time.

use std::future;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use thinpipe_proto::seldom;

use crate::sync::lock;

/// As the runtime has it, whose clock a test may stop.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Seconds since 1970.
pub(crate) fn unix_now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

/// Something that is done once in a time at the most.
#[derive(Debug, Default)]
pub(crate) struct Seldom(Mutex<seldom::Seldom>);

impl Seldom {
    /// Whether it was not done for so long. If so, it counts as done now.
    pub(crate) fn is_due(&self, every: Duration) -> bool {
        lock(&self.0).is_due(now(), every)
    }
}

/// Until this is due; `None`: nothing ever is.
pub(crate) async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_seldom_is_done_once_in_a_while() {
        let (told, every) = (Seldom::default(), Duration::from_secs(600));
        assert_eq!([told.is_due(every), told.is_due(every)], [true, false]);
        tokio::time::advance(every).await;
        assert_eq!([told.is_due(every), told.is_due(every)], [true, false]);
    }
}
