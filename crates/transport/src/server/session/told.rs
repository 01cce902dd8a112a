//! What nodes tell each other about a session that any of them serves.

use thinpipe_proto::rpc::RequestId;
use thinpipe_proto::session::SessionId;
use thinpipe_proto::tunnel::News;

use super::{Session, SessionManager, lock};
use crate::io::now;

impl SessionManager {
    /// Remembers that a client has cancelled a request of a session, which may run on any node.
    pub fn note_cancelled(&self, session: &Session, id: &RequestId) {
        if session.note_cancelled(id) {
            return;
        }
        if let Some(nodes) = self.nodes().filter(|_| !session.is_held()) {
            nodes.tell(News::Cancelled(session.id().clone(), id.clone()));
        }
    }

    /// The same, of which another node has heard. The session need not be live here, nor ever be.
    pub(crate) fn cancelled_elsewhere(&self, id: &SessionId, request: &RequestId) {
        if let Some(session) = self.live_here(id) {
            session.note_cancelled(request);
            return;
        }
        self.inner.unclaimed.keep(id, request, now());
        // It may have been taken up just then, and have claimed nothing.
        if let Some(session) = self.live_here(id) {
            self.claim(&session);
        }
    }

    /// Gives a session what was said about it before it was here.
    pub(super) fn claim(&self, session: &Session) {
        if self.nodes().is_none() {
            return;
        }
        for (request, at) in self.inner.unclaimed.take(session.id(), now()) {
            lock(&session.requests).cancel(&request, at);
        }
    }

    /// Tells the other nodes that a session's standalone stream is open here, so that it ends there.
    pub fn note_listening(&self, session: &Session) {
        if let Some(nodes) = self.nodes().filter(|_| !session.is_held()) {
            let this = nodes.this().clone();
            nodes.tell(News::Listening(session.id().clone(), this));
        }
    }

    /// Tells the other nodes that a session's standalone stream was replaced here (R111).
    pub fn note_replaced(&self, session: &Session) {
        if let Some(nodes) = self.nodes().filter(|_| !session.is_held()) {
            nodes.tell(News::Replaced(session.id().clone()));
        }
    }
}
