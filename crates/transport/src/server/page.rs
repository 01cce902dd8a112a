//! Pages beside the MCP endpoints, for operators: answered at once from what is known.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::header::ALLOW;
use http::{HeaderValue, Method, StatusCode};

use crate::server::exchange::Answer;
use crate::server::head::RequestHead;
use crate::server::{Route, ServerBuilder, ServerStats, SessionManager, Shared, ladder};

/// What a page can show.
#[derive(Debug)]
#[non_exhaustive]
pub struct Figures {
    /// Figures of the server.
    pub stats: ServerStats,
    /// It takes no new work, and shuts down.
    pub is_draining: bool,
    /// The sessions.
    pub sessions: SessionManager,
}

/// Who may see a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageAccess {
    /// Everybody who can connect: for probes that have no token.
    Open,
    /// Who brings a token, if tokens are [needed](crate::server::ServerConfig::tokens).
    Authenticated,
}

/// A page. It is read with GET; its `Host` and `Origin` are checked as everywhere.
pub(crate) struct Page {
    access: PageAccess,
    show: Box<dyn Fn(&Figures) -> Answer + Send + Sync>,
}

impl ServerBuilder {
    /// Serves a page at `path`. `show` is called on the way of the request: it must not block.
    pub fn page(
        mut self,
        path: impl Into<String>,
        access: PageAccess,
        show: impl Fn(&Figures) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let show = Box::new(show);
        let page = Arc::new(Page { access, show });
        self.routes.insert(path.into(), Route::Page(page));
        self
    }
}

impl Page {
    /// # Errors
    /// The refusal.
    pub(crate) fn answer(&self, shared: &Shared, head: &RequestHead) -> Result<Answer, Answer> {
        if head.method != Method::GET && head.method != Method::HEAD {
            let text = "this page is read with GET";
            let mut refused = ladder::refuse(StatusCode::METHOD_NOT_ALLOWED, text);
            let allow = HeaderValue::from_static("GET, HEAD");
            refused.headers.insert(ALLOW, allow);
            return Err(refused);
        }
        if self.access == PageAccess::Authenticated {
            ladder::authenticate(shared, head)?;
        }
        let figures = Figures {
            stats: shared.stats(),
            is_draining: shared.is_draining(),
            sessions: shared.sessions.clone(),
        };
        Ok((self.show)(&figures))
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page")
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// Reading them changes nothing.
    pub(crate) fn stats(&self) -> ServerStats {
        let count = |c: &std::sync::atomic::AtomicU64| c.load(Ordering::Relaxed);
        let counters = &self.counters;
        ServerStats {
            connections: count(&counters.connections),
            connections_refused: count(&counters.connections_refused),
            connections_open: self.connections.used(),
            requests: count(&counters.requests),
            requests_open: self.requests.used() + self.late_requests.used(),
            answers: std::array::from_fn(|at| count(&counters.answers[at])),
            buffered_bytes: self.buffered.used(),
            streams: count(&counters.streams),
            streams_open: self.streams.used(),
            stalled: count(&counters.stalled),
            detached: count(&counters.detached),
            keep_alives: count(&counters.keep_alives),
            sessions: self.sessions.stats().live,
        }
    }
}
