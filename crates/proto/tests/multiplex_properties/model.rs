//! What clients, program and clock do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use thinpipe_proto::bridge::CallId;
use thinpipe_proto::bridge::multiplex::{Action, Limits, Multiplexing};
use thinpipe_proto::rpc::Message;
use thinpipe_proto::session::Principal;

pub(crate) const LEVEL: &str = "io.modelcontextprotocol/logLevel";
pub(crate) const STAMP: &str = "io.modelcontextprotocol/subscriptionId";

const IN_FLIGHT: usize = 6;
const LISTENS: usize = 3;

/// Kinds of changes, and what tells of them.
pub(crate) const KINDS: [(&str, &str); 3] = [
    ("toolsListChanged", "notifications/tools/list_changed"),
    ("promptsListChanged", "notifications/prompts/list_changed"),
    (
        "resourcesListChanged",
        "notifications/resources/list_changed",
    ),
];

/// What is known of a call.
pub(crate) struct Known {
    /// The client's id and token as JSON text.
    pub(crate) id: String,
    pub(crate) token: Option<String>,
    pub(crate) asks_logs: bool,
    pub(crate) principal: &'static str,
    pub(crate) is_listen: bool,
    /// Since when it is over.
    pub(crate) over: Option<Instant>,
    pub(crate) begun: Instant,
    /// Programs that it was written to.
    pub(crate) written: Vec<u32>,
    pub(crate) cancels: u32,
    pub(crate) last_progress: Option<u64>,
    /// What the client was told that it listens to.
    pub(crate) promised: Option<BTreeSet<String>>,
}

/// One program, its clients, and the machine between them.
pub(crate) struct World {
    pub(crate) machine: Multiplexing,
    pub(crate) calls: BTreeMap<u64, Known>,
    pub(crate) handles: BTreeMap<u64, CallId>,
    pub(crate) now: Instant,
    /// Which program runs; they are numbered.
    pub(crate) program: Option<u32>,
    pub(crate) started: u32,
    pub(crate) starting: bool,
    /// Calls of which the program may still say something: it was written, and has not answered.
    pub(crate) at_program: BTreeMap<u64, AtProgram>,
    /// Whose calls it has had.
    pub(crate) served: BTreeSet<&'static str>,
    /// Nothing is written for the moment.
    stuck: bool,
}

/// What the program knows of a call.
pub(crate) struct AtProgram {
    pub(crate) has_level: bool,
}

impl World {
    pub(crate) fn new() -> Self {
        let limits = Limits {
            in_flight: IN_FLIGHT,
            listens: LISTENS,
            ..Limits::default()
        };
        Self {
            machine: Multiplexing::new(limits),
            calls: BTreeMap::new(),
            handles: BTreeMap::new(),
            now: Instant::now(),
            program: None,
            started: 0,
            starting: false,
            at_program: BTreeMap::new(),
            served: BTreeSet::new(),
            stuck: false,
        }
    }

    pub(crate) fn step(&mut self, [what, a, b, c]: [u8; 4]) {
        match what % 16 {
            0..=2 => self.ask(a, b, c),
            3 => self.ask_listen(a, b),
            4 => self.leave(a),
            5 | 6 => self.answer(a, b),
            7 => self.progress(a, b),
            8 => self.say(&json!({"method": "notifications/message", "params": {"data": a}})),
            9 | 10 => self.acknowledge(a, b),
            11 => self.notice(a, b),
            12 => self.odd(a, b),
            13 => self.die(b),
            14 => self.start(a % 4 != 0),
            _ => self.pass(a, b),
        }
        self.settle();
        assert!(
            self.machine.in_flight() <= IN_FLIGHT + LISTENS,
            "23: tables are bounded"
        );
    }

    /// Everything ends, and nothing is left.
    pub(crate) fn finish(&mut self) {
        self.stuck = false;
        self.settle();
        self.machine.end("the end");
        self.settle();
        for (id, call) in &self.calls {
            assert!(
                call.over.is_some(),
                "1: call {id} has neither response nor failure"
            );
        }
        assert!(self.machine.is_idle(), "24: a call is left");
        assert_eq!(self.machine.poll_timeout(), None, "24: a timer is left");
        assert!(!self.machine.has_writes(), "24: a write is left");
    }

    fn ask(&mut self, a: u8, b: u8, c: u8) {
        let ids = ["1", "\"1\"", "\"a\"", "2"];
        let mut meta = json!({});
        let tokens = [json!(1), json!("1"), json!("t"), Value::Null];
        let token = &tokens[usize::from(b) % 4];
        if !token.is_null() {
            meta["progressToken"] = token.clone();
        }
        let asks_logs = c.is_multiple_of(3);
        if asks_logs {
            meta[LEVEL] = "info".into();
        }
        let id = ids[usize::from(a) % 4];
        let params = json!({"name": "t", "_meta": meta});
        let text =
            format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{params}}}"#);
        let known = Known {
            token: (!token.is_null()).then(|| token.to_string()),
            asks_logs,
            ..self.known(id, c)
        };
        self.take(&text, known);
    }

    fn ask_listen(&mut self, a: u8, b: u8) {
        let ids = ["1", "\"1\"", "\"a\"", "2"];
        let id = ids[usize::from(a) % 4];
        let wanted = kinds(b);
        let wanted: serde_json::Map<_, _> = wanted.into_iter().map(|k| (k, true.into())).collect();
        let params = json!({"notifications": wanted, "_meta": {"progressToken": 1, LEVEL: "info"}});
        let method = "subscriptions/listen";
        let text =
            format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#);
        let known = Known {
            is_listen: true,
            ..self.known(id, a / 4)
        };
        self.take(&text, known);
    }

    fn known(&self, id: &str, who: u8) -> Known {
        Known {
            id: id.to_owned(),
            token: None,
            asks_logs: false,
            // Mostly one.
            principal: if who > 250 { "bob" } else { "ann" },
            is_listen: false,
            over: None,
            begun: self.now,
            written: Vec::new(),
            cancels: 0,
            last_progress: None,
            promised: None,
        }
    }

    fn take(&mut self, text: &str, known: Known) {
        let principal = Principal::Named(known.principal.into());
        let message = Message::parse(text.to_owned().into()).unwrap();
        let Ok(call) = self.machine.call(&message, &principal, self.now) else {
            return;
        };
        let id = number(call);
        assert!(
            self.calls.insert(id, known).is_none(),
            "7: ids are never used twice"
        );
        self.handles.insert(id, call);
    }

    fn leave(&mut self, a: u8) {
        let Some(id) = self.pick(a) else { return };
        self.machine.cancel(self.handles[&id], self.now);
        if let Some(call) = self.calls.get_mut(&id) {
            call.over = call.over.or(Some(self.now));
        }
    }

    /// Some call, over or not.
    fn pick(&self, a: u8) -> Option<u64> {
        let ids: Vec<_> = self.calls.keys().rev().take(8).copied().collect();
        (!ids.is_empty()).then(|| ids[usize::from(a) % ids.len()])
    }

    fn answer(&mut self, a: u8, b: u8) {
        let Some(id) = self.pick(a) else { return };
        let id = if b % 16 == 15 {
            // Another type is another id.
            json!(id.to_string())
        } else {
            self.at_program.remove(&id);
            json!(id)
        };
        match b % 3 {
            0 => self.say(&json!({"id": id, "error": {"code": -32603, "message": "no"}})),
            _ => {
                let result = json!({"resultType": "complete", "_meta": {STAMP: id}});
                self.say(&json!({"id": id, "result": result}));
            }
        }
    }

    fn progress(&mut self, a: u8, b: u8) {
        let Some(id) = self.pick(a) else { return };
        let params = json!({"progressToken": id, "progress": b % 8});
        self.say(&json!({"method": "notifications/progress", "params": params}));
    }

    fn acknowledge(&mut self, a: u8, b: u8) {
        let Some(id) = self.pick(a) else { return };
        let granted = kinds(if b.is_multiple_of(3) { b } else { 7 });
        let granted: serde_json::Map<_, _> =
            granted.into_iter().map(|k| (k, true.into())).collect();
        let params = json!({"notifications": granted, "_meta": {STAMP: id}});
        let method = "notifications/subscriptions/acknowledged";
        self.say(&json!({"method": method, "params": params}));
    }

    fn notice(&mut self, a: u8, b: u8) {
        let Some(id) = self.pick(a) else { return };
        let (_, method) = KINDS[usize::from(b) % 3];
        self.say(&json!({"method": method, "params": {"_meta": {STAMP: id}}}));
    }

    /// What a program should not say.
    fn odd(&mut self, a: u8, b: u8) {
        let id = self.pick(a).unwrap_or(1);
        match b % 4 {
            0 => self.say(&json!({"id": id, "method": "roots/list"})),
            1 => self.say(&json!({"method": "notifications/tools/list_changed"})),
            2 => self.say(&json!({"id": 999, "result": {}})),
            _ => {
                let params = json!({"requestId": id});
                self.say(&json!({"method": "notifications/cancelled", "params": params}));
            }
        }
    }

    fn say(&mut self, message: &Value) {
        let mut message = message.clone();
        message["jsonrpc"] = "2.0".into();
        if self.program.is_some() {
            let message = Message::parse(message.to_string().into()).unwrap();
            self.machine.upstream(&message, self.now);
        }
    }

    fn die(&mut self, b: u8) {
        if b.is_multiple_of(4) && self.program.take().is_some() {
            self.at_program.clear();
            self.served.clear();
            self.machine.upstream_lost("it died");
        }
    }

    fn start(&mut self, works: bool) {
        if !std::mem::take(&mut self.starting) {
            return;
        }
        if works {
            self.started += 1;
            self.program = Some(self.started);
            self.machine.started();
        } else {
            self.machine.start_failed(self.now + Duration::from_secs(3));
        }
    }

    fn pass(&mut self, a: u8, b: u8) {
        self.stuck = b.is_multiple_of(4);
        let until = self.now + Duration::from_secs(u64::from(a) / 4);
        while let Some(due) = self.machine.poll_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.machine.on_timeout(self.now);
            self.settle();
        }
        self.now = until;
        for (id, call) in &self.calls {
            let age = self.now.saturating_duration_since(call.begun);
            let late = call.over.is_none() && !call.is_listen && age > Duration::from_secs(660);
            assert!(!late, "22: call {id} is open after {age:?}");
        }
    }

    /// Does what the machine wants done, and judges it.
    fn settle(&mut self) {
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Start => {
                    assert!(
                        self.program.is_none() && !self.starting,
                        "one program at a time"
                    );
                    self.starting = true;
                }
                action => self.judge(&action),
            }
        }
        while !self.stuck
            && let Some(write) = self.machine.poll_write(self.now)
        {
            self.judge_write(&write);
        }
    }
}

fn kinds(bits: u8) -> BTreeSet<String> {
    let chosen = KINDS.iter().enumerate().filter(|(n, _)| bits >> n & 1 == 1);
    chosen.map(|(_, (kind, _))| (*kind).to_owned()).collect()
}

pub(crate) fn number(call: CallId) -> u64 {
    serde_json::from_slice(call.to_request_id().as_json()).unwrap()
}
