//! What is known about one client session.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use crate::bridge::action::CallId;
use crate::bridge::clock::after;
use crate::bridge::limits::{EARLY_CANCEL_AGE, MAX_EARLY_CANCELS};
use crate::rpc::RequestId;

#[derive(Debug, Default)]
pub(super) struct Member {
    /// Its open requests. Looked up only: the order means nothing.
    pub(super) calls: HashMap<RequestId, CallId>,
    /// `initialize` was answered. Kept on shared sessions only.
    pub(super) ready: bool,
    pub(super) early: EarlyCancels,
}

/// Cancellations of requests that have not come yet.
#[derive(Debug, Default)]
pub(super) struct EarlyCancels {
    waiting: VecDeque<EarlyCancel>,
}

/// A cancellation that matched nothing: it may have overtaken its request.
#[derive(Debug)]
struct EarlyCancel {
    request: RequestId,
    until: Instant,
}

impl EarlyCancels {
    pub(super) fn remember(&mut self, request: RequestId, now: Instant) {
        self.forget(now);
        if self.waiting.len() == MAX_EARLY_CANCELS {
            self.waiting.pop_front();
        }
        let until = after(now, EARLY_CANCEL_AGE);
        self.waiting.push_back(EarlyCancel { request, until });
    }

    /// Whether a request was cancelled before it came. A cancellation counts once.
    pub(super) fn take(&mut self, request: &RequestId, now: Instant) -> bool {
        self.forget(now);
        let cancels = &mut self.waiting;
        let found = cancels.iter().position(|early| early.request == *request);
        found.is_some_and(|at| cancels.remove(at).is_some())
    }

    // No timer does this: a few ids are left until the next one comes.
    fn forget(&mut self, now: Instant) {
        self.waiting.retain(|early| early.until > now);
    }
}
