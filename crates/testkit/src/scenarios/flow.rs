//! A client that reads slowly, or not at all.

use bytes::{Bytes, BytesMut};
use serde_json::json;

use crate::client::Response;
use crate::event::Event;
use crate::rpc;
use crate::scenarios::{filler, in_session, last_session};
use crate::upstream::{Outcome, Script, Upstream};
use crate::usage::Usage;

/// How much may pile up for a client that does not read.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes that the upstream may write before it is stopped: what the buffers of all sockets and of the
    /// gateway hold together.
    pub upstream_bytes: u64,
    /// Bytes by which the resident memory of the gateway may grow.
    pub gateway_growth: u64,
}

/// C25, trap 2 and 6: a client that stops reading stops the upstream, the gateway (with this process id)
/// does not grow, and when the client reads on, nothing is lost.
pub async fn stop_reading_stops_upstream(
    gateway: &str,
    upstream: &Upstream,
    process: Option<u32>,
    bounds: Bounds,
) {
    const EVENTS: u64 = 16_000;
    // Small buffers at both ends, so that what is in flight is the gateway's.
    upstream.send_buffer(64 << 10).await;
    let client = in_session(gateway).await;
    // Whatever the first exchanges allocate is there before the figures are taken.
    client
        .post(rpc::call("first", "progress"))
        .await
        .read_to_end()
        .await;
    let before = process.map(Usage::of);
    let event = filler().to_bytes();
    let last = rpc::text_result("done");
    upstream.on(
        "tools/call",
        Script::events().fill(event.clone(), EVENTS).message(&last),
    );
    let mut response = client
        .post(rpc::call(1, "echo"))
        .receive_buffer(16 << 10)
        .await;

    let taken = upstream.blocked("tools/call").await;
    assert!(
        taken <= bounds.upstream_bytes,
        "{taken} bytes written, {bounds:?}"
    );
    if let (Some(process), Some(before)) = (process, before) {
        let growth = Usage::of(process)
            .rss_bytes
            .saturating_sub(before.rss_bytes);
        assert!(
            growth <= bounds.gateway_growth,
            "{growth} bytes of growth, {bounds:?}"
        );
    }
    // Others are not disturbed.
    let other = in_session(gateway).await;
    assert_eq!(
        other.post(rpc::request(1, "ping", &json!({}))).await.status,
        200
    );

    let last = Event::message(last.replace(rpc::REQUEST_ID, "1")).to_bytes();
    assert_repeats(&mut response, &event, EVENTS, &last).await;
    upstream
        .wait_until(|seen| seen.outcome("tools/call") == Some(Outcome::Complete))
        .await;
}

/// C26: a client that stays stuck is disconnected, only it, and the upstream is let go. The gateway's
/// write stall must be set to about a second.
pub async fn stuck_client_is_disconnected_alone(gateway: &str, upstream: &Upstream) {
    upstream.send_buffer(64 << 10).await;
    let client = in_session(gateway).await;
    let mut healthy = client.get().await;
    let event = filler().to_bytes();
    // In the stateless revision leaving is cancelling: the upstream sees it at once.
    upstream.on("tools/call:echo", Script::events().fill(event, u64::MAX));
    let mut stuck = client
        .post_modern(&rpc::modern_call(1, "echo"))
        .receive_buffer(16 << 10)
        .await;
    upstream
        .wait_until(|seen| seen.outcome("tools/call:echo") == Some(Outcome::Cancelled))
        .await;
    let (_, end) = stuck.try_read_to_end().await;
    assert!(end.is_err(), "a stream without end was ended properly");

    let session = last_session(upstream);
    upstream.notify(
        &session,
        rpc::notification("notifications/tools/list_changed", &json!({})),
    );
    assert_eq!(
        healthy.next_message().await["method"],
        "notifications/tools/list_changed"
    );
}

/// That the body is `part` so many times and then `last`.
async fn assert_repeats(response: &mut Response, part: &Bytes, times: u64, last: &Bytes) {
    let mut left = BytesMut::new();
    let mut seen = 0;
    while let Some(piece) = response.piece().await.expect("the whole body") {
        left.extend_from_slice(&piece.data);
        while seen < times && left.len() >= part.len() {
            let next = left.split_to(part.len());
            assert!(next == part, "event {seen} is {next:?}");
            seen += 1;
        }
    }
    assert_eq!((seen, left.freeze()), (times, last.clone()));
}
