//! A session that another process held goes on here (protocol notes 5.8, (10)): by its record, with what that says
//! of its server and of what the client has set up.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use thinpipe_proto::bridge::downgrade::Channel;
use thinpipe_proto::bridge::upgrade::Handshake;
use thinpipe_proto::bridge::{Refused, resource_updated};
use thinpipe_proto::rpc::{Message, member, string};
use thinpipe_proto::session::UpstreamSessionId;
use thinpipe_transport::server::{Adoption, Session};
use thinpipe_transport::upstream::pipe::Pipe;
use thinpipe_transport::upstream::streamable;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::opening::{capabilities, declared, negotiated};
use super::piped::piped;
use super::reestablish::{INITIALIZED, list_notices, too_late};
use super::{Incoming, Route};
use crate::attachment::{Attached, attached};
use crate::config::SessionLost;
use crate::failure::{Failure, Reason};
use crate::group::Replica;
use crate::held::{Facts, Over};
use crate::pipe::{Attachment, NotSent};
use crate::session::SessionState;

/// What could not be stored is stored after this.
const STORED_AGAIN: Duration = Duration::from_secs(1);

/// Reasons for which a session cannot go on here that may be gone when its client asks again, or that another gateway
/// does not have. What was lost, too: nobody uses the session of the server that it may have opened.
const PASSING: [Reason; 8] = [
    Reason::Unavailable,
    Reason::Paused,
    Reason::Timeout,
    Reason::StreamLost,
    Reason::Overloaded,
    Reason::BufferFull,
    Reason::TooManyStreams,
    Reason::ShuttingDown,
];

/// Requests that are sent before the first of them is answered. Many sessions are set up again at one time, and those
/// of one principal have one bound.
const AT_ONCE: usize = 16;

impl Route {
    /// Goes on with a session that another process held.
    pub(super) async fn take_over(self: &Arc<Self>, session: &Arc<Session>) -> Adoption {
        let Err(failure) = self.try_take_over(session).await else {
            return Adoption::Done;
        };
        let (upstream, error) = (self.name(), &*failure.text);
        if !PASSING.contains(&failure.reason) {
            tracing::info!(session = ?session.id(), upstream, error, "a session cannot go on here");
            return Adoption::Ended;
        }
        tracing::info!(session = ?session.id(), upstream, error, "a session cannot go on here now");
        // Whoever goes on with it later finds it at the server as it is, and its streams in the log.
        if let Some(attachment) = piped(session) {
            attachment.leave();
        }
        Adoption::PutOff
    }

    async fn try_take_over(self: &Arc<Self>, session: &Arc<Session>) -> Result<(), Failure> {
        let unknown = || Failure::new(Reason::Invalid, "its record does not say how to go on");
        let known = attached(session).map_err(|_| unknown())?;
        let facts = Facts::decode(known.held.as_deref()).ok_or_else(unknown)?;
        let state = session.state(SessionState::default).ok_or_else(unknown)?;
        facts.remember(state);
        let attachment = match facts.over {
            Over::Calls => self.call_again(session, &facts)?,
            _ if self.joined.is_some() => self.join_again(session, &facts).await?,
            Over::Streams => match self.replica_of(&known).await? {
                Ok(replica) => self.resume_streamable((session, replica), &known, &facts)?,
                Err(gone) if self.waits_for(&gone, false) => return Err(self.replica_gone(&gone)),
                // What it was at the server is gone with its replica.
                Err(_) => {
                    self.warn_of_stranger(session);
                    self.open_again((session, Channel::Streams), &facts).await?
                }
            },
            Over::Pipe => self.open_again((session, Channel::Pipe), &facts).await?,
        };
        let attachment = state.attach(attachment).ok_or_else(unknown)?;
        self.settle(attachment, session).await?;
        if let Some(place) = attachment.member().place().get() {
            place.conversation.take_over().await;
        }
        self.set_up_again(attachment, &facts).await?;
        self.tell_gap(attachment, &facts).await;
        let now = self.attached_to(attachment, state);
        if now.upstream_session.is_some()
            && (&now.upstream_session, &now.replica) != (&known.upstream_session, &known.replica)
        {
            self.store_facts(session);
        }
        Ok(())
    }

    /// The server has no sessions: there is nothing of it to go on with.
    fn call_again(
        self: &Arc<Self>,
        session: &Session,
        facts: &Facts,
    ) -> Result<Attachment, Failure> {
        let params = session.initialize_params();
        let handshake = Handshake {
            revision: session.revision(),
            declared: declared_by(&params),
            client_info: member(&params, "clientInfo").filter(|info| info.starts_with(b"{")),
            offered: facts.offered(),
        };
        let context = self.context_in(session, Some("initialize"));
        let headers = self.headers_over_sse(HeaderMap::new(), &context)?;
        let level = facts.level().or_else(|| self.spec().bridge.log_level);
        self.call_session(handshake, session.principal().clone(), headers, level)
    }

    /// One of Streamable HTTP: this replica of the server knows the session.
    fn resume_streamable(
        self: &Arc<Self>,
        (session, replica): (&Session, &Replica),
        known: &Attached,
        facts: &Facts,
    ) -> Result<Attachment, Failure> {
        let pipe = self.pipe_at(replica, session, known.upstream_session.as_ref())?;
        self.attach_again(pipe, Channel::Streams, session, facts)
    }

    /// A session of Streamable HTTP, of this client, which this replica knows by this id.
    pub(super) fn pipe_at(
        &self,
        replica: &Replica,
        session: &Session,
        id: Option<&UpstreamSessionId>,
    ) -> Result<Pipe, Failure> {
        let context = self.context_in(session, Some("initialize"));
        let headers = self.headers_over_sse(HeaderMap::new(), &context)?;
        Ok(streamable::open_at(
            &replica.upstream,
            (id, session.revision()),
            headers,
            self.reading(),
            self.buffered(),
            self.tasks(),
        ))
    }

    /// What ended with its process, or with its replica, is opened again, if that is wanted.
    async fn open_again(
        self: &Arc<Self>,
        (session, channel): (&Session, Channel),
        facts: &Facts,
    ) -> Result<Attachment, Failure> {
        if self.spec().session_lost != SessionLost::Reestablish {
            let text =
                "the server's session has ended with the process or the replica that held it";
            return Err(Failure::new(Reason::SessionLost, text));
        }
        let pipe = self.reopen_pipe(session).await?;
        self.stats().reestablished();
        self.attach_again(pipe, channel, session, facts)
    }

    fn attach_again(
        self: &Arc<Self>,
        pipe: Pipe,
        channel: Channel,
        session: &Session,
        facts: &Facts,
    ) -> Result<Attachment, Failure> {
        // Ids that the process before has used on the server's session are not used again.
        let upstream = self.begin(
            Box::pin(ready(Ok(pipe))),
            channel,
            self.random().unused_ids(),
        );
        let declared = declared_by(&session.initialize_params());
        let attached = upstream.attach_resumed(session.principal(), &declared, &facts.offered());
        attached.map_err(|error| Failure::new(Reason::Overloaded, error.to_string()))
    }

    /// A session that several clients use: that of the same clients here.
    async fn join_again(
        self: &Arc<Self>,
        session: &Session,
        facts: &Facts,
    ) -> Result<Attachment, Failure> {
        let mut initialize = BytesMut::from(
            &br#"{"jsonrpc":"2.0","id":"thinpipe","method":"initialize","params":"#[..],
        );
        initialize.extend_from_slice(&session.initialize_params());
        initialize.extend_from_slice(b"}");
        let initialize = Message::parse(initialize.freeze());
        let initialize = initialize.map_err(|error| self.no_answer(&error))?;
        let call = Incoming {
            revision: session.revision(),
            principal: session.principal().clone(),
            address: None,
            headers: HeaderMap::new(),
        };
        let context = self.context_in(session, Some("initialize"));
        let (attachment, answer) = self.open_piped(call, &context, &initialize).await?;
        let answer = Message::parse(answer).map_err(|error| self.no_answer(&error))?;
        if let Some(reason) = self.passing_reason(&answer) {
            let text = format!("{} has not answered initialize", self.name());
            return Err(Failure::new(reason, text));
        }
        if let Some(refusal) = self.refusal(&answer) {
            return Err(refusal);
        }
        let is_same = negotiated(&answer)? == Some(session.revision())
            && capabilities(&declared(&answer)) == capabilities(&facts.offered());
        if !is_same {
            let text = "the server's session here is not what the client's was";
            return Err(Failure::new(Reason::Invalid, text));
        }
        attachment.upstream().negotiated(session.revision());
        Ok(attachment)
    }

    /// Why the gateway has answered in the server's place, if the reason may pass: that says nothing of the session.
    fn passing_reason(&self, answer: &Message) -> Option<Reason> {
        let data = member(&answer.error()?, "data")?;
        let text = |name| member(&data, name).and_then(|value| string(&value).map(Cow::into_owned));
        let reason = text("reason").filter(|_| text("upstream").as_deref() == Some(self.name()))?;
        if reason == (Refused::TooManyInFlight { limit: 0 }).reason() {
            return Some(Reason::Overloaded);
        }
        PASSING.into_iter().find(|it| it.as_str() == reason)
    }

    /// What the client had set up is set up here, where the server does not know it. It is over within the time that
    /// the server has for one request.
    async fn set_up_again(&self, attachment: &Attachment, facts: &Facts) -> Result<(), Failure> {
        let is_joined = self.joined.is_some() && facts.over != Over::Calls;
        if is_joined {
            let initialized = Message::parse(Bytes::from_static(INITIALIZED));
            let initialized = initialized.map_err(|error| self.no_answer(&error))?;
            let (upstream, member) = (attachment.upstream(), attachment.member().id());
            let sent = upstream.send(member, &initialized, None).await;
            sent.map_err(|not_sent| not_taken(&not_sent))?;
        }
        if !is_joined && facts.over != Over::Calls {
            return Ok(());
        }
        let asked = timeout(self.request_timeout(), ask_again(attachment, facts)).await;
        asked.unwrap_or_else(|_| Err(too_late()))
    }

    /// What the server said meanwhile nobody has heard: the client reads again what may have changed.
    async fn tell_gap(&self, attachment: &Attachment, facts: &Facts) {
        let lists = list_notices(&capabilities(&facts.offered()));
        let uris = facts.uris().iter().map(|uri| resource_updated(uri));
        for notice in lists.into_iter().chain(uris) {
            if let (Ok(notice), Some(place)) =
                (Message::parse(notice), attachment.member().place().get())
            {
                place.conversation.say(&notice, None).await;
            }
        }
    }

    /// What is attached to the record of a session that begins, whose server has offered this. Nothing, where no
    /// other process would read it.
    pub(super) fn first_attached(&self, attachment: &Attachment, offered: &Bytes) -> Bytes {
        if !self.has_nodes() {
            return Bytes::new();
        }
        let state = SessionState::default();
        state.note_offered(offered.clone());
        let attached = self.attached_to(attachment, &state);
        if !attached.is_whole() {
            self.tell_unknown(None);
        }
        attached.encode()
    }

    /// A session becomes one that no other process can go on with.
    pub(super) fn tell_unknown(&self, session: Option<&Session>) {
        let (session, upstream) = (session.map(Session::id), self.name());
        tracing::warn!(
            ?session,
            upstream,
            "a session has more to be known than its record holds: it cannot be taken over"
        );
    }

    /// What is attached to the record of a session that is held here.
    fn attached_to(&self, attachment: &Attachment, state: &SessionState) -> Attached {
        let connections = attachment.connected_as();
        Attached {
            held: Facts::of(state, attachment.over()).encode(),
            ..self.attached_by_name(connections.as_deref(), attachment.upstream_id())
        }
    }

    /// Stores what another process would need to go on with a session, soon: what changes meanwhile is stored once.
    pub(super) fn store_facts(self: &Arc<Self>, session: &Arc<Session>) {
        let Some(sessions) = self.sessions().filter(|sessions| sessions.has_nodes()) else {
            return;
        };
        let state = session.existing_state::<SessionState>();
        if !state.is_some_and(SessionState::begins_storing) {
            return;
        }
        let (route, session) = (Arc::clone(self), Arc::clone(session));
        self.tasks().spawn(async move {
            let mut is_late = false;
            while let Some(state) = session.existing_state::<SessionState>()
                && state.has_to_store()
            {
                let Some(attachment) = piped(&session).filter(|_| !session.is_ended()) else {
                    continue;
                };
                let stored = route.attached_to(attachment, state);
                if !stored.is_whole() && attached(&session).is_ok_and(|it| it.is_whole()) {
                    route.tell_unknown(Some(&session));
                }
                let kept = sessions.keep_attachment(&session, stored.encode());
                let Err(error) = kept.await else {
                    is_late = false;
                    continue;
                };
                if !std::mem::replace(&mut is_late, true) {
                    let upstream = route.name();
                    tracing::warn!(session = ?session.id(), upstream, %error, "a session may be lost with this process");
                }
                if error.is_transient() {
                    state.has_not_stored();
                    let pause = tokio::time::sleep(STORED_AGAIN);
                    // Cancel-safe: time goes by all the same. Of a session that has ended nothing is stored.
                    let _ = session.closed().run_until_cancelled(pause).await;
                }
            }
        });
    }

    /// Whether another process could go on with a session that is held here.
    pub(super) fn goes_on_elsewhere(&self, session: &Session) -> bool {
        let Some((attachment, state)) =
            piped(session).zip(session.existing_state::<SessionState>())
        else {
            return false;
        };
        let facts = Facts::of(state, attachment.over());
        let is_whole = Facts::decode(facts.encode().as_deref()).is_some();
        let is_gone = facts.over == Over::Pipe
            && self.joined.is_none()
            && self.spec().session_lost != SessionLost::Reestablish;
        is_whole && !is_gone
    }
}

/// Sends what sets up what the client had set up, as fast as it is answered. The answers say what the client was told
/// before, and nobody waits for the last ones.
async fn ask_again(attachment: &Attachment, facts: &Facts) -> Result<(), Failure> {
    let (upstream, member) = (attachment.upstream(), attachment.member().id());
    let mut asked = VecDeque::new();
    for request in facts.requests() {
        let Some(id) = request.id() else {
            continue; // Unreachable: they are requests.
        };
        if asked.len() >= AT_ONCE {
            first_of(&mut asked).await;
        }
        let answered = attachment.begin_unread(id);
        while let Err(not_sent) = upstream.send(member, &request, None).await {
            // Others have all the places there are: there is one again when something of this session is answered.
            if asked.is_empty() || !is_full(&not_sent) {
                return Err(not_taken(&not_sent));
            }
            first_of(&mut asked).await;
        }
        asked.push_back(answered);
    }
    Ok(())
}

/// Until the first of them is answered, or will not be.
async fn first_of(asked: &mut VecDeque<oneshot::Receiver<Infallible>>) {
    if let Some(answered) = asked.pop_front() {
        // Nothing is ever sent: it ends with its sender.
        let _ = answered.await;
    }
}

/// Whether the server's session has as many requests as it may have: that passes.
fn is_full(not_sent: &NotSent) -> bool {
    let NotSent::Refused(refused) = not_sent else {
        return false;
    };
    matches!(
        refused,
        Refused::TooManyInFlight { .. } | Refused::TooManyOfOne { .. }
    )
}

fn not_taken(not_sent: &NotSent) -> Failure {
    match not_sent {
        NotSent::Refused(refused) if is_full(not_sent) => {
            Failure::new(Reason::Overloaded, refused.to_string())
        }
        NotSent::Refused(_) => Failure::session_gone(),
        NotSent::Stuck => Failure::new(Reason::Overloaded, "the server takes no more messages"),
    }
}

/// What a client has declared in these params of `initialize`.
fn declared_by(params: &Bytes) -> Bytes {
    let declared = member(params, "capabilities");
    declared.unwrap_or(Bytes::from_static(b"{}"))
}
