//! Bodies of every size, and streams without end.

use serde_json::json;
use thinpipe_testkit::{Client, Event, Gate, Response, Script, Upstream, rpc};

use crate::support::{Mode, Settings, start};

/// A JSON answer of about this many bytes, announced or in chunks.
async fn ask(
    upstream: &Upstream,
    client: &Client,
    bytes: usize,
    chunked: bool,
) -> (Response, String) {
    let id = format!("{bytes} {chunked}");
    let text = "x".repeat(bytes);
    let answer = format!(r#"{{"jsonrpc":"2.0","id":"{id}","result":{{"text":"{text}"}}}}"#);
    let script = Script::json(&answer);
    upstream.once(
        "tools/call",
        if chunked { script.chunked() } else { script },
    );
    (client.post(rpc::call(id, "echo")).await, answer)
}

async fn every_size(mode: Mode) {
    let settings = Settings::of_upstream("max_message = \"32 MiB\"");
    let (upstream, _gateway, client) = start(mode, settings).await;
    for bytes in [500 << 10, 5 << 20, 20 << 20] {
        for chunked in [false, true] {
            let (mut response, answer) = ask(&upstream, &client, bytes, chunked).await;
            assert_eq!(
                (response.status, response.header("Content-Type")),
                (200, Some("application/json"))
            );
            let body = response.read_to_end().await;
            assert!(
                body == answer,
                "{} bytes of {}, chunked: {chunked}",
                body.len(),
                answer.len()
            );
        }
    }
}

/// C10: less than 1 MiB, 1 to 10 MiB, 10 to 100 MiB, of known and of unknown length.
#[tokio::test]
async fn c10_pass_every_class_of_size() {
    every_size(Mode::Pass).await;
}

/// C10: the same, with somebody who reads all of it.
#[tokio::test]
async fn c10_inspect_every_class_of_size() {
    every_size(Mode::Inspect).await;
}

/// C10: over the cap, 502 with the reason and the id; the request is not sent again, the next is served. What
/// passes unread and did not say its length cannot be taken for whole.
#[tokio::test]
async fn c10_over_the_cap_is_502_with_the_reason() {
    for (mode, upstream_settings) in [
        (Mode::Pass, "max_passed_body = \"1 MiB\""),
        (Mode::Inspect, "max_message = \"1 MiB\""),
    ] {
        let settings = Settings::of_upstream(upstream_settings);
        let (upstream, _gateway, client) = start(mode, settings).await;
        for (round, chunked) in [false, true].into_iter().enumerate() {
            let bytes = 3 << 20;
            let (mut response, answer) = ask(&upstream, &client, bytes, chunked).await;
            if mode == Mode::Pass && chunked {
                let (body, end) = response.try_read_to_end().await;
                assert!(
                    end.is_err() && body.len() <= 1 << 20,
                    "{} bytes, {end:?}",
                    body.len()
                );
                assert!(answer.as_bytes().starts_with(&body));
            } else {
                let error = response.json().await;
                let id = format!("{bytes} {chunked}");
                assert_eq!(
                    (response.status, &error["id"]),
                    (502, &json!(id)),
                    "{mode:?}"
                );
                assert_eq!(
                    error["error"]["data"]["reason"], "message_too_large",
                    "{error}"
                );
            }
            assert_eq!(upstream.record().count("tools/call"), 2 * round + 1);
            let after = client
                .post(rpc::call(format!("after {round}"), "echo"))
                .await;
            assert_eq!(after.status, 200);
        }
    }
}

/// C9: a stream that goes on and on is relayed in constant memory: the second hundred thousand events take no
/// more than the first ten thousand did.
async fn endless_stream(mode: Mode) {
    const WARM: u64 = 10_000;
    const MORE: u64 = 100_000;
    const SLACK: u64 = 256 << 10;
    let (upstream, gateway, client) = start(mode, Settings::default()).await;
    let note = rpc::notification("x", &json!({"p": "y".repeat(150)}));
    let event = Event::message(note).to_bytes();
    let gate = Gate::new();
    let script = Script::events()
        .fill(event.clone(), WARM)
        .wait(&gate)
        .fill(event.clone(), MORE);
    upstream.on("tools/call", script.message(rpc::text_result("done")));
    let mut response = client.post(rpc::call(1, "echo")).await;
    let length = event.len() as u64;
    let mut read = 0;
    read_until(&mut response, &mut read, WARM * length).await;
    let before = gateway.process.usage().rss_bytes;
    gate.open();
    let mut most = 0;
    for part in 1..=20 {
        read_until(&mut response, &mut read, (WARM + MORE / 20 * part) * length).await;
        most = gateway.process.usage().rss_bytes.max(most);
    }
    let growth = most.saturating_sub(before);
    assert!(growth <= SLACK, "{growth} bytes of growth");
    let rest = response.read_to_end().await;
    let last = rpc::text_result("done").replace(rpc::REQUEST_ID, "1");
    assert_eq!(
        read + rest.len() as u64,
        (WARM + MORE) * length + Event::message(last).to_bytes().len() as u64
    );
}

/// Reads on until so many bytes of the body have been read.
async fn read_until(response: &mut Response, read: &mut u64, bytes: u64) {
    while *read < bytes {
        let piece = response.piece().await;
        let piece = piece.expect("a body that goes on").expect("more of it");
        *read += piece.data.len() as u64;
    }
}

#[tokio::test]
async fn c9_pass_endless_stream_in_constant_memory() {
    endless_stream(Mode::Pass).await;
}

#[tokio::test]
async fn c9_inspect_endless_stream_in_constant_memory() {
    endless_stream(Mode::Inspect).await;
}
