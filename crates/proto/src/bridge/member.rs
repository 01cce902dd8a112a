//! What is known about one client session.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::bridge::Refused;
use crate::bridge::action::CallId;
use crate::bridge::association::CAPABILITIES;
use crate::bridge::capabilities::{Declared, Undeclared};
use crate::bridge::clock::after;
use crate::bridge::envelope::LogLevel;
use crate::bridge::limits::{EARLY_CANCEL_AGE, MAX_EARLY_CANCELS};
use crate::rpc::{Message, RequestId};

#[derive(Debug, Default)]
pub(super) struct Member {
    /// Whose it is, where that is told: on shared sessions, who has a name.
    pub(super) principal: Option<Arc<str>>,
    /// Its open requests. Looked up only: the order means nothing.
    pub(super) calls: HashMap<RequestId, CallId>,
    /// `initialize` was answered. Kept on shared sessions only.
    pub(super) ready: bool,
    pub(super) early: EarlyCancels,
    /// What it has declared it can be asked for, if it has. Not kept where nobody is asked for anything.
    pub(super) declared: Option<Declared>,
    /// The level from which on it wants log lines, if it has said so. Kept where several use the session.
    pub(super) level: Option<LogLevel>,
    /// Its tasks, the oldest first. Kept where several use the session.
    pub(super) tasks: VecDeque<String>,
}

impl Member {
    /// Whether the server may ask this of it (protocol notes 5.1, "Refusing a server request").
    ///
    /// A method that no revision knows belongs to an extension, about which the two sides agree: it
    /// passes.
    pub(super) fn allows(&self, request: &Message) -> Result<(), Undeclared> {
        let method = request.method().unwrap_or_default();
        if method == "ping" {
            return Ok(());
        }
        let allowed = match &self.declared {
            Some(declared) => declared.allows(method, request.params().as_ref()),
            None => Declared::nothing().allows(method, None),
        };
        match allowed {
            Err(Undeclared::Method(_)) => Ok(()),
            allowed => allowed,
        }
    }
}

/// What `initialize` declares. Keeps no part of the message.
pub(super) fn declared_in(initialize: &Message) -> Result<Declared, Refused> {
    let Some(declared) = initialize.param(CAPABILITIES) else {
        return Ok(Declared::nothing());
    };
    let invalid = |_| Refused::InvalidParameter {
        parameter: CAPABILITIES,
    };
    Declared::parse(&Bytes::copy_from_slice(&declared)).map_err(invalid)
}

/// Cancellations of requests that have not come yet.
#[derive(Debug, Default)]
pub struct EarlyCancels {
    waiting: VecDeque<EarlyCancel>,
}

/// A cancellation that matched nothing: it may have overtaken its request.
#[derive(Debug)]
struct EarlyCancel {
    request: RequestId,
    until: Instant,
}

impl EarlyCancels {
    /// Remembers that this request was cancelled and is not known: for [`EARLY_CANCEL_AGE`], with
    /// [`MAX_EARLY_CANCELS`] others at most. The oldest is forgotten first.
    pub fn remember(&mut self, request: RequestId, now: Instant) {
        self.forget(now);
        if self.waiting.len() == MAX_EARLY_CANCELS {
            self.waiting.pop_front();
        }
        let until = after(now, EARLY_CANCEL_AGE);
        self.waiting.push_back(EarlyCancel { request, until });
    }

    /// Whether a request was cancelled before it came. A cancellation counts once.
    pub fn take(&mut self, request: &RequestId, now: Instant) -> bool {
        self.forget(now);
        let cancels = &mut self.waiting;
        let found = cancels.iter().position(|early| early.request == *request);
        found.is_some_and(|at| cancels.remove(at).is_some())
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    // No timer does this: a few ids are left until the next one comes.
    fn forget(&mut self, now: Instant) {
        self.waiting.retain(|early| early.until > now);
    }
}
