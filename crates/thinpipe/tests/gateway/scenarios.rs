//! Every scenario of the test kit, unread and read. What each of them shows is written on it there; the
//! rows are named here again.

use thinpipe_testkit::Upstream;
use thinpipe_testkit::scenarios::{
    failures, flow, headers, leaving, relay, resume, sessions, standalone,
};

use crate::support::{Gateway, Mode, Settings};

const DEFAULT: Settings<'static> = Settings::of_upstream("");
const SHORT_TIMEOUTS: Settings<'static> = Settings::of_upstream(
    r#"timeouts = { first_byte = "1s", request = "1s", idle = "1s", stream_idle = "3s" }"#,
);
const FREQUENT_COMMENTS: Settings<'static> = Settings::of_gateway(r#"limits.keep_alive = "300ms""#);
const SHORT_STALL: Settings<'static> = Settings::of_gateway(r#"limits.write_stall = "1s""#);
const NO_CHECKS: Settings<'static> = Settings::of_upstream(r#"health = { interval = "0" }"#);
const FREQUENT_CHECKS: Settings<'static> =
    Settings::of_upstream(r#"health = { interval = "200ms", timeout = "200ms" }"#);

/// One test for a scenario and a mode; its name begins with the rows that it shows.
macro_rules! scenarios {
    ($($mode:ident { $($test:ident: $module:ident::$scenario:ident $(with $settings:ident)?;)* })*) => {$(
        $(
            #[tokio::test]
            async fn $test() {
                let settings = [DEFAULT, $($settings)?];
                let upstream = Upstream::start().await;
                let gateway = Gateway::start(&upstream, Mode::$mode, settings[settings.len() - 1]).await;
                $module::$scenario(&gateway.url, &upstream).await;
            }
        )*
    )*};
}

scenarios! {
    Pass {
        c2_pass_one_request_once_json: relay::one_request_reaches_upstream_once_json;
        c2_pass_one_request_once_sse: relay::one_request_reaches_upstream_once_sse;
        c2_c12_pass_one_request_once_error: relay::one_request_reaches_upstream_once_error;
        c2_g2_r114_pass_one_request_once_drop: relay::one_request_reaches_upstream_once_drop;
        r184_pass_event_arrives_before_stream_ends: relay::event_arrives_before_stream_ends;
        c13_r188_pass_ids_keep_type: relay::ids_keep_type;
        c14_e8_r188_pass_json_unchanged: relay::bytes_unchanged_json;
        c10_c14_pass_json_of_every_size_unchanged: relay::bytes_unchanged_json_of_every_size;
        c14_r160_r165_pass_events_unchanged: relay::bytes_unchanged_sse;
        c11_pass_binary_unchanged: relay::bytes_unchanged_binary;
        c1_r173_pass_look_alike_types: relay::look_alike_content_type;
        c1_r173_pass_streams_of_any_spelling: relay::event_streams_of_any_spelling;
        r116_b20_pass_concurrent_streams: relay::concurrent_streams;
        h1_pass_connections_are_shared: relay::connections_are_shared;
        r185_pass_silent_streams_get_comments: relay::silent_streams_get_comments with FREQUENT_COMMENTS;

        c26_pass_stuck_client_leaves_alone: flow::stuck_client_is_disconnected_alone with SHORT_STALL;

        c8_r107_pass_leaving_without_ids_drains: leaving::client_leaves_e1_without_ids_is_drained;
        b6_r074_pass_leaving_initialize_ends_upstream_session: leaving::client_leaves_initialize_ends_upstream_session;
        c8_r101_r103_r107_pass_leaving_with_ids_closes: leaving::client_leaves_e1_with_ids_closes_upstream;
        k7_r134_pass_leaving_stateless_cancels: leaving::client_leaves_e2_cancels_upstream;

        g1_g3_r112_r113_pass_cut_is_resumed: resume::upstream_cut_with_ids_is_resumed_invisibly;
        g1_r112_pass_retry_is_honoured: resume::server_retry_is_honoured;
        g1_pass_retry_after_beyond_patience: resume::retry_after_beyond_patience_is_not_waited_for;
        r113_pass_graceful_end_is_resumed: resume::graceful_end_before_response_is_resumed;
        g3_r170_pass_cut_inside_tail_is_invisible: resume::upstream_cut_inside_tail_is_invisible;
        r170_pass_cut_inside_long_event_ends_connection: resume::upstream_cut_inside_long_event_ends_client_connection;
        c8_r114_pass_cut_without_ids_is_error_in_band: resume::upstream_cut_without_ids_gives_in_band_error_with_id;
        c8_c12_pass_events_behind_the_response: resume::events_behind_the_response_change_nothing;
        c8_pass_cut_stateless_is_error_in_band: resume::upstream_cut_e2_gives_in_band_error_with_id;
        f18_r101_r102_r115_pass_last_event_id: resume::last_event_id_reaches_upstream_stream;

        r111_pass_second_standalone_replaces: standalone::second_standalone_get_replaces_first;
        r111_pass_fourth_replacement_is_409: standalone::fourth_replacement_within_10s_is_409;
        r077_pass_no_standalone_stream_is_405: standalone::upstream_without_standalone_stream_is_405;
        b20_f10_r108_pass_sessions_never_meet: standalone::sessions_have_streams_of_their_own;

        b15_r070_r071_r074_pass_delete_ends_both: sessions::delete_ends_both_sessions;
        r071_pass_opening_stream_ends_with_its_session: sessions::opening_stream_ends_with_its_session;
        r078_pass_upstream_without_delete: sessions::upstream_without_delete_is_tolerated;
        f5_r076_pass_upstream_404_ends_session: sessions::upstream_404_ends_session;
        r193_pass_404_only_for_sessions: sessions::e1_never_sees_404_but_for_session;
        f5_r010_r074_r075_pass_ids_never_cross: sessions::session_ids_never_cross_sides;
        b17_r085_r089_r092_pass_batch_is_split: sessions::batch_is_split;
        b8_pass_pending_id_is_refused: sessions::pending_id_is_refused;
        b20_r079_pass_server_request_is_answered: sessions::server_request_is_answered_in_mid_stream;

        c12_pass_errors_unchanged: failures::upstream_5xx_body_unchanged;
        c12_pass_error_pages_unchanged: failures::upstream_5xx_page_unchanged;
        r151_pass_missing_capability: failures::missing_capability_passes;
        c12_r061_pass_notifications_as_upstream: failures::notifications_are_answered_as_upstream_does;
        r199_pass_401_becomes_502: failures::upstream_401_becomes_502;
        r193_r157_pass_dead_upstream_502: failures::dead_upstream_502_with_id with NO_CHECKS;
        c17_r193_pass_slow_upstream_504: failures::slow_upstream_504_with_id with SHORT_TIMEOUTS;
        c17_g8_pass_only_silent_streams_given_up: failures::only_silent_streams_are_given_up with SHORT_TIMEOUTS;
        c12_b5_pass_unhealthy_503: failures::unhealthy_503 with FREQUENT_CHECKS;
        pass_malformed_upstream_502: failures::malformed_upstream_is_502;
        pass_malformed_chunks_error_in_band: failures::malformed_chunks_give_in_band_error;

        c15_r180_r181_f5_pass_requests_are_clean: headers::requests_are_clean;
        r180_r181_r133_pass_responses_are_clean: headers::responses_are_clean;
        c12_pass_allow_is_that_of_the_request: headers::allow_is_that_of_the_request;
    }
    Inspect {
        c2_inspect_one_request_once_json: relay::one_request_reaches_upstream_once_json;
        c2_inspect_one_request_once_sse: relay::one_request_reaches_upstream_once_sse;
        c2_c12_inspect_one_request_once_error: relay::one_request_reaches_upstream_once_error;
        c2_g2_r114_inspect_one_request_once_drop: relay::one_request_reaches_upstream_once_drop;
        r184_inspect_event_arrives_before_stream_ends: relay::event_arrives_before_stream_ends;
        c13_r188_inspect_ids_keep_type: relay::ids_keep_type;
        c14_r188_inspect_json_unchanged: relay::bytes_unchanged_json;
        c10_c14_inspect_json_of_every_size_unchanged: relay::bytes_unchanged_json_of_every_size;
        c1_r173_inspect_streams_of_any_spelling: relay::event_streams_of_any_spelling;
        r116_b20_inspect_concurrent_streams: relay::concurrent_streams;
        h1_inspect_connections_are_shared: relay::connections_are_shared;
        r185_inspect_silent_streams_get_comments: relay::silent_streams_get_comments with FREQUENT_COMMENTS;

        c26_inspect_stuck_client_leaves_alone: flow::stuck_client_is_disconnected_alone with SHORT_STALL;

        c8_r107_inspect_leaving_without_ids_drains: leaving::client_leaves_e1_without_ids_is_drained;
        b6_r074_inspect_leaving_initialize_ends_upstream_session: leaving::client_leaves_initialize_ends_upstream_session;
        c8_r101_r103_r107_inspect_leaving_with_ids_closes: leaving::client_leaves_e1_with_ids_closes_upstream;
        k7_r134_inspect_leaving_stateless_cancels: leaving::client_leaves_e2_cancels_upstream;

        g1_g3_r112_r113_inspect_cut_is_resumed: resume::upstream_cut_with_ids_is_resumed_invisibly;
        g1_r112_inspect_retry_is_honoured: resume::server_retry_is_honoured;
        g1_inspect_retry_after_beyond_patience: resume::retry_after_beyond_patience_is_not_waited_for;
        r113_inspect_graceful_end_is_resumed: resume::graceful_end_before_response_is_resumed;
        g3_r170_inspect_cut_inside_tail_is_invisible: resume::upstream_cut_inside_tail_is_invisible;
        c8_r114_inspect_cut_without_ids_is_error_in_band: resume::upstream_cut_without_ids_gives_in_band_error_with_id;
        c8_c12_inspect_events_behind_the_response: resume::events_behind_the_response_change_nothing;
        c8_inspect_cut_stateless_is_error_in_band: resume::upstream_cut_e2_gives_in_band_error_with_id;
        f18_r101_r102_r115_inspect_last_event_id: resume::last_event_id_reaches_upstream_stream;

        r111_inspect_second_standalone_replaces: standalone::second_standalone_get_replaces_first;
        r077_inspect_no_standalone_stream_is_405: standalone::upstream_without_standalone_stream_is_405;
        b20_f10_r108_inspect_sessions_never_meet: standalone::sessions_have_streams_of_their_own;

        b15_r070_r071_r074_inspect_delete_ends_both: sessions::delete_ends_both_sessions;
        r071_inspect_opening_stream_ends_with_its_session: sessions::opening_stream_ends_with_its_session;
        r078_inspect_upstream_without_delete: sessions::upstream_without_delete_is_tolerated;
        f5_r076_inspect_upstream_404_ends_session: sessions::upstream_404_ends_session;
        r193_inspect_404_only_for_sessions: sessions::e1_never_sees_404_but_for_session;
        f5_r010_r074_r075_inspect_ids_never_cross: sessions::session_ids_never_cross_sides;
        b17_r085_r089_r092_inspect_batch_is_split: sessions::batch_is_split;
        b8_inspect_pending_id_is_refused: sessions::pending_id_is_refused;
        b20_r079_inspect_server_request_is_answered: sessions::server_request_is_answered_in_mid_stream;

        c12_inspect_errors_unchanged: failures::upstream_5xx_body_unchanged;
        r151_inspect_missing_capability: failures::missing_capability_passes;
        c12_r061_inspect_notifications_as_upstream: failures::notifications_are_answered_as_upstream_does;
        r199_inspect_401_becomes_502: failures::upstream_401_becomes_502;
        r193_r157_inspect_dead_upstream_502: failures::dead_upstream_502_with_id with NO_CHECKS;
        c17_r193_inspect_slow_upstream_504: failures::slow_upstream_504_with_id with SHORT_TIMEOUTS;
        c17_g8_inspect_only_silent_streams_given_up: failures::only_silent_streams_are_given_up with SHORT_TIMEOUTS;
        inspect_malformed_upstream_502: failures::malformed_upstream_is_502;
        inspect_malformed_chunks_error_in_band: failures::malformed_chunks_give_in_band_error;

        c15_r180_r181_f5_inspect_requests_are_clean: headers::requests_are_clean;
        r180_r181_r133_inspect_responses_are_clean: headers::responses_are_clean;
        c12_inspect_allow_is_that_of_the_request: headers::allow_is_that_of_the_request;
    }
}

/// C25: a client that stops reading stops the upstream, whether or not the events are read on their way.
async fn stop_reading(mode: Mode) {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&upstream, mode, DEFAULT).await;
    let bounds = flow::Bounds {
        upstream_bytes: 8 << 20,
        gateway_growth: 256 << 10,
    };
    let process = Some(gateway.process.id());
    flow::stop_reading_stops_upstream(&gateway.url, &upstream, process, bounds).await;
}

#[tokio::test]
async fn c25_pass_stop_reading_stops_upstream() {
    stop_reading(Mode::Pass).await;
}

#[tokio::test]
async fn c25_inspect_stop_reading_stops_upstream() {
    stop_reading(Mode::Inspect).await;
}
