//! Two budgets of connections, so that event streams never starve short requests (Q8).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::Inner;

/// Places for exchanges. Who holds a place holds a [`Permit`].
#[derive(Debug)]
pub(super) struct Budget {
    short: Semaphore,
    streams: Semaphore,
    max_short: usize,
    max_streams: usize,
}

/// A place in one of the budgets, given back on drop.
pub(super) struct Permit {
    inner: Arc<Inner>,
    stream: bool,
}

impl Budget {
    pub(super) fn new(max_connections: usize, max_streams: usize) -> Self {
        let bounded = |n: usize| n.min(Semaphore::MAX_PERMITS);
        Self {
            short: Semaphore::new(bounded(max_connections)),
            streams: Semaphore::new(bounded(max_streams)),
            max_short: bounded(max_connections),
            max_streams: bounded(max_streams),
        }
    }

    /// Exchanges of both kinds that hold a place now.
    pub(super) fn in_use(&self) -> usize {
        let short = self
            .max_short
            .saturating_sub(self.short.available_permits());
        short + self.streams()
    }

    /// Event streams that hold a place now.
    pub(super) fn streams(&self) -> usize {
        self.max_streams
            .saturating_sub(self.streams.available_permits())
    }
}

impl Permit {
    /// A place for a short exchange, waited for in order; `None` if there is none within `wait`.
    pub(super) async fn short(inner: &Arc<Inner>, wait: Duration) -> Option<Self> {
        let short = &inner.budget.short;
        let place = match short.try_acquire() {
            Ok(place) => place,
            Err(_) => tokio::time::timeout(wait, short.acquire())
                .await
                .ok()?
                .ok()?,
        };
        place.forget();
        Some(Self {
            inner: Arc::clone(inner),
            stream: false,
        })
    }

    /// Moves to the budget of streams; `None` (and the place is free) if that is used up.
    pub(super) fn into_stream(mut self) -> Option<Self> {
        if !self.stream {
            self.inner.budget.streams.try_acquire().ok()?.forget();
            self.inner.budget.short.add_permits(1);
            self.stream = true;
        }
        Some(self)
    }

    /// The upstream the place is of.
    pub(super) fn upstream(&self) -> &Arc<Inner> {
        &self.inner
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let budget = &self.inner.budget;
        let places = if self.stream {
            &budget.streams
        } else {
            &budget.short
        };
        places.add_permits(1);
    }
}
