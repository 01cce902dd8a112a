//! Sessions of endpoints that are not here: whoever shares a store with other nodes is told that they are not alike.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use thinpipe_proto::seldom::Seldom;
use thinpipe_proto::session::Principal;
use thinpipe_store::SessionRecord;

use super::SessionManager;
use super::ownership::Seeker;
use crate::io::now;

/// How often it is warned at most: each request of such a session is one that is refused.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// The names of a server's endpoints.
#[derive(Debug, Default)]
pub(super) struct Endpoints {
    names: OnceLock<HashSet<Arc<str>>>,
    warned: Mutex<Seldom>,
}

impl Endpoints {
    /// Whether it is to be said that somebody's session was opened at an endpoint that is not here. One that is
    /// here is another matter: it may be the client that asks at the wrong one.
    fn is_news(&self, record: &SessionRecord, seeker: &Principal, now: Instant) -> bool {
        let names = self.names.get();
        let is_strange = names.is_some_and(|names| !names.contains(&*record.endpoint));
        // To another principal there is no such session, in the log neither.
        if !is_strange || record.principal != *seeker {
            return false;
        }
        // Nothing panics while it is held.
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        warned.is_due(now, WARN_EVERY)
    }
}

impl SessionManager {
    /// The endpoints that sessions are opened at here. Only the first call counts.
    pub(crate) fn serves(&self, names: impl Iterator<Item = Arc<str>>) {
        self.inner.endpoints.names.get_or_init(|| names.collect());
    }

    /// Says so, now and then, if a session is not found because it was opened at an endpoint that is not here.
    pub(super) fn warn_of_stranger(&self, record: &SessionRecord, seeker: Seeker<'_>) {
        if self
            .inner
            .endpoints
            .is_news(record, seeker.principal, now())
        {
            tracing::warn!(
                session = ?record.id,
                opened_at = &*record.endpoint,
                asked_for_at = &**seeker.endpoint,
                "a session was opened at an endpoint (an upstream) whose name is not in the configuration here; all gateways need the same ones"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use thinpipe_proto::revision::{Binding, Revision};
    use thinpipe_proto::session::SessionId;

    use super::*;

    fn record(endpoint: &str) -> SessionRecord {
        SessionRecord {
            id: SessionId::from_random([7; 16]),
            principal: Principal::Anonymous,
            endpoint: endpoint.into(),
            binding: Binding::Sessions,
            revision: Revision::NEWEST_LEGACY,
            initialize_params: Bytes::new(),
            attachment: Bytes::new(),
            owner: None,
            created_ms: 0,
        }
    }

    /// F6: an endpoint that is not here is told of now and then; one that is here, or somebody else's session, never.
    #[test]
    fn f6_an_endpoint_that_is_not_here_is_told_of_now_and_then() {
        let (endpoints, begun) = (Endpoints::default(), now());
        let names = ["team", "other"].map(Arc::from);
        assert!(endpoints.names.set(names.into()).is_ok());
        let is_news = |endpoint, after| {
            endpoints.is_news(&record(endpoint), &Principal::Anonymous, begun + after)
        };
        assert!(!is_news("other", Duration::ZERO));
        let somebody = Principal::Named("somebody".into());
        assert!(!endpoints.is_news(&record("crew"), &somebody, begun));
        assert!(is_news("crew", Duration::ZERO));
        assert!(!is_news("crew", WARN_EVERY - Duration::from_millis(1)));
        assert!(is_news("crew", WARN_EVERY));
    }
}
