//! The standalone stream of a session.

use serde_json::{Value, json};

use crate::client::Response;
use crate::rpc;
use crate::scenarios::{assert_refusal, in_session_with_ids, last_session};
use crate::upstream::Upstream;

/// R111, protocol notes 6.4: the newest standalone GET of a session wins: the older one ends, what comes
/// goes to the new one, and nothing is lost.
pub async fn second_standalone_get_replaces_first(gateway: &str, upstream: &Upstream) {
    let client = in_session_with_ids(gateway, upstream).await;
    let session = last_session(upstream);
    let mut first = client.get().await;
    assert!(first.is_stream());
    upstream.notify(&session, note(0));
    assert_eq!(number(&mut first).await, 0);
    let mut second = client.get().await;
    assert_eq!(second.status, 200);
    // Properly or not, it ends.
    let (rest, _) = first.events_to_end().await;
    assert!(!rest.iter().any(crate::Event::has_message), "{rest:?}");
    for n in 1..4 {
        upstream.notify(&session, note(n));
        assert_eq!(number(&mut second).await, n);
    }
}

/// R111, protocol notes 6.4: after three replacements within ten seconds the next one is refused, and the
/// stream there is goes on.
pub async fn fourth_replacement_within_10s_is_409(gateway: &str, upstream: &Upstream) {
    let client = in_session_with_ids(gateway, upstream).await;
    let session = last_session(upstream);
    let mut current = client.get().await;
    for _ in 0..3 {
        let next = client.get().await;
        assert_eq!(next.status, 200);
        current = next;
    }
    let mut refused = client.get().await;
    assert_eq!(refused.status, 409);
    assert_refusal(&refused.json().await, "stream_contended");
    upstream.notify(&session, note(7));
    assert_eq!(number(&mut current).await, 7);
    // Another session has streams of its own.
    let other = in_session_with_ids(gateway, upstream).await;
    assert_eq!(other.get().await.status, 200);
}

/// R077: an upstream without a standalone stream says 405, and so does the gateway; requests still work.
pub async fn upstream_without_standalone_stream_is_405(gateway: &str, upstream: &Upstream) {
    upstream.set(|behaviour| behaviour.standalone = false);
    let client = in_session_with_ids(gateway, upstream).await;
    let get = client.get().await;
    assert_eq!(
        (get.status, get.header("Allow")),
        (405, Some("POST, DELETE"))
    );
    assert_eq!(client.post(rpc::call(1, "echo")).await.status, 200);
}

/// B20, R108: server messages of two sessions never meet.
pub async fn sessions_have_streams_of_their_own(gateway: &str, upstream: &Upstream) {
    let mut streams = Vec::new();
    for n in 0..3 {
        let client = in_session_with_ids(gateway, upstream).await;
        streams.push(client.get().await);
        let session = last_session(upstream);
        upstream.notify(&session, note(n));
    }
    for (n, stream) in streams.iter_mut().enumerate() {
        assert_eq!(number(stream).await, n);
    }
    for (n, session) in upstream.sessions().iter().enumerate() {
        upstream.notify(session, note(n + 10));
    }
    for (n, stream) in streams.iter_mut().enumerate() {
        assert_eq!(number(stream).await, n + 10);
    }
}

fn note(n: usize) -> String {
    rpc::notification(
        "notifications/message",
        &json!({"level": "info", "data": n}),
    )
}

async fn number(stream: &mut Response) -> usize {
    let data = stream
        .next_message()
        .await
        .pointer("/params/data")
        .and_then(Value::as_u64);
    data.and_then(|n| usize::try_from(n).ok())
        .expect("a note with its number")
}
