//! What the model knows of both sides.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use thinpipe_proto::bridge::downgrade::Channel;
use thinpipe_proto::bridge::{
    CANCELLED_AGE, CallId, Config, EARLY_CANCEL_AGE, Limits, MAX_EARLY_CANCELS, MemberId,
    Reframing, Sharing,
};
use thinpipe_proto::rpc::{Message, RequestId};

/// Small bounds, so that short scripts reach them.
pub(super) const IN_FLIGHT: usize = 8;
const SERVER_REQUESTS: usize = 2;
const MEMBERS: usize = 3;
pub(super) const SUBSCRIPTIONS: usize = 2;

/// A client's request that was taken. Its number is its mark, which it carries in its params.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) member: u64,
    pub(super) id: String,
    pub(super) token: Option<String>,
    pub(super) kind: Kind,
    pub(super) open: bool,
    pub(super) written: bool,
    pub(super) started: Instant,
    pub(super) progress: Option<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    Initialize,
    Level,
    Subscribe(String),
    Unsubscribe(String),
}

/// A request as the upstream has it.
#[derive(Debug)]
pub(super) struct Received {
    /// `None`: one of the gateway's own.
    pub(super) mark: Option<usize>,
    pub(super) call: CallId,
    pub(super) method: String,
    pub(super) uri: Option<String>,
    pub(super) state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Running,
    Cancelled(Instant),
    Over,
}

/// A request of the server.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) id: RequestId,
    pub(super) text: String,
    pub(super) is_ping: bool,
    /// What its client has to be able to, if anything.
    pub(super) needs: Option<&'static str>,
    pub(super) token: Option<String>,
    pub(super) progress: Option<u8>,
    pub(super) member: Option<u64>,
    pub(super) open: bool,
    /// It was answered in the client's stead, and the client has to be told.
    pub(super) untold: bool,
    /// Marks of the requests that wait for its answer.
    pub(super) holds: Vec<usize>,
}

#[derive(Debug, Default)]
pub(super) struct Client {
    pub(super) ready: bool,
    /// What it has declared that it can answer, of the words of a question's `needs`.
    pub(super) able: &'static [&'static str],
    /// Resources it is subscribed to, as it was told.
    pub(super) wants: BTreeSet<String>,
    /// Cancellations that matched nothing.
    pub(super) early: Vec<(RequestId, Instant)>,
    /// The last of the upstream's messages that it got.
    pub(super) seen: u64,
}

/// Both sides, and the machine between them.
#[derive(Debug)]
pub(super) struct World {
    pub(super) machine: Reframing,
    pub(super) shared: bool,
    pub(super) now: Instant,
    pub(super) over: bool,
    pub(super) clients: BTreeMap<u64, Client>,
    pub(super) next_member: u64,
    pub(super) asked: Vec<Asked>,
    pub(super) received: BTreeMap<u64, Received>,
    pub(super) questions: Vec<Question>,
    /// Numbers the upstream's messages.
    pub(super) said: u64,
    /// How many deliveries the last input made.
    pub(super) deliveries: usize,
    pub(super) notified: bool,
    /// What the upstream holds subscriptions to.
    pub(super) held: BTreeSet<String>,
    /// Resources of which nobody can say what the upstream holds: something about them got lost.
    pub(super) murky: BTreeSet<String>,
    /// The request that the client or the transport gives up in this step.
    pub(super) given_up: Option<usize>,
    /// The clients of this step's questions are gone, or cannot be reached.
    pub(super) out_of_reach: bool,
    /// The client that speaks in this step.
    pub(super) speaker: Option<u64>,
}

impl World {
    pub(super) fn new(shared: bool) -> Self {
        let limits = Limits {
            in_flight: IN_FLIGHT,
            server_requests: SERVER_REQUESTS,
            members: MEMBERS,
            subscriptions: SUBSCRIPTIONS,
            ..Limits::default()
        };
        let sharing = if shared {
            Sharing::Shared
        } else {
            Sharing::PerClient
        };
        let machine = Reframing::new(Config {
            upstream: "u".to_owned(),
            sharing,
            channel: Channel::Pipe,
            ids_after: 0,
            limits,
        });
        let mut world = Self {
            machine,
            shared,
            now: Instant::now(),
            over: false,
            clients: BTreeMap::new(),
            next_member: 0,
            asked: Vec::new(),
            received: BTreeMap::new(),
            questions: Vec::new(),
            said: 0,
            deliveries: 0,
            notified: false,
            held: BTreeSet::new(),
            murky: BTreeSet::new(),
            given_up: None,
            out_of_reach: false,
            speaker: None,
        };
        world.attach();
        world
    }

    pub(super) fn attach(&mut self) {
        let taken = self.machine.attach(MemberId(self.next_member)).is_ok();
        let limit = if self.shared { MEMBERS } else { 1 };
        assert_eq!(taken, self.clients.len() < limit, "invariant 23: members");
        if taken {
            self.clients.insert(self.next_member, Client::default());
        }
        self.next_member += 1;
    }

    /// One of the attached clients.
    pub(super) fn member(&self, choice: u8) -> Option<u64> {
        let count = self.clients.len().max(1);
        self.clients
            .keys()
            .nth(usize::from(choice) % count)
            .copied()
    }

    /// The open request of a client with an id of this value.
    pub(super) fn open(&self, member: u64, id: &str) -> Option<usize> {
        let id = request_id(id);
        self.asked
            .iter()
            .position(|a| a.open && a.member == member && request_id(&a.id) == id)
    }

    /// Whether this client sent a cancellation before the request.
    pub(super) fn is_early(&self, member: u64, id: &str) -> bool {
        let (id, now) = (request_id(id), self.now);
        let early = self.clients.get(&member).map(|client| &client.early);
        early.is_some_and(|early| {
            let mut early = early.iter();
            early.any(|(early, at)| *early == id && *at + EARLY_CANCEL_AGE > now)
        })
    }

    /// Takes a cancellation that this client sent before the request.
    pub(super) fn take_early(&mut self, member: u64, id: &str) -> bool {
        let (id, now) = (request_id(id), self.now);
        let Some(client) = self.clients.get_mut(&member) else {
            return false;
        };
        client.early.retain(|(_, at)| *at + EARLY_CANCEL_AGE > now);
        let found = client.early.iter().position(|(early, _)| *early == id);
        found.is_some_and(|at| {
            client.early.remove(at);
            true
        })
    }

    pub(super) fn remember_early(&mut self, member: u64, id: &str) {
        let (id, now) = (request_id(id), self.now);
        if let Some(client) = self.clients.get_mut(&member) {
            client.early.retain(|(_, at)| *at + EARLY_CANCEL_AGE > now);
            if client.early.len() == MAX_EARLY_CANCELS {
                client.early.remove(0);
            }
            client.early.push((id, now));
        }
    }

    /// The only request that a message of the upstream can belong to.
    pub(super) fn only(&self) -> Option<usize> {
        let now = self.now;
        let mut live = self.received.values().filter(|r| match r.state {
            State::Running => true,
            State::Cancelled(at) => at + CANCELLED_AGE > now,
            State::Over => false,
        });
        match (live.next(), live.next()) {
            (Some(only), None) if only.state == State::Running && !self.shared => only.mark,
            _ => None,
        }
    }

    pub(super) fn question(&mut self, id: &RequestId) -> Option<&mut Question> {
        self.questions.iter_mut().find(|q| q.open && q.id == *id)
    }

    pub(super) fn within_bounds(&self) {
        let own = self.received.values();
        let own = own.filter(|r| r.mark.is_none() && r.state == State::Running);
        let in_flight = self.machine.in_flight();
        assert!(in_flight <= IN_FLIGHT + own.count(), "invariant 23");
        let open = self.questions.iter().filter(|q| q.open).count();
        assert_eq!(self.machine.server_requests(), open, "invariant 24");
        assert!(open <= SERVER_REQUESTS, "invariant 23");
        assert_eq!(self.machine.members(), self.clients.len(), "invariant 24");
        let absolute = self.machine.config().limits.absolute_cap;
        for asked in self.asked.iter().filter(|asked| asked.open) {
            let ends = asked.started + absolute;
            assert!(self.now <= ends, "invariant 22: {asked:?}");
        }
    }

    /// Lets time pass; timers fire when they are due.
    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.machine.poll_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
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
