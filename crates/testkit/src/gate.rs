//! A gate in a script: an upstream waits at it, a test opens it.

use std::panic::Location;
use std::sync::Arc;

use tokio::sync::{Semaphore, watch};

use crate::deadline::within;

/// Holds up whoever comes to it until the test lets them through. Clones are the same gate.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use thinpipe_testkit::{Client, Gate, Script, Upstream, rpc};
///
/// let upstream = Upstream::start().await;
/// let gate = Gate::new();
/// upstream.on("tools/call", Script::json(rpc::result(serde_json::json!({}))).late(&gate));
///
/// let mut client = Client::new(upstream.url());
/// client.initialize("2025-11-25").await;
/// let answer = async { client.post(rpc::call(1, "echo")).await };
/// let release = async {
///     gate.reached().await;
///     gate.open();
/// };
/// let (answer, ()) = tokio::join!(answer, release);
/// assert_eq!(answer.status, 200);
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Gate {
    permits: Arc<Semaphore>,
    arrivals: watch::Sender<usize>,
}

impl Gate {
    /// A closed gate.
    #[must_use]
    pub fn new() -> Self {
        Self {
            permits: Arc::new(Semaphore::new(0)),
            arrivals: watch::Sender::new(0),
        }
    }

    /// Opens it for good.
    pub fn open(&self) {
        self.permits.close();
    }

    /// Lets this many through, now or later.
    pub fn release(&self, count: usize) {
        self.permits.add_permits(count);
    }

    /// Waits at the gate.
    pub async fn pass(&self) {
        self.arrivals.send_modify(|arrivals| *arrivals += 1);
        // An error is a closed semaphore, which is an open gate.
        if let Ok(permit) = self.permits.acquire().await {
            permit.forget();
        }
    }

    /// How many have come to it so far, waiting or through.
    #[must_use]
    pub fn arrivals(&self) -> usize {
        *self.arrivals.borrow()
    }

    /// Until somebody has come to it.
    ///
    /// # Panics
    /// After [`DEADLINE`](crate::DEADLINE).
    #[track_caller]
    pub fn reached(&self) -> impl Future<Output = ()> + use<> {
        self.reached_times(1)
    }

    /// Until so many have come to it.
    ///
    /// # Panics
    /// After [`DEADLINE`](crate::DEADLINE).
    #[track_caller]
    pub fn reached_times(&self, count: usize) -> impl Future<Output = ()> + use<> {
        let at = Location::caller();
        let mut arrivals = self.arrivals.subscribe();
        async move {
            let reached = arrivals.wait_for(|arrivals| *arrivals >= count);
            let reached = within(at, || format!("{count} arrivals at a gate"), reached).await;
            // The gate is gone: nobody will come any more.
            drop(reached.expect("the gate was dropped before anybody came to it"));
        }
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}
