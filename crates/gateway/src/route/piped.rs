//! Clients with sessions in front of a server that is a pipe of messages.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use thinpipe_proto::bridge::Refused;
use thinpipe_proto::revision::{Binding, Revision};
use thinpipe_proto::rpc::{Kind, Message, quoted, splice};
use thinpipe_proto::session::EventId;
use thinpipe_proto::session::UpstreamSessionId;
use thinpipe_transport::body::{Body, BoxFuture};
use thinpipe_transport::server::conversation::ListenError;
use thinpipe_transport::server::{Answer, Content, Negotiated, Session, SessionEnd, SessionSlot};
use thinpipe_transport::upstream::pipe::{Pipe, PipeError};

use super::answer::with_headers;
use super::initialize::is_unknown_here;
use super::opening::{declared, negotiated};
use super::pinned::{Seems, denies};
use super::{Incoming, Route};
use crate::failure::{Failure, Reason};
use crate::interceptor::{Carrier, Direction, MessageContext};
use crate::pipe::{self, Attachment, Draining, NotSent, Place, Watched};
use crate::relay::inspect::rejection_message;
use crate::session::{SessionState, Setup};

impl Route {
    /// `initialize`, which interceptors have let pass and which ran nowhere yet.
    pub(super) async fn initialize_piped(
        self: &Arc<Self>,
        call: Incoming,
        context: MessageContext,
        message: Message,
        slot: SessionSlot,
    ) -> Result<Answer, Failure> {
        let again = (call.clone(), message.clone());
        let message = capped(message);
        let opened = tokio::select! {
            biased;
            // Dropped half-way it leaves nothing behind: what it has opened ends with its attachment.
            opened = self.open_piped(call, &context, &message) => opened,
            // Cancel-safe: a session that has ended stays so.
            () = slot.abandoned() => return Ok(Answer::cancelled()),
        };
        if self.is_refused_for_good(&opened).await {
            let (call, message) = again;
            let upgraded = self.initialize_upgraded(call, context, message, slot);
            return Box::pin(upgraded).await;
        }
        let (attachment, answer) = opened?;
        let answer = Message::parse(answer).map_err(|error| self.no_answer(&error))?;
        self.begin_piped((attachment, answer), context, message, slot)
            .await
    }

    /// Whether the server has refused `initialize`, and by that said what it is: one of 2026-07-28 alone.
    async fn is_refused_for_good(&self, opened: &Result<(Attachment, Bytes), Failure>) -> bool {
        match opened {
            Err(_) => self.upstream().is_none() && self.era().is_modern_only(),
            Ok((_, answer)) => {
                let answer = Message::parse(answer.clone());
                let is_unknown = answer.is_ok_and(|answer| is_unknown_here(&answer));
                is_unknown && self.upstream().is_some() && self.turns_out_modern_only().await
            }
        }
    }

    /// Opens a session with this answer to `initialize`, on an upstream session that has given it.
    pub(super) async fn begin_piped(
        self: &Arc<Self>,
        (attachment, answer): (Attachment, Message),
        context: MessageContext,
        message: Message,
        slot: SessionSlot,
    ) -> Result<Answer, Failure> {
        // The machine has answered what names an unknown revision.
        let revision = negotiated(&answer)?;
        let context = MessageContext {
            direction: Direction::ToClient,
            revision: revision.unwrap_or(context.revision),
            ..context
        };
        let (body, is_shown) = self.judge_whole(&answer, &context).await;
        // What the client must not see the answer of, it must not use either.
        let Some(revision) = revision.filter(|_| is_shown) else {
            return Ok(Answer::json(body));
        };
        attachment.upstream().negotiated(revision);
        let declared = declared(&answer);
        let negotiated = Negotiated {
            revision,
            initialize_params: message.params().unwrap_or_default(),
            attachment: self.first_attached(&attachment, &declared),
            held: true,
        };
        let session = self.open_session(slot, negotiated, &declared).await?;
        let state = session.state(SessionState::default);
        if let Some(state) = state.filter(|_| self.has_nodes()) {
            state.note_offered(declared);
        }
        let Some(attachment) = state.and_then(|state| state.attach(attachment)) else {
            return Err(Failure::session_gone());
        };
        let inline = self.answers_inline(&session);
        let outlet = session.outlet().filter(|_| !inline);
        if let Some(outlet) = &outlet {
            if body.len() > self.max_message_over_sse() {
                self.end_session(&session, SessionEnd::UpstreamGone).await;
                return Err(Failure::too_large_for_client(self.max_message_over_sse()));
            }
            // Before anything that the server says next. Who has left has ended the session.
            let pushed = outlet.push(body.clone()).await;
            pushed.map_err(|_| Failure::session_gone())?;
        }
        self.settle(attachment, &session).await?;
        if outlet.is_some() {
            return Ok(Answer::on_stream());
        }
        if inline {
            return Ok(Answer::json(body));
        }
        let answer = Answer::json(body).with_session(session.id().clone());
        self.with_own_headers(&context, answer)
    }

    /// From here on the server's messages come to the session, and it ends with the server's.
    pub(super) async fn settle(
        self: &Arc<Self>,
        attachment: &Attachment,
        session: &Arc<Session>,
    ) -> Result<(), Failure> {
        let place = Place {
            session: Arc::downgrade(session),
            conversation: self.conversation_of(attachment, session),
            context: MessageContext {
                direction: Direction::ToClient,
                carrier: Carrier::Event,
                ..self.context_in(session, None)
            },
            max_message: self.max_message_over_sse(),
        };
        attachment.settle(place);
        // Whoever ends it either sees the place, or has ended it already. The same holds for the session.
        if attachment.upstream().end().is_some() {
            self.end_session(session, SessionEnd::UpstreamGone).await;
            return Err(Failure::session_gone());
        }
        if session.is_ended() {
            attachment.detach();
        }
        Ok(())
    }

    /// Whether a client of this session wants its answers in the responses to its POSTs.
    fn answers_inline(&self, session: &Session) -> bool {
        let sse = self.spec.sse.as_ref();
        session.binding() == Binding::HttpSse && sse.is_some_and(|sse| sse.config.inline_json)
    }

    fn max_message_over_sse(&self) -> usize {
        let sse = self.spec.sse.as_ref();
        sse.map_or(usize::MAX, |sse| sse.config.max_message)
    }

    /// A message in a session whose upstream session is a pipe.
    pub(super) async fn in_piped_session(
        self: &Arc<Self>,
        call: Incoming,
        message: Message,
        session: Arc<Session>,
    ) -> Result<Answer, Failure> {
        let Some(attachment) = piped(&session) else {
            return Err(Failure::session_gone());
        };
        if self.is_asked_elsewhere(&session, attachment, &message) {
            return Err(elsewhere("what this answers was not asked here"));
        }
        let context = self.context(&call, Some(&session), &message);
        let message = match self.intercept(&context, message).await {
            Ok(message) => message,
            Err((message, rejection)) => {
                let refusal = rejection_message(&message, &rejection);
                return match message.kind() {
                    Kind::Request => Ok(Answer::json(refusal)),
                    Kind::Notification => Ok(Answer::accepted()),
                    // The server waits for an answer; it gets the refusal instead.
                    Kind::Response | Kind::ErrorResponse => {
                        let refusal =
                            Message::parse(refusal).map_err(|error| self.no_answer(&error))?;
                        let headers = self.headers_of(call, attachment, &context)?;
                        self.send_unasked(attachment, &refusal, headers).await
                    }
                };
            }
        };
        let headers = self.headers_of(call, attachment, &context)?;
        if let Some(state) = session.state(SessionState::default) {
            // For whoever opens the server's session anew, here or elsewhere.
            state.note_setup(&message);
            if Setup::is_changed_by(&message) {
                self.store_facts(&session);
            }
        }
        match message.id().filter(|_| message.kind() == Kind::Request) {
            None => self.send_unasked(attachment, &message, headers).await,
            Some(id) => {
                // A client of HTTP+SSE may have read the answer to `initialize` before we were told so.
                attachment.member().place().wait().await;
                let inline = self.answers_inline(&session);
                let Some(begun) = attachment.begin(id, context.call(), inline) else {
                    return self.refused(&Refused::IdInUse, &message);
                };
                let waiting = Draining::of(Some(id.clone()), Arc::clone(self.spec.name()));
                let presence = attachment.watched(Watched::Answer(id.clone()));
                let sent = attachment
                    .upstream()
                    .send(attachment.member().id(), &message, headers);
                if let Err(not_sent) = sent.await {
                    attachment.forget(id);
                    return self.not_sent(not_sent, &message);
                }
                // Its bytes are on their way: nobody needs them here while it is answered.
                drop(message);
                if session.binding() == Binding::HttpSse {
                    // Until it has been answered it counts as running, so that neither the end of the
                    // process nor that of the session's time overlooks it.
                    let response = begun.response().await;
                    // Without one it was answered on the stream, or is not to be.
                    return Ok(response.map_or_else(Answer::on_stream, Answer::json));
                }
                let answer = begun.inlet.answer().await;
                let answer = waiting.watched(presence).around(answer);
                let context = MessageContext {
                    direction: Direction::ToClient,
                    ..context
                };
                self.with_own_headers(&context, answer)
            }
        }
    }

    /// Whether this answers what only another node can have asked, if anybody has. To say that it was taken would
    /// leave whoever waits for it without it.
    fn is_asked_elsewhere(
        &self,
        session: &Session,
        attachment: &Attachment,
        message: &Message,
    ) -> bool {
        let answered = message.id().filter(|_| message.kind().is_response());
        answered.is_some_and(|id| {
            self.may_be_elsewhere(session)
                && !attachment
                    .upstream()
                    .waits_for(attachment.member().id(), id)
        })
    }

    /// Whether another node may have the session, too.
    fn may_be_elsewhere(&self, session: &Session) -> bool {
        self.sessions()
            .is_some_and(|sessions| sessions.may_be_elsewhere(session))
    }

    /// Headers of a message of a client, where the server gets any.
    pub(super) fn headers_of(
        &self,
        call: Incoming,
        attachment: &Attachment,
        context: &MessageContext,
    ) -> Result<Option<HeaderMap>, Failure> {
        if !attachment.upstream().has_headers() {
            return Ok(None);
        }
        self.headers_over_sse(call.headers, context).map(Some)
    }

    /// Sends what nothing answers.
    async fn send_unasked(
        &self,
        attachment: &Attachment,
        message: &Message,
        headers: Option<HeaderMap>,
    ) -> Result<Answer, Failure> {
        let sent = attachment
            .upstream()
            .send(attachment.member().id(), message, headers);
        match sent.await {
            Ok(()) => {
                let is_begun = message.method() == Some("notifications/initialized");
                if is_begun && attachment.is_over_sse() {
                    // It has its stream, and hears on it what belongs to no request.
                    attachment.upstream().wants_stream();
                }
                Ok(Answer::accepted())
            }
            Err(not_sent) => self.not_sent(not_sent, message),
        }
    }

    pub(super) fn not_sent(&self, not_sent: NotSent, message: &Message) -> Result<Answer, Failure> {
        match not_sent {
            NotSent::Refused(refused) => self.refused(&refused, message),
            NotSent::Stuck => {
                let text = format!("{} does not take what it is sent", self.name());
                Err(Failure::new(Reason::Timeout, text))
            }
        }
    }

    /// The answer to what the machine did not take.
    pub(super) fn refused(&self, refused: &Refused, message: &Message) -> Result<Answer, Failure> {
        let status = match refused {
            Refused::Over => return Err(Failure::session_gone()),
            Refused::TooManyInFlight { .. } | Refused::TooManyOfOne { .. } => {
                return Err(Failure::new(Reason::Overloaded, refused.to_string()));
            }
            Refused::IdInUse => StatusCode::BAD_REQUEST,
            _ => StatusCode::OK,
        };
        self.stats().failed();
        let Some(body) = refused.answer(message, self.name()) else {
            // Nothing answers a notification or a response.
            return Ok(Answer::accepted());
        };
        Ok(Answer::new(status, Content::Json, Body::Full(body)))
    }

    /// GET: the session's standalone stream, or one that goes on after an event, where any is kept.
    pub(super) async fn listen_piped(
        &self,
        session: &Session,
        last: Option<&EventId>,
    ) -> Result<Answer, Failure> {
        let attachment = piped(session);
        let place = attachment.and_then(|attachment| attachment.member().place().get());
        let (Some(attachment), Some(place)) = (attachment, place) else {
            return Err(Failure::session_gone());
        };
        if session.binding() == Binding::HttpSse {
            // All there is to say is said on its stream in any case.
            return Ok(Answer::on_stream());
        }
        match place.conversation.listen(last).await {
            Ok(answer) => {
                attachment.upstream().wants_stream();
                let draining = Draining::of(None, Arc::clone(self.spec.name()));
                let stream = match last {
                    Some(_) => Watched::Resumed,
                    None => Watched::Standalone,
                };
                let answer = draining.watched(attachment.watched(stream)).around(answer);
                self.with_own_headers(&place.context, answer)
            }
            Err(ListenError::Contended) => Err(Failure::contended()),
            Err(ListenError::UnknownEvent) if self.may_be_elsewhere(session) => {
                Err(elsewhere("this stream is not known here"))
            }
            Err(ListenError::UnknownEvent) => {
                let text = "what came after this event is not kept; the session goes on without it";
                Err(Failure::new(Reason::UnknownEvent, text))
            }
            Err(error @ ListenError::Unavailable) => {
                Err(Failure::new(Reason::StoreUnavailable, error.to_string()))
            }
        }
    }

    /// The headers that interceptors give an answer; a pipe brings none.
    pub(super) fn with_own_headers(
        &self,
        context: &MessageContext,
        answer: Answer,
    ) -> Result<Answer, Failure> {
        let mut headers = HeaderMap::new();
        self.chain.headers(context, &mut headers)?;
        Ok(with_headers(answer, headers))
    }
}

impl pipe::Owner for Route {
    fn name(&self) -> &Arc<str> {
        self.spec.name()
    }

    fn has_others(&self) -> bool {
        self.group().is_some_and(|it| it.replicas().len() > 1)
    }

    fn doubt(&self) {
        self.era.contradicted();
    }

    fn not_taken(&self, error: &PipeError) -> Option<String> {
        if !denies(error) {
            return None;
        }
        // It may speak something else by now: the next client has it asked.
        self.era().contradicted_sessions();
        self.doubt(Seems::Other)
    }

    fn moved(self: Arc<Self>, session: Arc<Session>) {
        self.store_facts(&session);
    }

    fn reopen(self: Arc<Self>, session: Arc<Session>) -> BoxFuture<Result<Pipe, Failure>> {
        Box::pin(async move {
            let pipe = self.reopen_pipe(&session).await?;
            self.stats().reestablished();
            Ok(pipe)
        })
    }

    fn elsewhere(self: Arc<Self>, connections: &str) -> BoxFuture<Option<usize>> {
        let at = self.group().and_then(|it| it.connected_as(connections));
        Box::pin(async move { self.group()?.reachable_beside(at?).await })
    }

    fn go_on(
        self: Arc<Self>,
        session: Arc<Session>,
        (id, replica): (Option<UpstreamSessionId>, usize),
    ) -> BoxFuture<Result<Pipe, Failure>> {
        Box::pin(async move {
            let replica = &self.http()?.replicas()[replica];
            self.pipe_at(replica, &session, id.as_ref())
        })
    }

    fn is_modern(self: Arc<Self>) -> BoxFuture<bool> {
        self.is_modern_still()
    }

    fn end_session(self: Arc<Self>, session: Arc<Session>) -> BoxFuture<()> {
        Box::pin(async move {
            Self::end_session(&self, &session, SessionEnd::UpstreamGone).await;
        })
    }
}

/// What attaches a session to an upstream session that is a pipe, if it is one.
pub(super) fn piped(session: &Session) -> Option<&Attachment> {
    session.state(SessionState::default)?.attachment()
}

/// `initialize` with a revision that both sides can know: the newest one in the place of one that is not
/// known here or has no `initialize`.
fn capped(message: Message) -> Message {
    const MEMBER: &str = "protocolVersion";
    let named = message.param_text(MEMBER);
    let known = named
        .as_deref()
        .and_then(|v| Revision::from_bytes(v.as_bytes()));
    if named.is_none() || known.is_some_and(|revision| !revision.is_modern()) {
        return message;
    }
    let newest = quoted(Revision::NEWEST_LEGACY.as_str());
    let capped = message.param(MEMBER).and_then(|revision| {
        let capped = splice(message.source(), &revision, newest.as_bytes())?;
        Message::parse(capped).ok()
    });
    capped.unwrap_or(message)
}

/// Another node may know what this one does not, as it is cut off from the store.
fn elsewhere(what: &str) -> Failure {
    let text = format!("{what}, and the other nodes are out of reach");
    Failure::new(Reason::StoreUnavailable, text)
}
