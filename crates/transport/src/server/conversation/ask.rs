//! A server's requests to its client, and the answers to them (B8).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use thinpipe_proto::bridge::cancelled_of;
use thinpipe_proto::rpc::{Kind, Message, RequestId, quoted};
use tokio::sync::oneshot;

use super::{Conversation, Said};
use crate::io::now;
use crate::server::event_buffer::NotPushed;

/// Says that nobody waits for the answer to a request any more.
const CANCELLED: &str = "notifications/cancelled";

/// Why a client did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unanswered {
    /// As many questions as may be are open.
    #[error("{limit} requests wait for the client's answer already")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// It has no stream open on which it could be asked.
    #[error("the client cannot be reached: it has no stream open")]
    Unreachable,
    /// It did not answer in time. It was told that nobody waits any more.
    #[error("the client did not answer in time")]
    TimedOut,
    /// The session ended.
    #[error("the session ended before the client answered")]
    Closed,
    /// The params are no JSON object.
    #[error("the params of a request must be a JSON object")]
    Params,
}

/// Questions that are open, by the number that is their id.
#[derive(Debug)]
pub(super) struct Asked {
    limit: usize,
    open: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    last: u64,
    waiting: HashMap<u64, oneshot::Sender<Message>>,
    closed: bool,
}

impl Asked {
    /// None yet; their numbers will be above `last`.
    pub(super) fn new(limit: usize, last: u64) -> Self {
        let open = Open {
            last,
            waiting: HashMap::new(),
            closed: false,
        };
        Self {
            limit,
            open: Mutex::new(open),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    pub(super) fn close(&self) {
        let mut open = self.lock();
        open.closed = true;
        open.waiting.clear();
    }

    /// The number of a new question, and where its answer comes out.
    fn begin(&self) -> Result<(u64, oneshot::Receiver<Message>), Unanswered> {
        let (sender, answer) = oneshot::channel();
        let mut open = self.lock();
        if open.closed {
            return Err(Unanswered::Closed);
        }
        if open.waiting.len() >= self.limit {
            return Err(Unanswered::TooMany { limit: self.limit });
        }
        open.last += 1;
        let number = open.last;
        open.waiting.insert(number, sender);
        Ok((number, answer))
    }

    /// `None`: nobody waits for this answer (any more).
    fn take(&self, number: u64) -> Option<oneshot::Sender<Message>> {
        self.lock().waiting.remove(&number)
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // A poisoned lock means a panic elsewhere; what it guards is valid at every step.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One question. Dropping it takes it back, so whoever asks may be dropped at any time.
struct Question<'a> {
    of: &'a Conversation,
    number: u64,
    id: RequestId,
    related: Option<&'a RequestId>,
    /// It may have reached the client.
    said: bool,
    answer: oneshot::Receiver<Message>,
}

impl Question<'_> {
    /// Says it, and waits for the answer.
    async fn ask(&mut self, request: &Message) -> Result<Message, Unanswered> {
        let said = self.of.say(request, self.related).await;
        self.said = said != Said::Dropped;
        match said {
            Said::Delivered => {}
            Said::Dropped => return Err(Unanswered::Unreachable),
            Said::Held => tokio::select! {
                biased;
                // Cancel-safe: nothing is taken before it is there, and then it is returned.
                answered = &mut self.answer => return answered.map_err(|_| Unanswered::Closed),
                () = tokio::time::sleep(self.of.config.hold) => {
                    if self.of.withdraw(&self.id) {
                        self.said = false;
                        return Err(Unanswered::Unreachable);
                    }
                }
            },
        }
        (&mut self.answer).await.map_err(|_| Unanswered::Closed)
    }

    /// Nobody waits for the answer. `true`: the client may know the question, and has to be told.
    fn end(&mut self) -> bool {
        let was_open = self.of.asked.take(self.number).is_some();
        let said = std::mem::take(&mut self.said);
        was_open && said && !self.of.withdraw(&self.id)
    }
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        if self.end()
            && let Some(cancelled) = cancelled(&self.id)
            && self.of.try_say(&cancelled, self.related) != Ok(Said::Delivered)
        {
            tracing::debug!("a client cannot be told that a request was cancelled");
        }
    }
}

impl Conversation {
    /// Asks the client: `params` is a JSON object. `related` is the request in whose course it is asked.
    /// If this is dropped, the client is told that nobody waits any more.
    ///
    /// # Errors
    /// [`Unanswered`]; never waits longer than `wait`.
    pub async fn ask(
        &self,
        method: &str,
        params: &[u8],
        related: Option<&RequestId>,
        wait: Duration,
    ) -> Result<Message, Unanswered> {
        let (number, answer) = self.asked.begin()?;
        let mut question = Question {
            of: self,
            number,
            id: RequestId::from_integer(i64::try_from(number).unwrap_or(i64::MAX)),
            related,
            said: false,
            answer,
        };
        let request = request(&question.id, method, params).ok_or(Unanswered::Params)?;
        let asking = question.ask(&request);
        if let Ok(answered) = tokio::time::timeout(wait, asking).await {
            return answered;
        }
        if question.end() {
            self.take_back(&question.id, related).await;
        }
        Err(Unanswered::TimedOut)
    }

    /// Gives an answer of the client to whoever asked. `false`: nobody asked that, or it came too late or a
    /// second time.
    pub fn answered(&self, answer: &Message) -> bool {
        let waiting = answer.id().and_then(number);
        let waiting = waiting.and_then(|number| self.asked.take(number));
        waiting.is_some_and(|waiting| waiting.send(answer.clone()).is_ok())
    }

    /// The client has left a stream before it read these. What the server asks is asked elsewhere, or
    /// waits; what it said about the request is lost with its client.
    pub(super) fn ask_elsewhere(&self, unread: Vec<Bytes>) {
        let unread = unread
            .into_iter()
            .filter_map(|text| Message::parse(text).ok());
        let left = unread.filter(is_for_the_client);
        let left: Vec<_> = left
            .map(|message| (cancelled_of(&message), message))
            .collect();
        let is_asked = |id| left.iter().any(|(_, other)| other.id() == Some(id));
        let is_taken_back = |id| left.iter().any(|(ends, _)| ends.as_ref() == Some(id));
        for (ends, message) in &left {
            if message.id().is_some_and(is_taken_back) || ends.as_ref().is_some_and(is_asked) {
                // The client has never seen it.
                continue;
            }
            if self.try_say(message, None) == Err(NotPushed::Full) {
                let until = now() + self.config.hold;
                self.lock().held.keep_request(message, until);
                self.note_held();
            }
        }
    }

    /// Whether a message whose stream was left meanwhile is worth another one.
    pub(super) fn asks_elsewhere(&self, message: &Message) -> bool {
        is_for_the_client(message) && self.only.is_none() && !self.lock().closed
    }

    /// Tells the client that nobody waits for its answer any more.
    async fn take_back(&self, id: &RequestId, related: Option<&RequestId>) {
        let Some(cancelled) = cancelled(id) else {
            return;
        };
        // It had the time of the question; a client that does not read gets no more.
        let saying = self.say(&cancelled, related);
        let said = tokio::time::timeout(Duration::from_secs(1), saying).await;
        if said != Ok(Said::Delivered) {
            tracing::debug!("a client cannot be told that a request was cancelled");
        }
    }
}

/// Whether this is a question, or takes one back: if its stream was left, another one will do.
pub(super) fn is_for_the_client(message: &Message) -> bool {
    message.kind() == Kind::Request || message.method() == Some(CANCELLED)
}

fn cancelled(id: &RequestId) -> Option<Message> {
    let id = String::from_utf8_lossy(id.as_json());
    let text =
        format!(r#"{{"jsonrpc":"2.0","method":"{CANCELLED}","params":{{"requestId":{id}}}}}"#);
    Message::parse(text.into()).ok()
}

fn request(id: &RequestId, method: &str, params: &[u8]) -> Option<Message> {
    let params = std::str::from_utf8(params).ok()?;
    let (id, method) = (std::str::from_utf8(id.as_json()).ok()?, quoted(method));
    let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{method},"params":{params}}}"#);
    Message::parse(Bytes::from(text)).ok()
}

fn number(id: &RequestId) -> Option<u64> {
    std::str::from_utf8(id.as_json()).ok()?.parse().ok()
}
