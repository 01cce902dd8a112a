//! Sessions of one process.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use thinpipe_proto::session::SessionId;

use super::{Clock, ready};
use crate::{BoxFuture, SessionRecord, SessionStore, StoreError, Version, Versioned};

/// Sessions in memory. They end with the process.
///
/// Live sessions are looked up in the session manager's own table; this store is asked when one is
/// opened, changed or ended, so one lock is enough and keeps every operation atomic.
pub struct MemoryStore {
    now: Clock,
    entries: Mutex<BTreeMap<SessionId, Entry>>,
}

struct Entry {
    record: SessionRecord,
    version: Version,
    expires: Instant,
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
            now: Box::new(now),
            entries: Mutex::new(BTreeMap::new()),
        }
    }

    /// A poisoned lock means a panic elsewhere; the map is valid between any two operations.
    fn entries(&self) -> MutexGuard<'_, BTreeMap<SessionId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn live(&self, id: &SessionId) -> Option<Versioned> {
        let now = (self.now)();
        let entries = self.entries();
        let entry = entries.get(id).filter(|e| e.expires > now)?;
        Some((entry.record.clone(), entry.version))
    }

    fn with_live<R>(
        &self,
        id: &SessionId,
        change: impl FnOnce(&mut Entry) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        let now = (self.now)();
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
        let now = (self.now)();
        let mut entries = self.entries();
        if entries.get(&record.id).is_some_and(|e| e.expires > now) {
            return ready(Err(StoreError::Exists));
        }
        let entry = Entry {
            record: record.clone(),
            version: Version(1),
            expires: now + ttl,
        };
        entries.insert(record.id.clone(), entry);
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
            entry.record = record.clone();
            entry.version = Version(expected.0 + 1);
            Ok(entry.version)
        }))
    }

    fn touch<'a>(
        &'a self,
        id: &'a SessionId,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let expires = (self.now)() + ttl;
        ready(self.with_live(id, |entry| {
            entry.expires = entry.expires.max(expires);
            Ok(())
        }))
    }

    fn delete<'a>(&'a self, id: &'a SessionId) -> BoxFuture<'a, Result<bool, StoreError>> {
        let now = (self.now)();
        let removed = self.entries().remove(id);
        ready(Ok(removed.is_some_and(|e| e.expires > now)))
    }

    fn count(&self) -> BoxFuture<'_, Result<usize, StoreError>> {
        let now = (self.now)();
        let mut entries = self.entries();
        entries.retain(|_, e| e.expires > now);
        ready(Ok(entries.len()))
    }

    fn list<'a>(
        &'a self,
        after: Option<&'a SessionId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<SessionId>, StoreError>> {
        let now = (self.now)();
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
