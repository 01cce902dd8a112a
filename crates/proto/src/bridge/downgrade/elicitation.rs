//! URL elicitations that a server wants done before a request (`-32042` of 2025-11-25): protocol notes
//! 5.4.1.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use crate::bridge::downgrade::MAX_ELICITATIONS;
use crate::bridge::limits::MAX_KEPT;
use crate::bridge::shape::{InputRequest, Responses, error_code};
use crate::rpc::{Object, code, elements, member, quoted, string};

/// How many of one error are asked for.
const MAX_IN_ERROR: usize = 8;

/// What an error asks for.
#[derive(Debug)]
pub(super) struct UrlError {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    id: String,
    params: Bytes,
}

impl UrlError {
    /// Reads an `error` member; `None` if it is another error, or says nothing that can be shown.
    pub(super) fn of(error: &Bytes) -> Option<Self> {
        if error_code(error) != Some(code::URL_ELICITATION_REQUIRED) {
            return None;
        }
        let list = member(&member(error, "data")?, "elicitations")?;
        let entries = elements(&list).ok()?;
        let entries: Vec<Entry> = entries.iter().filter_map(Entry::of).collect();
        let usable = !entries.is_empty() && entries.len() <= MAX_IN_ERROR;
        usable.then_some(Self { entries })
    }

    /// The server's ids.
    pub(super) fn ids(&self) -> Vec<String> {
        self.entries.iter().map(|entry| entry.id.clone()).collect()
    }

    pub(super) fn into_requests(self) -> Vec<InputRequest> {
        let entries = self.entries.into_iter().enumerate();
        let request = |(at, entry): (usize, Entry)| InputRequest {
            key: url_key(at),
            method: "elicitation/create".to_owned(),
            params: Some(entry.params),
        };
        entries.map(request).collect()
    }
}

impl Entry {
    fn of(entry: &Bytes) -> Option<Self> {
        let mut params = Object::parse(entry).ok()?;
        let id = params.remove("elicitationId")?;
        let id = string(&id).filter(|id| id.len() <= MAX_KEPT)?.into_owned();
        params.get("url").and_then(|url| string(url))?;
        params.set("mode", quoted("url"));
        let params = params.into_bytes();
        Some(Self { id, params })
    }
}

fn url_key(at: usize) -> String {
    format!("u{}", at + 1)
}

/// What a client's retry says to the URL elicitations of a [`UrlRequired`](super::UrlRequired).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UrlAnswers {
    /// It accepted all of them: the request runs once they are complete.
    Accepted,
    /// Some answers are missing: the request runs at once.
    Missing,
    /// It declined one, or cancelled: the request does not run.
    Declined,
}

/// Reads what a retry says to so many URL elicitations.
#[must_use]
pub fn url_answers(retry: &Responses, elicitations: usize) -> UrlAnswers {
    let mut answers = UrlAnswers::Accepted;
    for at in 0..elicitations {
        let action = retry
            .get(&url_key(at))
            .and_then(|answer| member(answer, "action"));
        match action.as_ref().and_then(|action| string(action)).as_deref() {
            Some("accept") => {}
            Some(_) => return UrlAnswers::Declined,
            None => answers = UrlAnswers::Missing,
        }
    }
    answers
}

/// The elicitations that clients were sent to. Bounded by [`MAX_ELICITATIONS`]: the oldest go first.
#[derive(Debug, Default)]
pub(super) struct Completions {
    expected: VecDeque<Expected>,
}

#[derive(Debug)]
struct Expected {
    id: String,
    complete: bool,
    until: Instant,
}

impl Completions {
    pub(super) fn expect(&mut self, id: String, until: Instant) {
        if self.expected.len() == MAX_ELICITATIONS {
            self.expected.pop_front();
        }
        let complete = false;
        self.expected.push_back(Expected {
            id,
            complete,
            until,
        });
    }

    pub(super) fn complete(&mut self, id: &str) {
        for expected in &mut self.expected {
            expected.complete |= expected.id == id;
        }
    }

    /// Whether all of these are complete.
    pub(super) fn are_complete(&self, ids: &[String]) -> bool {
        let is_complete = |id: &String| {
            let mut expected = self.expected.iter();
            expected.any(|expected| expected.complete && expected.id == *id)
        };
        ids.iter().all(is_complete)
    }

    /// A call runs for which these were expected. Another one that was sent to the same runs for itself.
    pub(super) fn forget(&mut self, ids: &[String]) {
        for id in ids {
            let of = |expected: &Expected| expected.id == *id;
            if let Some(at) = self.expected.iter().position(of) {
                self.expected.remove(at);
            }
        }
    }

    pub(super) fn expire(&mut self, now: Instant) {
        self.expected.retain(|expected| expected.until > now);
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.expected.iter().map(|expected| expected.until).min()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.expected.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.expected.clear();
    }
}
