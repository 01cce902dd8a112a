//! A server's requests to its client, and the answers to them (B8).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use thinpipe_proto::rpc::{Message, RequestId, quoted};
use tokio::sync::oneshot;

use super::{Conversation, Said};

/// Why a client did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
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

#[derive(Debug, Default)]
struct Open {
    next: u64,
    waiting: HashMap<u64, oneshot::Sender<Message>>,
    closed: bool,
}

impl Asked {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            open: Mutex::default(),
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

    fn begin(&self) -> Result<Question<'_>, AskError> {
        let (sender, answer) = oneshot::channel();
        let mut open = self.lock();
        if open.closed {
            return Err(AskError::Closed);
        }
        if open.waiting.len() >= self.limit {
            return Err(AskError::TooMany { limit: self.limit });
        }
        open.next += 1;
        let number = open.next;
        open.waiting.insert(number, sender);
        Ok(Question {
            asked: self,
            number,
            answer,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // A poisoned lock means a panic elsewhere; what it guards is valid at every step.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One question; dropping it takes it back.
struct Question<'a> {
    asked: &'a Asked,
    number: u64,
    answer: oneshot::Receiver<Message>,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        self.asked.lock().waiting.remove(&self.number);
    }
}

impl Conversation {
    /// Asks the client: `params` is a JSON object. `related` is the request in whose course it is asked.
    ///
    /// # Errors
    /// [`AskError`]; never waits longer than `wait`.
    pub async fn ask(
        &self,
        method: &str,
        params: &[u8],
        related: Option<&RequestId>,
        wait: Duration,
    ) -> Result<Message, AskError> {
        let mut question = self.asked.begin()?;
        let number = i64::try_from(question.number).unwrap_or(i64::MAX);
        let id = RequestId::from_integer(number);
        let request = request(&id, method, params).ok_or(AskError::Params)?;
        let asking = async {
            let answer = &mut question.answer;
            match self.say(&request, related).await {
                Said::Delivered => {}
                Said::Dropped => return Err(AskError::Unreachable),
                Said::Held => tokio::select! {
                    // Cancel-safe: nothing is taken before it is there, and then it is returned.
                    answered = &mut *answer => return answered.map_err(|_| AskError::Closed),
                    () = tokio::time::sleep(self.config.hold) => {
                        if self.withdraw(&id) {
                            return Err(AskError::Unreachable);
                        }
                    }
                },
            }
            answer.await.map_err(|_| AskError::Closed)
        };
        match tokio::time::timeout(wait, asking).await {
            Ok(answered) => answered,
            Err(_) => {
                self.withdraw(&id);
                self.take_back(&id, related).await;
                Err(AskError::TimedOut)
            }
        }
    }

    /// Gives an answer of the client to whoever asked. `false`: nobody asked that, or it came too late or a
    /// second time.
    pub fn answered(&self, answer: &Message) -> bool {
        let number = answer.id().and_then(number);
        let Some(number) = number else {
            return false;
        };
        let waiting = self.asked.lock().waiting.remove(&number);
        waiting.is_some_and(|waiting| waiting.send(answer.clone()).is_ok())
    }

    /// Tells the client that nobody waits for its answer any more.
    async fn take_back(&self, id: &RequestId, related: Option<&RequestId>) {
        let id = String::from_utf8_lossy(id.as_json());
        let text = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
        );
        if let Ok(cancelled) = Message::parse(text.into()) {
            // It had the time of the question; a client that does not read gets no more.
            let saying = self.say(&cancelled, related);
            if tokio::time::timeout(Duration::from_secs(1), saying)
                .await
                .is_err()
            {
                tracing::debug!("a client does not read that a request was cancelled");
            }
        }
    }
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
