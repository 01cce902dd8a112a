//! The probe of a child process.

use std::time::Duration;

use thinpipe_proto::probe::{self as proto, DISCOVER_TIMEOUT, StdioNext, StdioProbe, Verdict};
use tokio::time::timeout;

use super::ProbeError;
use crate::upstream::stdio::StdioUpstream;

/// How long `initialize` may take: the first start of a server may mean to download it.
const INITIALIZE_TIMEOUT: Duration = Duration::from_secs(60);

/// Asks a server that is a child process what it speaks, in a session of its own that is closed again: with
/// `server/discover`, and with `initialize` if that is not answered as it should within 5 s. If the child
/// ends over the first question, the second is put to a new one.
///
/// # Errors
/// [`ProbeError`].
pub async fn probe_stdio(upstream: &StdioUpstream) -> Result<Verdict, ProbeError> {
    let (mut probe, mut next) = StdioProbe::begin();
    let mut pipe = upstream.spawn()?;
    loop {
        next = match next {
            StdioNext::Done(verdict) => return Ok(verdict),
            StdioNext::Failed(failure) => return Err(failure.into()),
            StdioNext::Discover { id, revision } => {
                let request = proto::discover_request(&id, revision);
                let asked = pipe.ask(request, |message| probe.received(message));
                let unanswered = match timeout(DISCOVER_TIMEOUT, asked).await {
                    Ok(Ok(next)) => Ok(next),
                    Ok(Err(error)) => probe.exited().ok_or_else(|| error.into()),
                    Err(_) => probe.timed_out().ok_or(ProbeError::Silent {
                        after: DISCOVER_TIMEOUT,
                    }),
                };
                unanswered?
            }
            StdioNext::Initialize {
                id,
                revision,
                respawn,
            } => {
                if respawn {
                    pipe = upstream.spawn()?;
                }
                let request = proto::initialize_request(&id, revision);
                let asked = pipe.ask(request, |message| probe.received(message));
                match timeout(INITIALIZE_TIMEOUT, asked).await {
                    Ok(Ok(next)) => next,
                    // Slow to start, it may have ended over the question before this one.
                    Ok(Err(error)) => probe.exited().ok_or(error)?,
                    Err(_) => probe.timed_out().ok_or(ProbeError::Silent {
                        after: INITIALIZE_TIMEOUT,
                    })?,
                }
            }
        };
    }
}
