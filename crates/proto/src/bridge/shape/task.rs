//! Messages where tasks are not translated (protocol notes 5.6, "Off").

use bytes::Bytes;

use crate::rpc::{Message, Object, is_object, splice};

/// The member of `_meta` that names the task a message belongs to (2025-11-25).
pub const RELATED_TASK: &str = "io.modelcontextprotocol/related-task";

/// A request without `params.task`, which asks for a task. A receiver that has not declared tasks ignores it.
#[must_use]
pub fn without_task(message: &Message) -> Bytes {
    if message.param("task").is_none() {
        return message.source().clone();
    }
    let mut params = message.params_object();
    params.remove("task");
    message.with_params(&params.into_bytes())
}

/// A message without the task that it belongs to, which the client knows nothing of: a notification, or a
/// response.
#[must_use]
pub fn without_related_task(message: &Message) -> Bytes {
    if message.meta_json(RELATED_TASK).is_some() {
        return message.with_meta(RELATED_TASK, None);
    }
    let source = message.source();
    let Some(result) = message.result().filter(|result| is_object(result)) else {
        return source.clone();
    };
    let Some(old) = crate::rpc::member(&result, "_meta") else {
        return source.clone();
    };
    let Ok(mut meta) = Object::parse(&old) else {
        return source.clone();
    };
    drop_related_task(&mut meta);
    splice(source, &old, &meta.into_bytes()).unwrap_or_else(|| source.clone())
}

pub(super) fn drop_related_task(meta: &mut Object) {
    meta.remove(RELATED_TASK);
}
