//! Bridges between bindings, one state machine per pair, without I/O.
//!
//! [`Reframing`] is the one for a legacy client in front of a legacy server whose session is a pipe of
//! messages, HTTP+SSE or stdio (protocol notes 5.2, group A). Both sides speak one revision, so a
//! message changes nothing but ids and tokens; every other byte stays as it came.

mod action;
mod limits;
mod refused;

use std::collections::VecDeque;
use std::time::Instant;

use crate::rpc::{Message, RequestId};

pub use action::{Action, CallId, Delivery, Dropped, End, MemberId, Nature};
pub use limits::{
    CANCELLED_AGE, Config, DEFAULT_ABSOLUTE_CAP, DEFAULT_ANSWER, DEFAULT_CAP, DEFAULT_IDLE,
    DEFAULT_IN_FLIGHT, DEFAULT_MEMBERS, DEFAULT_SERVER_REQUESTS, DEFAULT_SUBSCRIPTIONS,
    EARLY_CANCEL_AGE, Limits, MAX_EARLY_CANCELS, MAX_KEPT, Sharing,
};
pub use refused::{AttachError, Refused};

/// One upstream session, and the client sessions ("members") that use it: one, or several if it is
/// shared.
///
/// The shell gives it what arrives and does what it asks for: after **every** input it calls
/// [`Self::poll_action`] until `None`, in order, before it gives the next input; then it arms its timer
/// with [`Self::poll_timeout`]. One input leaves at most a few actions for each open request and each
/// member, so that is all the queue can hold.
///
/// Batches are the shell's: it splits arrays of either side and gives their messages one by one. So is
/// the choice of the stream for a message that is related to no open request.
#[derive(Debug)]
pub struct Reframing {
    config: Config,
    actions: VecDeque<Action>,
    dropped: Dropped,
}

impl Reframing {
    /// An upstream session that nothing was written to yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            actions: VecDeque::new(),
            dropped: Dropped::default(),
        }
    }

    /// A client session begins to use the upstream session.
    ///
    /// # Errors
    /// [`AttachError`] if it cannot; nothing has changed then.
    pub fn attach(&mut self, member: MemberId) -> Result<(), AttachError> {
        let _ = member;
        Ok(())
    }

    /// A client session is over: its requests are cancelled upstream, the server's requests to it are
    /// refused, its subscriptions are given up. Unless the upstream session is shared, it ends.
    pub fn detach(&mut self, member: MemberId, now: Instant) {
        let _ = (member, now);
    }

    /// A message of a client. `initialize` names a revision that the upstream may know: the caller caps
    /// it.
    ///
    /// # Errors
    /// [`Refused`] if it was not taken; the caller answers.
    pub fn client(
        &mut self,
        member: MemberId,
        message: &Message,
        now: Instant,
    ) -> Result<(), Refused> {
        let _ = (member, message, now);
        Ok(())
    }

    /// Cancels a client's request that the client did not cancel itself, as nobody can read its answer
    /// any more. Does nothing if it is not open, or is `initialize`.
    pub fn abandon(&mut self, member: MemberId, request: &RequestId, now: Instant) {
        let _ = (member, request, now);
    }

    /// A message of the upstream.
    pub fn upstream(&mut self, message: &Message, now: Instant) {
        let _ = (message, now);
    }

    /// A delivered server request reached no stream of the client session: the server gets an error,
    /// its `ping` the answer that the client would have given.
    pub fn undeliverable(&mut self, member: MemberId, request: &RequestId, now: Instant) {
        let _ = (member, request, now);
    }

    /// Writing a request failed, and the session lives on. Its client gets an error with `reason` (a
    /// stable word of protocol notes 4.7) and `text`.
    pub fn write_failed(&mut self, call: CallId, reason: &str, text: &str, now: Instant) {
        let _ = (call, reason, text, now);
    }

    /// The upstream is gone, for a reason that people will read. What is in flight is answered with an
    /// error that says that it may have run; the session ends.
    pub fn upstream_lost(&mut self, reason: &str, now: Instant) {
        let _ = (reason, now);
    }

    /// The time [`Self::poll_timeout`] named has come. Too early a call does no harm.
    pub fn on_timeout(&mut self, now: Instant) {
        let _ = now;
    }

    /// What the shell must do next. Changes after every input; call until `None`.
    #[must_use]
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Self::on_timeout`] is due; may be earlier than anything there is to do. Changes after
    /// every input.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// What was dropped so far.
    #[must_use]
    pub fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// How many requests are held for the upstream: open, waiting to be written, and cancelled ones
    /// that may be running still.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        0
    }

    /// How many server requests are open at clients.
    #[must_use]
    pub fn server_requests(&self) -> usize {
        0
    }

    /// How many client sessions use the upstream session.
    #[must_use]
    pub fn members(&self) -> usize {
        0
    }

    /// Whether the upstream session is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        false
    }

    /// As it was made.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }
}
