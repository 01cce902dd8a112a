//! What one call still has to read, of a program that waits for none of its clients.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use thinpipe_proto::bridge::multiplex::{MAX_TOPICS, Nature};
use thinpipe_proto::rpc::Message;

use super::CallError;
use crate::sync::lock;

/// Notifications that wait, but for change notices.
pub(super) const MAX_MESSAGES: usize = 256;

/// Bytes of them, one message more not counted.
pub(super) const MAX_BYTES: usize = 1 << 20;

/// Change notices that wait: no two of one kind and URI. A server may name parts of the resources that were
/// subscribed to, so that there may be more of them than of those.
const MAX_NOTICES: usize = 2 * MAX_TOPICS;

/// The messages of one call between the program that says them and whoever reads them.
#[derive(Default)]
pub(super) struct Queue(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    messages: VecDeque<(Message, Option<Change>)>,
    bytes: usize,
    changes: HashSet<Change>,
    end: Option<End>,
    reader: Option<Waker>,
}

/// What a change notice is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Change {
    method: String,
    uri: Option<String>,
}

enum End {
    /// The last message is the response.
    Answered,
    Failed(CallError),
    /// That was read.
    Over,
}

/// Whoever reads is too slow.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Queue {
    /// Adds a message. A change notice that waits already is not added again; a response is always taken, and
    /// nothing after it.
    ///
    /// # Errors
    /// [`Full`].
    pub(super) fn push(&self, message: Message, nature: Nature) -> Result<(), Full> {
        let mut waiting = self.lock();
        if waiting.end.is_some() {
            return Ok(());
        }
        let change = match nature {
            Nature::ChangeNotice => Some(Change::of(&message)),
            Nature::Notification | Nature::Response => None,
        };
        if change
            .as_ref()
            .is_some_and(|change| waiting.changes.contains(change))
        {
            return Ok(());
        }
        if nature == Nature::Response {
            waiting.end = Some(End::Answered);
        } else if waiting.is_full(change.is_some()) {
            return Err(Full);
        }
        waiting.bytes += message.source().len();
        waiting.changes.extend(change.clone());
        waiting.messages.push_back((message, change));
        waiting.wake();
        Ok(())
    }

    /// The call ends with this, after what was said before. Does nothing if it has ended.
    pub(super) fn fail(&self, error: CallError) {
        let mut waiting = self.lock();
        if waiting.end.is_none() {
            waiting.end = Some(End::Failed(error));
            waiting.wake();
        }
    }

    pub(super) fn poll_next(&self, cx: &Context<'_>) -> Poll<Option<Result<Message, CallError>>> {
        let mut waiting = self.lock();
        if let Some((message, change)) = waiting.messages.pop_front() {
            waiting.bytes -= message.source().len();
            if let Some(change) = change {
                waiting.changes.remove(&change);
            }
            return Poll::Ready(Some(Ok(message)));
        }
        match waiting.end.take() {
            None => {
                waiting.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(End::Failed(error)) => {
                waiting.end = Some(End::Over);
                Poll::Ready(Some(Err(error)))
            }
            Some(End::Answered | End::Over) => {
                waiting.end = Some(End::Over);
                Poll::Ready(None)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        lock(&self.0)
    }
}

impl Waiting {
    fn is_full(&self, is_change: bool) -> bool {
        let others = self.messages.len() - self.changes.len();
        self.bytes >= MAX_BYTES
            || match is_change {
                true => self.changes.len() >= MAX_NOTICES,
                false => others >= MAX_MESSAGES,
            }
    }

    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

impl Change {
    fn of(message: &Message) -> Self {
        Self {
            method: message.method().unwrap_or_default().to_owned(),
            uri: message.param_str("uri"),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::failure::{Failure, Reason};

    fn message(method: &str, params: &str) -> Message {
        let text = format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#);
        Message::parse(Bytes::from(text)).unwrap()
    }

    fn read(queue: &Queue) -> Option<Option<Message>> {
        let cx = Context::from_waker(Waker::noop());
        match queue.poll_next(&cx) {
            Poll::Ready(read) => Some(read.map(|read| read.unwrap())),
            Poll::Pending => None,
        }
    }

    const UPDATED: &str = "notifications/resources/updated";

    /// Invariants 18 and 23: a storm of changes costs one place for each kind and URI, which is free again when
    /// its notice was read.
    #[test]
    fn invariant_18_equal_change_notices_wait_once() {
        let queue = Queue::default();
        for round in 0..3 {
            for _ in 0..10_000 {
                for uri in ["a", "b"] {
                    let params = format!(r#"{{"uri":"{uri}","round":{round}}}"#);
                    queue
                        .push(message(UPDATED, &params), Nature::ChangeNotice)
                        .unwrap();
                }
            }
            for uri in ["a", "b"] {
                let read = read(&queue).unwrap().unwrap();
                assert_eq!(read.param_str("uri").as_deref(), Some(uri));
            }
            assert!(read(&queue).is_none());
        }
    }

    /// Invariant 23: everything else is bounded by number and by bytes; the response is always taken.
    #[test]
    fn invariant_23_a_reader_that_is_too_slow_is_told() {
        let queue = Queue::default();
        for _ in 0..MAX_MESSAGES {
            queue
                .push(message("m", "{}"), Nature::Notification)
                .unwrap();
        }
        assert_eq!(
            queue.push(message("m", "{}"), Nature::Notification),
            Err(Full)
        );
        assert_eq!(
            queue.push(message(UPDATED, "{}"), Nature::ChangeNotice),
            Ok(())
        );
        assert_eq!(queue.push(message("m", "{}"), Nature::Response), Ok(()));

        let queue = Queue::default();
        let large = format!(r#"{{"data":"{}"}}"#, "x".repeat(MAX_BYTES));
        queue
            .push(message("m", &large), Nature::Notification)
            .unwrap();
        assert_eq!(
            queue.push(message("m", "{}"), Nature::Notification),
            Err(Full)
        );
        assert!(read(&queue).unwrap().is_some());
        assert_eq!(queue.push(message("m", "{}"), Nature::Notification), Ok(()));
    }

    /// Invariant 2: the end comes last, and once.
    #[test]
    fn invariant_2_nothing_follows_the_end() {
        let queue = Queue::default();
        queue
            .push(message("m", "{}"), Nature::Notification)
            .unwrap();
        queue.fail(CallError::delivered(Failure::new(Reason::Timeout, "late")));
        queue.push(message("m", "{}"), Nature::Response).unwrap();
        assert!(read(&queue).unwrap().is_some());
        let cx = Context::from_waker(Waker::noop());
        assert!(matches!(queue.poll_next(&cx), Poll::Ready(Some(Err(_)))));
        assert!(matches!(queue.poll_next(&cx), Poll::Ready(None)));
    }
}
