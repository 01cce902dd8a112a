//! Which of a client's streams it reads, for sessions whose server is called.

use std::sync::Arc;
use std::time::{Duration, Instant};

use thinpipe_proto::bridge::upgrade::DEFAULT_RETENTION;
use thinpipe_proto::rpc::RequestId;

use super::{Member, UpstreamSession};
use crate::clock::now;

/// How long a call goes on whose client has left its stream, and may come back for it.
const RETENTION: Duration = DEFAULT_RETENTION;

/// A stream of a client.
pub(crate) enum Watched {
    /// On which it is told what belongs to no request.
    Standalone,
    /// Any that it has come back to.
    Resumed,
    /// The answer to this request.
    Answer(RequestId),
}

/// Held by a stream: when it is dropped, the stream is too.
pub(crate) struct Presence {
    upstream: Arc<UpstreamSession>,
    member: Arc<Member>,
    stream: Watched,
}

impl Presence {
    pub(super) fn new(
        upstream: Arc<UpstreamSession>,
        member: Arc<Member>,
        stream: Watched,
    ) -> Self {
        if matches!(stream, Watched::Standalone | Watched::Resumed) {
            upstream.look_for_stream(&member);
        }
        Self {
            upstream,
            member,
            stream,
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        match &self.stream {
            Watched::Standalone => self.upstream.look_for_stream(&self.member),
            Watched::Resumed => {
                self.upstream.look_for_stream(&self.member);
                self.upstream.came_back();
            }
            Watched::Answer(request) => self.upstream.left(&self.member, request),
        }
    }
}

impl UpstreamSession {
    /// Looks whether the client can be told what belongs to no request, for a machine that wants to know.
    pub(super) fn look_for_stream(&self, member: &Member) {
        let Some(place) = member.place().get() else {
            return;
        };
        // Outside of the lock: it may let go of the session, which detaches from this one then.
        let is_over_sse = place.is_over_sse();
        let mut state = self.lock();
        let is_listening = is_over_sse || place.conversation.is_listening();
        let was_listening = std::mem::replace(&mut state.is_listening, is_listening);
        let Some((machine, _)) = state.machine.upgrading() else {
            return;
        };
        match (was_listening, is_listening) {
            (false, true) => machine.stream_opened(now()),
            (true, false) => machine.stream_closed(now()),
            _ => return,
        }
        self.settle(state);
    }

    /// The client has left the answer to a request, to which it may come back.
    fn left(&self, member: &Member, request: &RequestId) {
        if !self.is_of_calls() || !member.is_answering(request) {
            return;
        }
        self.lock().left.insert(request.clone(), now());
        self.timer.notify_one();
    }

    /// It left a stream that it had come back to; nobody says of which request. All of them go on from here.
    fn came_back(&self) {
        let now = now();
        for since in self.lock().left.values_mut() {
            *since = now;
        }
    }
}

impl super::State {
    /// When the first call is due whose client does not come back.
    pub(super) fn left_until(&self) -> Option<Instant> {
        self.left.values().map(|since| *since + RETENTION).min()
    }

    /// Gives up the calls whose client did not come back.
    pub(super) fn give_up_left(&mut self, now: Instant) {
        let Some(member) = self.members.values().next().cloned() else {
            self.left.clear();
            return;
        };
        let mut gone = Vec::new();
        self.left.retain(|request, since| {
            if !member.is_answering(request) {
                return false;
            }
            if *since + RETENTION <= now {
                if member.is_unattended(request) {
                    gone.push(request.clone());
                    return false;
                }
                // It came back, and says so when it leaves again.
                *since = now;
            }
            true
        });
        for request in gone {
            self.machine.abandon(member.id(), &request, now);
        }
    }
}

#[cfg(test)]
mod tests;
