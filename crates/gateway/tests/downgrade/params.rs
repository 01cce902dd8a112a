//! `Mcp-Param-*`: headers that repeat arguments, where a list has shown the tool (protocol notes 2.3.4). A server
//! with sessions gets none of them, and cannot check them itself.

use serde_json::{Value, json};
use thinpipe_gateway::UpstreamSpec;
use thinpipe_testkit::Client;

use crate::hiding::hide;
use crate::place::{ALICE, BOB, Place, WAYS, ask, listen, request};

/// Calls `region` with an argument and headers; the status, and the code of the error if it is one.
async fn region(client: &Client, argument: Value, headers: &[&str]) -> (u16, Option<i64>) {
    let params = json!({"name": "region", "arguments": {"region": argument}});
    let request = request(7, "tools/call", params);
    let mut posting = client.post_modern(&request);
    for value in headers {
        posting = posting.header("Mcp-Param-Region", value);
    }
    let mut response = posting.await;
    let answer = response.answer().await;
    assert_eq!(answer["id"], 7, "{answer}");
    (response.status, answer["error"]["code"].as_i64())
}

async fn list(client: &Client) {
    let listed = ask(client, &request(1, "tools/list", json!({}))).await;
    assert!(listed["result"]["tools"].is_array(), "{listed}");
}

const MISMATCH: (u16, Option<i64>) = (400, Some(-32020));
const TAKEN: (u16, Option<i64>) = (200, None);

/// R124, R125: a call that says two things does not reach the server.
#[tokio::test]
async fn r124_headers_of_known_tools_are_checked() {
    for way in WAYS {
        let place = Place::start(way).await;
        let client = place.client(ALICE);
        // Nothing is known yet.
        assert_eq!(region(&client, json!("eu"), &["us"]).await, TAKEN);
        list(&client).await;
        for (argument, headers) in [
            (json!("eu"), &["us"][..]),
            (json!("eu"), &[]),
            (json!("eu"), &["eu", "eu"]),
            (json!("eu"), &["=?base64?!?="]),
            (json!(null), &["eu"]),
        ] {
            let called = region(&client, argument.clone(), headers).await;
            assert_eq!(called, MISMATCH, "{way:?} {argument} {headers:?}");
        }
        assert_eq!(place.count("tools/call"), 1, "{way:?}");
        assert_eq!(region(&client, json!("eu"), &["eu"]).await, TAKEN);
        assert_eq!(place.count("tools/call"), 2, "{way:?}");
    }
}

/// R125: what is not there needs no header.
#[tokio::test]
async fn r125_an_argument_that_is_null_needs_no_header() {
    for way in WAYS {
        let place = Place::start(way).await;
        let client = place.client(ALICE);
        list(&client).await;
        assert_eq!(region(&client, json!(null), &[]).await, TAKEN, "{way:?}");
    }
}

/// R124: without tokens each request has its own session, and the list of one tells of the tools of all.
#[tokio::test]
async fn r124_headers_of_anonymous_clients_are_checked() {
    for way in WAYS {
        let place = Place::anonymous(way).await;
        let client = Client::new(&place.front.mcp);
        list(&client).await;
        assert_eq!(region(&client, json!("eu"), &[]).await, MISMATCH, "{way:?}");
        assert_eq!(place.count("tools/call"), 0, "{way:?}");
        assert_eq!(region(&client, json!("eu"), &["eu"]).await, TAKEN);
    }
}

/// R124: what one principal was shown says nothing of what another was.
#[tokio::test]
async fn r124_each_principal_knows_the_tools_it_was_shown() {
    for way in WAYS {
        let place = Place::start(way).await;
        let (alice, bob) = (place.client(ALICE), place.client(BOB));
        list(&alice).await;
        assert_eq!(region(&alice, json!("eu"), &[]).await, MISMATCH, "{way:?}");
        assert_eq!(region(&bob, json!("eu"), &[]).await, TAKEN, "{way:?}");
    }
}

/// R124: compared is what the client says; what interceptors do to a call comes after, and no header goes on
/// to the server.
#[tokio::test]
async fn r124_what_counts_is_what_the_client_says() {
    let redact = |spec: &mut UpstreamSpec| hide(spec, "/params/arguments/region");
    for way in WAYS {
        let place = Place::with(way, |_| {}, redact).await;
        let client = place.client(ALICE);
        list(&client).await;
        assert_eq!(region(&client, json!("eu"), &["eu"]).await, TAKEN);
        let called = place.upstream.nth("tools/call", 0).await;
        assert_eq!(called.param("/arguments/region"), "hidden", "{way:?}");
        assert_eq!(called.headers.get("Mcp-Param-Region"), None, "{way:?}");
        let refused = region(&client, json!("eu"), &["hidden"]).await;
        assert_eq!(refused, MISMATCH, "{way:?}");
    }
}

/// R124: what is known of tools that have changed is not held against anybody.
#[tokio::test]
async fn r124_tools_that_have_changed_are_not_known() {
    for way in WAYS {
        let place = Place::start(way).await;
        let client = place.client(ALICE);
        list(&client).await;
        let (mut heard, _) = listen(&client, "one", json!({"toolsListChanged": true})).await;
        let changed = "notifications/tools/list_changed";
        place.upstream.announce(changed, &json!({}));
        assert_eq!(heard.next_message().await["method"], changed);
        assert_eq!(region(&client, json!("eu"), &["us"]).await, TAKEN);
        list(&client).await;
        assert_eq!(region(&client, json!("eu"), &["us"]).await, MISMATCH);
        heard.close();
    }
}
