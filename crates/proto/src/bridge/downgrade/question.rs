//! The server's requests that its client has to answer.

use bytes::Bytes;

use crate::bridge::capabilities::Undeclared;
use crate::bridge::downgrade::MAX_QUESTIONS;
use crate::bridge::downgrade::ability::Abilities;
use crate::bridge::downgrade::refused::Unanswered;
use crate::bridge::shape::{Asked, InputRequest, Responses};
use crate::rpc::{Message, RequestId, member};

/// A server request that was put to a client, or will be.
#[derive(Debug)]
pub(super) struct Question {
    /// The server's id.
    pub(super) id: RequestId,
    /// Its key in `inputRequests`.
    key: String,
    /// `None`: it was shown, and is too large to be kept.
    input: Option<InputRequest>,
    kind: Asked,
    /// What a client needs to be asked this.
    pub(super) needed: Abilities,
    shown: bool,
}

/// Those of one exchange that are open.
#[derive(Debug, Default)]
pub(super) struct Questions {
    open: Vec<Question>,
}

impl Question {
    /// For a client with these abilities, which are enough.
    pub(super) fn new(
        message: &Message,
        id: RequestId,
        key: u32,
        mut needed: Abilities,
        client: Abilities,
    ) -> Result<Self, Undeclared> {
        let key = format!("k{key}");
        let mut input = InputRequest::made_of(key.clone(), message, client.sampling_context)?;
        // Keeps no more of the message than it needs.
        input.params = input.params.map(|params| Bytes::copy_from_slice(&params));
        needed.sampling_context =
            client.sampling_context && message.param("includeContext").is_some();
        Ok(Self {
            id,
            key,
            kind: Asked::of(&input.method),
            input: Some(input),
            needed,
            shown: false,
        })
    }

    fn size(&self) -> usize {
        let input = self.input.as_ref();
        let params = input.and_then(|input| input.params.as_ref());
        params.map_or(0, Bytes::len) + self.id.as_json().len()
    }

    /// What a retry answers to it, if it was shown. What a client wraps (`{method, result}`) is no answer.
    fn answer_in<'a>(&self, retry: &'a Responses) -> Option<&'a Bytes> {
        let is_wrapped =
            |value: &Bytes| member(value, "method").is_some() && member(value, "result").is_some();
        let answer = retry.get(&self.key).filter(|_| self.shown);
        answer.filter(|answer| !is_wrapped(answer))
    }
}

impl Questions {
    pub(super) fn of(question: Question) -> Self {
        Self {
            open: vec![question],
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.open.len() >= MAX_QUESTIONS
    }

    /// How many bytes it keeps.
    pub(super) fn size(&self) -> usize {
        self.open.iter().map(Question::size).sum()
    }

    pub(super) fn push(&mut self, question: Question) {
        self.open.push(question);
    }

    pub(super) fn has(&self, id: &RequestId) -> bool {
        self.open.iter().any(|question| question.id == *id)
    }

    pub(super) fn withdraw(&mut self, id: &RequestId) {
        self.open.retain(|question| question.id != *id);
    }

    /// All that are open, to be shown. Those that do not fit into `kept` bytes are not kept.
    pub(super) fn show(&mut self, kept: usize) -> Vec<InputRequest> {
        let mut shown = Vec::with_capacity(self.open.len());
        let mut size = 0;
        for question in &mut self.open {
            question.shown = true;
            size += question.size();
            let input = match size > kept {
                true => question.input.take(),
                false => question.input.clone(),
            };
            shown.extend(input);
        }
        shown
    }

    /// The answers of a retry.
    ///
    /// # Errors
    /// The first that cannot be the result of what was asked.
    pub(super) fn check(&self, retry: &Responses) -> Result<(), Unanswered> {
        for question in &self.open {
            if let Some(answer) = question.answer_in(retry)
                && let Err(why) = question.kind.check(answer)
            {
                let key = question.key.clone();
                return Err(Unanswered { key, why });
            }
        }
        Ok(())
    }

    /// Takes out the ones that a retry answers, with the answers. The others stay.
    pub(super) fn take_answered(&mut self, retry: &Responses) -> Vec<(RequestId, Bytes)> {
        let mut answered = Vec::new();
        self.open
            .retain(|question| match question.answer_in(retry) {
                Some(answer) => {
                    answered.push((question.id.clone(), answer.clone()));
                    false
                }
                None => true,
            });
        answered
    }

    /// Takes out the ones that cannot be shown again.
    pub(super) fn take_lost(&mut self) -> Vec<Question> {
        self.take(|question| question.input.is_none())
    }

    pub(super) fn take_all(&mut self) -> Vec<Question> {
        std::mem::take(&mut self.open)
    }

    pub(super) fn take(&mut self, wanted: impl Fn(&Question) -> bool) -> Vec<Question> {
        let all = std::mem::take(&mut self.open);
        let (taken, open) = all.into_iter().partition(wanted);
        self.open = open;
        taken
    }
}
