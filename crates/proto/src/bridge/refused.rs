//! Why something a client session wants is not done.

use bytes::Bytes;

use crate::bridge::envelope::LogLevel;
use crate::rpc::{Message, Object, RequestId, code, error_response, quoted};

/// `data.reason` of what a server says that means nothing, or cannot be translated (protocol notes 4.7).
pub(super) const INVALID: &str = "upstream_invalid";

/// `data.reason` of a parameter that the gateway has to read, or to repeat, and cannot.
pub(super) const INVALID_PARAMETER: &str = "invalid_parameter";

/// Why a client session cannot be attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// The upstream session is over.
    #[error("the upstream session is over")]
    Over,
    /// It is attached already.
    #[error("the client session is attached already")]
    Attached,
    /// The upstream session has as many client sessions as it may have; one, if it is not shared.
    #[error("the upstream session has all the client sessions it takes ({limit})")]
    Full {
        /// How many it may have.
        limit: usize,
    },
    /// A request that was cancelled may be running still: what the upstream says for its sake would be taken
    /// for a newcomer's. Use another upstream session.
    #[error("a cancelled request may be running still")]
    Settling,
    /// One principal has as many client sessions on the upstream session as it may have, so that something is
    /// left for others.
    #[error(
        "one principal has all the client sessions it may have on the upstream session ({limit})"
    )]
    FullOfOne {
        /// How many it may have.
        limit: usize,
    },
}

/// Why a client's message was not taken. Nothing was written to the upstream, and nothing of the
/// message is kept: the caller answers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The upstream session is over, or the client session is not attached to it: as a session that
    /// is gone.
    #[error("the session is over")]
    Over,
    /// A request with this id is running in the same client session (protocol notes 6.4).
    #[error("a request with this id is running already")]
    IdInUse,
    /// An id, progress token, task id or resource URI is longer than [`MAX_KEPT`](super::MAX_KEPT).
    #[error("an id, token or URI is longer than {limit} bytes")]
    TooLong {
        /// The most bytes of JSON text.
        limit: usize,
    },
    /// A progress token that is neither string nor integer, or a parameter that the gateway has to
    /// read and cannot.
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
    /// The upstream session has as many requests in flight as it may have: try later.
    #[error("too many requests are in flight ({limit})")]
    TooManyInFlight {
        /// How many it may have.
        limit: usize,
    },
    /// One principal has as many requests in flight as it may have, so that something is left for others: try
    /// later.
    #[error("too many requests of one principal are in flight ({limit})")]
    TooManyOfOne {
        /// How many it may have.
        limit: usize,
    },
    /// The client session is subscribed to as many resources as it may be.
    #[error("the session is subscribed to all the resources it may be ({limit})")]
    TooManySubscriptions {
        /// How many it may have.
        limit: usize,
    },
    /// The client session has not been initialized on this shared upstream session.
    #[error("the session is not initialized")]
    NotInitialized,
    /// The client session has been initialized, and is so once.
    #[error("the session is initialized already")]
    Initialized,
    /// The server's answer about itself cannot be used.
    #[error("what the upstream says of itself cannot be used")]
    InvalidUpstream,
    /// The client session asks for another revision than the shared upstream session was opened
    /// with: open another one.
    #[error("the upstream session was opened with another revision")]
    OtherRevision,
}

/// Why something that a client says cannot be kept. Each machine has its own words for a refusal, and all of
/// them have these.
#[derive(Debug)]
pub(super) enum Unusable {
    TooLong { limit: usize },
    InvalidParameter { parameter: &'static str },
}

impl From<Unusable> for Refused {
    fn from(unusable: Unusable) -> Self {
        match unusable {
            Unusable::TooLong { limit } => Self::TooLong { limit },
            Unusable::InvalidParameter { parameter } => Self::InvalidParameter { parameter },
        }
    }
}

impl Refused {
    /// The JSON-RPC code to answer with.
    #[must_use]
    pub fn code(&self) -> i32 {
        match self {
            Self::Over => code::SESSION_NOT_FOUND,
            Self::IdInUse | Self::TooLong { .. } | Self::NotInitialized | Self::Initialized => {
                code::INVALID_REQUEST
            }
            Self::InvalidParameter { .. } | Self::UnknownLevel { .. } => code::INVALID_PARAMS,
            Self::TooManyInFlight { .. }
            | Self::TooManyOfOne { .. }
            | Self::TooManySubscriptions { .. }
            | Self::InvalidUpstream
            | Self::OtherRevision => code::INTERNAL_ERROR,
        }
    }

    /// A stable word for `data.reason` (protocol notes 4.7).
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Over => "session_over",
            Self::IdInUse => "id_in_use",
            Self::TooLong { .. } => "id_too_long",
            Self::InvalidParameter { .. } | Self::UnknownLevel { .. } => INVALID_PARAMETER,
            Self::TooManyInFlight { .. } | Self::TooManyOfOne { .. } => "too_many_in_flight",
            Self::TooManySubscriptions { .. } => "too_many_subscriptions",
            Self::NotInitialized => "not_initialized",
            Self::Initialized => "initialized",
            Self::InvalidUpstream => INVALID,
            Self::OtherRevision => "other_revision",
        }
    }

    /// The error response to a refused request; `None` for a message that is no request.
    #[must_use]
    pub fn answer(&self, refused: &Message, upstream: &str) -> Option<Bytes> {
        refused.method()?;
        let id = refused.id()?;
        Some(gateway_error(
            id,
            self.code(),
            &self.to_string(),
            self.reason(),
            upstream,
        ))
    }
}

/// An error of the gateway's own, told from the server's by its data (protocol notes 4.7).
pub(super) fn gateway_error(
    id: &RequestId,
    code: i32,
    text: &str,
    reason: &str,
    upstream: &str,
) -> Bytes {
    let data = gateway_data(reason, upstream).into_bytes();
    error_response(Some(id), code, text, Some(&data))
}

/// The data of an error of the gateway's own.
pub(super) fn gateway_data(reason: &str, upstream: &str) -> Object {
    let mut data = Object::new();
    data.set("reason", quoted(reason));
    data.set("upstream", quoted(upstream));
    data
}
