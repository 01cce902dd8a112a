//! What the handler of a held session keeps in its record, for another node to go on with.

use std::sync::Arc;

use bytes::Bytes;
use thinpipe_store::StoreError;

use super::{Session, SessionError, SessionManager};

impl SessionManager {
    /// As [`set_attachment`](Self::set_attachment), for what this node alone writes. Should the record be another one
    /// by now, as after an answer of the store that was lost, it is read first: whoever has the session keeps it.
    /// Nothing is stored of a session that has ended.
    ///
    /// # Errors
    /// [`SessionError::Store`]; whether to try again [it says](SessionError::is_transient).
    pub async fn keep_attachment(
        &self,
        session: &Arc<Session>,
        attachment: Bytes,
    ) -> Result<(), SessionError> {
        match self.set_attachment(session, attachment.clone()).await {
            Err(SessionError::Store(StoreError::Conflict)) => {}
            stored => return stored,
        }
        match self.refresh(session).await? {
            true => self.set_attachment(session, attachment).await,
            false => Ok(()),
        }
    }
}

impl SessionError {
    /// Whether the store may take later what it has not taken now.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Store(error) => error.is_transient() || matches!(error, StoreError::Conflict),
            _ => false,
        }
    }
}
