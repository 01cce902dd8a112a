//! The last question of a probe over HTTP: is it HTTP+SSE?

use http::HeaderMap;
use thinpipe_proto::probe::{self as proto, ENDPOINT_TIMEOUT, NotOpened, Verdict};
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::{Kind, Message};
use tokio::time::timeout;

use super::{MAX_ANSWER, PROBE_ID, ProbeError};
use crate::ByteBudget;
use crate::body::BodyError;
use crate::upstream::pipe::{Pipe, PipeError};
use crate::upstream::{Upstream, UpstreamError, sse};

/// Opens a session, or says what there is instead.
pub(super) async fn open(
    upstream: &Upstream,
    headers: &HeaderMap,
    budget: &ByteBudget,
) -> Result<Result<Pipe, NotOpened>, ProbeError> {
    let opened = sse::open(upstream, headers.clone(), MAX_ANSWER, budget).await;
    let saw = match opened {
        Ok(pipe) => return Ok(Ok(pipe)),
        Err(PipeError::NotAStream { status, .. }) => NotOpened::Other(status.as_u16()),
        Err(PipeError::BadEndpoint { .. }) => NotOpened::BadEndpoint,
        Err(PipeError::NoEndpoint { opened: false, .. }) => NotOpened::Silence,
        Err(
            PipeError::NoEndpoint { .. }
            | PipeError::NotAnEndpoint { .. }
            | PipeError::TooLarge { .. },
        ) => NotOpened::NoEndpoint,
        Err(PipeError::Upstream(
            UpstreamError::Redirect { .. } | UpstreamError::Malformed { .. },
        )) => NotOpened::Unusable,
        Err(PipeError::Upstream(error)) => return Err(error.into()),
        Err(PipeError::Body { source, .. }) => return Err(source.into()),
        Err(PipeError::NoRoom { source, .. }) => return Err(BodyError::NoRoom(source).into()),
        Err(error) => return Err(error.into()),
    };
    Ok(Err(saw))
}

/// Asks who is there. A server that does not say is one of HTTP+SSE all the same.
pub(super) async fn ask(mut pipe: Pipe) -> Verdict {
    let request = proto::initialize_request(PROBE_ID, Revision::NEWEST_LEGACY);
    let asked = pipe.ask(request, |message| {
        is_response(message).then(|| message.clone())
    });
    let message = match timeout(ENDPOINT_TIMEOUT, asked).await {
        Ok(Ok(message)) => Some(message),
        Ok(Err(error)) => {
            tracing::debug!(%error, "initialize over the stream of a probe was not answered");
            None
        }
        Err(_) => {
            tracing::debug!("initialize over the stream of a probe was not answered in time");
            None
        }
    };
    proto::http_sse(message.as_ref())
}

fn is_response(message: &Message) -> bool {
    let ours = message
        .id()
        .is_some_and(|id| id.as_json() == PROBE_ID.as_bytes());
    ours && message.kind() == Kind::Response
}
