//! Any gateway serves any session (A30, F8, F10).

use serde_json::{Value, json};
use thinpipe_testkit::{Client, Redis, SseClient, Upstream, eventually, rpc};

use crate::support::{Gateway, Settings};
use crate::world::{BOTH, HELD, Way, World, answers, is_gone};

/// F8: a session that one gateway opened is used on the others and ended on the third, and is then over on all.
#[tokio::test]
async fn f8_any_gateway_serves_any_session() {
    for upstream in BOTH {
        let world = World::with(Settings::of_upstream(upstream)).await;
        let gateways = world.three().await;
        let client = gateways[0].client().await;
        let visitors = gateways.each_ref().map(|gateway| client.at(&gateway.url));
        for turn in 0..3 {
            for (at, visitor) in visitors.iter().enumerate() {
                answers(visitor, &format!("{at}-{turn}")).await;
            }
        }
        assert_eq!(visitors[1].get().await.status, 200);
        assert_eq!(visitors[2].delete().await.status, 200);
        for visitor in &visitors {
            is_gone(visitor).await;
        }
        assert_eq!(world.opened_called_ended(), [1, 9, 1], "{upstream:?}");
        let status = gateways[0].status().await;
        let store = &status["store"];
        assert_eq!(store["place"], world.redis[0].url());
        assert_eq!(
            (&store["up"], &store["operations"]["create"]["count"]),
            (&json!(true), &json!(1)),
            "{status}"
        );
    }
}

/// F8: each gateway shows how many it is one of.
#[tokio::test]
async fn f8_live_gateways_are_counted() {
    let world = World::start().await;
    let mut gateways = world.three().await;
    gateways[2].process.signal("TERM").await;
    assert!(gateways[2].process.wait().await.success());
    eventually("the count of gateways", async || {
        let metrics = gateways[0].admin("/metrics").await.read_to_end().await;
        let metrics = String::from_utf8_lossy(&metrics).into_owned();
        match metrics.contains("thinpipe_node_live{} 2\n") {
            true => Ok(()),
            false => Err(metrics),
        }
    })
    .await;
    assert_eq!(gateways[0].status().await["store"]["nodes"], 2);
}

/// F6: gateways of different configurations, as in a rollout from one to the other: the one that ends a session says why.
#[tokio::test]
async fn f6_a_replica_that_only_another_gateway_has_is_named() {
    let (redis, upstream) = (Redis::start().await, Upstream::start().await);
    let (store, url) = (redis.url(), upstream.url());
    let with = async |place: &str| {
        Gateway::with_file(&format!("store = {store:?}\n[[upstreams]]\n{place}\n")).await
    };
    let one = with(&format!("url = {url:?}")).await;
    let listed = format!(
        "replicas = [{{ name = \"a\", url = {url:?} }}, {{ name = \"b\", url = \"http://127.0.0.1:9/mcp\" }}]"
    );
    let several = with(&listed).await;
    for gateway in [&one, &several] {
        gateway.process.line_with("sessions are kept in ").await;
    }
    let client = one.client().await;
    is_gone(&client.at(&several.url)).await;
    let why = "a replica that is not in the configuration here";
    several.process.line_with(why).await;
}

/// F6: the same where the upstream has another name, which is all that tells where a session belongs.
#[tokio::test]
async fn f6_an_upstream_that_only_another_gateway_has_is_named() {
    let (redis, upstream) = (Redis::start().await, Upstream::start().await);
    let (store, url) = (redis.url(), upstream.url());
    let called = async |name: &str| {
        let upstreams = format!("[[upstreams]]\nname = {name:?}\nurl = {url:?}\n");
        Gateway::with_file(&format!("store = {store:?}\n{upstreams}")).await
    };
    let (one, other) = (called("team").await, called("crew").await);
    for gateway in [&one, &other] {
        gateway.process.line_with("sessions are kept in ").await;
    }
    let client = one.client().await;
    is_gone(&client.at(&other.url)).await;
    let line = other.process.line_with("is not in the configuration here");
    let line = line.await;
    assert!(line.contains("team") && line.contains("crew"), "{line}");
    answers(&client, "still there").await;
}

/// A30, F8: the same in a Redis Cluster, whose parts do not know of each other's keys.
#[tokio::test]
async fn f8_any_gateway_serves_any_session_kept_in_a_cluster() {
    let world = World::in_cluster(Settings::of_upstream(HELD)).await;
    let gateways = world.three().await;
    let mut streams = Vec::new();
    // So many that each part has some.
    for turn in 0..12 {
        let client = gateways[turn % 3].client().await;
        for gateway in &gateways {
            answers(&client.at(&gateway.url), &format!("{turn}")).await;
        }
        streams.push(client.at(&gateways[(turn + 1) % 3].url).get().await);
        if turn % 2 == 0 {
            let ending = client.at(&gateways[(turn + 2) % 3].url);
            assert_eq!(ending.delete().await.status, 200);
            is_gone(&client).await;
        }
    }
    assert_eq!(world.opened_called_ended(), [12, 36, 6]);
    let stream = SseClient::open(&gateways[0].url.replace("/mcp", "/sse")).await;
    is_answered_elsewhere(stream, &gateways[1]).await;
}

/// F10, invariant 3: to another principal a session is not there, on any gateway, and nothing of one is said to the other.
#[tokio::test]
async fn f10_a_session_is_its_principals_on_every_gateway() {
    const TOKENS: &str = r#"
[[tokens]]
principal = "alice"
token = "token-of-alice-0"

[[tokens]]
principal = "bob"
token = "token-of-bob-000"
"#;
    for upstream in BOTH {
        let world = World::with(Settings {
            gateway: TOKENS,
            upstream,
        })
        .await;
        let gateways = world.three().await;
        let stranger = gateways[0].stranger();
        let mut alice = stranger.clone().with_token("token-of-alice-0");
        alice.initialize("2025-11-25").await;
        let mut bob = stranger.with_token("token-of-bob-000").at(&gateways[1].url);
        bob.initialize("2025-11-25").await;
        // Her session and his token.
        let thief = alice.clone().with_token("token-of-bob-000");
        for gateway in &gateways {
            let thief = thief.at(&gateway.url);
            is_gone(&thief).await;
            assert_eq!(thief.get().await.status, 404);
            assert_eq!(thief.delete().await.status, 404);
        }
        assert_eq!(world.counted("tools/call"), 0);
        let mut streams = [
            alice.at(&gateways[1].url).get().await,
            bob.at(&gateways[2].url).get().await,
        ];
        for (at, stream) in streams.iter_mut().enumerate() {
            assert_eq!(stream.status, 200);
            let session = &world.upstream.sessions()[at];
            let params = json!({"for": at});
            world
                .upstream
                .notify(session, rpc::notification("notifications/x", &params));
        }
        for (at, stream) in streams.iter_mut().enumerate() {
            assert_eq!(stream.next_message().await["params"], json!({"for": at}));
        }
        for gateway in &gateways {
            answers(&alice.at(&gateway.url), "alice").await;
            answers(&bob.at(&gateway.url), "bob").await;
        }
    }
}

/// A30: HTTP+SSE with its stream on one gateway and its messages on another, at a URL and in front of programs.
#[tokio::test]
async fn a30_messages_reach_the_stream_on_another_gateway() {
    for world in [
        World::start().await,
        World::reached(Way::Program, Settings::default()).await,
    ] {
        let (one, other) = (world.gateway().await, world.gateway().await);
        let client = SseClient::open(&one.url.replace("/mcp", "/sse")).await;
        is_answered_elsewhere(client, &other).await;
        assert_eq!(world.counted("tools/call"), 1);
    }
}

async fn is_answered_elsewhere(mut client: SseClient, other: &Gateway) {
    client.initialize("2024-11-05").await;
    let path = client.endpoint().to_owned();
    let elsewhere = Client::new(&other.url.replace("/mcp", &path));
    let taken = elsewhere.post(rpc::call("far", "echo")).await;
    assert_eq!(taken.status, 202);
    let answer: Value = client.stream.next_message().await;
    assert_eq!(answer["id"], "far");
}

/// 5.8: what a server asks on a stream at one gateway is answered at another, and the call goes on.
#[tokio::test]
async fn r109_a_question_is_answered_at_another_gateway() {
    for upstream in BOTH {
        let world = World::with(Settings::of_upstream(upstream)).await;
        let gateways = world.three().await;
        let client = gateways[0].client().await;
        for (at, gateway) in gateways.iter().enumerate() {
            let mut call = client.post(rpc::call(at, "ask")).await;
            let question = call.next_message().await;
            assert_eq!(question["method"], "elicitation/create");
            let accepted = json!({"action": "accept", "content": {"answer": "4A"}});
            let answer = rpc::response(question["id"].clone(), &accepted);
            let visitor = client.at(&gateway.url);
            assert_eq!(visitor.post(answer).await.status, 202);
            assert_eq!(call.next_message().await["id"], at);
        }
        assert_eq!(world.counted("tools/call"), 3, "{upstream:?}");
    }
}

/// R233, 5.8.7: what a call of 2026-07-28 asked at one gateway is answered at another, and the call runs once.
#[tokio::test]
async fn r233_a_parked_call_goes_on_at_another_gateway() {
    let settings = Settings::of_upstream("era = \"streamable\"");
    let world = World::of(settings, |behaviour| behaviour.full = true).await;
    let gateways = world.three().await;
    let params = json!({"name": "twice", "arguments": {}});
    let everything = json!({"elicitation": {"form": {}, "url": {}}, "sampling": {}});
    let call = rpc::modern(0, "tools/call", params).declaring(&everything);
    let first = gateways[0].stranger().post_modern(&call).await;
    let mut asked = { first }.answer().await;
    for (round, gateway) in [(1, &gateways[1]), (2, &gateways[2])] {
        assert_eq!(asked["result"]["resultType"], "input_required", "{asked}");
        let questions = asked["result"]["inputRequests"].as_object();
        let keys = questions.into_iter().flat_map(|questions| questions.keys());
        let accepted = json!({"action": "accept", "content": {"answer": "4A"}});
        let answers = keys.map(|key| (key.clone(), accepted.clone())).collect();
        let mut body: Value = serde_json::from_str(&call.body).unwrap();
        body["id"] = round.into();
        body["params"]["requestState"] = asked["result"]["requestState"].clone();
        body["params"]["inputResponses"] = Value::Object(answers);
        let retry = rpc::Modern {
            body: body.to_string(),
            headers: call.headers.clone(),
        };
        asked = gateway.stranger().post_modern(&retry).await.answer().await;
    }
    assert_eq!(asked["id"], 2);
    assert_eq!(asked["result"]["content"][0]["text"], "answered", "{asked}");
    assert_eq!(world.counted("tools/call"), 1);
}
