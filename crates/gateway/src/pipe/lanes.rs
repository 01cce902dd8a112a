//! What waits for each client of a shared session, so that none of them waits for another.

use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use thinpipe_proto::bridge::MemberId;

use super::Step;

/// Messages that wait for one client beside those on its streams. Beyond, the server is not read.
const MAX_WAITING: usize = 256;

/// Bytes of them, one message more not counted.
const MAX_WAITING_BYTES: usize = 1 << 20;

type Running<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// One lane for each client for which something is under way.
#[derive(Default)]
pub(super) struct Lanes<'a> {
    lanes: HashMap<MemberId, Lane<'a>>,
}

struct Lane<'a> {
    running: Running<'a>,
    waiting: VecDeque<Step>,
    /// Bytes of `waiting`.
    bytes: usize,
}

impl<'a> Lanes<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Whether another step fits, whomever it is for.
    pub(super) fn has_room(&self) -> bool {
        let mut lanes = self.lanes.values();
        lanes.all(|lane| lane.waiting.len() < MAX_WAITING && lane.bytes < MAX_WAITING_BYTES)
    }

    /// Takes a step up: at once, or behind those for the same client.
    pub(super) fn add<F>(&mut self, step: Step, begin: impl FnOnce(Step) -> F)
    where
        F: Future<Output = ()> + Send + 'a,
    {
        let member = step.member();
        match self.lanes.get_mut(&member) {
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
                self.lanes.insert(member, lane);
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
