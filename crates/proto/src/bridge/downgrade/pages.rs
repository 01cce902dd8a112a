//! Lists of sessions that live for one request: all pages are fetched, as a cursor would be of no use to
//! anybody (protocol notes 5.4.3, "Pagination").

use bytes::Bytes;

use crate::bridge::downgrade::reply::{Failure, Outcome};
use crate::bridge::downgrade::{Downgrading, ExchangeId, Lifetime, MAX_PAGED, MAX_PAGES};
use crate::bridge::shape::array;
use crate::rpc::{Message, Object, elements};

/// The pages of a list so far.
#[derive(Debug)]
pub(super) struct Pages {
    /// The member of the result that is the list.
    list: &'static str,
    request: Message,
    /// The first page, which the others are added to.
    first: Option<Object>,
    elements: Vec<Bytes>,
    pages: usize,
    size: usize,
}

enum Step {
    /// There is no more.
    Whole(Bytes),
    /// One page is all, as it came.
    Only,
    Next(Message),
    TooLarge,
}

impl Pages {
    fn add(&mut self, result: &Bytes) -> Step {
        let Ok(page) = Object::parse(result) else {
            return Step::Only;
        };
        let cursor = page
            .get("nextCursor")
            .filter(|cursor| cursor.starts_with(b"\""))
            .cloned();
        if cursor.is_none() && self.first.is_none() {
            return Step::Only;
        }
        self.pages += 1;
        self.size += result.len();
        if self.size > MAX_PAGED || (self.pages >= MAX_PAGES && cursor.is_some()) {
            return Step::TooLarge;
        }
        let list = page.get(self.list).and_then(|list| elements(list).ok());
        self.elements.extend(list.unwrap_or_default());
        let mut first = self.first.take().unwrap_or(page);
        if let Some(next) = cursor.and_then(|cursor| self.request_for(cursor)) {
            self.first = Some(first);
            return Step::Next(next);
        }
        first.remove("nextCursor");
        first.set(self.list, array(&self.elements));
        Step::Whole(first.into_bytes())
    }

    fn request_for(&self, cursor: Bytes) -> Option<Message> {
        let mut params = self.request.params_object();
        params.set("cursor", cursor);
        Message::parse(self.request.with_params(&params.into_bytes())).ok()
    }
}

impl Downgrading {
    /// Whether all pages of this are fetched.
    pub(super) fn pages_for(&self, method: &str, request: &Message) -> Option<Pages> {
        let list = match method {
            "tools/list" => "tools",
            "prompts/list" => "prompts",
            "resources/list" => "resources",
            "resources/templates/list" => "resourceTemplates",
            _ => return None,
        };
        let whole =
            self.config.lifetime == Lifetime::PerRequest && request.param("cursor").is_none();
        whole.then(|| Pages {
            list,
            request: request.clone(),
            first: None,
            elements: Vec::new(),
            pages: 0,
            size: 0,
        })
    }

    /// Whether the answer to an exchange's call is a page with others to come, which are fetched then.
    ///
    /// # Errors
    /// The outcome, if it is not the answer itself.
    pub(super) fn next_page(&mut self, id: ExchangeId, answer: &Message) -> Result<bool, Outcome> {
        let Some(exchange) = self.exchanges.get_mut(&id) else {
            return Ok(false);
        };
        let running = exchange.state.running_mut();
        let pages = running.and_then(|running| running.pages.as_mut());
        let (Some(pages), Some(result)) = (pages, answer.result()) else {
            return Ok(false);
        };
        match pages.add(&result) {
            Step::Only => Ok(false),
            Step::Whole(result) => Err(Outcome::Result(result)),
            Step::TooLarge => {
                let text = format!("the list has over {MAX_PAGES} pages or {MAX_PAGED} bytes");
                let failure = Failure::internal(502, "result_too_large", &text);
                Err(Outcome::Failed(failure))
            }
            Step::Next(request) => {
                self.run_page(id, &request);
                Ok(true)
            }
        }
    }

    fn run_page(&mut self, id: ExchangeId, request: &Message) {
        let next = self.write_run(id, request, super::exchange::Task::No);
        let exchange = self.exchanges.get_mut(&id);
        if let Some(running) = exchange.and_then(|exchange| exchange.state.running_mut()) {
            let before = running.token;
            // A page that is lost is not asked for again on its own.
            running.original = None;
            (running.call, running.token) = (next.call, next.token);
            self.calls.forget_token(before);
        }
    }
}
