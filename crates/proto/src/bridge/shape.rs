//! The shape of results, errors and requests in each era (protocol notes 5.1, "Result shaping", 5.3.2, 5.4.1
//! and, as far as tasks are off, 5.6).

mod answer;
mod error;
mod result;
mod round;
mod task;

#[cfg(test)]
mod tests;

use crate::rpc::MessageError;

pub(in crate::bridge) use answer::Asked;
pub use error::{ModernError, error_code, error_to_legacy, error_to_modern, modern_status};
pub(in crate::bridge) use result::array;
pub use result::{Caching, CachingScope, ResultType, result_to_legacy, result_to_modern};
pub(in crate::bridge) use round::needs_params;
pub use round::{
    InputRequest, InputRequired, InvalidResponses, MAX_INPUT_REQUESTS, Responses, is_round_method,
    with_responses,
};
pub use task::{RELATED_TASK, without_related_task, without_task};

/// A result of a server that cannot be given to a client: to be answered `-32603`, "invalid upstream result".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidResult {
    /// It is no JSON object, or names a member twice.
    #[error("invalid upstream result: {0}")]
    Unreadable(#[from] MessageError),
    /// A member that has to be there is missing, or of the wrong type.
    #[error("invalid upstream result: no usable {0:?}")]
    Lacks(&'static str),
    /// One of the things that it asks for is no request that a client could answer.
    #[error("invalid upstream result: the input request {key:?} has no usable {lacks:?}")]
    InputRequest {
        /// Under which it is asked, cut off at 64 characters.
        key: String,
        /// The member that is missing, or of the wrong type.
        lacks: &'static str,
    },
    /// Its `resultType` is one that nobody knows here, or that this method may not have.
    #[error("invalid upstream result: resultType {0:?}")]
    Type(String),
}
