//! Several replicas of one server behind the program.

use serde_json::json;
use thinpipe_testkit::{Script, Upstream, eventually, rpc};

use crate::support::Gateway;

async fn start(replicas: &[&Upstream], more: &str) -> Gateway {
    let list: Vec<_> = replicas
        .iter()
        .zip('a'..)
        .map(|(replica, name)| format!("{{ name = \"{name}\", url = \"{}\" }}", replica.url()))
        .collect();
    let list = list.join(", ");
    Gateway::with_file(&format!("[[upstreams]]\nreplicas = [{list}]\n{more}\n")).await
}

async fn condition_is(gateway: &Gateway, replica: usize, wanted: &str) {
    eventually("the condition of a replica", async || {
        let status = gateway.status().await;
        let replica = &status["upstreams"][0]["replicas"][replica];
        match replica["condition"] == wanted {
            true => Ok(()),
            false => Err(replica.to_string()),
        }
    })
    .await;
}

/// C19, C20: what each replica gets is shown where operators look, and changes when it dies and when it comes back.
#[tokio::test]
async fn c19_replicas_are_shown_as_they_are() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    let more = "slow_start = \"1h\"\nhealth = { interval = \"50ms\", failures = 1 }";
    let gateway = start(&[&first, &second], more).await;
    condition_is(&gateway, 0, "serving").await;
    first.die().await;
    condition_is(&gateway, 0, "down").await;
    assert_eq!(gateway.status().await["status"], "ok", "one is enough");
    let client = gateway.stranger();
    for id in 0..4 {
        let answer = client.post_modern(&rpc::modern_call(id, "echo")).await;
        assert_eq!(answer.status, 200);
    }
    let metrics = gateway.admin("/metrics").await.read_to_end().await;
    let metrics = String::from_utf8_lossy(&metrics).into_owned();
    for line in [
        "thinpipe_upstream_up{upstream=\"server\"} 1",
        "thinpipe_upstream_replica_up{upstream=\"server\",replica=\"a\"} 0",
        "thinpipe_upstream_replica_in_rotation{upstream=\"server\",replica=\"a\"} 0",
        "thinpipe_upstream_replica_up{upstream=\"server\",replica=\"b\"} 1",
        "thinpipe_upstream_replica_requests_total{upstream=\"server\",replica=\"b\"} 4",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    first.come_back();
    condition_is(&gateway, 0, "recovering").await;
    second.die().await;
    condition_is(&gateway, 1, "down").await;
    let answer = client.post_modern(&rpc::modern_call(9, "echo")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(second.record().count("tools/call"), 4);
}

/// C19, C20: a replica whose URL is wrong fails what it is given, is named in the log, and gets no more for a while.
#[tokio::test]
async fn c19_a_replica_without_an_endpoint_gets_no_sessions() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    let more = "breaker = { failures = 1 }\nhealth = { interval = \"0s\" }";
    let gateway = start(&[&first, &second], more).await;
    gateway.process.line_with("replicas of server: a at ").await;
    gateway.knows_upstream().await;
    second.on("initialize", Script::status(404));
    let mut statuses = Vec::new();
    for id in 0..4 {
        let initialize = rpc::initialize(id, rpc::LEGACY[0]);
        statuses.push(gateway.stranger().post(initialize).await.status);
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 502]);
    condition_is(&gateway, 1, "open").await;
    let line = gateway.process.line_with("it answers 404 at its URL").await;
    assert!(line.contains("replica=\"b\""), "{line}");
}

/// C20: a breaker before one server, which is there only because it is configured.
#[tokio::test]
async fn c20_one_server_may_have_a_breaker() {
    let upstream = Upstream::start().await;
    let text = format!(
        "[[upstreams]]\nurl = \"{}\"\nbreaker = {{ failures = 2 }}\nhealth = {{ interval = \"0\" }}",
        upstream.url()
    );
    let gateway = Gateway::with_file(&text).await;
    gateway.knows_upstream().await;
    upstream.on("tools/call", Script::status(503));
    let client = gateway.stranger();
    for id in 0..2 {
        let call = rpc::modern_call(id, "echo");
        // What the server says passes.
        assert_eq!(client.post_modern(&call).await.status, 503);
    }
    let mut refused = client.post_modern(&rpc::modern_call(3, "echo")).await;
    let error = refused.json().await;
    assert_eq!(
        error["error"]["data"],
        json!({"reason": "upstream_unavailable", "upstream": "server"})
    );
    assert_eq!(upstream.record().count("tools/call"), 2);
    condition_is(&gateway, 0, "open").await;
}
