//! Clients without a session in front of servers that have nothing else (protocol notes 5.2).

use serde_json::json;
use thinpipe_testkit::{Client, Connection, rpc};

use crate::front::Front;
use crate::server::{Carrier, Scripted, Speaker};

const REVISION: &str = "2025-06-18";

async fn start(carrier: Carrier) -> (Front, Scripted, Client) {
    let server = Scripted::start(carrier).await;
    let front = Front::with(
        server.reached(),
        |_| {},
        |config| config.allow_sessionless = true,
    )
    .await;
    let client = Client::new(&front.mcp);
    (front, server, client)
}

/// A call without a session, and the session with the server that it gets.
async fn call(client: &Client, server: &mut Scripted, id: i64) -> (Connection, Speaker) {
    let call = client.post(rpc::call(id, "a"));
    let asked = call.header("MCP-Protocol-Version", REVISION).send().await;
    let mut speaker = server.session().await;
    let initialize = speaker.begin(REVISION).await;
    assert_eq!(initialize["params"]["capabilities"], json!({}));
    assert_eq!(initialize["params"]["protocolVersion"], REVISION);
    (asked, speaker)
}

/// Protocol notes 1.1, 5.2: each request has a session of its own, which is over with its answer. Nobody is
/// asked anything there.
#[tokio::test]
async fn a_request_without_a_session_has_one_with_the_server() {
    for carrier in [Carrier::Stdio, Carrier::HttpSse] {
        let (_front, mut server, client) = start(carrier).await;
        let (first, mut one) = call(&client, &mut server, 1).await;
        let (second, mut two) = call(&client, &mut server, 1).await;
        for (speaker, who) in [(&mut two, "two"), (&mut one, "one")] {
            let call = speaker.hears("tools/call").await;
            speaker
                .say(rpc::request("q", "elicitation/create", &json!({})))
                .await;
            let refused = speaker.hears_any().await;
            assert_eq!(
                (&refused["id"], refused["error"].is_object()),
                (&json!("q"), true)
            );
            speaker.answer(&call, json!({"who": who})).await;
        }
        for (asked, who) in [(first, "one"), (second, "two")] {
            let mut response = asked.response().await;
            assert_eq!(response.header("Mcp-Session-Id"), None);
            let answer = response.json().await;
            assert_eq!(
                (&answer["id"], &answer["result"]["who"]),
                (&json!(1), &json!(who))
            );
        }
        assert_eq!((one.ends().await.len(), two.ends().await.len()), (0, 0));
        let told = client.post(rpc::initialized()).await;
        assert_eq!(told.status, 202, "nothing is opened for what asks nothing");
    }
}

/// What is said before the answer comes as a stream, and a client that leaves it ends the session.
#[tokio::test]
async fn a_stream_without_a_session_ends_with_its_client() {
    for carrier in [Carrier::Stdio, Carrier::HttpSse] {
        let (_front, mut server, client) = start(carrier).await;
        let (asked, mut speaker) = call(&client, &mut server, 1).await;
        speaker.hears("tools/call").await;
        let log = json!({"level": "info", "data": "under way"});
        speaker
            .say(rpc::notification("notifications/message", &log))
            .await;
        let mut response = asked.response().await;
        let said = response.next_message().await;
        assert_eq!(said["params"]["data"], "under way");
        response.close();
        speaker.ends().await;
    }
}

/// A server that has not the client's revision is not spoken to in another.
#[tokio::test]
async fn a_server_of_another_revision_is_refused() {
    let (_front, mut server, client) = start(Carrier::Stdio).await;
    let asked = client.post(rpc::call(1, "a")).send().await;
    let mut speaker = server.session().await;
    let initialize = speaker.hears("initialize").await;
    assert_eq!(initialize["params"]["protocolVersion"], "2025-03-26", "B16");
    let result = json!({
        "protocolVersion": "2024-11-05",
        "capabilities": {},
        "serverInfo": {"name": "scripted", "version": "1"},
    });
    speaker.answer(&initialize, result).await;
    let mut refused = asked.response().await;
    assert_eq!(refused.status, 400);
    let data = refused.json().await["error"]["data"].clone();
    assert_eq!(data["reason"], "binding_mismatch");
    assert_eq!(speaker.ends().await.len(), 0);
}
