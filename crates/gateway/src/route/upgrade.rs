//! Clients with sessions in front of a server of 2026-07-28 alone (protocol notes 5.3, group B): the session
//! is the gateway's, and the server is called.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use thinpipe_proto::bridge::MemberId;
use thinpipe_proto::bridge::envelope::LogLevel;
use thinpipe_proto::bridge::upgrade::{self, Config, Handshake, Upgrading};
use thinpipe_proto::probe::discover_request;
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::{self, Kind, Message, response};
use thinpipe_proto::session::Principal;
use thinpipe_transport::body::BoxFuture;
use thinpipe_transport::server::conversation::{Conversation, ConversationConfig};
use thinpipe_transport::server::{Answer, Session, SessionSlot};

use super::pinned::Question;
use super::sessionless::settle_alone;
use super::{Incoming, Route};
use crate::clock::now;
use crate::config::Resume;
use crate::failure::{Failure, Reason};
use crate::interceptor::MessageContext;
use crate::modern::ModernCall;
use crate::pipe::{Attachment, Owner, UpstreamSession};

/// The id under which the server is asked what it is.
const DISCOVER_ID: &str = "\"initialize\"";

impl Route {
    /// `initialize`, which interceptors have let pass: answered from what the server says of itself.
    pub(super) async fn initialize_upgraded(
        self: &Arc<Self>,
        call: Incoming,
        context: MessageContext,
        message: Message,
        slot: SessionSlot,
    ) -> Result<Answer, Failure> {
        let Some(id) = message.id() else {
            return Err(Failure::new(Reason::Invalid, "initialize without an id"));
        };
        let principal = call.principal.clone();
        let headers = self.headers_over_sse(call.headers, &context)?;
        let asking = ModernCall {
            message: discover()?,
            headers: headers.clone(),
            principal: principal.clone(),
            repeatable: true,
        };
        let discovered = tokio::select! {
            biased;
            // Dropped half-way it leaves nothing behind: nothing was opened.
            discovered = self.discover(asking) => discovered?,
            // Cancel-safe: a session that has ended stays so.
            () = slot.abandoned() => return Ok(Answer::cancelled()),
        };
        let opening = match upgrade::initialize(&message, &discovered, self.name()) {
            Ok(opening) => opening,
            Err(refused) => return self.refused(&refused, &message),
        };
        let answer = response(id, &opening.result);
        let answer = Message::parse(answer).map_err(|error| self.no_answer(&error))?;
        let level = self.spec().bridge.log_level;
        let attachment = self.call_session(opening.handshake, principal, headers, level)?;
        self.begin_piped((attachment, answer), context, message, slot)
            .await
    }

    /// The result of `server/discover`.
    async fn discover(self: &Arc<Self>, call: ModernCall) -> Result<Bytes, Failure> {
        let asking = async {
            let mut answers = self.modern_server().call(call).await?;
            loop {
                match answers.next().await.transpose()? {
                    Some(message) if message.kind().is_response() => return Ok(Some(message)),
                    Some(_) => {}
                    None => return Ok(None),
                }
            }
        };
        let asked = tokio::time::timeout(self.request_timeout(), asking).await;
        let asked = asked.map_err(|_| {
            let text = format!("{} does not say what it is", self.name());
            Failure::new(Reason::Timeout, text)
        })?;
        let answer = asked.map_err(|error: crate::modern::CallError| error.failure)?;
        let result = answer.as_ref().and_then(Message::result);
        result.ok_or_else(|| {
            let error = answer.as_ref().and_then(Message::error).unwrap_or_default();
            let error = String::from_utf8_lossy(&error);
            let text = format!("{} refuses server/discover: {error}", self.name());
            let failure = Failure::new(Reason::Invalid, text);
            match answer.and_then(|answer| Question::Discover.refused(&answer)) {
                Some(seems) => self.doubted(failure, seems),
                None => failure,
            }
        })
    }

    fn seed(&self) -> u128 {
        let [high, low] = [(); 2].map(|()| u128::from(self.random().chance()));
        high << 64 | low
    }

    /// A session whose requests are calls in this principal's name.
    pub(super) fn call_session(
        self: &Arc<Self>,
        handshake: Handshake,
        principal: Principal,
        headers: HeaderMap,
        log_level: Option<LogLevel>,
    ) -> Result<Attachment, Failure> {
        let has_headers = self.upstream().is_some();
        let config = Config {
            limits: self.session_limits(),
            headers: has_headers,
            retention: self.spec().event_log.age,
            log_level,
            questions_after: self.random().unused_ids(),
            ..Config::new(self.name(), MemberId(0), self.seed())
        };
        let machine = Upgrading::new(config, handshake, now());
        let held = (Arc::clone(self.spec().name()), self.buffered().clone());
        let session = UpstreamSession::of_calls(machine, has_headers.then_some(headers), held);
        let attachment = session.attach_initialized();
        let attachment =
            attachment.map_err(|error| Failure::new(Reason::Overloaded, error.to_string()))?;
        let owner: Arc<dyn Owner> = Arc::clone(self) as _;
        let running = session.run_calls(self.modern_server(), principal, owner, self.stop.clone());
        self.tasks.spawn(running);
        Ok(attachment)
    }

    /// What is said in a session, and how it can be come back to: to a stream of calls it can, although
    /// their server knows of no such thing (R229), and to any other if the gateway keeps a log of it.
    pub(super) fn conversation_of(
        &self,
        attachment: &Attachment,
        session: &Session,
    ) -> Arc<Conversation> {
        let mut config = ConversationConfig::default();
        let is_resumable = match self.spec().resume {
            Resume::Upstream => attachment.upstream().is_of_calls(),
            Resume::Log => true,
            Resume::Off => false,
        };
        if is_resumable {
            config = self.spec().event_log.conversation();
        }
        match session.outlet() {
            Some(outlet) => Conversation::over(ConversationConfig::default(), outlet),
            None => Conversation::in_session(config, session),
        }
    }

    /// A request outside of any session, which the server's settings allow: nothing is declared, since there
    /// is nobody to ask.
    pub(super) async fn sessionless_upgraded(
        self: &Arc<Self>,
        call: Incoming,
        context: MessageContext,
        message: Message,
    ) -> Result<Answer, Failure> {
        let id = message.id().filter(|_| message.kind() == Kind::Request);
        let Some(id) = id.cloned() else {
            // There is nobody whom it could tell anything, and nothing was asked.
            return Ok(Answer::accepted());
        };
        let handshake = Handshake {
            revision: call.revision,
            declared: Bytes::from_static(b"{}"),
            client_info: None,
            offered: Bytes::from_static(b"{}"),
        };
        let headers = self.headers_over_sse(call.headers, &context)?;
        let level = self.spec().bridge.log_level;
        let attachment = self.call_session(handshake, call.principal, headers.clone(), level)?;
        settle_alone(&attachment, &context);
        self.answer_alone((attachment, context), (id, message), Some(headers))
            .await
    }

    /// Whether the server has no sessions, if it answers with this status to what would belong in one: it did
    /// not run then.
    pub(super) async fn refuses_sessions(self: &Arc<Self>, status: StatusCode) -> bool {
        matches!(status.as_u16(), 400 | 404 | 405) && self.turns_out_modern_only().await
    }

    /// Whether what it speaks, found out anew, is 2026-07-28. If that cannot be found out, it is down, and
    /// that is all.
    pub(super) fn is_modern_still(self: Arc<Self>) -> BoxFuture<bool> {
        Box::pin(async move {
            let verdict = self.find_out().await;
            verdict.map_or(true, |verdict| verdict.modern().is_some())
        })
    }
}

fn discover() -> Result<Message, Failure> {
    let request = discover_request(DISCOVER_ID, Revision::NEWEST);
    let request: Result<Message, rpc::MessageError> = Message::parse(request);
    request.map_err(|error| Failure::new(Reason::Invalid, error.to_string()))
}
