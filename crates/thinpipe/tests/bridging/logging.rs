//! Log lines of a server, for those who asked for them.

use serde_json::{Value, json};
use thinpipe_testkit::rpc;

use crate::caller::Introduction;
use crate::calling::{ALICE, WITH_TOKENS};
use crate::gateway::{Gateway, Settings};
use crate::pairs::{Pair, Server};

rows! {
    /// R218, R240: lines of the level that was asked for, and above.
    all r218_r240_log_lines_are_those_asked_for;
    /// R218: until a level is set there are none, and the server is not asked for any.
    b r218_without_a_level_there_are_no_log_lines;
    /// R218: a level that there is not.
    ab r218_an_unknown_level_is_refused;
    /// R218: a server that does not log.
    b r218_a_server_that_does_not_log_has_no_levels;
    /// R240: each request has its own level, also on one session.
    c r240_each_request_is_filtered_by_its_own_level;
}

fn levels(messages: &[Value]) -> Vec<&str> {
    let levels = messages
        .iter()
        .filter(|message| message["method"] == "notifications/message");
    levels
        .filter_map(|message| message["params"]["level"].as_str())
        .collect()
}

/// Whose a line of a program is cannot be said if nobody knows how many clients there are.
fn of_one_client(pair: Pair) -> Settings {
    let upstream = match pair.server {
        Server::StdioModern => "sessions = \"pooled\"",
        _ => "",
    };
    Settings {
        upstream,
        ..Settings::default()
    }
}

async fn r218_r240_log_lines_are_those_asked_for(pair: Pair) {
    let gateway = Gateway::with(pair, of_one_client(pair)).await;
    let mut caller = gateway.caller().await;
    for (level, expected) in [("info", vec!["info", "error"]), ("error", vec!["error"])] {
        caller.set_level(level).await;
        let mut asked = caller
            .ask(level, "tools/call", json!({"name": "log"}))
            .await;
        let (before, answer) = caller.all(&mut asked).await;
        assert_eq!(levels(&before), expected);
        assert_eq!(answer["result"]["content"][0]["text"], "logged");
    }
    if pair.server.is_modern() {
        let calls = gateway.upstream.requests("tools/call:log");
        let asked: Vec<_> = calls
            .iter()
            .map(|call| &call.param("/_meta")[rpc::LOG_LEVEL])
            .collect();
        assert_eq!(asked, [&json!("info"), &json!("error")]);
        assert_eq!(gateway.upstream.record().count("logging/setLevel"), 0);
    }
}

async fn r218_without_a_level_there_are_no_log_lines(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    let mut asked = caller.ask(1, "tools/call", json!({"name": "log"})).await;
    let (before, _) = caller.all(&mut asked).await;
    assert_eq!(levels(&before), Vec::<&str>::new());
    let call = gateway
        .upstream
        .requests("tools/call:log")
        .pop()
        .expect("it came");
    assert_eq!(call.param("/_meta").get(rpc::LOG_LEVEL), None);
}

async fn r218_an_unknown_level_is_refused(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    let refused = caller
        .answer(1, "logging/setLevel", json!({"level": "loud"}))
        .await;
    assert_eq!(refused["error"]["code"], -32602, "{refused}");
}

async fn r218_a_server_that_does_not_log_has_no_levels(pair: Pair) {
    let gateway = Gateway::behaving(pair, |behaviour| {
        behaviour.capabilities = json!({"tools": {}});
    })
    .await;
    let mut caller = gateway.caller().await;
    let refused = caller
        .answer(1, "logging/setLevel", json!({"level": "info"}))
        .await;
    assert_eq!(refused["error"]["code"], -32601, "{refused}");
}

async fn r240_each_request_is_filtered_by_its_own_level(pair: Pair) {
    let gateway = Gateway::with(pair, WITH_TOKENS).await;
    let who = Introduction::with_token(ALICE);
    let mut quiet = gateway.caller_who(&who).await;
    let mut loud = gateway.caller_who(&who).await;
    quiet.set_level("error").await;
    loud.set_level("debug").await;
    let mut none = gateway.caller_who(&who).await;
    let call = json!({"name": "log"});
    for (caller, expected) in [
        (&mut loud, vec!["debug", "info", "error"]),
        (&mut quiet, vec!["error"]),
        (&mut none, vec![]),
    ] {
        let mut asked = caller.ask(1, "tools/call", call.clone()).await;
        let (before, _) = caller.all(&mut asked).await;
        assert_eq!(levels(&before), expected);
    }
}
