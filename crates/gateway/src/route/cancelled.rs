//! Requests of a session that their client has cancelled. Nobody waits for an answer any more, so that an error of
//! the gateway's own, should the server not answer either, would be one that nobody is owed (protocol notes 5.1,
//! "Cancel").

use std::sync::Arc;

use http::StatusCode;
use thinpipe_proto::bridge::cancelled_of;
use thinpipe_proto::revision::Binding;
use thinpipe_proto::rpc::{Message, RequestId};
use thinpipe_transport::body::Body;
use thinpipe_transport::server::{Answer, Content, Session, SessionManager};

use crate::failure::{Failure, Reason};
use crate::relay::source::into_stream;

/// Remembers a cancellation that is on its way to the server. Of several nodes, the one that runs the request does.
pub(super) fn note(
    sessions: impl FnOnce() -> Option<SessionManager>,
    session: &Session,
    message: &Message,
) {
    let Some(id) = cancelled_of(message) else {
        return;
    };
    match sessions() {
        Some(sessions) => sessions.note_cancelled(session, &id),
        None => {
            session.note_cancelled(&id);
        }
    }
}

/// An answer, unless it failed and nobody waits for it: then its stream ends without one. That the session is gone
/// its client hears all the same.
pub(super) fn unless_owed_to_nobody(
    answered: Result<Answer, Failure>,
    session: Option<&Arc<Session>>,
    id: Option<&RequestId>,
) -> Result<Answer, Failure> {
    let failure = match answered {
        Err(failure) if failure.reason != Reason::SessionGone => failure,
        answered => return answered,
    };
    let asked = session.zip(id);
    let Some((session, _)) = asked.filter(|(session, id)| session.is_cancelled(id)) else {
        return Err(failure);
    };
    tracing::debug!(error = %failure.text, "a call failed that its client had cancelled");
    Ok(match session.binding() {
        Binding::HttpSse => Answer::cancelled(),
        _ => {
            let nothing = Body::Stream(into_stream(Body::Empty));
            Answer::new(StatusCode::OK, Content::EventStream, nothing)
        }
    })
}
