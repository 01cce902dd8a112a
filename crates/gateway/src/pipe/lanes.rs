//! What waits for each client of a shared session, or for each request of one client, so that none of them
//! waits for another.

use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::hash::Hash;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::Step;

/// Messages that wait in one lane beside those on the client's streams. Beyond, the server is not read.
const MAX_WAITING: usize = 256;

/// Bytes of them, one message more not counted.
const MAX_WAITING_BYTES: usize = 1 << 20;

type Running<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// One lane for each of those for which something is under way.
pub(super) struct Lanes<'a, K> {
    lanes: HashMap<K, Lane<'a>>,
}

struct Lane<'a> {
    running: Running<'a>,
    waiting: VecDeque<Step>,
    /// Bytes of `waiting`.
    bytes: usize,
}

impl<K> Default for Lanes<'_, K> {
    fn default() -> Self {
        Self {
            lanes: HashMap::new(),
        }
    }
}

impl<'a, K: Eq + Hash> Lanes<'a, K> {
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Whether another step fits, whomever it is for.
    pub(super) fn has_room(&self) -> bool {
        let mut lanes = self.lanes.values();
        lanes.all(|lane| lane.waiting.len() < MAX_WAITING && lane.bytes < MAX_WAITING_BYTES)
    }

    /// Takes a step up: at once, or behind those in the same lane.
    pub(super) fn add<F>(&mut self, key: K, step: Step, begin: impl FnOnce(Step) -> F)
    where
        F: Future<Output = ()> + Send + 'a,
    {
        match self.lanes.get_mut(&key) {
            Some(lane) => {
                lane.bytes += step.bytes();
                lane.waiting.push_back(step);
            }
            None => {
                let lane = Lane {
                    running: Box::pin(begin(step)),
                    waiting: VecDeque::new(),
                    bytes: 0,
                };
                self.lanes.insert(key, lane);
            }
        }
    }

    /// Goes on until something is done. Dropping the future loses nothing.
    pub(super) async fn advance<F>(&mut self, begin: impl Fn(Step) -> F)
    where
        F: Future<Output = ()> + Send + 'a,
    {
        poll_fn(|cx| {
            let mut is_done = false;
            self.lanes.retain(|_, lane| match lane.poll(cx, &begin) {
                Poll::Pending => true,
                Poll::Ready(goes_on) => {
                    is_done = true;
                    goes_on
                }
            });
            if is_done {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

impl<'a> Lane<'a> {
    /// Whether a step is done, and whether another one comes after it.
    fn poll<F>(&mut self, cx: &mut Context<'_>, begin: &impl Fn(Step) -> F) -> Poll<bool>
    where
        F: Future<Output = ()> + Send + 'a,
    {
        self.running.as_mut().poll(cx).map(|()| {
            let Some(step) = self.waiting.pop_front() else {
                return false;
            };
            self.bytes -= step.bytes();
            self.running = Box::pin(begin(step));
            true
        })
    }
}
