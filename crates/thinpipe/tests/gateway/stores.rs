//! Several processes with one Redis, of which any may be killed.

use std::path::Path;

use serde_json::{Value, json};
use thinpipe_testkit::{Client, Process, Redis, SseClient, Upstream, rpc};

use crate::support::{File, Gateway};

struct World {
    redis: Redis,
    upstream: Upstream,
}

impl World {
    async fn start() -> Self {
        Self {
            redis: Redis::start().await,
            upstream: Upstream::start().await,
        }
    }

    async fn gateway(&self) -> Gateway {
        let (store, url) = (self.redis.url(), self.upstream.url());
        let text = format!("store = \"{store}\"\n[[upstreams]]\nurl = \"{url}\"\n");
        Gateway::with_file(&text).await
    }

    async fn two() -> (Self, Gateway, Gateway) {
        let world = Self::start().await;
        let (one, other) = (world.gateway().await, world.gateway().await);
        for gateway in [&one, &other] {
            gateway
                .process
                .line_with("sessions are kept in redis://")
                .await;
        }
        (world, one, other)
    }

    fn counted(&self, what: &str) -> usize {
        self.upstream.requests(what).len()
    }
}

async fn answers(client: &Client, id: &str) {
    let mut answer = client.post(rpc::call(id, "echo")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.answer().await["id"], id);
}

async fn is_gone(client: &Client) {
    let mut answer = client.post(rpc::call("gone", "echo")).await;
    let error = answer.json().await;
    assert_eq!(
        (answer.status, &error["error"]["data"]["reason"]),
        (404, &json!("session_not_found"))
    );
}

/// F8, A30: a session that one process opened is used and ended on another, and is then over on both.
#[tokio::test]
async fn f8_any_process_serves_any_session() {
    let (world, one, other) = World::two().await;
    let here = one.client().await;
    let there = here.at(&other.url);
    for turn in 0..3 {
        answers(&here, &format!("here-{turn}")).await;
        answers(&there, &format!("there-{turn}")).await;
    }
    assert_eq!(there.get().await.status, 200);
    assert_eq!(world.counted("initialize"), 1);
    assert_eq!(there.delete().await.status, 200);
    is_gone(&there).await;
    is_gone(&here).await;
    assert_eq!(
        (world.counted("DELETE"), world.counted("tools/call")),
        (1, 6)
    );
    let status = one.status().await;
    assert_eq!(status["node"]["node_cut_off"], 0, "{status}");
    assert_eq!(status["store"]["place"], world.redis.url());
    assert_eq!(status["store"]["up"], true);
    assert!(
        status["store"]["operations"]["create"]["count"] == 1,
        "{status}"
    );
}

/// F9: a process that is killed takes no session with it, whether another serves it or the same program again.
#[tokio::test]
async fn f9_a_session_outlives_the_process_that_opened_it() {
    let (world, mut one, other) = World::two().await;
    let client = one.client().await;
    answers(&client, "first").await;
    one.process.kill().await;
    answers(&client.at(&other.url), "elsewhere").await;
    let again = world.gateway().await;
    answers(&client.at(&again.url), "again").await;
    assert_eq!(
        (world.counted("initialize"), world.counted("DELETE")),
        (1, 0)
    );
}

/// F9: a restart ends no session that another process can go on with.
#[tokio::test]
async fn f9_a_session_outlives_a_restart() {
    let (world, mut one, other) = World::two().await;
    let client = one.client().await;
    one.process.signal("TERM").await;
    assert!(one.process.wait().await.success());
    answers(&client.at(&other.url), "elsewhere").await;
    assert_eq!(
        (world.counted("initialize"), world.counted("DELETE")),
        (1, 0)
    );
}

/// A30: HTTP+SSE with its stream on one process and its messages on another.
#[tokio::test]
async fn a30_messages_reach_the_stream_on_another_process() {
    let (world, one, other) = World::two().await;
    let mut client = SseClient::open(&one.url.replace("/mcp", "/sse")).await;
    client.initialize("2024-11-05").await;
    let path = client.endpoint().to_owned();
    let elsewhere = Client::new(&other.url.replace("/mcp", &path));
    let taken = elsewhere.post(rpc::call("far", "echo")).await;
    assert_eq!(taken.status, 202);
    let answer: Value = client.stream.next_message().await;
    assert_eq!(answer["id"], "far");
    assert_eq!(world.counted("tools/call"), 1);
}

/// F17: while the store is away, sessions that are here go on; what needs it gets 503; it is used again by itself.
#[tokio::test]
async fn f17_without_its_store_a_process_does_what_it_can() {
    let (mut world, one, _other) = World::two().await;
    let client = one.client().await;
    world.redis.kill().await;
    answers(&client, "without").await;
    let mut refused = one.stranger().post(rpc::initialize(1, "2025-11-25")).await;
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some());
    let error = refused.json().await;
    assert_eq!(
        error["error"]["data"]["reason"],
        "session_store_unavailable"
    );
    // What its server had opened for it is ended again.
    let is_ended = |seen: &thinpipe_testkit::Record| seen.count("DELETE") == 1;
    world.upstream.wait_until(is_ended).await;
    one.process
        .line_with("the store does not do what it is asked")
        .await;
    let status = one.status().await;
    assert_eq!(
        (&status["store"]["up"], &status["status"]),
        (&json!(false), &json!("degraded"))
    );
    assert_eq!(one.admin("/ready").await.status, 200);

    world.redis.restart().await;
    one.process.line_with("the store is reached again").await;
    let anew = one.client().await;
    answers(&anew, "again").await;
    let metrics = one.admin("/metrics").await.read_to_end().await;
    let metrics = String::from_utf8_lossy(&metrics).into_owned();
    assert!(metrics.contains("thinpipe_store_up{} 1"), "{metrics}");
    let create = "thinpipe_store_operation_seconds_count{operation=\"create\"} ";
    assert!(metrics.contains(create), "{metrics}");
}

/// F17: a process starts without its store, says so, is not ready, and goes on when it is there.
#[tokio::test]
async fn f17_a_process_starts_before_its_store() {
    let mut world = World::start().await;
    world.redis.kill().await;
    let gateway = world.gateway().await;
    let said = gateway.process.line_with("cannot be used yet").await;
    assert!(said.contains(&world.redis.url()), "{said}");
    let mut ready = gateway.admin("/ready").await;
    let answer = ready.json().await;
    assert_eq!(
        (ready.status, &answer["status"]),
        (503, &json!("store_unreachable"))
    );
    world.redis.restart().await;
    gateway
        .process
        .line_with("sessions are kept in redis://")
        .await;
    assert_eq!(gateway.admin("/ready").await.status, 200);
    answers(&gateway.client().await, "first").await;
}

/// F14, A13: what keeps a store from being used is said with what to do, by `check` and at the start, and no password.
#[tokio::test]
async fn f14_what_is_wrong_with_a_store_is_said() {
    let redis = Redis::start().await;
    redis
        .command(&["CONFIG", "SET", "requirepass", "right-hunter2"])
        .await;
    let text = |password: &str| {
        let (port, url) = (redis.port(), "http://127.0.0.1:9/mcp");
        format!(
            "store = \"redis://:{password}@127.0.0.1:{port}\"\n[[upstreams]]\nurl = \"{url}\"\n"
        )
    };
    let check = async |text: &str| {
        let file = File::new(text);
        let arguments = [Path::new("check"), &file.path];
        let mut process = Process::start(env!("CARGO_BIN_EXE_thinpipe"), arguments);
        assert!(process.wait().await.success());
        process.lines_to_end().await.join("\n")
    };
    let said = check(&text("wrong-hunter2")).await;
    let refused = "it refuses the user or the password of the URL";
    assert!(
        said.contains("cannot be used from here") && said.contains(refused),
        "{said}"
    );
    assert!(!said.contains("hunter2"), "{said}");
    let said = check(&text("right-hunter2")).await;
    let place = format!("the store redis://127.0.0.1:{} is reached", redis.port());
    assert!(said.contains(&place) && !said.contains("hunter2"), "{said}");

    let gateway = Gateway::with_file(&text("wrong-hunter2")).await;
    let said = gateway.process.line_with("the store redis://").await;
    assert!(said.contains(refused), "{said}");
    let said = gateway.process.lines().join("\n");
    assert!(!said.contains("hunter2"), "{said}");
}
