//! Servers that fail, change, or are not there.

use std::time::Duration;

use serde_json::json;
use thinpipe_gateway::Reached;
use thinpipe_testkit::{Client, Cut, Era, Gate, Outcome, Script, eventually, rpc};

use crate::client::{Binding, Caller};
use crate::front::Front;
use crate::over_both_bindings;

over_both_bindings! {
    /// Protocol notes 5.3, row "upstream stream lost": once more for what reads, an error for what may have run.
    a_lost_stream_is_repeated_only_if_it_reads,
    /// R250: a call that takes too long is closed, and answered with an error.
    r250_a_call_without_an_answer_times_out,
    /// R250, `stream_idle`: what is answered by an event stream may be silent for as long as that may.
    r250_a_stream_may_be_silent_for_longer,
    /// Protocol notes 5.3: -32020 is tried once more with fresh schemas.
    a_header_mismatch_is_tried_once_more,
    /// Protocol notes 4.7: the end of the process answers what is open.
    a_shutdown_answers_what_is_open,
}

mod scenario {
    use super::*;

    pub(super) async fn a_lost_stream_is_repeated_only_if_it_reads(binding: Binding) {
        let front = Front::start().await;
        let mut caller = Caller::begin(&front, binding).await;
        let broken = || Script::events().read_by_peer().cut(Cut::Reset);
        front.upstream.once("resources/list", broken());
        let listed = caller.result(1, "resources/list", json!({})).await;
        assert!(listed["resources"].is_array());
        assert_eq!(front.upstream.requests("resources/list").len(), 2);
        front.upstream.once("tools/call:echo", broken());
        let answer = caller.answer(rpc::call(2, "echo")).await;
        assert_eq!(
            answer["error"]["data"]["reason"], "upstream_stream_lost",
            "{answer}"
        );
        assert_eq!(front.upstream.requests("tools/call:echo").len(), 1);
        let answer = caller.answer(rpc::call(3, "echo")).await;
        assert!(answer["result"].is_object(), "the session goes on");
    }

    pub(super) async fn r250_a_call_without_an_answer_times_out(binding: Binding) {
        let change = |spec: &mut thinpipe_gateway::UpstreamSpec| {
            if let Reached::Http(http) = &mut spec.reached {
                http.client.request_timeout = Duration::from_millis(300);
                http.client.stream_idle_timeout = Duration::from_millis(300);
            }
        };
        let front = Front::with(change, |_| {}).await;
        let mut caller = Caller::begin(&front, binding).await;
        let stall = Script::events().message(rpc::progress(1, 2)).stall();
        front.upstream.on("tools/call:echo", stall);
        let mut asked = caller.ask(rpc::call(7, "echo")).await;
        let answer = loop {
            let message = caller.next(&mut asked).await;
            if message["id"] == 7 {
                break message;
            }
        };
        assert_eq!(
            answer["error"]["data"]["reason"], "upstream_timeout",
            "{answer}"
        );
        let is_closed = |record: &thinpipe_testkit::Record| {
            record.outcome("tools/call:echo") == Some(Outcome::Cancelled)
        };
        front.upstream.wait_until(is_closed).await;
    }

    pub(super) async fn r250_a_stream_may_be_silent_for_longer(binding: Binding) {
        let change = |spec: &mut thinpipe_gateway::UpstreamSpec| {
            if let Reached::Http(http) = &mut spec.reached {
                http.client.request_timeout = Duration::from_millis(300);
            }
        };
        let front = Front::with(change, |_| {}).await;
        let mut caller = Caller::begin(&front, binding).await;
        let gate = Gate::new();
        let streamed = Script::events()
            .read_by_peer()
            .wait(&gate)
            .message(rpc::text_result("done"));
        front.upstream.on("tools/call:echo", streamed);
        front.upstream.on("tools/call:silent", Script::silent());
        let mut asked = caller.ask(rpc::call(7, "echo")).await;
        gate.reached().await;
        // It begins later, and its time is over.
        let mut late = caller.ask(rpc::call(8, "silent")).await;
        let cut = caller.next(&mut late).await;
        assert_eq!(cut["id"], 8, "{cut}");
        assert_eq!(cut["error"]["data"]["reason"], "upstream_timeout", "{cut}");
        gate.open();
        let answer = caller.next(&mut asked).await;
        assert_eq!(answer["id"], 7, "{answer}");
        assert_eq!(answer["result"]["content"][0]["text"], "done", "{answer}");
    }

    pub(super) async fn a_header_mismatch_is_tried_once_more(binding: Binding) {
        let front = Front::start().await;
        let mut caller = Caller::begin(&front, binding).await;
        caller.result(1, "tools/list", json!({})).await;
        front
            .upstream
            .once("tools/call:echo", Script::error(400, -32020, "headers"));
        let answer = caller.answer(rpc::call(2, "echo")).await;
        assert!(answer["result"].is_object(), "{answer}");
        assert_eq!(front.upstream.requests("tools/list").len(), 2);
        front
            .upstream
            .on("tools/call:echo", Script::error(400, -32020, "headers"));
        let answer = caller.answer(rpc::call(3, "echo")).await;
        assert_eq!(answer["error"]["code"], -32603, "{answer}");
        assert_eq!(front.upstream.requests("tools/call:echo").len(), 4);
    }

    pub(super) async fn a_shutdown_answers_what_is_open(binding: Binding) {
        let hasty = |config: &mut thinpipe_transport::server::ServerConfig| {
            config.limits.drain = Duration::from_millis(100);
        };
        let front = Front::with(|_| {}, hasty).await;
        let stall = Script::events().message(rpc::progress(1, 2)).stall();
        front.upstream.on("tools/call:echo", stall);
        let mut caller = Caller::begin(&front, binding).await;
        caller.listen().await;
        let mut asked = caller.ask(rpc::call(7, "echo")).await;
        let progress = caller.next(&mut asked).await;
        assert_eq!(progress["method"], "notifications/progress");
        let ending = async {
            front.server.shut_down().await;
            front.gateway.finish().await;
        };
        let ((), answer) = tokio::join!(ending, caller.next(&mut asked));
        assert_eq!(answer["id"], 7);
        assert_eq!(answer["error"]["data"]["reason"], "shutting_down");
        let is_closed = |record: &thinpipe_testkit::Record| {
            record.outcome("tools/call:echo") == Some(Outcome::Cancelled)
        };
        front.upstream.wait_until(is_closed).await;
    }
}

/// Protocol notes 5.3, first row, and 4.7: a server that does not say what it is opens no session.
#[tokio::test]
async fn a_server_that_refuses_discover_opens_no_session() {
    let front = Front::start().await;
    let first = Caller::begin(&front, Binding::Streamable).await;
    front
        .upstream
        .on("server/discover", Script::error(200, -32603, "not now"));
    let client = Client::new(&front.mcp);
    let mut refused = client.post(rpc::initialize(1, rpc::LEGACY[0])).await;
    assert_eq!(
        (refused.status, refused.header("Mcp-Session-Id")),
        (502, None)
    );
    let answer = refused.json().await;
    assert_eq!(answer["id"], 1);
    assert_eq!(answer["error"]["data"]["upstream"], "u");
    front.upstream.behave();
    drop(first);
}

/// R216, protocol notes 1.3: a server of both eras is passed through to, as ever.
#[tokio::test]
async fn a_server_of_both_eras_has_sessions_of_its_own() {
    let front = Front::start().await;
    front.upstream.set(|behaviour| behaviour.era = Era::Both);
    let caller = Caller::begin(&front, Binding::Streamable).await;
    assert_eq!(front.upstream.sessions().len(), 1);
    caller.end().await;
}

/// Protocol notes 5.1, "Era flip": a server that speaks another era now ends the sessions.
#[tokio::test]
async fn a_server_that_changes_its_era_ends_the_sessions() {
    let front = Front::start().await;
    let mut caller = Caller::begin(&front, Binding::Streamable).await;
    front
        .upstream
        .set(|behaviour| behaviour.era = Era::Sessions);
    front.upstream.on(
        "tools/list",
        Script::status(404).content_type("text/plain").whole("gone"),
    );
    let answer = caller
        .answer(rpc::request(1, "tools/list", &json!({})))
        .await;
    assert!(answer["error"].is_object(), "{answer}");
    eventually("the session is over", async || {
        match caller.streamable().post(rpc::initialized()).await.status {
            404 => Ok(()),
            status => Err(format!("status {status}")),
        }
    })
    .await;
    front.upstream.behave();
    let mut again = Caller::begin(&front, Binding::Streamable).await;
    again.result(1, "tools/list", json!({})).await;
    assert_eq!(front.upstream.sessions().len(), 1);
}
