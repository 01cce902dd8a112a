//! A session that its server has forgotten is opened anew, for a client that does not notice (protocol notes 5.2,
//! row "upstream 404 on session").

use std::sync::Arc;

use thinpipe_proto::bridge::CallId;
use thinpipe_transport::body::BoxFuture;
use thinpipe_transport::upstream::UpstreamError;
use thinpipe_transport::upstream::pipe::{Pipe, PipeError};

use super::state::Write;
use super::{Owner, UpstreamSession};
use crate::failure::{Failure, with_causes};

impl UpstreamSession {
    /// The session is gone, and this message, if there is one, did not run. It is opened again if that may be and
    /// nothing else is in flight.
    pub(super) fn broke(&self, error: &PipeError, unsent: Option<Write>) {
        let is_forgotten = matches!(error, PipeError::SessionLost { .. });
        if !(is_forgotten && self.manner.reopens) {
            return self.lose(&with_causes(error));
        }
        let own = usize::from(unsent.as_ref().is_some_and(|unsent| unsent.call.is_some()));
        let mut state = self.lock();
        let in_flight = state
            .machine
            .reframing()
            .map(|(machine, _)| machine.in_flight());
        if in_flight.is_some_and(|in_flight| in_flight <= own) && state.forgotten.is_none() {
            state.forgotten = Some(unsent);
            drop(state);
            return self.lost.notify_one();
        }
        drop(state);
        self.lose(&with_causes(error));
    }

    /// Whether the session goes with the replica of the server that has it, as that cannot be reached: if another one
    /// can take it over, or if the replica is known to be gone. Not while something else than this call runs in it:
    /// that may come to its end all the same.
    pub(super) fn leaves(
        &self,
        (owner, at): (&dyn Owner, &str),
        error: &PipeError,
        call: Option<CallId>,
    ) -> bool {
        let is_unreached = matches!(error, PipeError::Upstream(UpstreamError::Connect { .. }));
        if !is_unreached || !self.has_streams() || !owner.has_others() {
            return false;
        }
        if call.is_some_and(|call| self.is_opening(call)) {
            return false;
        }
        let in_flight = {
            let mut state = self.lock();
            let machine = state.machine.reframing();
            machine.map_or(0, |(machine, _)| machine.in_flight())
        };
        let runs = in_flight > usize::from(call.is_some());
        !runs && (self.manner.reopens || owner.has_lost(at))
    }

    /// It does, and this message, if there is one, did not run.
    pub(super) fn leave_for_another(&self, error: &PipeError, unsent: Option<Write>) {
        if !self.manner.reopens {
            return self.lose(&with_causes(error));
        }
        self.lock().forgotten.get_or_insert(unsent);
        self.lost.notify_one();
    }

    /// What opens it again, if it is to be.
    pub(super) fn reopening(
        &self,
        owner: &Arc<dyn Owner>,
    ) -> Option<BoxFuture<Result<Pipe, Failure>>> {
        let mut state = self.lock();
        let unsent = state.forgotten.take()?;
        if let (Some(write), Some((_, writes))) = (unsent, state.machine.reframing()) {
            writes.put_back(write);
        }
        let members = state.members.values();
        let mut sessions = members.filter_map(|member| member.place().get()?.session.upgrade());
        let session = sessions.next();
        drop(sessions);
        drop(state);
        match session {
            Some(session) => Some(Arc::clone(owner).reopen(session)),
            None => {
                self.lose("its server has forgotten it");
                None
            }
        }
    }

    /// It goes on where it was, but for what was said meanwhile.
    pub(super) fn reopened(&self, owner: &Arc<dyn Owner>) {
        let (listens, members) = {
            let state = self.lock();
            (
                state.listens,
                state.members.values().cloned().collect::<Vec<_>>(),
            )
        };
        if let Some(sender) = self.sender() {
            for member in &members {
                let session = member
                    .place()
                    .get()
                    .and_then(|place| place.session.upgrade());
                if let Some(session) = session.filter(|_| sender.session().is_some()) {
                    Arc::clone(owner).moved(session);
                }
            }
        }
        if listens {
            self.wants_stream();
        }
        self.told_gap();
    }
}
