//! Requests to the server: those of the client in its words, and the gateway's own.

use bytes::Bytes;

use super::Upgrading;
use super::exchange::{Exchange, Input};
use crate::bridge::action::CallId;
use crate::bridge::envelope::Envelope;
use crate::bridge::notice;
use crate::bridge::progress::TOKEN_IN_META;
use crate::rpc::{Object, meta_key, quoted};

/// Members of `params` that mean something to a modern server, and that no legacy client means: what it says
/// there is not passed on, and neither is its wish for a task (protocol notes 5.6).
const NOT_THE_CLIENTS: [&str; 3] = ["task", "inputResponses", "requestState"];

impl Upgrading {
    /// The client's request as this call says it: the original params, never those of another call, and
    /// what the call carries beyond them.
    pub(super) fn request_of(&self, call: CallId, exchange: &Exchange, input: &Input) -> Bytes {
        let envelope = if exchange.spent.tasks {
            &self.session.with_tasks
        } else {
            &self.session.envelope
        };
        let mut params = exchange.message.params_object();
        params.retain(|name, _| !NOT_THE_CLIENTS.contains(&name));
        if !input.responses.is_empty() {
            let mut responses = Object::new();
            for (key, response) in &input.responses {
                responses.set(key, response.clone());
            }
            params.set("inputResponses", responses.into_bytes());
        }
        if let Some(state) = &input.state {
            params.set("requestState", state.clone());
        }
        let meta = exchange.message.meta_object().unwrap_or_default();
        let token = exchange.progress.as_ref().map(|_| call);
        written(call, exchange.method(), (params, meta), token, envelope)
    }

    /// A request of the gateway's own.
    pub(super) fn own_request(&self, call: CallId, method: &str, params: Object) -> Bytes {
        let envelope = Envelope {
            log_level: None,
            ..self.session.envelope.clone()
        };
        written(call, method, (params, Object::new()), None, &envelope)
    }

    /// The same about a task: the extension is declared, since only who has it may ask.
    pub(super) fn task_request(
        &self,
        call: CallId,
        method: &str,
        task: &str,
        responses: Option<Object>,
    ) -> Bytes {
        let mut params = Object::new();
        params.set("taskId", quoted(task));
        if let Some(responses) = responses {
            params.set("inputResponses", responses.into_bytes());
        }
        let parts = (params, Object::new());
        written(call, method, parts, None, &self.session.with_tasks)
    }
}

/// A whole request. It is put together in one go, since every call of a client takes this way: what the
/// client has said is looked through once, and copied.
fn written(
    call: CallId,
    method: &str,
    (mut params, mut meta): (Object, Object),
    token: Option<CallId>,
    envelope: &Envelope,
) -> Bytes {
    match token {
        // An id is never used twice, so it is a token that is never used twice.
        Some(call) => meta.set(TOKEN_IN_META, call.0.to_string()),
        None => drop(meta.remove(TOKEN_IN_META)),
    }
    seal(&mut meta, envelope);
    params.set("_meta", meta.into_bytes());
    notice::request(&call.to_request_id(), method, &params.into_bytes())
}

/// Puts the envelope into `_meta`, in the place of any other.
fn seal(meta: &mut Object, envelope: &Envelope) {
    let optional = [
        (meta_key::CLIENT_INFO, envelope.client_info.clone()),
        (
            meta_key::LOG_LEVEL,
            envelope
                .log_level
                .map(|level| quoted(level.as_str()).into()),
        ),
    ];
    meta.set(
        meta_key::PROTOCOL_VERSION,
        quoted(envelope.revision.as_str()),
    );
    meta.set(meta_key::CLIENT_CAPABILITIES, envelope.capabilities.clone());
    for (name, value) in optional {
        match value {
            Some(value) => meta.set(name, value),
            None => drop(meta.remove(name)),
        }
    }
}
