//! What the model knows of both sides.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use thinpipe_proto::bridge::downgrade::{
    AttachmentId, Channel, Config, Downgrading, Lifetime, Limits, Listening, Request, SETTING_AGE,
};
use thinpipe_proto::bridge::shape::Caching;
use thinpipe_proto::bridge::{CANCELLED_AGE, CallId};
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::Message;

/// Small bounds, so that short scripts reach them.
pub(super) const IN_FLIGHT: usize = 6;
pub(super) const LISTENS: usize = 2;
pub(super) const URI_LIMIT: usize = 3;
pub(super) const HELD: usize = 400;

/// What clients declare. The first is what the session declares.
pub(super) const DECLARED: [&str; 4] = [
    r#"{"sampling":{},"elicitation":{"form":{},"url":{}},"roots":{}}"#,
    "{}",
    r#"{"elicitation":{}}"#,
    r#"{"elicitation":{"url":{}},"sampling":{"tools":{}}}"#,
];
/// What the server asks for; which of [`DECLARED`] can be asked it, on a session that declares the first.
pub(super) const QUESTIONS: [(&str, &str, [bool; 4]); 6] = [
    ("elicitation/create", "", [true, false, true, false]),
    (
        "elicitation/create",
        r#","mode":"url""#,
        [true, false, false, true],
    ),
    ("sampling/createMessage", "", [true, false, false, true]),
    (
        "sampling/createMessage",
        r#","tools":[]"#,
        [false, false, false, false],
    ),
    ("roots/list", "", [true, false, false, false]),
    ("x/y", "", [false, false, false, false]),
];
pub(super) const LEVELS: [&str; 3] = ["debug", "warning", "emergency"];

/// A client's request that was taken. Its number is its mark, which it carries in its params.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) method: &'static str,
    pub(super) life: Life,
    /// What the POST that has it now, or had it last, declares.
    pub(super) declared: usize,
    /// How often it was written, and how often it may be.
    pub(super) writes: usize,
    pub(super) allowed: usize,
    pub(super) rounds: u8,
    /// Something was shown: it is never written again.
    pub(super) shown: bool,
    /// An outcome came while it was parked.
    pub(super) outcome: bool,
    /// The last of the upstream's messages that it got.
    pub(super) heard: usize,
    /// The last progress for each token of its client's.
    pub(super) progress: BTreeMap<String, u8>,
    pub(super) started: Instant,
    pub(super) waits_until: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    Attached(u64),
    /// The POST whose message asks may be on its way.
    Parked(Option<u64>),
    Over,
}

/// A POST of a client.
#[derive(Debug, Clone)]
pub(super) struct Post {
    pub(super) carries: Carries,
    pub(super) id: String,
    pub(super) token: Option<&'static str>,
    pub(super) level: Option<usize>,
    /// It got its last message, or left.
    pub(super) over: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Carries {
    Exchange(usize),
    Listen {
        wants: BTreeSet<String>,
        /// What was acknowledged.
        acknowledged: Option<BTreeSet<String>>,
        told: usize,
    },
}

/// A request as the upstream has it.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) mark: Option<usize>,
    pub(super) call: CallId,
    pub(super) method: String,
    pub(super) uri: Option<String>,
    pub(super) at: Instant,
    pub(super) state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Running,
    Cancelled(Instant),
    Over,
}

/// A request of the server. Its number is in its params.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) id: String,
    pub(super) kind: usize,
    pub(super) whose: Option<usize>,
    /// Its key, once it was shown.
    pub(super) key: Option<String>,
    pub(super) open: bool,
}

/// What the machine may do in this step.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// The exchange that goes on with this step's retry.
    pub(super) retried: Option<usize>,
    pub(super) actions: usize,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) machine: Downgrading,
    pub(super) channel: Channel,
    pub(super) lifetime: Lifetime,
    pub(super) now: Instant,
    pub(super) open: bool,
    pub(super) over: bool,
    pub(super) exchanges: Vec<Exchange>,
    pub(super) posts: BTreeMap<u64, Post>,
    pub(super) next_post: u64,
    pub(super) received: BTreeMap<u64, Received>,
    pub(super) questions: Vec<Question>,
    pub(super) step: Step,
    /// What the upstream has subscriptions to; what nobody can say of.
    pub(super) held: BTreeSet<String>,
    pub(super) murky: BTreeSet<String>,
    /// The standing stream was asked for; was refused.
    pub(super) stream: bool,
    pub(super) deaf: bool,
    pub(super) answers: Vec<(thinpipe_proto::bridge::downgrade::AnswerId, Bytes, usize)>,
    pub(super) resent: Vec<Request>,
    pub(super) listenings: Vec<Listening>,
    /// How many notifications the upstream said.
    pub(super) said: usize,
    /// How many InputRequired and Unparked there were.
    pub(super) parked: usize,
    /// Some elicitations were completed.
    pub(super) completed: bool,
    /// The next round is not parked.
    pub(super) unparkable: bool,
}

impl World {
    pub(super) fn new(channel: Channel, lifetime: Lifetime) -> Self {
        let machine = Downgrading::new(Config {
            upstream: "u".to_owned(),
            channel,
            lifetime,
            revision: Revision::V2025_11_25,
            capabilities: Bytes::from_static(DECLARED[0].as_bytes()),
            client_info: Bytes::from_static(b"{}"),
            served: vec![Revision::V2026_07_28],
            caching: Caching::default(),
            limits: Limits {
                in_flight: IN_FLIGHT,
                listens: LISTENS,
                uris: URI_LIMIT,
                held: HELD,
                ..Limits::default()
            },
        });
        let mut world = Self {
            machine,
            channel,
            lifetime,
            now: Instant::now(),
            open: false,
            over: false,
            exchanges: Vec::new(),
            posts: BTreeMap::new(),
            next_post: 1,
            received: BTreeMap::new(),
            questions: Vec::new(),
            step: Step::default(),
            held: BTreeSet::new(),
            murky: BTreeSet::new(),
            stream: false,
            deaf: false,
            answers: Vec::new(),
            resent: Vec::new(),
            listenings: Vec::new(),
            said: 0,
            parked: 0,
            completed: false,
            unparkable: false,
        };
        world.machine.start(world.now);
        super::judge::judge(&mut world);
        world
    }

    pub(super) fn post_id(&mut self) -> u64 {
        self.next_post += 1;
        self.next_post - 1
    }

    /// Whether questions of this kind may be put to who declares this.
    pub(super) fn may_be_asked(&self, kind: usize, declared: usize) -> bool {
        let shared = self.lifetime == Lifetime::Shared;
        let told =
            !(shared && (self.channel == Channel::Pipe || QUESTIONS[kind].0 == "roots/list"));
        told && QUESTIONS[kind].2[declared]
    }

    pub(super) fn asks_anything(&self, declared: usize) -> bool {
        (0..QUESTIONS.len()).any(|kind| self.may_be_asked(kind, declared))
    }

    /// Whether the server may ask something for this call of an exchange.
    pub(super) fn is_eligible(&self, mark: usize) -> bool {
        let exchange = &self.exchanges[mark];
        let method = matches!(
            exchange.method,
            "tools/call" | "prompts/get" | "resources/read"
        );
        method && exchange.life != Life::Over && self.asks_anything(exchange.declared)
    }

    /// The calls that run, or may run still.
    fn live(&self) -> impl Iterator<Item = &Received> {
        let now = self.now;
        self.received
            .values()
            .filter(move |received| match received.state {
                State::Running => true,
                State::Cancelled(at) => at + CANCELLED_AGE > now,
                State::Over => false,
            })
    }

    /// What the upstream has, but for `initialize`.
    pub(super) fn numbers(&self) -> Vec<u64> {
        let numbers = self.received.keys().copied();
        numbers.filter(|number| *number > 1).collect()
    }

    pub(super) fn is_running(&self, number: u64) -> bool {
        let received = self.received.get(&number);
        received.is_some_and(|received| received.state == State::Running)
    }

    /// Which exchange a log line belongs to.
    pub(super) fn speaks_for(&self, via: Option<u64>) -> Option<usize> {
        if let Some(via) = via {
            return self.received[&via].mark.filter(|_| self.is_running(via));
        }
        let mut live = self.live();
        match (live.next(), live.next(), self.lifetime) {
            (_, _, Lifetime::Shared) => None,
            (Some(only), None, _) if only.state == State::Running => only.mark,
            _ => None,
        }
    }

    /// Which exchange a server request is for.
    pub(super) fn asks(&self, via: Option<u64>) -> Option<usize> {
        if via.is_some() {
            return self.speaks_for(via).filter(|mark| self.is_eligible(*mark));
        }
        let cancelled = self.live().any(|received| received.state != State::Running);
        if self.lifetime == Lifetime::Shared || cancelled {
            return None;
        }
        let running = self.live().filter_map(|received| received.mark);
        let running: BTreeSet<usize> = running.filter(|mark| self.is_eligible(*mark)).collect();
        match running.len() {
            1 => running.first().copied(),
            _ => None,
        }
    }

    pub(super) fn question(&self, id: &str) -> Option<usize> {
        let mut open = self.questions.iter();
        open.position(|question| question.open && question.id == id)
    }

    pub(super) fn within_bounds(&self) {
        let open = self
            .exchanges
            .iter()
            .filter(|e| e.life != Life::Over)
            .count();
        assert_eq!(self.machine.exchanges(), open, "invariant 24");
        assert!(open <= IN_FLIGHT, "invariant 23");
        assert!(self.machine.listens() <= LISTENS, "invariant 23");
        let absolute = self.machine.config().limits.absolute_cap;
        for exchange in self.exchanges.iter().filter(|e| e.life != Life::Over) {
            assert!(self.now <= exchange.started + absolute, "invariant 22");
        }
        let parked = self
            .exchanges
            .iter()
            .filter(|e| matches!(e.life, Life::Parked(_)));
        assert_eq!(parked.count(), self.parked, "invariant 15");
        let eligible = self.received.values().filter(|received| {
            received.state == State::Running
                && received.mark.is_some_and(|mark| self.is_eligible(mark))
        });
        // Retries may declare more than the first request did.
        if self.channel == Channel::Pipe {
            assert!(eligible.count() <= IN_FLIGHT);
        }
        assert_eq!(self.machine.is_over(), self.over);
    }

    /// Lets time pass; timers fire when they are due.
    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.machine.poll_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.give_up_settings();
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

    /// What the gateway asks for itself is not waited for any longer.
    fn give_up_settings(&mut self) {
        for received in self.received.values_mut() {
            let over = received.mark.is_none()
                && received.method != "initialize"
                && received.state == State::Running
                && received.at + SETTING_AGE <= self.now;
            if over {
                received.state = State::Over;
                self.murky.extend(received.uri.clone());
            }
        }
    }

    pub(super) fn hears(&mut self, text: &str, via: Option<u64>) {
        let via = via.map(|number| self.received[&number].call);
        self.machine.upstream(&message(text), via, self.now);
        super::judge::judge(self);
    }

    pub(super) fn detach(&mut self, post: u64) {
        self.machine.detach(AttachmentId(post), self.now);
    }
}

pub(super) fn message(json: &str) -> Message {
    Message::parse(Bytes::copy_from_slice(json.as_bytes())).expect(json)
}
