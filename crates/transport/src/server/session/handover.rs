//! A session that this node holds is left to whoever needs it next (protocol notes 5.8).

use std::sync::Arc;

use thinpipe_proto::session::NodeId;
use thinpipe_store::StoreError;

use super::{Session, SessionError, SessionManager};

/// How often a record is written that somebody else changes just then.
const ROUNDS: usize = 4;

/// What came of handing a session over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HandOver {
    /// This node has let go of it.
    Done,
    /// Nobody else can go on with it.
    Cannot,
    /// Its record could not be written, and still says that it is this node's.
    Failed,
}

impl SessionManager {
    /// Gives a session that this node holds to whoever needs it next.
    pub(crate) async fn hand_over(&self, session: &Arc<Session>) -> HandOver {
        let may = session.handler().can_hand_over(session);
        if !may || self.nodes().is_none() {
            return HandOver::Cannot;
        }
        match self.release(session).await {
            Ok(()) => {
                self.forget(session);
                HandOver::Done
            }
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::debug!(session = ?session.id(), error, "a session is not handed over");
                HandOver::Failed
            }
        }
    }

    /// Writes into a session's record that it is nobody's. One that is gone, or another node's, is left so.
    pub(super) async fn release(&self, session: &Arc<Session>) -> Result<(), SessionError> {
        for _ in 0..ROUNDS {
            let (mut record, version) = session.versioned();
            record.owner = Some(NodeId::nobody());
            match self.inner.store.update(&record, version).await {
                Err(StoreError::Conflict | StoreError::NotFound) => {}
                written => return Ok(written.map(drop)?),
            }
            // What its handler stores with it was on the way, or it is not this node's any more.
            let found = self.stored(session.id()).await?;
            if !self.compare(session, found) {
                return Ok(());
            }
        }
        Err(StoreError::Conflict.into())
    }
}
