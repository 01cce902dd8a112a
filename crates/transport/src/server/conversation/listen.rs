//! What a GET gets: the standalone stream, or a stream that was cut off.

use http::StatusCode;
use thinpipe_proto::session::{EventId, StreamId};

use super::{Conversation, ListenError, STANDALONE, exchange};
use crate::body::Body;
use crate::io::now;
use crate::server::event_buffer::{EventReader, parse_event_id};
use crate::server::exchange::{Answer, Content};

impl Conversation {
    /// Answers a GET: the standalone stream, or any stream after an event of it.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn listen(&self, last: Option<&EventId>) -> Result<Answer, ListenError> {
        match last {
            None => self.standalone(),
            Some(id) => self.resume(id),
        }
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
        Ok(Answer::events(self.primed(reader, STANDALONE)))
    }

    /// The ids of events lead to their streams (F20, protocol notes 6.3).
    fn resume(&self, id: &EventId) -> Result<Answer, ListenError> {
        let (stream, sequence) = parse_event_id(id.as_bytes()).ok_or(ListenError::UnknownEvent)?;
        if !self.config.resumes() {
            return Err(ListenError::UnknownEvent);
        }
        let mut inner = self.lock();
        inner.sweep(&self.config);
        let buffer = inner.buffer_of(stream).ok_or(ListenError::UnknownEvent)?;
        if stream != STANDALONE && buffer.is_closed() && buffer.last() == sequence {
            // Nothing more will come. An empty stream would be asked for again and again.
            let content = Content::Other(None);
            return Ok(Answer::new(StatusCode::NO_CONTENT, content, Body::Empty));
        }
        let reader = buffer.reader_after(sequence);
        let reader = reader.map_err(|_| ListenError::UnknownEvent)?;
        if stream == STANDALONE {
            inner.flush_standalone();
        }
        drop(inner);
        Ok(Answer::events(self.primed(reader, stream)))
    }

    fn primed(&self, reader: EventReader, stream: StreamId) -> EventReader {
        if self.primes {
            exchange::primed(reader, stream)
        } else {
            reader
        }
    }
}
