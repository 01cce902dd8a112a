//! Questions to the client, in the way of its revision: by requests of the server in a session, by results
//! without.

use futures_util::future;
use rmcp::model::{
    InputRequest, InputRequests, InputRequiredResult, InputResponses, ProtocolVersion,
    ServerRequest,
};
use rmcp::service::{Peer, RequestContext};
use rmcp::{ErrorData, RoleServer};
use serde_json::Value;

/// The key of the only question.
const ONLY: &str = "answer";

/// Whether the client is asked by a result.
pub(crate) fn by_results(context: &RequestContext<RoleServer>) -> bool {
    let revision = context.protocol_version();
    revision.is_some_and(|revision| revision.as_str() >= ProtocolVersion::V_2026_07_28.as_str())
}

/// One question: the answer, or the result that asks for it.
///
/// # Errors
/// What the client says against being asked.
pub(crate) async fn once(
    context: &RequestContext<RoleServer>,
    responses: Option<&InputResponses>,
    question: InputRequest,
) -> Result<Result<Value, InputRequiredResult>, ErrorData> {
    if let Some(answer) = responses.and_then(|responses| responses.get(ONLY)) {
        return Ok(Ok(answer.clone()));
    }
    let questions = InputRequests::from([(ONLY.to_owned(), question)]);
    if by_results(context) {
        return Ok(Err(InputRequiredResult::new(Some(questions), None)));
    }
    let mut answers = answers(&context.peer, &questions).await?;
    Ok(Ok(answers.remove(ONLY).unwrap_or_default()))
}

/// Asks by requests, all at once.
///
/// # Errors
/// As [`once`].
pub(crate) async fn answers(
    peer: &Peer<RoleServer>,
    questions: &InputRequests,
) -> Result<InputResponses, ErrorData> {
    let asked = questions.iter().map(async |(key, question)| {
        let request = match question.clone() {
            InputRequest::CreateMessage(request) => ServerRequest::CreateMessageRequest(request),
            InputRequest::Elicitation(request) => ServerRequest::ElicitRequest(request),
            InputRequest::ListRoots(request) => ServerRequest::ListRootsRequest(request),
            other => return Err(internal(format!("no way to ask for {other:?}"))),
        };
        let answer = peer.send_request(request).await.map_err(internal)?;
        let answer = serde_json::to_value(answer).map_err(internal)?;
        Ok((key.clone(), answer))
    });
    let answers = future::join_all(asked).await;
    answers.into_iter().collect()
}

fn internal(error: impl ToString) -> ErrorData {
    ErrorData::internal_error(error.to_string(), None)
}
