//! One request there, one answer back, as they are.

use bytes::Bytes;
use serde_json::json;

use crate::event::Event;
use crate::gate::Gate;
use crate::rpc;
use crate::samples::SAMPLES;
use crate::scenarios::{assert_own_error, in_session};
use crate::upstream::{Cut, Outcome, Script, Upstream};

/// C2, trap 1: a request answered by JSON reaches the upstream once.
pub async fn one_request_reaches_upstream_once_json(gateway: &str, upstream: &Upstream) {
    let client = in_session(gateway).await;
    let mut response = client.post(rpc::call(1, "echo")).await;
    assert_eq!(
        (response.status, response.json().await["id"].clone()),
        (200, json!(1))
    );
    let modern = rpc::modern_call(2, "echo");
    let mut response = client.post_modern(&modern).await;
    assert_eq!(
        (response.status, response.json().await["id"].clone()),
        (200, json!(2))
    );
    assert_calls(upstream, 2);
}

/// C2, trap 1: a request answered by a stream reaches the upstream once.
pub async fn one_request_reaches_upstream_once_sse(gateway: &str, upstream: &Upstream) {
    let client = in_session(gateway).await;
    let mut response = client.post(rpc::call(1, "progress")).await;
    assert!(response.is_stream());
    let (events, end) = response.events_to_end().await;
    assert_eq!((events.len(), end), (4, Ok(())));
    let mut response = client.post_modern(&rpc::modern_call(2, "progress")).await;
    assert_eq!(response.answer().await["id"], 2);
    assert_calls(upstream, 2);
}

/// C2, C12: a request answered by an error reaches the upstream once, whatever the error.
pub async fn one_request_reaches_upstream_once_error(gateway: &str, upstream: &Upstream) {
    let client = in_session(gateway).await;
    let statuses = [400, 408, 429, 500, 502, 503, 504];
    for (index, status) in statuses.into_iter().enumerate() {
        upstream.once("tools/call", Script::error(status, -32603, "no"));
        let response = client.post(rpc::call(index, "echo")).await;
        assert_eq!(response.status, status);
    }
    let mut response = client.post(rpc::call("in band", "fail")).await;
    assert_eq!(response.status, 200);
    assert_eq!(response.json().await["error"]["code"], -32603);
    assert_calls(upstream, statuses.len() + 1);
}

/// C2, G2, R114: a request whose connection is dropped is not sent again, not even when the connection
/// had been used before, and the client gets an error with its id.
pub async fn one_request_reaches_upstream_once_drop(gateway: &str, upstream: &Upstream) {
    let client = in_session(gateway).await;
    let lost = ["upstream_stream_lost", "upstream_unavailable"];
    for (round, cut) in [Cut::Fin, Cut::Reset, Cut::Fin, Cut::Reset]
        .into_iter()
        .enumerate()
    {
        // A connection that was kept is there for the gateway to use.
        client
            .post(rpc::call(format!("before {round}"), "echo"))
            .await
            .read_to_end()
            .await;
        let script = if round < 2 {
            Script::new().cut(cut)
        } else {
            Script::raw_bytes("HTTP/1.1 200 OK\r\nContent-Le")
                .read_by_peer()
                .cut(cut)
        };
        upstream.once("tools/call", script);
        let id = format!("dropped {round}");
        let mut response = client.post(rpc::call(id.as_str(), "echo")).await;
        assert_eq!(response.status, 502);
        assert_own_error(&response.json().await, id, &lost);
        assert_calls(upstream, 2 * (round + 1));
    }
    // A body that breaks off after its head: an error, or an end that cannot be taken for a whole body.
    let part = Script::status(200)
        .content_type("application/json")
        .length(100)
        .body(r#"{"jsonrpc":"2."#);
    upstream.once("tools/call", part.read_by_peer().cut(Cut::Fin));
    let mut response = client.post(rpc::call("partial", "echo")).await;
    if response.status == 200 {
        let (_, end) = response.try_read_to_end().await;
        assert!(end.is_err(), "half a body was passed off as a whole one");
    } else {
        assert_own_error(&response.json().await, "partial", &lost);
    }
    assert_calls(upstream, 9);
}

/// R184: an event reaches the client before the next one is produced, in both eras.
pub async fn event_arrives_before_stream_ends(gateway: &str, upstream: &Upstream) {
    let client = in_session(gateway).await;
    let modern = rpc::modern_call(1, "echo");
    for request in [
        client.post(rpc::call(1, "echo")),
        client.post_modern(&modern),
    ] {
        let gate = Gate::new();
        let script = Script::events()
            .message(rpc::progress(1, 2))
            .wait(&gate)
            .message(rpc::progress(2, 2))
            .wait(&gate)
            .message(rpc::modern_text_result("done"));
        upstream.once("tools/call", script);
        let mut response = request.await;
        for step in 1..=2 {
            assert_eq!(response.next_message().await["params"]["progress"], step);
            gate.reached_times(step).await;
            assert_eq!(upstream.record().outcome("tools/call"), None);
            gate.release(1);
        }
        assert_eq!(response.next_message().await["id"], 1);
        assert_eq!(response.next_event().await, None);
        upstream
            .wait_until(|seen| seen.outcome("tools/call") == Some(Outcome::Complete))
            .await;
    }
}

/// C13, R188: ids keep type and text, on the way there, on the way back, and in the gateway's own errors.
pub async fn ids_keep_type(gateway: &str, upstream: &Upstream) {
    let client = in_session(gateway).await;
    let ids = [
        "0",
        "\"0\"",
        "-1",
        "9007199254740993",
        "\"\"",
        "\"a\\u00e9\\\"b\"",
        "9223372036854775808",
    ];
    for (index, id) in ids.into_iter().enumerate() {
        for broken in [false, true] {
            // A separate session each: an id is used once in a session.
            let client = if broken {
                in_session(gateway).await
            } else {
                client.clone()
            };
            if broken {
                upstream.once("tools/call", Script::new().cut(Cut::Fin));
            }
            let body = format!(
                r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"echo","arguments":{{}}}}}}"#
            );
            let answer = client.post(body).await.read_to_end().await;
            let answer = String::from_utf8_lossy(&answer).into_owned();
            assert_eq!(answer.contains("\"error\""), broken, "{answer}");
            let found =
                ["\"id\":", "\"id\": "].map(|member| answer.contains(&format!("{member}{id}")));
            assert!(
                found.contains(&true),
                "the id {id} as it was written in {answer}"
            );
            let seen = upstream
                .nth("tools/call", 2 * index + usize::from(broken))
                .await;
            assert_eq!(seen.id_text(), Some(id));
        }
    }
}

/// C14, E8, R188: a JSON body goes through as it is, both ways: spaces, order, numbers, unknown members.
pub async fn bytes_unchanged_json(gateway: &str, upstream: &Upstream) {
    let client = in_session(gateway).await;
    let request = "{ \"zeta\" : [1.0, 1e2, -0, 12345678901234567890123],\n  \"id\":\t7, \"method\":\"tools/call\", \
                   \"params\": {\"name\":\"echo\",\"b\":1,\"a\":\"\\u00e9\\/\"}, \"jsonrpc\":\"2.0\" }\n";
    let answer = "\n{ \"result\" : {\"z\": 10000000000000000000001, \"a\": [ 1.50 ]},  \"id\":7,\"x\":null,\r\n \"jsonrpc\":\"2.0\" }";
    upstream.on("tools/call", Script::json(answer));
    let mut response = client.post(request).await;
    assert_eq!(response.header("Content-Type"), Some("application/json"));
    assert_eq!(response.read_to_end().await, answer);
    assert_eq!(upstream.nth("tools/call", 0).await.body, request);
}

/// C10, C14: a JSON body of any size and framing goes through as it is.
pub async fn bytes_unchanged_json_of_every_size(gateway: &str, upstream: &Upstream) {
    let client = in_session(gateway).await;
    for (id, size) in [1, 100 << 10, 5 << 20, 12 << 20].into_iter().enumerate() {
        for chunked in [false, true] {
            let id = format!("{id} {chunked}");
            let text = "x".repeat(size);
            let answer = format!(r#"{{"jsonrpc":"2.0","id":"{id}","result":{{"text":"{text}"}}}}"#);
            let script = Script::json(&answer);
            upstream.once(
                "tools/call",
                if chunked { script.chunked() } else { script },
            );
            let mut response = client.post(rpc::call(id, "echo")).await;
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

/// C14, R160..R165: an event stream goes through as it is: line ends, comments, byte order mark, types.
pub async fn bytes_unchanged_sse(gateway: &str, upstream: &Upstream) {
    let client = in_session(gateway).await;
    let last = rpc::text_result("done").replace(rpc::REQUEST_ID, "1");
    for sample in SAMPLES
        .iter()
        .filter(|sample| !sample.name.starts_with("half"))
    {
        let mut bytes = sample.bytes.to_vec();
        bytes.extend_from_slice(format!("data: {last}\r\n\r\n").as_bytes());
        let middle = sample.bytes.len() / 2;
        let offsets = [1, middle, middle + 1, sample.bytes.len()];
        upstream.once(
            "tools/call",
            Script::events().split(bytes.clone(), &offsets),
        );
        let mut response = client.post(rpc::call(1, "echo")).await;
        assert!(response.is_stream());
        let body = response.read_to_end().await;
        assert_eq!(
            body,
            bytes,
            "{}: {:?}",
            sample.name,
            String::from_utf8_lossy(&body)
        );
    }
}

/// C11: a body of another type goes through as it is, whatever its bytes, if nobody is to read it.
pub async fn bytes_unchanged_binary(gateway: &str, upstream: &Upstream) {
    let client = in_session(gateway).await;
    let bytes: Bytes = (0..1_000_003_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    for (id, script) in [
        Script::status(200)
            .length(bytes.len() as u64)
            .body(bytes.clone()),
        Script::status(200)
            .chunked()
            .split(bytes.clone(), &[1, 2, 70_000]),
        Script::status(200).until_close().body(bytes.clone()),
    ]
    .into_iter()
    .enumerate()
    {
        upstream.once(
            "tools/call",
            script.content_type("application/octet-stream"),
        );
        let mut response = client.post(rpc::call(id, "echo")).await;
        assert_eq!(
            response.header("Content-Type"),
            Some("application/octet-stream")
        );
        let body = response.read_to_end().await;
        assert!(
            body == bytes,
            "{} bytes of {}, or others",
            body.len(),
            bytes.len()
        );
    }
}

/// C1, R173: a type that only looks like an event stream is none. Nobody may want to read the answers, since
/// these cannot be.
pub async fn look_alike_content_type(gateway: &str, upstream: &Upstream) {
    let client = in_session(gateway).await;
    let body = "data: {\"not\": \"an event\"}\n\ndata: half";
    for (id, look_alike) in [
        "text/event-streams",
        "text/event-stream-x",
        "application/text/event-stream",
        "text/plain; text/event-stream",
    ]
    .into_iter()
    .enumerate()
    {
        upstream.once("tools/call", Script::json(body).content_type(look_alike));
        let mut response = client.post(rpc::call(id, "echo")).await;
        assert_eq!(
            (response.status, response.header("Content-Type")),
            (200, Some(look_alike))
        );
        assert_eq!(response.read_to_end().await, body, "{look_alike}");
    }
}

/// C1, R173: an event stream is one however its type is written and whatever success its status says.
pub async fn event_streams_of_any_spelling(gateway: &str, upstream: &Upstream) {
    let client = in_session(gateway).await;
    for (id, (status, real)) in [
        (200, "text/event-stream; charset=utf-8"),
        (200, "Text/Event-Stream"),
        (200, "text/event-stream;x=\"y;z\""),
        (201, "text/event-stream"),
        (202, "text/event-stream"),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("real {id}");
        // Only a stream is cut into events: a lost one ends with an error in band.
        let script = Script::status(status)
            .content_type(real)
            .chunked()
            .message(rpc::progress(1, 2))
            .read_by_peer();
        upstream.once("tools/call", script.cut(Cut::Fin));
        let mut response = client.post(rpc::call(id.as_str(), "echo")).await;
        assert_eq!(response.status, status);
        assert_eq!(response.next_message().await["params"]["progress"], 1);
        assert_own_error(
            &response.next_message().await,
            id,
            &["upstream_stream_lost"],
        );
    }
}

/// R116, B20: many streams of one session at a time, each with its own events only.
pub async fn concurrent_streams(gateway: &str, upstream: &Upstream) {
    const STREAMS: usize = 20;
    let client = in_session(gateway).await;
    let gate = Gate::new();
    let script = Script::events()
        .message(rpc::progress(1, 2))
        .wait(&gate)
        .message(rpc::text_result("done"));
    upstream.on("tools/call", script);
    let mut responses = Vec::new();
    for id in 0..STREAMS {
        responses.push(client.post(rpc::call(id, "echo")).await);
    }
    for (id, response) in responses.iter_mut().enumerate() {
        assert_eq!(response.next_message().await["params"]["progressToken"], id);
    }
    gate.reached_times(STREAMS).await;
    assert_eq!(upstream.record().open_streams, STREAMS);
    gate.open();
    for (id, response) in responses.iter_mut().enumerate().rev() {
        assert_eq!(response.next_message().await["id"], id);
        assert_eq!(response.next_event().await, None);
    }
    assert_calls(upstream, STREAMS);
}

/// H1: connections to the upstream are used again, by other clients too, and nothing of one client is
/// in the requests of another.
pub async fn connections_are_shared(gateway: &str, upstream: &Upstream) {
    const CLIENTS: usize = 10;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(in_session(gateway).await);
    }
    for round in 0..3 {
        for (index, client) in clients.iter().enumerate() {
            let call = rpc::call(format!("{index} {round}"), "echo");
            client
                .post(call)
                .header("traceparent", &trace(index))
                .await
                .read_to_end()
                .await;
        }
    }
    let record = upstream.record();
    assert!(record.connections < CLIENTS, "{record}");
    let sessions = upstream.sessions();
    // A gateway may have opened some for itself before.
    let sessions = &sessions[sessions.len() - CLIENTS..];
    for call in record.all("tools/call") {
        let id = call.json()["id"].as_str().unwrap_or_default();
        let client: usize = id
            .split(' ')
            .next()
            .and_then(|id| id.parse().ok())
            .expect("ids as sent");
        assert_eq!(call.session(), Some(sessions[client].as_str()));
        assert_eq!(
            call.headers.all("traceparent").collect::<Vec<_>>(),
            [trace(client)]
        );
    }
}

fn trace(client: usize) -> String {
    format!("00-{client:032x}-{:016x}-01", client + 1)
}

/// R185: a silent stream gets comments, and never within an event. The gateway's keep-alive must be set to
/// some tenths of a second.
pub async fn silent_streams_get_comments(gateway: &str, upstream: &Upstream) {
    let client = in_session(gateway).await;
    let gate = Gate::new();
    let event = Event::message(rpc::text_result("done"));
    let script = Script::events()
        .message(rpc::progress(1, 2))
        .wait(&gate)
        .part_of(event.clone(), 25);
    upstream.on(
        "tools/call",
        script.wait(&gate).rest_of(event, 25).read_by_peer(),
    );
    let mut response = client.post(rpc::call(1, "echo")).await;
    assert_eq!(response.next_message().await["params"]["progress"], 1);
    for _ in 0..2 {
        // Between two events first, then within one.
        let comment = response
            .try_next_block()
            .await
            .expect("a stream that goes on");
        assert!(
            comment.as_ref().is_some_and(Event::is_comment),
            "{comment:?}"
        );
        assert!(!response.is_inside_event());
        gate.release(1);
    }
    assert_eq!(response.next_message().await["id"], 1);
    assert_eq!(response.next_event().await, None);
}

#[track_caller]
fn assert_calls(upstream: &Upstream, count: usize) {
    let record = upstream.record();
    assert_eq!(record.count("tools/call"), count, "{record}");
    assert_eq!(record.duplicates, 0, "{record}");
}
