//! The open streams of HTTP+SSE by session, each with its own bounded queue. Whoever has a message for a
//! session puts it there: the answers of handlers, and what clients are told that something changed.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use thinpipe_proto::rpc::Message;
use thinpipe_proto::session::SessionId;

use crate::body::BoxFuture;
use crate::server::Server;
use crate::server::conversation::notice;
use crate::server::event_buffer::{Closed, EventBuffer, NotPushed};

/// Delivers messages to sessions, each through its own bounded queue. Cheap to clone.
///
/// Nothing is ever sent to all: a message names its session, and no other session sees it. A session that
/// does not read holds up who sends to it, and nobody else; when its connection is given up
/// ([`write_stall`](super::Limits::write_stall)), who waits is let go with an error. A notice that something
/// changed is not added while one of the same kind and URI waits to be read.
#[derive(Clone, Default)]
pub struct SseBroadcaster {
    streams: Arc<papaya::HashMap<SessionId, EventBuffer>>,
}

/// Why a message did not reach its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotSent {
    /// No stream of a session with this id is open here.
    #[error("no stream of this session is open")]
    NoStream,
    /// The stream was closed before there was room.
    #[error(transparent)]
    Closed(#[from] Closed),
}

impl SseBroadcaster {
    /// Puts one message on a session's stream; waits for room if its client reads slowly.
    ///
    /// # Errors
    /// [`NotSent`].
    pub async fn send(&self, session: &SessionId, message: &Message) -> Result<(), NotSent> {
        let key = notice::key(message);
        let source = message.source().clone();
        self.put(session, key.as_deref(), source).await
    }

    /// The same with the response to a request, as JSON text.
    pub(super) async fn respond(
        &self,
        session: &SessionId,
        response: Bytes,
    ) -> Result<(), NotSent> {
        self.put(session, None, response).await
    }

    async fn put(
        &self,
        session: &SessionId,
        key: Option<&str>,
        message: Bytes,
    ) -> Result<(), NotSent> {
        // Looked up once; the table is not held while this waits.
        let stream = self.stream(session).ok_or(NotSent::NoStream)?;
        Ok(stream.put(key, message).await?)
    }

    /// Sends each message to the session it names, side by side: whoever has room gets its message at
    /// once, whoever has none is waited for, up to `write_stall`. One result for each, in order.
    pub async fn fan_out(
        &self,
        messages: impl IntoIterator<Item = (SessionId, Message)>,
    ) -> Vec<Result<(), NotSent>> {
        let begin = |(session, message): (SessionId, Message)| self.begin(&session, &message);
        let mut sending: Vec<_> = messages.into_iter().map(begin).collect();
        poll_fn(|cx| {
            let mut waits = false;
            for one in &mut sending {
                if let Sending::Waits(push) = one {
                    match push.as_mut().poll(cx) {
                        Poll::Ready(done) => *one = Sending::Done(done),
                        Poll::Pending => waits = true,
                    }
                }
            }
            if waits {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
        let results = sending.into_iter().map(|one| match one {
            Sending::Done(result) => result,
            Sending::Waits(_) => Err(NotSent::Closed(Closed)),
        });
        results.collect()
    }

    fn begin(&self, session: &SessionId, message: &Message) -> Sending {
        let Some(stream) = self.stream(session) else {
            return Sending::Done(Err(NotSent::NoStream));
        };
        let (key, source) = (notice::key(message), message.source().clone());
        match stream.try_put(key.as_deref(), source.clone()) {
            Ok(()) => Sending::Done(Ok(())),
            Err(NotPushed::Closed(closed)) => Sending::Done(Err(closed.into())),
            Err(NotPushed::Full) => {
                let key = key.map(String::from);
                Sending::Waits(Box::pin(async move {
                    let put = stream.put(key.as_deref(), source).await;
                    put.map_err(NotSent::from)
                }))
            }
        }
    }

    /// How many streams are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whether no stream is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    fn stream(&self, session: &SessionId) -> Option<EventBuffer> {
        self.streams.pin().get(session).cloned()
    }

    pub(crate) fn insert(&self, session: SessionId, stream: EventBuffer) {
        self.streams.pin().insert(session, stream);
    }

    pub(crate) fn remove(&self, session: &SessionId) {
        self.streams.pin().remove(session);
    }
}

impl std::fmt::Debug for SseBroadcaster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SseBroadcaster")
            .field("streams", &self.len())
            .finish()
    }
}

enum Sending {
    Done(Result<(), NotSent>),
    Waits(BoxFuture<Result<(), NotSent>>),
}

impl Server {
    /// The open streams of HTTP+SSE.
    #[must_use]
    pub fn broadcaster(&self) -> &SseBroadcaster {
        &self.shared.broadcaster
    }
}

#[cfg(test)]
mod tests {
    use thinpipe_proto::session::StreamId;

    use super::*;
    use crate::body::{BodyStream, Filled};
    use crate::server::event_buffer::EventBufferConfig;

    fn sessions(of: &SseBroadcaster, count: u8) -> Vec<(SessionId, EventBuffer)> {
        let config = EventBufferConfig {
            max_events: 1,
            ..EventBufferConfig::default()
        };
        let open = |n| {
            let (id, stream) = (
                SessionId::from_random([n; 16]),
                EventBuffer::new(config, StreamId(0)),
            );
            of.insert(id.clone(), stream.clone());
            (id, stream)
        };
        (0..count).map(open).collect()
    }

    fn message(n: usize) -> Message {
        let text = format!(r#"{{"jsonrpc":"2.0","method":"n/{n}"}}"#);
        Message::parse(Bytes::from(text)).unwrap()
    }

    async fn read(stream: &EventBuffer) -> String {
        let (mut reader, mut out) = (stream.reader(), Vec::new());
        let filled = poll_fn(|cx| reader.poll_fill(cx, &mut out)).await;
        assert!(matches!(filled, Ok(Filled::More)));
        String::from_utf8(out).unwrap()
    }

    /// A6, T4: what is for one session is seen by that one only.
    #[tokio::test]
    async fn a6_a_message_reaches_its_session_only() {
        let broadcaster = SseBroadcaster::default();
        let sessions = sessions(&broadcaster, 3);
        let addressed = sessions.iter().enumerate();
        let addressed = addressed.map(|(n, (id, _))| (id.clone(), message(n)));
        let sent = broadcaster.fan_out(addressed.collect::<Vec<_>>()).await;
        assert_eq!(sent, [Ok(()), Ok(()), Ok(())]);
        for (n, (_, stream)) in sessions.iter().enumerate() {
            let text = String::from_utf8(message(n).source().to_vec()).unwrap();
            assert_eq!(
                read(stream).await,
                format!("event: message\ndata: {text}\n\n")
            );
        }
        let stranger = SessionId::from_random([9; 16]);
        let sent = broadcaster.send(&stranger, &message(9)).await;
        assert_eq!(sent, Err(NotSent::NoStream));
    }

    /// A6, T5: a full queue holds up who sends to it, loses nothing, and lets go when it is closed.
    #[tokio::test]
    async fn t5_a_full_session_holds_up_nobody_else() {
        let broadcaster = SseBroadcaster::default();
        let sessions = sessions(&broadcaster, 2);
        let [(slow, stalled), (quick, reading)] = &sessions[..] else {
            unreachable!("there are two")
        };
        assert_eq!(broadcaster.send(slow, &message(1)).await, Ok(()));
        let both = [(slow.clone(), message(2)), (quick.clone(), message(2))];
        let mut waiting = std::pin::pin!(broadcaster.fan_out(both));
        let waits = poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx).is_pending())).await;
        assert!(waits, "for the one that is full");
        assert!(
            read(reading).await.contains("n/2"),
            "the other has it already"
        );
        assert_eq!(broadcaster.send(quick, &message(3)).await, Ok(()));
        stalled.close();
        assert_eq!(waiting.await, [Err(NotSent::Closed(Closed)), Ok(())]);
    }
}
