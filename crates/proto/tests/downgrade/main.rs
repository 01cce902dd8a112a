//! Modern clients on a session of a legacy server, row by row of protocol notes 5.4.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod cancel;
mod errors;
mod levels;
mod listens;
mod losses;
mod rounds;
mod sessions;
mod tasks;
mod urls;

use std::time::{Duration, Instant};

use bytes::Bytes;

use thinpipe_proto::bridge::CallId;
use thinpipe_proto::bridge::downgrade::{
    Action, AttachmentId, Channel, Config, Content, Downgrading, ExchangeId, Lifetime, Limits,
    Refused, Request, RetryError, Ticket, Written,
};
use thinpipe_proto::bridge::shape::Caching;
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::Message;

const SECOND: Duration = Duration::from_secs(1);
/// What the clients of most tests declare, and so the session.
const ALL: &str =
    r#"{"sampling":{"tools":{},"context":{}},"elicitation":{"form":{},"url":{}},"roots":{}}"#;
const NOTHING: &str = "{}";
const TOOLS: &str = r#"{"tools":{"listChanged":true},"logging":{},"prompts":{},"resources":{"subscribe":true,"listChanged":true}}"#;

/// A machine with its clock, whose actions are read as lines: `up: ..` written, `1: ..` a notification
/// for POST 1, `1 notice: ..`, `1 200: ..` a response with its status, `1 asks 7/1: ..` a round of
/// exchange 7, `1 urls 7 [..]: ..`, and the others by their names.
struct Session {
    machine: Downgrading,
    start: Instant,
    now: Instant,
    /// What was written last, for answers that fail.
    answers: Vec<(thinpipe_proto::bridge::downgrade::AnswerId, Bytes)>,
    /// Calls by their number.
    calls: Vec<CallId>,
    resent: Vec<Request>,
    listenings: Vec<thinpipe_proto::bridge::downgrade::Listening>,
}

impl Session {
    /// Nothing was written.
    fn new(channel: Channel, lifetime: Lifetime, limits: Limits) -> Self {
        Self::declaring(channel, lifetime, limits, ALL)
    }

    fn declaring(
        channel: Channel,
        lifetime: Lifetime,
        limits: Limits,
        capabilities: &'static str,
    ) -> Self {
        let machine = Downgrading::new(Config {
            upstream: "u".to_owned(),
            channel,
            lifetime,
            revision: Revision::V2025_11_25,
            capabilities: Bytes::from_static(capabilities.as_bytes()),
            client_info: Bytes::from_static(b"{\"name\":\"g\",\"version\":\"1\"}"),
            served: vec![Revision::V2026_07_28],
            caching: Caching::default(),
            limits,
        });
        let start = Instant::now();
        Self {
            machine,
            start,
            now: start,
            answers: Vec::new(),
            calls: Vec::new(),
            resent: Vec::new(),
            listenings: Vec::new(),
        }
    }

    fn open(channel: Channel, lifetime: Lifetime, capabilities: &str) -> Self {
        let mut session = Self::new(channel, lifetime, Limits::default());
        session.initialize(capabilities);
        session
    }

    /// Pooled, over a pipe; the server has all features.
    fn pipe() -> Self {
        Self::open(Channel::Pipe, Lifetime::Pooled, TOOLS)
    }

    /// Pooled, over Streamable HTTP, with its standing stream open as soon as it is asked for.
    fn streams() -> Self {
        Self::open(Channel::Streams, Lifetime::Pooled, TOOLS)
    }

    fn initialize(&mut self, capabilities: &str) -> Vec<String> {
        self.machine.start(self.now);
        let lines = self.actions();
        assert_eq!(lines.len(), 1, "{lines:?}");
        self.hears(&result("1", &initialized(capabilities)))
    }

    /// A request, whose exchange has the number of its POST.
    fn asks(&mut self, post: u64, text: &str) -> Vec<String> {
        self.tries(post, text).expect("taken")
    }

    fn tries(&mut self, post: u64, text: &str) -> Result<Vec<String>, Refused> {
        self.gives(Request::new(
            ExchangeId(u128::from(post)),
            AttachmentId(post),
            parse(text),
        ))
    }

    fn gives(&mut self, request: Request) -> Result<Vec<String>, Refused> {
        self.machine
            .request(request, self.now)
            .map(|()| self.actions())
    }

    fn retries(
        &mut self,
        exchange: u128,
        round: u8,
        post: u64,
        text: &str,
    ) -> Result<Vec<String>, RetryError> {
        let ticket = ticket(exchange, round);
        let retried = self
            .machine
            .retry(ticket, AttachmentId(post), &parse(text), self.now);
        retried.map(|()| self.actions())
    }

    fn leaves(&mut self, post: u64) -> Vec<String> {
        self.machine.detach(AttachmentId(post), self.now);
        self.actions()
    }

    fn handed_out(&mut self, post: u64) {
        self.machine.handed_out(AttachmentId(post), self.now);
        assert_eq!(self.actions(), [""; 0]);
    }

    /// A message of the upstream in the row, or on the standing stream.
    fn hears(&mut self, text: &str) -> Vec<String> {
        self.machine.upstream(&parse(text), None, self.now);
        self.actions()
    }

    /// A message of the upstream on the stream of its request with this number.
    fn hears_on(&mut self, call: u64, text: &str) -> Vec<String> {
        let call = self.call(call);
        self.machine.upstream(&parse(text), Some(call), self.now);
        self.actions()
    }

    /// Something that is no message, on the stream of its request with this number.
    fn alive(&mut self, call: u64) {
        let call = self.call(call);
        self.machine.alive(call, self.now);
        assert_eq!(self.actions(), [""; 0]);
    }

    fn call(&self, number: u64) -> CallId {
        let mut calls = self.calls.iter();
        let number = number.to_string();
        let found = calls.find(|call| call.to_request_id().as_json() == number.as_bytes());
        *found.expect("it was written")
    }

    fn stream_opened(&mut self) -> Vec<String> {
        self.machine.stream_opened(false, self.now);
        self.actions()
    }

    /// So long after the beginning, timers fire as they are due.
    fn at(&mut self, since: Duration) -> Vec<String> {
        let until = self.start + since;
        let mut lines = Vec::new();
        while let Some(due) = self.machine.poll_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.machine.on_timeout(self.now);
            lines.extend(self.actions());
        }
        self.now = until;
        lines
    }

    /// Until the collecting is over.
    fn collects(&mut self) -> Vec<String> {
        let since = self.now - self.start;
        self.at(since + self.machine.config().limits.collect)
    }

    fn actions(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(action) = self.machine.poll_action() {
            lines.push(line(&action));
            match action {
                Action::Write {
                    message,
                    written: Written::Answer(answer),
                } => self.answers.push((answer, message)),
                Action::Write {
                    written: Written::Request(call),
                    ..
                } => self.calls.push(call),
                Action::Resend(request) => self.resent.push(request),
                Action::Relisten(listening) => self.listenings.push(listening),
                _ => {}
            }
        }
        lines
    }
}

fn line(action: &Action) -> String {
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    match action {
        Action::Write { message, .. } => format!("up: {}", text(message)),
        Action::Deliver(delivery) => {
            let post = delivery.attachment.0;
            match &delivery.content {
                Content::Notification(message) => format!("{post}: {}", text(message)),
                Content::ChangeNotice(message) => format!("{post} notice: {}", text(message)),
                Content::Response { message, status } => {
                    format!("{post} {status}: {}", text(message))
                }
                Content::InputRequired(input) => {
                    let Ticket { exchange, round } = input.ticket;
                    let message = text(&input.message("S"));
                    format!("{post} asks {}/{round}: {message}", exchange.0)
                }
                Content::UrlRequired(urls) => {
                    let message = text(&urls.message("S"));
                    let (exchange, ids) = (urls.exchange.0, urls.elicitations.join(" "));
                    format!("{post} urls {exchange} [{ids}]: {message}")
                }
            }
        }
        Action::Unparked(exchange) => format!("unparked {}", exchange.0),
        Action::Resend(request) => format!("resend {}", request.exchange.0),
        Action::Relisten(listening) => format!("relisten {}", listening.attachment.0),
        Action::Release(call) => format!("release {}", text(&bytes(*call))),
        Action::OpenStream => "open stream".to_owned(),
        Action::CloseStream => "close stream".to_owned(),
        Action::Close(end) => format!("close {end:?}"),
    }
}

fn bytes(call: CallId) -> Bytes {
    Bytes::copy_from_slice(call.to_request_id().as_json())
}

fn ticket(exchange: u128, round: u8) -> Ticket {
    let exchange = ExchangeId(exchange);
    Ticket { exchange, round }
}

fn parse(text: &str) -> Message {
    Message::parse(Bytes::copy_from_slice(text.as_bytes())).expect(text)
}

fn initialized(capabilities: &str) -> String {
    format!(
        r#"{{"protocolVersion":"2025-11-25","capabilities":{capabilities},"serverInfo":{{"name":"s","version":"1"}}}}"#
    )
}

/// A modern request; `params` begins with a comma, or is empty.
fn modern(id: &str, method: &str, params: &str, declared: &str, meta: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{"_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{declared}{meta}}}{params}}}}}"#
    )
}

/// A call that declares all there is.
fn call(id: &str) -> String {
    modern(id, "tools/call", r#","name":"t""#, ALL, "")
}

fn list(id: &str) -> String {
    modern(id, "tools/list", "", NOTHING, "")
}

/// The retry of [`call`] with these answers.
fn retry(id: &str, answers: &str) -> String {
    let params = format!(r#","name":"t","requestState":"S","inputResponses":{answers}"#);
    modern(id, "tools/call", &params, ALL, "")
}

/// What a legacy server gets of [`call`].
fn written(id: u64) -> String {
    format!(
        r#"up: {{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"_meta":{{"progressToken":{id}}},"name":"t"}}}}"#
    )
}

fn request(id: &str, method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#)
}

fn elicit(id: &str) -> String {
    request(id, "elicitation/create", r#"{"message":"?"}"#)
}

fn notification(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#)
}

fn result(id: &str, result: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
}

fn error(id: &str, code: i32, message: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"{message}"}}}}"#)
}

/// A result as a modern client gets it.
fn complete(id: &str, members: &str) -> String {
    result(
        id,
        &format!(
            r#"{{{members}"resultType":"complete","_meta":{{"io.modelcontextprotocol/serverInfo":{{"name":"s","version":"1"}}}}}}"#
        ),
    )
}

/// A round as a modern client gets it.
fn asks(id: &str, requests: &str) -> String {
    result(
        id,
        &format!(
            r#"{{"resultType":"input_required","inputRequests":{requests},"requestState":"S","_meta":{{"io.modelcontextprotocol/serverInfo":{{"name":"s","version":"1"}}}}}}"#
        ),
    )
}

/// An error of the gateway's own.
fn own_error(id: &str, code: i32, text: &str, reason: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"{text}","data":{{"reason":"{reason}","upstream":"u"}}}}}}"#
    )
}

fn cancelled(id: &str, reason: &str) -> String {
    notification(
        "notifications/cancelled",
        &format!(r#"{{"requestId":{id},"reason":"{reason}"}}"#),
    )
}

fn up(message: &str) -> String {
    format!("up: {message}")
}
