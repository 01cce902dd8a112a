//! Records of sessions: a hash each, and an index of their ids in parts, so that they can be counted and listed
//! without looking through the server.

use std::sync::LazyLock;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use thinpipe_proto::session::SessionId;

use super::client::{Call, Lua};
use super::failure::Failure;
use super::keys::{BUCKETS, bucket};
use super::{RedisStore, milliseconds, record};
use crate::{BoxFuture, SessionRecord, SessionStore, StoreError, Version, Versioned};

static CREATE: LazyLock<Lua> = LazyLock::new(|| Lua::new(include_str!("scripts/create.lua")));
static UPDATE: LazyLock<Lua> = LazyLock::new(|| Lua::new(include_str!("scripts/update.lua")));
static TOUCH: LazyLock<Lua> = LazyLock::new(|| Lua::new(include_str!("scripts/touch.lua")));

/// Records asked for at the same time, of many.
const RECORDS_AT_ONCE: usize = 64;
/// Parts of the index that are counted at the same time.
const COUNTS_AT_ONCE: usize = BUCKETS as usize;
/// Parts of the index that are read at the same time.
const PARTS_AT_ONCE: usize = 8;

impl RedisStore {
    /// Part of a call.
    async fn record(&self, id: &SessionId) -> Result<Option<Versioned>, Failure> {
        let fields = Call::command("HMGET", &[self.keys.session(id)])
            .arg("record")
            .arg("version");
        let fields = self.calls.part(fields.repeatable()).await;
        let fields: (Option<Vec<u8>>, Option<Vec<u8>>) = fields.map_err(Failure::of_record)?;
        let (Some(text), Some(version)) = fields else {
            return Ok(None);
        };
        let record = record::read(id, &text)?;
        let version = std::str::from_utf8(&version)
            .ok()
            .and_then(|v| v.parse().ok());
        let damaged = || Failure::Damaged("how often it was written is no number".to_owned());
        Ok(Some((record, Version(version.ok_or_else(damaged)?))))
    }

    /// `false` if the id is taken.
    async fn create_record(&self, record: &SessionRecord, ttl: Duration) -> Result<bool, Failure> {
        let create = Call::script(&CREATE, &[self.keys.session(&record.id)])
            .arg(record::written(record)?)
            .arg(milliseconds(ttl));
        let is_new: bool = self.calls.part(create).await?;
        if is_new {
            // After the record: what is listed is there, and what could not be listed expires.
            let index = self.keys.index(bucket(&record.id));
            self.enlist(&self.calls, index, record.id.as_bytes(), ttl)
                .await?;
        }
        Ok(is_new)
    }

    /// `false` if it is not there.
    async fn touch_record(&self, id: &SessionId, ttl: Duration) -> Result<bool, Failure> {
        let touch = Call::script(&TOUCH, &[self.keys.session(id)]).arg(milliseconds(ttl));
        let is_there: bool = self.calls.part(touch.repeatable()).await?;
        if is_there {
            let index = self.keys.index(bucket(id));
            self.prolong(index, id.as_bytes(), ttl).await?;
        }
        Ok(is_there)
    }

    /// `false` if it was not there.
    async fn delete_record(&self, id: &SessionId) -> Result<bool, Failure> {
        let delete = Call::command("DEL", &[self.keys.session(id)]);
        let was_there: bool = self.calls.part(delete).await?;
        let index = self.keys.index(bucket(id));
        self.strike(&self.calls, index, id.as_bytes()).await?;
        Ok(was_there)
    }

    /// Part of a call: the ids of a part of the index that come after one, in ascending order.
    async fn part(&self, bucket: u8, after: Option<&SessionId>) -> Result<Vec<SessionId>, Failure> {
        let mut ids = self.enlisted(&self.calls, self.keys.index(bucket)).await?;
        ids.retain(|id: &SessionId| after.is_none_or(|after| id > after));
        ids.sort_unstable();
        Ok(ids)
    }

    /// Parts of a call.
    async fn page(
        &self,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<Vec<SessionId>, Failure> {
        let first = after.map_or(0, bucket);
        let parts = stream::iter(first..BUCKETS).map(|bucket| self.part(bucket, after));
        let mut parts = parts.buffered(PARTS_AT_ONCE);
        let mut page = Vec::new();
        while page.len() < limit {
            let Some(part) = parts.try_next().await? else {
                break;
            };
            page.extend(part.into_iter().take(limit - page.len()));
        }
        Ok(page)
    }
}

impl SessionStore for RedisStore {
    fn create<'a>(
        &'a self,
        record: &'a SessionRecord,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let created = self
                .calls
                .together(
                    &self.keys.session(&record.id),
                    self.create_record(record, ttl),
                )
                .await?;
            created.then_some(()).ok_or(StoreError::Exists)
        })
    }

    fn get<'a>(
        &'a self,
        id: &'a SessionId,
    ) -> BoxFuture<'a, Result<Option<Versioned>, StoreError>> {
        Box::pin(async move {
            Ok(self
                .calls
                .together(&self.keys.session(id), self.record(id))
                .await?)
        })
    }

    fn get_many<'a>(
        &'a self,
        ids: &'a [SessionId],
    ) -> BoxFuture<'a, Result<Vec<Option<Versioned>>, StoreError>> {
        let records = stream::iter(ids).map(|id| self.record(id));
        let records = records.buffered(RECORDS_AT_ONCE).try_collect();
        Box::pin(self.calls.many(records))
    }

    fn update<'a>(
        &'a self,
        record: &'a SessionRecord,
        expected: Version,
    ) -> BoxFuture<'a, Result<Version, StoreError>> {
        Box::pin(async move {
            let update = Call::script(&UPDATE, &[self.keys.session(&record.id)])
                .arg(record::written(record)?)
                .arg(expected.0);
            match self.calls.call::<i64>(update).await? {
                -1 => Err(StoreError::Conflict),
                0 => Err(StoreError::NotFound),
                version => Ok(Version(version.unsigned_abs())),
            }
        })
    }

    fn touch<'a>(
        &'a self,
        id: &'a SessionId,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let touched = self
                .calls
                .together(&self.keys.session(id), self.touch_record(id, ttl))
                .await?;
            touched.then_some(()).ok_or(StoreError::NotFound)
        })
    }

    fn delete<'a>(&'a self, id: &'a SessionId) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            Ok(self
                .calls
                .together(&self.keys.session(id), self.delete_record(id))
                .await?)
        })
    }

    fn count(&self) -> BoxFuture<'_, Result<usize, StoreError>> {
        let counts =
            stream::iter(0..BUCKETS).map(|bucket| self.enlisted_count(self.keys.index(bucket)));
        let counts = counts.buffer_unordered(COUNTS_AT_ONCE);
        let sum = counts.try_fold(0, async |sum, count| Ok(sum + count));
        Box::pin(self.calls.many(sum))
    }

    fn list<'a>(
        &'a self,
        after: Option<&'a SessionId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<SessionId>, StoreError>> {
        Box::pin(self.calls.many(self.page(after, limit)))
    }
}
