//! What is bounded, what a process leaves behind, and who waits for whom (protocol notes 5.4.1, 5.4.2).

use std::time::Duration;

use serde_json::{Value, json};
use thinpipe_gateway::{ProgramEra, Reached, StateKey};
use thinpipe_testkit::{Client, Event, Script, rpc};
use thinpipe_transport::upstream::stdio::StdioConfig;

use crate::front::{Front, tokens};
use crate::log::Log;
use crate::place::{
    ALICE, BOB, Place, WAYS, Way, accepted, answers, ask, asked, call, listen, request, retry,
};

/// 5.4.1: where all sessions of a principal have something to do it waits, and no longer than it may; others
/// do not wait for it.
#[tokio::test]
async fn r230_sessions_of_a_principal_are_bounded() {
    for way in [Way::HttpSse, Way::Stdio] {
        let place = Place::with(
            way,
            |_| {},
            |spec| {
                spec.bridge.pool.max = 1;
                spec.bridge.pool.wait = Duration::from_millis(100);
            },
        )
        .await;
        let client = place.client(ALICE);
        let parked = call(1, "ask");
        let first = asked(&client, &parked).await;
        let mut refused = client.post_modern(&call(2, "ask")).await;
        assert_eq!(refused.status, 503, "{way:?}");
        assert!(refused.header("Retry-After").is_some());
        let error = refused.json().await["error"].take();
        assert_eq!(error["data"]["reason"], "upstream_overloaded");
        let text = error["message"].as_str().unwrap();
        for said in ["`session_pool.max`", "1 of its calls wait"] {
            assert!(text.contains(said), "{way:?} {text}");
        }
        // What may not be asked for anything needs no session of its own.
        let listed = ask(&client, &request(3, "tools/list", json!({}))).await;
        assert_eq!(listed["result"]["resultType"], "complete", "{way:?}");
        asked(&place.client(BOB), &call(1, "ask")).await;
        let again = retry(4, &parked, &first, &answers(&first, &accepted()));
        assert_eq!(
            ask(&client, &again).await["result"]["resultType"],
            "complete"
        );
        asked(&client, &call(5, "ask")).await;
        assert_eq!(place.upstream.sessions().len(), 2, "{way:?}");
    }
}

/// T15: principals together have no more sessions than they may; one that nobody uses ends for another's sake,
/// one with something to do does not.
#[tokio::test]
async fn the_sessions_of_all_principals_are_bounded() {
    for way in WAYS {
        let place = Place::with(
            way,
            |_| {},
            |spec| {
                spec.bridge.pool.total = 1;
                spec.bridge.pool.wait = Duration::from_millis(100);
            },
        )
        .await;
        let (alice, bob) = (place.client(ALICE), place.client(BOB));
        ask(&alice, &call(1, "echo")).await;
        let parked = call(1, "ask");
        let first = asked(&bob, &parked).await;
        let mut refused = alice.post_modern(&call(2, "echo")).await;
        assert_eq!(refused.status, 503, "{way:?}");
        let text = refused.json().await["error"]["message"].take();
        assert!(
            text.as_str().unwrap().contains("`session_pool.total`"),
            "{text}"
        );
        let again = retry(2, &parked, &first, &answers(&first, &accepted()));
        assert_eq!(ask(&bob, &again).await["result"]["resultType"], "complete");
        let done = ask(&alice, &call(3, "echo")).await;
        assert_eq!(done["result"]["resultType"], "complete", "{way:?} {done}");
    }
}

/// 5.4.2: beyond the cap the server hears that nobody can be asked, and the call goes on. Who has answered
/// makes room.
#[tokio::test]
async fn r233_parked_calls_are_bounded() {
    let (log, _logging) = Log::start();
    let place = Place::with(
        Way::Sessions,
        |_| {},
        |spec| spec.bridge.parked.per_principal = 1,
    )
    .await;
    let client = place.client(ALICE);
    let parked = call(1, "ask");
    let first = asked(&client, &parked).await;
    let done = ask(&client, &call(2, "ask")).await;
    assert_eq!(done["result"]["resultType"], "complete", "{done}");
    let seat = &done["result"]["structuredContent"]["answers"]["seat"];
    assert_eq!(seat["code"], -32603, "{done}");
    assert_eq!(seat["data"]["reason"], "too_many_parked", "{done}");
    let text = seat["message"].as_str().unwrap();
    assert!(
        text.contains("(1, `upstreams.parked.per_principal`)"),
        "{text}"
    );
    let warned = log.lines();
    let warned = warned.iter().filter(|line| line.contains("WARN"));
    let warned: Vec<_> = warned.filter(|line| line.contains(text)).collect();
    assert_eq!(warned.len(), 1, "{warned:?}");
    asked(&place.client(BOB), &call(1, "ask")).await;
    let again = retry(3, &parked, &first, &answers(&first, &accepted()));
    assert_eq!(
        ask(&client, &again).await["result"]["resultType"],
        "complete"
    );
    asked(&client, &call(4, "ask")).await;
}

/// 5.4.2: what another process kept is lost, and its outcome unknown. With another key nobody can tell.
#[tokio::test]
async fn r234_what_another_process_kept_is_lost() {
    let place = Place::keyed(vec![StateKey::new([1; 32])]).await;
    let call = call(1, "ask");
    let first = asked(&place.client(ALICE), &call).await;
    let again = retry(2, &call, &first, &answers(&first, &accepted()));
    let rotated = vec![StateKey::new([2; 32]), StateKey::new([1; 32])];
    let later = Place::keyed(rotated).await;
    let lost = ask(&later.client(ALICE), &again).await;
    assert_eq!(lost["error"]["code"], -32603, "{lost}");
    assert_eq!(lost["error"]["data"]["reason"], "exchange_lost");
    let strange = Place::keyed(Vec::new()).await;
    for (place, token) in [(&strange, ALICE), (&later, BOB)] {
        let refused = ask(&place.client(token), &again).await;
        assert_eq!(refused["error"]["code"], -32602, "{refused}");
        assert_eq!(place.count("tools/call"), 0);
    }
}

/// 5.4.1: what the server is, strangers are told without a session each time.
#[tokio::test]
async fn r230_strangers_are_told_what_the_server_is() {
    for way in WAYS {
        let place = Place::anonymous(way).await;
        let client = Client::new(&place.front.mcp);
        let mut told: Vec<Value> = Vec::new();
        for id in ["one", "two"] {
            let answer = ask(&client, &request(id, "server/discover", json!({}))).await;
            assert_eq!(answer["id"], id);
            told.push(answer["result"].clone());
        }
        assert_eq!(told[0]["supportedVersions"][0], rpc::MODERN, "{told:?}");
        assert_eq!(told[0], told[1]);
        assert_eq!(place.count("initialize"), 1, "{way:?}");
    }
}

/// C25: a client that does not read loses its answer, and holds up nobody else on its session for long.
#[tokio::test]
async fn c25_who_does_not_read_holds_up_nobody_for_long() {
    let place = Place::start(Way::Sessions).await;
    let line = rpc::notification(
        "notifications/message",
        &json!({"level": "info", "data": "x".repeat(16 << 10)}),
    );
    let flood = Script::events().fill(Event::message(line).to_bytes(), u64::MAX);
    place.upstream.on("tools/call:flood", flood);
    let mut params = json!({"name": "flood", "arguments": {}});
    params["_meta"]["io.modelcontextprotocol/logLevel"] = "info".into();
    let request = request(1, "tools/call", params);
    let stuck = place.client(ALICE).post_modern(&request).send().await;
    place.upstream.nth("tools/call", 0).await;
    let echoed = ask(&place.client(ALICE), &call(2, "echo")).await;
    assert_eq!(echoed["id"], 2);
    let cancelled = place.upstream.nth("notifications/cancelled", 0).await;
    let call = place.upstream.requests("tools/call:flood").remove(0);
    assert_eq!(*cancelled.param("/requestId"), call.json()["id"]);
    drop(stuck);
}

/// 5.4.3, 8: at the end of the process a listen gets its final result, and calls may end.
#[tokio::test]
async fn r239_a_listen_ends_with_the_process() {
    for way in WAYS {
        let place = Place::start(way).await;
        let client = place.client(ALICE);
        let slow = client.post_modern(&call(1, "slow")).send().await;
        place.upstream.gate("slow").reached().await;
        let (mut listening, _) = listen(&client, "L", json!({"toolsListChanged": true})).await;
        let ending = async {
            place.front.server.shut_down().await;
            place.front.gateway.finish().await;
        };
        let reading = async {
            let last = listening.next_message().await;
            assert_eq!(last["id"], "L", "{way:?} {last}");
            assert_eq!(last["result"]["resultType"], "complete");
            place.upstream.gate("slow").open();
            assert_eq!(slow.response().await.answer().await["id"], 1);
        };
        tokio::join!(ending, reading);
        place.no_session_is_left().await;
    }
}

/// R237: what comes before a call is heard of on one session only: without that, the call runs at once. What
/// was declined does not run there either.
#[tokio::test]
async fn r237_a_call_runs_at_once_where_nobody_hears_what_comes_before_it() {
    let keys = vec![StateKey::new([1; 32])];
    let place = Place::keyed(keys.clone()).await;
    let call = call(1, "needs_url");
    let first = asked(&place.client(ALICE), &call).await;
    let later = Place::keyed(keys).await;
    let client = later.client(ALICE);
    let declined = answers(&first, &json!({"action": "decline"}));
    let done = ask(&client, &retry(2, &call, &first, &declined)).await;
    assert_eq!(done["result"]["isError"], true, "{done}");
    assert_eq!(later.count("tools/call"), 0);
    let accepted = answers(&first, &json!({"action": "accept"}));
    asked(&client, &retry(3, &call, &first, &accepted)).await;
    assert_eq!(later.count("tools/call"), 1);
}

/// T2: a program that takes nothing more is not waited for longer than a request may be silent.
#[tokio::test]
async fn a_program_that_does_not_read_is_ended() {
    let opened = r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}}"#;
    let mut config = StdioConfig::new("up".into(), "sh");
    let script = format!("read -r line; echo '{opened}'; exec sleep 1000");
    config.args = vec!["-c".into(), script.into()];
    let mut reached = Reached::from(config);
    if let Reached::Stdio(program) = &mut reached {
        program.pin = Some(ProgramEra::Legacy);
        program.request_timeout = Duration::from_millis(300);
    }
    let front = Front::with(reached, |_| {}, |config| config.tokens = tokens(&[ALICE])).await;
    let client = Client::new(&front.mcp).with_token(ALICE);
    // More than a pipe holds.
    let arguments = json!({"name": "t", "arguments": {"x": "x".repeat(1 << 20)}});
    let lost = ask(&client, &request(1, "tools/call", arguments)).await;
    assert_eq!(lost["error"]["code"], -32603, "{lost}");
    front.no_child_runs().await;
}
