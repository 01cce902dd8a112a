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
    early_cancels: VecDeque<EarlyCancel>,
}

/// A cancellation that matched nothing: it may have overtaken its request.
#[derive(Debug)]
struct EarlyCancel {
    request: RequestId,
    until: Instant,
}

impl Member {
    pub(super) fn remember_cancel(&mut self, request: RequestId, now: Instant) {
        self.forget_cancels(now);
        if self.early_cancels.len() == MAX_EARLY_CANCELS {
            self.early_cancels.pop_front();
        }
        let until = after(now, EARLY_CANCEL_AGE);
        self.early_cancels.push_back(EarlyCancel { request, until });
    }

    /// Whether a request was cancelled before it came. A cancellation counts once.
    pub(super) fn take_cancel(&mut self, request: &RequestId, now: Instant) -> bool {
        self.forget_cancels(now);
        let cancels = &mut self.early_cancels;
        let found = cancels.iter().position(|early| early.request == *request);
        found.is_some_and(|at| cancels.remove(at).is_some())
    }

    // No timer does this: a few ids are left until the next one comes.
    fn forget_cancels(&mut self, now: Instant) {
        self.early_cancels.retain(|early| early.until > now);
    }
}
