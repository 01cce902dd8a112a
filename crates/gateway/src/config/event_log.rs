//! What is kept of streams, so that clients can resume them.

use std::time::Duration;

use thinpipe_transport::server::conversation::ConversationConfig;
use thinpipe_transport::server::event_buffer::EventBufferConfig;

/// How much is kept of streams whose events have ids of the gateway, and for how long. Whichever is reached first,
/// the oldest go; what a client asks for that has gone is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventLogLimits {
    /// Events of a stream. Default: 1,000.
    pub max_events: usize,
    /// Bytes of a stream; a single event may be larger. Default: 1 MiB.
    pub max_bytes: usize,
    /// How long an event is kept. Default: 5 min.
    pub age: Duration,
    /// How long a stream is kept after its last event. Default: 60 s.
    pub finished_for: Duration,
    /// Bytes of all streams of a session. Default: 8 MiB.
    pub session_bytes: usize,
}

impl Default for EventLogLimits {
    fn default() -> Self {
        let buffer = EventBufferConfig::resumable();
        let streams = ConversationConfig::default();
        Self {
            max_events: buffer.max_events,
            max_bytes: buffer.max_bytes,
            age: buffer.retention,
            finished_for: streams.finished_for,
            session_bytes: streams.max_kept,
        }
    }
}

impl EventLogLimits {
    /// Streams that keep so much.
    pub(crate) fn conversation(&self) -> ConversationConfig {
        let streams = ConversationConfig::default();
        ConversationConfig {
            buffer: EventBufferConfig {
                max_events: self.max_events,
                max_bytes: self.max_bytes,
                retention: self.age,
            },
            finished_for: self.finished_for,
            max_kept: self.session_bytes,
            ..streams
        }
    }
}
