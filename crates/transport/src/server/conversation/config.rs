//! How the streams of a session behave.

use std::time::Duration;

use crate::server::event_buffer::EventBufferConfig;

/// How a [`Conversation`](super::Conversation) behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConversationConfig {
    /// Each of its streams. With [retention](EventBufferConfig::retention) they can be resumed.
    pub buffer: EventBufferConfig,
    /// A request that is not answered after this gets its answer as an event stream, which can be kept
    /// alive. Default: 15 s.
    pub commit_after: Duration,
    /// A server's request for which the client has no stream open waits so long for one. Default: 30 s.
    pub hold: Duration,
    /// The server's requests that wait for their answer at one time. Default: 1,000.
    pub max_asked: usize,
    /// How long a stream is kept after its response, if it can be resumed. Default: 60 s.
    pub finished_for: Duration,
    /// Bytes that all streams of a session keep for clients that may come back. Default: 8 MiB; the oldest go
    /// first. What a client is about to read stays; that is bounded by each stream.
    pub max_kept: usize,
    /// How long a client is asked to wait before it comes back to a stream that ended under it, where streams can
    /// be ended so: if they can be gone on with on another node (2025-11-25). Default: 1 s.
    pub retry: Duration,
    /// Ids of the server's requests begin after this number. A session that goes on elsewhere must not use those
    /// that its client was asked under before, and may answer yet. Below 2^52, as clients may hold numbers to be floating
    /// point. Default: 0.
    pub questions_after: u64,
}

impl Default for ConversationConfig {
    fn default() -> Self {
        Self {
            buffer: EventBufferConfig::default(),
            commit_after: Duration::from_secs(15),
            hold: Duration::from_secs(30),
            max_asked: 1_000,
            finished_for: Duration::from_secs(60),
            max_kept: 8 << 20,
            retry: Duration::from_secs(1),
            questions_after: 0,
        }
    }
}

impl ConversationConfig {
    pub(super) fn resumes(&self) -> bool {
        !self.buffer.retention.is_zero()
    }
}
