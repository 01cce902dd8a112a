//! Sessions that go on in another process than the one that had them, of several that share their stores: what the
//! library keeps of a session is in its record; what a handler keeps is not.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::LogLevel;
use super::handler::MessageHandler;
use super::service::Service;
use super::session::{DEFAULT_LEVEL, SessionState};
use super::subscription::gap;
use crate::server::conversation::ConversationConfig;
use crate::server::{Adoption, Session};

/// The form that is written, and the only one that is read.
const VERSION: u32 = 1;

/// Bytes of URIs that a record holds. A session that has subscribed to more ends with its process.
const MAX_KEPT: usize = 128 << 10;

/// What a client has set up in its session, as its record has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    v: u32,
    level: String,
    /// `None`: there are more than a record holds.
    uris: Option<Vec<String>>,
}

impl Kept {
    /// What is known of a session now.
    pub(super) fn of(state: &SessionState) -> Self {
        let uris = state.uris();
        let bytes: usize = uris.iter().map(String::len).sum();
        Self {
            v: VERSION,
            level: state.level().unwrap_or(DEFAULT_LEVEL).as_str().to_owned(),
            uris: (bytes <= MAX_KEPT).then_some(uris),
        }
    }

    fn encode(&self) -> Bytes {
        serde_json::to_vec(self)
            .expect("text under fixed names is JSON")
            .into()
    }

    /// `None`: nobody here can go on with the session.
    fn decode(stored: &[u8]) -> Option<(LogLevel, Vec<String>)> {
        if stored.is_empty() {
            // Nothing was set up.
            return Some((DEFAULT_LEVEL, Vec::new()));
        }
        let kept: Self = serde_json::from_slice(stored).ok()?;
        let uris = kept.uris.filter(|_| kept.v == VERSION)?;
        Some((LogLevel::from_name(&kept.level)?, uris))
    }
}

impl<H: MessageHandler> Service<H> {
    /// Goes on with a session that another process had, unless it has ended with that.
    pub(super) async fn take_over(&self, session: &Session) -> Adoption {
        let kept = Kept::decode(&session.attachment());
        let Some((level, uris)) = kept.filter(|_| self.info.sessions_go_on()) else {
            return Adoption::Ended;
        };
        let random = self
            .sessions
            .get()
            .map(|sessions| sessions.random().clone());
        let config = ConversationConfig {
            questions_after: random.unwrap_or_default().unused_ids(),
            ..self.conversation
        };
        let Some(state) = session.state(|| SessionState::new(session, &config, true)) else {
            return Adoption::Ended;
        };
        state.set_up(level, uris);
        state.conversation.take_over().await;
        // What has changed meanwhile nobody has told.
        for notice in gap(&self.info, &state.uris()) {
            state.conversation.say(&notice, None).await;
        }
        Adoption::Done
    }

    /// Whether another process could go on with a session that is held here.
    pub(super) fn goes_on_elsewhere(&self, session: &Session) -> bool {
        let state = SessionState::existing(session);
        self.info.sessions_go_on() && state.is_some_and(|state| Kept::of(state).uris.is_some())
    }

    /// Stores what a client has set up, soon: what changes meanwhile is stored once. Does nothing where no other
    /// process would read it.
    pub(super) fn keep(&self, session: &Arc<Session>) {
        let sessions = self.sessions.get().filter(|_| self.info.sessions_go_on());
        let Some(sessions) = sessions.filter(|sessions| sessions.has_nodes()) else {
            return;
        };
        if !SessionState::existing(session).is_some_and(SessionState::begins_storing) {
            return;
        }
        let (manager, session) = (sessions.clone(), Arc::clone(session));
        sessions.spawn(async move {
            while let Some(state) = SessionState::existing(&session)
                && state.has_to_store()
            {
                let kept = Kept::of(state).encode();
                if let Err(error) = manager.set_attachment(&session, kept).await {
                    tracing::warn!(session = ?session.id(), %error, "what was set up may be lost with this process");
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// F13: what is stored is versioned JSON, and what is not is not guessed at.
    #[test]
    fn f13_what_is_kept_is_versioned_json() {
        let uris = vec!["file:///a".to_owned()];
        let kept = Kept {
            v: VERSION,
            level: "error".to_owned(),
            uris: Some(uris.clone()),
        };
        let stored = kept.encode();
        assert_eq!(stored, r#"{"v":1,"level":"error","uris":["file:///a"]}"#);
        assert_eq!(Kept::decode(&stored), Some((LogLevel::Error, uris)));
        assert_eq!(Kept::decode(b""), Some((DEFAULT_LEVEL, Vec::new())));
        for other in [
            r#"{"v":2,"level":"error","uris":[]}"#,
            r#"{"v":1,"level":"loud","uris":[]}"#,
            r#"{"v":1,"level":"error","uris":null}"#,
            "text",
        ] {
            assert_eq!(Kept::decode(other.as_bytes()), None, "{other}");
        }
    }
}
