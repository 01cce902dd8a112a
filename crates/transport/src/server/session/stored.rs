//! What a session keeps of its record: each thing once, since there are thousands of sessions that nobody uses just
//! now.

use bytes::Bytes;
use thinpipe_proto::session::NodeId;
use thinpipe_store::{SessionRecord, Version, Versioned};

use super::{Session, lock};

/// The part of a record that may change, as it was known last. The rest of it the session itself has.
pub(super) struct Stored {
    pub(super) initialize_params: Bytes,
    pub(super) attachment: Bytes,
    /// Boxed: most sessions have none.
    owner: Option<Box<NodeId>>,
    pub(super) version: Version,
}

impl Stored {
    pub(super) fn of((record, version): Versioned) -> Self {
        Self {
            initialize_params: record.initialize_params,
            attachment: record.attachment,
            owner: record.owner.map(Box::new),
            version,
        }
    }

    pub(super) fn is_held(&self) -> bool {
        self.owner.is_some()
    }
}

impl Session {
    /// The record as it was known last, and its version.
    pub(super) fn versioned(&self) -> Versioned {
        let stored = lock(&self.stored);
        let record = SessionRecord {
            id: self.id.clone(),
            principal: self.principal.clone(),
            endpoint: self.endpoint.clone(),
            binding: self.binding(),
            revision: self.revision(),
            initialize_params: stored.initialize_params.clone(),
            attachment: stored.attachment.clone(),
            owner: stored.owner.as_deref().cloned(),
            created_ms: self.created_ms,
        };
        (record, stored.version)
    }

    /// The record was written, or read, and is like this now.
    pub(super) fn set_stored(&self, versioned: Versioned) {
        *lock(&self.stored) = Stored::of(versioned);
    }
}
