//! What is known of the server's tools, as far as calls need it: which arguments headers repeat, and which
//! tools cannot be called at all (protocol notes 5.3, 5.3.2).

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::Upgrading;
use super::calls::Purpose;
use super::config::MAX_TOOL_PAGES;
use super::exchange::{ExchangeId, Input, Leg};
use crate::bridge::action::CallId;
use crate::bridge::clock::after;
use crate::bridge::refused::{INVALID_PARAMETER, gateway_error};
use crate::bridge::tools::{self, Known, NotCarried, without_violating};
use crate::rpc::{Message, Object, RequestId, code, error_response, quoted};

/// How long a call waits for one page of the list of tools.
const PATIENCE: Duration = Duration::from_secs(15);

/// What is known of the tools.
#[derive(Debug, Default)]
pub(super) struct Schemas {
    known: tools::Schemas,
    /// The list is being read for the sake of calls that wait.
    asking: Option<Asking>,
}

#[derive(Debug, Clone, Copy)]
struct Asking {
    call: CallId,
    pages: usize,
    until: Instant,
}

impl Schemas {
    /// Learns from a list that the client has asked for; what it gets instead, if there are tools in it that
    /// nobody can call.
    pub(super) fn learn(&mut self, result: &Bytes) -> Option<Bytes> {
        // What is no list is for the client to judge.
        let learned = self.known.learn(result).ok()?;
        if learned.violating.is_empty() {
            return None;
        }
        without_violating(result).ok().map(|(kept, _)| kept)
    }

    /// Why this tool cannot be called, if it cannot.
    pub(super) fn refused(&self, tool: &str) -> Option<String> {
        match self.known.get(tool) {
            Known::Violating(violation) => Some(violation.to_string()),
            Known::Headers(_) | Known::Unknown => None,
        }
    }

    /// Whether there is nothing more to be known about a tool.
    pub(super) fn knows(&self, tool: &str) -> bool {
        self.known.is_listed() || matches!(self.known.get(tool), Known::Headers(_))
    }

    /// The headers of a call.
    ///
    /// # Errors
    /// [`NotCarried`]: the call cannot be made, since without one of its headers the server would refuse it.
    pub(super) fn headers(
        &self,
        call: &Message,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, NotCarried> {
        let tool = call.param_text("name").unwrap_or_default();
        match self.known.get(&tool) {
            Known::Headers(headers) => headers.build(call.param("arguments").as_ref()),
            Known::Violating(_) | Known::Unknown => Ok(Vec::new()),
        }
    }

    /// The tools have changed.
    pub(super) fn forget(&mut self) {
        self.known.forget();
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.asking.map(|asking| asking.until)
    }
}

impl Upgrading {
    /// Reads the list of tools, once for all that wait for it.
    pub(super) fn ask_for_tools(&mut self, now: Instant) {
        if self.schemas.asking.is_none() {
            self.ask_for_page(None, 0, now);
        }
    }

    /// Has a call wait until the list was read anew.
    pub(super) fn resend_after_tools(&mut self, id: ExchangeId, input: Input, now: Instant) {
        if let Some(exchange) = self.exchanges.get_mut(id) {
            exchange.rounds -= 1;
            exchange.leg = Leg::Schema(input);
        }
        self.ask_for_tools(now);
    }

    /// The answer to a call with an argument that no header can repeat.
    pub(super) fn not_carried(&self, request: &RequestId, error: &NotCarried) -> Bytes {
        gateway_error(
            request,
            code::INVALID_PARAMS,
            &error.to_string(),
            INVALID_PARAMETER,
            &self.config.upstream,
        )
    }

    fn ask_for_page(&mut self, cursor: Option<&str>, pages: usize, now: Instant) {
        let call = self.calls.insert(Purpose::Tools);
        let until = after(now, PATIENCE);
        self.schemas.asking = Some(Asking { call, pages, until });
        self.wake_at(until);
        let mut params = Object::new();
        if let Some(cursor) = cursor {
            params.set("cursor", quoted(cursor));
        }
        let message = self.own_request(call, "tools/list", params);
        self.push_call(call, message, None);
    }

    /// A page is there.
    pub(super) fn tools_listed(&mut self, message: &Message, now: Instant) {
        let Some(asking) = self.schemas.asking.take() else {
            return;
        };
        let result = message.result();
        let learned = result.and_then(|result| self.schemas.known.learn(&result).ok());
        let next = learned.and_then(|learned| learned.next_cursor);
        let pages = asking.pages + 1;
        match next.filter(|_| pages < MAX_TOOL_PAGES) {
            Some(cursor) => self.ask_for_page(Some(&cursor), pages, now),
            None => self.send_waiting(),
        }
    }

    /// The list cannot be read: calls go without what it would have said.
    pub(super) fn tools_failed(&mut self) {
        self.schemas.asking = None;
        self.send_waiting();
    }

    /// The list takes too long, or nobody waits for it any more.
    pub(super) fn stop_asking_for_tools(&mut self) {
        if let Some(asking) = self.schemas.asking.take() {
            self.cancel_call(asking.call);
        }
        self.send_waiting();
    }

    /// Sends the calls that have waited for the list.
    fn send_waiting(&mut self) {
        let waiting = self.exchanges.ids(|e| matches!(e.leg, Leg::Schema(_)));
        for id in waiting {
            let Some(exchange) = self.exchanges.get_mut(id) else {
                continue;
            };
            let tool = exchange.message.param_text("name").unwrap_or_default();
            if let Some(why) = self.schemas.refused(&tool) {
                let answer = broken_tool(&exchange.request, &why);
                self.complete(id, answer);
                continue;
            }
            if let Leg::Schema(input) = &mut exchange.leg {
                let input = std::mem::take(input);
                self.call(id, input);
            }
        }
    }
}

/// The answer to a call of a tool that breaks the rules.
pub(super) fn broken_tool(request: &RequestId, why: &str) -> Bytes {
    let text = format!("this tool cannot be called: {why}");
    error_response(Some(request), code::INVALID_PARAMS, &text, None)
}
