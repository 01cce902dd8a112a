//! What a client of 2026-07-28 gets to see of what a server of that revision says to its request (protocol notes
//! 5.5).
//!
//! Mostly that is all of it, unread. Read is what has to be another on this side, and what interceptors read
//! anyway: there it costs nothing more to leave out what no such client gets.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use memchr::memmem;
use thinpipe_proto::bridge::shape::is_round_method;
use thinpipe_proto::rpc::{
    Kind, Message, RequestId, code, error_response, member, quoted, splice, string,
};
use thinpipe_proto::session::Principal;

use super::Route;
use super::multiplex::DISCOVER;
use crate::downgrade::{MAX_SEALED, Scope};
use crate::relay::Edit;

/// The member of a result that the client gives back.
const STATE: &str = "requestState";

/// How long a state can be given back. What a person is asked may take its time, and servers bound it themselves.
const MAX_STATE_AGE: Duration = Duration::from_secs(60 * 60);

/// The request, as far as it says what of the answer is shown.
struct Shown {
    route: Arc<Route>,
    /// Its progress token.
    token: Option<RequestId>,
    /// Whose states are sealed.
    seals: Option<Principal>,
    names_versions: bool,
}

impl Route {
    /// What the answer to this request has to be read for; `None`: nothing.
    pub(super) fn shown(
        self: &Arc<Self>,
        message: &Message,
        principal: &Principal,
    ) -> Option<Arc<dyn Edit>> {
        let method = message.method().unwrap_or_default();
        let seals = self.spec.bridge.seal_state && is_round_method(method);
        let names_versions = method == DISCOVER;
        if !seals && !names_versions && !self.reads() {
            return None;
        }
        let token = message.meta("progressToken");
        Some(Arc::new(Shown {
            route: Arc::clone(self),
            token: token.and_then(|token| RequestId::parse(token).ok()),
            seals: seals.then(|| principal.clone()),
            names_versions,
        }))
    }

    /// The request with the server's own state, if it has one that was sealed for this principal.
    ///
    /// # Errors
    /// The refusal of one that was not, or is too old: nothing is asked then.
    pub(super) fn with_own_state(
        &self,
        message: Message,
        principal: &Principal,
    ) -> Result<Message, Bytes> {
        let method = message.method().unwrap_or_default();
        let given = message.param(STATE);
        let Some(given) = given.filter(|_| self.spec.bridge.seal_state && is_round_method(method))
        else {
            return Ok(message);
        };
        let open = || {
            let content = self.seals.open(self.scope(principal), &string(&given)?)?;
            let (until, state) = content.split_first_chunk()?;
            if seconds_now() > u64::from_be_bytes(*until) {
                return None;
            }
            Message::parse(splice(message.source(), &given, state)?).ok()
        };
        open().ok_or_else(|| {
            let text = "this requestState was not given to you, or too long ago; begin anew";
            let data = r#"{"reason":"stale_state"}"#;
            let data = Some(data.as_bytes());
            error_response(message.id(), code::INVALID_PARAMS, text, data)
        })
    }

    fn scope<'a>(&'a self, principal: &'a Principal) -> Scope<'a> {
        Scope::of_theirs(self.name(), principal)
    }

    /// A response whose state only this principal can give back.
    fn with_sealed_state(&self, message: Message, principal: &Principal) -> Message {
        // Most have none, and are not looked at closely.
        if memmem::find(message.source(), STATE.as_bytes()).is_none() {
            return message;
        }
        let result = message.result();
        let Some(state) = result.and_then(|result| member(&result, STATE)) else {
            return message;
        };
        let until = seconds_now() + MAX_STATE_AGE.as_secs();
        let content = [&until.to_be_bytes()[..], &state].concat();
        let seal = || {
            let sealed = self.seals.seal(self.scope(principal), &content).ok()?;
            // One that is longer could not be given back.
            let sealed = Some(sealed).filter(|sealed| sealed.len() <= MAX_SEALED)?;
            splice(message.source(), &state, quoted(&sealed).as_bytes())
        };
        let answer = seal().unwrap_or_else(|| {
            tracing::error!(upstream = self.name(), "a requestState cannot be sealed");
            let text = "the requestState of the server cannot be sealed; the call may have run";
            error_response(message.id(), code::INTERNAL_ERROR, text, None)
        });
        Message::parse(answer).unwrap_or(message)
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
            Kind::Response | Kind::ErrorResponse => {
                let message = match self.names_versions {
                    true => self.route.with_versions(message),
                    false => message,
                };
                Some(match &self.seals {
                    Some(principal) => self.route.with_sealed_state(message, principal),
                    None => message,
                })
            }
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

fn seconds_now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
