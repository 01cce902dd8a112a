//! Messages between nodes: a list for each of them.

use std::collections::{BTreeSet, HashMap};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use thinpipe_proto::session::NodeId;
use tokio::time::Instant;

use super::client::{Call, Lua};
use super::failure::Failure;
use super::{RedisStore, milliseconds};
use crate::{
    BoxFuture, DeliverError, Inbox, KEPT_AFTER_DEATH, MAX_WAITING, MAX_WAITING_BYTES, StoreError,
};

/// A script about an inbox.
macro_rules! script {
    ($name:literal) => {
        LazyLock::new(|| {
            Lua::new(concat!(
                include_str!("scripts/inbox.lua"),
                include_str!(concat!("scripts/", $name))
            ))
        })
    };
}

static BEAT: LazyLock<Lua> = LazyLock::new(|| Lua::new(include_str!("scripts/beat.lua")));
static DELIVER: LazyLock<Lua> = script!("deliver.lua");
static WITHDRAW: LazyLock<Lua> = script!("withdraw.lua");
static TAKE: LazyLock<Lua> = script!("take.lua");
static SECRET: LazyLock<Lua> = LazyLock::new(|| Lua::new(include_str!("scripts/secret.lua")));

/// Bytes that one take gives, or else a single message.
const MAX_TAKEN_BYTES: usize = 1 << 20;

/// How long a beat waits for what is not its life sign: less than there is between two.
const KNOWN_WITHIN: Duration = Duration::from_millis(500);

/// How long a secret is kept after the last node that knows it is gone.
const SECRET_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// How often a node that lives prolongs the secrets it knows.
const SECRET_PROLONGED: Duration = Duration::from_secs(3600);

/// What this process remembers between calls.
#[derive(Default)]
pub(super) struct Memory {
    /// How many messages each node has got since it began. The next take says so, and what it does not say it gets
    /// again: no message is lost with an answer.
    got: HashMap<NodeId, u64>,
    /// Secrets that were asked for.
    secrets: BTreeSet<String>,
    prolonged: Option<Instant>,
}

impl RedisStore {
    /// Parts of a call.
    async fn beat_of(&self, node: &NodeId, ttl: Duration) -> Result<(), Failure> {
        let beat = Call::script(&BEAT, &self.keys.node(node))
            .arg(milliseconds(ttl))
            .arg(milliseconds(KEPT_AFTER_DEATH));
        // Side by side: however long the way to Redis is, a beat takes one round trip.
        let (beaten, ()) = tokio::join!(
            self.beats.part::<()>(beat.repeatable()),
            self.be_known(node, ttl),
        );
        beaten
    }

    /// Enters a node into the list of all, and prolongs what it shares with them. In a cluster that may be elsewhere than
    /// its life sign, which alone says that it is alive: it is not waited for when it is away.
    async fn be_known(&self, node: &NodeId, ttl: Duration) {
        let parts = async {
            tokio::join!(
                self.enlist(&self.beats, self.keys.nodes(), node.as_bytes(), ttl),
                self.prolong_secrets(),
            )
        };
        // Whoever asks for the list hears what is the matter with it, and the next beat tries again.
        let _ = tokio::time::timeout(KNOWN_WITHIN, parts).await;
    }

    async fn is_dead(&self, node: &NodeId) -> Result<bool, Failure> {
        let [alive, ..] = self.keys.node(node);
        let exists = Call::command("EXISTS", &[alive]).repeatable();
        Ok(self.beats.part::<i64>(exists).await? == 0)
    }

    async fn dead_of(&self, among: &[NodeId]) -> Result<Vec<NodeId>, Failure> {
        let asked = futures_util::future::join_all(among.iter().map(|node| self.is_dead(node)));
        let (mut dead, mut known, mut failed) = (Vec::new(), 0, None);
        for (node, answer) in among.iter().zip(asked.await) {
            match answer {
                Ok(is_dead) => {
                    known += 1;
                    dead.extend(is_dead.then(|| node.clone()));
                }
                Err(failure) => failed = Some(failure),
            }
        }
        match failed {
            Some(failure) if known == 0 => Err(failure),
            _ => Ok(dead),
        }
    }

    /// Parts of a call.
    async fn prolong_secrets(&self) -> Result<(), Failure> {
        let secrets = self.memory().secrets_to_prolong();
        for name in secrets {
            let prolong = Call::command("PEXPIRE", &[self.keys.secret(&name)]);
            let prolong = prolong.arg(milliseconds(SECRET_KEPT)).repeatable();
            self.beats.part::<()>(prolong).await?;
        }
        Ok(())
    }

    /// Parts of a call.
    async fn leave_of(&self, node: &NodeId) -> Result<(), Failure> {
        self.memory().got.remove(node);
        let keys = self.keys.node(node);
        let (struck, deleted) = tokio::join!(
            self.strike(&self.beats, self.keys.nodes(), node.as_bytes()),
            self.beats.part(Call::command("DEL", &keys).repeatable()),
        );
        struck.and(deleted)
    }

    async fn put(&self, to: &NodeId, message: &Bytes) -> Result<(), DeliverError> {
        let deliver = Call::script(&DELIVER, &self.keys.node(to))
            .arg(&**message)
            .arg(MAX_WAITING)
            .arg(MAX_WAITING_BYTES)
            .arg(milliseconds(KEPT_AFTER_DEATH));
        match self.calls.call::<i64>(deliver).await {
            Ok(-1) => Err(DeliverError::Gone),
            Ok(-2) => Err(DeliverError::Full),
            Ok(_) => Ok(()),
            Err(failure) if failure.is_undone() => Err(DeliverError::Refused(failure.into())),
            Err(failure) => Err(StoreError::from(failure).into()),
        }
    }

    async fn pick(&self, node: &NodeId, limit: usize) -> Result<Vec<Bytes>, Failure> {
        let got = self.memory().got.get(node).copied().unwrap_or(0);
        let take = Call::script(&TAKE, &self.keys.node(node))
            .arg(limit)
            .arg(MAX_TAKEN_BYTES)
            .arg(got)
            .arg(milliseconds(KEPT_AFTER_DEATH));
        let taken: Vec<Vec<u8>> = self.calls.call(take.repeatable()).await?;
        if !taken.is_empty() {
            let got = got + taken.len() as u64;
            self.memory().got.insert(node.clone(), got);
        }
        Ok(taken.into_iter().map(Bytes::from).collect())
    }

    async fn pick_within(
        &self,
        node: &NodeId,
        limit: usize,
        wait: Duration,
    ) -> Result<Vec<Bytes>, Failure> {
        let taken = self.pick(node, limit).await?;
        if !taken.is_empty() || limit == 0 || wait.is_zero() {
            return Ok(taken);
        }
        let [.., bell] = self.keys.node(node);
        self.waiting.first_of(&bell, wait).await?;
        self.pick(node, limit).await
    }

    async fn secret_of(&self, name: &str, proposed: &Bytes) -> Result<Bytes, Failure> {
        let secret = Call::script(&SECRET, &[self.keys.secret(name)])
            .arg(&**proposed)
            .arg(milliseconds(SECRET_KEPT));
        let secret: Vec<u8> = self.calls.call(secret.repeatable()).await?;
        self.memory().secrets.insert(name.to_owned());
        Ok(secret.into())
    }

    /// A poisoned lock means a panic elsewhere; what is remembered is valid between any two operations.
    fn memory(&self) -> MutexGuard<'_, Memory> {
        let memory: &Mutex<Memory> = &self.memory;
        memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn secrets_to_prolong(&mut self) -> Vec<String> {
        let now = Instant::now();
        let last = *self.prolonged.get_or_insert(now);
        if now < last + SECRET_PROLONGED {
            return Vec::new();
        }
        self.prolonged = Some(now);
        self.secrets.iter().cloned().collect()
    }
}

impl Inbox for RedisStore {
    fn beat<'a>(
        &'a self,
        node: &'a NodeId,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move { Ok(self.beats.unguarded(self.beat_of(node, ttl)).await?) })
    }

    fn leave<'a>(&'a self, node: &'a NodeId) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move { Ok(self.beats.unguarded(self.leave_of(node)).await?) })
    }

    fn nodes(&self) -> BoxFuture<'_, Result<Vec<NodeId>, StoreError>> {
        let nodes = self.enlisted(&self.beats, self.keys.nodes());
        Box::pin(self.beats.many(nodes))
    }

    fn dead<'a>(&'a self, among: &'a [NodeId]) -> BoxFuture<'a, Result<Vec<NodeId>, StoreError>> {
        Box::pin(async move { Ok(self.dead_of(among).await?) })
    }

    fn deliver<'a>(
        &'a self,
        to: &'a NodeId,
        message: Bytes,
    ) -> BoxFuture<'a, Result<(), DeliverError>> {
        Box::pin(async move { self.put(to, &message).await })
    }

    fn withdraw<'a>(
        &'a self,
        to: &'a NodeId,
        message: &'a Bytes,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            let withdraw = Call::script(&WITHDRAW, &self.keys.node(to))
                .arg(&**message)
                .arg(milliseconds(KEPT_AFTER_DEATH));
            Ok(self.calls.call(withdraw).await?)
        })
    }

    fn take<'a>(
        &'a self,
        node: &'a NodeId,
        limit: usize,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Vec<Bytes>, StoreError>> {
        Box::pin(async move { Ok(self.pick_within(node, limit, wait).await?) })
    }

    fn secret<'a>(
        &'a self,
        name: &'a str,
        proposed: Bytes,
    ) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        Box::pin(async move { Ok(self.secret_of(name, &proposed).await?) })
    }
}
