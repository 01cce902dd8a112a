//! How a client and a server get to know each other, and what each sees of the other's revision.

use std::sync::Arc;

use serde_json::{Value, json};
use thinpipe_testkit::{Request, rpc};

use crate::caller::Introduction;
use crate::gateway::Gateway;
use crate::pairs::Pair;

rows! {
    /// R213: both sides share the revision that the server has named.
    a r213_the_revision_is_what_the_server_says;
    /// R216: the client's own revision, the server's name, and nothing that only modern clients know.
    b r216_initialize_is_answered_from_discover;
    /// R216: a server that does not say its name has that of its upstream.
    b r216_a_server_without_a_name_has_one;
    /// R230, R232: what a legacy server can do, said in the way of 2026-07-28.
    c r230_discover_is_answered_from_a_session;
    /// R245: what the server says of itself.
    d r245_discover_is_the_servers;
    /// R217, R232: lists have the members that the client's revision has, and no other.
    all r217_r232_lists_have_the_shape_of_the_clients_revision;
    /// R230, and protocol notes 5.1, "Version envelope": each side has the keys of its own revision only.
    all r230_the_envelope_is_the_servers_own;
    /// R224, R236: a server hears of no capability that the client has not declared.
    all r224_r236_capabilities_are_those_of_the_client;
    /// Protocol notes 5.3.2: a tool whose headers cannot be sent is not offered, and not called.
    b r217_tools_with_bad_headers_are_left_out;
    /// Protocol notes 5.3.2: what legacy clients take no results of is text for them.
    b r217_results_that_are_no_objects_are_text;
}

async fn r213_the_revision_is_what_the_server_says(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    for revision in ["2025-06-18", "2025-11-25"] {
        let caller = gateway
            .caller_who(&Introduction::of_revision(revision))
            .await;
        assert_eq!(caller.opened["protocolVersion"], revision);
        assert_eq!(caller.opened["serverInfo"]["name"], "counting-upstream");
    }
    let asked = gateway.upstream.requests("initialize");
    let of_gateway = |asked: &&Arc<Request>| asked.param("/clientInfo/name") != "testkit";
    let clients = asked.iter().filter(|asked| !of_gateway(asked));
    let revisions: Vec<&Value> = clients
        .map(|asked| asked.param("/protocolVersion"))
        .collect();
    assert_eq!(revisions, ["2025-06-18", "2025-11-25"]);
}

async fn r216_initialize_is_answered_from_discover(pair: Pair) {
    let gateway = Gateway::behaving(pair, |behaviour| {
        behaviour.capabilities["extensions"] =
            json!({"io.modelcontextprotocol/tasks": {}, "com.example/more": {}});
    })
    .await;
    for revision in ["2024-11-05", "2025-11-25"] {
        let caller = gateway
            .caller_who(&Introduction::of_revision(revision))
            .await;
        let opened = caller.opened;
        assert_eq!(opened["protocolVersion"], revision);
        assert_eq!(opened["serverInfo"]["name"], "counting-upstream");
        assert_eq!(opened["instructions"], "Ask for a seat.");
        assert_eq!(opened["capabilities"]["resources"]["subscribe"], true);
        assert_eq!(
            opened["capabilities"]["extensions"],
            json!({"com.example/more": {}})
        );
        for absent in ["resultType", "ttlMs", "cacheScope", "supportedVersions"] {
            assert_eq!(opened.get(absent), None, "{opened}");
        }
    }
    assert_eq!(
        gateway.upstream.record().count("notifications/initialized"),
        0
    );
}

async fn r216_a_server_without_a_name_has_one(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let discovered = json!({
        "resultType": "complete",
        "supportedVersions": [rpc::MODERN],
        "capabilities": {},
        "ttlMs": 0,
        "cacheScope": "private",
    });
    let script = thinpipe_testkit::Script::json(rpc::result(discovered));
    gateway.upstream.on("server/discover", script);
    let caller = gateway.caller().await;
    let named = json!({"name": "server", "version": "unknown"});
    assert_eq!(caller.opened["serverInfo"], named);
}

async fn r230_discover_is_answered_from_a_session(pair: Pair) {
    let gateway = Gateway::behaving(pair, |behaviour| {
        behaviour.capabilities["tasks"] = json!({"list": {}});
    })
    .await;
    let opened = gateway.caller().await.opened;
    assert_eq!(opened["resultType"], "complete");
    assert_eq!(opened["supportedVersions"][0], rpc::MODERN, "{opened}");
    assert_eq!(
        opened["capabilities"]["prompts"],
        json!({"listChanged": true})
    );
    assert_eq!(opened["capabilities"].get("tasks"), None, "{opened}");
    assert_eq!(opened["instructions"], "Ask for a seat.");
    assert_eq!(
        opened["_meta"][rpc::SERVER_INFO]["name"],
        "counting-upstream"
    );
    assert_eq!(
        (&opened["ttlMs"], &opened["cacheScope"]),
        (&json!(0), &json!("private"))
    );
}

async fn r245_discover_is_the_servers(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let opened = gateway.caller().await.opened;
    // What is served here, of which the server does one itself (protocol notes 1.2).
    let bridged = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];
    let served: Vec<&str> = [rpc::MODERN].into_iter().chain(bridged).collect();
    assert_eq!(opened["supportedVersions"], json!(served));
    assert_eq!(opened["capabilities"]["resources"]["subscribe"], true);
    assert_eq!(
        opened["_meta"][rpc::SERVER_INFO]["name"],
        "counting-upstream"
    );
    assert_eq!(gateway.upstream.record().count("initialize"), 0);
}

async fn r217_r232_lists_have_the_shape_of_the_clients_revision(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    for (method, list) in [
        ("tools/list", "tools"),
        ("prompts/list", "prompts"),
        ("resources/list", "resources"),
        ("resources/templates/list", "resourceTemplates"),
    ] {
        let result = caller.result(method, method, json!({})).await;
        let items = result[list].as_array();
        assert!(items.is_some_and(|items| !items.is_empty()), "{result}");
        let named = &result["_meta"][rpc::SERVER_INFO]["name"];
        if pair.client.is_modern() {
            assert_eq!(result["resultType"], "complete", "{result}");
            assert!(result["ttlMs"].is_u64(), "{result}");
            assert_eq!(result["cacheScope"], "private", "{result}");
            assert_eq!(named, "counting-upstream", "{result}");
        } else {
            for absent in ["resultType", "ttlMs", "cacheScope"] {
                assert_eq!(result.get(absent), None, "{result}");
            }
        }
    }
}

async fn r230_the_envelope_is_the_servers_own(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    let params = json!({"name": "echo", "arguments": {}, "_meta": {"com.example/mine": [1]}});
    caller.result(1, "tools/call", params).await;
    let call = gateway
        .upstream
        .requests("tools/call")
        .pop()
        .expect("it came");
    let meta = call.param("/_meta");
    assert_eq!(meta["com.example/mine"], json!([1]));
    assert_eq!(
        meta.get(rpc::CLAIM).is_some(),
        pair.server.is_modern(),
        "{meta}"
    );
    assert_eq!(
        meta.get(rpc::CAPABILITIES).is_some(),
        pair.server.is_modern(),
        "{meta}"
    );
    let level = meta.get(rpc::LOG_LEVEL);
    assert_eq!(level, None, "nobody asked for log lines");
}

async fn r224_r236_capabilities_are_those_of_the_client(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let who = Introduction::declaring(json!({"sampling": {}}));
    let mut caller = gateway.caller_who(&who).await;
    caller
        .result(1, "tools/call", json!({"name": "echo"}))
        .await;
    let opened = gateway.upstream.requests("initialize");
    let calls = gateway.upstream.requests("tools/call");
    let declared = json!({"sampling": {}});
    if pair.server.is_modern() {
        let call = calls.last().expect("it was called");
        return assert_eq!(*call.declared(), declared);
    }
    // The gateway asks for itself too, and can do nothing.
    let all: Vec<_> = opened
        .iter()
        .map(|opened| opened.param("/capabilities"))
        .collect();
    assert!(all.contains(&&declared), "{all:?}");
    assert!(
        all.iter()
            .all(|other| **other == declared || **other == json!({})),
        "{all:?}"
    );
}

async fn r217_tools_with_bad_headers_are_left_out(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    let list = caller.result(1, "tools/list", json!({})).await;
    let names = list["tools"].as_array().into_iter().flatten();
    let names: Vec<&Value> = names.map(|tool| &tool["name"]).collect();
    assert!(names.contains(&&json!("region")), "{names:?}");
    assert!(!names.contains(&&json!("bad_header")), "{names:?}");
    let refused = caller
        .answer(2, "tools/call", json!({"name": "bad_header"}))
        .await;
    assert_eq!(refused["error"]["code"], -32602, "{refused}");
    assert_eq!(gateway.upstream.record().count("tools/call:bad_header"), 0);
}

async fn r217_results_that_are_no_objects_are_text(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    let list = caller.result(1, "tools/list", json!({})).await;
    let mut tools = list["tools"].as_array().into_iter().flatten();
    let numbers = tools
        .find(|tool| tool["name"] == "numbers")
        .expect("the tool");
    assert_eq!(numbers.get("outputSchema"), None, "{numbers}");
    let result = caller
        .result(2, "tools/call", json!({"name": "numbers"}))
        .await;
    assert_eq!(result.get("structuredContent"), None, "{result}");
    let text = result["content"][0]["text"].as_str().expect("a text");
    assert_eq!(
        serde_json::from_str::<Value>(text).unwrap_or_default(),
        json!([1, 2])
    );
}
