//! Places for refusals on their way to a server whose requests the client does not get to see.

use std::sync::Arc;

use thinpipe_proto::session::UpstreamSessionId;
use thinpipe_transport::server::Session;
use tokio::sync::Semaphore;

use super::SessionState;
use crate::group::To;

/// Refusals that may be on their way at one time: in one session, or for one answer outside of any.
pub(crate) const MAX_REFUSALS: usize = 32;

/// The upstream's side of the answer that such requests come in.
#[derive(Debug, Default)]
pub(crate) struct Origin {
    /// Places of their own for answers that are in no session.
    places: Option<Arc<Semaphore>>,
    /// The upstream's session, while the client's is not open yet, and who has it.
    opening: Option<(To, UpstreamSessionId)>,
}

impl Origin {
    /// That of the answer to `initialize`, whose session is not open yet.
    pub(crate) fn opening(to: To, session: Option<UpstreamSessionId>) -> Self {
        Self {
            opening: session.map(|id| (to, id)),
            ..Self::default()
        }
    }

    /// Where the places are that this one's refusals take.
    pub(crate) fn places(&mut self, session: Option<&Arc<Session>>) -> Arc<Semaphore> {
        match session.and_then(|s| s.state(SessionState::default)) {
            Some(state) => state.refusals(),
            None => {
                let places = || Arc::new(Semaphore::new(MAX_REFUSALS));
                Arc::clone(self.places.get_or_insert_with(places))
            }
        }
    }

    /// The upstream's session, while the client's is not open yet, and who has it.
    pub(crate) fn opens(&self) -> (To, Option<UpstreamSessionId>) {
        match &self.opening {
            Some((to, id)) => (*to, Some(id.clone())),
            None => (To::Any, None),
        }
    }
}
