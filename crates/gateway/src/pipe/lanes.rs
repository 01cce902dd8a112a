//! What waits for each client of a shared session, or for each request of one client, so that none of them
//! waits for another.

use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::Step;

/// Messages in one lane beside those on the client's streams. Beyond, the server is not read.
const MAX_WAITING: usize = 256;

/// Bytes of them, one message more not counted.
const MAX_WAITING_BYTES: usize = 1 << 20;

type Running<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// One lane for each of those for which something is under way.
pub(super) struct Lanes<'a, K> {
    lanes: BTreeMap<K, Lane<'a>>,
}

#[derive(Default)]
struct Lane<'a> {
    /// Those that are being delivered.
    running: Option<Running<'a>>,
    waiting: VecDeque<Step>,
    /// All in the lane: those that are running, and those that wait.
    steps: usize,
    /// Their bytes.
    bytes: usize,
    /// How much of both is running.
    under_way: (usize, usize),
}

impl<K> Default for Lanes<'_, K> {
    fn default() -> Self {
        Self {
            lanes: BTreeMap::new(),
        }
    }
}

impl<'a, K: Ord> Lanes<'a, K> {
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Whether another step fits, whomever it is for.
    pub(super) fn has_room(&self) -> bool {
        self.lanes.values().all(Lane::has_room)
    }

    /// Takes a step up, behind those in the same lane.
    pub(super) fn add(&mut self, key: K, step: Step) {
        let lane = self.lanes.entry(key).or_default();
        lane.steps += 1;
        lane.bytes += step.bytes();
        lane.waiting.push_back(step);
    }

    /// Goes on until something is done. What waits in one lane is begun together. Dropping the future loses nothing.
    pub(super) async fn advance<F>(&mut self, begin: impl Fn(VecDeque<Step>) -> F)
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
    fn has_room(&self) -> bool {
        self.steps < MAX_WAITING && self.bytes < MAX_WAITING_BYTES
    }

    /// Whether what was begun is done, and whether something comes after it.
    fn poll<F>(&mut self, cx: &mut Context<'_>, begin: &impl Fn(VecDeque<Step>) -> F) -> Poll<bool>
    where
        F: Future<Output = ()> + Send + 'a,
    {
        let running = self.running.get_or_insert_with(|| {
            self.under_way = (self.steps, self.bytes);
            Box::pin(begin(mem::take(&mut self.waiting)))
        });
        running.as_mut().poll(cx).map(|()| {
            self.running = None;
            let (steps, bytes) = mem::take(&mut self.under_way);
            self.steps -= steps;
            self.bytes -= bytes;
            !self.waiting.is_empty()
        })
    }
}
