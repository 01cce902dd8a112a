//! Scenarios that a bare wire misses, with a gateway in between that is right in these points: they can
//! be passed.

mod gateway;

use thinpipe_testkit::scenarios::{failures, leaving, relay, resume};
use thinpipe_testkit::{Client, Upstream};
use tokio::task::JoinSet;

/// One test for each scenario.
macro_rules! passes {
    ($($module:ident::$name:ident)*) => {$(
        #[tokio::test]
        async fn $name() {
            let upstream = Upstream::start().await;
            let mut tasks = JoinSet::new();
            let gateway = gateway::start(upstream.url(), &mut tasks).await;
            $module::$name(&gateway, &upstream).await;
        }
    )*};
}

passes! {
    relay::one_request_reaches_upstream_once_json
    relay::one_request_reaches_upstream_once_sse
    relay::one_request_reaches_upstream_once_error
    relay::one_request_reaches_upstream_once_drop
    relay::event_arrives_before_stream_ends
    relay::ids_keep_type
    relay::bytes_unchanged_json
    relay::bytes_unchanged_binary
    relay::look_alike_content_type
    relay::event_streams_of_any_spelling
    relay::concurrent_streams
    leaving::client_leaves_e1_without_ids_is_drained
    resume::upstream_cut_with_ids_is_resumed_invisibly
    resume::server_retry_is_honoured
    resume::graceful_end_before_response_is_resumed
    resume::upstream_cut_inside_tail_is_invisible
    resume::upstream_cut_without_ids_gives_in_band_error_with_id
    resume::upstream_cut_e2_gives_in_band_error_with_id
    resume::last_event_id_reaches_upstream_stream
    resume::ids_of_any_text_resume_a_stream
    failures::upstream_5xx_body_unchanged
    failures::upstream_5xx_page_unchanged
    failures::missing_capability_passes
    failures::notifications_are_answered_as_upstream_does
    failures::upstream_401_becomes_502
    failures::dead_upstream_502_with_id
    failures::malformed_upstream_is_502
    failures::malformed_chunks_give_in_band_error
}

#[tokio::test]
async fn it_is_a_gateway_at_all() {
    let upstream = Upstream::start().await;
    let mut tasks = JoinSet::new();
    let mut client = Client::new(&gateway::start(upstream.url(), &mut tasks).await);
    client.initialize("2025-06-18").await;
    assert_eq!(
        client.session(),
        upstream.sessions().last().map(String::as_str)
    );
}
