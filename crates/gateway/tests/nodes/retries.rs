//! Calls of 2026-07-28 that are parked on one node, and come back to another (R233, 5.8.7).

use serde_json::{Value, json};
use thinpipe_testkit::rpc::Modern;
use thinpipe_testkit::{Client, rpc};

use crate::cluster::{ALICE, BOB, Cluster};

fn call(id: i64, tool: &str) -> Modern {
    let params = json!({"name": tool, "arguments": {}});
    let everything = json!({"elicitation": {"form": {}, "url": {}}, "sampling": {}});
    rpc::modern(id, "tools/call", params).declaring(&everything)
}

async fn ask(client: &Client, request: &Modern) -> Value {
    client.post_modern(request).await.answer().await
}

/// The retry of a request, with an answer to all that was asked.
fn retry(id: i64, request: &Modern, asked: &Value) -> Modern {
    let questions = asked["result"]["inputRequests"].as_object().unwrap();
    let accepted = json!({"action": "accept", "content": {"answer": "4A"}});
    let answers = questions.keys().map(|key| (key.clone(), accepted.clone()));
    let mut body: Value = serde_json::from_str(&request.body).unwrap();
    body["id"] = id.into();
    body["params"]["requestState"] = asked["result"]["requestState"].clone();
    body["params"]["inputResponses"] = Value::Object(answers.collect());
    Modern {
        body: body.to_string(),
        headers: request.headers.clone(),
    }
}

/// R233, 5.8.7, 5.9.4: what a call asked on one node is answered on another, any number of rounds, and the call runs
/// once; what was sealed for one principal is none for another, on every node.
#[tokio::test]
async fn r233_a_parked_call_goes_on_on_any_node() {
    let cluster = Cluster::start().await;
    let (one, other) = (cluster.node().await, cluster.node().await);
    let twice = call(1, "twice");
    let first = ask(&one.modern(ALICE), &twice).await;
    assert_eq!(first["result"]["resultType"], "input_required", "{first}");
    let stolen = ask(&other.modern(BOB), &retry(2, &twice, &first)).await;
    assert!(stolen["error"].is_object(), "{stolen}");
    let second = ask(&other.modern(ALICE), &retry(3, &twice, &first)).await;
    assert_eq!(second["result"]["resultType"], "input_required", "{second}");
    let done = ask(&other.modern(ALICE), &retry(4, &twice, &second)).await;
    assert_eq!(done["id"], 4);
    assert_eq!(done["result"]["content"][0]["text"], "answered", "{done}");
    assert_eq!(cluster.upstream.requests("tools/call").len(), 1);
    // A retry that comes twice changes nothing (5.9.13).
    let again = ask(&one.modern(ALICE), &retry(5, &twice, &second)).await;
    assert!(again["error"].is_object(), "{again}");
    assert_eq!(cluster.upstream.requests("tools/call").len(), 1);
}

/// Table 1.1 of the protocol notes, row 10: a session id that comes with a request outside of sessions means nothing,
/// also where the request is sent on.
#[tokio::test]
async fn r233_a_stray_session_id_does_not_keep_a_retry_from_its_node() {
    let cluster = Cluster::start().await;
    let (one, other) = (cluster.node().await, cluster.node().await);
    let asks = call(1, "ask");
    let first = ask(&one.modern(ALICE), &asks).await;
    assert_eq!(first["result"]["resultType"], "input_required", "{first}");
    let mut again = retry(2, &asks, &first);
    again.headers.push("Mcp-Session-Id", "stray");
    let done = ask(&other.modern(ALICE), &again).await;
    assert_eq!(done["id"], 2);
    assert_eq!(done["result"]["content"][0]["text"], "answered", "{done}");
    assert_eq!(cluster.upstream.requests("tools/call").len(), 1);
}

/// 5.8.7, 5.9.25: what was parked on a node that was killed is lost, and its client is told; it does not run again.
#[tokio::test]
async fn r240_what_was_parked_on_a_dead_node_is_lost() {
    let cluster = Cluster::start().await;
    let other = cluster.node().await;
    let (one, process) = cluster.process().await;
    let asks = call(1, "ask");
    let first = ask(&one.modern(ALICE), &asks).await;
    assert_eq!(first["result"]["resultType"], "input_required", "{first}");
    process.shutdown_background();
    cluster.is_buried(&one).await;
    let lost = ask(&other.modern(ALICE), &retry(2, &asks, &first)).await;
    assert_eq!(lost["error"]["data"]["reason"], "exchange_lost", "{lost}");
    assert_eq!(cluster.upstream.requests("tools/call").len(), 1);
}
