//! Sessions of one process.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use thinpipe_proto::revision::{Binding, Revision};
use thinpipe_proto::session::{NodeId, Principal, SessionId};

use super::{Clock, ready};
use crate::{BoxFuture, SessionRecord, SessionStore, StoreError, Version, Versioned};

/// Origins that are known. One more takes the place of the one that has been known for longest.
const MAX_ORIGINS: usize = 64;

/// Bytes of what a client has said in an origin that is known; longer ones are each entry's own.
const MAX_SHARED: usize = 4096;

/// Sessions in memory. They end with the process.
///
/// Live sessions are looked up in the session manager's own table; this store is asked when one is
/// opened, changed or ended, so one lock is enough and keeps every operation atomic.
pub struct MemoryStore {
    now: Clock,
    epoch: Instant,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    /// Boxed: a tree has room for half as many entries again as there are in it.
    by_id: BTreeMap<SessionId, Box<Entry>>,
    origins: Origins,
}

/// A record, without its id, as small as may be: there are as many as sessions.
struct Entry {
    principal: Principal,
    origin: Arc<Origin>,
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

/// What is the same of many sessions: the clients of a deployment are a few programs, and each says the same every time.
#[derive(PartialEq, Eq)]
struct Origin {
    endpoint: Arc<str>,
    binding: Binding,
    revision: Revision,
    initialize_params: Bytes,
}

/// Origins that entries may share.
#[derive(Default)]
struct Origins(VecDeque<Arc<Origin>>);

impl Origins {
    /// This one, shared with other entries of the same.
    fn share(&mut self, origin: Origin) -> Arc<Origin> {
        if let Some(same) = self.0.iter().find(|same| ***same == origin) {
            return Arc::clone(same);
        }
        let origin = Arc::new(origin);
        if origin.initialize_params.len() > MAX_SHARED {
            return origin;
        }
        if self.0.len() >= MAX_ORIGINS {
            self.0.pop_front();
        }
        self.0.push_back(Arc::clone(&origin));
        origin
    }
}

impl Entry {
    fn new(
        record: SessionRecord,
        version: Version,
        expires: Moment,
        origins: &mut Origins,
    ) -> Self {
        let origin = Origin {
            endpoint: record.endpoint,
            binding: record.binding,
            revision: record.revision,
            initialize_params: record.initialize_params,
        };
        Self {
            principal: record.principal,
            origin: origins.share(origin),
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
            endpoint: Arc::clone(&self.origin.endpoint),
            binding: self.origin.binding,
            revision: self.origin.revision,
            initialize_params: self.origin.initialize_params.clone(),
            attachment: self.attachment.clone(),
            owner: self.owner.as_deref().cloned(),
            created_ms: self.created_ms,
        }
    }
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStore")
            .field("records", &self.entries().by_id.len())
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
            entries: Mutex::default(),
        }
    }

    /// A poisoned lock means a panic elsewhere; the tables are valid between any two operations.
    fn entries(&self) -> MutexGuard<'_, Entries> {
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
        let entry = entries.by_id.get(id).filter(|e| e.expires > now)?;
        Some((entry.record(id), entry.version))
    }

    fn with_live<R>(
        &self,
        id: &SessionId,
        change: impl FnOnce(&mut Entry, &mut Origins) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        let now = self.now();
        let mut entries = self.entries();
        let Entries { by_id, origins } = &mut *entries;
        let entry = by_id
            .get_mut(id)
            .filter(|e| e.expires > now)
            .ok_or(StoreError::NotFound)?;
        change(entry, origins)
    }
}

impl SessionStore for MemoryStore {
    fn create<'a>(
        &'a self,
        record: &'a SessionRecord,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let now = self.now();
        let expires = self.moment(ttl);
        let mut entries = self.entries();
        let Entries { by_id, origins } = &mut *entries;
        if by_id.get(&record.id).is_some_and(|e| e.expires > now) {
            return ready(Err(StoreError::Exists));
        }
        let entry = Entry::new(record.clone(), Version(1), expires, origins);
        by_id.insert(record.id.clone(), Box::new(entry));
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
        ready(self.with_live(&record.id, |entry, origins| {
            if entry.version != expected {
                return Err(StoreError::Conflict);
            }
            let version = Version(expected.0 + 1);
            *entry = Entry::new(record.clone(), version, entry.expires, origins);
            Ok(version)
        }))
    }

    fn touch<'a>(
        &'a self,
        id: &'a SessionId,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let expires = self.moment(ttl);
        ready(self.with_live(id, |entry, _| {
            entry.expires = entry.expires.max(expires);
            Ok(())
        }))
    }

    fn delete<'a>(&'a self, id: &'a SessionId) -> BoxFuture<'a, Result<bool, StoreError>> {
        let now = self.now();
        let removed = self.entries().by_id.remove(id);
        ready(Ok(removed.is_some_and(|e| e.expires > now)))
    }

    fn count(&self) -> BoxFuture<'_, Result<usize, StoreError>> {
        let now = self.now();
        let by_id = &mut self.entries().by_id;
        by_id.retain(|_, e| e.expires > now);
        ready(Ok(by_id.len()))
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
            .by_id
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
    use crate::conformance::sample;

    /// F16: there are as many as sessions.
    #[test]
    fn f16_an_entry_is_small() {
        assert!(size_of::<Entry>() <= 88, "{}", size_of::<Entry>());
    }

    /// F16: what is stored and what is read share the bytes that a client and a server have sent, and so do sessions
    /// whose clients have said the same.
    #[tokio::test]
    async fn f16_texts_are_shared() {
        let (store, ttl) = (MemoryStore::new(), Duration::from_secs(60));
        let (mut record, mut other) = (sample(1), sample(2));
        record.initialize_params = Bytes::from("the same".to_owned());
        other.initialize_params = Bytes::from("the same".to_owned());
        for record in [&record, &other] {
            store.create(record, ttl).await.unwrap();
            let (read, _) = store.get(&record.id).await.unwrap().unwrap();
            assert!(read == *record);
            assert_eq!(read.attachment.as_ptr(), record.attachment.as_ptr());
        }
        let (read, _) = store.get(&other.id).await.unwrap().unwrap();
        let shared = record.initialize_params.as_ptr();
        assert_eq!(read.initialize_params.as_ptr(), shared);
        assert_eq!(store.entries().origins.0.len(), 1);
    }

    /// C2: whoever says something else each time, or something long, fills nothing up.
    #[tokio::test]
    async fn c2_what_is_shared_is_bounded() {
        let (store, ttl) = (MemoryStore::new(), Duration::from_secs(60));
        let mut record = sample(1);
        store.create(&record, ttl).await.unwrap();
        let mut version = Version(1);
        for n in 0..2 * MAX_ORIGINS {
            record.initialize_params = vec![b'x'; MAX_SHARED - MAX_ORIGINS + n].into();
            version = store.update(&record, version).await.unwrap();
            let (read, _) = store.get(&record.id).await.unwrap().unwrap();
            assert!(read == record);
        }
        let entries = store.entries();
        let mut known = entries.origins.0.iter();
        assert_eq!(known.len(), MAX_ORIGINS);
        assert!(known.all(|origin| origin.initialize_params.len() <= MAX_SHARED));
    }
}
