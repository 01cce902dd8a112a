//! What a handler can know about a request and do in its course.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Map, Value, json};
use thinpipe_proto::revision::{Binding, Revision};
use thinpipe_proto::rpc::{Kind, Message, RequestId};
use thinpipe_proto::session::Principal;
use tokio_util::sync::CancellationToken;

use super::LogLevel;
use super::{AskError, InputRequest};
use crate::io::now;
use crate::server::Session;
use crate::server::conversation::{Conversation, Outlet};

/// How long a person or a model may take to answer, if the handler does not say so.
const ANSWER_WAIT: Duration = Duration::from_secs(300);

/// How long a client may take to answer a `ping`.
const PING_WAIT: Duration = Duration::from_secs(30);

/// A request, from who sent it to what can be said before its answer. Cheap to clone. When the request has
/// been answered or cancelled, nothing more can be said.
#[derive(Clone)]
pub struct Context {
    inner: Arc<Inner>,
    input: Arc<Input>,
}

struct Inner {
    about: Box<About>,
    outlet: Option<Outlet>,
    cancelled: CancellationToken,
    log_level: Option<LogLevel>,
    progress: Option<Progress>,
    pace: Pace,
    /// The stream is to be left to be resumed; the client is to wait for so long.
    leave: Mutex<Option<Duration>>,
}

/// Who sent a request, and how.
pub(super) struct About {
    pub(super) revision: Revision,
    pub(super) binding: Binding,
    pub(super) principal: Principal,
    pub(super) headers: HeaderMap,
    pub(super) client: Option<IpAddr>,
    pub(super) session: Option<Arc<Session>>,
    pub(super) conversation: Option<Arc<Conversation>>,
    pub(super) capabilities: Arc<Value>,
    pub(super) client_info: Arc<Value>,
}

/// The token under which a client wants to hear of progress, and how far it was.
struct Progress {
    token: Value,
    last: Mutex<f64>,
}

/// What a client gave in answer to [`Outcome::InputRequired`](super::Outcome::InputRequired).
#[derive(Debug, Default)]
pub(super) struct Input {
    pub(super) responses: Map<String, Value>,
    pub(super) state: Option<String>,
}

/// When the handler was last heard of.
struct Pace {
    begun: Instant,
    last_ms: AtomicU64,
    /// Questions that wait for their answer.
    asking: AtomicUsize,
}

impl Context {
    /// `outlet` is where a request is answered; nothing is said about a notification.
    pub(super) fn new(
        about: Box<About>,
        message: &Message,
        log_level: Option<LogLevel>,
        outlet: Option<Outlet>,
    ) -> Self {
        let token = message.meta("progressToken");
        let token = token.and_then(|token| serde_json::from_slice(&token).ok());
        let cancelled = match &about.session {
            Some(session) => session.closed().child_token(),
            None => CancellationToken::new(),
        };
        let inner = Inner {
            about,
            outlet,
            cancelled,
            log_level,
            progress: token.map(|token| Progress {
                token,
                last: Mutex::new(f64::NEG_INFINITY),
            }),
            pace: Pace {
                begun: now(),
                last_ms: AtomicU64::new(0),
                asking: AtomicUsize::new(0),
            },
            leave: Mutex::new(None),
        };
        Self {
            inner: Arc::new(inner),
            input: Arc::default(),
        }
    }

    pub(super) fn with_input(&self, input: Input) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            input: Arc::new(input),
        }
    }

    /// The revision the request is written in.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.inner.about.revision
    }

    /// How it came.
    #[must_use]
    pub fn binding(&self) -> Binding {
        self.inner.about.binding
    }

    /// Who sent it.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.inner.about.principal
    }

    /// The headers it came with. Where several nodes share a store, and it came to another one, these are only what is
    /// [carried](thinpipe_proto::header::carried_request_header) between nodes: no credentials, and none that nobody
    /// knows.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.inner.about.headers
    }

    /// Address of the client, if it is known.
    #[must_use]
    pub fn client(&self) -> Option<IpAddr> {
        self.inner.about.client
    }

    /// The session it belongs to; none in 2026-07-28.
    #[must_use]
    pub fn session(&self) -> Option<&Arc<Session>> {
        self.inner.about.session.as_ref()
    }

    /// What the client declared that it can do: an object.
    #[must_use]
    pub fn client_capabilities(&self) -> &Value {
        &self.inner.about.capabilities
    }

    /// Name and version of the client as it says; for display only.
    #[must_use]
    pub fn client_info(&self) -> &Value {
        &self.inner.about.client_info
    }

    /// Cancelled when the request is (by `notifications/cancelled`, by the end of its session, or in 2026-07-28
    /// because the client left), and when it has been answered: for what a handler started beside itself.
    #[must_use]
    pub fn cancelled(&self) -> &CancellationToken {
        &self.inner.cancelled
    }

    /// What the client answered to the question of this key.
    #[must_use]
    pub fn input(&self, key: &str) -> Option<&Value> {
        self.input.responses.get(key)
    }

    /// All that the client answered.
    #[must_use]
    pub fn inputs(&self) -> &Map<String, Value> {
        &self.input.responses
    }

    /// The state that came back from the client with its answers. It may have been changed there.
    #[must_use]
    pub fn request_state(&self) -> Option<&str> {
        self.input.state.as_deref()
    }

    /// Tells how far it is, if the client wants to know. It only ever gets further: what is no more than was
    /// told before is not told.
    pub async fn progress(&self, progress: f64, total: Option<f64>, message: Option<&str>) {
        self.inner.pace.beat();
        let Some(told) = &self.inner.progress else {
            return;
        };
        {
            let mut last = told.last.lock().unwrap_or_else(PoisonError::into_inner);
            if !progress.is_finite() || progress <= *last {
                tracing::debug!(progress, last = *last, "progress that does not progress");
                return;
            }
            *last = progress;
        }
        let mut params = json!({ "progressToken": told.token, "progress": number(progress) });
        if let Some(total) = total.filter(|total| total.is_finite()) {
            params["total"] = number(total);
        }
        // 2025-03-26 and later have a text too.
        if let Some(text) = message.filter(|_| self.revision() >= Revision::V2025_03_26) {
            params["message"] = text.into();
        }
        self.notify("notifications/progress", &params).await;
    }

    /// Tells a log message, if the client wants those of this level: as it set it for the session
    /// (`logging/setLevel`; until then `info`), or for this request (2026-07-28).
    pub async fn log(&self, level: LogLevel, logger: Option<&str>, data: impl Into<Value>) {
        self.inner.pace.beat();
        if self.inner.log_level.is_none_or(|wanted| level < wanted) {
            return;
        }
        let mut params = json!({ "level": level.as_str(), "data": data.into() });
        if let Some(logger) = logger {
            params["logger"] = logger.into();
        }
        self.notify("notifications/message", &params).await;
    }

    /// Sends a notification that belongs to this request. Waits while the client does not read. When nobody
    /// reads any more, it is dropped: the request is cancelled then, or its client left for good.
    pub async fn notify(&self, method: &str, params: &Value) {
        self.inner.pace.beat();
        let message = json!({ "jsonrpc": "2.0", "method": method, "params": params });
        if let Some(outlet) = &self.inner.outlet
            && outlet
                .notify(Bytes::from(message.to_string()))
                .await
                .is_err()
        {
            tracing::debug!(method, "nobody reads what is said about a request");
        }
        self.inner.pace.beat();
    }

    /// Asks the client and waits for its answer, `wait` at most. Only what the client declared can be asked.
    ///
    /// # Errors
    /// [`AskError`]; in 2026-07-28 always, since there clients cannot be asked in the course of a request.
    pub async fn ask(&self, request: &InputRequest, wait: Duration) -> Result<Value, AskError> {
        let conversation = self.inner.about.conversation.as_ref();
        let conversation = conversation.ok_or(AskError::Stateless)?;
        if let Some(required) = self.undeclared(request) {
            return Err(AskError::Undeclared(required));
        }
        let _asking = self.inner.pace.asking();
        let params = request.params.to_string();
        let related = self.inner.outlet.as_ref().map(Outlet::request);
        let asked = conversation.ask(&request.method, params.as_bytes(), related, wait);
        answer_in(&asked.await?)
    }

    /// Asks the user to fill in a form; the answer is `{action, content}`. 5 min at most.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub async fn elicit(&self, message: &str, schema: &Value) -> Result<Value, AskError> {
        self.ask(&InputRequest::form(message, schema), ANSWER_WAIT)
            .await
    }

    /// Asks the client's model (`sampling/createMessage`). 5 min at most.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub async fn sample(&self, params: Value) -> Result<Value, AskError> {
        let method = "sampling/createMessage".to_owned();
        self.ask(&InputRequest { method, params }, ANSWER_WAIT)
            .await
    }

    /// Asks which folders the client works on (`roots/list`). 5 min at most.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub async fn roots(&self) -> Result<Value, AskError> {
        let (method, params) = ("roots/list".to_owned(), json!({}));
        self.ask(&InputRequest { method, params }, ANSWER_WAIT)
            .await
    }

    /// Asks whether the client is still there. 30 s at most.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub async fn ping(&self) -> Result<(), AskError> {
        let (method, params) = ("ping".to_owned(), json!({}));
        let request = InputRequest { method, params };
        self.ask(&request, PING_WAIT).await.map(drop)
    }

    /// Ends the connection that carries the answer and lets the client come back for it after `retry`, so that a
    /// long call occupies none (2025-11-25, "Resumability"). Returns whether that is possible: the stream has to
    /// be [resumable](super::config::HttpTransportConfig::resumability), and the session of 2025-11-25.
    pub fn leave_stream(&self, retry: Duration) -> bool {
        let Some(outlet) = &self.inner.outlet else {
            return false;
        };
        if self.binding() != Binding::Sessions
            || !self.revision().primes_streams()
            || !outlet.resumes()
        {
            return false;
        }
        *self.lock_leave() = Some(retry);
        outlet.begin_stream();
        true
    }

    /// Which capabilities the client would have to declare to be asked this; `None`: it has.
    pub(super) fn undeclared(&self, request: &InputRequest) -> Option<Value> {
        let declared = self.client_capabilities();
        let (capability, setting) = match &*request.method {
            "sampling/createMessage" => ("sampling", None),
            "roots/list" => ("roots", None),
            "elicitation/create" if request.params["mode"] == "url" => ("elicitation", Some("url")),
            "elicitation/create" => ("elicitation", Some("form")),
            _ => return None,
        };
        let has = &declared[capability];
        let can = match setting {
            _ if !has.is_object() => false,
            // `{}` is what clients of revisions with forms only say.
            Some("form") => has["form"].is_object() || !has["url"].is_object(),
            Some(setting) => has[setting].is_object(),
            None => true,
        };
        (!can).then(|| match setting {
            Some(setting) => json!({ capability: { setting: {} } }),
            None => json!({ capability: {} }),
        })
    }

    pub(super) fn outlet(&self) -> Option<&Outlet> {
        self.inner.outlet.as_ref()
    }

    pub(super) fn request_id(&self) -> Option<&RequestId> {
        self.outlet().map(Outlet::request)
    }

    /// When a handler that is not heard of has been silent for too long.
    pub(super) fn deadline(&self, patience: Duration) -> Instant {
        self.inner.pace.deadline(patience)
    }

    /// How long the client is to wait, if its stream is to be left.
    pub(super) fn take_leave(&self) -> Option<Duration> {
        self.lock_leave().take()
    }

    fn lock_leave(&self) -> std::sync::MutexGuard<'_, Option<Duration>> {
        // A poisoned lock means a panic elsewhere; what it guards is valid at every step.
        self.inner
            .leave
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whole numbers are written without a fraction, as people and most servers do.
fn number(value: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= EXACT {
        return Value::from(value as i64);
    }
    Value::from(value)
}

/// The result in an answer of the client.
fn answer_in(message: &Message) -> Result<Value, AskError> {
    let read = |text: Option<Bytes>| -> Value {
        let text = text.unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    };
    if message.kind() == Kind::Response {
        return Ok(read(message.result()));
    }
    let error = read(message.error());
    Err(AskError::Refused {
        code: error["code"].as_i64().unwrap_or_default(),
        message: error["message"].as_str().unwrap_or_default().to_owned(),
    })
}

impl Pace {
    fn beat(&self) {
        let since = now().saturating_duration_since(self.begun).as_millis();
        let since = u64::try_from(since).unwrap_or(u64::MAX);
        self.last_ms.store(since, Ordering::Relaxed);
    }

    fn deadline(&self, patience: Duration) -> Instant {
        if self.asking.load(Ordering::Relaxed) > 0 {
            return now() + patience;
        }
        self.begun + Duration::from_millis(self.last_ms.load(Ordering::Relaxed)) + patience
    }

    fn asking(&self) -> Asking<'_> {
        self.asking.fetch_add(1, Ordering::Relaxed);
        Asking(self)
    }
}

/// A question waits for its answer until this is dropped.
struct Asking<'a>(&'a Pace);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.beat();
        self.0.asking.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("revision", &self.revision())
            .field("binding", &self.binding())
            .field("request", &self.request_id())
            .finish_non_exhaustive()
    }
}
