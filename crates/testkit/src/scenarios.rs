//! What a gateway must do, one function each.
//!
//! Every scenario takes the gateway's URL and the [`Upstream`] behind it, and panics if the gateway does
//! not do what it must. It expects a gateway with default settings unless its documentation says
//! otherwise, in front of an upstream that was just started: one gateway and one upstream for each
//! scenario. The rows of the requirements that it shows are named on it.
//!
//! ```no_run
//! # async fn gateway_in_front_of(_: &str) -> String { String::new() }
//! # async fn example() {
//! use thinpipe_testkit::{Upstream, scenarios};
//!
//! let upstream = Upstream::start().await;
//! let gateway: String = gateway_in_front_of(upstream.url()).await;
//! scenarios::relay::event_arrives_before_stream_ends(&gateway, &upstream).await;
//! # }
//! ```
//!
//! What a gateway itself says is a JSON-RPC error with the request's id, code -32603 and
//! `data: {"reason": .., "upstream": ..}`; scenarios that look for it name the reasons they accept.

pub mod failures;
pub mod flow;
pub mod headers;
pub mod leaving;
pub mod relay;
pub mod resume;
pub mod sessions;
pub mod standalone;

use serde_json::Value;

use crate::client::Client;
use crate::event::Event;
use crate::rpc;
use crate::upstream::Upstream;

/// The newest revision with sessions.
const NEWEST: &str = rpc::LEGACY[0];

/// A client of the gateway in a session of the newest revision that has them.
async fn in_session(gateway: &str) -> Client {
    let mut client = Client::new(gateway);
    client.initialize(NEWEST).await;
    client
}

/// As [`in_session`], with an upstream whose events have ids.
async fn in_session_with_ids(gateway: &str, upstream: &Upstream) -> Client {
    upstream.set(|behaviour| behaviour.event_ids = true);
    in_session(gateway).await
}

/// The upstream's id of the session that was opened last.
#[track_caller]
fn last_session(upstream: &Upstream) -> String {
    upstream.sessions().pop().expect("a session was opened")
}

/// A notification of about a thousand bytes.
fn filler() -> Event {
    Event::message(rpc::notification(
        "x",
        &serde_json::json!({"p": "x".repeat(950)}),
    ))
}

/// That an answer is the gateway's own error, for this request, for one of these reasons.
#[track_caller]
fn assert_own_error(answer: &Value, id: impl Into<Value>, reasons: &[&str]) {
    let (id, error) = (id.into(), &answer["error"]);
    assert_eq!(answer["jsonrpc"], "2.0", "{answer}");
    assert_eq!(answer["id"], id, "the id of the request in {answer}");
    assert_eq!(error["code"], -32603, "the code in {answer}");
    assert!(error["message"].is_string(), "a message in {answer}");
    let reason = error["data"]["reason"].as_str().unwrap_or_default();
    assert!(reasons.contains(&reason), "one of {reasons:?} in {answer}");
    let name = error["data"]["upstream"].as_str().unwrap_or_default();
    assert!(!name.is_empty(), "the name of the upstream in {answer}");
}

/// That a refusal is the gateway's own, for this reason.
#[track_caller]
fn assert_refusal(answer: &Value, reason: &str) {
    let data = &answer["error"]["data"];
    assert_eq!(data["reason"], reason, "the reason in {answer}");
    let name = data["upstream"].as_str().unwrap_or_default();
    assert!(!name.is_empty(), "the name of the upstream in {answer}");
}

/// A stream of so many events with ids `NAME-0`, `NAME-1` and so on; the last one is the response.
fn numbered(name: &str, count: usize) -> Vec<Event> {
    let mut events: Vec<_> = (1..count)
        .map(|step| Event::message(rpc::progress(step, count)))
        .collect();
    events.push(Event::message(rpc::text_result("done")));
    for (index, event) in events.iter_mut().enumerate() {
        event.id = Some(format!("{name}-{index}"));
    }
    events
}

/// That these are the events of [`numbered`], each once and in order, priming events aside.
#[track_caller]
fn assert_numbered(events: &[Event], name: &str, count: usize, id: impl Into<Value>) {
    let ids: Vec<_> = events
        .iter()
        .filter(|event| event.has_message())
        .filter_map(|event| event.id.clone())
        .collect();
    let expected: Vec<_> = (0..count).map(|index| format!("{name}-{index}")).collect();
    assert_eq!(ids, expected, "every event once and in order");
    let last = events.last().map(Event::json).unwrap_or_default();
    assert_eq!(
        (&last["id"], last["result"].is_object()),
        (&id.into(), true),
        "the response: {last}"
    );
}
