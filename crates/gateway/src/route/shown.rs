//! What a client of 2026-07-28 gets to see of what a server of that revision says to its request (protocol notes
//! 5.5).
//!
//! Mostly that is all of it, unread. Read is what has to be another on this side, and what interceptors read
//! anyway: there it costs nothing more to leave out what no such client gets.

use std::sync::Arc;

use http::StatusCode;
use thinpipe_proto::rpc::{Kind, Message, RequestId};

use super::Route;
use super::multiplex::DISCOVER;
use super::pinned::Question;
use crate::failure::Failure;
use crate::relay::Edit;

/// The request, as far as it says what of the answer is shown.
struct Shown {
    route: Arc<Route>,
    /// Its progress token.
    token: Option<RequestId>,
    names_versions: bool,
}

impl Route {
    /// What the answer to this request has to be read for; `None`: nothing.
    pub(super) fn shown(self: &Arc<Self>, message: &Message) -> Option<Arc<dyn Edit>> {
        let names_versions = message.method() == Some(DISCOVER);
        if !names_versions && !self.reads() {
            return None;
        }
        let token = message.meta("progressToken");
        Some(Arc::new(Shown {
            route: Arc::clone(self),
            token: token.and_then(|token| RequestId::parse(token).ok()),
            names_versions,
        }))
    }
}

impl Edit for Shown {
    fn edit(&self, message: Message) -> Option<Message> {
        let upstream = self.route.name();
        match message.kind() {
            Kind::Request => {
                let method = message.method().unwrap_or_default();
                tracing::warn!(
                    upstream,
                    method,
                    "a request to a client that answers none; skipped"
                );
                None
            }
            Kind::Notification if self.is_foreign_progress(&message) => {
                tracing::debug!(upstream, "progress of another request; skipped");
                None
            }
            Kind::Notification => Some(message),
            Kind::Response | Kind::ErrorResponse if self.names_versions => {
                let message = self.route.with_versions(message);
                Some(self.route.heard(message, Question::Discover))
            }
            Kind::Response | Kind::ErrorResponse => Some(message),
        }
    }

    fn not_read(&self, status: StatusCode, failure: Failure) -> Failure {
        match self.names_versions {
            true => self.route.not_read(status, failure),
            false => failure,
        }
    }
}

impl Shown {
    fn is_foreign_progress(&self, message: &Message) -> bool {
        if message.method() != Some("notifications/progress") {
            return false;
        }
        let token = message.param("progressToken");
        let token = token.and_then(|token| RequestId::parse(token).ok());
        token.is_none() || token != self.token
    }
}
