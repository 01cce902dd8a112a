//! What the operator was told that an upstream speaks: it is said once, and again when it changes.

use std::sync::Mutex;

use thinpipe_transport::upstream::probe::{Speaks, Verdict};

use super::describe;
use crate::route::Route;
use crate::sync::lock;

/// What was said last; nothing, as long as it is not known.
#[derive(Debug, Default)]
pub(super) struct News(Mutex<Option<Spoken>>);

/// What an upstream speaks, as far as the operator is told.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Spoken {
    /// Sessions, up to a revision that nobody has asked for.
    Sessions,
    Known(Speaks),
}

impl Spoken {
    /// Whether who was told `self` learns nothing by this.
    fn covers(&self, now: &Self) -> bool {
        match (self, now) {
            // The newest revision that it does is no news of its own.
            (Self::Sessions, Self::Known(Speaks::Legacy { .. })) => true,
            (
                Self::Known(Speaks::HttpSse { revision: None }),
                Self::Known(Speaks::HttpSse { .. }),
            ) => true,
            // So much was said, whatever it was.
            (_, Self::Sessions) => true,
            _ => self == now,
        }
    }
}

impl News {
    /// Whether this has not been said yet. Now it counts as said.
    pub(super) fn are(&self, speaks: &Speaks) -> bool {
        self.tell(Spoken::Known(speaks.clone()))
    }

    fn tell(&self, spoken: Spoken) -> bool {
        let mut said = lock(&self.0);
        let is_said = said.as_ref().is_some_and(|said| said.covers(&spoken));
        if !is_said || spoken != Spoken::Sessions {
            *said = Some(spoken);
        }
        !is_said
    }
}

impl Route {
    /// It has turned out what the upstream speaks.
    pub(super) fn tell_spoken(&self, verdict: &Verdict) {
        if self.era().news.are(&verdict.speaks) {
            self.say_spoken(&describe(verdict));
        }
    }

    /// The upstream has opened a session, and nobody has had to ask it what it speaks.
    pub(crate) fn has_sessions(&self) {
        if !self.is_pinned() && self.era().news.tell(Spoken::Sessions) {
            self.say_spoken("Streamable HTTP with sessions");
        }
    }

    fn say_spoken(&self, speaks: &str) {
        tracing::info!(upstream = self.name(), speaks, "an upstream has answered");
    }
}

#[cfg(test)]
mod tests {
    use thinpipe_proto::revision::Revision;

    use super::*;

    #[test]
    fn what_changes_is_news_and_what_stays_is_not() {
        let legacy = |revision| Spoken::Known(Speaks::Legacy { revision });
        let (older, newer) = (
            legacy(Revision::V2025_06_18),
            legacy(Revision::NEWEST_LEGACY),
        );
        let modern = Spoken::Known(Speaks::Modern {
            revisions: vec![Revision::NEWEST],
            legacy: None,
        });
        let sse = |revision| Spoken::Known(Speaks::HttpSse { revision });
        let news = News::default();
        for (spoken, is_news) in [
            (Spoken::Sessions, true),
            (Spoken::Sessions, false),
            // It is known better now, so that a change will be noticed.
            (older.clone(), false),
            (Spoken::Sessions, false),
            (newer, true),
            (older, true),
            (modern.clone(), true),
            (modern.clone(), false),
            (Spoken::Sessions, false),
            (sse(None), true),
            (sse(Some(Revision::V2025_06_18)), false),
            (modern, true),
        ] {
            assert_eq!(news.tell(spoken.clone()), is_news, "{spoken:?}");
        }
    }
}
