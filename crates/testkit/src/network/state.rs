//! What there is: nodes, connections, cuts; and what has happened.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use super::pipe::Pipe;
use super::rng::Rng;
use super::{Manners, Socket};

/// Lines of the trace that are kept.
const MAX_TRACE: usize = 20_000;

/// Connections that wait to be accepted. One more is refused.
const MAX_BACKLOG: usize = 128;

pub(super) struct State {
    pub(super) rng: Rng,
    pub(super) manners: Manners,
    pub(super) nodes: BTreeMap<Arc<str>, Node>,
    pub(super) links: BTreeMap<u64, Link>,
    next_link: u64,
    partitions: BTreeSet<(Arc<str>, Arc<str>)>,
    began: Instant,
    trace: VecDeque<String>,
}

/// A node that is up.
pub(super) struct Node {
    /// Which of its lives this is.
    pub(super) life: u64,
    pub(super) is_listening: bool,
    pub(super) backlog: VecDeque<(Socket, Arc<str>)>,
    pub(super) acceptor: Option<Waker>,
}

/// A connection. Gone from the table: reset, or closed by both ends.
pub(super) struct Link {
    /// Who opened it, and to whom.
    pub(super) ends: [Arc<str>; 2],
    /// By who writes.
    pub(super) pipes: [Pipe; 2],
    /// Whether the end is still held by somebody.
    pub(super) open: [bool; 2],
    /// What becomes of it after so many bytes more.
    pub(super) doom: Option<(u64, Fault)>,
}

/// What can become of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Both ends get an error at once; what is on its way is lost.
    Reset,
    /// Both directions end, behind what is on its way.
    End,
    /// What the side that opened it says does not arrive any more, without a word.
    StallThere,
    /// What the other side says does not arrive any more.
    StallBack,
}

impl Fault {
    const ALL: [Self; 4] = [Self::Reset, Self::End, Self::StallThere, Self::StallBack];

    pub(super) fn any(rng: &mut Rng) -> Self {
        Self::ALL[rng.index(Self::ALL.len())]
    }
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed),
            manners: Manners::default(),
            nodes: BTreeMap::new(),
            links: BTreeMap::new(),
            next_link: 0,
            partitions: BTreeSet::new(),
            began: Instant::now(),
            trace: VecDeque::new(),
        }
    }

    pub(super) fn note(&mut self, what: &str) {
        if self.trace.len() == MAX_TRACE {
            self.trace.pop_front();
        }
        let at = self.began.elapsed().as_millis();
        self.trace.push_back(format!("{at:>7} ms  {what}"));
    }

    pub(super) fn trace(&self) -> Vec<String> {
        self.trace.iter().cloned().collect()
    }

    pub(super) fn delay(&mut self) -> Duration {
        self.rng.up_to(self.manners.delay)
    }

    pub(super) fn lives(&self, name: &str, life: u64) -> bool {
        self.nodes.get(name).is_some_and(|node| node.life == life)
    }

    pub(super) fn is_parted(&self, a: &Arc<str>, b: &Arc<str>) -> bool {
        self.partitions.contains(&pair(a, b))
    }

    pub(super) fn part(&mut self, a: &Arc<str>, b: &Arc<str>) {
        self.partitions.insert(pair(a, b));
        for link in self.links.values_mut() {
            if link.is_between(a, b) {
                link.pipes
                    .iter_mut()
                    .for_each(|pipe| pipe.is_stalled = true);
            }
        }
    }

    /// A new connection with `to`, of which the first end is given; `None`: it is refused.
    pub(super) fn link(&mut self, from: &Arc<str>, to: &Arc<str>) -> Option<u64> {
        let node = self.nodes.get(to);
        node.filter(|node| node.is_listening && node.backlog.len() < MAX_BACKLOG)?;
        let manners = self.manners;
        let doomed = self.rng.per_mille(manners.doomed);
        let doom = doomed.then(|| {
            let bytes = self.rng.below(manners.doomed_within);
            (bytes, Fault::any(&mut self.rng))
        });
        let id = self.next_link;
        self.next_link += 1;
        let link = Link {
            ends: [Arc::clone(from), Arc::clone(to)],
            pipes: [Pipe::new(), Pipe::new()],
            open: [true, true],
            doom,
        };
        self.links.insert(id, link);
        Some(id)
    }

    /// Lets this become of a connection; gives those to wake.
    pub(super) fn strike(&mut self, id: u64, fault: Fault) -> Vec<Waker> {
        let Some(link) = self.links.get_mut(&id) else {
            return Vec::new();
        };
        let [from, to] = &link.ends;
        let told = format!("{from} > {to} #{id}: {fault:?}");
        let delay = self.manners.delay;
        match fault {
            Fault::Reset => {}
            Fault::End => {
                for pipe in &mut link.pipes {
                    pipe.close(delay, &mut self.rng);
                }
            }
            Fault::StallThere => link.pipes[0].is_stalled = true,
            Fault::StallBack => link.pipes[1].is_stalled = true,
        }
        let woken = link.pipes.iter_mut().flat_map(Pipe::waiting).collect();
        if fault == Fault::Reset {
            link.pipes.iter_mut().for_each(Pipe::clear);
            self.links.remove(&id);
        }
        self.note(&told);
        woken
    }

    /// Everything is whole again, and stays so: what was stalled goes on, or is reset as chance has it.
    pub(super) fn heal(&mut self) -> Vec<Waker> {
        self.partitions.clear();
        self.links.values_mut().for_each(|link| link.doom = None);
        self.note("heals");
        let stalled = self.links.iter().filter(|(_, link)| link.is_stalled());
        let stalled: Vec<u64> = stalled.map(|(id, _)| *id).collect();
        let mut woken = Vec::new();
        for id in stalled {
            if self.rng.per_mille(500) {
                woken.extend(self.strike(id, Fault::Reset));
            } else if let Some(link) = self.links.get_mut(&id) {
                for pipe in &mut link.pipes {
                    pipe.is_stalled = false;
                    woken.extend(pipe.waiting());
                }
            }
        }
        woken
    }
}

impl Link {
    pub(super) fn is_between(&self, a: &Arc<str>, b: &Arc<str>) -> bool {
        pair(&self.ends[0], &self.ends[1]) == pair(a, b)
    }

    pub(super) fn is_of(&self, name: &str) -> bool {
        self.ends.iter().any(|end| **end == *name)
    }

    pub(super) fn shown(&self, id: u64) -> String {
        let [from, to] = &self.ends;
        let holders = self.ends.iter().zip(self.open);
        let holders = holders.filter_map(|(end, is_open)| is_open.then_some(&**end));
        let holders: Vec<&str> = holders.collect();
        format!("{from} > {to} #{id}, held by {}", holders.join(" and "))
    }

    fn is_stalled(&self) -> bool {
        self.pipes.iter().any(|pipe| pipe.is_stalled)
    }
}

fn pair(a: &Arc<str>, b: &Arc<str>) -> (Arc<str>, Arc<str>) {
    let (first, second) = if a <= b { (a, b) } else { (b, a) };
    (Arc::clone(first), Arc::clone(second))
}
