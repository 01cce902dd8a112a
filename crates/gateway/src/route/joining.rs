//! How a client session comes to an upstream session that is a pipe of messages: it opens one, or joins one that
//! others use.

use std::future::ready;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use thinpipe_proto::bridge::capabilities::fingerprint;
use thinpipe_proto::bridge::downgrade::Channel;
use thinpipe_proto::bridge::{AttachError, Config, End, Limits, Refused, Sharing};
use thinpipe_proto::rpc::Message;
use thinpipe_proto::session::Principal;
use thinpipe_transport::body::BoxFuture;
use thinpipe_transport::upstream::pipe::Pipe;
use thinpipe_transport::upstream::streamable::{self, Reading};

use super::pinned::Seems;
use super::server::{Server, spoken};
use super::{Incoming, Route};
use crate::config::{Reached, Resume, SessionLost, UpstreamSpec};
use crate::downgrade;
use crate::failure::{Failure, Reason};
use crate::group::Group;
use crate::interceptor::MessageContext;
use crate::pipe::{
    Attachment, Children, Joined, JoinedBounds, JoinedKey, Manner, NotSent, Owner, Spoken,
    UpstreamSession,
};

/// An upstream session that did not open.
enum NotOpened {
    /// Another one has to be tried: this one is over, or takes no such client.
    Elsewhere,
    Failed(Failure),
}

impl From<Failure> for NotOpened {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// The sessions of a server that several clients use, if they do.
pub(super) fn joined(spec: &UpstreamSpec) -> Option<Joined> {
    let pool = &spec.bridge.pool;
    let (total, total_key) = match &spec.reached {
        // Each session is a process: one that nobody uses makes room for one that is wanted.
        Reached::Stdio(program) if program.max_children <= pool.total => {
            (program.max_children, "process.max_children")
        }
        _ => (pool.total, "session_pool.total"),
    };
    let max = match spec.bridge.pipe_sharing() {
        Sharing::PerClient => return None,
        Sharing::Pooled => pool.max,
        // There are no more of them than revisions.
        Sharing::Shared => total,
    };
    let bounds = JoinedBounds {
        max,
        total,
        total_key,
    };
    Some(Joined::new(bounds))
}

impl Route {
    /// Opens an upstream session with this `initialize`, or lets it join one, and gives the answer.
    pub(super) async fn open_piped(
        self: &Arc<Self>,
        call: Incoming,
        context: &MessageContext,
        message: &Message,
    ) -> Result<(Attachment, Bytes), Failure> {
        let channel = match &self.server {
            Server::Http(_) if !self.is_pipe().await => Channel::Streams,
            _ => Channel::Pipe,
        };
        let opened = match &self.joined {
            Some(joined) => self.join(joined, call, context, (message, channel)).await,
            None => self.open_own(call, context, (message, channel)).await,
        };
        opened.map_err(|not_opened| match not_opened {
            NotOpened::Failed(failure) => failure,
            NotOpened::Elsewhere => {
                let text = format!("{} ended its session over initialize", self.name());
                Failure::new(Reason::StreamLost, text)
            }
        })
    }

    /// One for this client alone.
    async fn open_own(
        self: &Arc<Self>,
        call: Incoming,
        context: &MessageContext,
        (message, channel): (&Message, Channel),
    ) -> Result<(Attachment, Bytes), NotOpened> {
        let principal = call.principal.clone();
        let asked = (&principal, message);
        let pipe = match &self.server {
            Server::Stdio(children) => {
                let pipe = children.start();
                pipe.map_err(|not| not.into_failure(self.name()))?
            }
            Server::Http(group) => {
                let headers = self.headers_over_sse(call.headers, context)?;
                match channel {
                    Channel::Pipe => self.open_sse(group, headers).await?,
                    Channel::Streams => self.open_streamable(group, headers).await?,
                }
            }
        };
        let session = self.begin(Box::pin(ready(Ok(pipe))), channel, 0);
        match &self.server {
            Server::Stdio(children) => self.ask_started(children, &session, asked).await,
            Server::Http(_) => self.ask_initialize(&session, asked).await,
        }
    }

    /// A session of Streamable HTTP, in which nothing was said yet, at one of the replicas. Its headers go with what
    /// the gateway itself says in it, too.
    ///
    /// # Errors
    /// No replica can be reached, or may be asked now.
    pub(super) async fn open_streamable(
        &self,
        group: &Group,
        headers: HeaderMap,
    ) -> Result<Pipe, Failure> {
        let budget = self.buffered();
        // It stays there: what the session meets is told by `suspect`.
        let replica = group.reachable().await;
        let upstream = &replica.map_err(|none| self.unsent(&none))?.upstream;
        let reading = self.reading();
        Ok(streamable::open(
            upstream,
            headers,
            reading,
            budget,
            &self.tasks,
        ))
    }

    /// How what its server says is read.
    pub(super) fn reading(&self) -> Reading {
        Reading {
            max_message: self.max_message(),
            resumes: self.spec.resume != Resume::Off,
        }
    }

    /// Joins a session that others use; the first client opens it, and those that come meanwhile wait on it.
    async fn join(
        self: &Arc<Self>,
        joined: &Joined,
        call: Incoming,
        context: &MessageContext,
        (message, channel): (&Message, Channel),
    ) -> Result<(Attachment, Bytes), NotOpened> {
        let principal = call.principal.clone();
        let key = self.joined_key(&principal, message)?;
        let headers = match principal {
            Principal::Named(_) if key.holder.is_some() => {
                Some(self.headers_over_sse(call.headers, context)?)
            }
            // What is of many says nothing in the name of the first one.
            _ => None,
        };
        let mut tried = Vec::new();
        loop {
            let open = || {
                let route: Arc<dyn downgrade::Owner> = Arc::clone(self) as _;
                self.begin(route.open(headers.clone()), channel, 0)
            };
            let (session, is_new) = joined.next(&key, &tried, open).map_err(|no_place| {
                let text = format!("{}: {no_place}", self.name());
                Failure::new(Reason::Overloaded, text)
            })?;
            let asked = (&principal, message);
            let answered = match &self.server {
                Server::Stdio(children) if is_new => {
                    self.ask_started(children, &session, asked).await
                }
                _ => self.ask_initialize(&session, asked).await,
            };
            match answered {
                Err(NotOpened::Elsewhere) if !is_new => tried.push(session),
                answered => return answered,
            }
        }
    }

    /// Who may use a session together with this client.
    fn joined_key(&self, principal: &Principal, message: &Message) -> Result<JoinedKey, Failure> {
        if self.spec.bridge.pipe_sharing() == Sharing::Shared {
            return Ok(JoinedKey {
                holder: None,
                declared: Bytes::new(),
            });
        }
        let declared = message.param("capabilities");
        let declared = declared.unwrap_or(Bytes::from_static(b"{}"));
        let declared = fingerprint(&declared).map_err(|error| {
            let text = format!("invalid parameter \"capabilities\": {error}");
            Failure::new(Reason::InvalidParameter, text)
        })?;
        Ok(JoinedKey {
            holder: Some(principal.clone()),
            declared,
        })
    }

    /// Begins an upstream session over a pipe that may be open later, with ids greater than these.
    pub(super) fn begin(
        self: &Arc<Self>,
        opening: BoxFuture<Result<Pipe, Failure>>,
        channel: Channel,
        ids_after: u64,
    ) -> Arc<UpstreamSession> {
        let (bridge, resume) = (&self.spec.bridge, self.spec.resume);
        let sharing = bridge.pipe_sharing();
        let config = Config {
            upstream: self.name().to_owned(),
            sharing,
            channel,
            ids_after,
            limits: Limits {
                members: bridge.pool.clients,
                ..self.session_limits()
            },
        };
        let manner = Manner {
            is_shared: sharing != Sharing::PerClient,
            is_resumable: resume == Resume::Log,
            reopens: sharing == Sharing::PerClient
                && self.spec.session_lost == SessionLost::Reestablish
                && channel == Channel::Streams,
            moves: channel == Channel::Streams
                && self
                    .group()
                    .is_some_and(|group| group.replicas().len() > 1 && !group.pins()),
            idle: bridge.pool.idle,
        };
        self.stats().session_opened();
        let (has_headers, random) = (self.upstream().is_some(), self.random().clone());
        let session = UpstreamSession::new(config, has_headers, manner, random);
        let owner: Arc<dyn Owner> = Arc::clone(self) as _;
        let running = Arc::clone(&session).run(opening, owner, self.stop.clone());
        self.tasks.spawn(running);
        session
    }

    /// As [`ask_initialize`](Self::ask_initialize), of a child that was started for this.
    async fn ask_started(
        &self,
        children: &Children,
        session: &Arc<UpstreamSession>,
        asked: (&Principal, &Message),
    ) -> Result<(Attachment, Bytes), NotOpened> {
        let answered = self.ask_initialize(session, asked).await;
        match (&answered, session.end()) {
            (Ok((_, answer)), _) => {
                let speaks = spoken(answer);
                self.program_said(children, speaks);
                if speaks == Some(Spoken::Stateless) {
                    let text = format!(
                        "{} has no initialize: it speaks 2026-07-28 without sessions only",
                        self.name()
                    );
                    let failure = Failure::new(Reason::Binding, text);
                    return Err(self.doubted(failure, Seems::Modern).into());
                }
            }
            // One that was not started counts by itself.
            (Err(_), Some(End::UpstreamLost(_) | End::InitializeUnanswered))
                if session.not_opened().is_none() =>
            {
                children.start_failed();
            }
            (Err(_), _) => {}
        }
        answered
    }

    /// Attaches a client session of this principal and gives its `initialize`; what comes back is the answer of the
    /// server, or the machine's.
    async fn ask_initialize(
        &self,
        session: &Arc<UpstreamSession>,
        (principal, message): (&Principal, &Message),
    ) -> Result<(Attachment, Bytes), NotOpened> {
        let Some(id) = message.id() else {
            return Err(Failure::new(Reason::Invalid, "initialize without an id").into());
        };
        let (attachment, answer) = session
            .attach(id, principal)
            .map_err(|error| self.not_attached(error))?;
        match session.send(attachment.member().id(), message, None).await {
            Ok(()) => {}
            Err(NotSent::Refused(Refused::Over | Refused::OtherRevision)) => {
                return Err(NotOpened::Elsewhere);
            }
            Err(NotSent::Refused(refused)) => {
                let answer = refused.answer(message, self.name());
                let failure = || Failure::new(Reason::Invalid, refused.to_string());
                return Ok((attachment, answer.ok_or_else(failure)?));
            }
            Err(NotSent::Stuck) => {
                let text = format!("{} does not take what it is sent", self.name());
                return Err(Failure::new(Reason::Timeout, text).into());
            }
        }
        let answer = answer.await;
        if let Some(failure) = session.not_opened() {
            return Err(failure.clone().into());
        }
        let failure = match (session.end(), answer) {
            (Some(End::UpstreamLost(reason)), _) => {
                Failure::new(Reason::StreamLost, format!("initialize failed: {reason}"))
            }
            (Some(End::InitializeUnanswered), _) => {
                Failure::new(Reason::Timeout, "initialize was not answered in time")
            }
            (_, Ok(answer)) => return Ok((attachment, answer)),
            (_, Err(_)) => Failure::session_gone(),
        };
        Err(failure.into())
    }

    /// A client that a session did not take.
    fn not_attached(&self, error: AttachError) -> NotOpened {
        match error {
            AttachError::Over | AttachError::Settling => NotOpened::Elsewhere,
            // Its principal may have another one.
            AttachError::Full { .. } if self.spec.bridge.pipe_sharing() == Sharing::Pooled => {
                NotOpened::Elsewhere
            }
            error => Failure::new(Reason::Overloaded, error.to_string()).into(),
        }
    }
}
