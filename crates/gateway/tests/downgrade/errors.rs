//! Results and errors as clients of 2026-07-28 want them (R232).

use serde_json::json;

use crate::place::{ALICE, Place, WAYS, ask, call, request};

/// R232: results gain what the revision requires, and lose what it does not know.
#[tokio::test]
async fn r232_results_have_what_the_revision_requires() {
    for way in WAYS {
        let place = Place::start(way).await;
        let client = place.client(ALICE);
        let listed = ask(&client, &request(1, "tools/list", json!({}))).await;
        let result = &listed["result"];
        assert_eq!(result["resultType"], "complete", "{way:?} {listed}");
        assert_eq!(result["ttlMs"], 0);
        assert_eq!(result["cacheScope"], "private");
        let info = &result["_meta"]["io.modelcontextprotocol/serverInfo"];
        assert_eq!(info["name"], "counting-upstream");
        let called = ask(&client, &call(2, "echo")).await;
        assert_eq!(called["result"]["resultType"], "complete");
        assert_eq!(called["result"].get("ttlMs"), None);
        let discovered = ask(&client, &request(3, "server/discover", json!({}))).await;
        let capabilities = &discovered["result"]["capabilities"];
        assert_eq!(
            capabilities["tools"]["listChanged"], true,
            "{way:?} {discovered}"
        );
        assert_eq!(capabilities.get("tasks"), None);
        assert_eq!(place.count("initialize"), 1, "{way:?}");
    }
}

/// R232: errors and their statuses.
#[tokio::test]
async fn r232_errors_are_those_of_the_revision() {
    for way in WAYS {
        let place = Place::with(
            way,
            |behaviour| {
                behaviour
                    .capabilities
                    .as_object_mut()
                    .unwrap()
                    .remove("completions");
            },
            |_| {},
        )
        .await;
        let client = place.client(ALICE);
        let read = request(1, "resources/read", json!({"uri": "file:///none"}));
        let mut response = client.post_modern(&read).await;
        assert_eq!(response.status, 200);
        let missing = response.answer().await;
        assert_eq!(missing["error"]["code"], -32602, "{way:?} {missing}");
        assert_eq!(missing["error"]["data"]["uri"], "file:///none");
        let complete = request(2, "completion/complete", json!({}));
        let mut response = client.post_modern(&complete).await;
        assert_eq!(response.status, 404);
        let refused = response.answer().await;
        assert_eq!(refused["error"]["code"], -32601, "{way:?} {refused}");
        assert_eq!(place.count("completion/complete"), 0);
        assert_eq!(place.count("resources/read"), 1);
    }
}
