//! Sessions of one process.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use thinpipe_proto::revision::{Binding, Revision};
use thinpipe_proto::session::{NodeId, Principal, SessionId};

use super::{Clock, ready};
use crate::{BoxFuture, SessionRecord, SessionStore, StoreError, Version, Versioned};

/// Sessions in memory. They end with the process.
///
/// Live sessions are looked up in the session manager's own table; this store is asked when one is
/// opened, changed or ended, so one lock is enough and keeps every operation atomic.
pub struct MemoryStore {
    now: Clock,
    epoch: Instant,
    /// Boxed: a tree has room for half as many entries again as there are in it.
    entries: Mutex<BTreeMap<SessionId, Box<Entry>>>,
}

/// A record, without its id, as small as may be: there are as many as sessions, which have the same texts, and share
/// them.
struct Entry {
    principal: Principal,
    endpoint: Arc<str>,
    binding: Binding,
    revision: Revision,
    initialize_params: Bytes,
    attachment: Bytes,
    /// Boxed: most sessions have none.
    owner: Option<Box<NodeId>>,
    created_ms: u64,
    version: Version,
    expires: Moment,
}

/// Microseconds since the store was made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Moment(u64);

impl Entry {
    fn new(record: SessionRecord, version: Version, expires: Moment) -> Self {
        Self {
            principal: record.principal,
            endpoint: record.endpoint,
            binding: record.binding,
            revision: record.revision,
            initialize_params: record.initialize_params,
            attachment: record.attachment,
            owner: record.owner.map(Box::new),
            created_ms: record.created_ms,
            version,
            expires,
        }
    }

    fn record(&self, id: &SessionId) -> SessionRecord {
        SessionRecord {
            id: id.clone(),
            principal: self.principal.clone(),
            endpoint: Arc::clone(&self.endpoint),
            binding: self.binding,
            revision: self.revision,
            initialize_params: self.initialize_params.clone(),
            attachment: self.attachment.clone(),
            owner: self.owner.as_deref().cloned(),
            created_ms: self.created_ms,
        }
    }
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStore")
            .field("records", &self.entries().len())
            .finish()
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store on the system's clock.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(Instant::now)
    }

    /// An empty store on another clock, for tests with virtual time.
    #[must_use]
    pub fn with_clock(now: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        Self {
            epoch: now(),
            now: Box::new(now),
            entries: Mutex::new(BTreeMap::new()),
        }
    }

    /// A poisoned lock means a panic elsewhere; the map is valid between any two operations.
    fn entries(&self) -> MutexGuard<'_, BTreeMap<SessionId, Box<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// In so long.
    fn moment(&self, after: Duration) -> Moment {
        let since = (self.now)().saturating_duration_since(self.epoch) + after;
        Moment(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }

    fn now(&self) -> Moment {
        self.moment(Duration::ZERO)
    }

    fn live(&self, id: &SessionId) -> Option<Versioned> {
        let now = self.now();
        let entries = self.entries();
        let entry = entries.get(id).filter(|e| e.expires > now)?;
        Some((entry.record(id), entry.version))
    }

    fn with_live<R>(
        &self,
        id: &SessionId,
        change: impl FnOnce(&mut Entry) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        let now = self.now();
        let mut entries = self.entries();
        let entry = entries
            .get_mut(id)
            .filter(|e| e.expires > now)
            .ok_or(StoreError::NotFound)?;
        change(entry)
    }
}

impl SessionStore for MemoryStore {
    fn create<'a>(
        &'a self,
        record: &'a SessionRecord,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let now = self.now();
        let mut entries = self.entries();
        if entries.get(&record.id).is_some_and(|e| e.expires > now) {
            return ready(Err(StoreError::Exists));
        }
        let entry = Entry::new(record.clone(), Version(1), self.moment(ttl));
        entries.insert(record.id.clone(), Box::new(entry));
        ready(Ok(()))
    }

    fn get<'a>(
        &'a self,
        id: &'a SessionId,
    ) -> BoxFuture<'a, Result<Option<Versioned>, StoreError>> {
        ready(Ok(self.live(id)))
    }

    fn get_many<'a>(
        &'a self,
        ids: &'a [SessionId],
    ) -> BoxFuture<'a, Result<Vec<Option<Versioned>>, StoreError>> {
        ready(Ok(ids.iter().map(|id| self.live(id)).collect()))
    }

    fn update<'a>(
        &'a self,
        record: &'a SessionRecord,
        expected: Version,
    ) -> BoxFuture<'a, Result<Version, StoreError>> {
        ready(self.with_live(&record.id, |entry| {
            if entry.version != expected {
                return Err(StoreError::Conflict);
            }
            let version = Version(expected.0 + 1);
            *entry = Entry::new(record.clone(), version, entry.expires);
            Ok(version)
        }))
    }

    fn touch<'a>(
        &'a self,
        id: &'a SessionId,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let expires = self.moment(ttl);
        ready(self.with_live(id, |entry| {
            entry.expires = entry.expires.max(expires);
            Ok(())
        }))
    }

    fn delete<'a>(&'a self, id: &'a SessionId) -> BoxFuture<'a, Result<bool, StoreError>> {
        let now = self.now();
        let removed = self.entries().remove(id);
        ready(Ok(removed.is_some_and(|e| e.expires > now)))
    }

    fn count(&self) -> BoxFuture<'_, Result<usize, StoreError>> {
        let now = self.now();
        let mut entries = self.entries();
        entries.retain(|_, e| e.expires > now);
        ready(Ok(entries.len()))
    }

    fn list<'a>(
        &'a self,
        after: Option<&'a SessionId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<SessionId>, StoreError>> {
        let now = self.now();
        let entries = self.entries();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let page = entries
            .range::<SessionId, _>((from, Bound::Unbounded))
            .filter(|(_, e)| e.expires > now)
            .take(limit)
            .map(|(id, _)| id.clone());
        ready(Ok(page.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// F16: there are as many as sessions.
    #[test]
    fn f16_an_entry_is_small() {
        assert!(size_of::<Entry>() <= 136, "{}", size_of::<Entry>());
    }

    /// F16: what is stored and what is read share the bytes that a client and a server have sent.
    #[tokio::test]
    async fn f16_texts_are_shared_with_sessions() {
        let (store, record) = (MemoryStore::new(), crate::conformance::sample(1));
        store
            .create(&record, Duration::from_secs(60))
            .await
            .unwrap();
        let (read, _) = store.get(&record.id).await.unwrap().unwrap();
        assert!(read == record);
        let texts = |record: &SessionRecord| {
            [&record.initialize_params, &record.attachment].map(|text| text.as_ptr())
        };
        assert_eq!(texts(&read), texts(&record));
        assert!(Arc::ptr_eq(&read.endpoint, &record.endpoint));
    }
}
