//! What everything that implements the traits must do, as suites that are run against each.

mod event_log;
mod inbox;
mod sessions;

use std::fmt::Debug;
use std::future::Future;

use tokio::task::JoinSet;

pub use event_log::{LIMITS, event_log};
#[cfg(test)]
pub(crate) use event_log::{entries, key};
pub use inbox::inbox;
pub use sessions::{sample, sessions};

/// Runs futures at the same time, and gives what came of them in their order.
async fn all<T: Send + 'static>(
    futures: impl Iterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let mut tasks = JoinSet::new();
    for (at, future) in futures.enumerate() {
        tasks.spawn(async move { (at, future.await) });
    }
    let mut done = tasks.join_all().await;
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

fn ok<T, E: Debug>(result: Result<T, E>, what: &str) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{what} failed: {error:?}"),
    }
}
