//! The protocol around a [`MessageHandler`]: what every server does alike.

use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use thinpipe_proto::bridge::cancelled_of;
use thinpipe_proto::revision::{Binding, Revision};
use thinpipe_proto::rpc::{Kind, Message, RequestId, code, meta_key};

use super::LogLevel;
use super::call::{Begun, guarded};
use super::config::HttpTransportConfig;
use super::context::{About, Context};
use super::handler::{MessageHandler, Request, ServerInfo};
use super::session::SessionState;
use super::shape::Shape;
use super::subscription::{Filter, Notifier};
use super::{RpcError, methods};
use crate::body::{Body, BoxFuture};
use crate::server::conversation::{ConversationConfig, ListenError, Outlet};
use crate::server::{
    Adoption, Answer, Content, Exchange, Handler, Inbound, Negotiated, Server, Session, SessionEnd,
    SessionManager, SessionSlot, WeakSessionManager,
};

mod rounds;

use rounds::Call;

/// A handler with the protocol around it.
pub(super) struct Service<H> {
    pub(super) handler: H,
    pub(super) info: ServerInfo,
    pub(super) notifier: Notifier,
    patience: Duration,
    pub(super) conversation: ConversationConfig,
    /// Weak, since sessions keep their handler.
    pub(super) sessions: OnceLock<WeakSessionManager>,
}

impl<H: MessageHandler> Service<H> {
    pub(super) fn new(handler: H, config: &HttpTransportConfig) -> Arc<Self> {
        let info = handler.info();
        let conversation = ConversationConfig {
            buffer: config.event_buffer(),
            ..ConversationConfig::default()
        };
        Arc::new(Self {
            handler,
            notifier: Notifier::new(conversation, &info),
            info,
            patience: config.request_timeout,
            conversation,
            sessions: OnceLock::new(),
        })
    }

    /// Tells it the sessions of the server it runs in. It may be mounted there at several places.
    pub(super) fn attach(&self, server: &Server) {
        let sessions = server.sessions();
        let attached = self.sessions.get_or_init(|| sessions.downgrade());
        if !attached.is_of(sessions) {
            tracing::warn!(
                "a handler is mounted in two servers; in the second one nobody is notified"
            );
            return;
        }
        self.notifier.attach(server);
    }

    /// Of the server it runs in, unless that is gone.
    pub(super) fn sessions(&self) -> Option<SessionManager> {
        self.sessions.get()?.upgrade()
    }

    async fn respond_to(self: Arc<Self>, exchange: Exchange) -> Answer {
        let (inbound, about) = split(exchange);
        match inbound {
            // What is rare has a future of its own: in this one, every call would pay for its size.
            Inbound::Initialize(message, slot) => Box::pin(self.initialize(&message, slot)).await,
            Inbound::Message(message, session) if message.kind() == Kind::Notification => {
                Box::pin(self.notification(message, session, about)).await
            }
            Inbound::Message(message, session) => match self.in_session(message, session, about) {
                Ok(begun) => begun.answer().await,
                Err(answer) => answer,
            },
            Inbound::Stateless(message) => match self.stateless(message, about) {
                Ok(begun) => begun.answer().await,
                Err(answer) => answer,
            },
            Inbound::StatelessNotification(_) => Answer::accepted(),
            Inbound::Listen(session, last) => {
                let state = SessionState::of(&session, &self.conversation);
                let Some(state) = state else {
                    return foreign_session(None);
                };
                if session.binding() == Binding::HttpSse {
                    // There is one stream for everything, and it is open.
                    return Answer::on_stream();
                }
                let listening = state.conversation.listen(last.as_ref()).await;
                listening.unwrap_or_else(not_listening)
            }
            Inbound::Terminate(_) => Answer::new(StatusCode::OK, Content::Other(None), Body::Empty),
        }
    }

    async fn initialize(&self, message: &Message, slot: SessionSlot) -> Answer {
        let Some(id) = message.id() else {
            let error = RpcError::new(code::INVALID_REQUEST, "initialize is a request");
            let error = error.reason("bad_request");
            return Answer {
                status: StatusCode::BAD_REQUEST,
                ..refuse(message, &error, Revision::NEWEST_LEGACY)
            };
        };
        let asked = message.param_str("protocolVersion").unwrap_or_default();
        let known = Revision::from_bytes(asked.as_bytes()).filter(|known| !known.is_modern());
        let revision = known.unwrap_or(Revision::NEWEST_LEGACY);
        let negotiated = Negotiated {
            revision,
            initialize_params: message.params().unwrap_or_default(),
            attachment: Bytes::new(),
            held: true,
        };
        match slot.open(negotiated).await {
            Ok(session) => {
                session.state(|| SessionState::new(&session, &self.conversation, false));
                let result = self.info.for_initialize(revision.as_str()).to_string();
                let response = thinpipe_proto::rpc::response(id, result.as_bytes());
                Answer::json(response).with_session(session.id().clone())
            }
            Err(error) => {
                tracing::warn!(%error, "a session cannot be opened");
                let (status, text) = (StatusCode::SERVICE_UNAVAILABLE, "no session can be opened");
                Answer::error(
                    status,
                    Some(id),
                    code::INTERNAL_ERROR,
                    text,
                    Some(NO_SESSION),
                )
            }
        }
    }

    /// Begins to answer a request in a session. An `Err` is an answer already.
    fn in_session(
        self: Arc<Self>,
        message: Message,
        session: Option<Arc<Session>>,
        mut about: Box<About>,
    ) -> Result<Begun, Answer> {
        let state = self.state(&message, session.as_ref(), &mut about)?;
        if message.kind() == Kind::Request {
            let level = state.map_or(Some(LogLevel::Info), SessionState::level);
            let level = level.filter(|_| self.info.can("logging", None));
            return Self::request(&self, message, about, level);
        }
        if !state.is_some_and(|state| state.conversation.answered(&message)) {
            tracing::debug!(id = ?message.id(), "an answer that nobody waits for");
        }
        Err(Answer::accepted())
    }

    /// What is kept of the session, of which `about` is told. An `Err` is an answer.
    fn state<'a>(
        &self,
        message: &Message,
        session: Option<&'a Arc<Session>>,
        about: &mut About,
    ) -> Result<Option<&'a SessionState>, Answer> {
        let Some(session) = session else {
            return Ok(None);
        };
        let state = SessionState::of(session, &self.conversation);
        let state = state.ok_or_else(|| foreign_session(message.id()))?;
        about.conversation = Some(Arc::clone(&state.conversation));
        about.capabilities = Arc::clone(&state.capabilities);
        about.client_info = Arc::clone(&state.client_info);
        about.binding = session.binding();
        about.session = Some(Arc::clone(session));
        Ok(Some(state))
    }

    async fn notification(
        self: Arc<Self>,
        message: Message,
        session: Option<Arc<Session>>,
        mut about: Box<About>,
    ) -> Answer {
        let state = match self.state(&message, session.as_ref(), &mut about) {
            Ok(state) => state,
            Err(answer) => return answer,
        };
        match message.method() {
            Some("notifications/initialized") => {
                if let Some(state) = state {
                    state.set_initialized();
                }
            }
            Some("notifications/cancelled") => {
                if let (Some(state), Some(id)) = (state, cancelled_of(&message)) {
                    state.cancel(&id);
                }
            }
            _ => {
                let context = Context::new(about, &message, None, None);
                let taken = self
                    .handler
                    .notification(Request::new(message), context.clone());
                if let Err(ended) = guarded(pin!(taken), &context, self.patience).await {
                    tracing::warn!(?ended, "a notification was not handled to its end");
                }
            }
        }
        Answer::accepted()
    }

    /// Begins to answer a request outside of sessions. An `Err` is an answer already.
    fn stateless(
        self: Arc<Self>,
        message: Message,
        mut about: Box<About>,
    ) -> Result<Begun, Answer> {
        let member = |key: &str| -> Value {
            let text = message.meta_json(key);
            text.and_then(|text| serde_json::from_slice(text).ok())
                .unwrap_or_default()
        };
        about.capabilities = Arc::new(member(meta_key::CLIENT_CAPABILITIES));
        about.client_info = Arc::new(member(meta_key::CLIENT_INFO));
        let level = member(meta_key::LOG_LEVEL);
        let level = match &level {
            Value::Null => None,
            named => {
                let known = named.as_str().and_then(LogLevel::from_name);
                let Some(known) = known else {
                    let error = RpcError::invalid_params("logLevel is none of the known ones");
                    return Err(refuse(&message, &error, about.revision));
                };
                Some(known).filter(|_| self.info.can("logging", None))
            }
        };
        Self::request(&self, message, about, level)
    }

    fn request(
        this: &Arc<Self>,
        message: Message,
        about: Box<About>,
        level: Option<LogLevel>,
    ) -> Result<Begun, Answer> {
        let Some(id) = message.id().cloned() else {
            return Err(Answer::accepted());
        };
        let revision = about.revision;
        let method = message.method().unwrap_or_default();
        if let Err(error) = methods::check(&this.info, revision, method) {
            return Err(refuse(&message, &error, revision));
        }
        if method == "subscriptions/listen" {
            return Err(match Filter::of(&message, &this.info) {
                Ok(filter) => this.notifier.listen(&id, filter, &this.info),
                Err(error) => refuse(&message, &error, revision),
            });
        }
        if let Some(done) = this.for_every_server(&message, about.session.as_ref(), revision) {
            return Err(match done {
                Ok(result) => {
                    let response = this.shape(revision, method).complete(&id, result);
                    Answer::json(response.message)
                }
                Err(error) => refuse(&message, &error, revision),
            });
        }
        let (outlet, inlet) = match &about.conversation {
            Some(conversation) => conversation.begin(&id),
            None => Outlet::stateless(&id, &this.conversation),
        };
        let sessions = about.session.is_some().then(|| this.sessions()).flatten();
        let context = Context::new(about, &message, level, Some(outlet));
        let call = Call {
            message,
            id,
            context: context.clone(),
        };
        Ok(Begun {
            work: Box::pin(Arc::clone(this).work(call)),
            inlet,
            context,
            sessions,
        })
    }

    /// What is answered for every server; `None`: something else.
    fn for_every_server(
        &self,
        message: &Message,
        session: Option<&Arc<Session>>,
        revision: Revision,
    ) -> Option<Result<Value, RpcError>> {
        let state = || session.and_then(|session| SessionState::of(session, &self.conversation));
        let keep = || {
            if let Some(session) = session {
                self.keep(session);
            }
        };
        let text = |name: &str| {
            let text = message.param_str(name);
            text.ok_or_else(|| RpcError::invalid_params(format!("{name} is not a text")))
        };
        Some(match message.method()? {
            "ping" => Ok(json!({})),
            "server/discover" if revision.is_modern() => {
                Ok(self.info.for_discover(&methods::revisions()))
            }
            "logging/setLevel" => text("level").and_then(|name| {
                let unknown = || RpcError::invalid_params(format!("there is no level {name:?}"));
                let level = LogLevel::from_name(&name).ok_or_else(unknown)?;
                if let Some(state) = state() {
                    state.set_level(level);
                    keep();
                }
                Ok(json!({}))
            }),
            "resources/subscribe" => text("uri").and_then(|uri| {
                state().map_or(Ok(()), |state| state.subscribe(uri))?;
                keep();
                Ok(json!({}))
            }),
            "resources/unsubscribe" => text("uri").map(|uri| {
                if let Some(state) = state() {
                    state.unsubscribe(&uri);
                    keep();
                }
                json!({})
            }),
            _ => return None,
        })
    }

    fn shape<'a>(&'a self, revision: Revision, method: &'a str) -> Shape<'a> {
        Shape {
            info: &self.info,
            revision,
            method,
        }
    }
}

impl<H: MessageHandler> Handler for Service<H> {
    fn handle(self: Arc<Self>, exchange: Exchange) -> BoxFuture<Answer> {
        Box::pin(self.respond_to(exchange))
    }

    fn adopt(self: Arc<Self>, session: Arc<Session>) -> BoxFuture<Adoption> {
        Box::pin(async move { self.take_over(&session).await })
    }

    fn can_hand_over(&self, session: &Session) -> bool {
        self.goes_on_elsewhere(session)
    }

    fn session_ended(self: Arc<Self>, session: Arc<Session>, why: SessionEnd) -> BoxFuture<()> {
        if let Some(state) = SessionState::existing(&session) {
            if why == SessionEnd::Forgotten {
                state.conversation.hand_over();
            }
            state.conversation.close();
        }
        Box::pin(std::future::ready(()))
    }
}

/// What a client wants, and who it is.
fn split(exchange: Exchange) -> (Inbound, Box<About>) {
    let client = exchange.client();
    let binding = match &exchange.inbound {
        Inbound::Stateless(_) | Inbound::StatelessNotification(_) => Binding::Stateless,
        _ => Binding::Sessions,
    };
    let about = About {
        revision: exchange.revision,
        binding,
        principal: exchange.principal,
        headers: exchange.headers,
        client,
        session: None,
        conversation: None,
        capabilities: Arc::default(),
        client_info: Arc::default(),
    };
    // Boxed, since futures hand it on.
    (exchange.inbound, Box::new(about))
}

fn refuse(message: &Message, error: &RpcError, revision: Revision) -> Answer {
    let data = error.data();
    let (status, code) = (error.status(revision), error.code(revision));
    Answer::error(status, message.id(), code, error.message(), data.as_deref())
}

fn not_listening(error: ListenError) -> Answer {
    let (status, reason) = match error {
        ListenError::Contended => (StatusCode::CONFLICT, r#"{"reason":"stream_contended"}"#),
        ListenError::UnknownEvent => (StatusCode::BAD_REQUEST, r#"{"reason":"unknown_event"}"#),
        ListenError::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, NO_STORE),
    };
    let mut answer = Answer::error(
        status,
        None,
        code::SERVER_ERROR,
        &error.to_string(),
        Some(reason),
    );
    if error == ListenError::Unavailable {
        let second = http::HeaderValue::from_static("1");
        answer.headers.insert(http::header::RETRY_AFTER, second);
    }
    answer
}

/// Another handler keeps something else in this session.
fn foreign_session(id: Option<&RequestId>) -> Answer {
    let (status, text) = (
        StatusCode::INTERNAL_SERVER_ERROR,
        "this session is another handler's",
    );
    Answer::error(status, id, code::INTERNAL_ERROR, text, Some(NO_SESSION))
}

const NO_SESSION: &str = r#"{"reason":"session_unavailable"}"#;

const NO_STORE: &str = r#"{"reason":"session_store_unavailable"}"#;

#[cfg(test)]
mod tests;
