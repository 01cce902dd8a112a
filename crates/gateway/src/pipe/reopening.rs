//! A session that its server has forgotten is opened anew, for a client that does not notice (protocol notes 5.2,
//! row "upstream 404 on session"); one that several replicas know goes on at another one when its own is gone.

use std::sync::Arc;

use thinpipe_proto::bridge::CallId;
use thinpipe_transport::body::BoxFuture;
use thinpipe_transport::upstream::UpstreamError;
use thinpipe_transport::upstream::pipe::{Pipe, PipeError};

use super::state::{Leaving, Write};
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
        let call = unsent.as_ref().and_then(|unsent| unsent.call);
        if self.runs_beside(call) {
            return self.lose(&with_causes(error));
        }
        self.part_with(unsent, None);
    }

    /// Whether something else than this call is in flight.
    fn runs_beside(&self, call: Option<CallId>) -> bool {
        let mut state = self.lock();
        let machine = state.machine.reframing();
        machine.is_none_or(|(machine, _)| machine.in_flight() > usize::from(call.is_some()))
    }

    /// Whether the session goes with the replica of the server that has it, as that cannot be reached: if another one
    /// can take it over, or if the replica is known to be gone. Not while something else than this call runs in it:
    /// that may come to its end all the same.
    pub(super) fn leaves(
        &self,
        (owner, at): (&Arc<dyn Owner>, &str),
        error: &PipeError,
        call: Option<CallId>,
    ) -> bool {
        let is_unreached = matches!(error, PipeError::Upstream(UpstreamError::Connect { .. }));
        if !is_unreached || !self.has_streams() || !owner.has_others() {
            return false;
        }
        if call.is_some_and(|call| self.is_opening(call)) || self.runs_beside(call) {
            return false;
        }
        self.manner.moves || self.manner.reopens || owner.has_lost(at)
    }

    /// It does, and this message, if there is one, did not run. `false`: it stays all the same, since there is no other
    /// replica to be reached.
    pub(super) async fn leave_for_another(
        &self,
        (owner, at): (&Arc<dyn Owner>, &str),
        error: &PipeError,
        unsent: Option<Write>,
    ) -> bool {
        owner.suspect();
        if self.manner.moves {
            let to = Arc::clone(owner).elsewhere(at).await;
            if to.is_some() {
                self.part_with(unsent, to);
            }
            return to.is_some();
        }
        if self.manner.reopens {
            self.part_with(unsent, None);
        } else {
            self.lose(&with_causes(error));
        }
        true
    }

    fn part_with(&self, unsent: Option<Write>, to: Option<usize>) {
        let unsent = unsent.into_iter().collect();
        self.lock()
            .leaving
            .get_or_insert(Leaving {
                unsent: Vec::new(),
                to,
            })
            .unsent
            .extend::<Vec<_>>(unsent);
        self.parting.notify_one();
    }

    /// Whether a message that failed so did not run, and goes along with the session, which leaves already.
    pub(super) fn goes_along(&self, error: &PipeError, unsent: Option<&Write>) -> bool {
        let did_not_run = matches!(error, PipeError::SessionLost { .. }) || error.is_undelivered();
        let mut state = self.lock();
        match (&mut state.leaving, unsent) {
            (Some(leaving), Some(unsent)) if did_not_run => {
                leaving.unsent.push(unsent.clone());
                true
            }
            _ => false,
        }
    }

    /// Whether its server, which it leaves, is told nothing of that: another replica goes on with it.
    pub(super) fn is_known_elsewhere(&self) -> bool {
        let state = self.lock();
        state.leaving.as_ref().is_some_and(|it| it.to.is_some())
    }

    /// What opens its next pipe, if there is to be one.
    pub(super) fn reopening(
        &self,
        owner: &Arc<dyn Owner>,
    ) -> Option<BoxFuture<Result<Pipe, Failure>>> {
        let mut state = self.lock();
        let Leaving { unsent, to } = state.leaving.take()?;
        if let Some((_, writes)) = state.machine.reframing() {
            unsent.into_iter().rev().for_each(|it| writes.put_back(it));
        }
        let members = state.members.values();
        let mut sessions = members.filter_map(|member| member.place().get()?.session.upgrade());
        let session = sessions.next();
        drop(sessions);
        drop(state);
        let owner = Arc::clone(owner);
        match (session, to) {
            (Some(session), Some(replica)) => {
                let id = self.sender().and_then(|sender| sender.session());
                Some(owner.go_on(session, (id, replica)))
            }
            (Some(session), None) => Some(owner.reopen(session)),
            (None, _) => {
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
