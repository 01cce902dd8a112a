//! One asks what an upstream speaks, and all others wait for what comes of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use thinpipe_transport::upstream::probe::Verdict;
use tokio::sync::MutexGuard;

use super::{Era, Found};
use crate::route::{Asked, Route};

/// The right to ask. Dropping it is to have asked nothing.
pub(crate) struct Asking<'a> {
    era: &'a Era,
    last: MutexGuard<'a, Option<Found>>,
}

impl Era {
    /// Waits until nobody else asks.
    pub(crate) async fn asking(&self) -> Asking<'_> {
        let last = self.probing.lock().await;
        Asking { era: self, last }
    }
}

impl Asking<'_> {
    fn came_out(mut self, found: Found) {
        *self.last = Some(found);
        self.era.ended.fetch_add(1, Ordering::Release);
    }

    /// A program was asked, and this is what came of it.
    pub(crate) fn heard(self, asked: Asked) -> Arc<Verdict> {
        let verdict = self.era.heard(asked);
        self.came_out(Ok(Arc::clone(&verdict)));
        verdict
    }
}

impl Route {
    pub(super) async fn ask_once(&self) -> Found {
        let era = self.era();
        let before = era.ended.load(Ordering::Acquire);
        let asking = era.asking().await;
        // Whoever waited for an asking takes what came of it, a failure too: else everybody would wait
        // for a silent server in turn.
        if era.ended.load(Ordering::Acquire) != before
            && let Some(found) = &*asking.last
        {
            return found.clone();
        }
        let found = self.ask_what_it_speaks().await;
        asking.came_out(found.clone());
        found
    }
}
