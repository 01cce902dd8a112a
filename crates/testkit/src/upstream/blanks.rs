//! What is filled in where a script's texts have placeholders.

use crate::event::Event;
use crate::rpc;
use crate::upstream::record::Request;

/// What the placeholders of one response stand for.
#[derive(Debug)]
pub(crate) struct Blanks {
    id: String,
    token: String,
    /// Answers to what was asked meanwhile: id as JSON text, and the result or error.
    answers: Vec<(String, String)>,
}

impl Blanks {
    pub(crate) fn of(request: &Request) -> Self {
        let token = request.progress_token();
        Self {
            id: request.id.clone().unwrap_or_else(|| "null".to_owned()),
            token: token.unwrap_or_else(|| "null".to_owned()),
            answers: Vec::new(),
        }
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// A stream that answers another request than the one it is carried on.
    pub(crate) fn rename(&mut self, (id, token): (String, String)) {
        (self.id, self.token) = (id, token);
    }

    /// What the client said to the request with this id.
    pub(crate) fn answered(&mut self, id: &str, answer: String) {
        self.answers.push((id.to_owned(), answer));
    }

    pub(crate) fn fill_in(&self, text: &str) -> String {
        let text = text
            .replace(rpc::REQUEST_ID, &self.id)
            .replace(rpc::PROGRESS_TOKEN, &self.token);
        self.answers.iter().fold(text, |text, (id, answer)| {
            let id = id.trim_matches('"');
            text.replace(&format!("\"{}\"", rpc::answer_to(id)), answer)
        })
    }

    pub(crate) fn filled(&self, mut event: Event) -> Event {
        event.data = event.data.map(|data| self.fill_in(&data));
        event
    }
}
