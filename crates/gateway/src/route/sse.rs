//! Opening the stream of a server of HTTP+SSE, at one of its replicas.

use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};
use thinpipe_proto::balance::{Outcome, Tried};
use thinpipe_transport::upstream::pipe::{Pipe, PipeError};
use thinpipe_transport::upstream::sse;

use super::Route;
use crate::failure::Failure;
use crate::group::Group;
use crate::headers;
use crate::interceptor::MessageContext;

impl Route {
    /// Headers of a client's request that reach a server of HTTP+SSE; interceptors have their say about them.
    ///
    /// # Errors
    /// An interceptor failed.
    pub(super) fn headers_over_sse(
        &self,
        headers: HeaderMap,
        context: &MessageContext,
    ) -> Result<HeaderMap, Failure> {
        let mut headers = headers::without_session(headers);
        // Those of the client's POST; each request to the server has its own.
        headers.remove(ACCEPT);
        headers.remove(CONTENT_TYPE);
        self.chain.headers(context, &mut headers)?;
        Ok(headers)
    }

    /// HTTP+SSE: GET of the stream, with headers that are complete. They go with what the gateway itself says in
    /// the session, too. A replica that cannot be reached is passed over.
    pub(super) async fn open_sse(
        &self,
        group: &Group,
        headers: HeaderMap,
    ) -> Result<Pipe, Failure> {
        let (mut tried, mut before) = (Tried::default(), None);
        let opened = loop {
            let picked = match (group.pick(tried), before.take()) {
                (Ok(picked), _) => picked,
                (Err(_), Some(error)) => break Err(error),
                (Err(none), None) => return Err(self.unsent(&none)),
            };
            let (replica, is_last) = (picked.index(), picked.is_only());
            let upstream = &picked.replica().upstream;
            let limit = self.max_message();
            let opened = sse::open(upstream, headers.clone(), limit, self.buffered()).await;
            picked.ended(opening_outcome(&opened));
            tried.add(replica);
            match opened {
                Err(error) if is_unsent(&error) && !is_last => before = Some(error),
                opened => break opened,
            }
        };
        opened.map_err(|error| {
            if matches!(
                error,
                PipeError::NotAStream { .. } | PipeError::NotAnEndpoint { .. }
            ) {
                self.era().contradicted_stream();
            }
            if matches!(error, PipeError::Upstream(_)) {
                self.suspect();
            }
            self.not_opened(&error)
        })
    }
}

/// Whether nothing was asked of who failed.
fn is_unsent(error: &PipeError) -> bool {
    matches!(error, PipeError::Upstream(error) if error.is_unsent())
}

/// What it says of a replica that a stream was opened there, or was not.
fn opening_outcome(opened: &Result<Pipe, PipeError>) -> Outcome {
    match opened {
        Ok(_) => Outcome::Success,
        Err(PipeError::Upstream(_) | PipeError::NoEndpoint { .. }) => Outcome::Failure,
        Err(_) => Outcome::Unknown,
    }
}
