//! Streams of nodes that are gone, as the log has them.

use std::time::Duration;

use bytes::Bytes;
use thinpipe_proto::rpc::{self, RequestId, code};
use thinpipe_store::{EventLog, LogEntry, LogError, LogPage, StreamKey};

use super::LogWriter;
use crate::server::event_buffer::END;

/// How long a client that comes back waits for the log.
const PATIENCE: Duration = Duration::from_secs(2);

/// Events that are asked for at once.
const PAGE: usize = 256;

/// Why a stream cannot be gone on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Lost {
    /// There is none, or not all that is asked for.
    Unknown,
    /// The log does not answer.
    Unavailable,
}

impl From<LogError> for Lost {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Store(error) => {
                tracing::warn!(%error, "the log of streams cannot be read");
                Self::Unavailable
            }
            _ => Self::Unknown,
        }
    }
}

/// The rest of a stream to which nothing is added any more.
#[derive(Debug)]
pub(in crate::server) struct Replayed {
    /// What it answers.
    pub(in crate::server) request: RequestId,
    /// All that came after the event asked for.
    pub(in crate::server) entries: Vec<LogEntry>,
    /// Number of its last event.
    pub(in crate::server) newest: u64,
}

/// Reads what came after an event of a stream that answers a request and is not written here (any more). If it has no
/// end, who wrote it is gone: then its request is answered here that its outcome is not known, unless that node was
/// quicker (protocol notes 5.8, 5). Of a stream that has ended here, and of which not enough is left, `ended_with` is the
/// number of its last event.
pub(in crate::server) async fn replay(
    log: &dyn EventLog,
    key: &StreamKey,
    after: u64,
    ended_with: Option<u64>,
) -> Result<Replayed, Lost> {
    let read = tokio::time::timeout(PATIENCE, finished(log, key, after, ended_with));
    let page = read.await.map_err(|_| Lost::Unavailable)??;
    let request = request_of(&page)?;
    let (mut entries, mut newest) = (page.entries, page.newest);
    if entries.pop_if(|last| last.message == END).is_some() {
        newest -= 1;
    }
    Ok(Replayed {
        request,
        entries,
        newest,
    })
}

/// Whether any node has begun a stream.
pub(in crate::server) async fn begun(writer: &LogWriter, key: &StreamKey) -> Result<bool, Lost> {
    let read = tokio::time::timeout(PATIENCE, writer.log().read(key, 0, 1));
    match read.await.map_err(|_| Lost::Unavailable)? {
        Ok(_) | Err(LogError::Evicted) => Ok(true),
        Err(LogError::Unknown) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Reads the events of a stream between these two.
pub(in crate::server) async fn earlier(
    writer: &LogWriter,
    key: &StreamKey,
    after: u64,
    before: u64,
) -> Result<Vec<LogEntry>, Lost> {
    let read = tokio::time::timeout(PATIENCE, whole(writer.log(), key, after));
    let mut page = read.await.map_err(|_| Lost::Unavailable)??;
    let is_event = |entry: &LogEntry| entry.message != END;
    page.entries
        .retain(|entry| entry.sequence < before && is_event(entry));
    Ok(page.entries)
}

async fn finished(
    log: &dyn EventLog,
    key: &StreamKey,
    after: u64,
    ended_with: Option<u64>,
) -> Result<LogPage, Lost> {
    let page = whole(log, key, after).await?;
    match ended_with {
        _ if page.is_finished => return Ok(page),
        Some(last) if page.newest >= last => return Ok(page),
        // The log is to catch up.
        Some(_) => return Err(Lost::Unavailable),
        // That this process has begun it says nothing: it may have let go of the session since, and have it again.
        None => {}
    }
    let answer = outcome_unknown(&request_of(&page)?);
    match log.finish(key, answer).await {
        Ok(_) => {
            tracing::info!(
                stream = key.stream.0,
                "a request is answered for a node that is gone"
            )
        }
        Err(LogError::Finished) => {}
        Err(error) => return Err(error.into()),
    }
    whole(log, key, after).await
}

/// All there is after an event.
async fn whole(log: &dyn EventLog, key: &StreamKey, after: u64) -> Result<LogPage, Lost> {
    let mut page = log.read(key, after, PAGE).await?;
    loop {
        let last = page.entries.last().map_or(after, |entry| entry.sequence);
        if last >= page.newest {
            return Ok(page);
        }
        let more = log.read(key, last, PAGE).await?;
        if more.entries.is_empty() {
            return Err(Lost::Unknown);
        }
        page.entries.extend(more.entries);
        page.newest = more.newest;
        page.is_finished = more.is_finished;
    }
}

/// What a stream answers; only such a one can be finished for another node.
fn request_of(page: &LogPage) -> Result<RequestId, Lost> {
    let request = page.head.request.clone().ok_or(Lost::Unknown)?;
    RequestId::parse(request).map_err(|_| Lost::Unknown)
}

fn outcome_unknown(request: &RequestId) -> Bytes {
    let text = "the node that ran this request is gone; its outcome is not known";
    let data = reason!("outcome_unknown");
    rpc::error_response(
        Some(request),
        code::INTERNAL_ERROR,
        text,
        Some(data.as_bytes()),
    )
}
