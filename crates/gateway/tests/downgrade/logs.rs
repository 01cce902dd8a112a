//! Log lines, and progress (R240, R249).

use serde_json::{Value, json};
use thinpipe_testkit::rpc;

use crate::place::{ALICE, Place, WAYS, ask, call};

/// R240: lines go to the request that asked, by its level; who did not ask gets none.
#[tokio::test]
async fn r240_lines_go_to_who_asked() {
    for way in WAYS {
        let place = Place::start(way).await;
        let client = place.client(ALICE);
        let mut quiet = client.post_modern(&call(1, "log")).await;
        assert_eq!(quiet.answer().await["id"], 1, "{way:?}");
        let levels = ["debug", "info", "error"];
        for (id, level) in [(2, "error"), (3, "debug"), (4, "info")] {
            let request = call(id, "log").with_meta(rpc::LOG_LEVEL, level);
            let mut response = client.post_modern(&request).await;
            let mut seen = Vec::new();
            loop {
                let message: Value = if response.is_stream() {
                    response.next_message().await
                } else {
                    response.answer().await
                };
                if message.get("method").is_none() {
                    assert_eq!(message["id"], id);
                    break;
                }
                seen.push(message["params"]["level"].clone());
            }
            let at = levels.iter().position(|known| *known == level).unwrap();
            assert_eq!(seen, &levels[at..], "{way:?}");
        }
        assert!(place.count("logging/setLevel") >= 2, "{way:?}");
    }
}

/// R249: clients that choose the same token get their own progress.
#[tokio::test]
async fn r249_progress_is_each_requests_own() {
    for way in WAYS {
        let place = Place::start(way).await;
        let client = place.client(ALICE);
        let request = |id: i64| {
            rpc::modern(
                id,
                "tools/call",
                json!({"name": "progress", "arguments": {"steps": 3}, "_meta": {"progressToken": "t"}}),
            )
        };
        let mut responses = Vec::new();
        for id in 1..=2 {
            responses.push((id, crate::place::send(&client, &request(id)).await));
        }
        for (id, connection) in responses {
            let mut response = connection.response().await;
            let mut last = 0.0;
            let mut steps = 0;
            loop {
                let message = response.next_message().await;
                if message.get("method").is_none() {
                    assert_eq!(message["id"], id, "{way:?}");
                    break;
                }
                assert_eq!(message["params"]["progressToken"], "t", "{way:?}");
                let value = message["params"]["progress"].as_f64().unwrap();
                assert!(value > last, "{way:?}");
                (last, steps) = (value, steps + 1);
            }
            assert_eq!(steps, 3, "{way:?}");
        }
        let _ = ask(&client, &call(9, "echo")).await;
    }
}
