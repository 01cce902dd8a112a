//! What a response answers, where any gateway may have passed the request: nobody gets past an interceptor by using an
//! id at two gateways.

use serde_json::{Value, json};
use thinpipe_gateway::UpstreamSpec;
use thinpipe_gateway::interceptor::{InterceptorConfig, RedactConfig};
use thinpipe_testkit::{Event, Script, rpc};

use crate::cluster::{Cluster, Node};

/// Two gateways that redact by this rule.
async fn redacting(cluster: &Cluster, rule: Value) -> (Node, Node) {
    let config: RedactConfig = serde_json::from_value(json!({ "rules": [rule] })).unwrap();
    let redacts = |spec: &mut UpstreamSpec| {
        spec.interceptors = vec![InterceptorConfig::Redact(config.clone())];
    };
    (
        cluster.node_with(redacts).await,
        cluster.node_with(redacts).await,
    )
}

/// E3, E8: the response to a call is resumed at another gateway, which knows the id as that of another call; or as that
/// of none.
#[tokio::test]
async fn e3_an_id_used_at_another_gateway_hides_no_response() {
    for is_used_again in [false, true] {
        let cluster = Cluster::start().await;
        let rule = json!({
            "pointer": "/result/content/*/text", "methods": ["tools/call"], "names": ["secret"]
        });
        let (one, other) = redacting(&cluster, rule).await;
        let client = one.client().await;
        let visitor = other.visited_by(&client);
        let first = Event::message(rpc::progress(1, 2)).with_id("long-0");
        cluster.upstream.open_stream("long", vec![first]);
        cluster.upstream.once("tools/call", Script::stream("long"));
        let mut call = client.post(rpc::call(7, "secret")).await;
        assert!(call.next_event().await.is_some());
        call.close();
        if is_used_again {
            assert_eq!(visitor.post(rpc::call(7, "echo")).await.status, 200);
        }
        let answer = rpc::text_result("the secret").replace(rpc::REQUEST_ID, "7");
        let answer = Event::message(answer).with_id("long-1");
        cluster.upstream.append("long", answer);
        cluster.upstream.finish("long");
        let resuming = visitor.get().header("last-event-id", "long-0");
        let answer = resuming.await.next_message().await;
        let text = &answer["result"]["content"][0]["text"];
        assert_eq!(text, "[redacted]", "used again: {is_used_again}");
    }
}

/// E3: the same of what a server asks: it has asked by this id at two gateways.
#[tokio::test]
async fn e3_an_id_asked_by_at_another_gateway_hides_no_response() {
    let cluster = Cluster::start().await;
    let rule = json!({ "pointer": "/result/text", "methods": ["sampling/createMessage"] });
    let (one, other) = redacting(&cluster, rule).await;
    let client = one.client().await;
    let visitor = other.visited_by(&client);
    let asks = |method: &str| {
        let call = Script::events().message(rpc::request(5, method, &json!({})));
        cluster.upstream.once("tools/call", call.stall());
    };
    asks("elicitation/create");
    let mut asked = client.post(rpc::call(1, "echo")).await;
    assert_eq!(asked.next_message().await["method"], "elicitation/create");
    asks("sampling/createMessage");
    let mut asked_too = visitor.post(rpc::call(2, "echo")).await;
    let question = asked_too.next_message().await;
    assert_eq!(question["method"], "sampling/createMessage");
    let answer = rpc::response(5, &json!({"text": "the secret"}));
    assert_eq!(client.post(answer).await.status, 202);
    let posts = cluster.upstream.requests("POST");
    let answer = posts.iter().find(|it| it.json().get("result").is_some());
    assert_eq!(answer.unwrap().json()["result"]["text"], "[redacted]");
}
