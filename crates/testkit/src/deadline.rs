//! Nothing here waits for ever.

use std::panic::Location;
use std::time::Duration;

/// How long anything in this crate waits before it panics and says what it waited for.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Between two looks at a condition that nobody announces, such as a figure in `/proc`.
pub(crate) const LOOK: Duration = Duration::from_millis(5);

/// Waits for `future`, but no longer than [`DEADLINE`].
pub(crate) async fn within<T>(
    at: &'static Location<'static>,
    what: impl FnOnce() -> String,
    future: impl Future<Output = T>,
) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(done) => done,
        Err(_) => panic!(
            "{} did not happen within {DEADLINE:?}, awaited at {at}",
            what()
        ),
    }
}

/// Looks at a condition until it holds.
///
/// # Panics
/// After [`DEADLINE`], with `what` and the last answer.
#[track_caller]
pub fn eventually<T, F>(what: &str, mut condition: impl FnMut() -> F) -> impl Future<Output = T>
where
    F: Future<Output = Result<T, String>>,
{
    let at = Location::caller();
    async move {
        let start = tokio::time::Instant::now();
        loop {
            match condition().await {
                Ok(done) => return done,
                Err(why) if start.elapsed() > DEADLINE => {
                    panic!("{what}: not within {DEADLINE:?}, awaited at {at}; at last: {why}")
                }
                Err(_) => tokio::time::sleep(LOOK).await,
            }
        }
    }
}
