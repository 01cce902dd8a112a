//! Why a request of a client is not taken.

use bytes::Bytes;

use crate::bridge::capabilities::TASKS_EXTENSION;
use crate::bridge::envelope::LogLevel;
use crate::bridge::refused::{INVALID_PARAMETER, Unusable, gateway_data, gateway_error};
use crate::rpc::{Message, code, error_response};

/// Why a request was not taken. Nothing was written to the upstream, and nothing of the request is kept:
/// the caller answers, or gives it to another session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The session is over, or takes no requests any more: another one does.
    #[error("the upstream session is over")]
    Over,
    /// The session cannot take a request now that its server may ask its client something
    /// ([`Downgrading::admits`](super::Downgrading::admits)): another session can.
    #[error("another request that may be asked for input is running on the upstream session")]
    Busy,
    /// The session has as many requests in flight as it may have: another session, or later.
    #[error("too many requests are in flight ({limit})")]
    TooManyInFlight {
        /// How many it may have.
        limit: usize,
    },
    /// The session has as many listens, or listened-to resources, as it may have.
    #[error("too many listens or resources are open ({limit})")]
    TooManyListens {
        /// How many it may have.
        limit: usize,
    },
    /// An id, token or URI is longer than [`MAX_KEPT`](crate::bridge::MAX_KEPT).
    #[error("an id, token or URI is longer than {limit} bytes")]
    TooLong {
        /// The most bytes of JSON text.
        limit: usize,
    },
    /// A parameter that the gateway has to read and cannot.
    #[error("invalid parameter \"{parameter}\"")]
    InvalidParameter {
        /// Its name.
        parameter: &'static str,
    },
    /// A level that is none.
    #[error("invalid parameter \"{parameter}\": it is one of {}", LogLevel::NAMES)]
    UnknownLevel {
        /// The name of the parameter.
        parameter: &'static str,
    },
    /// A listen names tasks, and its client has not declared that it knows what they are (protocol notes 2.3.7).
    #[error("\"taskIds\" needs the client capability extensions.io.modelcontextprotocol/tasks")]
    TasksUndeclared,
}

impl Refused {
    /// The JSON-RPC code to answer with.
    #[must_use]
    pub fn code(&self) -> i32 {
        match self {
            Self::TooLong { .. } => code::INVALID_REQUEST,
            Self::InvalidParameter { .. } | Self::UnknownLevel { .. } => code::INVALID_PARAMS,
            Self::TasksUndeclared => code::MISSING_CAPABILITY,
            Self::Over
            | Self::Busy
            | Self::TooManyInFlight { .. }
            | Self::TooManyListens { .. } => code::INTERNAL_ERROR,
        }
    }

    /// The HTTP status to answer with. With 503 goes `Retry-After`.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::TooLong { .. } | Self::TasksUndeclared => 400,
            Self::InvalidParameter { .. }
            | Self::UnknownLevel { .. }
            | Self::TooManyListens { .. } => 200,
            Self::Over | Self::Busy | Self::TooManyInFlight { .. } => 503,
        }
    }

    /// A stable word for `data.reason` (protocol notes 4.7).
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Over => "session_over",
            Self::Busy => "session_busy",
            Self::TooManyInFlight { .. } => "too_many_in_flight",
            Self::TooManyListens { .. } => "too_many_listens",
            Self::TooLong { .. } => "id_too_long",
            Self::InvalidParameter { .. } | Self::UnknownLevel { .. } => INVALID_PARAMETER,
            Self::TasksUndeclared => "capability_missing",
        }
    }

    /// The error response to a refused request.
    #[must_use]
    pub fn answer(&self, refused: &Message, upstream: &str) -> Option<Bytes> {
        let id = refused.id()?;
        let (code, text) = (self.code(), self.to_string());
        let required = match self {
            Self::TasksUndeclared => format!(r#"{{"extensions":{{"{TASKS_EXTENSION}":{{}}}}}}"#),
            _ => return Some(gateway_error(id, code, &text, self.reason(), upstream)),
        };
        let mut data = gateway_data(self.reason(), upstream);
        data.set("requiredCapabilities", required);
        Some(error_response(
            Some(id),
            code,
            &text,
            Some(&data.into_bytes()),
        ))
    }
}

impl From<Unusable> for Refused {
    fn from(unusable: Unusable) -> Self {
        match unusable {
            Unusable::TooLong { limit } => Self::TooLong { limit },
            Unusable::InvalidParameter { parameter } => Self::InvalidParameter { parameter },
        }
    }
}

/// Why a retry was not taken. Nothing has changed, and the client gets `-32602` with this text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RetryError {
    /// Nothing waits for it: its exchange is gone, was answered by another retry, or is in another round.
    #[error("requestState invalid or expired")]
    Stale,
    /// What it answers is no answer. The call waits on: the next retry with the same state may answer.
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
}

/// An answer that cannot be the result of what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the answer to \"{key}\" in \"inputResponses\" cannot be taken: {why}")]
pub struct Unanswered {
    /// The key of the question.
    pub key: String,
    /// What an answer has to be, for people.
    pub why: &'static str,
}
