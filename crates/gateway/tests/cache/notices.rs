//! What makes answers go before their time.

use serde_json::{Value, json};
use thinpipe_testkit::{Response, rpc};

use super::{Front, nothing};

async fn listen(front: &Front, notifications: Value) -> Response {
    let params = json!({"notifications": notifications});
    let request = rpc::modern("L", "subscriptions/listen", params);
    let mut listen = front.client.post_modern(&request).await;
    let acknowledged = listen.next_message().await;
    let method = &acknowledged["method"];
    assert_eq!(method, "notifications/subscriptions/acknowledged");
    listen
}

/// R191: what a client hears of has changed here too, for whoever asks next.
#[tokio::test]
async fn r191_notices_that_pass_make_answers_go() {
    let front = Front::start("public").await;
    let mut listen = listen(
        &front,
        json!({
            "toolsListChanged": true,
            "promptsListChanged": true,
            "resourcesListChanged": true,
            "resourceSubscriptions": ["file:///a"],
        }),
    )
    .await;
    let all = [
        ("tools/list", nothing()),
        ("prompts/list", nothing()),
        ("resources/list", nothing()),
        ("resources/templates/list", nothing()),
        ("resources/read", json!({"uri": "file:///a"})),
        ("resources/read", json!({"uri": "file:///b"})),
    ];
    let kept = async || {
        let mut kept = Vec::new();
        for (method, params) in &all {
            let before = front.asked(method);
            front.ask(method, params.clone()).await;
            kept.push(front.asked(method) == before);
        }
        kept
    };
    assert_eq!(kept().await, [false; 6]);
    assert_eq!(kept().await, [true; 6]);
    for (method, params, expected) in [
        (
            "notifications/tools/list_changed",
            nothing(),
            [false, true, true, true, true, true],
        ),
        (
            "notifications/prompts/list_changed",
            nothing(),
            [true, false, true, true, true, true],
        ),
        (
            "notifications/resources/list_changed",
            nothing(),
            [true, true, false, false, true, true],
        ),
        (
            "notifications/resources/updated",
            json!({"uri": "file:///a"}),
            [true, true, true, true, false, true],
        ),
    ] {
        front.upstream.announce(method, &params);
        assert_eq!(listen.next_message().await["method"], method);
        assert_eq!(kept().await, expected, "{method}");
        assert_eq!(kept().await, [true; 6]);
    }
}
