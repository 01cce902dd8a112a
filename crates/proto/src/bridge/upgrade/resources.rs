//! The listens for resources: which URI is on which of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::CallId;
use crate::backoff::Backoff;
use crate::rpc::RequestId;

/// All of them. A URI that the client is subscribed to is on exactly one, or lost, or about to be asked for
/// again.
#[derive(Debug, Default)]
pub(super) struct Resources {
    pub(super) open: BTreeMap<CallId, Listen>,
    /// One is opened at a time.
    pub(super) opening: Option<Opening>,
    /// Subscriptions that share the next one.
    pub(super) next: Vec<Waiter>,
    /// URIs whose listen has ended, or was closed for a client that is away.
    pub(super) lost: BTreeSet<String>,
    /// When those are asked for again; `None`: when the client comes back.
    pub(super) again_at: Option<Instant>,
    pub(super) backoff: Backoff,
}

/// A listen that was acknowledged.
#[derive(Debug)]
pub(super) struct Listen {
    /// Never empty.
    pub(super) uris: BTreeSet<String>,
    pub(super) since: Instant,
}

/// A listen that is not acknowledged yet.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) call: CallId,
    /// Lost at this time.
    pub(super) until: Instant,
    pub(super) waiters: Vec<Waiter>,
    /// URIs that were on a listen before, with a gap since.
    pub(super) again: BTreeSet<String>,
    /// Listens whose place it takes.
    pub(super) merged: Vec<CallId>,
    /// URIs that were on those.
    pub(super) moving: BTreeSet<String>,
}

/// A `resources/subscribe` that is not answered yet.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) request: RequestId,
    pub(super) uri: String,
    /// The client has not taken it back meanwhile.
    pub(super) wanted: bool,
}

impl Resources {
    /// Whether the client is subscribed, and was told so.
    pub(super) fn is_subscribed(&self, uri: &str) -> bool {
        let opening = self.opening.as_ref();
        self.open.values().any(|listen| listen.uris.contains(uri))
            || self.lost.contains(uri)
            || opening.is_some_and(|opening| opening.again.contains(uri))
    }

    /// To how many resources it is.
    pub(super) fn subscribed(&self) -> usize {
        let open: usize = self.open.values().map(|listen| listen.uris.len()).sum();
        let again = self
            .opening
            .as_ref()
            .map_or(0, |opening| opening.again.len());
        open + self.lost.len() + again
    }

    fn waiters(&self) -> impl Iterator<Item = &Waiter> {
        let opening = self.opening.iter().flat_map(|opening| &opening.waiters);
        opening.chain(&self.next)
    }

    /// How many subscriptions are not answered yet.
    pub(super) fn waiting(&self) -> usize {
        self.waiters().count()
    }

    /// The requests that those are.
    pub(super) fn requests(&self) -> Vec<RequestId> {
        self.waiters()
            .map(|waiter| waiter.request.clone())
            .collect()
    }

    pub(super) fn is_waiting(&self, request: &RequestId) -> bool {
        self.waiters().any(|waiter| waiter.request == *request)
    }

    /// Takes out a subscription that its client has cancelled.
    pub(super) fn take_waiter(&mut self, request: &RequestId) -> bool {
        let before = self.waiting();
        self.next.retain(|waiter| waiter.request != *request);
        if let Some(opening) = &mut self.opening {
            opening.waiters.retain(|waiter| waiter.request != *request);
        }
        self.waiting() < before
    }

    /// Whether there is any listen, or any to be opened again.
    pub(super) fn is_on(&self) -> bool {
        !self.open.is_empty() || self.opening.is_some() || self.again_at.is_some()
    }

    /// The client can be told again: what was lost is asked for at once.
    pub(super) fn want_again(&mut self, now: Instant) {
        if !self.lost.is_empty() && self.again_at.is_none() {
            self.again_at = Some(now);
        }
    }

    pub(super) fn due(&self) -> Option<Instant> {
        match &self.opening {
            // What was lost waits for it.
            Some(opening) => Some(opening.until),
            None => self.again_at,
        }
    }
}
