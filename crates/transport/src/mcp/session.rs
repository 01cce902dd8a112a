//! What the library keeps of a session with `initialize`.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use thinpipe_proto::rpc::RequestId;
use tokio_util::sync::CancellationToken;

use super::LogLevel;
use super::RpcError;
use crate::server::Session;
use crate::server::conversation::{Conversation, ConversationConfig};

/// Resources that one session subscribes to at most.
pub(super) const MAX_SUBSCRIPTIONS: usize = 1_000;

/// Bytes of their URIs: a notice of each of them finds room beside the others while the client does not read.
pub(super) const MAX_SUBSCRIPTION_BYTES: usize = 512 << 10;

/// That of a client that has set none.
pub(super) const DEFAULT_LEVEL: LogLevel = LogLevel::Info;

/// The state of one session.
pub(super) struct SessionState {
    pub(super) conversation: Arc<Conversation>,
    pub(super) capabilities: Arc<Value>,
    pub(super) client_info: Arc<Value>,
    level: AtomicU8,
    initialized: AtomicBool,
    /// Requests that are being answered; the server side bounds them.
    running: Mutex<HashMap<RequestId, CancellationToken>>,
    subscriptions: Mutex<HashSet<String>>,
    storing: Mutex<Storing>,
}

/// What a client has set up is stored by one at a time.
#[derive(Debug, Default)]
struct Storing {
    is_running: bool,
    is_due: bool,
}

impl SessionState {
    /// That of this session; made now if there is none, as for a session that another node opened.
    pub(super) fn of<'a>(session: &'a Session, config: &ConversationConfig) -> Option<&'a Self> {
        session.state(|| Self::new(session, config, true))
    }

    /// That of this session, if there is one: it has been initialized here, or used.
    pub(super) fn existing(session: &Session) -> Option<&Self> {
        session.existing_state()
    }

    pub(super) fn new(session: &Session, config: &ConversationConfig, initialized: bool) -> Self {
        let params = serde_json::from_slice(&session.initialize_params());
        let mut params: Value = params.unwrap_or_default();
        let conversation = match session.outlet() {
            Some(stream) => Conversation::beside(*config, stream),
            None => Conversation::in_session(*config, session),
        };
        Self {
            conversation,
            capabilities: Arc::new(params["capabilities"].take()),
            client_info: Arc::new(params["clientInfo"].take()),
            level: AtomicU8::new(DEFAULT_LEVEL as u8),
            initialized: AtomicBool::new(initialized),
            running: Mutex::default(),
            subscriptions: Mutex::default(),
            storing: Mutex::default(),
        }
    }

    /// As it was set up in another process.
    pub(super) fn set_up(&self, level: LogLevel, uris: Vec<String>) {
        self.set_level(level);
        lock(&self.subscriptions).extend(uris);
    }

    /// What is subscribed to, in no order.
    pub(super) fn uris(&self) -> Vec<String> {
        lock(&self.subscriptions).iter().cloned().collect()
    }

    /// There is something to store. `true`: nobody does yet.
    pub(super) fn begins_storing(&self) -> bool {
        let mut storing = lock(&self.storing);
        storing.is_due = true;
        !std::mem::replace(&mut storing.is_running, true)
    }

    /// It was not stored: there still is.
    pub(super) fn has_not_stored(&self) {
        lock(&self.storing).is_due = true;
    }

    /// Whether there still is, for whoever does.
    pub(super) fn has_to_store(&self) -> bool {
        let mut storing = lock(&self.storing);
        storing.is_running = std::mem::take(&mut storing.is_due);
        storing.is_running
    }

    pub(super) fn level(&self) -> Option<LogLevel> {
        LogLevel::from_number(self.level.load(Ordering::Relaxed))
    }

    pub(super) fn set_level(&self, level: LogLevel) {
        self.level.store(level as u8, Ordering::Relaxed);
    }

    pub(super) fn set_initialized(&self) {
        self.initialized.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_initialized(&self) -> bool {
        self.initialized.load(Ordering::Relaxed)
    }

    /// Registers a request, so that it can be cancelled, until the guard is dropped.
    pub(super) fn begin<'a>(
        &'a self,
        id: &RequestId,
        cancelled: &CancellationToken,
    ) -> Running<'a> {
        lock(&self.running).insert(id.clone(), cancelled.clone());
        Running {
            state: self,
            id: id.clone(),
        }
    }

    /// Cancels a request, if it still runs.
    pub(super) fn cancel(&self, id: &RequestId) {
        let running = lock(&self.running).get(id).cloned();
        if let Some(token) = running {
            token.cancel();
        }
    }

    /// # Errors
    /// There are too many.
    pub(super) fn subscribe(&self, uri: String) -> Result<(), RpcError> {
        let mut subscriptions = lock(&self.subscriptions);
        if subscriptions.contains(&uri) {
            return Ok(());
        }
        let bytes: usize = subscriptions.iter().map(String::len).sum();
        if bytes + uri.len() > MAX_SUBSCRIPTION_BYTES {
            let text = format!("the URIs subscribed to exceed {MAX_SUBSCRIPTION_BYTES} bytes");
            return Err(RpcError::internal(text).reason("too_many_subscriptions"));
        }
        if subscriptions.len() >= MAX_SUBSCRIPTIONS {
            let text = format!("{MAX_SUBSCRIPTIONS} resources are subscribed to already");
            return Err(RpcError::internal(text).reason("too_many_subscriptions"));
        }
        subscriptions.insert(uri);
        Ok(())
    }

    pub(super) fn unsubscribe(&self, uri: &str) {
        lock(&self.subscriptions).remove(uri);
    }

    pub(super) fn subscribes(&self, uri: &str) -> bool {
        lock(&self.subscriptions).contains(uri)
    }
}

/// A request that is being answered.
pub(super) struct Running<'a> {
    state: &'a SessionState,
    id: RequestId,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        lock(&self.state.running).remove(&self.id);
    }
}

/// A poisoned lock means a panic elsewhere; what it guards here is valid at every step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
