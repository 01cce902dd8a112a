//! Clients without a session in front of a server that knows none.

use serde_json::json;
use thinpipe_testkit::{Client, Outcome, rpc};

use crate::front::Front;

/// Protocol notes 1.1 row 17, 5.2: nothing is declared, and nobody asked; there are no sessions to be seen.
#[tokio::test]
async fn a_request_without_a_session_is_a_call() {
    let front = Front::with(|_| {}, |config| config.allow_sessionless = true).await;
    let client = Client::new(&front.mcp);
    for id in [1, 2] {
        let call = client.post(rpc::call(id, "echo"));
        let mut response = call.header("MCP-Protocol-Version", rpc::LEGACY[1]).await;
        assert_eq!(
            (response.status, response.header("Mcp-Session-Id")),
            (200, None)
        );
        let answer = response.answer().await;
        assert_eq!(answer["id"], id);
        assert_eq!(answer["result"].get("resultType"), None, "{answer}");
    }
    let calls = front.upstream.requests("tools/call:echo");
    let calls: Vec<_> = calls.iter().filter(|call| call.is_modern()).collect();
    assert_eq!(calls.len(), 2);
    assert_eq!(*calls[0].declared(), json!({}));
    let answer = client.post(rpc::call(3, "ask")).await.answer().await;
    assert_eq!(answer["error"]["code"], -32021, "{answer}");
    assert_eq!(client.post(rpc::initialized()).await.status, 202);
}

/// A client that leaves has cancelled: nobody can come back for its answer.
#[tokio::test]
async fn a_client_without_a_session_that_leaves_has_cancelled() {
    let front = Front::with(|_| {}, |config| config.allow_sessionless = true).await;
    let client = Client::new(&front.mcp);
    let _ = client.post(rpc::call(1, "echo")).await.answer().await;
    let mut stream = client.post(rpc::call(2, "progress")).await;
    stream.next_message().await;
    drop(stream);
    let gate = front.upstream.gate("slow");
    let script = thinpipe_testkit::Script::events()
        .message(rpc::progress(1, 2))
        .wait(&gate)
        .message(rpc::modern_text_result("done"));
    front.upstream.on("tools/call:fail", script);
    let mut stream = client.post(rpc::call(3, "fail")).await;
    stream.next_message().await;
    stream.close();
    let is_closed = |record: &thinpipe_testkit::Record| {
        record.outcome("tools/call:fail") == Some(Outcome::Cancelled)
    };
    front.upstream.wait_until(is_closed).await;
}
