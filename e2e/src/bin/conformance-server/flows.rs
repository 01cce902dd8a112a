//! Calls that ask the client for input by answering `input_required` (protocol notes 5.3, 2026-07-28).

use rmcp::ErrorData;
use rmcp::model::{
    ClientCapabilities, InputRequest, InputRequests, InputRequiredResult, InputResponses,
    RequestStateCodec,
};
use serde_json::{Value, json};

use crate::fixtures::Flow;

/// Where a call stands after one request.
pub(crate) enum Step {
    /// The client is to answer this and call again.
    Ask(InputRequiredResult),
    /// All is known; the text of the answer.
    Answer(String),
}

/// Takes one request of a flow as far as it goes.
///
/// # Errors
/// A `requestState` that is not ours, or was changed on its way.
pub(crate) fn step(
    flow: &Flow,
    codec: &RequestStateCodec,
    capabilities: &ClientCapabilities,
    responses: Option<&InputResponses>,
    state: Option<&str>,
) -> Result<Step, ErrorData> {
    let round = match state {
        None => 0,
        Some(sealed) => {
            let state: Value = codec
                .open_json(sealed)
                .map_err(|_| ErrorData::invalid_params("requestState is not genuine", None))?;
            state["round"].as_u64().unwrap_or_default() as usize
        }
    };
    let ask = |round: usize| {
        let requests = allowed(&flow.rounds[round], capabilities);
        if requests.is_empty() {
            return Ok(Step::Answer(flow.answer.clone()));
        }
        let state = if flow.sealed {
            let sealed = codec.seal_json(&json!({ "round": round }));
            Some(sealed.map_err(|error| ErrorData::internal_error(error.to_string(), None))?)
        } else {
            None
        };
        Ok(Step::Ask(InputRequiredResult::new(Some(requests), state)))
    };
    let Some(asked) = flow.rounds.get(round) else {
        return Err(ErrorData::invalid_params(
            "requestState names no round of this call",
            None,
        ));
    };
    // A flow that seals its state starts anew without it, whatever else came.
    let is_answered = !(flow.sealed && state.is_none())
        && allowed(asked, capabilities)
            .keys()
            .all(|key| is_usable(responses, key));
    match (is_answered, round + 1 < flow.rounds.len()) {
        (false, _) => ask(round),
        (true, true) => ask(round + 1),
        (true, false) => {
            let given = serde_json::to_string(&responses)
                .map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
            Ok(Step::Answer(format!("{} {given}", flow.answer)))
        }
    }
}

/// Only what the client says it can answer may be asked.
fn allowed(requests: &InputRequests, capabilities: &ClientCapabilities) -> InputRequests {
    let can_answer = |request: &InputRequest| match request {
        InputRequest::Elicitation(_) => capabilities.elicitation.is_some(),
        InputRequest::CreateMessage(_) => capabilities.sampling.is_some(),
        InputRequest::ListRoots(_) => capabilities.roots.is_some(),
        _ => false,
    };
    requests
        .iter()
        .filter(|(_, request)| can_answer(request))
        .map(|(key, request)| (key.clone(), request.clone()))
        .collect()
}

/// Whether an answer is there and is an object, which all three kinds are.
fn is_usable(responses: Option<&InputResponses>, key: &str) -> bool {
    responses
        .and_then(|responses| responses.get(key))
        .is_some_and(Value::is_object)
}
