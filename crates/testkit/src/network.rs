//! A network in memory, on tokio's paused clock: nodes by name, connections between them, and everything that can
//! go wrong with a connection, drawn from one seed.
//!
//! Bytes of one connection arrive in order, late, in parts, or not at all, as with TCP. There are no sockets and no
//! real time: run it in a runtime of one thread whose clock is paused, and a minute takes as long as what
//! happens in it. The same seed and the same peers give the same [trace](Network::trace).
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
//! use thinpipe_testkit::network::Network;
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! let network = Network::new(7);
//! let server = network.start("server");
//! let listener = server.listen();
//! let client = network.start("client");
//! let mut out = client.connect("server").await.unwrap();
//! let (mut socket, from) = listener.accept().await.unwrap();
//! assert_eq!(&*from, "client");
//! out.write_all(b"hello").await.unwrap();
//! let mut text = [0; 5];
//! socket.read_exact(&mut text).await.unwrap();
//!
//! network.kill("server");
//! assert!(client.connect("server").await.is_err());
//! # }
//! ```

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

mod http;
mod pipe;
mod rng;
mod socket;
mod state;
#[cfg(test)]
mod tests;

pub use http::{Http, HttpRequest};
pub use rng::Rng;
pub use socket::Socket;
pub use state::Fault;

use state::{Node, State};

/// How the network behaves by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manners {
    /// How long bytes, connections and ends of connections take at most. Default: 2 ms.
    pub delay: Duration,
    /// In so many of a thousand cases something becomes of a new connection ([`Fault`]). Default: 0.
    pub doomed: u64,
    /// After how many bytes at most. Default: 4,096.
    pub doomed_within: u64,
    /// In so many of a thousand cases a connection is refused. Default: 0.
    pub refused: u64,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(2),
            doomed: 0,
            doomed_within: 4_096,
            refused: 0,
        }
    }
}

/// The network. Cheap to clone; every clone is the same one.
#[derive(Clone)]
pub struct Network {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Partitions were healed or nodes started or killed.
    changed: Notify,
}

/// A node of the network while it lives: after [`Network::kill`] nothing that it does has any effect, even if a
/// new node of its name has been started.
#[derive(Clone)]
pub struct Host {
    network: Network,
    name: Arc<str>,
    life: u64,
}

/// Where a node accepts connections. Dropping it refuses those that come.
#[derive(Debug)]
pub struct Listener {
    host: Host,
}

impl Network {
    /// A network without nodes. Must be called inside the runtime.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(State::new(seed)),
                changed: Notify::new(),
            }),
        }
    }

    /// Changes how it behaves from now on.
    pub fn behave(&self, manners: Manners) {
        self.state().manners = manners;
    }

    /// Starts a node.
    ///
    /// # Panics
    /// If one of this name is up.
    pub fn start(&self, name: &str) -> Host {
        let name: Arc<str> = name.into();
        let mut state = self.state();
        let life = state.rng.next_u64();
        let node = Node {
            life,
            is_listening: false,
            backlog: VecDeque::new(),
            acceptor: None,
        };
        let before = state.nodes.insert(Arc::clone(&name), node);
        assert!(before.is_none(), "{name} is up already");
        state.note(&format!("{name} starts"));
        let network = self.clone();
        Host {
            network,
            name,
            life,
        }
    }

    /// Whether a node of this name is up.
    #[must_use]
    pub fn is_up(&self, name: &str) -> bool {
        self.state().nodes.contains_key(name)
    }

    /// Ends a node in the middle of everything: its connections are reset, or end behind what is on its way,
    /// as chance has it.
    pub fn kill(&self, name: &str) {
        let mut state = self.state();
        let node = state.nodes.remove(name);
        state.note(&format!("{name} is killed"));
        let mut links = state.links.iter();
        let ids: Vec<u64> = links_of(&mut links, name);
        let mut woken = Vec::new();
        for id in ids {
            let fault = match state.rng.per_mille(500) {
                true => Fault::Reset,
                false => Fault::End,
            };
            woken.extend(state.strike(id, fault));
        }
        drop(state);
        // What waits in its backlog is closed now: the lock is free again.
        woken.extend(node.and_then(|node| node.acceptor));
        wake(woken);
        self.shared.changed.notify_waiters();
    }

    /// Between these two nothing arrives any more, and nobody is told.
    pub fn partition(&self, a: &str, b: &str) {
        let mut state = self.state();
        state.part(&a.into(), &b.into());
        state.note(&format!("{a} and {b} do not reach each other"));
    }

    /// Ends all partitions and stalls; what was stalled goes on, or is reset, as chance has it. What was to become of
    /// connections that are open does not.
    pub fn heal(&self) {
        let woken = self.state().heal();
        wake(woken);
        self.shared.changed.notify_waiters();
    }

    /// Lets something become of one of the connections, as chance has it. Does nothing if there is none.
    pub fn strike_one(&self) {
        let mut state = self.state();
        let count = state.links.len();
        let at = state.rng.index(count);
        let fault = Fault::any(&mut state.rng);
        let id = state.links.keys().nth(at).copied();
        let woken = id.map(|id| state.strike(id, fault));
        drop(state);
        wake(woken.unwrap_or_default());
    }

    /// Cuts one of the connections that were opened to nodes with names like this, so that both ends hear of it at once:
    /// by a reset, or behind what is on its way. Does nothing if there is none.
    pub fn cut_one(&self, is_one: impl Fn(&str) -> bool) {
        let mut state = self.state();
        let links = state.links.iter();
        let links = links.filter(|(_, link)| is_one(&link.ends[1]));
        let ids: Vec<u64> = links.map(|(id, _)| *id).collect();
        let at = state.rng.index(ids.len());
        let fault = match state.rng.per_mille(500) {
            true => Fault::Reset,
            false => Fault::End,
        };
        let woken = ids.get(at).map(|id| state.strike(*id, fault));
        drop(state);
        wake(woken.unwrap_or_default());
    }

    /// Connections that are open at one end at least, and which ends those are, in words.
    #[must_use]
    pub fn connections(&self) -> Vec<String> {
        let state = self.state();
        let links = state.links.iter();
        links.map(|(id, link)| link.shown(*id)).collect()
    }

    /// Adds a line of somebody else to the [trace](Self::trace).
    pub fn note(&self, what: impl fmt::Display) {
        let what = what.to_string();
        self.state().note(&what);
    }

    /// The last that happened, with its time since the network was made.
    #[must_use]
    pub fn trace(&self) -> Vec<String> {
        self.state().trace()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let state = self.shared.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, id: u64, side: usize, bytes: Bytes) {
        let mut state = self.state();
        let State {
            links,
            rng,
            manners,
            ..
        } = &mut *state;
        let Some(link) = links.get_mut(&id) else {
            return;
        };
        let (mut bytes, mut struck) = (bytes, None);
        if let Some((left, fault)) = &mut link.doom {
            let count = bytes.len() as u64;
            if *left < count {
                // What only stalls goes on in one piece when it is healed.
                if matches!(fault, Fault::Reset | Fault::End) {
                    bytes.truncate(usize::try_from(*left).unwrap_or_default());
                }
                struck = Some(*fault);
                link.doom = None;
            } else {
                *left -= count;
            }
        }
        // Whoever has left reads nothing.
        if link.open[1 - side] && !bytes.is_empty() {
            link.pipes[side].push(bytes, manners.delay, rng);
        }
        let mut woken: Vec<_> = link.pipes[side].reader.take().into_iter().collect();
        if let Some(fault) = struck {
            woken.extend(state.strike(id, fault));
        }
        drop(state);
        wake(woken);
    }

    /// One side says nothing more, and if it is gone, does not listen either.
    fn close(&self, id: u64, side: usize, is_gone: bool) {
        let mut state = self.state();
        let State {
            links,
            rng,
            manners,
            ..
        } = &mut *state;
        let Some(link) = links.get_mut(&id) else {
            return;
        };
        link.pipes[side].close(manners.delay, rng);
        let mut woken: Vec<_> = link.pipes[side].reader.take().into_iter().collect();
        if is_gone {
            link.open[side] = false;
            link.pipes[1 - side].clear();
            woken.extend(link.pipes[1 - side].writer.take());
            if link.open == [false, false] {
                links.remove(&id);
            }
        }
        drop(state);
        wake(woken);
    }
}

fn links_of<'a>(
    links: &mut dyn Iterator<Item = (&'a u64, &'a state::Link)>,
    name: &str,
) -> Vec<u64> {
    let links = links.filter(|(_, link)| link.is_of(name));
    links.map(|(id, _)| *id).collect()
}

fn wake(wakers: Vec<Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}

impl Host {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The network it is in.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Whether it has not been killed.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.network.state().lives(&self.name, self.life)
    }

    /// Accepts connections from now on.
    #[must_use]
    pub fn listen(&self) -> Listener {
        let mut state = self.network.state();
        let life = self.life;
        let node = state.nodes.get_mut(&self.name);
        if let Some(node) = node.filter(|node| node.life == life) {
            node.is_listening = true;
        }
        drop(state);
        Listener { host: self.clone() }
    }

    /// Connects to a node. Across a partition that takes until it is healed.
    ///
    /// # Errors
    /// That node is not up, does not listen, or refuses.
    pub async fn connect(&self, to: &str) -> io::Result<Socket> {
        let to: Arc<str> = to.into();
        let delay = self.network.state().delay();
        tokio::time::sleep(delay).await;
        loop {
            let changed = self.network.shared.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            {
                let state = self.network.state();
                if !state.lives(&self.name, self.life) || !state.is_parted(&self.name, &to) {
                    break;
                }
            }
            changed.await;
        }
        let mut state = self.network.state();
        let refused = state.manners.refused;
        let refuses = state.rng.per_mille(refused) || !state.lives(&self.name, self.life);
        let link = match refuses {
            true => None,
            false => state.link(&self.name, &to),
        };
        let Some(id) = link else {
            let told = format!("{} > {to}: refused", self.name);
            state.note(&told);
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        let far = Socket::new(self.network.clone(), id, 1);
        let acceptor = state.nodes.get_mut(&to).and_then(|node| {
            node.backlog.push_back((far, Arc::clone(&self.name)));
            node.acceptor.take()
        });
        drop(state);
        wake(acceptor.into_iter().collect());
        Ok(Socket::new(self.network.clone(), id, 0))
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network")
            .field("connections", &self.state().links.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Listener {
    /// The next connection, and who opened it; `None` once the node has been killed.
    pub async fn accept(&self) -> Option<(Socket, Arc<str>)> {
        let host = &self.host;
        poll_fn(|cx| {
            let mut state = host.network.state();
            let node = state.nodes.get_mut(&host.name);
            let Some(node) = node.filter(|node| node.life == host.life) else {
                return Poll::Ready(None);
            };
            if let Some(accepted) = node.backlog.pop_front() {
                return Poll::Ready(Some(accepted));
            }
            let old = node.acceptor.replace(cx.waker().clone());
            drop(state);
            drop(old);
            Poll::Pending
        })
        .await
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let host = &self.host;
        let mut state = host.network.state();
        let node = state.nodes.get_mut(&host.name);
        let waiting = node.filter(|node| node.life == host.life).map(|node| {
            node.is_listening = false;
            std::mem::take(&mut node.backlog)
        });
        drop(state);
        // Closing them needs the lock.
        drop(waiting);
    }
}
