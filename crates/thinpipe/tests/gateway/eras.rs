//! Two eras on one endpoint.

use serde_json::{Value, json};
use thinpipe_testkit::{Client, Era, RequestBuilder, Script, Upstream, rpc};

use crate::support::{Gateway, Mode, Settings, start_with};

async fn gateway_to(era: Era) -> (Upstream, Gateway) {
    let upstream = Upstream::start().await;
    upstream.set(|behaviour| behaviour.era = era);
    // Health checks are the same request as probes, which are counted here.
    let settings = Settings::of_upstream(r#"health = { interval = "0" }"#);
    let gateway = Gateway::start(&upstream, Mode::Pass, settings).await;
    (upstream, gateway)
}

/// K1: both kinds of client in front of all three kinds of server, whether or not both sides speak the same.
/// What the server speaks it is asked once.
#[tokio::test]
async fn k1_every_client_meets_every_server() {
    for era in [Era::Both, Era::Sessions, Era::Stateless] {
        let (upstream, gateway) = gateway_to(era).await;
        gateway.knows_upstream().await;
        for round in 0..3 {
            let initialize = rpc::initialize(format!("i{round}"), "2025-11-25");
            let mut legacy = gateway.stranger().post(initialize).await;
            let answer = legacy.json().await;
            assert_eq!(
                (legacy.status, &answer["result"]["protocolVersion"]),
                (200, &json!("2025-11-25"))
            );
            let call = rpc::modern_call(format!("m{round}"), "echo");
            let mut modern = gateway.stranger().post_modern(&call).await;
            let answer = modern.json().await;
            assert_eq!(answer["id"], format!("m{round}"));
            assert_eq!(
                (modern.status, &answer["result"]["resultType"]),
                (200, &json!("complete"))
            );
        }
        let record = upstream.record();
        let mut asked = record.received.iter();
        let probed = asked.any(|asked| asked.id_text() == Some("\"thinpipe-probe\""));
        let again = asked.any(|again| {
            again.rpc_method() == Some("server/discover")
                && again.id_text() == Some("\"thinpipe-probe\"")
        });
        assert!(probed && !again, "{record}");
        assert_eq!(record.count("tools/call"), 3, "{record}");
    }
}

/// K1: a server that was replaced by an older one says so by 404; the next request finds that out.
#[tokio::test]
async fn k1_contradicted_verdict_is_asked_for_again() {
    let (upstream, gateway) = gateway_to(Era::Both).await;
    gateway.knows_upstream().await;
    upstream.set(|behaviour| behaviour.era = Era::Sessions);
    let nothing = Script::status(404).content_type("text/plain");
    upstream.once("tools/call", nothing.whole("no such path"));
    let call = rpc::modern_call("before", "echo");
    let first = gateway.stranger().post_modern(&call).await;
    assert_eq!(first.status, 404);
    let call = rpc::modern_call("after", "echo");
    let answer = gateway.stranger().post_modern(&call).await.json().await;
    assert_eq!(answer["result"]["resultType"], "complete", "{answer}");
    let calls = upstream.requests("tools/call");
    assert_eq!(calls.len(), 2);
    assert!(calls[1].session().is_some(), "in a session");
}

/// K2, R120, R121: headers that say something else than the body are refused, and the server is not asked.
#[tokio::test]
async fn k2_headers_that_differ_from_the_body_are_refused() {
    let (upstream, gateway) = gateway_to(Era::Both).await;
    let client = gateway.stranger();
    let call = rpc::modern_call("k2", "echo");
    for (name, value) in [
        ("MCP-Protocol-Version", Some("2025-11-25")),
        ("Mcp-Method", Some("tools/list")),
        ("Mcp-Method", Some("Tools/Call")),
        ("Mcp-Method", None),
        ("Mcp-Name", Some("other")),
        ("Mcp-Name", Some("=?base64?!?=")),
        ("Mcp-Name", None),
    ] {
        let request = client.post_modern(&call).without(name);
        let request = match value {
            Some(value) => request.header(name, value),
            None => request,
        };
        let mut response = request.await;
        let answer = response.json().await;
        assert_eq!(response.status, 400, "{name}: {value:?}");
        assert_eq!(
            (&answer["id"], &answer["error"]["code"]),
            (&json!("k2"), &json!(-32020)),
            "{answer}"
        );
    }
    assert_eq!(upstream.record().count("tools/call"), 0);
    let encoded = client
        .post_modern(&call)
        .replace("Mcp-Name", "=?base64?ZWNobw==?=");
    assert_eq!(
        encoded.await.status,
        200,
        "R122: a sentinel that says the same"
    );
}

/// K4: in revisions that do not tie headers to the body, nobody believes them: neither the interceptor
/// that decides by name, nor the server, which does not get to see them, on any method.
#[tokio::test]
async fn k4_headers_of_older_revisions_are_not_believed() {
    let denying =
        "[[upstreams.interceptors]]\ntype = \"access\"\ntools = { deny = [\"progress\"] }";
    let (upstream, gateway, client) = start_with(denying).await;
    upstream.set(|behaviour| behaviour.event_ids = true);
    let lying = |request: RequestBuilder| {
        request
            .header("Mcp-Method", "ping")
            .header("Mcp-Param-Region", "eu")
    };
    let lie = |id: u64, tool: &str, said: &str| {
        let call = client.post(rpc::call(id, tool));
        lying(call).header("Mcp-Name", said)
    };
    let opening = gateway.stranger().post(rpc::initialize(0, "2025-11-25"));
    assert_eq!(lying(opening).await.status, 200);
    let answer = lie(1, "progress", "echo").await.answer().await;
    assert_eq!(answer["error"]["code"], -32602, "{answer}");
    let answer = lie(2, "echo", "progress").await.answer().await;
    assert!(answer["result"].is_object(), "{answer}");
    let calls = upstream.requests("tools/call");
    assert_eq!(calls.len(), 1);
    for request in [
        lying(client.post(rpc::initialized())),
        lying(client.get()),
        lying(client.resume("call-0-0")),
        lying(client.delete()),
    ] {
        drop(request.await);
    }
    let record = upstream.record();
    assert!(record.count("GET") == 2 && record.count("DELETE") == 1);
    for request in record.received.iter().filter(|r| !r.is_modern()) {
        for name in ["Mcp-Method", "Mcp-Name", "Mcp-Param-Region"] {
            assert!(!request.headers.contains(name), "{}", request.to_text());
        }
    }
}

/// R126, protocol notes 4.2: what an interceptor takes out of the arguments does not leave in a header that
/// repeats it; a header that nobody knows passes, unless nobody can know any more what it is about.
#[tokio::test]
async fn r126_headers_follow_changed_arguments() {
    let hiding = "[[upstreams.interceptors]]\ntype = \"redact\"\nrules = [{ pointer = \"/params/arguments/region\", names = [\"echo\"] }]";
    let (upstream, gateway, _client) = start_with(hiding).await;
    let client = gateway.stranger();
    let arguments = json!({"region": "secret-eu", "count": 42, "deep": {"other": "日本語"}});
    for (tool, region, unknown) in [
        ("echo", &["[redacted]"][..], &[][..]),
        ("progress", &["secret-eu"], &["known to the server"]),
    ] {
        let mut call = rpc::modern(
            1,
            "tools/call",
            json!({"name": tool, "arguments": arguments}),
        );
        for (name, value) in [
            ("Mcp-Param-Region", "secret-eu"),
            ("Mcp-Param-Count", "42.0"),
            ("mcp-param-other", "=?base64?5pel5pys6Kqe?="),
            ("Mcp-Param-Unknown", "known to the server"),
        ] {
            call.headers.push(name, value);
        }
        assert_eq!(client.post_modern(&call).await.status, 200);
        let call = upstream.requests("tools/call").pop().expect("a call");
        let told = |name| call.headers.all(name).collect::<Vec<_>>();
        assert_eq!(told("Mcp-Param-Region"), region);
        assert_eq!(told("Mcp-Param-Unknown"), unknown);
        assert_eq!(told("Mcp-Param-Count"), ["42.0"]);
        assert_eq!(told("Mcp-Param-Other"), ["=?base64?5pel5pys6Kqe?="]);
        assert_eq!(call.to_text().contains("secret-eu"), tool != "echo");
    }
}

/// K5, R008: a revision nobody serves is refused with those that are.
#[tokio::test]
async fn k5_unknown_revision_names_what_is_served() {
    let (upstream, gateway) = gateway_to(Era::Both).await;
    let call = rpc::modern_at("2031-01-01", 5, "tools/call", json!({"name": "echo"}));
    let mut response = gateway.stranger().post_modern(&call).await;
    let answer = response.json().await;
    assert_eq!((response.status, &answer["id"]), (400, &json!(5)));
    assert_eq!(answer["error"]["code"], -32022);
    assert_eq!(answer["error"]["data"]["requested"], "2031-01-01");
    let supported = answer["error"]["data"]["supported"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    assert!(supported.contains(&json!(rpc::MODERN)), "{answer}");
    assert_eq!(upstream.record().count("tools/call"), 0);
}

/// K6, R137: the stateless endpoint has no GET and no DELETE, knows no sessions and no cursors, and says
/// 404 to a method that nobody knows.
#[tokio::test]
async fn k6_stateless_requests_have_no_session() {
    let (upstream, gateway) = gateway_to(Era::Both).await;
    let in_session = gateway.client().await;
    let session = in_session.session().unwrap_or_default().to_owned();
    let client = gateway.stranger();
    for request in [client.get(), client.delete()] {
        let response = request.header("MCP-Protocol-Version", rpc::MODERN).await;
        assert_eq!(
            (response.status, response.header("Allow")),
            (405, Some("POST"))
        );
    }
    let call = rpc::modern_call(1, "echo");
    for id in [session.as_str(), "invented"] {
        let call = client.post_modern(&call).header("Mcp-Session-Id", id);
        let response = call.header("Last-Event-ID", "call-1-0").await;
        assert_eq!(
            (response.status, response.header("Mcp-Session-Id")),
            (200, None)
        );
    }
    for call in upstream.requests("tools/call") {
        assert_eq!((call.session(), call.last_event_id()), (None, None));
    }
    for method in ["ping", "logging/setLevel", "resources/subscribe", "no/such"] {
        let request = rpc::modern("unknown", method, json!({"uri": "x", "level": "info"}));
        let mut response = client.post_modern(&request).await;
        let answer = response.json().await;
        assert_eq!(response.status, 404, "R128: {method}: {answer}");
        assert_eq!(
            (&answer["id"], &answer["error"]["code"]),
            (&json!("unknown"), &json!(-32601)),
            "{answer}"
        );
    }
}

/// K8, R145, R148: a subscription begins with its acknowledgement, is tagged with its own id, keeps two of
/// one client apart, counts as a stream, and can be asked for again after a break.
#[tokio::test]
async fn k8_subscriptions_are_long_streams() {
    for mode in [Mode::Pass, Mode::Inspect] {
        let upstream = Upstream::start().await;
        let settings = Settings::of_gateway("limits.max_streams = 2");
        let gateway = Gateway::start(&upstream, mode, settings).await;
        let client = gateway.stranger();
        let mut first = listen(&client, json!("a")).await;
        let mut second = listen(&client, json!(7)).await;
        for (stream, id) in [(&mut first, json!("a")), (&mut second, json!(7))] {
            let message = stream.next_message().await;
            assert_eq!(
                message["method"],
                "notifications/subscriptions/acknowledged"
            );
            assert_eq!(
                message["params"]["_meta"][rpc::SUBSCRIPTION],
                id,
                "{message}"
            );
        }
        assert_eq!(
            listen(&client, json!("third")).await.status,
            503,
            "the limit of streams"
        );
        // The server goes, and comes back: what was listened to is lost, and asked for again.
        upstream.die().await;
        for (stream, id) in [(&mut first, json!("a")), (&mut second, json!(7))] {
            let message = stream.next_message().await;
            assert_eq!(
                (&message["id"], &message["error"]["data"]["reason"]),
                (&id, &json!("upstream_stream_lost"))
            );
            assert_eq!(stream.next_event().await, None);
        }
        upstream.come_back();
        let mut again = listen(&client, json!("again")).await;
        assert_eq!(
            again.next_message().await["params"]["_meta"][rpc::SUBSCRIPTION],
            "again"
        );
    }
}

async fn listen(client: &Client, id: Value) -> thinpipe_testkit::Response {
    let params = json!({"notifications": {"toolsListChanged": true}});
    client
        .post_modern(&rpc::modern(id, "subscriptions/listen", params))
        .await
}
