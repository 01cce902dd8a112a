//! All nodes are restarted in turn while clients call (F16, C22).

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::cluster::Cluster;
use crate::load::client::{Client, Identity};
use crate::message::Call;
use crate::run::measure::{Metrics, named};
use crate::run::target::{Target, Tools};

/// What the clients share.
struct Shared {
    /// Where the nodes are now.
    places: Mutex<Vec<SocketAddr>>,
    stops: AtomicBool,
    answered: AtomicU64,
    /// Calls that may have been taken and got no result.
    lost: AtomicU64,
    /// Calls that were certainly not taken: nobody listened, or 503 said so. They are made again elsewhere.
    again: AtomicU64,
}

/// Three nodes, this many sessions over them, and clients that call in all of these at one node after the other, as
/// behind a balancer that takes turns. In the end, every session must be answered once more.
pub(super) async fn rolling(tools: &Tools, target: Target, sessions: usize) -> Result<Metrics> {
    let mut cluster = Cluster::start(tools, target, NODES).await?;
    let shared = Arc::new(Shared {
        places: Mutex::new(cluster.nodes.iter().map(|node| node.address).collect()),
        stops: AtomicBool::new(false),
        answered: AtomicU64::new(0),
        lost: AtomicU64::new(0),
        again: AtomicU64::new(0),
    });
    let crowds = opened(&cluster, sessions).await?;
    let before = cluster.counts().await?;
    let start = Instant::now();
    let mut clients = JoinSet::new();
    for (number, crowd) in crowds.into_iter().enumerate() {
        clients.spawn(call_on(crowd, number, Arc::clone(&shared)));
    }
    let mut longest = Duration::ZERO;
    for node in 0..NODES {
        shared.has_more().await?;
        longest = longest.max(restart(&mut cluster, node, &shared).await?);
    }
    shared.has_more().await?;
    shared.stops.store(true, Relaxed);
    while let Some(done) = clients.join_next().await {
        done??;
    }
    let seconds = start.elapsed().as_secs_f64();
    cluster.alive()?;
    let after = cluster.counts().await?;
    let (answered, lost) = (shared.answered.load(Relaxed), shared.lost.load(Relaxed));
    let ran = after.calls - before.calls;
    ensure!(
        ran >= answered,
        "{answered} calls were answered, {ran} ran at the upstream"
    );
    Ok(named([
        ("lost", lost as f64),
        ("doubled", (after.duplicates - before.duplicates) as f64),
        ("again", shared.again.load(Relaxed) as f64),
        ("calls", answered as f64),
        ("per_second", answered as f64 / seconds),
        ("restart_s", longest.as_secs_f64()),
    ]))
}

/// Sessions, opened at all nodes in turn.
async fn opened(cluster: &Cluster<'_>, sessions: usize) -> Result<Vec<Vec<Identity>>> {
    let mut opening = JoinSet::new();
    for number in 0..CLIENTS {
        let address = cluster.address(number % NODES);
        opening.spawn(async move {
            let mut crowd = Vec::new();
            for _ in 0..sessions / CLIENTS {
                crowd.push(Client::open(address, false).await?.leave());
            }
            Ok::<_, anyhow::Error>(crowd)
        });
    }
    let mut crowds = Vec::new();
    while let Some(crowd) = opening.join_next().await {
        crowds.push(crowd??);
    }
    Ok(crowds)
}

/// Ends a node as its supervisor would, and puts another in its place. How long that one took to end.
async fn restart(cluster: &mut Cluster<'_>, node: usize, shared: &Shared) -> Result<Duration> {
    let start = Instant::now();
    cluster.nodes[node].ask_to_end()?;
    while !cluster.nodes[node].has_ended()? {
        ensure!(start.elapsed() < PATIENCE, "a node does not end");
        sleep(Duration::from_millis(5)).await;
    }
    let took = start.elapsed();
    cluster.nodes[node] = cluster.node().await?;
    let mut places = shared.places.lock().unwrap_or_else(PoisonError::into_inner);
    places[node] = cluster.address(node);
    Ok(took)
}

impl Shared {
    /// Waits until [`BETWEEN`] more calls are answered.
    async fn has_more(&self) -> Result<()> {
        let enough = self.answered.load(Relaxed) + BETWEEN;
        let end = Instant::now() + PATIENCE;
        while self.answered.load(Relaxed) < enough {
            ensure!(Instant::now() < end, "calls are not answered any more");
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    fn place(&self, turn: usize) -> SocketAddr {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places[turn % places.len()]
    }

    /// Makes one call, at the node whose turn it is or at the next that takes it.
    async fn call(&self, mut identity: Identity, turn: &mut usize) -> Result<Identity> {
        for _ in 0..MAX_ATTEMPTS {
            *turn += 1;
            let place = self.place(*turn);
            if let Ok(socket) = TcpStream::connect(place).await {
                let mut client = Client::over(socket, place, identity)?;
                let answer = client.ask(&Call::SMALL).await;
                identity = client.leave();
                match answer {
                    Ok(200) => {
                        self.answered.fetch_add(1, Relaxed);
                        return Ok(identity);
                    }
                    Ok(503) => {}
                    other => {
                        if self.lost.fetch_add(1, Relaxed) == 0 {
                            let why = other.map_or_else(|e| e.to_string(), |s| s.to_string());
                            eprintln!("the first call that was lost: {why}");
                        }
                        return Ok(identity);
                    }
                }
            }
            self.again.fetch_add(1, Relaxed);
            if turn.is_multiple_of(NODES) {
                sleep(Duration::from_millis(10)).await;
            }
        }
        bail!("nobody takes a call")
    }
}

/// Calls in one session after the other until it is enough, and then once in each.
async fn call_on(crowd: Vec<Identity>, number: usize, shared: Arc<Shared>) -> Result<()> {
    let (mut crowd, mut turn) = (VecDeque::from(crowd), number);
    let mut left = crowd.len();
    while left > 0 {
        if shared.stops.load(Relaxed) {
            left -= 1;
        }
        let Some(identity) = crowd.pop_front() else {
            break;
        };
        crowd.push_back(shared.call(identity, &mut turn).await?);
    }
    Ok(())
}

const NODES: usize = 3;
const CLIENTS: usize = 25;
/// Calls that are answered between two restarts.
const BETWEEN: u64 = 3_000;
const MAX_ATTEMPTS: usize = 500;
const PATIENCE: Duration = Duration::from_secs(60);
