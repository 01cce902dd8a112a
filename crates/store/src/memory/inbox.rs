//! Messages between gateways in one process.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use thinpipe_proto::session::NodeId;
use tokio::sync::Notify;

use super::{Clock, ready};
use crate::{
    BoxFuture, DeliverError, Inbox, KEPT_AFTER_DEATH, MAX_WAITING, MAX_WAITING_BYTES, StoreError,
};

/// Inboxes of gateways that share one process, each with an [`Arc`] of this.
pub struct MemoryInbox {
    now: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    nodes: BTreeMap<NodeId, Node>,
    secrets: HashMap<String, Bytes>,
}

struct Node {
    dies: Instant,
    waiting: VecDeque<Bytes>,
    bytes: usize,
    /// Rung when something was put in.
    bell: Arc<Notify>,
}

impl std::fmt::Debug for MemoryInbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryInbox")
            .field("nodes", &self.state().nodes.len())
            .finish_non_exhaustive()
    }
}

impl Default for MemoryInbox {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryInbox {
    /// Without nodes, on the system's clock.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(Instant::now)
    }

    /// Without nodes, on another clock, for tests with virtual time.
    #[must_use]
    pub fn with_clock(now: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        Self {
            now: Box::new(now),
            state: Mutex::default(),
        }
    }

    /// A poisoned lock means a panic elsewhere; the tables are valid between any two operations.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What waits for a node now, or else what rings when something does.
    fn pick(&self, node: &NodeId, limit: usize) -> Result<Vec<Bytes>, Arc<Notify>> {
        let now = (self.now)();
        let mut state = self.state();
        let node = state.node(node, now);
        if node.waiting.is_empty() || limit == 0 {
            return Err(Arc::clone(&node.bell));
        }
        let count = limit.min(node.waiting.len());
        let taken: Vec<_> = node.waiting.drain(..count).collect();
        node.bytes -= taken.iter().map(Bytes::len).sum::<usize>();
        Ok(taken)
    }
}

impl State {
    /// The node of this name; one that never said that it is alive is a dead one.
    fn node(&mut self, id: &NodeId, now: Instant) -> &mut Node {
        self.nodes.entry(id.clone()).or_insert_with(|| Node {
            dies: now,
            waiting: VecDeque::new(),
            bytes: 0,
            bell: Arc::default(),
        })
    }

    fn bury(&mut self, now: Instant) {
        self.nodes
            .retain(|_, node| node.dies + KEPT_AFTER_DEATH > now);
    }
}

impl Node {
    fn put(&mut self, message: Bytes) -> Result<(), DeliverError> {
        if self.waiting.len() >= MAX_WAITING || self.bytes + message.len() > MAX_WAITING_BYTES {
            return Err(DeliverError::Full);
        }
        self.bytes += message.len();
        self.waiting.push_back(message);
        self.bell.notify_one();
        Ok(())
    }

    fn take_back(&mut self, message: &Bytes) -> bool {
        let Some(at) = self.waiting.iter().position(|waiting| waiting == message) else {
            return false;
        };
        self.waiting.remove(at);
        self.bytes -= message.len();
        true
    }
}

impl Inbox for MemoryInbox {
    fn beat<'a>(
        &'a self,
        node: &'a NodeId,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let now = (self.now)();
        let mut state = self.state();
        state.bury(now);
        state.node(node, now).dies = now + ttl;
        ready(Ok(()))
    }

    fn leave<'a>(&'a self, node: &'a NodeId) -> BoxFuture<'a, Result<(), StoreError>> {
        self.state().nodes.remove(node);
        ready(Ok(()))
    }

    fn nodes(&self) -> BoxFuture<'_, Result<Vec<NodeId>, StoreError>> {
        let now = (self.now)();
        let state = self.state();
        let alive = state.nodes.iter().filter(|(_, node)| node.dies > now);
        ready(Ok(alive.map(|(id, _)| id.clone()).collect()))
    }

    fn dead<'a>(&'a self, among: &'a [NodeId]) -> BoxFuture<'a, Result<Vec<NodeId>, StoreError>> {
        let now = (self.now)();
        let state = self.state();
        let lives = |id: &NodeId| state.nodes.get(id).is_some_and(|node| node.dies > now);
        ready(Ok(among.iter().filter(|id| !lives(id)).cloned().collect()))
    }

    fn deliver<'a>(
        &'a self,
        to: &'a NodeId,
        message: Bytes,
    ) -> BoxFuture<'a, Result<(), DeliverError>> {
        let now = (self.now)();
        let mut state = self.state();
        let alive = state.nodes.get_mut(to).filter(|node| node.dies > now);
        ready(match alive {
            Some(node) => node.put(message),
            None => Err(DeliverError::Gone),
        })
    }

    fn withdraw<'a>(
        &'a self,
        to: &'a NodeId,
        message: &'a Bytes,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        let now = (self.now)();
        let mut state = self.state();
        state.bury(now);
        let node = state.nodes.get_mut(to);
        ready(Ok(node.is_some_and(|node| node.take_back(message))))
    }

    fn take<'a>(
        &'a self,
        node: &'a NodeId,
        limit: usize,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Vec<Bytes>, StoreError>> {
        Box::pin(async move {
            let until = tokio::time::Instant::now() + wait;
            loop {
                let bell = match self.pick(node, limit) {
                    Ok(taken) => return Ok(taken),
                    Err(bell) => bell,
                };
                // Nothing is off the inbox while this waits, so that dropping it loses nothing; a ring that came
                // before this is kept by the bell.
                let rung = tokio::time::timeout_at(until, bell.notified()).await;
                if rung.is_err() {
                    return Ok(Vec::new());
                }
            }
        })
    }

    fn secret<'a>(
        &'a self,
        name: &'a str,
        proposed: Bytes,
    ) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        let mut state = self.state();
        let kept = state.secrets.entry(name.to_owned()).or_insert(proposed);
        ready(Ok(kept.clone()))
    }
}
