//! What the program says.

use std::time::Instant;

use bytes::Bytes;

use crate::bridge::action::CallId;
use crate::bridge::association::call_of;
use crate::bridge::multiplex::listen::{
    ACKNOWLEDGED, State, final_result, is_change, restamped, restamped_result, stamp_of,
};
use crate::bridge::multiplex::{Multiplexing, Nature, Serves};
use crate::bridge::notice::cancelled_of;
use crate::bridge::progress::call_named;
use crate::rpc::{Message, RequestId};

impl Multiplexing {
    pub(super) fn upstream_response(&mut self, message: &Message) {
        let id = message.id().and_then(call_of);
        let written = |id: &CallId| self.calls.get(*id).is_some_and(|call| !call.is_waiting());
        let Some(id) = id.filter(written) else {
            self.dropped.upstream_responses += 1;
            if let Some(id) = id {
                self.calls.forget_cancelled(id);
            }
            return;
        };
        let Some(call) = self.calls.remove(id) else {
            return; // Unreachable: it is open.
        };
        let answer = match &call.listen {
            None => message.with_id(&call.id),
            // The client has its acknowledgement: to it the listen has ended.
            Some(listen) if matches!(listen.state, State::Reopening(_)) => final_result(&call.id),
            Some(_) => restamped_result(message, &call.id),
        };
        self.deliver(id, answer, Nature::Response);
    }

    pub(super) fn upstream_notification(&mut self, message: &Message, now: Instant) {
        let method = message.method().unwrap_or_default();
        let dropped = match method {
            "notifications/progress" => {
                let taken = self.upstream_progress(message, now);
                (!taken).then_some(&mut self.dropped.progress)
            }
            "notifications/cancelled" => {
                let taken = self.upstream_cancels(message);
                (!taken).then_some(&mut self.dropped.cancellations)
            }
            "notifications/message" => {
                let taken = self.upstream_log(message);
                (!taken).then_some(&mut self.dropped.notifications)
            }
            _ => {
                let taken = self.upstream_notice(method, message, now);
                (!taken).then_some(&mut self.dropped.notifications)
            }
        };
        if let Some(count) = dropped {
            *count += 1;
        }
    }

    /// Delivered by the token alone.
    fn upstream_progress(&mut self, message: &Message, now: Instant) -> bool {
        let Some((id, message)) = self.progress_for(message, now) else {
            return false;
        };
        self.deliver(id, message, Nature::Notification);
        true
    }

    fn progress_for(&mut self, message: &Message, now: Instant) -> Option<(CallId, Bytes)> {
        let id = call_named(message)?;
        let call = self.calls.get_mut(id).filter(|call| !call.is_waiting())?;
        let progress = call.progress.as_mut()?;
        call.clock.idle(now, self.limits.idle);
        Some((id, progress.relayed(message)?.source().clone()))
    }

    /// The only call that asked for lines gets them. A line that cannot be tied to one is nobody's.
    fn upstream_log(&mut self, message: &Message) -> bool {
        let only = self.calls.only_with_logs();
        let Some(id) = only.filter(|_| self.serves != Serves::Several) else {
            return false;
        };
        self.deliver(id, message.source().clone(), Nature::Notification);
        true
    }

    /// The program ends a listen (protocol notes 2.4). Nothing else is its to cancel.
    fn upstream_cancels(&mut self, message: &Message) -> bool {
        let id = cancelled_of(message).and_then(|id| call_of(&id));
        let Some(id) = id.filter(|id| self.is_written_listen(*id)) else {
            return false;
        };
        self.end_listen(id, "the server ended the subscription before it began");
        true
    }

    /// What is on a listen, by its stamp.
    fn upstream_notice(&mut self, method: &str, message: &Message, now: Instant) -> bool {
        let id = stamp_of(message).and_then(|id| call_of(&id));
        let Some(id) = id.filter(|id| self.is_written_listen(*id)) else {
            return false;
        };
        if method == ACKNOWLEDGED {
            return self.acknowledged(id, message, now);
        }
        let Some(call) = self.calls.get(id) else {
            return false; // Unreachable: it is open.
        };
        if !call
            .listen
            .as_ref()
            .is_some_and(|listen| listen.hears(method))
        {
            return false;
        }
        let nature = match is_change(method) {
            true => Nature::ChangeNotice,
            false => Nature::Notification,
        };
        let message = restamped(message, &call.id);
        self.deliver(id, message, nature);
        true
    }

    fn acknowledged(&mut self, id: CallId, message: &Message, now: Instant) -> bool {
        let Some(call) = self.calls.get_mut(id) else {
            return false; // Unreachable: it is open.
        };
        let (client, Some(listen)) = (call.id.clone(), &mut call.listen) else {
            return false; // Unreachable: it is a listen.
        };
        let granted = listen.granted(message);
        match &listen.state {
            State::Open(_) => return false,
            State::Opening => {
                listen.state = State::Open(granted);
                let message = restamped(message, &client);
                self.deliver(id, message, Nature::Notification);
            }
            State::Reopening(promised) if promised.is_subset(&granted) => {
                // What happened while no program listened nobody knows.
                let notices = promised.iter().filter_map(|topic| topic.notice(&client));
                let notices: Vec<_> = notices.collect();
                listen.state = State::Open(promised.clone());
                for notice in notices {
                    self.deliver(id, notice, Nature::ChangeNotice);
                }
            }
            State::Reopening(_) => {
                self.stop(id, "the client was promised more than this", now);
                return true;
            }
        }
        if let Some(call) = self.calls.get_mut(id) {
            call.clock.idle_at = None;
            if let Some(listen) = &mut call.listen {
                listen.resends = 0;
            }
        }
        true
    }

    fn is_written_listen(&self, id: CallId) -> bool {
        let call = self.calls.get(id);
        call.is_some_and(|call| call.listen.is_some() && !call.is_waiting())
    }

    /// The client's own id of a listen that it believes to be open.
    pub(super) fn believed_open(&self, id: CallId) -> Option<RequestId> {
        let call = self.calls.get(id)?;
        match &call.listen.as_ref()?.state {
            State::Opening => None,
            State::Open(_) | State::Reopening(_) => Some(call.id.clone()),
        }
    }
}
