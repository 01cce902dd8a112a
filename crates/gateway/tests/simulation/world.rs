//! A whole world: nodes, peers, weather, and the peace after it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use thinpipe_testkit::network::{Manners, Network, Rng};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::caller::Caller;
use crate::client::{Client, Member};
use crate::ledger::{Figures, Ledger};
use crate::listener::Listener;
use crate::node::{self, Node};
use crate::server::Server;
use crate::stateless::StatelessServer;
use crate::store::{Store, Way};

/// Path of the server whose sessions pass.
const PASSED: &str = "/mcp";

/// Path of the server whose sessions a gateway holds.
pub(crate) const HELD: &str = "/logged";

/// Path of the server whose sessions clients of one principal share.
pub(crate) const POOLED: &str = "/pooled";

/// Path of the server whose one session all clients share.
pub(crate) const SHARED: &str = "/shared";

/// Path of the server with two replicas.
const GROUPED: &str = "/grouped";

/// The servers with sessions: the first is also a replica beside the second.
pub(crate) const SERVERS: [&str; 2] = ["server", "replica"];

/// Path of the server of 2026-07-28.
const STATELESS: &str = "/stateless";

/// Path of the streams of HTTP+SSE.
const SSE: &str = "/sse";

/// How long clients work and things go wrong.
const STORM: Duration = Duration::from_secs(30);

/// Between two things that go wrong, at most.
const GUST: Duration = Duration::from_millis(1500);

/// The same, when connections break all the time.
const HAIL: Duration = Duration::from_millis(100);

/// Invariant 4: until every client can work again.
const RECOVERY: Duration = Duration::from_secs(5);

/// Until everything that was begun has come to its end: longer than any time-out.
const REST: Duration = Duration::from_secs(120);

/// Until a node lets go of what it does for another one of which it does not hear that nobody waits any more.
const UNHEARD: Duration = Duration::from_secs(90);

/// What there is in a world, and what may happen to it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) gateways: usize,
    pub(crate) clients: usize,
    pub(crate) callers: usize,
    /// They use the server with sessions.
    pub(crate) downgrades: bool,
    /// Clients of HTTP+SSE.
    pub(crate) listeners: usize,
    /// Every other client uses a server whose sessions a gateway holds.
    pub(crate) holds: bool,
    /// All clients use a server whose sessions those of one principal share.
    pub(crate) pools: bool,
    /// All clients use a server of which they share one session.
    pub(crate) shares: bool,
    /// All clients use a server of two replicas.
    pub(crate) groups: bool,
    /// Connections break.
    pub(crate) breaks: bool,
    /// Those of clients break all the time.
    pub(crate) hails: bool,
    /// Gateways are killed.
    pub(crate) kills: bool,
    /// Gateways are asked to stop.
    pub(crate) restarts: bool,
    /// The server with sessions is killed, and they are gone with it.
    pub(crate) loses: bool,
    /// The store fails and is out of reach.
    pub(crate) outages: bool,
}

pub(crate) struct World {
    setting: Setting,
    rng: Rng,
    network: Network,
    ledger: Ledger,
    store: Store,
    nodes: Vec<Option<Node>>,
    servers: [Arc<Server>; 2],
    stateless: Arc<StatelessServer>,
    clients: Vec<Arc<Client>>,
    callers: Vec<Arc<Caller>>,
    listeners: Vec<Arc<Listener>>,
    /// The servers keep their sessions.
    sessions_last: Arc<AtomicBool>,
    held_last: Arc<AtomicBool>,
    /// Nodes that were asked to stop, until they have.
    stopping: JoinSet<()>,
    /// What is left of nodes that were killed.
    ghosts: JoinSet<()>,
}

/// What came of a world.
pub(crate) struct Report {
    pub(crate) violations: Vec<String>,
    pub(crate) figures: Figures,
    pub(crate) trace: Vec<String>,
}

impl World {
    pub(crate) fn new(setting: Setting, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let network = Network::new(rng.next_u64());
        let ledger = Ledger::new(&network);
        let store = Store::new();
        let names: Vec<_> = (0..setting.gateways).map(gateway).collect();
        let nodes = names.iter().map(|name| {
            let node = Node::start(&network, name, &store, rng.fork());
            Some(node)
        });
        let nodes = nodes.collect();
        let names: Arc<[String]> = names.into();
        let servers = SERVERS.map(|name| Server::start(&network, name, &ledger, rng.fork()));
        let stateless = StatelessServer::start(&network, "stateless", &ledger);
        let sessions_last = Arc::new(AtomicBool::new(true));
        // What is held goes with who holds it.
        let held_last = Arc::new(AtomicBool::new(!setting.kills && !setting.outages));
        let mut member = |name: &str, path: &'static str, made: &mut dyn FnMut(Member<'_>)| {
            let token = if name.contains("alice") {
                "alice"
            } else {
                "bob"
            };
            made(Member {
                name,
                token,
                host: network.start(name),
                gateways: Arc::clone(&names),
                rng: rng.fork(),
                path,
                sessions_last: match path {
                    HELD | POOLED | SHARED => Arc::clone(&held_last),
                    // A replica that cannot be reached is gone, and its sessions with it.
                    GROUPED if setting.breaks => Arc::default(),
                    _ => Arc::clone(&sessions_last),
                },
            });
        };
        let (mut clients, mut callers, mut listeners) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..setting.clients {
            let name = format!("<{}{number}>", ["alice", "bob"][number % 2]);
            let path = match number % 4 {
                _ if setting.pools => POOLED,
                _ if setting.shares => SHARED,
                _ if setting.groups => GROUPED,
                2.. if setting.holds => HELD,
                _ => PASSED,
            };
            member(&name, path, &mut |it| {
                clients.push(Client::new(it, &ledger))
            });
        }
        for number in 0..setting.callers {
            let name = format!("<caller of {}{number}>", ["alice", "bob"][number % 2]);
            let path = match setting.downgrades {
                true => PASSED,
                false => STATELESS,
            };
            member(&name, path, &mut |it| {
                callers.push(Caller::new(it, &ledger))
            });
        }
        for number in 0..setting.listeners {
            let name = format!("<listener of {}{number}>", ["alice", "bob"][number % 2]);
            member(&name, SSE, &mut |it| {
                listeners.push(Listener::new(it, &ledger))
            });
        }
        Self {
            setting,
            rng,
            network,
            ledger,
            store,
            nodes,
            servers,
            stateless,
            clients,
            callers,
            listeners,
            sessions_last,
            held_last,
            stopping: JoinSet::new(),
            ghosts: JoinSet::new(),
        }
    }

    pub(crate) fn network(&self) -> &Network {
        &self.network
    }

    /// Lets it run from its beginning to its end.
    pub(crate) async fn run(mut self) -> Report {
        let until = Instant::now() + STORM;
        let mut peers = JoinSet::new();
        for client in &self.clients {
            peers.spawn(Arc::clone(client).run(until));
        }
        for caller in &self.callers {
            peers.spawn(Arc::clone(caller).run(until));
        }
        for listener in &self.listeners {
            peers.spawn(Arc::clone(listener).run(until));
        }
        self.storm(until).await;
        self.clear_up().await;
        self.recover().await;
        let ended = timeout(REST, async { while peers.join_next().await.is_some() {} }).await;
        if ended.is_err() {
            self.ledger
                .violation("some clients never come to their end");
        }
        peers.shutdown().await;
        self.rest().await;
        self.end().await;
        Report {
            violations: self.ledger.violations(),
            figures: self.ledger.figures(),
            trace: self.network.trace(),
        }
    }

    async fn storm(&mut self, until: Instant) {
        while Instant::now() < until {
            let is_hail = self.setting.hails && self.rng.per_mille(950);
            let pause = match self.setting.hails {
                true => HAIL,
                false => GUST,
            };
            sleep(self.rng.up_to(pause)).await;
            match is_hail {
                true => self.network.cut_one(|to| to.starts_with("gateway")),
                false => self.strike(),
            }
        }
    }

    /// Something goes wrong, or is mended.
    fn strike(&mut self) {
        let setting = self.setting;
        match self.rng.below(100) {
            0..30 if setting.breaks => self.network.strike_one(),
            30..45 if setting.breaks => {
                let manners = Manners {
                    delay: self.rng.up_to(Duration::from_millis(150)),
                    doomed: self.rng.below(300),
                    doomed_within: 1 + self.rng.below(8_000),
                    refused: self.rng.below(100),
                };
                self.network.behave(manners);
            }
            45..55 if setting.breaks => {
                let node = gateway(self.rng.index(self.nodes.len()));
                let other = [SERVERS[0], SERVERS[1], "stateless", &*self.clients[0].name];
                let other = other[self.rng.index(other.len())];
                self.network.partition(&node, other);
            }
            55..70 => self.network.heal(),
            70..78 if setting.kills => self.kill(),
            78..86 => self.start_all(),
            94..97 if setting.restarts => self.restart(),
            86..92 if setting.outages => self.fail_store(),
            92..94 if setting.loses => {
                self.sessions_last.store(false, Ordering::SeqCst);
                self.held_last.store(false, Ordering::SeqCst);
                let at = match setting.groups {
                    true => self.rng.index(SERVERS.len()),
                    false => 0,
                };
                self.servers[at].kill();
                let rng = self.rng.fork();
                self.servers[at] = Server::start(&self.network, SERVERS[at], &self.ledger, rng);
            }
            _ => {}
        }
    }

    fn kill(&mut self) {
        let at = self.rng.index(self.nodes.len());
        if let Some(node) = self.nodes[at].take() {
            self.ghosts.spawn(node.kill());
        }
    }

    /// As an operator does: it may take as long as its calls, and some node goes on meanwhile.
    fn restart(&mut self) {
        let at = self.rng.index(self.nodes.len());
        if self.nodes.iter().flatten().count() < 2 {
            return;
        }
        if let Some(node) = self.nodes[at].take() {
            self.ledger.note(format!("{} is asked to stop", node.name));
            self.stopping.spawn(node.stop());
        }
    }

    fn start_all(&mut self) {
        for at in 0..self.nodes.len() {
            // One that was asked to stop may not have done so yet.
            if self.nodes[at].is_none() && !self.network.is_up(&gateway(at)) {
                let rng = self.rng.fork();
                let node = Node::start(&self.network, &gateway(at), &self.store, rng);
                self.nodes[at] = Some(node);
            }
        }
    }

    fn fail_store(&mut self) {
        let at = self.rng.index(self.nodes.len());
        let failing = self.rng.below(300);
        let way = match self.rng.per_mille(500) {
            true => Way::Cut,
            false => Way::Open,
        };
        if let Some(node) = &self.nodes[at] {
            self.ledger
                .note(format!("{}: store {way:?}, {failing} fail", node.name));
            node.gate().set(way);
            node.gate().fail(failing);
        }
    }

    /// Nothing goes wrong any more.
    async fn clear_up(&mut self) {
        self.network.behave(Manners::default());
        self.network.heal();
        self.start_all();
        for node in self.nodes.iter().flatten() {
            node.gate().set(Way::Open);
            node.gate().fail(0);
        }
        // A node that was asked to stop waits for the calls of the sessions that it holds, and what is new in these
        // waits for the node. How long calls take says nothing of recovery, which begins with the last node.
        let stopped = timeout(REST, async {
            while self.stopping.join_next().await.is_some() {}
        });
        if stopped.await.is_err() {
            self.ledger.violation("a node does not stop");
        }
        self.start_all();
        self.ledger.note("clears up");
    }

    /// Invariant 4.
    async fn recover(&self) {
        let mut recovering = JoinSet::new();
        for client in &self.clients {
            let client = Arc::clone(client);
            recovering.spawn(async move {
                while !client.works().await {
                    sleep(Duration::from_millis(100)).await;
                }
            });
        }
        for caller in &self.callers {
            let caller = Arc::clone(caller);
            recovering.spawn(async move {
                while !caller.works().await {
                    sleep(Duration::from_millis(100)).await;
                }
            });
        }
        for listener in &self.listeners {
            let listener = Arc::clone(listener);
            recovering.spawn(async move {
                while !listener.works().await {
                    sleep(Duration::from_millis(100)).await;
                }
            });
        }
        let recovered = timeout(RECOVERY, async {
            while recovering.join_next().await.is_some() {}
        });
        if recovered.await.is_err() {
            let left = recovering.len();
            self.ledger
                .violation(format!("{left} clients cannot work after {RECOVERY:?}"));
        }
        recovering.shutdown().await;
    }

    /// Invariant 5: what nobody uses is not there any more.
    async fn rest(&self) {
        for client in &self.clients {
            client.leave().await;
        }
        self.ledger.note("rests");
        sleep(UNHEARD + node::IDLE + 4 * node::SWEEP).await;
        for node in self.nodes.iter().flatten() {
            node::judge(node, &self.ledger);
        }
        if let Some(left) = self.store.residue().await {
            self.ledger
                .violation(format!("the store still holds {left}"));
        }
        let running = self.stateless.running();
        if running > 0 {
            self.ledger
                .violation(format!("{running} calls run for nobody"));
        }
        let orphans: usize = self.servers.iter().map(|server| server.sessions()).sum();
        // A session that no gateway knows any more ends with its record, and nobody is there to tell its server.
        let is_calm = !(self.setting.kills || self.setting.outages || self.setting.breaks);
        if orphans > 0 && is_calm && !self.setting.restarts {
            self.ledger
                .violation(format!("{orphans} sessions of the server are left"));
        }
    }

    /// Everything is ended, and nothing goes on.
    async fn end(&mut self) {
        for node in std::mem::take(&mut self.nodes).into_iter().flatten() {
            let name = node.name.clone();
            if timeout(REST, node.stop()).await.is_err() {
                self.ledger.violation(format!("{name} does not stop"));
            }
        }
        if timeout(REST, async {
            while self.ghosts.join_next().await.is_some() {}
        })
        .await
        .is_err()
        {
            self.ledger.violation("a dead node goes on");
        }
        self.ghosts.shutdown().await;
        self.stopping.shutdown().await;
        let nodes = self.store.nodes().await;
        if nodes > 0 {
            self.ledger
                .violation(format!("{nodes} nodes count as alive"));
        }
        self.servers.iter().for_each(|server| server.kill());
        self.stateless.kill();
        // With their connections.
        self.clients.clear();
        self.callers.clear();
        self.listeners.clear();
        sleep(Duration::from_secs(1)).await;
        let open = self.network.connections();
        if !open.is_empty() {
            self.ledger
                .violation(format!("connections are left: {open:?}"));
        }
        let tasks = Handle::current().metrics().num_alive_tasks();
        if tasks > 0 {
            self.ledger.violation(format!("{tasks} tasks are left"));
        }
    }
}

fn gateway(number: usize) -> String {
    format!("gateway {number}")
}
