//! Servers that are lost, and what their clients hear.

use serde_json::{Value, json};
use thinpipe_testkit::{Cut, Event, Record, Script, rpc};

use crate::caller::Introduction;
use crate::calling::{ALICE, WITH_TOKENS};
use crate::gateway::{Gateway, Settings};
use crate::pairs::{Client, Pair, Server};

rows! {
    /// R048, R212, R244: a server that is lost in the middle of a call: an error, once, and nothing runs again.
    all r212_r244_a_call_whose_server_is_lost_is_an_error;
    /// R241, R244: it works again once the server is back.
    cd r241_r244_a_server_that_is_back_is_used_again;
    /// R244: listens outlive the program they were made to.
    d_stdio r244_listens_outlive_a_program;
    /// R241: a stream that can be resumed is, and nobody sees it.
    c_http r241_a_broken_stream_is_resumed;
    /// Protocol notes 5.4.1: a session that the server has forgotten did not run the request.
    c_http r230_a_forgotten_session_is_opened_anew;
    /// R215: a session that the server has forgotten is the end of the client's.
    a r215_a_lost_session_is_the_end_of_the_clients;
    /// R250: a server that does not answer in time.
    all r250_a_call_has_a_deadline;
    /// Protocol notes 5.3: what the server finds wrong with the gateway's headers is the gateway's to mend, once.
    b_http r228_a_header_mismatch_is_mended_once;
    /// Protocol notes 5.3: a method that is not there, over HTTP with sessions, is an answer as others are.
    b_http r228_statuses_of_the_server_are_answers_in_band;
}

fn reason(answer: &Value) -> &str {
    answer["error"]["data"]["reason"]
        .as_str()
        .unwrap_or_default()
}

async fn r212_r244_a_call_whose_server_is_lost_is_an_error(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    let gate = thinpipe_testkit::Gate::new();
    let script = Script::events()
        .message(rpc::progress(1, 2))
        .wait(&gate)
        .stall();
    gateway.upstream.on("tools/call:echo", script);
    let mut asked = caller.ask(1, "tools/call", json!({"name": "echo"})).await;
    let progress = caller.next(&mut asked).await;
    assert_eq!(progress["method"], "notifications/progress");
    gate.reached().await;
    gateway.upstream.die().await;
    let answer = caller.next(&mut asked).await;
    assert_eq!(
        (&answer["id"], &answer["error"]["code"]),
        (&json!(1), &json!(-32603)),
        "{answer}"
    );
    // What was lost is the session where there is one stream for all, and the gateway's own.
    let of_session = pair.client.is_modern() && !pair.server.is_modern();
    let expected = if of_session && pair.server != Server::Sessions {
        "session_lost"
    } else {
        "upstream_stream_lost"
    };
    assert_eq!(reason(&answer), expected, "{answer}");
    assert_eq!(gateway.upstream.record().count("tools/call"), 1);
}

async fn r241_r244_a_server_that_is_back_is_used_again(pair: Pair) {
    let gateway = Gateway::with(pair, WITH_TOKENS).await;
    let mut caller = gateway.caller_who(&Introduction::with_token(ALICE)).await;
    caller
        .result("before", "tools/call", json!({"name": "echo"}))
        .await;
    gateway.upstream.die().await;
    let lost = caller
        .answer("lost", "tools/call", json!({"name": "echo"}))
        .await;
    assert_eq!(lost["error"]["code"], -32603, "{lost}");
    gateway.upstream.come_back();
    // A program that could not be started is not tried again at once.
    let back = async || {
        let mut caller = gateway.caller_who(&Introduction::with_token(ALICE)).await;
        let answer = caller
            .answer("back", "tools/call", json!({"name": "echo"}))
            .await;
        let done = answer["result"].is_object();
        done.then_some(()).ok_or_else(|| answer.to_string())
    };
    thinpipe_testkit::eventually("the server is used again", back).await;
}

async fn r244_listens_outlive_a_program(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    let wanted = json!({"toolsListChanged": true, "resourceSubscriptions": ["file:///a"]});
    caller.listen_to("L", wanted.clone(), &wanted).await;
    let session = gateway.upstream.sessions().pop().expect("a program");
    gateway.upstream.forget(&session);
    // No second acknowledgement; what may have been missed is told.
    let mut told = Vec::new();
    for _ in 0..2 {
        let notice = caller.unasked().await;
        assert_eq!(
            notice["params"]["_meta"][rpc::SUBSCRIPTION],
            "L",
            "{notice}"
        );
        told.push(notice["method"].clone());
    }
    told.sort_by_key(Value::to_string);
    assert_eq!(
        told,
        [
            "notifications/resources/updated",
            "notifications/tools/list_changed"
        ]
    );
    gateway
        .upstream
        .announce("notifications/tools/list_changed", &json!({}));
    assert_eq!(
        caller.unasked().await["params"]["_meta"][rpc::SUBSCRIPTION],
        "L"
    );
}

async fn r241_a_broken_stream_is_resumed(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let event = |message: String, id: &str| Event::message(message).with_id(id);
    gateway.upstream.publish(
        "call",
        vec![
            Event::priming("call-0").with_retry(20),
            event(rpc::progress(1, 2), "call-1"),
            event(rpc::progress(2, 2), "call-2"),
            event(rpc::text_result("whole"), "call-3"),
        ],
    );
    let cut = Script::stream_part("call", 2).read_by_peer().cut(Cut::Fin);
    gateway.upstream.on("tools/call:echo", cut);
    let mut caller = gateway.caller().await;
    let mut asked = caller.ask(1, "tools/call", json!({"name": "echo"})).await;
    let (before, answer) = caller.all(&mut asked).await;
    assert_eq!(before.len(), 2, "{before:?}");
    assert_eq!(answer["result"]["content"][0]["text"], "whole", "{answer}");
    assert_eq!(gateway.upstream.record().count("tools/call"), 1);
}

async fn r230_a_forgotten_session_is_opened_anew(pair: Pair) {
    let gateway = Gateway::with(pair, WITH_TOKENS).await;
    let mut caller = gateway.caller_who(&Introduction::with_token(ALICE)).await;
    caller
        .result(1, "tools/call", json!({"name": "echo"}))
        .await;
    for session in gateway.upstream.sessions() {
        gateway.upstream.forget(&session);
    }
    caller
        .result(2, "tools/call", json!({"name": "echo"}))
        .await;
    // The one that was refused did not run.
    assert_eq!(gateway.upstream.record().count("tools/call"), 3);
}

async fn r215_a_lost_session_is_the_end_of_the_clients(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    caller.listen().await;
    caller
        .result(1, "tools/call", json!({"name": "echo"}))
        .await;
    for session in gateway.upstream.sessions() {
        gateway.upstream.forget(&session);
    }
    let opened = gateway.upstream.record().count("initialize");
    if pair.client == Client::Sessions {
        let over = async || match caller.http().post(rpc::call(2, "echo")).await.status {
            404 => Ok(()),
            status => Err(format!("status {status}")),
        };
        thinpipe_testkit::eventually("the session is over", over).await;
    } else {
        let crate::caller::Kind::HttpSse(client) = &mut caller.kind else {
            unreachable!("there are two kinds of legacy clients");
        };
        if pair.server == Server::Sessions {
            // It is found out by asking.
            client.post(rpc::call(2, "echo")).await;
        }
        let (events, _) = client.stream.events_to_end().await;
        assert!(events.len() <= 1, "an error for what was asked: {events:?}");
    }
    assert_eq!(gateway.upstream.record().count("initialize"), opened);
}

async fn r250_a_call_has_a_deadline(pair: Pair) {
    let upstream = if pair.server.is_program() {
        "process.request_timeout = \"1s\""
    } else {
        "timeouts.request = \"1s\"\ntimeouts.first_byte = \"1s\""
    };
    let gateway = Gateway::with(
        pair,
        Settings {
            upstream,
            ..Settings::default()
        },
    )
    .await;
    let mut caller = gateway.caller().await;
    let answer = caller
        .answer(1, "tools/call", json!({"name": "slow"}))
        .await;
    assert_eq!(answer["error"]["code"], -32603, "{answer}");
    assert_eq!(reason(&answer), "upstream_timeout", "{answer}");
    assert_eq!(gateway.upstream.record().count("tools/call"), 1);
    let cancelled = |record: &Record| {
        let ended = record.outcome("tools/call:slow");
        record.count("notifications/cancelled") == 1
            || ended == Some(thinpipe_testkit::Outcome::Cancelled)
    };
    gateway.upstream.wait_until(cancelled).await;
}

async fn r228_a_header_mismatch_is_mended_once(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    let mismatch = || Script::error(400, -32020, "a header is missing");
    gateway.upstream.once("tools/call:echo", mismatch());
    caller
        .result(1, "tools/call", json!({"name": "echo"}))
        .await;
    assert_eq!(gateway.upstream.record().count("tools/call"), 2);
    gateway.upstream.once("tools/call:echo", mismatch());
    gateway.upstream.once("tools/call:echo", mismatch());
    let mut asked = caller.ask(2, "tools/call", json!({"name": "echo"})).await;
    let answer = caller.next(&mut asked).await;
    assert_eq!(answer["error"]["code"], -32603, "{answer}");
    assert_eq!(gateway.upstream.record().count("tools/call"), 4);
}

async fn r228_statuses_of_the_server_are_answers_in_band(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    for (status, code) in [(404, -32601), (400, -32602), (400, -32021)] {
        gateway
            .upstream
            .once("tools/call:echo", Script::error(status, code, "no"));
        let mut asked = caller
            .ask(code, "tools/call", json!({"name": "echo"}))
            .await;
        assert!(asked.status().await.is_none_or(|status| status == 200));
        assert_eq!(caller.next(&mut asked).await["error"]["code"], code);
    }
}
