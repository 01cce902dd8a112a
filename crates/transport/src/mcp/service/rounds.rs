//! One request and its handler: called, and called again with what the client was asked in between.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde_json::{Map, Value, json};
use thinpipe_proto::bridge::shape::is_round_method;
use thinpipe_proto::rpc::{Message, RequestId};

use super::Service;
use crate::mcp::call::{Ended, guarded};
use crate::mcp::context::{Context, Input};
use crate::mcp::handler::{InputRequest, MessageHandler, Outcome, Request};
use crate::mcp::session::SessionState;
use crate::mcp::shape::Response;
use crate::mcp::{RpcError, params};

/// How often a handler may ask again before a call in a session ends with an error.
const MAX_ROUNDS: usize = 10;

/// How long a client may take to answer a question of a round.
const ANSWER_WAIT: Duration = Duration::from_secs(300);

/// A request that is about to be answered, with where it came from.
pub(super) struct Call {
    pub(super) message: Message,
    pub(super) id: RequestId,
    pub(super) context: Context,
}

impl<H: MessageHandler> Service<H> {
    /// Answers a request over its outlet; the status counts if the answer is no event stream.
    pub(super) async fn work(self: Arc<Self>, call: Call) -> StatusCode {
        // What the handler started beside itself hears that it is over, however it is.
        let _over = call.context.cancelled().clone().drop_guard();
        let state = call.context.session();
        let state = state.and_then(|session| SessionState::of(session, &self.conversation));
        let _running = state.map(|state| state.begin(&call.id, call.context.cancelled()));
        let revision = call.context.revision();
        let response = match self.outcome(&call).await {
            Ok(response) => response,
            Err(Ended::Cancelled) => {
                if let Some(outlet) = call.context.outlet() {
                    outlet.close();
                }
                return StatusCode::OK;
            }
            Err(ended) => {
                let method = call.message.method().unwrap_or_default();
                tracing::error!(method, ?ended, "a handler did not answer");
                Response::error(&call.id, &failure(ended), revision)
            }
        };
        let status = response.status;
        if let Some(outlet) = call.context.outlet()
            && outlet.respond(response.message).await.is_err()
        {
            tracing::debug!("the client left before its answer");
        }
        status
    }

    async fn outcome(&self, call: &Call) -> Result<Response, Ended> {
        let revision = call.context.revision();
        let method = call.message.method().unwrap_or_default();
        let shape = self.shape(revision, method);
        let refused = |error: &RpcError| Response::error(&call.id, error, revision);
        let mut context = match self.first_context(call) {
            Ok(context) => context,
            Err(error) => return Ok(refused(&error)),
        };
        for _ in 0..MAX_ROUNDS {
            let request = Request::new(call.message.clone());
            let asked = context.clone();
            // Within the future, so that a panic before its first await is contained too.
            let handled = pin!(async { self.handler.request(request, asked).await });
            match guarded(handled, &call.context, self.patience).await? {
                Ok(Outcome::Result(result)) => return Ok(shape.complete(&call.id, result)),
                Ok(Outcome::Text(result)) => return Ok(shape.complete_text(&call.id, &result)),
                Err(error) => return Ok(refused(&error)),
                Ok(Outcome::InputRequired { requests, state }) => {
                    if let Err(error) = self.may_ask(method, &context, requests.values()) {
                        return Ok(refused(&error));
                    }
                    if revision.is_modern() {
                        let result = input_required(&requests, state);
                        return Ok(shape.complete(&call.id, result));
                    }
                    let asking = Box::pin(ask_all(&context, requests));
                    let cancelled = call.context.cancelled();
                    // Cancel-safe: what is dropped here is dropped for good.
                    let answers = cancelled.run_until_cancelled(asking).await;
                    match answers.ok_or(Ended::Cancelled)? {
                        Ok(responses) => context = context.with_input(Input { responses, state }),
                        Err(error) => return Ok(refused(&error)),
                    }
                }
            }
        }
        let text = format!("the server asked {MAX_ROUNDS} times without coming to an answer");
        Ok(refused(&RpcError::internal(text)))
    }

    /// The context with what the client gave with the request (2026-07-28), headers checked.
    fn first_context(&self, call: &Call) -> Result<Context, RpcError> {
        if !call.context.revision().is_modern() {
            return Ok(call.context.clone());
        }
        let member = |name: &str| -> Option<Value> {
            serde_json::from_slice(&call.message.param(name)?).ok()
        };
        if call.message.method() == Some("tools/call")
            && let Some(name) = call.message.param_text("name")
            && let Some(schema) = self.handler.tool_schema(&name)
        {
            let arguments = member("arguments").unwrap_or_default();
            params::check(call.context.headers(), schema, &arguments)?;
        }
        let responses = match member("inputResponses") {
            None => Map::new(),
            Some(Value::Object(responses)) if responses.values().all(Value::is_object) => responses,
            Some(_) => {
                let text = "inputResponses is not an object of objects";
                return Err(RpcError::invalid_params(text));
            }
        };
        let state = call.message.param_str("requestState");
        Ok(call.context.with_input(Input { responses, state }))
    }

    /// Whether this may be asked in answer to this method, and this client.
    fn may_ask<'a>(
        &self,
        method: &str,
        context: &Context,
        mut requests: impl Iterator<Item = &'a InputRequest>,
    ) -> Result<(), RpcError> {
        if !is_round_method(method) {
            tracing::error!(
                method,
                "only tools, prompts and resources may require input"
            );
            return Err(RpcError::internal("this request cannot require input"));
        }
        let undeclared = requests.find_map(|request| context.undeclared(request));
        undeclared.map_or(Ok(()), |required| {
            Err(RpcError::missing_capability(required))
        })
    }
}

/// Asks all questions of a round, one after the other: it is one person who answers.
async fn ask_all(
    context: &Context,
    requests: BTreeMap<String, InputRequest>,
) -> Result<Map<String, Value>, RpcError> {
    let mut answers = Map::new();
    for (key, request) in requests {
        answers.insert(key, context.ask(&request, ANSWER_WAIT).await?);
    }
    Ok(answers)
}

/// The result that asks for input (2026-07-28).
fn input_required(requests: &BTreeMap<String, InputRequest>, state: Option<String>) -> Value {
    let entry = |(key, request): (&String, &InputRequest)| {
        let request = json!({ "method": request.method, "params": request.params });
        (key.clone(), request)
    };
    let requests: Map<String, Value> = requests.iter().map(entry).collect();
    let mut result = json!({ "resultType": "input_required" });
    if !requests.is_empty() {
        result["inputRequests"] = Value::Object(requests);
    }
    if let Some(state) = state {
        result["requestState"] = state.into();
    }
    result
}

fn failure(ended: Ended) -> RpcError {
    match ended {
        Ended::TimedOut => {
            let text = "the server did not answer in time; the call may have run";
            RpcError::internal(text).reason("request_timeout")
        }
        Ended::Panicked | Ended::Cancelled => {
            let text = "the server failed while it answered; the call may have run";
            RpcError::internal(text).reason("handler_failed")
        }
    }
}
