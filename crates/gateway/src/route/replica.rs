//! Which replica has a session, and what becomes of the session when that one is gone.

use std::sync::Arc;
use std::time::Duration;

use thinpipe_proto::rpc::{Kind, Message};
use thinpipe_proto::session::UpstreamSessionId;
use thinpipe_transport::server::{Answer, Session};

use super::{Incoming, Route};
use crate::attachment::{Attached, attached};
use crate::config::SessionLost;
use crate::failure::Failure;
use crate::group::{Group, Replica, To, Unanswered};
use crate::interceptor::MessageContext;

/// After this a client may ask again, if nobody knows better.
const PAUSE: Duration = Duration::from_secs(2);

/// The replica that a session was opened at does not serve it any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gone {
    replica: Arc<str>,
    /// It is still configured, and may come back with what it had.
    may_return: bool,
    /// It has not answered for long.
    is_sure: bool,
}

impl Route {
    /// Which replica has the session.
    ///
    /// # Errors
    /// [`Gone`].
    pub(super) fn place_of(&self, session: &Session) -> Result<To, Gone> {
        let Some(group) = self.group().filter(|group| group.pins()) else {
            return Ok(To::Any);
        };
        // Who cannot read it has been refused before.
        let attached = attached(session).unwrap_or_default();
        Self::place_in(group, &attached)
    }

    /// Which replica has a session with this attachment.
    ///
    /// # Errors
    /// [`Gone`].
    fn place_in(group: &Group, attached: &Attached) -> Result<To, Gone> {
        if attached.upstream_session.is_none() {
            // The server keeps nothing of it that another one would not know.
            return Ok(To::Any);
        }
        let name = attached.replica.clone().unwrap_or_default();
        match group.named(&name) {
            Some(replica) if !group.has_lost(replica) => Ok(To::Only(replica)),
            known => Err(Gone {
                replica: name,
                may_return: known.is_some(),
                is_sure: known.is_some_and(|it| group.replicas()[it].health.is_surely_down()),
            }),
        }
    }

    /// The replica that goes on with a session which has this attachment.
    ///
    /// # Errors
    /// Inside: [`Gone`]; outside: none can be reached, or may be asked now.
    pub(super) async fn replica_of(
        &self,
        attached: &Attached,
    ) -> Result<Result<&Replica, Gone>, Failure> {
        let group = self.http()?;
        let place = match group.pins() {
            true => Self::place_in(group, attached),
            false => Ok(To::Any),
        };
        Ok(match place {
            Ok(To::Only(replica)) => Ok(&group.replicas()[replica]),
            Ok(To::Any | To::Opening) => {
                let replica = group.reachable().await;
                Ok(replica.map_err(|none| self.unsent(&none))?)
            }
            Err(gone) => Err(gone),
        })
    }

    /// What is stored with a session whose connections have this name.
    pub(super) fn attached_by_name(
        &self,
        connections: Option<&str>,
        id: Option<UpstreamSessionId>,
    ) -> Attached {
        let replica = self.group().zip(connections);
        match replica.and_then(|(group, name)| group.connected_as(name)) {
            Some(replica) => self.attached_at(replica, id),
            None => Attached::to(id),
        }
    }

    /// What is stored with a session that was opened at this replica.
    pub(super) fn attached_at(&self, replica: usize, id: Option<UpstreamSessionId>) -> Attached {
        let group = self.group().filter(|group| group.pins() && id.is_some());
        let replica = group.and_then(|group| group.replicas().get(replica)?.name.clone());
        Attached {
            replica,
            ..Attached::to(id)
        }
    }

    /// The request of a session whose replica is gone. If others of the session are running there, it may be alive
    /// after all: they are not cut off for this one.
    pub(super) async fn without_replica(
        self: &Arc<Self>,
        again: Option<Box<Incoming>>,
        context: MessageContext,
        of: (Arc<Session>, Arc<Attached>),
        message: Message,
        gone: &Gone,
    ) -> Result<Answer, Failure> {
        if self.waits_for(gone, !runs_alone(&of.0, &message)) {
            return Err(self.replica_gone(gone));
        }
        self.not_found(again, context, Some(of), message).await
    }

    /// Whether a session waits for its replica, rather than to end with it: while other exchanges of it run here, and
    /// where it would end for all gateways, as long as others may reach the replica.
    pub(super) fn waits_for(&self, gone: &Gone, runs: bool) -> bool {
        let ends_for_others = self.spec().session_lost == SessionLost::End && self.has_nodes();
        gone.may_return && (runs || (ends_for_others && !gone.is_sure))
    }

    /// The request of a session that could not be [sent](Self::may_move) to its replica. Another one takes the
    /// session over, unless something else runs in it.
    pub(super) async fn moved(
        self: &Arc<Self>,
        call: Incoming,
        context: MessageContext,
        (session, lost): (Arc<Session>, Arc<Attached>),
        message: Message,
        error: &Unanswered,
    ) -> Result<Answer, Failure> {
        let runs = !runs_alone(&session, &message);
        if self.is_there_again((&session, runs), &lost, None).await? {
            let sent = self.send_again(call, context, &session, &message).await?;
            return sent.ok_or_else(Failure::session_gone);
        }
        Err(self.unsent(error))
    }

    /// Whether a request of this session could not be sent to its replica, and another one can take the session
    /// over: nothing is lost by trying.
    pub(super) fn may_move(&self, error: &Unanswered, to: To) -> bool {
        let several = self.group().is_some_and(|group| group.replicas().len() > 1);
        several && matches!(to, To::Only(_)) && error.is_unreachable()
    }

    /// Says which of several replicas has no endpoint: what a client is told names none.
    pub(super) fn warn_of_replica(&self, replica: usize) {
        let replica = self.group().and_then(|it| it.replicas().get(replica));
        if let Some(name) = replica.and_then(|it| it.name.as_deref()) {
            tracing::warn!(
                upstream = self.name(),
                replica = name,
                "it answers 404 at its URL"
            );
        }
    }

    /// Says so if a session was opened where this gateway knows no such replica.
    pub(super) fn warn_of_stranger(&self, session: &Session) {
        let attached = attached(session).unwrap_or_default();
        let group = self.group().filter(|group| group.pins());
        let name = attached.replica.as_deref();
        let is_known = match group {
            Some(group) => name.is_some_and(|name| group.named(name).is_some()),
            None => name.is_none(),
        };
        if !is_known {
            tracing::warn!(
                upstream = self.name(),
                session = ?session.id(),
                replica = name.unwrap_or("(none)"),
                "a session was opened at a replica that is not in the configuration here; all gateways need the same one"
            );
        }
    }

    pub(super) fn replica_gone(&self, gone: &Gone) -> Failure {
        let (name, replica) = (self.name(), &gone.replica);
        let text =
            format!("the replica {replica} of {name}, which has the session, does not answer");
        Failure::paused(text, PAUSE)
    }

    /// None of the replicas may be asked now.
    pub(super) fn none_may_be_asked(&self, retry_after: Duration) -> Failure {
        let name = self.name();
        let text = format!("the last requests to {name} failed, and it is left alone for a while");
        let pause = if retry_after.is_zero() {
            PAUSE
        } else {
            retry_after
        };
        Failure::paused(text, pause)
    }
}

/// Whether nothing else runs in the session than this message.
pub(super) fn runs_alone(session: &Session, message: &Message) -> bool {
    session.in_flight() <= usize::from(message.kind() == Kind::Request)
}
