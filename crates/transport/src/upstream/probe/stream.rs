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
    let answer = timeout(ENDPOINT_TIMEOUT, initialize(&mut pipe)).await;
    let message = answer.unwrap_or_else(|_| {
        tracing::debug!("initialize over the stream of a probe was not answered in time");
        None
    });
    proto::http_sse(message.as_ref())
}

async fn initialize(pipe: &mut Pipe) -> Option<Message> {
    let request = proto::initialize_request(PROBE_ID, Revision::NEWEST_LEGACY);
    let Pipe { sender, receiver } = pipe;
    let receiving = async {
        loop {
            let message = receiver.next().await?;
            match message {
                Ok(message) if is_response(&message) => return Some(message),
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, "the stream of a probe ended early");
                    return None;
                }
            }
        }
    };
    let sending = async {
        if let Err(error) = sender.send(request).await {
            tracing::debug!(%error, "initialize over the stream of a probe was not taken");
            sender.close();
        }
    };
    // The answer may come before the POST is answered.
    tokio::join!(sending, receiving).1
}

fn is_response(message: &Message) -> bool {
    let ours = message
        .id()
        .is_some_and(|id| id.as_json() == PROBE_ID.as_bytes());
    ours && message.kind() == Kind::Response
}
