//! The server's requests that its client has to answer.

use bytes::Bytes;

use crate::bridge::downgrade::MAX_QUESTIONS;
use crate::bridge::downgrade::ability::Abilities;
use crate::rpc::{Message, RequestId, member, members, quoted};

/// A server request, as an entry of `inputRequests`.
#[derive(Debug)]
pub(super) struct Question {
    /// The server's id.
    pub(super) id: RequestId,
    /// Its key in `inputRequests`.
    pub(super) key: u32,
    /// `{"method":…,"params":…}`; `None`: it was shown, and is too large to be kept.
    pub(super) entry: Option<Bytes>,
    /// What a client needs to be asked this.
    pub(super) needed: Abilities,
    /// The client was asked.
    pub(super) shown: bool,
}

/// Those of one exchange that are open.
#[derive(Debug, Default)]
pub(super) struct Questions {
    open: Vec<Question>,
}

/// Members of a server request's params that the client must not see: they belong to the server's
/// revision, or to the gateway.
const LEFT_OUT: [&str; 2] = ["task", "elicitationId"];
const RELATED_TASK: &str = "io.modelcontextprotocol/related-task";

impl Question {
    pub(super) fn new(
        message: &Message,
        id: RequestId,
        key: u32,
        needed: Abilities,
        client: Abilities,
    ) -> Self {
        Self {
            id,
            key,
            entry: Some(entry(message, client)),
            needed,
            shown: false,
        }
    }

    fn size(&self) -> usize {
        self.entry.as_ref().map_or(0, Bytes::len) + self.id.as_json().len()
    }

    pub(super) fn key_text(&self) -> String {
        key_text(self.key)
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

    pub(super) fn size(&self) -> usize {
        self.open.iter().map(Question::size).sum()
    }

    pub(super) fn push(&mut self, question: Question) {
        self.open.push(question);
    }

    pub(super) fn has(&self, id: &RequestId) -> bool {
        self.open.iter().any(|question| question.id == *id)
    }

    pub(super) fn withdraw(&mut self, id: &RequestId) -> bool {
        let before = self.open.len();
        self.open.retain(|question| question.id != *id);
        self.open.len() < before
    }

    /// `inputRequests` of all that are open. They are shown from now on, and those that do not fit into
    /// `kept` bytes are not kept.
    pub(super) fn show(&mut self, kept: usize) -> Bytes {
        let mut requests = b"{".to_vec();
        let mut held = 0;
        for question in &mut self.open {
            question.shown = true;
            let Some(entry) = &question.entry else {
                continue;
            };
            if requests.len() > 1 {
                requests.push(b',');
            }
            requests.extend_from_slice(quoted(&key_text(question.key)).as_bytes());
            requests.push(b':');
            requests.extend_from_slice(entry);
            held += question.size();
            if held > kept {
                held -= entry.len();
                question.entry = None;
            }
        }
        requests.push(b'}');
        Bytes::from(requests)
    }

    /// Takes out the ones that `answers` answers, an `inputResponses` object: with the answer. The others
    /// stay.
    pub(super) fn take_answered(&mut self, answers: Option<&Bytes>) -> Vec<(RequestId, Bytes)> {
        let given = answers.and_then(|answers| members(answers).ok());
        let given = given.unwrap_or_default();
        let mut answered = Vec::new();
        self.open.retain(|question| {
            let key = question.key_text();
            let answer = given.iter().find(|(name, _)| *name == key);
            match answer.filter(|(_, value)| question.shown && is_answer(value)) {
                Some((_, value)) => {
                    answered.push((question.id.clone(), Bytes::copy_from_slice(value)));
                    false
                }
                None => true,
            }
        });
        answered
    }

    /// Takes out the ones that cannot be shown again.
    pub(super) fn take_lost(&mut self) -> Vec<Question> {
        self.take(|question| question.entry.is_none())
    }

    pub(super) fn take_all(&mut self) -> Vec<Question> {
        std::mem::take(&mut self.open)
    }

    /// Takes out the ones that a client with these abilities must not be asked.
    pub(super) fn take(&mut self, wanted: impl Fn(&Question) -> bool) -> Vec<Question> {
        let all = std::mem::take(&mut self.open);
        let (taken, open) = all.into_iter().partition(wanted);
        self.open = open;
        taken
    }
}

fn key_text(key: u32) -> String {
    format!("k{key}")
}

/// Whether a value answers a question: an object, and not one that wraps the answer.
fn is_answer(value: &Bytes) -> bool {
    let is_object = members(value).is_ok();
    is_object && !(member(value, "method").is_some() && member(value, "result").is_some())
}

fn entry(message: &Message, abilities: Abilities) -> Bytes {
    let method = quoted(message.method().unwrap_or_default());
    let mut entry = format!("{{\"method\":{method}").into_bytes();
    if let Some(params) = message.params() {
        entry.extend_from_slice(b",\"params\":");
        entry.extend_from_slice(&shown_params(&params, abilities));
    }
    entry.push(b'}');
    Bytes::from(entry)
}

fn shown_params(params: &Bytes, abilities: Abilities) -> Bytes {
    let Ok(all) = members(params) else {
        return params.clone();
    };
    let kept = all.iter().filter(|(name, _)| {
        let context = name == "includeContext" && !abilities.sampling_context;
        !context && !LEFT_OUT.contains(&name.as_str())
    });
    let mut object = ObjectText::default();
    for (name, value) in kept {
        if name != "_meta" {
            object.member(name, value);
        } else if let Some(meta) = shown_meta(value) {
            object.member(name, &meta);
        }
    }
    object.end()
}

/// `_meta` without what belongs to the upstream session; `None` if nothing is left.
fn shown_meta(meta: &Bytes) -> Option<Bytes> {
    let all = members(meta).ok()?;
    let mut object = ObjectText::default();
    for (name, value) in &all {
        if name != "progressToken" && name != RELATED_TASK {
            object.member(name, value);
        }
    }
    object.end_if_any()
}

/// Writes a JSON object member by member.
#[derive(Debug, Default)]
pub(super) struct ObjectText {
    text: Vec<u8>,
}

impl ObjectText {
    pub(super) fn member(&mut self, name: &str, value: &[u8]) {
        self.text.push(if self.text.is_empty() { b'{' } else { b',' });
        self.text.extend_from_slice(quoted(name).as_bytes());
        self.text.push(b':');
        self.text.extend_from_slice(value);
    }

    pub(super) fn end(self) -> Bytes {
        self.end_if_any().unwrap_or_else(|| Bytes::from_static(b"{}"))
    }

    pub(super) fn end_if_any(mut self) -> Option<Bytes> {
        if self.text.is_empty() {
            return None;
        }
        self.text.push(b'}');
        Some(Bytes::from(self.text))
    }
}
