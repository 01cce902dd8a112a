//! The server's requests that are open at clients.

use std::time::Instant;

use crate::bridge::action::{CallId, MemberId};
use crate::bridge::progress::Progress;
use crate::rpc::RequestId;

/// One server request that a client has to answer. It keeps the server's own id: one upstream session
/// sends it, so no other request has the same.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) member: MemberId,
    pub(super) id: RequestId,
    /// The client's request it belongs to. Its id is not used twice, so that once it is over, this names
    /// nothing.
    pub(super) related: Option<CallId>,
    pub(super) holds: Holds,
    pub(super) progress: Option<Progress>,
    pub(super) is_ping: bool,
    pub(super) due: Instant,
}

/// Which requests wait for the answer, so that their clocks stand still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    Nothing,
    /// The request it belongs to.
    Call(CallId),
    /// Nobody can tell whose it is: all that were open when it came, which have ids below this one.
    Below(CallId),
}

/// The table. Bounded by `Limits::server_requests`, which the caller checks; small, so it is a list.
#[derive(Debug, Default)]
pub(super) struct Questions {
    open: Vec<Question>,
}

impl Questions {
    pub(super) fn push(&mut self, question: Question) {
        self.open.push(question);
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn is_open(&self, id: &RequestId) -> bool {
        self.open.iter().any(|question| question.id == *id)
    }

    /// Whether one with this id is open at this client.
    pub(super) fn is_asked(&self, member: MemberId, id: &RequestId) -> bool {
        let mut of_member = self.open.iter().filter(|asked| asked.member == member);
        of_member.any(|question| question.id == *id)
    }

    /// Takes out the first one that `wanted` picks.
    pub(super) fn take(&mut self, wanted: impl Fn(&Question) -> bool) -> Option<Question> {
        let at = self.open.iter().position(wanted)?;
        Some(self.open.remove(at))
    }

    /// The progress that the server gets for one of its requests to this client.
    pub(super) fn progress(
        &mut self,
        member: MemberId,
        token: &RequestId,
    ) -> Option<&mut Progress> {
        let mut own = self.open.iter_mut().filter(|q| q.member == member);
        own.find_map(|q| q.progress.as_mut().filter(|p| p.token == *token))
    }

    /// When the first of them is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.open.iter().map(|question| question.due).min()
    }

    pub(super) fn clear(&mut self) {
        self.open.clear();
    }
}
