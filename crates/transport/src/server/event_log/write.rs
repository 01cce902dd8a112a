//! One step of one stream: what the log is asked, and what its answer means.

use std::sync::atomic::Ordering;
use std::time::Duration;

use thinpipe_store::{LogEntry, LogError, StreamHead};

use super::Shared;
use crate::server::event_buffer::{END, EventBuffer, Logged, Step};

/// How long one request to the log may take.
pub(super) const ATTEMPT: Duration = Duration::from_secs(1);

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is done; there may be another one.
    Done,
    /// There was none.
    Idle,
    /// The log did not answer. It may have done it all the same.
    Unavailable,
}

/// Does the next step of a stream. `again`: the log may have done it already, or it comes late.
pub(super) async fn write(shared: &Shared, buffer: &EventBuffer, again: bool) -> Outcome {
    let Some(logged) = buffer.log() else {
        return Outcome::Idle;
    };
    let Some(step) = buffer.step() else {
        return Outcome::Idle;
    };
    let done = tokio::time::timeout(ATTEMPT, act(shared, buffer, logged, &step, again)).await;
    let error = match done {
        Ok(Ok(())) => return Outcome::Done,
        Ok(Err(LogError::Store(error))) => Some(error),
        Ok(Err(refused)) => {
            give_up(shared, buffer, logged, &refused).await;
            return Outcome::Done;
        }
        Err(_) => None,
    };
    shared.counts.failures.fetch_add(1, Ordering::Relaxed);
    tracing::debug!(stream = ?logged.key.stream, ?error, "the log of streams does not answer");
    Outcome::Unavailable
}

async fn act(
    shared: &Shared,
    buffer: &EventBuffer,
    logged: &Logged,
    step: &Step,
    again: bool,
) -> Result<(), LogError> {
    let (log, key) = (&*shared.log, &logged.key);
    match step {
        Step::Open => {
            if again && logged.request.is_none() {
                still_free(shared, logged).await?;
            }
            let head = StreamHead {
                owner: shared.node.clone(),
                request: logged.request.clone(),
            };
            buffer.opened(log.open(key, &head).await?);
        }
        Step::Append(entries) => {
            let appended = log.append(key, &shared.node, entries).await;
            let count = match appended {
                Ok(()) => entries.len(),
                Err(error @ (LogError::Evicted | LogError::Finished)) if again => {
                    there(shared, logged, entries).await?.ok_or(error)?
                }
                Err(error) => return Err(error),
            };
            shared.counts.appends.fetch_add(1, Ordering::Relaxed);
            let events = &shared.counts.events;
            events.fetch_add(count as u64, Ordering::Relaxed);
            if let Some(last) = entries.get(count - 1) {
                buffer.stored(last.sequence);
            }
        }
        Step::Mark => match log.finish(key, END).await {
            Ok(_) | Err(LogError::Finished | LogError::Unknown) => buffer.marked(),
            Err(error) => return Err(error),
        },
        Step::GiveUp => return Err(LogError::Evicted),
    }
    Ok(())
}

/// Whoever opens a standalone stream takes it from the node before. Who comes late may be that node itself, cut off
/// until now, and then another one has the session.
async fn still_free(shared: &Shared, logged: &Logged) -> Result<(), LogError> {
    match shared.log.read(&logged.key, 0, 1).await {
        Ok(page) if page.head.owner != shared.node => Err(LogError::Moved),
        Ok(_) | Err(LogError::Unknown) => Ok(()),
        Err(error) => Err(error),
    }
}

/// How many of these the log has, after an append whose answer was lost: perhaps fewer, if others have come since.
/// `None`: none of them, or others in their place.
async fn there(
    shared: &Shared,
    logged: &Logged,
    entries: &[LogEntry],
) -> Result<Option<usize>, LogError> {
    let before = entries.first().map_or(0, |first| first.sequence - 1);
    let page = match shared.log.read(&logged.key, before, entries.len()).await {
        Ok(page) => page,
        Err(LogError::Store(error)) => return Err(error.into()),
        Err(_) => return Ok(None),
    };
    let mut pairs = page.entries.iter().zip(entries);
    let is_same = pairs.all(|(there, here)| there.message == here.message);
    let is_ours = is_same && page.head.owner == shared.node;
    Ok(Some(page.entries.len()).filter(|count| is_ours && *count > 0))
}

/// The log has refused a step.
async fn give_up(shared: &Shared, buffer: &EventBuffer, logged: &Logged, refused: &LogError) {
    let stream = logged.key.stream;
    shared.counts.failures.fetch_add(1, Ordering::Relaxed);
    let is_finite = logged.request.is_some();
    match refused {
        LogError::Moved if buffer.is_in_log() => {
            tracing::info!(?stream, "another node has taken a stream over");
            buffer.fence();
        }
        LogError::Finished if is_finite => {
            tracing::info!(?stream, "another node has answered a request");
            buffer.fence();
        }
        _ => {
            tracing::warn!(?stream, %refused, "a stream cannot be resumed on other nodes any more");
            buffer.end_log();
            if buffer.is_in_log() {
                end_standalone(shared, logged).await;
            }
        }
    }
}

/// A standalone stream goes on in the log when another node takes the session over. Not this one: something
/// is missing in it.
async fn end_standalone(shared: &Shared, logged: &Logged) {
    if logged.request.is_some() {
        return;
    }
    let ended = tokio::time::timeout(ATTEMPT, shared.log.finish(&logged.key, END)).await;
    if !matches!(
        ended,
        Ok(Ok(_) | Err(LogError::Finished | LogError::Unknown))
    ) {
        tracing::warn!(stream = ?logged.key.stream, "the log cannot be told that a stream has a gap");
    }
}
