//! What clients see whatever happens: random orders of messages, reads, drops, resumes, moves to other nodes and
//! failures of the log. A failing seed replays.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use thinpipe_proto::session::StreamId;
use thinpipe_store::LogLimits;

use super::flaky::{Client, FlakyLog, Mood, Node, notice};
use crate::server::conversation::{ListenError, Outlet, Said};

/// Runs of the property; each has a seed, and a log that fails in every other one.
const SEEDS: u64 = 1_500;

/// Steps of a run.
const STEPS: usize = 60;

/// Splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// A client of one stream, and what it has been through.
struct Reader {
    client: Option<Client>,
    seen: Vec<String>,
    cursor: String,
    /// How many it had seen when it was refused and began anew.
    refused_at: Vec<usize>,
    /// It will get no more.
    is_over: bool,
}

impl Reader {
    fn new(client: Client) -> Self {
        Self {
            client: Some(client),
            seen: Vec::new(),
            cursor: String::new(),
            refused_at: Vec::new(),
            is_over: false,
        }
    }

    fn looks(&mut self) {
        let Some(client) = &mut self.client else {
            return;
        };
        client.looks();
        self.seen.append(&mut client.seen);
        if !client.cursor.is_empty() {
            self.cursor.clone_from(&client.cursor);
        }
        if !client.is_reading() {
            self.client = None;
        }
    }
}

/// A request that is being answered, and its client.
struct Call {
    /// Which node answers it.
    node: u8,
    outlet: Option<Outlet>,
    said: Vec<String>,
    reader: Reader,
}

struct Run {
    random: Random,
    shared: Arc<FlakyLog>,
    /// The way of the node that has the session, and those that have lost it.
    link: Arc<FlakyLog>,
    node: Node,
    started: u8,
    lost: Vec<(Node, u8, Arc<FlakyLog>)>,
    standalone: Reader,
    calls: Vec<Call>,
    number: i64,
    /// The log may fail.
    fails: bool,
}

impl Run {
    async fn begin(seed: u64) -> Self {
        let shared = FlakyLog::new(LogLimits::default());
        let link = shared.link();
        let node = Node::start(1, &link);
        let standalone = Reader::new(node.listen().await);
        Self {
            random: Random(seed),
            link,
            node,
            shared,
            started: 1,
            lost: Vec::new(),
            standalone,
            calls: Vec::new(),
            number: 0,
            fails: seed % 2 == 1,
        }
    }

    async fn step(&mut self) {
        match self.random.below(20) {
            0..4 => self.says(),
            4 if self.calls.len() < 4 => {
                self.number += 1;
                let (outlet, client) = self.node.call(self.number).await;
                self.calls.push(Call {
                    node: self.started,
                    outlet: Some(outlet),
                    said: Vec::new(),
                    reader: Reader::new(client),
                });
            }
            4..8 => self.calls_say(),
            8 => self.responds().await,
            9..12 => self.look(),
            12..14 => self.leave(),
            14..16 => self.resume().await,
            16 => self.moves().await,
            17 if self.fails => {
                let moods = [Mood::Well, Mood::Away, Mood::Mute, Mood::Stuck];
                let mood = moods[self.random.below(4) as usize];
                self.link.set(mood);
            }
            18 if self.fails => self.is_back().await,
            19 => tokio::time::sleep(Duration::from_millis(700)).await,
            _ => calm().await,
        }
    }

    fn says(&mut self) {
        self.number += 1;
        let message = notice(&self.number.to_string());
        // Without a client nothing is kept of it, which is another matter.
        let said = self.node.conversation.try_say(&message, None).unwrap();
        assert_ne!(said, Said::Held);
    }

    fn calls_say(&mut self) {
        let Some(call) = self.pick() else { return };
        let text = (call.said.len() + 1).to_string();
        let Some(outlet) = &call.outlet else { return };
        let mut saying = std::pin::pin!(outlet.notify(text.clone().into()));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        if saying.as_mut().poll(&mut cx).is_ready() && !outlet.is_closed() {
            call.said.push(text);
        }
    }

    async fn responds(&mut self) {
        let Some(call) = self.pick() else { return };
        if let Some(outlet) = call.outlet.take()
            && outlet.respond("done".into()).await.is_ok()
        {
            call.said.push("done".into());
        }
    }

    fn pick(&mut self) -> Option<&mut Call> {
        let count = self.calls.len() as u64;
        let at = (count > 0).then(|| self.random.below(count))?;
        self.calls.get_mut(at as usize)
    }

    fn look(&mut self) {
        self.standalone.looks();
        for call in &mut self.calls {
            call.reader.looks();
        }
    }

    /// A connection breaks; what was on its way is lost with it.
    fn leave(&mut self) {
        let any = self.random.below(self.calls.len() as u64 + 1) as usize;
        let reader = match self.calls.get_mut(any) {
            Some(call) => &mut call.reader,
            None => &mut self.standalone,
        };
        reader.client = None;
    }

    async fn resume(&mut self) {
        for call in &mut self.calls {
            let reader = &mut call.reader;
            if reader.client.is_some() || reader.is_over {
                continue;
            }
            if reader.cursor.is_empty() {
                // It has never got an id.
                reader.is_over = true;
                continue;
            }
            match self.node.resume(&reader.cursor).await {
                Ok(answer) if answer.status == 204 => reader.is_over = true,
                Ok(answer) => reader.client = Some(Client::reading(answer)),
                Err(ListenError::Unavailable) => assert!(self.fails),
                Err(error) => {
                    assert!(self.fails, "{error}: {}", reader.cursor);
                    reader.refused_at.push(reader.seen.len());
                    reader.is_over = true;
                }
            }
        }
        let reader = &mut self.standalone;
        if reader.client.is_some() {
            return;
        }
        let resumed = match reader.cursor.is_empty() {
            true => None,
            false => Some(self.node.resume(&reader.cursor).await),
        };
        match resumed {
            Some(Ok(answer)) => reader.client = Some(Client::reading(answer)),
            Some(Err(ListenError::Unavailable)) => assert!(self.fails),
            Some(Err(ListenError::Contended)) => {}
            refused => {
                assert!(self.fails || refused.is_none(), "{}", reader.cursor);
                reader.refused_at.push(reader.seen.len());
                if let Ok(answer) = self.node.conversation.listen(None).await {
                    reader.client = Some(Client::reading(answer));
                }
            }
        }
    }

    /// The session goes to another node: the one before is killed, or cut off from the log and goes on with
    /// the clients that it has, until it hears that the session is another's.
    async fn moves(&mut self) {
        let number = self.started;
        self.started += 1;
        let link = self.shared.link();
        let node = Node::start(self.started, &link);
        let node = std::mem::replace(&mut self.node, node);
        let before = std::mem::replace(&mut self.link, link);
        // What it has not stored by now it never will, and so long it takes until others know.
        before.set(Mood::Away);
        tokio::time::sleep(Duration::from_secs(3)).await;
        self.node.conversation.take_over().await;
        if !self.fails || self.random.below(2) == 0 {
            self.standalone.client = None;
            for call in self.calls.iter_mut().filter(|call| call.node == number) {
                call.reader.client = None;
                call.outlet = None;
            }
        } else {
            self.lost.push((node, number, before));
        }
    }

    async fn is_back(&mut self) {
        let count = self.lost.len() as u64;
        if count == 0 {
            return;
        }
        let at = self.random.below(count) as usize;
        let (node, number, link) = &self.lost[at];
        link.set(Mood::Well);
        if self.random.below(2) == 0 {
            node.conversation.hand_over();
            for call in self.calls.iter_mut().filter(|call| call.node == *number) {
                call.outlet = None;
            }
        }
    }

    /// All is well again, and everybody reads what there is.
    async fn ends(&mut self) {
        self.lost.clear();
        self.link.set(Mood::Well);
        // As long as a standalone stream that was taken over too often is refused.
        tokio::time::sleep(Duration::from_secs(11)).await;
        for _ in 0..4 {
            self.look();
            self.standalone.client = None;
            for call in &mut self.calls {
                call.reader.client = None;
            }
            self.resume().await;
            tokio::time::sleep(Duration::from_secs(11)).await;
        }
        self.look();
    }

    async fn check(&self) {
        let stored = self.shared.whole(StreamId(0)).await;
        let stored = stored.iter().map(|entry| number(&entry.message));
        check_standalone(&self.standalone, &stored.flatten().collect());
        for call in &self.calls {
            check_call(call, self.fails);
        }
    }
}

/// Lets the workers get somewhere, perhaps not to their end.
async fn calm() {
    for _ in 0..30 {
        tokio::task::yield_now().await;
    }
}

fn number(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let (_, tail) = text.split_once("\"n\":")?;
    tail.trim_end_matches('}').parse().ok()
}

/// Everything comes once and in order. Only what was lost with its node is missing, or what came between two
/// streams, of which the client was told.
fn check_standalone(reader: &Reader, stored: &HashSet<i64>) {
    let seen: Vec<i64> = reader
        .seen
        .iter()
        .filter_map(|text| number(text.as_bytes()))
        .collect();
    for (at, pair) in seen.windows(2).enumerate() {
        assert!(pair[0] < pair[1], "twice, or out of order: {seen:?}");
        let was_refused = reader.refused_at.contains(&(at + 1));
        let missing = (pair[0] + 1..pair[1]).find(|n| stored.contains(n));
        assert!(
            was_refused || missing.is_none(),
            "{missing:?} of {seen:?} {:?}",
            reader.refused_at
        );
    }
}

/// Everything comes once and in order, and at the end an answer, unless the client was refused.
fn check_call(call: &Call, fails: bool) {
    let seen = &call.reader.seen;
    let (last, before) = match seen.split_last() {
        Some((last, before)) if last.contains("outcome_unknown") => (Some(last), before),
        _ => (None, &seen[..]),
    };
    assert_eq!(
        before,
        &call.said[..before.len()],
        "{seen:?} of {:?}",
        call.said
    );
    let is_answered = last.is_some() || seen.last().is_some_and(|text| text == "done");
    let is_running = call
        .outlet
        .as_ref()
        .is_some_and(|outlet| !outlet.is_closed());
    let was_refused = !call.reader.refused_at.is_empty() || call.reader.cursor.is_empty();
    assert!(
        is_answered || is_running || (was_refused && fails) || call.reader.cursor.is_empty(),
        "{seen:?} of {:?} at {}",
        call.said,
        call.reader.cursor
    );
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap()
}

/// Invariant 21 of the protocol notes: whatever happens, replay leaves no gap and repeats nothing, each message is
/// on one stream, in order, and each request is answered.
#[test]
fn r101_no_event_is_lost_and_none_comes_twice() {
    let one = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seeds = one.map_or(0..SEEDS, |seed| seed..seed + 1);
    for seed in seeds {
        let case = std::panic::AssertUnwindSafe(|| runtime().block_on(run(seed)));
        if let Err(panic) = std::panic::catch_unwind(case) {
            eprintln!("SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

async fn run(seed: u64) {
    let mut run = Run::begin(seed).await;
    for _ in 0..STEPS {
        run.step().await;
    }
    run.ends().await;
    run.check().await;
}

/// F23, and the first invariant: 10,000 resumes with random drops, on one node after another. What is kept
/// stays within its bounds.
#[test]
fn f23_ten_thousand_resumes() {
    runtime().block_on(async {
        let mut random = Random(7);
        let log = FlakyLog::new(LogLimits::default());
        let mut node = Node::start(1, &log);
        let mut client = node.listen().await;
        let mut said = 0;
        for resumes in 0..10_000 {
            for _ in 0..random.below(4) {
                said += 1;
                let told = node.conversation.try_say(&notice(&said.to_string()), None);
                assert_eq!(told, Ok(Said::Delivered));
            }
            let wanted =
                client.seen.len() as u64 + random.below(said - client.seen.len() as u64 + 1);
            client.reads(wanted as usize).await;
            if random.below(100) == 0 {
                // What was said and is not stored would be lost with it.
                client.reads(said as usize).await;
                node = Node::start((resumes / 100 % 200) as u8 + 2, &log);
            }
            let cursor = client.cursor.clone();
            if cursor.is_empty() {
                client.goes_on(node.conversation.listen(None).await.unwrap());
            } else {
                client.goes_on(node.resume(&cursor).await.unwrap());
            }
            let kept: usize = node.conversation.buffers().iter().map(|b| b.bytes()).sum();
            assert!(kept <= 1 << 20, "{kept}");
        }
        client.reads(said as usize).await;
        let numbers: Vec<_> = client
            .seen
            .iter()
            .filter_map(|text| number(text.as_bytes()))
            .collect();
        assert_eq!(numbers, (1..=said as i64).collect::<Vec<_>>());
    });
}
