//! Telling clients that something changed: on the standalone streams of sessions, and on the streams of
//! `subscriptions/listen` (2026-07-28).

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context as TaskContext, Poll};

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};
use thinpipe_proto::bridge::capabilities::{TASKS_EXTENSION, declares_tasks};
use thinpipe_proto::revision::Binding;
use thinpipe_proto::rpc::{Message, RequestId, meta_key, response};
use thinpipe_proto::session::StreamId;
use thinpipe_proto::sse;

use super::RpcError;
use super::handler::ServerInfo;
use super::session::{MAX_SUBSCRIPTION_BYTES, MAX_SUBSCRIPTIONS, SessionState};
use crate::body::{BodyError, BodyStream, Filled};
use crate::server::conversation::{ConversationConfig, notice};
use crate::server::event_buffer::{EventBuffer, EventBufferConfig, EventReader, NotPushed};
use crate::server::{Answer, Server, Session, SseBroadcaster, WeakSessionManager};

/// Tells all clients that may want to know that something changed. Cheap to clone.
///
/// No client is waited for, and none loses its session by it: while a notice waits to be read, another one of the
/// same kind and URI is the same notice. So there are never more of them than a client has subscribed to.
#[derive(Clone)]
pub struct Notifier {
    shared: Arc<Shared>,
}

struct Shared {
    conversation: ConversationConfig,
    can: Can,
    clients: OnceLock<Clients>,
    listeners: Mutex<Listeners>,
}

/// The clients that have sessions.
struct Clients {
    /// Weak, since sessions keep their handler, which keeps this.
    sessions: WeakSessionManager,
    over_sse: SseBroadcaster,
}

/// What the server declared that it tells.
struct Can {
    tools: bool,
    prompts: bool,
    resources: bool,
    updates: bool,
}

#[derive(Default)]
struct Listeners {
    next: u64,
    open: BTreeMap<u64, Listener>,
}

/// One `subscriptions/listen`.
struct Listener {
    id: Value,
    filter: Filter,
    buffer: EventBuffer,
}

/// What changed.
enum Change<'a> {
    Tools,
    Prompts,
    Resources,
    Resource(&'a str),
}

impl Change<'_> {
    fn method(&self) -> &'static str {
        match self {
            Self::Tools => "notifications/tools/list_changed",
            Self::Prompts => "notifications/prompts/list_changed",
            Self::Resources => "notifications/resources/list_changed",
            Self::Resource(_) => "notifications/resources/updated",
        }
    }

    /// Whether the client of a session wants to know.
    fn is_for(&self, state: &SessionState) -> bool {
        let wants = match self {
            Self::Resource(uri) => state.subscribes(uri),
            _ => true,
        };
        wants && state.is_initialized()
    }

    fn message(&self, subscription: Option<&Value>) -> Bytes {
        let method = self.method();
        let mut params = match self {
            Self::Resource(uri) => json!({ "uri": uri }),
            _ => json!({}),
        };
        if let Some(id) = subscription {
            params["_meta"] = json!({ meta_key::SUBSCRIPTION_ID: id });
        }
        notification(method, &params)
    }
}

/// What a client has to read again after nobody could tell it of changes: every list that the server tells changes of,
/// and these resources.
pub(super) fn gap(info: &ServerInfo, uris: &[String]) -> Vec<Message> {
    let lists = [
        ("tools", Change::Tools),
        ("prompts", Change::Prompts),
        ("resources", Change::Resources),
    ];
    let told = |(list, _): &(&str, Change<'_>)| info.can(list, Some("listChanged"));
    let lists = lists.into_iter().filter(told).map(|(_, change)| change);
    let resources = uris.iter().map(|uri| Change::Resource(uri));
    let notices = lists.chain(resources).map(|change| change.message(None));
    notices
        .filter_map(|text| Message::parse(text).ok())
        .collect()
}

impl Notifier {
    pub(super) fn new(conversation: ConversationConfig, info: &ServerInfo) -> Self {
        let can = Can {
            tools: info.can("tools", Some("listChanged")),
            prompts: info.can("prompts", Some("listChanged")),
            resources: info.can("resources", Some("listChanged")),
            updates: info.can("resources", Some("subscribe")),
        };
        let shared = Shared {
            conversation,
            can,
            clients: OnceLock::new(),
            listeners: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    pub(super) fn attach(&self, server: &Server) {
        self.shared.clients.get_or_init(|| Clients {
            sessions: server.sessions().downgrade(),
            over_sse: server.broadcaster().clone(),
        });
    }

    /// The list of tools changed. Tells nobody unless `tools.listChanged` is declared.
    pub async fn tools_changed(&self) {
        if self.shared.can.tools {
            self.tell(&Change::Tools).await;
        }
    }

    /// The list of prompts changed. Tells nobody unless `prompts.listChanged` is declared.
    pub async fn prompts_changed(&self) {
        if self.shared.can.prompts {
            self.tell(&Change::Prompts).await;
        }
    }

    /// The list of resources changed. Tells nobody unless `resources.listChanged` is declared.
    pub async fn resources_changed(&self) {
        if self.shared.can.resources {
            self.tell(&Change::Resources).await;
        }
    }

    /// A resource changed: tells those who subscribed to it. Nobody, unless `resources.subscribe` is declared.
    pub async fn resource_updated(&self, uri: &str) {
        if self.shared.can.updates {
            self.tell(&Change::Resource(uri)).await;
        }
    }

    async fn tell(&self, change: &Change<'_>) {
        let Ok(message) = Message::parse(change.message(None)) else {
            return;
        };
        self.tell_listeners(change, notice::key(&message).as_deref());
        let Some(clients) = self.shared.clients.get() else {
            return;
        };
        let sessions = clients.sessions.upgrade();
        let sessions = sessions.map(|sessions| sessions.list());
        let mut over_sse = Vec::new();
        for session in sessions.into_iter().flatten() {
            if let Some(state) = SessionState::existing(&session).filter(|s| change.is_for(s)) {
                match session.binding() {
                    Binding::HttpSse => over_sse.push((session.id().clone(), message.clone())),
                    _ => tell_session(&session, state, &message),
                }
            }
            // There may be thousands, and others run on this thread too.
            tokio::task::coop::consume_budget().await;
        }
        for sent in clients.over_sse.fan_out(over_sse).await {
            if let Err(error) = sent {
                tracing::debug!(%error, "a client that left is not told of a change");
            }
        }
    }

    /// `key` says what it is about: one notice of it says all while it waits to be read.
    fn tell_listeners(&self, change: &Change<'_>, key: Option<&str>) {
        let listeners = self.lock();
        for listener in listeners.open.values().filter(|l| l.filter.wants(change)) {
            let message = change.message(Some(&listener.id));
            if listener.buffer.try_put(key, message) == Err(NotPushed::Full) {
                // It subscribes anew, and reads everything again.
                tracing::warn!("a client does not read; its subscription ends");
                listener.buffer.close();
            }
        }
    }

    /// Answers `subscriptions/listen`.
    pub(super) fn listen(&self, id: &RequestId, filter: Filter, info: &ServerInfo) -> Answer {
        let subscription: Value = serde_json::from_slice(id.as_json()).unwrap_or_default();
        let meta = json!({ meta_key::SUBSCRIPTION_ID: subscription });
        let acknowledged = notification(
            "notifications/subscriptions/acknowledged",
            &json!({ "notifications": filter.as_json(), "_meta": meta }),
        );
        let end = json!({
            "resultType": "complete",
            "_meta": {
                meta_key::SUBSCRIPTION_ID: subscription,
                meta_key::SERVER_INFO: info.implementation(),
            },
        });
        let buffer = EventBufferConfig {
            retention: std::time::Duration::ZERO,
            ..self.shared.conversation.buffer
        };
        let buffer = EventBuffer::new(buffer, StreamId(1));
        let events = buffer.reader().with_prefix(event(&acknowledged));
        let mut listeners = self.lock();
        let number = listeners.next;
        listeners.next += 1;
        let listener = Listener {
            id: subscription,
            filter,
            buffer,
        };
        listeners.open.insert(number, listener);
        drop(listeners);
        Answer::events(Listening {
            events,
            end: response(id, end.to_string().as_bytes()),
            notifier: self.clone(),
            number,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Listeners> {
        // A poisoned lock means a panic elsewhere; what it guards is valid at every step.
        let listeners = self.shared.listeners.lock();
        listeners.unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell_session(session: &Session, state: &SessionState, message: &Message) {
    if state.conversation.try_say(message, None).is_err() {
        // There is no such error for a change notice.
        tracing::error!(session = ?session.id(), "a change could not be told");
    }
}

impl fmt::Debug for Notifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notifier")
            .field("listeners", &self.lock().open.len())
            .finish_non_exhaustive()
    }
}

/// What a client listens to, as far as the server tells it.
pub(super) struct Filter {
    tools: bool,
    prompts: bool,
    resources: bool,
    uris: HashSet<String>,
}

impl Filter {
    /// # Errors
    /// `-32602` (Invalid params); `-32021` for tasks that the client has not declared (protocol notes 2.3.7).
    pub(super) fn of(message: &Message, info: &ServerInfo) -> Result<Self, RpcError> {
        let asked = message.param("notifications");
        let asked = asked.and_then(|text| serde_json::from_slice::<Value>(&text).ok());
        let Some(asked) = asked.filter(Value::is_object) else {
            return Err(RpcError::invalid_params("notifications is not an object"));
        };
        if asked.get("taskIds").is_some() && !declares_tasks(message) {
            let required = json!({ "extensions": { (TASKS_EXTENSION): {} } });
            return Err(RpcError::missing_capability(required));
        }
        let wants = |name: &str| asked[name] == true;
        let uris = asked["resourceSubscriptions"]
            .as_array()
            .map_or(&[][..], Vec::as_slice);
        if uris.len() > MAX_SUBSCRIPTIONS {
            let text = format!("more than {MAX_SUBSCRIPTIONS} resources");
            return Err(RpcError::invalid_params(text));
        }
        let uris = uris.iter().filter_map(Value::as_str).map(str::to_owned);
        let uris: HashSet<_> = uris.collect();
        if uris.iter().map(String::len).sum::<usize>() > MAX_SUBSCRIPTION_BYTES {
            let text = format!("resources of more than {MAX_SUBSCRIPTION_BYTES} bytes");
            return Err(RpcError::invalid_params(text));
        }
        Ok(Self {
            tools: wants("toolsListChanged") && info.can("tools", Some("listChanged")),
            prompts: wants("promptsListChanged") && info.can("prompts", Some("listChanged")),
            resources: wants("resourcesListChanged") && info.can("resources", Some("listChanged")),
            uris: if info.can("resources", Some("subscribe")) {
                uris
            } else {
                HashSet::new()
            },
        })
    }

    fn wants(&self, change: &Change<'_>) -> bool {
        match change {
            Change::Tools => self.tools,
            Change::Prompts => self.prompts,
            Change::Resources => self.resources,
            Change::Resource(uri) => self.uris.contains(*uri),
        }
    }

    fn as_json(&self) -> Value {
        let mut honoured = json!({});
        for (name, on) in [
            ("toolsListChanged", self.tools),
            ("promptsListChanged", self.prompts),
            ("resourcesListChanged", self.resources),
        ] {
            if on {
                honoured[name] = true.into();
            }
        }
        if !self.uris.is_empty() {
            let mut uris: Vec<_> = self.uris.iter().collect();
            uris.sort_unstable();
            honoured["resourceSubscriptions"] = json!(uris);
        }
        honoured
    }
}

/// The stream of one `subscriptions/listen`.
struct Listening {
    events: EventReader,
    /// The response, which is the last event if the server ends it.
    end: Bytes,
    notifier: Notifier,
    number: u64,
}

impl BodyStream for Listening {
    fn poll_fill(
        &mut self,
        cx: &mut TaskContext<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<Result<Filled, BodyError>> {
        self.events.poll_fill(cx, out)
    }

    fn at_boundary(&self) -> bool {
        self.events.at_boundary()
    }

    fn shut_down(&mut self, force: bool, out: &mut Vec<u8>) -> bool {
        if !self.at_boundary() {
            return force;
        }
        out.extend_from_slice(&event(&self.end));
        true
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.notifier.lock().open.remove(&self.number);
    }
}

fn notification(method: &str, params: &Value) -> Bytes {
    let message = json!({ "jsonrpc": "2.0", "method": method, "params": params });
    Bytes::from(message.to_string())
}

fn event(message: &Bytes) -> Bytes {
    let mut event = BytesMut::new();
    sse::encode(&mut event, Some(b"message"), None, None, Some(message));
    event.freeze()
}
