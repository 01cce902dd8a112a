//! Calls of 2026-07-28 on one program, row by row of protocol notes 5.5 (E2 to SM).

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod calls;
mod listens;
mod program;

use std::time::{Duration, Instant};

use bytes::Bytes;
use thinpipe_proto::bridge::multiplex::{Action, Limits, Multiplexing, Nature};
use thinpipe_proto::bridge::{CallId, Refused};
use thinpipe_proto::rpc::Message;
use thinpipe_proto::session::Principal;

const SECOND: Duration = Duration::from_secs(1);

/// A machine with its clock, what it does read as lines: `start`, `up: ..` written, `1: ..` delivered to
/// call 1 (`1!` as its response), `1 x ..` failed (`1 x- ..`: it certainly was not delivered).
struct Pipe {
    machine: Multiplexing,
    calls: Vec<CallId>,
    begun: Instant,
    now: Instant,
    /// Whether the program starts when it is to.
    starts: bool,
}

impl Pipe {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let begun = Instant::now();
        Self {
            machine: Multiplexing::new(limits).with_one_anonymous(),
            calls: Vec::new(),
            begun,
            now: begun,
            starts: true,
        }
    }

    /// A request of somebody, which is taken.
    fn asks(&mut self, text: &str) -> Vec<String> {
        self.asks_as("", text).expect("taken")
    }

    fn asks_as(&mut self, who: &str, text: &str) -> Result<Vec<String>, Refused> {
        let principal = match who {
            "" => Principal::Anonymous,
            name => Principal::Named(name.into()),
        };
        let id = self.machine.call(&parse(text), &principal, self.now)?;
        self.calls.push(id);
        Ok(self.lines())
    }

    /// The client of the so-manieth call leaves.
    fn leaves(&mut self, number: usize) -> Vec<String> {
        self.machine.cancel(self.calls[number - 1], self.now);
        self.lines()
    }

    /// A message of the program.
    fn hears(&mut self, text: &str) -> Vec<String> {
        self.machine.upstream(&parse(text), self.now);
        self.lines()
    }

    fn dies(&mut self) -> Vec<String> {
        self.machine.upstream_lost("it died");
        self.lines()
    }

    /// So long after the beginning, timers fire as they are due.
    fn at(&mut self, since: Duration) -> Vec<String> {
        let until = self.begun + since;
        let mut lines = Vec::new();
        while let Some(due) = self.machine.poll_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.machine.on_timeout(self.now);
            lines.extend(self.lines());
        }
        self.now = until;
        lines
    }

    fn lines(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(action) = self.machine.poll_action() {
            lines.push(line(&action));
            if matches!(action, Action::Start) && self.starts {
                self.machine.started();
            }
        }
        while let Some(write) = self.machine.poll_write(self.now) {
            lines.push(format!("up: {}", text(&write.message)));
        }
        lines
    }
}

fn line(action: &Action) -> String {
    let number = |call: &CallId| text(call.to_request_id().as_json());
    match action {
        Action::Start => "start".to_owned(),
        Action::Deliver {
            call,
            message,
            nature,
        } => {
            let last = match nature {
                Nature::Response => "!",
                Nature::ChangeNotice => "~",
                Nature::Notification => "",
            };
            format!("{}{last}: {}", number(call), text(message))
        }
        Action::Fail {
            call,
            fault,
            undelivered,
        } => {
            let certain = if *undelivered { "-" } else { "" };
            format!("{} x{certain} {fault:?}", number(call))
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn parse(text: &str) -> Message {
    Message::parse(Bytes::copy_from_slice(text.as_bytes())).expect(text)
}

fn up(message: &str) -> String {
    format!("up: {message}")
}

fn request(id: &str, method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#)
}

/// A call of a tool with these members of `_meta`.
fn call(id: &str, meta: &str) -> String {
    request(
        id,
        "tools/call",
        &format!(r#"{{"name":"t","_meta":{{{meta}}}}}"#),
    )
}

fn listen(id: &str, notifications: &str) -> String {
    let params = format!(r#"{{"notifications":{notifications},"_meta":{{}}}}"#);
    request(id, "subscriptions/listen", &params)
}

fn notification(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#)
}

fn progress(token: &str, value: &str) -> String {
    let params = format!(r#"{{"progressToken":{token},"progress":{value}}}"#);
    notification("notifications/progress", &params)
}

fn log(text: &str) -> String {
    let params = format!(r#"{{"level":"info","data":"{text}"}}"#);
    notification("notifications/message", &params)
}

/// What is on the listen of this id.
fn stamped(method: &str, params: &str, id: &str) -> String {
    let stamp = format!(r#""_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}"#);
    notification(method, &format!("{{{params}{stamp}}}"))
}

fn acknowledged(id: &str, notifications: &str) -> String {
    let params = format!(r#""notifications":{notifications},"#);
    stamped("notifications/subscriptions/acknowledged", &params, id)
}

fn result(id: &str, result: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
}

fn error(id: &str, code: i32) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"no"}}}}"#)
}

/// The final result of a listen.
fn closed(id: &str) -> String {
    let stamp = format!(r#"{{"io.modelcontextprotocol/subscriptionId":{id}}}"#);
    result(
        id,
        &format!(r#"{{"resultType":"complete","_meta":{stamp}}}"#),
    )
}

fn cancelled(id: &str, reason: &str) -> String {
    let params = format!(r#"{{"requestId":{id},"reason":"{reason}"}}"#);
    notification("notifications/cancelled", &params)
}
