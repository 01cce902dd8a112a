//! Sessions that go on in another process than the one that had them, of several that share their stores: what the
//! library keeps of a session is in its record; what a handler keeps is not.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

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

/// What could not be stored is stored after this.
const STORED_AGAIN: Duration = Duration::from_secs(1);

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

    /// Whether this is what another process would find.
    fn is_stored(&self, stored: &[u8]) -> bool {
        let Some((level, uris)) = Self::decode(stored) else {
            return false;
        };
        let same = |now: &Vec<String>| {
            let (now, stored) = (now.iter(), uris.iter());
            now.collect::<BTreeSet<_>>() == stored.collect()
        };
        level.as_str() == self.level && self.uris.as_ref().is_some_and(same)
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
        let sessions = self.sessions();
        let random = sessions.map(|sessions| sessions.random().clone());
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

    /// Whether another process could go on with a session that is held here: not while it would find what was set up
    /// before the last that was.
    pub(super) fn goes_on_elsewhere(&self, session: &Session) -> bool {
        let is_stored = |state| Kept::of(state).is_stored(&session.attachment());
        self.info.sessions_go_on() && SessionState::existing(session).is_some_and(is_stored)
    }

    /// Stores what a client has set up, soon: what changes meanwhile is stored once, and what the store does not take
    /// again and again. Does nothing where no other process would read it.
    pub(super) fn keep(&self, session: &Arc<Session>) {
        let sessions = self.sessions().filter(|_| self.info.sessions_go_on());
        let Some(sessions) = sessions.filter(|sessions| sessions.has_nodes()) else {
            return;
        };
        if !SessionState::existing(session).is_some_and(SessionState::begins_storing) {
            return;
        }
        let (manager, session) = (sessions.clone(), Arc::clone(session));
        sessions.spawn(async move {
            let mut is_late = false;
            while let Some(state) = SessionState::existing(&session)
                && state.has_to_store()
            {
                if session.is_ended() {
                    continue;
                }
                let kept = Kept::of(state).encode();
                let Err(error) = manager.keep_attachment(&session, kept).await else {
                    is_late = false;
                    continue;
                };
                if !std::mem::replace(&mut is_late, true) {
                    tracing::warn!(session = ?session.id(), %error, "what was set up may be lost with this process");
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

    /// F9, 5.8 (10): a session is not left to another process that would not know all that was set up in it.
    #[test]
    fn f9_what_is_stored_is_what_was_set_up() {
        let kept = |level: &str, uris: &[&str]| Kept {
            v: VERSION,
            level: level.to_owned(),
            uris: Some(uris.iter().map(ToString::to_string).collect()),
        };
        assert!(kept("info", &[]).is_stored(b""));
        let now = kept("info", &["a", "b"]);
        assert!(now.is_stored(&kept("info", &["b", "a"]).encode()));
        for before in [kept("error", &["a", "b"]), kept("info", &["a"])] {
            assert!(!now.is_stored(&before.encode()));
        }
        assert!(!now.is_stored(b""));
        let too_many = Kept { uris: None, ..now };
        assert!(!too_many.is_stored(&too_many.encode()));
    }
}
