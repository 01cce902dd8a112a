//! Which answers are kept, and for whom.

use serde_json::{Value, json};
use thinpipe_gateway::CacheConfig;
use thinpipe_testkit::{Event, Script, rpc};

use super::{Front, nothing, tools};

const CACHEABLE: [&str; 6] = [
    "server/discover",
    "tools/list",
    "prompts/list",
    "resources/list",
    "resources/templates/list",
    "resources/read",
];

fn params(method: &str) -> Value {
    match method {
        "resources/read" => json!({"uri": "file:///a"}),
        _ => nothing(),
    }
}

/// R191, protocol notes 4.4: all six, under the id of each request, with the time that is left.
#[tokio::test]
async fn r191_kept_answers_are_given_with_the_time_that_is_left() {
    let front = Front::start("private").await;
    for method in CACHEABLE {
        let first = front.ask(method, params(method)).await;
        let before = front.asked(method);
        let request = rpc::modern("zwei", method, params(method));
        let mut again = front.client.post_modern(&request).await;
        assert_eq!(again.status, 200);
        let again = again.answer().await;
        assert_eq!(front.asked(method), before, "{method}");
        assert_eq!(again["id"], "zwei");
        let left = again["result"]["ttlMs"].as_u64().unwrap();
        let whole = first["result"]["ttlMs"].as_u64().unwrap();
        assert!(left <= whole && left > 0, "{method}: {left} of {whole}");
        let rest = |answer: &Value| {
            let mut result = answer["result"].clone();
            result.as_object_mut().unwrap().remove("ttlMs");
            result
        };
        assert_eq!(rest(&again), rest(&first), "{method}");
    }
}

/// R189: never across principals when private, for all of them when public.
#[tokio::test]
async fn r189_private_answers_are_their_principals_own() {
    let front = Front::with("private", &["ann", "bob"], |_| {}).await;
    for _ in 0..2 {
        front.ask_as("ann", "tools/list", nothing()).await;
        front.ask_as("bob", "tools/list", nothing()).await;
    }
    assert_eq!(front.asked("tools/list"), 2);
    front
        .upstream
        .set(|behaviour| behaviour.cache_scope = "public");
    front.ask_as("ann", "prompts/list", nothing()).await;
    front.ask_as("bob", "prompts/list", nothing()).await;
    assert_eq!(front.asked("prompts/list"), 1);
}

/// R189: what a server may tell its users apart by is no secret to the cache.
#[tokio::test]
async fn r189_requests_with_headers_of_their_own_share_nothing_private() {
    let front = Front::start("private").await;
    let ask = async |tenant: &str| {
        let request = rpc::modern(1, "tools/list", nothing());
        let posting = front.client.post_modern(&request);
        posting.header("X-Tenant", tenant).await.answer().await
    };
    ask("a").await;
    ask("b").await;
    ask("a").await;
    assert_eq!(front.asked("tools/list"), 3);
}

/// R190: other parameters, other answers; retries and calls are always asked.
#[tokio::test]
async fn r190_what_makes_a_difference_is_asked() {
    let front = Front::start("public").await;
    let page = front.ask("prompts/list", nothing()).await;
    let cursor = page["result"]["nextCursor"].clone();
    let next = front.ask("prompts/list", json!({"cursor": cursor})).await;
    assert_ne!(page["result"]["prompts"], next["result"]["prompts"]);
    assert_eq!(front.asked("prompts/list"), 2);

    for uri in ["file:///a", "file:///b"] {
        let read = front.ask("resources/read", json!({"uri": uri})).await;
        assert_eq!(read["result"]["contents"][0]["uri"], uri);
    }
    assert_eq!(front.asked("resources/read"), 2);
    let retry = json!({"uri": "file:///a", "inputResponses": {"x": {}}});
    front.ask("resources/read", retry.clone()).await;
    front.ask("resources/read", retry).await;
    let asks = json!({"uri": "ask:///"});
    for _ in 0..2 {
        let round = front.ask("resources/read", asks.clone()).await;
        assert_ne!(round["result"]["resultType"], "complete");
    }
    assert_eq!(front.asked("resources/read"), 6);
    for _ in 0..2 {
        let call = json!({"name": "echo", "arguments": {}});
        front.ask("tools/call", call).await;
        front.ask("prompts/get", json!({"name": "greet"})).await;
    }
    assert_eq!(front.asked("tools/call"), 2);
    assert_eq!(front.asked("prompts/get"), 2);
}

/// Protocol notes 4.4: off when a server gives no hint, or an error; and where it is turned off.
#[tokio::test]
async fn nothing_is_kept_without_a_hint() {
    let front = Front::start("public").await;
    front.upstream.set(|behaviour| behaviour.ttl_ms = 0);
    for _ in 0..2 {
        front.ask("tools/list", nothing()).await;
        front
            .ask("resources/read", json!({"uri": "file:///none"}))
            .await;
    }
    assert_eq!(front.asked("tools/list"), 2);
    assert_eq!(front.asked("resources/read"), 2);
    let bare = rpc::result(json!({"resources": []}));
    front.upstream.on("resources/list", Script::json(bare));
    for _ in 0..2 {
        front.ask("resources/list", nothing()).await;
    }
    assert_eq!(front.asked("resources/list"), 2);

    let off = Front::with("public", &[], |spec| {
        spec.bridge.cache = CacheConfig {
            enabled: false,
            ..CacheConfig::default()
        };
    });
    let off = off.await;
    for _ in 0..2 {
        off.ask("tools/list", nothing()).await;
    }
    assert_eq!(off.asked("tools/list"), 2);
}

/// The bounds of the configuration hold.
#[tokio::test]
async fn no_more_is_kept_than_may_be() {
    let front = Front::with("public", &[], |spec| spec.bridge.cache.max_entries = 1);
    let front = front.await;
    for method in ["tools/list", "prompts/list", "tools/list", "tools/list"] {
        front.ask(method, nothing()).await;
    }
    assert_eq!(front.asked("tools/list"), 2);
    let small = Front::with("public", &[], |spec| spec.bridge.cache.max_bytes = 1000);
    let small = small.await;
    for _ in 0..2 {
        let list = small.ask("tools/list", nothing()).await;
        assert!(tools(&list).contains(&"echo"));
    }
    assert_eq!(small.asked("tools/list"), 2);
}

/// An answer on a stream is kept as well; what came before it is not repeated.
#[tokio::test]
async fn answers_on_streams_are_kept() {
    let front = Front::start("public").await;
    let result =
        json!({"tools": [], "resultType": "complete", "ttlMs": 60000, "cacheScope": "public"});
    let script = Script::events()
        .event(Event::comment("wait"))
        .message(rpc::result(result));
    front.upstream.on("tools/list", script);
    let request = rpc::modern(1, "tools/list", nothing());
    let mut first = front.client.post_modern(&request).await;
    assert!(first.is_stream());
    assert_eq!(first.answer().await["result"]["tools"], json!([]));
    // Kept once the last byte has passed.
    let _ = first.read_to_end().await;
    let again = front.ask("tools/list", nothing()).await;
    assert_eq!(again["result"]["tools"], json!([]));
    assert_eq!(front.asked("tools/list"), 1);
}

/// Protocol notes 4.4: a cursor that the server does not take makes all pages go.
#[tokio::test]
async fn an_invalid_cursor_drops_all_pages() {
    let front = Front::start("public").await;
    front.ask("prompts/list", nothing()).await;
    front.ask("tools/list", nothing()).await;
    let stale = json!({"cursor": "stale"});
    let refusal = Script::error(400, -32602, "no such cursor");
    front.upstream.once("prompts/list", refusal);
    let refused = front.ask("prompts/list", stale).await;
    assert_eq!(refused["error"]["code"], -32602);
    front.ask("prompts/list", nothing()).await;
    front.ask("tools/list", nothing()).await;
    assert_eq!(front.asked("prompts/list"), 3);
    assert_eq!(front.asked("tools/list"), 1);
}
