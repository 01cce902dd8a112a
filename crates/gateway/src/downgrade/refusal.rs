//! Requests that the server never sees.

use http::StatusCode;
use thinpipe_proto::bridge::downgrade::{Refused, RetryError};
use thinpipe_proto::bridge::shape::InvalidResponses;
use thinpipe_proto::rpc::{Message, code, error_response, response};
use thinpipe_transport::server::{Answer, Content};

use crate::failure::{Failure, Reason};

/// Why a request is not answered by the server.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It gives back something that nothing waits for: one text for whatever is wrong with it.
    Stale,
    /// What it waits for was kept by a process that has ended.
    Lost,
    /// What it answers is no answer. What it gives back is good for the next one.
    InvalidAnswers(String),
    InvalidCursor,
    InvalidCapabilities(String),
    /// The client did not do what comes before the call.
    Declined,
    Machine(Refused),
    Failed(Failure),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<InvalidResponses> for Refusal {
    fn from(invalid: InvalidResponses) -> Self {
        Self::InvalidAnswers(invalid.to_string())
    }
}

impl From<RetryError> for Refusal {
    fn from(error: RetryError) -> Self {
        match error {
            RetryError::Stale => Self::Stale,
            RetryError::Unanswered(why) => Self::InvalidAnswers(why.to_string()),
        }
    }
}

impl Refusal {
    /// The answer to the request.
    pub(crate) fn answer(self, request: &Message, upstream: &str) -> Result<Answer, Failure> {
        let id = request.id();
        let invalid =
            |text: &str| Answer::error(StatusCode::OK, id, code::INVALID_PARAMS, text, None);
        Ok(match self {
            Self::Stale => invalid("requestState invalid or expired"),
            Self::InvalidAnswers(text) => invalid(&text),
            Self::InvalidCursor => invalid("the cursor is not valid here; begin the list anew"),
            Self::InvalidCapabilities(text) => Answer {
                status: StatusCode::BAD_REQUEST,
                ..invalid(&text)
            },
            Self::Declined => declined(request),
            Self::Lost => {
                let text = "the call was kept by a process that has ended; its outcome is unknown";
                return Err(Failure::new(Reason::ExchangeLost, text));
            }
            Self::Failed(failure) => return Err(failure),
            Self::Machine(refused) => {
                let status = StatusCode::from_u16(refused.status());
                let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                if status == StatusCode::SERVICE_UNAVAILABLE {
                    return Err(Failure::new(Reason::Overloaded, refused.to_string()));
                }
                let body = refused.answer(request, upstream).unwrap_or_default();
                Answer::new(status, Content::Json, body.into())
            }
        })
    }
}

/// The client did not visit the pages that the server wants visited before the call.
fn declined(request: &Message) -> Answer {
    let text = "the client declined what the server asks for before this call";
    let body = match (request.id(), request.method()) {
        (Some(id), Some("tools/call")) => {
            let result = format!(
                r#"{{"resultType":"complete","isError":true,"content":[{{"type":"text","text":"{text}"}}]}}"#
            );
            response(id, result.as_bytes())
        }
        (id, _) => error_response(id, code::INTERNAL_ERROR, text, None),
    };
    Answer::json(body)
}
