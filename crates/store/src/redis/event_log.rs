//! The history of streams: a Redis stream each, with its head beside it.

use std::sync::LazyLock;

use bytes::Bytes;
use thinpipe_proto::session::{NodeId, SessionId, StreamId};

use super::client::{Call, Lua};
use super::failure::Failure;
use super::{Id, RedisStore, milliseconds};
use crate::{
    BoxFuture, EventLog, LogEntry, LogError, LogPage, MAX_STREAMS, StreamHead, StreamKey,
    UNFINISHED_FOR,
};

/// A script about one stream.
macro_rules! script {
    ($name:literal) => {
        LazyLock::new(|| {
            Lua::new(concat!(
                include_str!("scripts/stream.lua"),
                include_str!(concat!("scripts/", $name))
            ))
        })
    };
}

static OPEN: LazyLock<Lua> = script!("open.lua");
static APPEND: LazyLock<Lua> = script!("append.lua");
static FINISH: LazyLock<Lua> = script!("finish.lua");
static READ: LazyLock<Lua> = script!("read.lua");
static FORGET: LazyLock<Lua> = LazyLock::new(|| Lua::new(include_str!("scripts/forget.lua")));

/// What a read gives: a number or what speaks against it, owner, request, number of the newest event, whether it is
/// the last, and messages.
type Page = (
    i64,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    u64,
    bool,
    Vec<Vec<u8>>,
);

impl RedisStore {
    /// A call about one stream, with what each of them is told.
    fn of_stream(&self, script: &'static LazyLock<Lua>, key: &StreamKey, owner: &[u8]) -> Call {
        let StreamId(number) = key.stream;
        Call::script(script, &self.keys.stream(&key.session, key.stream))
            .arg(number)
            .arg(owner)
            .arg(self.limits.max_events)
            .arg(self.limits.max_bytes)
            .arg(milliseconds(self.limits.age))
            .arg(milliseconds(self.limits.finished_for))
            .arg(milliseconds(UNFINISHED_FOR))
            .arg(self.limits.session_bytes)
            .arg(self.keys.heads(&key.session))
            .arg(self.keys.histories(&key.session))
    }

    async fn open_stream(&self, key: &StreamKey, head: &StreamHead) -> Result<u64, LogError> {
        let request = head.request.as_deref();
        let open = self
            .of_stream(&OPEN, key, head.owner.as_bytes())
            .arg(MAX_STREAMS)
            .arg(u8::from(request.is_some()))
            .arg(request.unwrap_or_default());
        number_or_error(self.calls.call(open.repeatable()).await?)
    }

    async fn append_entries(
        &self,
        key: &StreamKey,
        owner: &NodeId,
        entries: &[LogEntry],
    ) -> Result<(), LogError> {
        let mut append = self.of_stream(&APPEND, key, owner.as_bytes());
        for entry in entries {
            append = append
                .arg(entry.sequence)
                .arg(u8::from(entry.is_last))
                .arg(&*entry.message);
        }
        number_or_error(self.calls.call(append).await?).map(|_| ())
    }

    async fn read_page(
        &self,
        key: &StreamKey,
        after: u64,
        limit: usize,
    ) -> Result<LogPage, LogError> {
        let read = self.of_stream(&READ, key, b"").arg(after).arg(limit);
        let page = self.calls.call(read.repeatable()).await?;
        let (code, owner, request, newest, is_finished, messages): Page = page;
        number_or_error(code)?;
        let entries = messages.into_iter().zip(after + 1..);
        let entries = entries.map(|(message, sequence)| LogEntry {
            sequence,
            message: message.into(),
            is_last: is_finished && sequence == newest,
        });
        Ok(LogPage {
            head: StreamHead {
                owner: NodeId::read(owner.unwrap_or_default())?,
                request: request.map(Bytes::from),
            },
            entries: entries.collect(),
            newest,
            is_finished,
        })
    }
}

impl From<Failure> for LogError {
    fn from(failure: Failure) -> Self {
        Self::Store(failure.into())
    }
}

/// The scripts give numbers, and those below zero say what speaks against it.
fn number_or_error(code: i64) -> Result<u64, LogError> {
    match code {
        -1 => Err(LogError::Unknown),
        -2 => Err(LogError::Moved),
        -3 => Err(LogError::Finished),
        -4 => Err(LogError::Evicted),
        -5 => Err(LogError::Full),
        number => {
            u64::try_from(number).map_err(|_| Failure::Unreadable(format!("code {number}")).into())
        }
    }
}

impl EventLog for RedisStore {
    fn open<'a>(
        &'a self,
        key: &'a StreamKey,
        head: &'a StreamHead,
    ) -> BoxFuture<'a, Result<u64, LogError>> {
        Box::pin(self.open_stream(key, head))
    }

    fn append<'a>(
        &'a self,
        key: &'a StreamKey,
        owner: &'a NodeId,
        entries: &'a [LogEntry],
    ) -> BoxFuture<'a, Result<(), LogError>> {
        Box::pin(self.append_entries(key, owner, entries))
    }

    fn finish<'a>(
        &'a self,
        key: &'a StreamKey,
        message: Bytes,
    ) -> BoxFuture<'a, Result<u64, LogError>> {
        Box::pin(async move {
            let finish = self.of_stream(&FINISH, key, b"").arg(&*message);
            number_or_error(self.calls.call(finish).await?)
        })
    }

    fn read<'a>(
        &'a self,
        key: &'a StreamKey,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<LogPage, LogError>> {
        Box::pin(self.read_page(key, after, limit))
    }

    fn forget<'a>(&'a self, session: &'a SessionId) -> BoxFuture<'a, Result<(), LogError>> {
        Box::pin(async move {
            let forget = Call::script(&FORGET, &self.keys.streams(session))
                .arg(self.keys.heads(session))
                .arg(self.keys.histories(session));
            Ok(self.calls.call(forget.repeatable()).await?)
        })
    }
}
