//! Interceptors through the chain that the relay runs.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod access;
mod actions;
mod build;
mod failures;
mod fault;
mod headers;
mod log;
mod pin;
mod redact;
mod rules;
mod sanitize;
mod unknown;

use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use thinpipe_gateway::interceptor::{
    Action, Carrier, Chain, ChainConfig, ChainError, Direction, Interceptor, InterceptorConfig,
    Interest, MessageContext, Methods, Outcome, Rejection, Step,
};
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::Message;
use thinpipe_proto::session::Principal;

const TO_UPSTREAM: Direction = Direction::ToUpstream;
const TO_CLIENT: Direction = Direction::ToClient;

/// A configuration file, as far as interceptors are concerned.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    interceptors: Vec<InterceptorConfig>,
}

fn configs(toml: &str) -> Vec<InterceptorConfig> {
    toml::from_str::<File>(toml).unwrap().interceptors
}

fn try_chain(toml: &str) -> Result<Chain, ChainError> {
    Chain::build(&configs(toml), Vec::new(), &ChainConfig::default())
}

fn chain(toml: &str) -> Chain {
    try_chain(toml).unwrap()
}

fn custom(interceptor: impl Interceptor) -> Chain {
    Chain::build(&[], vec![Arc::new(interceptor)], &ChainConfig::default()).unwrap()
}

fn cx(direction: Direction, method: &str) -> MessageContext {
    MessageContext {
        direction,
        carrier: Carrier::Body,
        revision: Revision::V2025_11_25,
        upstream: "files".into(),
        principal: Principal::Anonymous,
        session: Some("4f0c21".into()),
        method: Some(method.into()),
        name: None,
        sequence: 0,
    }
}

fn named(direction: Direction, method: &str, name: &str) -> MessageContext {
    MessageContext {
        name: Some(name.into()),
        ..cx(direction, method)
    }
}

fn by(principal: &str, cx: MessageContext) -> MessageContext {
    MessageContext {
        principal: Principal::Named(principal.into()),
        ..cx
    }
}

fn message(text: &str) -> Message {
    Message::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

/// A call of a tool with these arguments.
fn call(tool: &str, arguments: &str) -> Message {
    message(&format!(
        r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments}}}}}"#
    ))
}

fn response(result: &str) -> Message {
    message(&format!(r#"{{"jsonrpc":"2.0","id":7,"result":{result}}}"#))
}

/// The outcome of a chain that answers at once.
fn run(chain: &Chain, cx: &MessageContext, message: &Message) -> Outcome {
    match chain.run(cx, message.clone()) {
        Step::Done(outcome) => outcome,
        Step::Wait(_) => panic!("the chain has to wait"),
    }
}

/// The outcome of a chain, whether or not it has to wait.
async fn finish(chain: &Chain, cx: &MessageContext, message: &Message) -> Outcome {
    match chain.run(cx, message.clone()) {
        Step::Done(outcome) => outcome,
        Step::Wait(outcome) => outcome.await,
    }
}

fn text(message: &Message) -> String {
    String::from_utf8(message.source().to_vec()).unwrap()
}

#[track_caller]
fn forwarded(outcome: Outcome) -> String {
    match outcome {
        Outcome::Forward(message) => text(&message),
        other => panic!("not forwarded: {other:?}"),
    }
}

#[track_caller]
fn changed(outcome: Outcome) -> String {
    match outcome {
        Outcome::Changed(message) => text(&message),
        other => panic!("not changed: {other:?}"),
    }
}

#[track_caller]
fn rejected(outcome: Outcome) -> Rejection {
    match outcome {
        Outcome::Rejected(rejection) => rejection,
        other => panic!("not rejected: {other:?}"),
    }
}

/// An interceptor made of a function, which wants everything.
struct Call<F>(&'static str, F);

impl<F> Interceptor for Call<F>
where
    F: Fn(&MessageContext, &Message) -> Action + Send + Sync + 'static,
{
    fn name(&self) -> &str {
        self.0
    }

    fn interest(&self) -> Interest {
        Interest {
            to_upstream: Methods::All,
            to_client: Methods::All,
            ..Interest::default()
        }
    }

    fn intercept(&self, cx: &MessageContext, message: &Message) -> Action {
        (self.1)(cx, message)
    }
}
