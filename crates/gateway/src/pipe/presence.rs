//! Which of a client's streams it reads, for sessions whose server is called or whose streams can be resumed.

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
                self.upstream.came_back(&self.member);
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
        if !self.manner.is_resumable || !member.is_answering(request) {
            return;
        }
        let left = (member.id(), request.clone());
        self.lock().left.insert(left, now());
        self.timer.notify_one();
    }

    /// It left a stream that it had come back to; nobody says of which request. All of them go on from here.
    fn came_back(&self, member: &Member) {
        let now = now();
        let mut state = self.lock();
        let left = state.left.iter_mut();
        let own = left.filter(|((of, _), _)| *of == member.id());
        own.for_each(|(_, since)| *since = now);
    }
}

impl super::State {
    /// When the first call is due whose client does not come back.
    pub(super) fn left_until(&self) -> Option<Instant> {
        self.left.values().map(|since| *since + RETENTION).min()
    }

    /// Gives up the calls whose client did not come back.
    pub(super) fn give_up_left(&mut self, now: Instant) {
        let mut gone = Vec::new();
        let members = &self.members;
        self.left.retain(|(id, request), since| {
            let member = members.get(id);
            let Some(member) = member.filter(|member| member.is_answering(request)) else {
                return false;
            };
            if *since + RETENTION <= now {
                if member.is_unattended(request) {
                    gone.push((*id, request.clone()));
                    return false;
                }
                // It came back, and says so when it leaves again.
                *since = now;
            }
            true
        });
        for (member, request) in gone {
            self.machine.abandon(member, &request, now);
        }
    }
}

#[cfg(test)]
mod tests;
