//! Streams that a client comes back to (protocol notes 2.2.5, 6.3).

use serde_json::json;
use thinpipe_testkit::{Client, rpc};
use thinpipe_transport::mcp::config::{HttpTransportConfig, Resumability};

use crate::support::{Sampled, streamable, text};

async fn resumable(max_events: usize) -> Sampled {
    let kept = Resumability {
        max_events,
        ..Resumability::default()
    };
    let config = HttpTransportConfig::builder().resumability(kept);
    streamable(config.build().unwrap()).await
}

/// B19, R104, R105, R117: a priming event for those who understand it.
#[tokio::test]
async fn b19_streams_are_primed_for_2025_11_25_only() {
    let sampled = resumable(100).await;
    for (revision, primed) in [
        ("2025-11-25", true),
        ("2025-06-18", false),
        ("2025-03-26", false),
    ] {
        let client = sampled.session(revision).await;
        let mut stream = client.post(rpc::call(1, "count")).await;
        let first = stream.next_event().await.unwrap();
        assert!(first.id.is_some(), "{revision}: {first:?}");
        assert_eq!(
            first.data.as_deref() == Some(""),
            primed,
            "{revision}: {first:?}"
        );
        let modern = client.post_modern(&rpc::modern_call(1, "count"));
        let event = modern.await.next_event().await.unwrap();
        assert_eq!(event.id, None, "2026-07-28 has no ids (R133)");
    }
    let plain = streamable(HttpTransportConfig::default()).await;
    let client = plain.session("2025-11-25").await;
    let event = client
        .post(rpc::call(1, "count"))
        .await
        .next_event()
        .await
        .unwrap();
    assert!(event.has_message() && event.id.is_none(), "{event:?}");
}

/// The ids of a stream's events, and the stream read to its response.
async fn read_call(client: &Client, tool: &str) -> Vec<(String, String)> {
    let mut stream = client.post(rpc::call(1, tool)).await;
    let (events, _) = stream.events_to_end().await;
    let messages = events.into_iter().filter(|event| event.has_message());
    messages
        .map(|event| (event.id.unwrap(), event.data.unwrap()))
        .collect()
}

/// R100 to R103, R110, T6, T9: what came after an event, on its own stream only; what cannot be given is refused.
#[tokio::test]
async fn r101_a_stream_is_replayed_after_an_event() {
    let sampled = resumable(100).await;
    let client = sampled.session("2025-11-25").await;
    let (first, other) = (
        read_call(&client, "count").await,
        read_call(&client, "count").await,
    );
    assert_eq!(first.len(), 4);
    assert!(
        first
            .iter()
            .all(|(id, _)| other.iter().all(|(o, _)| o != id)),
        "R100"
    );
    for seen in 0..3 {
        let mut resumed = client.resume(&first[seen].0).await;
        let (events, _) = resumed.events_to_end().await;
        let again: Vec<_> = events
            .into_iter()
            .filter(|event| event.has_message())
            .collect();
        let again: Vec<_> = again
            .into_iter()
            .map(|e| (e.id.unwrap(), e.data.unwrap()))
            .collect();
        assert_eq!(again, first[seen + 1..], "after event {seen}");
    }
    // The last one, an unknown one, one of another session.
    assert_eq!(client.resume(&first[3].0).await.status, 204);
    for unknown in ["99-1", "1-99", "nonsense", "1-01", "-1"] {
        assert_eq!(client.resume(unknown).await.status, 400, "{unknown}");
    }
    let stranger = sampled.session("2025-11-25").await;
    assert_eq!(stranger.resume(&first[0].0).await.status, 400);
    let mut pong = client.post(rpc::request(5, "ping", &json!({}))).await;
    assert_eq!(
        pong.json().await["result"],
        json!({}),
        "the session stays usable"
    );
}

/// F-rows, R110: what was pushed out is refused, not skipped over.
#[tokio::test]
async fn r110_evicted_events_are_refused() {
    let sampled = resumable(2).await;
    let client = sampled.session("2025-11-25").await;
    let read = read_call(&client, "count").await;
    assert_eq!(client.resume(&read[0].0).await.status, 400);
    assert_eq!(client.resume(&read[2].0).await.status, 200);
}

/// R103, R107: a client that lost its stream comes back and gets its response.
#[tokio::test]
async fn r103_a_lost_stream_is_resumed() {
    let sampled = resumable(100).await;
    let client = sampled.session("2025-11-25").await;
    let mut stream = client.post(rpc::call(1, "wait")).await;
    let primed = stream.next_event().await.unwrap();
    let progress = stream.next_event().await.unwrap();
    stream.close();
    let mut resumed = client.resume(progress.id.as_deref().unwrap()).await;
    let again = resumed.next_event().await.unwrap();
    assert_eq!(
        (&again.id, again.data.as_deref()),
        (&progress.id, Some("")),
        "R117"
    );
    sampled.seen.gate.open();
    assert_eq!(text(&resumed.next_message().await), "waited");
    assert_ne!(primed.id, progress.id);
}

/// R106, 2025-11-25: a stream that the server leaves says when to come back, and has the answer then.
#[tokio::test]
async fn r106_a_stream_can_be_left_to_be_resumed() {
    let sampled = resumable(100).await;
    let client = sampled.session("2025-11-25").await;
    let mut stream = client.post(rpc::call(1, "leave")).await;
    let primed = stream.next_event().await.unwrap();
    let (rest, _) = stream.events_to_end().await;
    assert!(rest.iter().any(|event| event.retry == Some(20)), "{rest:?}");
    assert!(!rest.iter().any(|event| event.has_message()), "{rest:?}");
    let mut resumed = client.resume(primed.id.as_deref().unwrap()).await;
    resumed.next_event().await.unwrap();
    sampled.seen.gate.open();
    assert_eq!(text(&resumed.next_message().await), "left");
    // Where nobody could come back, it stays.
    let older = sampled.session("2025-06-18").await;
    assert_eq!(
        text(&older.post(rpc::call(1, "leave")).await.answer().await),
        "stayed"
    );
    let modern = client.post_modern(&rpc::modern_call(1, "leave"));
    assert_eq!(text(&modern.await.answer().await), "stayed");
}
