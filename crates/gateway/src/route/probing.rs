//! What a program speaks (protocol notes 1.4).

use std::time::Duration;

use thinpipe_proto::probe::{
    DISCOVER_TIMEOUT, StdioNext, StdioProbe, discover_request, initialize_request,
};
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::RequestId;
use thinpipe_transport::upstream::pipe::Pipe;
use thinpipe_transport::upstream::probe::{Speaks, Verdict};
use tokio::time::Instant;

use super::Route;
use super::server::{Server, spoken};
use crate::failure::{Failure, Reason};
use crate::pipe::{Children, Spoken};

impl Route {
    /// Asks a program what it speaks, with `server/discover`. The child that was asked is kept for whoever
    /// comes next. `None`: the server is no program.
    ///
    /// One that does not answer is taken for one with sessions. But it may be slow, or have failed, so that
    /// only its answer to `initialize` will [tell](crate::health::Era::said).
    pub(crate) async fn ask_program(&self) -> Option<Result<Asked, Failure>> {
        let Server::Stdio(children) = &self.server else {
            return None;
        };
        if self.program.as_ref().is_some_and(|program| program.runs()) {
            return Some(Ok(Asked::Answered(verdict_of(modern()))));
        }
        Some(self.ask_new_child(children).await)
    }

    async fn ask_new_child(&self, children: &Children) -> Result<Asked, Failure> {
        let pipe = children
            .start()
            .map_err(|not| not.into_failure(self.name()))?;
        let asking = ask_child(children, pipe, self.name(), self.request_timeout());
        let (asked, pipe) = asking.await?;
        if let Some(pipe) = pipe {
            children.keep(pipe);
        }
        Ok(asked)
    }
}

/// Asks a child what it speaks. It comes back if it can serve whoever comes next; one that has ended, or may
/// have a session, does not. `patience`: how long it may take to answer `initialize`.
///
/// # Errors
/// It answers, and what it speaks is not known here.
pub(crate) async fn ask_child(
    children: &Children,
    mut pipe: Pipe,
    name: &str,
    patience: Duration,
) -> Result<(Asked, Option<Pipe>), Failure> {
    let (mut probe, mut next) = StdioProbe::begin();
    let verdict = loop {
        next = match next {
            StdioNext::Discover { id, revision } => {
                let request = discover_request(&id, revision);
                let asked = pipe.ask(request, |message| probe.received(message));
                match tokio::time::timeout(DISCOVER_TIMEOUT, asked).await {
                    Ok(Ok(next)) => next,
                    // Some with sessions end over anything that is not initialize.
                    Ok(Err(error)) => {
                        tracing::debug!(upstream = name, %error, "a program ended when it was asked");
                        return Ok((Asked::Silent(legacy_verdict()), None));
                    }
                    Err(_) => match probe.timed_out() {
                        Some(next) => {
                            let slow = (pipe, probe, next);
                            return Ok(ask_slow_child(children, slow, name, patience).await);
                        }
                        None => return Ok((Asked::Silent(legacy_verdict()), None)),
                    },
                }
            }
            // Whoever comes next says it, in its own words.
            StdioNext::Initialize { .. } => break legacy_verdict(),
            StdioNext::Done(verdict) => break verdict,
            StdioNext::Failed(failure) => {
                let text = format!("{name} cannot be asked what it speaks: {failure}");
                return Err(Failure::new(Reason::Invalid, text));
            }
        };
    };
    children.answered(name, verdict.modern().map(|_| Spoken::Stateless));
    Ok((Asked::Answered(verdict), Some(pipe)))
}

/// One that has not answered in time may know the question and be slow, or not know it. It is asked for a
/// session behind it, and both answers count (R034).
async fn ask_slow_child(
    children: &Children,
    (mut pipe, mut probe, mut next): (Pipe, StdioProbe, StdioNext),
    name: &str,
    patience: Duration,
) -> (Asked, Option<Pipe>) {
    let until = Instant::now() + patience;
    // What it says to initialize last.
    let mut speaks = None;
    while let StdioNext::Initialize {
        id,
        revision,
        respawn: false,
    } = next
    {
        let request = initialize_request(&id, revision);
        let asked = pipe.ask(request, |message| {
            if message.kind().is_response()
                && message.id().map(RequestId::as_json) == Some(id.as_bytes())
            {
                speaks = spoken(message.source());
            }
            probe.received(message)
        });
        let concluded = match tokio::time::timeout_at(until, asked).await {
            Ok(Ok(next)) => Some(next),
            Ok(Err(_)) => {
                // There is nothing left to keep.
                speaks = None;
                probe.exited()
            }
            Err(_) => probe.timed_out(),
        };
        let Some(concluded) = concluded else {
            return (Asked::Silent(legacy_verdict()), None);
        };
        next = concluded;
    }
    let verdict = match (next, speaks) {
        (StdioNext::Done(verdict), _) => verdict,
        (_, Some(Spoken::Stateless)) => verdict_of(modern()),
        _ => return (Asked::Silent(legacy_verdict()), None),
    };
    match verdict.speaks {
        Speaks::Modern { .. } => children.answered(name, Some(Spoken::Stateless)),
        Speaks::Legacy { revision } => children.answered(name, Some(Spoken::Sessions(revision))),
        Speaks::HttpSse { .. } => {}
    }
    // A session that it has opened is nobody's, and one that it may yet open: they end here.
    let is_free = speaks == Some(Spoken::Stateless);
    (Asked::Answered(verdict), is_free.then_some(pipe))
}

/// What came of asking a program.
pub(crate) enum Asked {
    Answered(Verdict),
    /// It did not answer, or not in time.
    Silent(Verdict),
}

/// What speaks 2026-07-28, and nothing else as far as is known.
pub(crate) fn modern() -> Speaks {
    Speaks::Modern {
        revisions: vec![Revision::NEWEST],
        legacy: None,
    }
}

/// What is known of a server that was not asked who it is.
pub(crate) fn verdict_of(speaks: Speaks) -> Verdict {
    Verdict {
        speaks,
        server_name: None,
        server_version: None,
        discover: None,
    }
}

/// What is known of a program that has sessions before it has opened one.
fn legacy_verdict() -> Verdict {
    verdict_of(Speaks::Legacy {
        revision: Revision::NEWEST_LEGACY,
    })
}
