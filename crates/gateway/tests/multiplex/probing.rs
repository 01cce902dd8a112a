//! Finding out what a program speaks (protocol notes 1.4).

use serde_json::{Value, json};
use thinpipe_testkit::rpc;

use crate::front::{Front, call, listen};
use crate::scripted::{Scripted, Speaker};

/// The answer to `initialize` of a program that has sessions.
fn session() -> Value {
    json!({"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "s", "version": "1"}})
}

/// Opens a session, and answers the call that comes in it.
async fn speaks_in_a_session(speaker: &mut Speaker) {
    let heard = speaker.hears("initialize").await;
    speaker.answer(&heard, session()).await;
    speaker.hears("notifications/initialized").await;
    is_called(speaker).await;
}

async fn is_called(speaker: &mut Speaker) {
    let heard = speaker.hears("tools/call").await;
    speaker.answer(&heard, json!({"content": []})).await;
}

/// R020, K1: it is asked once, and the process that was asked is the one that is used.
#[tokio::test]
async fn r020_a_program_is_asked_before_its_first_call() {
    let program = Scripted::start().await;
    let front = Front::start(program.unknown()).await;
    let one = front.send(&call(1, 1)).await;
    let mut speaker = program.process_started().await;
    let asked = speaker.hears("server/discover").await;
    assert_eq!(asked["id"], "probe-1");
    let two = front.send(&call(2, 2)).await;
    let result = json!({"supportedVersions": ["2026-07-28"], "capabilities": {}});
    speaker.answer(&asked, result).await;
    for _ in 0..2 {
        is_called(&mut speaker).await;
    }
    assert_eq!(one.response().await.json().await["id"], 1);
    assert_eq!(two.response().await.json().await["id"], 2);
    assert_eq!(front.route().children().unwrap().spawned, 1);
    let speaks = front.route().program_speaks().unwrap();
    assert!(speaks.contains("2026-07-28"), "{speaks}");
}

/// R033: another answer says that it has sessions. The process that was asked serves the first of them, and
/// nothing of the question gets in its way.
#[tokio::test]
async fn r033_a_program_with_sessions_is_used_as_one() {
    let program = Scripted::start().await;
    let front = Front::start(program.unknown()).await;
    let modern = front.send(&call(1, 1)).await;
    let mut speaker = program.process_started().await;
    let asked = speaker.hears("server/discover").await;
    speaker.refuse(&asked, -32601, json!(null)).await;
    speaks_in_a_session(&mut speaker).await;
    assert_eq!(modern.response().await.json().await["id"], 1);
    assert_eq!(front.route().children().unwrap().spawned, 1);
}

/// R035: a program that ends over the question is started again, and not asked again but by `initialize`.
#[tokio::test]
async fn r035_a_program_that_ends_over_the_question_is_started_again() {
    let program = Scripted::start().await;
    let front = Front::start(program.unknown()).await;
    let modern = front.send(&call(1, 1)).await;
    let mut speaker = program.process_started().await;
    speaker.hears("server/discover").await;
    speaker.die();
    let mut speaker = program.process_started().await;
    speaks_in_a_session(&mut speaker).await;
    assert_eq!(modern.response().await.json().await["id"], 1);
    // By now it is known.
    let modern = front.send(&call(2, 2)).await;
    let mut speaker = program.process_started().await;
    speaker.hears("initialize").await;
    drop(modern);
}

/// A client with a session is served at once: its `initialize` is the question.
#[tokio::test]
async fn r033_a_client_with_a_session_does_not_wait_for_a_question() {
    let program = Scripted::start().await;
    let front = Front::start(program.unknown()).await;
    let legacy = front
        .client
        .post(rpc::initialize(1, "2025-06-18"))
        .send()
        .await;
    let mut speaker = program.process_started().await;
    let heard = speaker.hears("initialize").await;
    let result = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "s", "version": "1"}});
    speaker.answer(&heard, result).await;
    assert_eq!(legacy.response().await.json().await["id"], 1);
}

/// K1, 1.5: what a program speaks is its own at each start. One that comes back with sessions is spoken to in
/// sessions, and one that comes back without, without.
#[tokio::test]
async fn k1_a_program_is_asked_at_each_of_its_starts() {
    let program = Scripted::start().await;
    let front = Front::start(program.unknown()).await;
    for id in 1..=2 {
        let connection = front.send(&call(id, id)).await;
        let mut speaker = program.process_started().await;
        let asked = speaker.hears("server/discover").await;
        speaker.answer(&asked, discovered()).await;
        is_called(&mut speaker).await;
        assert_eq!(connection.response().await.json().await["id"], id);
        speaker.die();
        front.children_run(0).await;
    }
    let connection = front.send(&call(3, 3)).await;
    let mut speaker = program.process_started().await;
    let asked = speaker.hears("server/discover").await;
    speaker.refuse(&asked, -32601, json!(null)).await;
    speaks_in_a_session(&mut speaker).await;
    let answer = connection.response().await.json().await;
    assert_eq!(answer["result"]["resultType"], "complete", "{answer}");
    let speaks = front.route().program_speaks().unwrap();
    assert!(speaks.contains("2025-06-18"), "{speaks}");
}

/// The same where nobody but a listen wants it back: the program is asked before the listen goes on, and a call
/// that comes meanwhile waits for what it says.
#[tokio::test]
async fn k1_a_program_is_asked_before_a_listen_goes_on() {
    let program = Scripted::start().await;
    let front = Front::start(program.unknown()).await;
    let listening = front
        .send(&listen(1, &json!({"toolsListChanged": true})))
        .await;
    let mut speaker = program.process_started().await;
    let asked = speaker.hears("server/discover").await;
    speaker.answer(&asked, discovered()).await;
    let heard = speaker.hears("subscriptions/listen").await;
    speaker.acknowledge(&heard).await;
    let listening = listening.response().await;
    assert_eq!(listening.status, 200);
    speaker.die();
    let mut speaker = program.process_started().await;
    let asked = speaker.hears("server/discover").await;
    let connection = front.send(&call(2, 2)).await;
    speaker.refuse(&asked, -32601, json!(null)).await;
    speaks_in_a_session(&mut speaker).await;
    assert_eq!(connection.response().await.json().await["id"], 2);
    assert_eq!(front.route().children().unwrap().spawned, 2);
}

fn discovered() -> Value {
    json!({"supportedVersions": ["2026-07-28"], "capabilities": {}})
}

/// What is pinned is not asked.
#[tokio::test]
async fn k1_a_pinned_program_is_not_asked() {
    let program = Scripted::start().await;
    let front = Front::start(program.modern()).await;
    let connection = front.send(&call(1, 1)).await;
    let mut speaker = program.process_started().await;
    is_called(&mut speaker).await;
    assert_eq!(connection.response().await.json().await["id"], 1);
    assert!(!program.is_started_again().await);
}

/// R142: a program with sessions that is configured as one of 2026-07-28 may answer calls all the same. Its client
/// is told what is wrong, and that the call has run.
#[tokio::test]
async fn r142_a_result_of_another_era_names_the_setting() {
    let program = Scripted::start().await;
    let front = Front::start(program.modern()).await;
    let connection = front.send(&call(1, 1)).await;
    let mut speaker = program.process_started().await;
    let heard = speaker.hears("tools/call").await;
    let result = json!({"jsonrpc": "2.0", "id": heard["id"], "result": {"content": []}});
    speaker.say(result).await;
    let mut response = connection.response().await;
    let error = response.json().await["error"].clone();
    assert_eq!(response.status, 502);
    assert_eq!(error["data"]["reason"], "upstream_invalid", "{error}");
    let text = error["message"].as_str().unwrap();
    for said in ["resultType", "the call has run", "`era = \"modern\"`"] {
        assert!(text.contains(said), "{text}");
    }
}

/// R216, C24: a program that has no `initialize` says so when a client with a session comes. It is no failed
/// start, and the client is served all the same; the next one without that question.
#[tokio::test]
async fn r216_a_client_with_a_session_reaches_a_program_without() {
    for (code, data) in [
        (-32601, json!(null)),
        (
            -32022,
            json!({"supported": ["2026-07-28"], "requested": "2025-06-18"}),
        ),
    ] {
        let program = Scripted::start().await;
        let front = Front::start(program.unknown()).await;
        let one = front
            .client
            .post(rpc::initialize(1, "2025-06-18"))
            .send()
            .await;
        let mut speaker = program.process_started().await;
        let heard = speaker.hears("initialize").await;
        speaker.refuse(&heard, code, data).await;
        let mut speaker = program.process_started().await;
        for connection in [Some(one), None] {
            let connection = match connection {
                Some(connection) => connection,
                None => {
                    front
                        .client
                        .post(rpc::initialize(1, "2025-06-18"))
                        .send()
                        .await
                }
            };
            let heard = speaker.hears("server/discover").await;
            let result = json!({
                "supportedVersions": ["2026-07-28"],
                "capabilities": {"tools": {}},
                "ttlMs": 0,
                "cacheScope": "private",
                "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "s", "version": "1"}},
            });
            speaker.answer(&heard, result).await;
            let mut response = connection.response().await;
            assert!(response.header("Mcp-Session-Id").is_some());
            let answer = response.json().await;
            assert_eq!(answer["result"]["protocolVersion"], "2025-06-18");
            assert_eq!(answer["result"]["serverInfo"]["name"], "s");
        }
        let speaks = front.route().program_speaks().unwrap();
        assert!(speaks.contains("2026-07-28"), "{speaks}");
        assert!(front.route().is_healthy());
        assert_eq!(front.route().children().unwrap().spawned, 2);
    }
}

/// R034: a program that does not answer in time is asked for a session behind that, and what it says to this
/// counts. A slow one of 2026-07-28 is told from one that passes over what it does not know.
#[tokio::test]
async fn r034_a_slow_program_is_told_by_its_second_answer() {
    let modern = async {
        let program = Scripted::start().await;
        let front = Front::start(program.unknown()).await;
        let connection = front.send(&call(1, 1)).await;
        let mut speaker = program.process_started().await;
        let first = speaker.hears("server/discover").await;
        let second = speaker.hears("initialize").await;
        let result = json!({"supportedVersions": ["2026-07-28"], "capabilities": {}});
        speaker.answer(&first, result).await;
        speaker.refuse(&second, -32601, json!(null)).await;
        is_called(&mut speaker).await;
        assert_eq!(connection.response().await.json().await["id"], 1);
        assert_eq!(front.route().children().unwrap().spawned, 1);
    };
    let legacy = async {
        let program = Scripted::start().await;
        let front = Front::start(program.unknown()).await;
        let connection = front.send(&call(1, 1)).await;
        let mut asked = program.process_started().await;
        asked.hears("server/discover").await;
        let second = asked.hears("initialize").await;
        asked.answer(&second, session()).await;
        // That session is nobody's.
        let mut speaker = program.process_started().await;
        speaks_in_a_session(&mut speaker).await;
        assert_eq!(connection.response().await.json().await["id"], 1);
        while asked.heard().await.is_some() {}
    };
    tokio::join!(modern, legacy);
}
