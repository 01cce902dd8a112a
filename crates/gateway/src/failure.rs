//! What the gateway itself says to a client when something failed: one place, so that it can never be
//! mistaken for the server's own word (`data.reason`, `data.upstream`).

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, StatusCode};
use thinpipe_proto::rpc::{self, RequestId, code};
use thinpipe_proto::shown::Shown;
use thinpipe_proto::sse;
use thinpipe_transport::server::Answer;
use thinpipe_transport::upstream::UpstreamError;
use thinpipe_transport::upstream::pipe::PipeError;

use crate::interceptor::Rejection;

/// A failure, with the stable name clients see in `data.reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// No connection, or the health checks say there will be none.
    Unavailable,
    /// No answer in time.
    Timeout,
    /// The answer broke off; whether the call ran to its end is not known.
    StreamLost,
    /// The upstream wants other credentials.
    Auth,
    /// The upstream answered something that is not MCP.
    Invalid,
    /// The answer is larger than what may be read or passed.
    TooLarge,
    /// The last starts of the upstream failed, or the last requests to it: it is not tried again at once.
    Paused,
    /// All connections to the upstream, or all its children, are taken.
    Overloaded,
    /// The answer has to be held whole, and there is no room for it: the call may have run.
    BufferFull,
    /// All event streams of the upstream are taken, and the answer is one: the call may have run.
    TooManyStreams,
    /// The upstream is not at the configured URL.
    NotFound,
    /// Client and server speak different bindings.
    Binding,
    /// The gateway shuts down.
    ShuttingDown,
    /// An interceptor failed over the headers.
    Interceptor,
    /// The upstream session that a request was on is gone, and no other one took it.
    SessionLost,
    /// A call waited for its client in a process that has ended.
    ExchangeLost,
    /// The session has ended: to a client of a session 404 means this one thing only.
    SessionGone,
    /// Standalone streams of one session replace each other too fast.
    Contended,
    /// Nobody knows what came after this event.
    UnknownEvent,
    /// A server gives its client more to keep than can be sealed.
    StateTooLong,
    /// An argument of a call has to be repeated in a header, and cannot be.
    InvalidParameter,
    /// As many calls wait for their clients as may: this client is not asked.
    TooManyParked,
    /// A server asks for so much that is refused that its refusals cannot be sent as fast.
    TooManyRequests,
    /// What nodes share cannot be reached.
    StoreUnavailable,
    /// There were too many messages in their time.
    RateLimited,
}

impl Reason {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable | Self::Paused => "upstream_unavailable",
            Self::Timeout => "upstream_timeout",
            Self::StreamLost => "upstream_stream_lost",
            Self::Auth => "upstream_auth",
            Self::Invalid => "upstream_invalid",
            Self::TooLarge => "message_too_large",
            Self::Overloaded => "upstream_overloaded",
            Self::BufferFull => "buffer_full",
            Self::TooManyStreams => "too_many_streams",
            Self::NotFound => "upstream_not_found",
            Self::Binding => "binding_mismatch",
            Self::ShuttingDown => "shutting_down",
            Self::Interceptor => "interceptor_failed",
            Self::SessionLost => "session_lost",
            Self::ExchangeLost => "exchange_lost",
            Self::SessionGone => "session_not_found",
            Self::Contended => "stream_contended",
            Self::UnknownEvent => "event_not_found",
            Self::StateTooLong => "state_too_long",
            Self::InvalidParameter => "invalid_parameter",
            Self::TooManyParked => "too_many_parked",
            Self::TooManyRequests => "too_many_server_requests",
            Self::StoreUnavailable => "session_store_unavailable",
            Self::RateLimited => "rate_limited",
        }
    }

    fn code(self) -> i32 {
        match self {
            Self::SessionGone => code::SESSION_NOT_FOUND,
            Self::Contended => code::SERVER_ERROR,
            Self::UnknownEvent => code::INVALID_REQUEST,
            Self::InvalidParameter => code::INVALID_PARAMS,
            _ => code::INTERNAL_ERROR,
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Overloaded | Self::Paused | Self::ShuttingDown | Self::StoreUnavailable => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Binding | Self::UnknownEvent => StatusCode::BAD_REQUEST,
            Self::Interceptor => StatusCode::INTERNAL_SERVER_ERROR,
            Self::SessionGone => StatusCode::NOT_FOUND,
            Self::Contended => StatusCode::CONFLICT,
            Self::InvalidParameter => StatusCode::OK,
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::BAD_GATEWAY,
        }
    }
}

/// A failure on its way to a client.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) reason: Reason,
    pub(crate) text: String,
    /// When a client may come back, if the status says that it may: seconds.
    retry_after: u64,
}

impl Failure {
    /// A text may quote what a server sent, and goes to logs, terminals and models.
    pub(crate) fn new(reason: Reason, text: impl AsRef<str>) -> Self {
        Self {
            reason,
            text: Shown::new(text.as_ref(), MAX_TEXT).to_string(),
            retry_after: 1,
        }
    }

    /// The upstream may be tried again after this.
    pub(crate) fn paused(text: impl AsRef<str>, pause: Duration) -> Self {
        Self {
            retry_after: whole_seconds(pause),
            ..Self::new(Reason::Paused, text)
        }
    }

    /// A client may come again after this.
    pub(crate) fn rate_limited(text: impl AsRef<str>, wait: Duration) -> Self {
        Self {
            retry_after: whole_seconds(wait),
            ..Self::new(Reason::RateLimited, text)
        }
    }

    /// The client's session has ended, because its upstream's has.
    pub(crate) fn session_gone() -> Self {
        let text = "the session has ended; send initialize to start anew";
        Self::new(Reason::SessionGone, text)
    }

    /// Several standalone streams of one session want to be the one there can be.
    pub(crate) fn contended() -> Self {
        let text = "several clients open this session's stream in turn; only one can have it";
        Self::new(Reason::Contended, text)
    }

    /// The stream that a client wants to resume is lost with the upstream's session; its own goes on.
    pub(crate) fn unknown_event() -> Self {
        let text = "the server has lost the stream of this event; the session goes on without it";
        Self::new(Reason::UnknownEvent, text)
    }

    fn may_have_run(reason: Reason, error: &dyn std::error::Error) -> Self {
        Self::new(reason, with_causes(error) + "; the call may have run")
    }

    /// A message has to be held, and there is no room for it.
    pub(crate) fn no_room(error: &dyn std::error::Error) -> Self {
        let text = format!("{error}; the call may have run");
        Self::new(Reason::BufferFull, text)
    }

    /// The HTTP status of its answer.
    pub(crate) fn status(&self) -> StatusCode {
        self.reason.status()
    }

    /// An answer exceeds what the client may be sent in one message.
    pub(crate) fn too_large_for_client(limit: usize) -> Self {
        let text = format!("a message exceeds {limit} bytes; the call may have run");
        Self::new(Reason::TooLarge, text)
    }

    /// Before the response's head is committed: a status, and a JSON-RPC error as body.
    pub(crate) fn answer(&self, id: Option<&RequestId>, upstream: &str) -> Answer {
        let data = self.data(upstream);
        let status = self.reason.status();
        let code = self.reason.code();
        let mut answer = Answer::error(status, id, code, &self.text, Some(&data));
        if matches!(status.as_u16(), 429 | 503) {
            let value = HeaderValue::from(self.retry_after);
            answer.headers.insert(http::header::RETRY_AFTER, value);
        }
        answer
    }

    /// In the place of an answer with this status.
    pub(crate) fn answer_as(
        &self,
        status: StatusCode,
        id: Option<&RequestId>,
        upstream: &str,
    ) -> Answer {
        let mut answer = self.answer(id, upstream);
        answer.status = status;
        answer
    }

    /// The same as 503, for an upstream that is known to be down, and by which `cause`.
    pub(crate) fn unhealthy(id: Option<&RequestId>, upstream: &str, cause: &str) -> Answer {
        let text = format!("{upstream} does not answer its health checks: {cause}");
        let mut answer = Self::new(Reason::Unavailable, text).answer(id, upstream);
        answer.status = StatusCode::SERVICE_UNAVAILABLE;
        answer
            .headers
            .insert(http::header::RETRY_AFTER, HeaderValue::from_static("2"));
        answer
    }

    /// After commit: the error as an event in band.
    pub(crate) fn event(&self, id: &RequestId, upstream: &str) -> Bytes {
        let mut event = BytesMut::new();
        sse::encode(
            &mut event,
            None,
            None,
            None,
            Some(&self.message(Some(id), upstream)),
        );
        event.freeze()
    }

    /// The JSON-RPC error.
    pub(crate) fn message(&self, id: Option<&RequestId>, upstream: &str) -> Bytes {
        let data = self.data(upstream);
        let code = self.reason.code();
        rpc::error_response(id, code, &self.text, Some(data.as_bytes()))
    }

    fn data(&self, upstream: &str) -> String {
        let mut data = serde_json::json!({ "reason": self.reason.as_str(), "upstream": upstream });
        if self.reason == Reason::RateLimited {
            // Clients whose SDK shows them no headers are to know it, too.
            data["retry_after"] = self.retry_after.into();
        }
        data.to_string()
    }
}

/// Rounded up: never too early.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

impl From<&UpstreamError> for Failure {
    fn from(error: &UpstreamError) -> Self {
        let reason = match error {
            UpstreamError::Lost { .. } => return Self::may_have_run(Reason::StreamLost, error),
            UpstreamError::TooManyStreams { .. } => {
                return Self::may_have_run(Reason::TooManyStreams, error);
            }
            UpstreamError::TimedOut { .. } => Reason::Timeout,
            UpstreamError::Exhausted { .. } => Reason::Overloaded,
            UpstreamError::Malformed { .. } | UpstreamError::Redirect { .. } => Reason::Invalid,
            _ => Reason::Unavailable,
        };
        Self::new(reason, with_causes(error))
    }
}

impl From<&PipeError> for Failure {
    fn from(error: &PipeError) -> Self {
        let reason = match error {
            PipeError::Upstream(error) => return Self::from(error),
            // Who is too busy has not begun. Of other failures nobody knows how far it has come.
            PipeError::Refused { status, .. }
                if status.is_server_error() && status.as_u16() != 503 =>
            {
                return Self::may_have_run(Reason::Unavailable, error);
            }
            PipeError::Spawn { .. } | PipeError::Guard { .. } => Reason::Unavailable,
            PipeError::Refused { status, .. } | PipeError::NotAStream { status, .. } => {
                match status.as_u16() {
                    401 | 403 => Reason::Auth,
                    404 => Reason::NotFound,
                    429 | 503 => Reason::Overloaded,
                    500.. => Reason::Unavailable,
                    _ => Reason::Invalid,
                }
            }
            PipeError::NoEndpoint { .. } => Reason::Timeout,
            PipeError::NotAnEndpoint { .. } | PipeError::BadEndpoint { .. } => Reason::Invalid,
            PipeError::Noise { .. } => Reason::Invalid,
            PipeError::TooLarge { .. } => Reason::TooLarge,
            PipeError::NoRoom { .. } => Reason::BufferFull,
            _ => Reason::StreamLost,
        };
        Self::new(reason, with_causes(error))
    }
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        Self::new(Reason::Interceptor, rejection.message)
    }
}

/// Of each text, and of each cause in it, so many bytes are said: a cause does not push out what follows.
const MAX_TEXT: usize = 4000;
const MAX_CAUSE: usize = 400;

/// The error and what caused it, on one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        let inner_text = inner.to_string();
        text.push_str(&Shown::new(&inner_text, MAX_CAUSE).to_string());
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E11: a cause may quote what a server sent (the names in its certificate).
    #[test]
    fn e11_causes_are_one_line_of_visible_text() {
        let quoted = format!("names \u{9b}31m\n\u{202e}{}", "x".repeat(5000));
        let error = UpstreamError::Connect {
            upstream: "u".into(),
            source: std::io::Error::other(quoted),
        };
        let text = Failure::from(&error).text;
        assert!(text.contains(r": names \u{9b}31m\n\u{202e}x"), "{text}");
        assert!(text.len() < 500, "{text}");
        let text = Failure::new(Reason::Invalid, "\u{202e}".repeat(9000)).text;
        assert!(text.starts_with("\\u{202e}") && text.ends_with("… (27000 bytes)"));
    }

    /// H5: what may have run invites no retry.
    #[test]
    fn h5_a_stream_without_room_invites_no_retry() {
        let error = UpstreamError::TooManyStreams {
            upstream: "u".into(),
            limit: 1,
        };
        let failure = Failure::from(&error);
        assert!(failure.text.ends_with("the call may have run"));
        let answer = failure.answer(None, "u");
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
        assert!(!answer.headers.contains_key(http::header::RETRY_AFTER));
    }
}
