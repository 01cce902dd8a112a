//! What a server said while its client had no stream open.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use thinpipe_proto::rpc::{Message, RequestId};

use super::Said;
use super::notice::key;
use crate::server::event_buffer::{MAX_NOTICE_BYTES, MAX_NOTICES};

/// The server's requests that wait for a stream at one time.
const MAX_REQUESTS: usize = 64;

/// Messages that wait for a stream.
#[derive(Debug, Default)]
pub(super) struct Held {
    requests: VecDeque<(RequestId, Bytes, Instant)>,
    notices: VecDeque<(String, Bytes)>,
    /// Bytes of the notices.
    notice_bytes: usize,
}

impl Held {
    /// Keeps a server's request until its time is over.
    pub(super) fn keep_request(&mut self, message: &Message, until: Instant) -> Said {
        let Some(id) = message.id().filter(|_| self.requests.len() < MAX_REQUESTS) else {
            return Said::Dropped;
        };
        self.requests
            .push_back((id.clone(), message.source().clone(), until));
        Said::Held
    }

    /// Keeps a notice that something changed: it says "read again", and once is enough. Of anything else,
    /// log messages above all, nothing is kept.
    pub(super) fn keep_notice(&mut self, message: &Message) -> Said {
        let Some(key) = key(message) else {
            return Said::Dropped;
        };
        if self.notices.iter().any(|(known, _)| *known == key) {
            return Said::Held;
        }
        let bytes = self.notice_bytes + message.source().len();
        let is_first = self.notices.is_empty();
        if self.notices.len() >= MAX_NOTICES || (bytes > MAX_NOTICE_BYTES && !is_first) {
            tracing::warn!("too many change notices wait for a stream; one is dropped");
            return Said::Dropped;
        }
        self.notice_bytes = bytes;
        self.notices
            .push_back((key.into(), message.source().clone()));
        Said::Held
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.requests.front().map(|(_, _, until)| *until)
    }

    /// Requests whose time is over. They came in order and wait equally long.
    pub(super) fn expired(&mut self, now: Instant) -> Vec<RequestId> {
        let late = self
            .requests
            .iter()
            .take_while(|(_, _, until)| *until <= now);
        let late = late.count();
        self.requests.drain(..late).map(|(id, ..)| id).collect()
    }

    pub(super) fn withdraw(&mut self, id: &RequestId) -> bool {
        let before = self.requests.len();
        self.requests.retain(|(held, ..)| held != id);
        self.requests.len() < before
    }

    /// Gives the requests to a stream, on which notices have no place, until it takes no more.
    pub(super) fn flush_requests(&mut self, mut takes: impl FnMut(Bytes) -> bool) {
        while let Some((_, message, _)) = self.requests.front() {
            if !takes(message.clone()) {
                return;
            }
            self.requests.pop_front();
        }
    }

    /// Gives all there is to a stream, as far as it takes it.
    pub(super) fn flush(&mut self, mut takes: impl FnMut(Option<&str>, Bytes) -> bool) {
        while let Some((key, message)) = self.notices.front() {
            if !takes(Some(key), message.clone()) {
                break;
            }
            self.notice_bytes -= message.len();
            self.notices.pop_front();
        }
        self.flush_requests(|message| takes(None, message));
    }
}
