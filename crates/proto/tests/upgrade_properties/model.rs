//! What the model knows of both sides.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};
use thinpipe_proto::bridge::upgrade::{self, Config, Upgrading};
use thinpipe_proto::bridge::{CallId, EARLY_CANCEL_AGE, MAX_EARLY_CANCELS, MemberId};
use thinpipe_proto::rpc::{Message, RequestId};

/// Small bounds, so that short scripts reach them.
pub(super) const IN_FLIGHT: usize = 6;
pub(super) const PROMPTS: usize = 3;
pub(super) const SUBSCRIPTIONS: usize = 8;

/// A client's request that was taken. Its number is its mark, which it carries in its params.
#[derive(Debug)]
pub(super) struct Asked {
    /// JSON text.
    pub(super) id: String,
    pub(super) kind: Kind,
    pub(super) token: Option<String>,
    pub(super) open: bool,
    /// It had a result.
    pub(super) done: bool,
    pub(super) started: Instant,
    pub(super) progress: Option<u64>,
    pub(super) writes: usize,
    /// How often it may have been written by now.
    pub(super) may: usize,
    /// What it was written once more for.
    pub(super) causes: BTreeSet<&'static str>,
    /// What its next leg has to carry.
    pub(super) round: Option<Round>,
    /// The last of the server's lines about it.
    pub(super) seen: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Call,
    Read,
    List,
    Here,
    Subscribe(String),
    Unsubscribe(String),
}

/// What the server has asked last.
#[derive(Debug, Default)]
pub(super) struct Round {
    pub(super) state: Option<String>,
    /// Keys and methods, in the order in which they are asked.
    pub(super) questions: VecDeque<(String, String)>,
    pub(super) answers: BTreeMap<String, Value>,
}

/// A question at the client.
#[derive(Debug)]
pub(super) struct Prompt {
    pub(super) id: String,
    pub(super) mark: usize,
    pub(super) key: String,
    pub(super) open: bool,
}

/// A request as the server has it.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) call: CallId,
    /// `None`: one of the gateway's own.
    pub(super) mark: Option<usize>,
    pub(super) method: String,
    pub(super) state: State,
    /// Of a listen: what it asks for, and what it was promised.
    pub(super) uris: BTreeSet<String>,
    pub(super) acknowledged: bool,
    /// Nobody waits for it.
    pub(super) aside: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Running,
    Closed,
    Over,
}

impl Call {
    pub(super) fn is_listen(&self) -> bool {
        self.method == "subscriptions/listen"
    }

    /// Whether it may stay as it is.
    pub(super) fn is_settled(&self) -> bool {
        self.is_listen() && self.acknowledged
    }
}

/// Both sides, and the machine between them.
pub(super) struct World {
    pub(super) machine: Upgrading,
    pub(super) now: Instant,
    pub(super) over: bool,
    pub(super) asked: Vec<Asked>,
    pub(super) prompts: Vec<Prompt>,
    pub(super) calls: BTreeMap<u64, Call>,
    /// Resources that the client is subscribed to, as it was told.
    pub(super) wants: BTreeSet<String>,
    /// Of those, on which listen each is.
    pub(super) holders: BTreeMap<String, u64>,
    /// Of those, the ones whose listen has ended, and of which nobody was told since.
    pub(super) gaps: BTreeSet<String>,
    pub(super) early: Vec<(RequestId, Instant)>,
    pub(super) streams: usize,
    pub(super) logs: bool,
    /// Numbers what the server says.
    pub(super) said: u64,
    /// How often each resource was told of in this step.
    pub(super) told: BTreeMap<String, usize>,
    /// The request that the client or the transport gives up in this step.
    pub(super) given_up: Option<usize>,
    /// Marks whose client was being asked when this step began.
    pub(super) asking: BTreeSet<usize>,
    /// The machine was told that there is no server any more.
    pub(super) lost: bool,
    /// The last id of a call.
    pub(super) last_id: u64,
}

/// What the client declares.
pub(super) fn declared() -> Value {
    json!({"roots": {}, "elicitation": {}})
}

impl World {
    pub(super) fn new(headers: bool) -> Self {
        let initialize = json!({
            "jsonrpc": "2.0", "id": 0, "method": "initialize",
            "params": {"protocolVersion": "2025-06-18", "capabilities": declared()},
        });
        let offered = json!({
            "capabilities": {
                "tools": {"listChanged": true}, "logging": {},
                "resources": {"subscribe": true, "listChanged": true},
            },
        });
        let opening = upgrade::initialize(
            &message(&initialize.to_string()),
            &offered.to_string().into(),
            "u",
        );
        let mut config = Config::new("u", MemberId(0), 1);
        config.headers = headers;
        config.limits.in_flight = IN_FLIGHT;
        config.limits.server_requests = PROMPTS;
        config.limits.subscriptions = SUBSCRIPTIONS;
        let now = Instant::now();
        Self {
            machine: Upgrading::new(config, opening.unwrap().handshake, now),
            now,
            over: false,
            asked: Vec::new(),
            prompts: Vec::new(),
            calls: BTreeMap::new(),
            wants: BTreeSet::new(),
            holders: BTreeMap::new(),
            gaps: BTreeSet::new(),
            early: Vec::new(),
            streams: 0,
            logs: false,
            said: 0,
            told: BTreeMap::new(),
            given_up: None,
            asking: BTreeSet::new(),
            lost: false,
            last_id: 0,
        }
    }

    /// The open request with an id of this value.
    pub(super) fn open(&self, id: &RequestId) -> Option<usize> {
        self.asked
            .iter()
            .position(|asked| asked.open && request_id(&asked.id) == *id)
    }

    /// Takes a cancellation that came before its request.
    pub(super) fn take_early(&mut self, id: &RequestId) -> bool {
        let now = self.now;
        self.early.retain(|(_, at)| *at + EARLY_CANCEL_AGE > now);
        let found = self.early.iter().position(|(early, _)| early == id);
        found.map(|at| self.early.remove(at)).is_some()
    }

    pub(super) fn remember_early(&mut self, id: RequestId) {
        let now = self.now;
        self.early.retain(|(_, at)| *at + EARLY_CANCEL_AGE > now);
        if self.early.len() == MAX_EARLY_CANCELS {
            self.early.remove(0);
        }
        self.early.push((id, now));
    }

    /// A listen has ended: the resources on it are not told of any more.
    pub(super) fn gap(&mut self, id: u64) {
        let held = self.holders.iter().filter(|(_, holder)| **holder == id);
        let held: Vec<String> = held.map(|(uri, _)| uri.clone()).collect();
        for uri in held {
            self.holders.remove(&uri);
            self.gaps.insert(uri);
        }
    }

    /// The server does not tell of this any more, unless on a listen that it had acknowledged.
    pub(super) fn refuse(&mut self, uri: &str) {
        if !self.holders.contains_key(uri) {
            self.wants.remove(uri);
            self.gaps.remove(uri);
        }
    }

    /// A step begins.
    pub(super) fn begin(&mut self) {
        self.told.clear();
        self.given_up = None;
        let open = self.prompts.iter().filter(|prompt| prompt.open);
        self.asking = open.map(|prompt| prompt.mark).collect();
    }

    pub(super) fn within_bounds(&self) {
        let open = self.asked.iter().filter(|asked| asked.open);
        assert_eq!(
            self.machine.in_flight(),
            open.clone().count(),
            "invariant 24"
        );
        assert!(open.clone().count() <= IN_FLIGHT, "invariant 23");
        let prompts = self.prompts.iter().filter(|prompt| prompt.open).count();
        assert_eq!(self.machine.server_requests(), prompts, "invariant 24");
        assert!(prompts <= PROMPTS, "invariant 23");
        assert!(self.wants.len() <= SUBSCRIPTIONS, "invariant 23");
        let running = |call: &&Call| call.state == State::Running;
        let calls = self.calls.values().filter(running);
        let listens = calls.clone().filter(|call| call.is_listen()).count();
        // Those for resources, one that takes their place, one for the lists.
        assert!(
            listens <= upgrade::MAX_RESOURCE_LISTENS * 2 + 2,
            "invariant 23: {listens}"
        );
        if !self.over {
            assert_eq!(self.machine.calls(), calls.count(), "invariant 24");
        }
        let cap = self.machine.config().limits.absolute_cap;
        for asked in open {
            assert!(self.now <= asked.started + cap, "invariant 22: {asked:?}");
        }
    }

    /// Lets time pass; timers fire when they are due.
    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.machine.poll_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.begin();
            self.machine.on_timeout(self.now);
            super::judge::judge(self);
            let next = self.machine.poll_timeout();
            assert!(
                next.is_none_or(|next| next > self.now),
                "a timer that spins"
            );
        }
        self.now = until;
    }
}

pub(super) fn request_id(json: &str) -> RequestId {
    RequestId::parse(Bytes::copy_from_slice(json.as_bytes())).expect("an id")
}

pub(super) fn message(json: &str) -> Message {
    Message::parse(Bytes::copy_from_slice(json.as_bytes())).expect("a message")
}
