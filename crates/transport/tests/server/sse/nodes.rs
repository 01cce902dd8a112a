//! A30: a session is in one process. Several behind a balancer, as the chapter on operations has it.

use std::sync::atomic::Ordering;

use thinpipe_testkit::{Client, RequestBuilder, SseClient, rpc};
use thinpipe_transport::server::SseConfig;

use super::support::{Setup, start};
use crate::support::{Running, call};

/// A message to this path of a process.
fn post(to: &Running, path: &str, message: String) -> RequestBuilder {
    let request = Client::new(&format!("http://{}{path}", to.address)).request("POST");
    request
        .header("content-type", "application/json")
        .body(message)
}

/// A30, R043: a message that meets another process is refused as one of a session that is over.
#[tokio::test]
async fn a30_a_message_for_another_process_gets_404() {
    let (one, other) = (start(Setup::default()).await, start(Setup::default()).await);
    let mut client = one.sse_client().await;
    let path = client.endpoint().to_owned();
    let mut astray = post(&other, &path, call(7, "echo")).await;
    assert_eq!(astray.status, 404);
    let error = astray.json().await["error"].clone();
    assert_eq!(error["data"]["reason"], "session_not_found");
    let sample = &other.sample;
    assert_eq!(sample.begun.load(Ordering::SeqCst), 0, "nothing ran there");
    assert_eq!(post(&one, &path, call(8, "echo")).await.status, 202);
    let answer = client.stream.next_message().await;
    assert_eq!(answer["id"], 8, "the session has not minded");
}

/// A30: where each process has a base of its own, a balancer knows by the path whose session it is.
#[tokio::test]
async fn a30_the_endpoint_says_which_process_it_is() {
    let mut processes = Vec::new();
    for base in ["/node-a", "/node-b"] {
        let sse = SseConfig {
            public_base: base.parse().unwrap(),
            ..SseConfig::default()
        };
        let setup = Setup {
            sse,
            ..Setup::default()
        };
        processes.push((base, start(setup).await));
    }
    for (base, process) in &processes {
        let mut client = SseClient::open(&process.sse_url()).await;
        let endpoint = client.endpoint().to_owned();
        let meant: Vec<_> = processes
            .iter()
            .filter_map(|(base, process)| Some((process, endpoint.strip_prefix(base)?)))
            .collect();
        let [(process, path)] = meant[..] else {
            panic!("{base}: {endpoint}")
        };
        let initialize = rpc::initialize(1, "2024-11-05");
        assert_eq!(post(process, path, initialize).await.status, 202, "{base}");
        assert_eq!(client.stream.next_message().await["id"], 1, "{base}");
    }
}
