//! How an exchange came out, and what its client gets.

use std::time::Instant;

use bytes::Bytes;

use crate::bridge::clock::after;
use crate::bridge::downgrade::elicitation::UrlError;
use crate::bridge::downgrade::exchange::Client;
use crate::bridge::downgrade::{AttachmentId, Content, Downgrading, ExchangeId, UrlRequired};
use crate::bridge::notice::error_answer;
use crate::bridge::refused::{INVALID, gateway_error};
use crate::bridge::shape::{error_to_modern, result_to_modern};
use crate::rpc::{Message, RequestId, code, error_response, response};

/// How an exchange came out.
#[derive(Debug, Clone)]
pub(super) enum Outcome {
    /// The upstream's answer, as it came.
    Answered(Message),
    /// The result, put together here.
    Result(Bytes),
    /// An error of the gateway's own.
    Failed(Failure),
}

/// Why an exchange failed here (protocol notes 4.7).
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) code: i32,
    pub(super) status: u16,
    /// A stable word for `data.reason`.
    pub(super) reason: &'static str,
    pub(super) text: String,
}

impl Failure {
    pub(super) fn internal(status: u16, reason: &'static str, text: &str) -> Self {
        Self {
            code: code::INTERNAL_ERROR,
            status,
            reason,
            text: text.to_owned(),
        }
    }
}

impl Outcome {
    /// How much memory it holds.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Answered(message) => message.source().len(),
            Self::Result(result) => result.len(),
            Self::Failed(failure) => failure.text.len(),
        }
    }
}

impl Downgrading {
    /// Gives a client the outcome of its exchange.
    pub(super) fn answer(
        &mut self,
        exchange: ExchangeId,
        method: &str,
        client: &Client,
        outcome: &Outcome,
        now: Instant,
    ) {
        let content = match outcome {
            Outcome::Failed(failure) => self.failed(&client.id, failure),
            Outcome::Result(result) => self.result(method, client, result),
            Outcome::Answered(answer) => match (answer.result(), answer.error()) {
                (Some(result), _) => self.result(method, client, &result),
                (None, error) => self.error(exchange, client, &error.unwrap_or_default(), now),
            },
        };
        self.deliver(client.attachment, content);
    }

    fn result(&self, method: &str, client: &Client, result: &Bytes) -> Content {
        let info = self.phase.server_info();
        match result_to_modern(method, result, info, self.config.caching) {
            Ok(result) => Content::Response {
                message: response(&client.id, &result),
                status: 200,
            },
            Err(invalid) => {
                let text = invalid.to_string();
                self.failed(&client.id, &Failure::internal(200, INVALID, &text))
            }
        }
    }

    fn error(
        &mut self,
        exchange: ExchangeId,
        client: &Client,
        error: &Bytes,
        now: Instant,
    ) -> Content {
        let Some(required) = UrlError::of(error) else {
            let modern = error_to_modern(error, client.uri.as_deref());
            return Content::Response {
                message: error_answer(&client.id, &modern.error),
                status: modern.status,
            };
        };
        if !client.abilities.url {
            let data = b"{\"requiredCapabilities\":{\"elicitation\":{\"url\":{}}}}";
            let text = "this needs the client capability elicitation.url";
            let (id, code) = (Some(&client.id), code::MISSING_CAPABILITY);
            let message = error_response(id, code, text, Some(data));
            return Content::Response {
                message,
                status: 400,
            };
        }
        let until = after(now, self.config.limits.parked_age);
        if !self.phase.is_over() {
            self.wake_at(until);
            let ids = required.ids();
            ids.into_iter()
                .for_each(|id| self.completions.expect(id, until));
        }
        Content::UrlRequired(UrlRequired {
            exchange,
            id: client.id.clone(),
            elicitations: required.ids(),
            requests: required.into_requests(),
            server_info: self.server_info(),
        })
    }

    pub(super) fn server_info(&self) -> Option<Bytes> {
        self.phase.server_info().cloned()
    }

    fn failed(&self, id: &RequestId, failure: &Failure) -> Content {
        let Failure {
            code,
            status,
            reason,
            text,
        } = failure;
        let message = gateway_error(id, *code, text, reason, &self.config.upstream);
        Content::Response {
            message,
            status: *status,
        }
    }

    /// Ends a POST that has no exchange with an error of the gateway's own.
    pub(super) fn refuse_post(
        &mut self,
        attachment: AttachmentId,
        id: &RequestId,
        failure: &Failure,
    ) {
        let content = self.failed(id, failure);
        self.deliver(attachment, content);
    }
}
