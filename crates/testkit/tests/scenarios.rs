//! The scenarios themselves, with no gateway at all between client and upstream: what a plain wire does
//! well must pass, and what only a gateway does must be missed, for the right reason.

use std::pin::Pin;

use thinpipe_testkit::scenarios::{
    failures, flow, headers, leaving, relay, resume, sessions, standalone,
};
use thinpipe_testkit::{Client, Upstream};
use tokio::task::JoinSet;

type Running<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
type Scenario = for<'a> fn(&'a str, &'a Upstream) -> Running<'a>;

/// A scenario, and its name.
macro_rules! scenario {
    ($module:ident::$name:ident) => {{
        fn run<'a>(gateway: &'a str, upstream: &'a Upstream) -> Running<'a> {
            Box::pin($module::$name(gateway, upstream))
        }
        (stringify!($module::$name), run as Scenario)
    }};
}

/// Runs scenarios side by side, each with an upstream of its own. Returns why each of them failed.
async fn run_all(scenarios: &[(&'static str, Scenario)]) -> Vec<(&'static str, Option<String>)> {
    let mut running = JoinSet::new();
    let mut names = std::collections::HashMap::new();
    for (name, scenario) in scenarios.iter().copied() {
        let task = running.spawn(async move {
            let upstream = Upstream::start().await;
            scenario(upstream.url(), &upstream).await;
        });
        names.insert(task.id(), name);
    }
    let mut outcomes = Vec::new();
    while let Some(ended) = running.join_next_with_id().await {
        outcomes.push(match ended {
            Ok((id, ())) => (names[&id], None),
            Err(error) => {
                let name = names[&error.id()];
                let panic = error.into_panic();
                let text = panic.downcast_ref::<String>().cloned();
                let text =
                    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                (name, Some(text.unwrap_or_default()))
            }
        });
    }
    outcomes
}

#[tokio::test]
async fn what_a_wire_does_well_passes() {
    let outcomes = run_all(&[
        scenario!(relay::one_request_reaches_upstream_once_json),
        scenario!(relay::one_request_reaches_upstream_once_sse),
        scenario!(relay::one_request_reaches_upstream_once_error),
        scenario!(relay::event_arrives_before_stream_ends),
        scenario!(relay::bytes_unchanged_json),
        scenario!(relay::bytes_unchanged_json_of_every_size),
        scenario!(relay::bytes_unchanged_sse),
        scenario!(relay::bytes_unchanged_binary),
        scenario!(relay::look_alike_content_type),
        scenario!(relay::concurrent_streams),
        scenario!(leaving::client_leaves_e1_with_ids_closes_upstream),
        scenario!(leaving::client_leaves_e2_cancels_upstream),
        scenario!(resume::upstream_cut_inside_long_event_ends_client_connection),
        scenario!(resume::last_event_id_reaches_upstream_stream),
        scenario!(standalone::second_standalone_get_replaces_first),
        scenario!(standalone::upstream_without_standalone_stream_is_405),
        scenario!(standalone::sessions_have_streams_of_their_own),
        scenario!(sessions::server_request_is_answered_in_mid_stream),
        scenario!(failures::upstream_5xx_body_unchanged),
        scenario!(failures::upstream_5xx_page_unchanged),
        scenario!(failures::missing_capability_passes),
        scenario!(failures::notifications_are_answered_as_upstream_does),
    ])
    .await;
    for (name, failure) in outcomes {
        assert_eq!(failure, None, "{name}");
    }
}

#[tokio::test]
async fn stopping_passes_within_its_bounds_only() {
    for (upstream_bytes, passes) in [(1 << 20, true), (1 << 10, false)] {
        let mut running = JoinSet::new();
        running.spawn(async move {
            let bounds = flow::Bounds {
                upstream_bytes,
                gateway_growth: 0,
            };
            let upstream = Upstream::start().await;
            flow::stop_reading_stops_upstream(upstream.url(), &upstream, None, bounds).await;
        });
        let ended = running.join_next().await.expect("one task");
        assert_eq!(ended.is_ok(), passes, "{upstream_bytes}: {ended:?}");
    }
}

#[tokio::test]
async fn what_only_a_gateway_does_is_missed() {
    let missed = [
        (
            scenario!(relay::one_request_reaches_upstream_once_drop),
            "no response",
        ),
        (scenario!(relay::ids_keep_type), "no response"),
        (
            scenario!(relay::event_streams_of_any_spelling),
            "no message",
        ),
        (
            scenario!(relay::connections_are_shared),
            "on 50 connections",
        ),
        (scenario!(relay::silent_streams_get_comments), "an event"),
        (
            scenario!(flow::stuck_client_is_disconnected_alone),
            "did not hold",
        ),
        (
            scenario!(leaving::client_leaves_e1_without_ids_is_drained),
            "did not hold",
        ),
        (
            scenario!(leaving::client_leaves_initialize_ends_upstream_session),
            "did not hold",
        ),
        (
            scenario!(resume::upstream_cut_with_ids_is_resumed_invisibly),
            "Cutoff",
        ),
        (scenario!(resume::server_retry_is_honoured), "Cutoff"),
        (
            scenario!(resume::retry_after_beyond_patience_is_not_waited_for),
            "no message",
        ),
        (
            scenario!(resume::graceful_end_before_response_is_resumed),
            "every event once",
        ),
        (
            scenario!(resume::upstream_cut_inside_tail_is_invisible),
            "Cutoff",
        ),
        (
            scenario!(resume::upstream_cut_without_ids_gives_in_band_error_with_id),
            "Cutoff",
        ),
        (
            scenario!(resume::upstream_cut_e2_gives_in_band_error_with_id),
            "no message",
        ),
        (
            scenario!(standalone::fourth_replacement_within_10s_is_409),
            "409",
        ),
        (
            scenario!(sessions::delete_ends_both_sessions),
            "nothing to the upstream",
        ),
        (
            scenario!(sessions::upstream_without_delete_is_tolerated),
            "405",
        ),
        (
            scenario!(sessions::opening_stream_ends_with_its_session),
            "the end of",
        ),
        (
            scenario!(sessions::upstream_404_ends_session),
            "the reason in",
        ),
        (
            scenario!(sessions::e1_never_sees_404_but_for_session),
            "404",
        ),
        (
            scenario!(sessions::session_ids_never_cross_sides),
            "was seen by the client",
        ),
        (scenario!(sessions::batch_is_split), "200"),
        (scenario!(sessions::pending_id_is_refused), "400"),
        (scenario!(failures::upstream_401_becomes_502), "502"),
        (scenario!(failures::dead_upstream_502_with_id), "connecting"),
        (
            scenario!(failures::slow_upstream_504_with_id),
            "the head of a response",
        ),
        (
            scenario!(failures::only_silent_streams_are_given_up),
            "a response",
        ),
        (scenario!(failures::unhealthy_503), "connecting"),
        (
            scenario!(failures::malformed_upstream_is_502),
            "no response",
        ),
        (
            scenario!(failures::malformed_chunks_give_in_band_error),
            "no message",
        ),
        (
            scenario!(headers::requests_are_clean),
            "reached the upstream",
        ),
        (
            scenario!(headers::allow_is_that_of_the_request),
            "GET, POST, DELETE",
        ),
        (
            scenario!(headers::responses_are_clean),
            "reached the client",
        ),
    ];
    let scenarios = missed.map(|(scenario, _)| scenario);
    let reasons: std::collections::HashMap<_, _> = missed
        .into_iter()
        .map(|((name, _), reason)| (name, reason))
        .collect();
    let mut wrong = Vec::new();
    for (name, failure) in run_all(&scenarios).await {
        let reason = reasons[name];
        if !failure
            .as_deref()
            .is_some_and(|failure| failure.contains(reason))
        {
            wrong.push(format!("{name} should have missed {reason:?}: {failure:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_url_of_another_form_is_refused() {
    let refused = std::panic::catch_unwind(|| Client::new("https://127.0.0.1:1/mcp"));
    assert!(refused.is_err());
}
