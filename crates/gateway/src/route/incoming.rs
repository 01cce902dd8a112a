//! What comes in: an exchange taken apart, and what can be told of it before anything is done.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::{Kind, Message, RequestId};
use thinpipe_proto::session::Principal;
use thinpipe_transport::server::{Inbound, Session};

use super::piped::piped;
use crate::relay::Purpose;

/// Everything of an exchange but its message.
#[derive(Clone)]
pub(crate) struct Incoming {
    pub(crate) revision: Revision,
    pub(crate) principal: Principal,
    /// Where it comes from, if that is known.
    pub(crate) address: Option<IpAddr>,
    /// Those that may reach an upstream.
    pub(crate) headers: HeaderMap,
}

pub(super) fn purpose_of(message: &Message) -> Purpose {
    match message.id().filter(|_| message.kind() == Kind::Request) {
        Some(id) => Purpose::Request(id.clone()),
        None => Purpose::Unasked,
    }
}

/// Whether it needs no server that can be reached anew: the end of a session, or what goes over a pipe,
/// which says itself when it is broken.
pub(super) fn goes_on(inbound: &Inbound) -> bool {
    match inbound {
        Inbound::Terminate(_) => true,
        Inbound::Message(_, Some(session)) | Inbound::Listen(session, _) => {
            piped(session).is_some()
        }
        _ => false,
    }
}

pub(super) fn request_id(inbound: &Inbound) -> Option<&RequestId> {
    match inbound {
        Inbound::Stateless(message)
        | Inbound::Initialize(message, _)
        | Inbound::Message(message, _) => message.id().filter(|_| message.kind() == Kind::Request),
        _ => None,
    }
}

/// The session it belongs to.
pub(super) fn session_of(inbound: &Inbound) -> Option<&Arc<Session>> {
    match inbound {
        Inbound::Message(_, session) => session.as_ref(),
        Inbound::Listen(session, _) | Inbound::Terminate(session) => Some(session),
        _ => None,
    }
}
