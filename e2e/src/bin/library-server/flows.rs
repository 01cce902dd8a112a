//! Calls that ask the client for input by answering `input_required` (protocol notes 2.3.6).

use std::collections::BTreeMap;

use rmcp::model::RequestStateCodec;
use serde_json::{Value, json};
use thinpipe_transport::mcp::{Context, InputRequest, Outcome, RpcError};

/// Where a call stands after one request.
pub(crate) enum Step {
    /// The client is to answer this and call again.
    Ask(Outcome),
    /// All is known; the text of the answer.
    Answer(String),
}

/// Takes one request of a flow as far as it goes.
///
/// # Errors
/// A `requestState` that is not ours, or was changed on its way.
pub(crate) fn step(
    flow: &Value,
    codec: &RequestStateCodec,
    context: &Context,
) -> Result<Step, RpcError> {
    let (sealed, answer) = (
        flow["sealed"] == true,
        flow["answer"].as_str().unwrap_or_default(),
    );
    let round = round_of(codec, context)?;
    let rounds = flow["rounds"].as_array().map_or(&[][..], Vec::as_slice);
    let Some(asked) = rounds.get(round) else {
        return Err(RpcError::invalid_params(
            "requestState names no round of this call",
        ));
    };
    // A flow that seals its state starts anew without it, whatever else came.
    let fresh = sealed && context.request_state().is_none();
    let is_answered = !fresh
        && allowed(asked, context)
            .keys()
            .all(|key| context.input(key).is_some());
    let next = match (is_answered, round + 1 < rounds.len()) {
        (false, _) => round,
        (true, true) => round + 1,
        (true, false) => {
            return Ok(Step::Answer(format!(
                "{answer} {}",
                json!(context.inputs())
            )));
        }
    };
    let requests = allowed(&rounds[next], context);
    if requests.is_empty() {
        return Ok(Step::Answer(answer.to_owned()));
    }
    let state = sealed
        .then(|| codec.seal_json(&json!({ "round": next })))
        .transpose();
    let state = state.map_err(|error| RpcError::internal(error.to_string()))?;
    Ok(Step::Ask(Outcome::InputRequired { requests, state }))
}

fn round_of(codec: &RequestStateCodec, context: &Context) -> Result<usize, RpcError> {
    let Some(sealed) = context.request_state() else {
        return Ok(0);
    };
    let state: Result<Value, _> = codec.open_json(sealed);
    let state = state.map_err(|_| RpcError::invalid_params("requestState is not genuine"))?;
    Ok(state["round"].as_u64().unwrap_or_default() as usize)
}

/// Only what the client says it can answer may be asked.
fn allowed(requests: &Value, context: &Context) -> BTreeMap<String, InputRequest> {
    let capabilities = context.client_capabilities();
    let can_answer = |request: &Value| match request["method"].as_str() {
        Some("elicitation/create") => capabilities["elicitation"].is_object(),
        Some("sampling/createMessage") => capabilities["sampling"].is_object(),
        Some("roots/list") => capabilities["roots"].is_object(),
        _ => false,
    };
    let requests = requests.as_object().into_iter().flatten();
    let allowed = requests.filter(|(_, request)| can_answer(request));
    let entry = |(key, request): (&String, &Value)| {
        let method = request["method"].as_str().unwrap_or_default().to_owned();
        let params = request["params"].clone();
        (key.clone(), InputRequest { method, params })
    };
    allowed.map(entry).collect()
}
