//! Which request a message of the upstream belongs to (protocol notes 5.1, "Association").

use crate::bridge::action::{CallId, MemberId};
use crate::bridge::downgrade::Channel;
use crate::bridge::shape::RELATED_TASK;
use crate::bridge::{Nature, Reframing, Sharing};
use crate::rpc::{Message, RequestId, member, string};

impl Reframing {
    /// The request that a server request or notification belongs to, which came on the stream of `via`, if
    /// that can be told without guessing: progress and cancellations are told by token and id instead. A
    /// finished request associates with nothing.
    pub(super) fn associate(&self, message: &Message, via: Option<CallId>) -> Option<CallId> {
        if let Some(task) = related_task(message) {
            // What names a task is not about another request, if only that one is open.
            let mut open = self.calls.open();
            return open
                .find(|(_, call)| call.task.as_deref() == Some(&task))
                .map(|(id, _)| id);
        }
        match (self.config.channel, self.config.sharing) {
            (Channel::Streams, _) => via.filter(|id| self.calls.get(*id).is_some()),
            // Of the only request nobody knows whether it is the one that is meant.
            (Channel::Pipe, Sharing::Shared) => None,
            (Channel::Pipe, _) if self.is_murky() => None,
            (Channel::Pipe, _) => self.calls.only(),
        }
    }

    /// Whether a message came on the stream of a request that was cancelled: it is for nobody any more.
    pub(super) fn is_too_late(&self, via: Option<CallId>) -> bool {
        via.is_some_and(|via| self.calls.is_cancelled(via))
    }

    /// The client session that a message is for, which belongs to no open request.
    pub(super) fn only_member(&self, message: &Message) -> Option<MemberId> {
        if let Some(shared) = &self.shared
            && let Some(task) = related_task(message)
        {
            return shared.tasks.get(&task).copied();
        }
        let mut members = self.members.keys().copied();
        let only = members.next().filter(|_| members.next().is_none());
        match self.config.sharing {
            Sharing::PerClient => only,
            // What a cancelled request asks for may be for the client that left.
            Sharing::Pooled => only.filter(|_| !self.is_murky() && !self.has_late()),
            Sharing::Shared => None,
        }
    }

    /// Whether a request that was cancelled may be asking still, in a row with the others.
    pub(super) fn has_late(&self) -> bool {
        self.config.channel == Channel::Pipe && self.calls.has_cancelled()
    }

    /// Whether one was never answered, so that nobody can say whether it still does.
    pub(super) fn is_murky(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.is_murky)
    }
}

/// The task that a message names as the one that it belongs to.
pub(super) fn related_task(message: &Message) -> Option<String> {
    let related = message.meta(RELATED_TASK)?;
    let task = member(&related, "taskId")?;
    string(&task).map(std::borrow::Cow::into_owned)
}

/// What a notification is, other than progress and cancellations.
pub(super) fn nature_of(method: &str) -> Nature {
    match method {
        "notifications/message" => Nature::Log,
        "notifications/resources/updated" => Nature::ChangeNotice,
        _ if is_list_changed(method) => Nature::ChangeNotice,
        _ => Nature::Notification,
    }
}

/// Whether a notification of the server says that a list is to be read again.
pub(super) fn is_list_changed(method: &str) -> bool {
    matches!(
        method,
        "notifications/tools/list_changed"
            | "notifications/prompts/list_changed"
            | "notifications/resources/list_changed"
    )
}

/// The id of ours that a response or a progress token names.
pub(super) fn call_of(id: &RequestId) -> Option<CallId> {
    call_written(id.as_json())
}

/// The same, of an id as JSON text.
pub(super) fn call_written(json: &[u8]) -> Option<CallId> {
    let text = std::str::from_utf8(json).ok()?;
    text.parse().ok().map(CallId)
}

/// The member of `initialize`, and of its result, that says what a side can do.
pub(super) const CAPABILITIES: &str = "capabilities";
