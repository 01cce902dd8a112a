//! Several observers of HTTP+SSE in the place of one.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::server::event_buffer::EventBuffer;
use crate::server::{Answer, Session, SessionEnd, SseObserver};

/// Each is told, in order; the first that answers in place of the handler does.
#[derive(Clone)]
pub(super) struct Observers(Vec<Arc<dyn SseObserver>>);

impl Observers {
    pub(super) fn of(first: impl SseObserver) -> Self {
        Self(vec![Arc::new(first)])
    }

    pub(super) fn add(&mut self, observer: Arc<dyn SseObserver>) {
        self.0.push(observer);
    }
}

impl SseObserver for Observers {
    fn response_headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        let all = self.0.iter();
        all.flat_map(|one| one.response_headers()).collect()
    }

    fn instead(&self, headers: &HeaderMap) -> Option<Answer> {
        self.0.iter().find_map(|one| one.instead(headers))
    }

    fn opened(&self, session: &Arc<Session>, headers: &HeaderMap) {
        for one in &self.0 {
            one.opened(session, headers);
        }
    }

    fn negotiated(&self, session: &Arc<Session>) {
        for one in &self.0 {
            one.negotiated(session);
        }
    }

    fn initialized(&self, session: &Arc<Session>, stream: &EventBuffer) {
        for one in &self.0 {
            one.initialized(session, stream);
        }
    }

    fn ended(&self, session: &Arc<Session>, why: SessionEnd) {
        for one in &self.0 {
            one.ended(session, why);
        }
    }
}
