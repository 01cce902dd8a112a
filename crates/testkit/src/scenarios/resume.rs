//! Upstreams that drop their streams.

use std::time::Duration;

use serde_json::json;

use crate::event::Event;
use crate::rpc;
use crate::scenarios::{
    assert_numbered, assert_own_error, in_session, in_session_with_ids, last_session, numbered,
};
use crate::upstream::{Cut, Outcome, Script, Upstream};

/// G1, G3, R112, R113: an upstream that drops its stream every seven events, one way or another, is
/// resumed by the gateway: the client sees one stream of 100 events, none lost, none doubled.
pub async fn upstream_cut_with_ids_is_resumed_invisibly(gateway: &str, upstream: &Upstream) {
    let client = in_session_with_ids(gateway, upstream).await;
    let mut events = numbered("flaky", 100);
    events[0].retry = Some(10);
    upstream.publish("flaky", events);
    let part = || Script::stream_part("flaky", 7).read_by_peer();
    upstream.on("tools/call", part().cut(Cut::Reset));
    // By turns: reset, closed, ended properly.
    upstream.on_each("GET", move |request| match request.number % 3 {
        0 => Some(part().cut(Cut::Reset)),
        1 => Some(part().cut(Cut::Fin)),
        _ => Some(part()),
    });
    let mut response = client.post(rpc::call("flaky", "echo")).await;
    let (events, end) = response.events_to_end().await;
    assert_eq!(end, Ok(()));
    assert_numbered(&events, "flaky", 100, "flaky");
    let record = upstream.record();
    assert_eq!(
        (record.count("tools/call"), record.count("GET")),
        (1, 14),
        "{record}"
    );
    let session = last_session(upstream);
    for (index, get) in record.all("GET").enumerate() {
        assert_eq!(
            get.last_event_id(),
            Some(format!("flaky-{}", 7 * index + 6).as_str())
        );
        assert_eq!(get.session(), Some(session.as_str()));
        assert_eq!(get.headers.get("MCP-Protocol-Version"), client.revision());
    }
}

/// G1, R112: before it resumes, the gateway waits as long as the server's `retry` says.
pub async fn server_retry_is_honoured(gateway: &str, upstream: &Upstream) {
    const RETRY: u64 = 1500;
    let client = in_session_with_ids(gateway, upstream).await;
    let mut events = numbered("patient", 3);
    events[0].retry = Some(RETRY);
    upstream.publish("patient", events);
    upstream.on(
        "tools/call",
        Script::stream_part("patient", 1)
            .read_by_peer()
            .cut(Cut::Fin),
    );
    let mut response = client.post(rpc::call(1, "echo")).await;
    let (events, end) = response.events_to_end().await;
    assert_eq!(end, Ok(()));
    assert_numbered(&events, "patient", 3, 1);
    let record = upstream.record();
    let cut = record
        .response("tools/call")
        .and_then(|response| response.ended);
    let resumed = record.last("GET").map(|get| get.at);
    let waited = cut.zip(resumed).map(|(cut, resumed)| resumed - cut);
    // The end is noted a little after the connection is cut.
    let enough = Duration::from_millis(RETRY * 9 / 10);
    assert!(
        waited.is_some_and(|waited| waited >= enough),
        "{waited:?} of {RETRY} ms"
    );
}

/// G1: a server that wants to be asked again so late that nobody waits any more (`Retry-After`) is not waited
/// for: the request is answered by an error at once.
pub async fn retry_after_beyond_patience_is_not_waited_for(gateway: &str, upstream: &Upstream) {
    let client = in_session_with_ids(gateway, upstream).await;
    for (id, after) in ["301", "4000000000", "99999999999999999999999"]
        .into_iter()
        .enumerate()
    {
        let first = Event::message(rpc::progress(1, 2))
            .with_id("late-0")
            .with_retry(10);
        let cut = Script::events().event(first).read_by_peer().cut(Cut::Fin);
        upstream.once("tools/call", cut);
        upstream.once("GET", Script::status(503).header("Retry-After", after));
        let mut response = client.post(rpc::call(id, "echo")).await;
        assert_eq!(response.next_message().await["params"]["progress"], 1);
        let answer = response.next_message().await;
        assert_own_error(&answer, id, &["upstream_stream_lost"]);
        assert_eq!(response.next_event().await, None);
    }
    assert_eq!(upstream.record().count("GET"), 3);
}

/// R113: a stream that ends properly before its response, after an id, is resumed too.
pub async fn graceful_end_before_response_is_resumed(gateway: &str, upstream: &Upstream) {
    let client = in_session_with_ids(gateway, upstream).await;
    let mut events = numbered("polled", 4);
    events.insert(0, Event::priming("polled-start").with_retry(10));
    upstream.publish("polled", events);
    upstream.on("tools/call", Script::stream_part("polled", 1));
    upstream.on("GET", Script::stream_part("polled", 2));
    let mut response = client.post(rpc::call(1, "echo")).await;
    let (events, end) = response.events_to_end().await;
    assert_eq!(end, Ok(()));
    assert_numbered(&events, "polled", 4, 1);
    assert_eq!(upstream.record().count("GET"), 2);
}

/// G3, R170: a cut within an event is not seen by the client either: no half event reaches it.
pub async fn upstream_cut_inside_tail_is_invisible(gateway: &str, upstream: &Upstream) {
    let client = in_session_with_ids(gateway, upstream).await;
    let long = "x".repeat(60_000);
    for (name, cut) in [("closed", Cut::Fin), ("reset", Cut::Reset)] {
        let mut events = numbered(name, 6);
        events[0].retry = Some(10);
        // Nearly all of what may be held back.
        events[3].data = Some(rpc::notification("x", &json!({ "long": long })));
        upstream.publish(name, events.clone());
        let part = |whole: usize, next: usize, bytes: usize| {
            let script = Script::stream_part(name, whole).part_of(events[next].clone(), bytes);
            script.read_by_peer().cut(cut)
        };
        upstream.once("tools/call", part(2, 2, 30));
        upstream.once("GET", part(1, 3, 59_000));
        upstream.once("GET", part(1, 4, 12));
        let mut response = client.post(rpc::call(name, "echo")).await;
        let (seen, end) = response.events_to_end().await;
        assert_eq!(end, Ok(()));
        assert_numbered(&seen, name, 6, name);
        assert_eq!(seen[3].data, events[3].data);
    }
    assert_eq!(upstream.record().count("tools/call"), 2);
}

/// R170 and the limit of what is held back: an event longer than that is passed on as it comes; if it is
/// cut, the client's connection ends without a proper end, and the client gets the event by resuming.
pub async fn upstream_cut_inside_long_event_ends_client_connection(
    gateway: &str,
    upstream: &Upstream,
) {
    let client = in_session_with_ids(gateway, upstream).await;
    let mut events = numbered("long", 4);
    events[1].data = Some(rpc::notification(
        "x",
        &json!({"long": "x".repeat(300_000)}),
    ));
    upstream.publish("long", events.clone());
    let part = Script::stream_part("long", 1)
        .part_of(events[1].clone(), 200_000)
        .read_by_peer();
    upstream.on("tools/call", part.cut(Cut::Fin));
    let mut response = client.post(rpc::call(1, "echo")).await;
    let (mut seen, end) = response.events_to_end().await;
    assert!(end.is_err(), "half an event with a proper end");
    assert_eq!(seen.len(), 1);
    assert!(response.is_inside_event(), "a long event is not held back");
    assert_eq!(
        upstream.record().count("GET"),
        0,
        "nothing may be joined on to half an event"
    );
    let (rest, end) = client.resume("long-0").await.events_to_end().await;
    assert_eq!(end, Ok(()));
    // R117: what the client resumes after may come once more, without data.
    seen.extend(rest.into_iter().filter(Event::has_message));
    assert_numbered(&seen, "long", 4, 1);
    assert_eq!(seen[1].data, events[1].data);
}

/// C8, R114, protocol notes 4.7: without ids a lost stream cannot be resumed: the request is answered by
/// an error in band, with its id, and the client's stream ends properly.
pub async fn upstream_cut_without_ids_gives_in_band_error_with_id(
    gateway: &str,
    upstream: &Upstream,
) {
    let client = in_session(gateway).await;
    let half = Event::message(rpc::text_result("half"));
    let begun = || Script::events().message(rpc::progress(1, 2));
    let scripts = [
        (
            "closed between events",
            begun().read_by_peer().cut(Cut::Fin),
        ),
        (
            "reset between events",
            begun().read_by_peer().cut(Cut::Reset),
        ),
        (
            "closed within an event",
            begun()
                .part_of(half.clone(), 30)
                .read_by_peer()
                .cut(Cut::Fin),
        ),
        (
            "reset within an event",
            begun()
                .part_of(half.clone(), 30)
                .read_by_peer()
                .cut(Cut::Reset),
        ),
        (
            "closed within a chunk",
            begun().raw("50\r\ndata: x").read_by_peer().cut(Cut::Fin),
        ),
        ("ended without a response", begun()),
        ("ended within an event", begun().part_of(half, 30)),
        (
            "no blank line at the end",
            begun().body("data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n"),
        ),
        (
            "closed before any event",
            Script::events().read_by_peer().cut(Cut::Fin),
        ),
    ];
    for (index, (how, script)) in scripts.into_iter().enumerate() {
        upstream.once("tools/call", script);
        let mut response = client.post(rpc::call(index, "echo")).await;
        if response.status == 502 {
            // It was lost before anything was said to the client.
            assert_own_error(&response.json().await, index, &["upstream_stream_lost"]);
            continue;
        }
        let (events, end) = response.events_to_end().await;
        assert_eq!(end, Ok(()), "{how}");
        let (last, others) = events
            .split_last()
            .unwrap_or_else(|| panic!("{how}: no event"));
        assert_own_error(&last.json(), index, &["upstream_stream_lost"]);
        assert!(others.len() <= 1, "{how}: {others:?}");
    }
    let record = upstream.record();
    assert_eq!(
        (record.count("tools/call"), record.count("GET")),
        (9, 0),
        "{record}"
    );
}

/// Protocol notes 4.7: a stateless request whose stream is lost is answered by an error in band, and is
/// not sent again.
pub async fn upstream_cut_e2_gives_in_band_error_with_id(gateway: &str, upstream: &Upstream) {
    let client = in_session(gateway).await;
    let script = Script::events().message(rpc::progress(1, 2)).read_by_peer();
    upstream.on("tools/call", script.cut(Cut::Fin));
    let mut response = client.post_modern(&rpc::modern_call("m", "echo")).await;
    assert_eq!(response.next_message().await["params"]["progress"], 1);
    assert_own_error(
        &response.next_message().await,
        "m",
        &["upstream_stream_lost"],
    );
    assert_eq!(response.next_event().await, None);
    let record = upstream.record();
    assert_eq!(
        (record.count("tools/call"), record.count("GET")),
        (1, 0),
        "{record}"
    );
}

/// C8, C12: a server that sends something right behind its response has answered all the same; nothing
/// is added and nothing is asked again.
pub async fn events_behind_the_response_change_nothing(gateway: &str, upstream: &Upstream) {
    let client = in_session(gateway).await;
    let answer = rpc::text_result("done").replace(rpc::REQUEST_ID, "5");
    let tail = format!("id: 1\ndata: {answer}\n\nretry: 100\n\nid: 2\ndata:\n\n");
    upstream.on("tools/call", Script::events().body(tail));
    let mut response = client.post(rpc::call(5, "echo")).await;
    assert_eq!(response.next_message().await["id"], 5);
    let (rest, end) = response.events_to_end().await;
    assert!(
        end.is_ok() && !rest.iter().any(Event::has_message),
        "{rest:?}"
    );
    let record = upstream.record();
    let asked = (record.count("tools/call"), record.count("GET"));
    assert_eq!(asked, (1, 0), "{record}");
}

/// R101, R102, R115: a client's `Last-Event-ID` reaches the upstream's stream that it belongs to; what the
/// upstream refuses is refused, and the session goes on.
pub async fn last_event_id_reaches_upstream_stream(gateway: &str, upstream: &Upstream) {
    let client = in_session_with_ids(gateway, upstream).await;
    for name in ["a", "b"] {
        upstream.publish(name, numbered(name, 5));
        upstream.once("tools/call", Script::stream(name));
        let (events, _) = client
            .post(rpc::call(name, "echo"))
            .await
            .events_to_end()
            .await;
        assert_numbered(&events, name, 5, name);
    }
    for (name, after) in [("a", 1), ("b", 3), ("a", 3)] {
        let id = format!("{name}-{after}");
        let (events, end) = client.resume(&id).await.events_to_end().await;
        assert_eq!(end, Ok(()));
        let ids: Vec<_> = events
            .iter()
            .filter(|event| event.has_message())
            .map(|event| event.id.clone())
            .collect();
        let expected: Vec<_> = (after + 1..5)
            .map(|index| Some(format!("{name}-{index}")))
            .collect();
        assert_eq!(ids, expected, "after {id}");
        let get = upstream.record().last("GET").cloned();
        assert_eq!(
            get.and_then(|get| get.last_event_id().map(str::to_owned)),
            Some(id)
        );
    }
    assert_eq!(client.resume("nobody's").await.status, 400);
    assert_eq!(
        client.post(rpc::call("after", "progress")).await.status,
        200
    );
    upstream
        .wait_until(|seen| seen.outcome("tools/call") == Some(Outcome::Complete))
        .await;
}

/// G1, R112, R115: servers number events as they like (WHATWG HTML 9.2.6); whatever a header can carry
/// resumes a stream, for the gateway and for the client.
pub async fn ids_of_any_text_resume_a_stream(gateway: &str, upstream: &Upstream) {
    const NAME: &str = "событие 0/0, №";
    let client = in_session_with_ids(gateway, upstream).await;
    let mut events = numbered(NAME, 6);
    events[0].retry = Some(10);
    upstream.publish(NAME, events);
    let part = || Script::stream_part(NAME, 3).read_by_peer().cut(Cut::Fin);
    upstream.on("tools/call", part());
    upstream.once("GET", part());
    let mut response = client.post(rpc::call(NAME, "echo")).await;
    let (events, end) = response.events_to_end().await;
    assert_eq!(end, Ok(()));
    assert_numbered(&events, NAME, 6, NAME);
    let resumed_after = |index| Some(format!("{NAME}-{index}"));
    let last_id = || {
        let get = upstream.record().last("GET").cloned();
        get.and_then(|get| get.last_event_id().map(str::to_owned))
    };
    assert_eq!(last_id(), resumed_after(2));

    upstream.once("GET", Script::stream(NAME));
    let mut response = client.resume(&format!("{NAME}-4")).await;
    let (events, _) = response.events_to_end().await;
    assert_eq!(last_id(), resumed_after(4));
    let ids: Vec<_> = events.into_iter().map(|event| event.id).collect();
    assert_eq!(ids.last(), Some(&resumed_after(5)));
}

/// G3, R112: an id that no header can carry passes like any other, and nothing is resumed after it.
pub async fn ids_no_header_can_carry_pass(gateway: &str, upstream: &Upstream) {
    let client = in_session_with_ids(gateway, upstream).await;
    for (index, id) in [" outer blanks ", "\u{7f}", &"x".repeat(2000)]
        .into_iter()
        .enumerate()
    {
        let event = Event::message(rpc::notification("x", &json!({ "n": index }))).with_id(id);
        let script = Script::events().event(event.clone()).read_by_peer();
        upstream.once("tools/call", script.cut(Cut::Fin));
        let mut response = client.post(rpc::call(index, "echo")).await;
        assert_eq!(response.next_event().await, Some(event));
        let answer = response.next_message().await;
        assert_own_error(&answer, index, &["upstream_stream_lost"]);
    }
    assert_eq!(upstream.record().count("GET"), 0);
}
