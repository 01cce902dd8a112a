//! The bridge between legacy clients and a pipe of messages, row by row of protocol notes 5.2.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod cancel;
mod deadline;
mod declared;
mod levels;
mod per_client;
mod pooled;
mod shared;
mod streams;
mod tasks;

use std::time::{Duration, Instant};

use bytes::Bytes;

use thinpipe_proto::bridge::downgrade::Channel;
use thinpipe_proto::bridge::{
    Action, CallId, Config, Limits, MemberId, Nature, Reframing, Refused, Sharing,
};
use thinpipe_proto::rpc::{Message, RequestId};

const SECOND: Duration = Duration::from_secs(1);

/// Capabilities of a client that can be asked for anything.
const EVERYTHING: &str =
    r#"{"roots":{},"sampling":{"tools":{}},"elicitation":{"form":{},"url":{}}}"#;

/// A machine with its clock, whose actions are read as lines:
/// `up: ..` written, `1/7: ..` delivered to member 1 for its request 7 (`1/7!` as its response, `1/-`
/// for none), `finish 1/7`, `close ..`.
struct Pipe {
    machine: Reframing,
    start: Instant,
    now: Instant,
}

impl Pipe {
    fn new(sharing: Sharing, limits: Limits, members: u64) -> Self {
        Self::over(Channel::Pipe, sharing, limits, members)
    }

    fn over(channel: Channel, sharing: Sharing, limits: Limits, members: u64) -> Self {
        let mut machine = Reframing::new(Config {
            upstream: "u".to_owned(),
            sharing,
            channel,
            ids_after: 0,
            limits,
        });
        for member in 1..=members {
            machine.attach(MemberId(member)).unwrap();
        }
        let start = Instant::now();
        let now = start;
        Self {
            machine,
            start,
            now,
        }
    }

    fn per_client() -> Self {
        Self::new(Sharing::PerClient, Limits::default(), 1)
    }

    /// The same after a handshake in which the only client declares this. It took id 1 upstream.
    fn declaring(mut self, capabilities: &str) -> Self {
        self.says(1, &initialize("\"i\"", capabilities));
        assert_eq!(self.hears(&initialized(1, "{}")).len(), 1);
        self
    }

    /// A shared session with so many members, all of them initialized.
    fn shared(members: u64) -> Self {
        let mut pipe = Self::new(Sharing::Shared, Limits::default(), members);
        for member in 1..=members {
            pipe.says(member, &initialize("\"i\"", "{}"));
            if member == 1 {
                pipe.hears(&initialized(1, "{}"));
            }
        }
        pipe
    }

    /// A session of so many members of one principal, all of them initialized with these capabilities. The
    /// handshake took id 1 upstream.
    fn pooled(channel: Channel, members: u64, capabilities: &str) -> Self {
        Self::many(channel, Sharing::Pooled, members, capabilities)
    }

    fn many(channel: Channel, sharing: Sharing, members: u64, capabilities: &str) -> Self {
        let mut pipe = Self::over(channel, sharing, Limits::default(), members);
        for member in 1..=members {
            pipe.says(member, &initialize("\"i\"", capabilities));
            if member == 1 {
                pipe.hears(&initialized(1, "{}"));
            }
        }
        pipe
    }

    /// A client's message, which is taken.
    fn says(&mut self, member: u64, text: &str) -> Vec<String> {
        self.tries(member, text).expect("taken")
    }

    fn tries(&mut self, member: u64, text: &str) -> Result<Vec<String>, Refused> {
        let message = parse(text);
        self.machine
            .client(MemberId(member), &message, self.now)
            .map(|()| self.actions())
    }

    /// A message of the upstream.
    fn hears(&mut self, text: &str) -> Vec<String> {
        self.machine.upstream(&parse(text), self.now);
        self.actions()
    }

    /// A message of the upstream on the stream of this request.
    fn hears_on(&mut self, via: &str, text: &str) -> Vec<String> {
        let via = CallId::from_request_id(&id_of(via));
        self.machine.upstream_on(via, &parse(text), self.now);
        self.actions()
    }

    /// Something that is no message, on the stream of this request.
    fn alive(&mut self, via: &str) {
        let via = CallId::from_request_id(&id_of(via)).unwrap();
        self.machine.alive(via, self.now);
    }

    fn leaves(&mut self, member: u64) -> Vec<String> {
        self.machine.detach(MemberId(member), self.now);
        self.actions()
    }

    fn unreachable(&mut self, member: u64, id: &str) -> Vec<String> {
        self.machine
            .undeliverable(MemberId(member), &id_of(id), self.now);
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

    fn actions(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.machine.poll_action())
            .map(|action| line(&action))
            .collect()
    }
}

fn line(action: &Action) -> String {
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let id = |id: &RequestId| text(&Bytes::copy_from_slice(id.as_json()));
    match action {
        Action::Write { message, .. } => format!("up: {}", text(message)),
        Action::Deliver(delivery) => {
            let related = delivery.related.as_ref().map_or_else(|| "-".to_owned(), id);
            let last = if delivery.is_last() { "!" } else { "" };
            let message = text(&delivery.message);
            format!("{}/{related}{last}: {message}", delivery.member.0)
        }
        Action::Finish { member, request } => format!("finish {}/{}", member.0, id(request)),
        Action::Release(call) => format!("release {}", id(&call.to_request_id())),
        Action::Close(end) => format!("close {end:?}"),
    }
}

fn parse(text: &str) -> Message {
    Message::parse(Bytes::copy_from_slice(text.as_bytes())).expect(text)
}

fn id_of(json: &str) -> RequestId {
    RequestId::parse(Bytes::copy_from_slice(json.as_bytes())).unwrap()
}

fn request(id: &str, method: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}"}}"#)
}

fn request_with(id: &str, method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#)
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

/// An error of the gateway's own.
fn own_error(id: &str, text: &str, reason: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32603,"message":"{text}","data":{{"reason":"{reason}","upstream":"u"}}}}}}"#
    )
}

fn cancelled(id: &str, reason: &str) -> String {
    notification(
        "notifications/cancelled",
        &format!(r#"{{"requestId":{id},"reason":"{reason}"}}"#),
    )
}

fn progress(token: &str, value: &str) -> String {
    notification(
        "notifications/progress",
        &format!(r#"{{"progressToken":{token},"progress":{value}}}"#),
    )
}

/// A request that asks for progress.
fn tracked(id: &str, token: &str) -> String {
    request_with(
        id,
        "tools/call",
        &format!(r#"{{"_meta":{{"progressToken":{token}}}}}"#),
    )
}

fn initialize(id: &str, capabilities: &str) -> String {
    request_with(
        id,
        "initialize",
        &format!(r#"{{"protocolVersion":"2025-06-18","capabilities":{capabilities}}}"#),
    )
}

fn initialized(id: u64, capabilities: &str) -> String {
    result(
        &id.to_string(),
        &format!(r#"{{"protocolVersion":"2025-06-18","capabilities":{capabilities}}}"#),
    )
}

#[test]
fn natures_tell_what_may_be_held_merged_or_dropped() {
    let mut pipe = Pipe::per_client();
    for (method, nature) in [
        ("notifications/message", Nature::Log),
        ("notifications/resources/updated", Nature::ChangeNotice),
        ("notifications/tools/list_changed", Nature::ChangeNotice),
        ("notifications/prompts/list_changed", Nature::ChangeNotice),
        ("notifications/resources/list_changed", Nature::ChangeNotice),
        ("notifications/elicitation/complete", Nature::Notification),
        ("notifications/tasks/status", Nature::Notification),
    ] {
        pipe.machine
            .upstream(&parse(&notification(method, "{}")), pipe.now);
        let Some(Action::Deliver(delivery)) = pipe.machine.poll_action() else {
            panic!("{method} is not delivered");
        };
        assert_eq!(delivery.nature, nature, "{method}");
        assert!(!delivery.is_last());
    }
}
