//! What a GET gets: the standalone stream, or a stream that was cut off.

use http::StatusCode;
use thinpipe_proto::session::{EventId, StreamId};

use super::{Conversation, ListenError, STANDALONE};
use crate::body::Body;
use crate::io::now;
use crate::server::event_buffer::{EventReader, Priming, parse_event_id};
use crate::server::exchange::{Answer, Content};

impl Conversation {
    /// Answers a GET: the standalone stream, or any stream after an event of it. With a log these are also streams
    /// that other nodes began, as far as the log has them; a request that such a node has not answered, is
    /// answered with an error then.
    ///
    /// # Errors
    /// [`ListenError`].
    pub async fn listen(&self, last: Option<&EventId>) -> Result<Answer, ListenError> {
        let Some(id) = last else {
            return self.standalone();
        };
        let (stream, sequence) = parse_event_id(id.as_bytes()).ok_or(ListenError::UnknownEvent)?;
        if !self.config.resumes() {
            return Err(ListenError::UnknownEvent);
        }
        if !self.bring_in(stream, sequence).await? {
            return Ok(nothing_left());
        }
        self.resume(id, stream, sequence)
    }

    /// Whether a client reads the standalone stream.
    #[must_use]
    pub fn is_listening(&self) -> bool {
        self.lock().standalone.is_attached()
    }

    fn standalone(&self) -> Result<Answer, ListenError> {
        let mut inner = self.lock();
        if inner.standalone.is_attached() && !inner.contention.replace(now()) {
            return Err(ListenError::Contended);
        }
        let reader = inner.standalone.reader();
        inner.flush_standalone();
        drop(inner);
        Ok(Answer::events(self.primed(reader, None)))
    }

    /// The ids of events lead to their streams (F20, protocol notes 6.3).
    fn resume(&self, id: &EventId, stream: StreamId, sequence: u64) -> Result<Answer, ListenError> {
        let mut inner = self.lock();
        if inner.closed {
            // Another node has the session, or nobody: what was said here is not all that will be.
            return Err(ListenError::Unavailable);
        }
        inner.sweep(&self.config);
        let buffer = inner.buffer_of(stream).ok_or(ListenError::UnknownEvent)?;
        let is_standalone = buffer.stream() == STANDALONE;
        if !is_standalone && buffer.is_closed() && buffer.last() == sequence {
            return Ok(nothing_left());
        }
        let reader = buffer.reader_after(sequence);
        let reader = reader.map_err(|_| ListenError::UnknownEvent)?;
        if is_standalone {
            inner.flush_standalone();
        }
        drop(inner);
        Ok(Answer::events(self.primed(reader, Some(id.clone()))))
    }

    fn primed(&self, reader: EventReader, id: Option<EventId>) -> EventReader {
        match self.primes {
            Some(retry) => reader.primed(Priming { id, retry }),
            None => reader,
        }
    }
}

/// Nothing more will come. An empty stream would be asked for again and again.
fn nothing_left() -> Answer {
    let content = Content::Other(None);
    Answer::new(StatusCode::NO_CONTENT, content, Body::Empty)
}
