//! What the operator was told that an upstream speaks: it is said once, and again when it changes.

use std::sync::{Mutex, PoisonError};

use crate::route::Route;

/// What was said last; nothing, as long as it is not known.
#[derive(Debug, Default)]
pub(super) struct News(Mutex<Option<String>>);

impl News {
    /// Whether this has not been said yet. Now it counts as said.
    pub(super) fn are(&self, speaks: &str) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let are_new = said.as_deref() != Some(speaks);
        if are_new {
            *said = Some(speaks.to_owned());
        }
        are_new
    }

    fn is_nothing_said(&self) -> bool {
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.is_none()
    }
}

impl Route {
    /// It has turned out what the upstream speaks.
    pub(super) fn tell_spoken(&self, speaks: &str) {
        if self.era().news.are(speaks) {
            tracing::info!(upstream = self.name(), speaks, "an upstream has answered");
        }
    }

    /// The upstream has opened a session, and nobody has had to ask it what it speaks.
    pub(crate) fn has_sessions(&self) {
        if !self.is_pinned() && self.era().news.is_nothing_said() {
            self.tell_spoken("Streamable HTTP with sessions");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_is_news_and_what_stays_is_not() {
        let news = News::default();
        assert!(news.is_nothing_said());
        let said = ["a", "a", "b", "a"].map(|speaks| news.are(speaks));
        assert_eq!(said, [true, false, true, true]);
    }
}
