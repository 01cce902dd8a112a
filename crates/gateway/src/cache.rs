//! What is known of a server from its own answers: those of 2026-07-28 that may be given again (protocol notes
//! 4.4), and its tools, of whichever revision it is (2.3.4).
//!
//! Nothing is asked for the cache's sake. Answers and notices are noted on their way to whoever asked, and an
//! answer that is kept takes the same way from here as one from the server: interceptors see both.

mod server;
mod tap;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use thinpipe_proto::bridge::shape::error_code;
use thinpipe_proto::bridge::tools::{Directory, HeaderMismatch, Known, NotCarried, ToolHeaders};
use thinpipe_proto::cache::{Cache, Found, Limits, Question, Ticket};
use thinpipe_proto::classify::is_cacheable_method;
use thinpipe_proto::rpc::{self, Kind, Message, RequestId, code};
use thinpipe_proto::session::Principal;
use thinpipe_proto::shown::Shown;
use thinpipe_transport::ByteBudget;

use crate::clock::now;
use crate::config::CacheConfig;
use crate::interceptor::{Chain, Direction, MessageContext, Outcome};
use crate::sync::lock;

pub(crate) use server::Remembering;
pub(crate) use tap::tap;

/// The most of a tool's name that is logged, in characters.
const MAX_SHOWN: usize = 64;

/// How a server says that its tools have changed.
pub(crate) const TOOLS_CHANGED: &str = "notifications/tools/list_changed";

/// What one server has said that may be said again.
#[derive(Debug)]
pub(crate) struct Answers {
    upstream: Arc<str>,
    /// `None`: it is off, and nothing is read that nobody else reads.
    cache: Option<Mutex<Cache>>,
    tools: Mutex<Directory>,
    /// Some known tool has headers: most servers have none, and their calls are not looked at.
    has_headers: AtomicBool,
    /// The longest answer that is kept.
    max_answer: usize,
    buffered: ByteBudget,
}

/// What becomes of a request.
#[derive(Debug)]
pub(crate) enum Asked {
    /// This is its answer.
    Kept(Bytes),
    /// The server is asked, and what it says is shown to this.
    Noted(Box<Noting>),
    /// The server is asked.
    Passed,
}

/// Notes what a server answers to one request.
#[derive(Debug)]
pub(crate) struct Noting {
    answers: Arc<Answers>,
    what: What,
}

#[derive(Debug)]
enum What {
    /// The response to a request.
    Response {
        id: RequestId,
        /// `None`: it is not kept.
        ticket: Option<Ticket>,
        /// It lists tools: who asked, if that can be said.
        tools: Option<Option<Principal>>,
    },
    /// The response to a call of this principal.
    Call(Principal),
    /// What a listen brings.
    Notices,
    /// All that matters has come.
    Nothing,
}

impl Answers {
    pub(crate) fn new(config: &CacheConfig, upstream: Arc<str>, buffered: ByteBudget) -> Self {
        let limits = Limits {
            entries: config.max_entries,
            bytes: config.max_bytes,
        };
        let cache = config.enabled.then(|| Mutex::new(Cache::new(limits)));
        Self {
            upstream,
            cache,
            tools: Mutex::default(),
            has_headers: AtomicBool::new(false),
            max_answer: limits.max_answer(),
            buffered,
        }
    }

    /// Looks at a request on its way to the server. `headers` are those that reach it.
    pub(crate) fn ask(
        self: &Arc<Self>,
        message: &Message,
        principal: &Principal,
        headers: &HeaderMap,
    ) -> Asked {
        let method = message.method().unwrap_or_default();
        let is_listen = method == "subscriptions/listen";
        // Calls are told first: nothing of theirs is kept, and they wait for no lock.
        if !is_listen && !is_cacheable_method(method) {
            return Asked::Passed;
        }
        let Some(cache) = &self.cache else {
            return Asked::Passed;
        };
        if is_listen {
            return Asked::Noted(self.noting(What::Notices));
        }
        let (Some(id), Some(question)) = (message.id(), Question::of(message)) else {
            return Asked::Passed;
        };
        let principal = is_known_by_principal(principal, headers).then_some(principal);
        // Held to look only, and not while an answer is copied.
        let found = lock(cache).ask(question, principal, now());
        match found {
            Found::Fresh(result) => Asked::Kept(rpc::response(id, &result)),
            Found::Nothing(ticket) => Asked::Noted(self.noting(What::Response {
                id: id.clone(),
                ticket: Some(ticket),
                tools: (method == "tools/list").then(|| principal.cloned()),
            })),
        }
    }

    /// What matters of an answer that is read anyway, and not for the cache's sake: which tools there are, that
    /// they have changed, and that a call was refused for its headers.
    fn aside(
        self: &Arc<Self>,
        message: &Message,
        principal: &Principal,
        headers: &HeaderMap,
    ) -> Option<Box<Noting>> {
        let what = match message.method()? {
            "tools/call" => What::Call(principal.clone()),
            "subscriptions/listen" => What::Notices,
            "tools/list" => What::Response {
                id: message.id()?.clone(),
                ticket: None,
                tools: Some(is_known_by_principal(principal, headers).then(|| principal.clone())),
            },
            _ => return None,
        };
        Some(self.noting(what))
    }

    /// Notes the tools that a server with sessions lists, of whose answers nothing is kept; `None`: this request
    /// does not ask for them.
    pub(crate) fn learning(
        self: &Arc<Self>,
        message: &Message,
        principal: &Principal,
        headers: &HeaderMap,
    ) -> Option<Box<Noting>> {
        let is_list = message.method() == Some("tools/list");
        let noting = is_list.then(|| self.aside(message, principal, headers));
        noting.flatten()
    }

    /// Compares the headers of a call with its arguments, where the tool is known (R124, R125).
    ///
    /// # Errors
    /// `-32020`: the header that differs.
    ///
    /// `message` names the tool as the server does; `received` is what the client sent with the headers.
    pub(crate) fn check(
        &self,
        message: &Message,
        received: &Message,
        (principal, headers): (&Principal, &HeaderMap),
    ) -> Result<(), HeaderMismatch> {
        let arguments = || received.param("arguments");
        let checked = self.with_headers(message, principal, |tool| {
            tool.check(headers, arguments().as_ref())
        });
        checked.unwrap_or(Ok(()))
    }

    /// Writes the headers of a call anew whose arguments were changed on the way, where the tool is known.
    ///
    /// # Errors
    /// [`NotCarried`]: an argument that has to have a header can have none, so that the call cannot be made.
    pub(crate) fn rebuild(
        &self,
        message: &Message,
        principal: &Principal,
        headers: &mut HeaderMap,
    ) -> Result<(), NotCarried> {
        let rebuilt = self.with_headers(message, principal, |tool| {
            let built = tool.build(message.param("arguments").as_ref())?;
            for name in tool.names() {
                headers.remove(name);
            }
            headers.extend(built);
            Ok(())
        });
        rebuilt.unwrap_or(Ok(()))
    }

    /// A call of this principal was refused for its headers: the list that it was given of the tools may be wrong,
    /// and if it asks for it now it has to hear it from the server (R140).
    pub(crate) fn doubt_tools(&self, principal: &Principal) {
        if let Some(mut cache) = self.cache() {
            cache.doubt_tools(principal);
        }
    }

    /// Looks whether the answer to a call of this principal refuses it for its headers.
    pub(crate) fn doubting(self: &Arc<Self>, principal: &Principal) -> Box<Noting> {
        self.noting(What::Call(principal.clone()))
    }

    fn with_headers<T>(
        &self,
        message: &Message,
        principal: &Principal,
        then: impl FnOnce(&ToolHeaders) -> T,
    ) -> Option<T> {
        if !self.has_headers.load(Ordering::Relaxed) || message.method() != Some("tools/call") {
            return None;
        }
        let name = message.param_text("name")?;
        match lock(&self.tools).get(Some(principal), &name) {
            Known::Headers(tool) if !tool.is_empty() => Some(then(tool)),
            Known::Headers(_) | Known::Violating(_) | Known::Unknown => None,
        }
    }

    fn noting(self: &Arc<Self>, what: What) -> Box<Noting> {
        Box::new(Noting {
            answers: Arc::clone(self),
            what,
        })
    }

    fn cache(&self) -> Option<MutexGuard<'_, Cache>> {
        self.cache.as_ref().map(lock)
    }

    fn learn(&self, principal: Option<&Principal>, response: &Message) {
        let Some(result) = response.result() else {
            return;
        };
        let mut tools = lock(&self.tools);
        // What is no list is for the client to judge.
        let Ok(learned) = tools.learn(principal, &result) else {
            return;
        };
        self.has_headers
            .store(tools.has_headers(), Ordering::Relaxed);
        drop(tools);
        for (tool, violation) in learned.violating {
            let upstream = &self.upstream;
            let tool = Shown::new(&tool, MAX_SHOWN);
            tracing::warn!(%upstream, %tool, %violation, "a tool breaks the rules of its headers");
        }
    }

    fn notified(&self, message: &Message) {
        if message.method() == Some(TOOLS_CHANGED) {
            self.tools_changed();
        }
        if let Some(mut cache) = self.cache() {
            cache.notified(message);
        }
    }

    /// There are other tools now: nothing is known of them.
    pub(crate) fn tools_changed(&self) {
        lock(&self.tools).forget();
        self.has_headers.store(false, Ordering::Relaxed);
    }

    /// Notices may have been missed.
    fn forget(&self) {
        self.tools_changed();
        if let Some(mut cache) = self.cache() {
            cache.clear();
        }
    }
}

impl Noting {
    /// Takes note of a message.
    pub(crate) fn note(&mut self, message: &Message) {
        match &self.what {
            What::Call(principal) if message.kind() == Kind::ErrorResponse => {
                let code = message.error().and_then(|error| error_code(&error));
                if code == Some(code::HEADER_MISMATCH) {
                    self.answers.doubt_tools(principal);
                }
            }
            What::Notices if message.kind() == Kind::Notification => {
                self.answers.notified(message);
            }
            What::Response { id, .. }
                if message.kind().is_response() && message.id() == Some(id) =>
            {
                let what = std::mem::replace(&mut self.what, What::Nothing);
                if let What::Response { ticket, tools, .. } = what {
                    self.answered(ticket, tools, message);
                }
            }
            What::Call(_) | What::Notices | What::Response { .. } | What::Nothing => {}
        }
    }

    fn answered(
        &self,
        ticket: Option<Ticket>,
        tools: Option<Option<Principal>>,
        response: &Message,
    ) {
        if let Some(principal) = tools {
            self.answers.learn(principal.as_ref(), response);
        }
        if let Some((ticket, mut cache)) = ticket.zip(self.answers.cache()) {
            cache.answered(ticket, response, now());
        }
    }

    /// Whether nothing that comes can matter any more.
    fn is_over(&self) -> bool {
        matches!(self.what, What::Nothing)
    }

    /// What comes cannot be read.
    fn give_up(&mut self) {
        let what = std::mem::replace(&mut self.what, What::Nothing);
        if matches!(what, What::Notices) {
            self.answers.forget();
        }
    }
}

/// What is shown of a result that a chain has read: it may show others something else, so that a list for
/// everybody is for this principal only (protocol notes 4.4).
pub(crate) fn narrowed(chain: &Chain, context: &MessageContext, outcome: Outcome) -> Outcome {
    let method = context.method.as_deref();
    let is_kept = context.revision.is_modern() && method.is_some_and(is_cacheable_method);
    if !is_kept || !chain.wants(Direction::ToClient, method) {
        return outcome;
    }
    match &outcome {
        Outcome::Forward(message) | Outcome::Changed(message) => match as_private(message) {
            Some(message) => Outcome::Changed(message),
            None => outcome,
        },
        Outcome::Rejected(_) => outcome,
    }
}

fn as_private(message: &Message) -> Option<Message> {
    let result = message.result()?;
    let scope = rpc::member(&result, "cacheScope")?;
    let is_public = rpc::string(&scope).is_some_and(|scope| scope == "public");
    let private = rpc::splice(message.source(), &scope, b"\"private\"").filter(|_| is_public)?;
    Message::parse(private).ok()
}

/// Whether the answer to a request with these headers is the same whenever this principal asks. A header that
/// nobody here knows may be what a server tells its users apart by. Of who has no name, the address may be.
pub(crate) fn is_known_by_principal(principal: &Principal, headers: &HeaderMap) -> bool {
    let is_named = matches!(principal, Principal::Named(_));
    headers.keys().all(|name| match name.as_str() {
        "forwarded" | "x-forwarded-for" => is_named,
        "accept-language" => headers.get_all(name).iter().all(|value| value == "*"),
        _ => makes_no_difference(name),
    })
}

/// Headers that servers do not choose their answers by.
fn makes_no_difference(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "accept"
            | "content-type"
            | "user-agent"
            | "cache-control"
            | "pragma"
            | "priority"
            | "dnt"
            | "referer"
            | "traceparent"
            | "tracestate"
            | "baggage"
            | "x-request-id"
            | "x-correlation-id"
            // Made from the message.
            | "mcp-protocol-version"
            | "mcp-method"
            | "mcp-name"
            | "mcp-session-id"
    )
}
