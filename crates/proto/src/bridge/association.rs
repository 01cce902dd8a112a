//! Which request a message of the upstream belongs to (protocol notes 5.1, "Association").

use crate::bridge::action::CallId;
use crate::bridge::shape::RELATED_TASK;
use crate::bridge::{Nature, Reframing};
use crate::rpc::{Message, RequestId, member, string};

impl Reframing {
    /// The request that a server request or notification belongs to, if that can be told without
    /// guessing: progress and cancellations are told by token and id instead. A finished request
    /// associates with nothing.
    ///
    /// Not for shared sessions: tasks are not shared, and of the only request nobody knows whether it
    /// is the one that is meant.
    pub(super) fn associate(&self, message: &Message) -> Option<CallId> {
        if let Some(task) = related_task(message) {
            // What names a task is not about another request, if only that one is open.
            let mut open = self.calls.open();
            return open
                .find(|(_, call)| call.task.as_deref() == Some(&task))
                .map(|(id, _)| id);
        }
        self.calls.only()
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
    let text = std::str::from_utf8(id.as_json()).ok()?;
    text.parse().ok().map(CallId)
}

/// The member of `initialize`, and of its result, that says what a side can do.
pub(super) const CAPABILITIES: &str = "capabilities";
