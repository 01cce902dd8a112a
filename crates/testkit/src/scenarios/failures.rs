//! Upstreams that refuse, break, or do not answer.

use serde_json::json;

use crate::deadline::eventually;
use crate::rpc;
use crate::scenarios::{assert_own_error, in_session};
use crate::upstream::{Cut, Outcome, Script, Upstream};

/// C12: errors of the server pass as they are: status, type and body.
pub async fn upstream_5xx_body_unchanged(gateway: &str, upstream: &Upstream) {
    let error = "{ \"jsonrpc\":\"2.0\", \"id\":\"$ID\",\"error\":{\"message\":\"own\",\"code\":-32050,\"data\":[1.0]} }";
    errors_unchanged(gateway, upstream, "application/json", error).await;
    errors_unchanged(gateway, upstream, "text/plain", "").await;
}

/// C12: so do error pages, if nobody is to read them.
pub async fn upstream_5xx_page_unchanged(gateway: &str, upstream: &Upstream) {
    errors_unchanged(
        gateway,
        upstream,
        "text/html; charset=utf-8",
        "<h1>Oops</h1>",
    )
    .await;
    errors_unchanged(gateway, upstream, "application/json", "<h1>Oops</h1>").await;
}

async fn errors_unchanged(gateway: &str, upstream: &Upstream, media_type: &str, body: &str) {
    let client = in_session(gateway).await;
    for status in [400, 422, 429, 500, 501, 503, 504] {
        let script = Script::status(status).content_type(media_type).whole(body);
        upstream.once("tools/call", script);
        let id = status.to_string();
        let mut response = client.post(rpc::call(id.as_str(), "echo")).await;
        assert_eq!(response.status, status);
        assert_eq!(response.header("Content-Type"), Some(media_type));
        let expected = body.replace("$ID", &id);
        assert_eq!(response.read_to_end().await, expected);
    }
}

/// R151, R245: what a server says about the capability that it needs passes with its status: the client
/// declares it and asks again.
pub async fn missing_capability_passes(gateway: &str, upstream: &Upstream) {
    let client = in_session(gateway).await;
    let data = json!({"requiredCapabilities": {"elicitation": {"url": {}}, "sampling": {}}});
    let error = rpc::error_with(-32021, "a capability is needed", &data);
    let script = Script::status(400).content_type("application/json");
    upstream.once("tools/call", script.whole(error));
    let mut response = client.post_modern(&rpc::modern_call("m", "echo")).await;
    assert_eq!(
        (response.status, response.header("Content-Type")),
        (400, Some("application/json"))
    );
    let answer = response.json().await;
    assert_eq!(
        (
            &answer["id"],
            &answer["error"]["code"],
            &answer["error"]["data"]
        ),
        (&json!("m"), &json!(-32021), &data),
        "{answer}"
    );
}

/// C12, R061: 202 passes as it is, empty; so does what a server says to a notification it refuses.
pub async fn notifications_are_answered_as_upstream_does(gateway: &str, upstream: &Upstream) {
    let client = in_session(gateway).await;
    let note = || {
        client.post(rpc::notification(
            "notifications/roots/list_changed",
            &json!({}),
        ))
    };
    let mut accepted = note().await;
    assert_eq!(
        (accepted.status, accepted.read_to_end().await.len()),
        (202, 0)
    );
    upstream.once(
        "notifications/roots/list_changed",
        Script::status(400).whole("no"),
    );
    assert_eq!(note().await.status, 400);
    assert_eq!(
        upstream.record().count("notifications/roots/list_changed"),
        2
    );
}

/// R199: a challenge of the upstream is the gateway's own affair: 502, and nothing of it reaches the client.
pub async fn upstream_401_becomes_502(gateway: &str, upstream: &Upstream) {
    let client = in_session(gateway).await;
    for status in [401, 403] {
        let script = Script::error(status, -32000, "who are you?");
        let challenge = "Bearer resource_metadata=\"http://secret.example/\"";
        upstream.once("tools/call", script.header("WWW-Authenticate", challenge));
        let mut response = client.post(rpc::call(status, "echo")).await;
        assert_eq!(response.status, 502);
        assert_eq!(response.header("WWW-Authenticate"), None);
        assert_own_error(&response.json().await, status, &["upstream_auth"]);
    }
    assert_eq!(client.post(rpc::call("after", "echo")).await.status, 200);
}

/// R193: an upstream that is not there: 502 with the id of the request, in a session, without one, and
/// statelessly; when it is back, the session goes on. Health checks must be off: they make it 503.
pub async fn dead_upstream_502_with_id(gateway: &str, upstream: &Upstream) {
    let client = in_session(gateway).await;
    upstream.die().await;
    let outside = crate::client::Client::new(gateway);
    let modern = rpc::modern_call("modern", "echo");
    for (id, request) in [
        (json!("call"), client.post(rpc::call("call", "echo"))),
        (json!(0), outside.post(rpc::initialize(0, "2025-11-25"))),
        (json!("modern"), outside.post_modern(&modern)),
    ] {
        let mut response = request.await;
        assert_eq!(response.status, 502);
        assert_eq!(response.header("Mcp-Session-Id"), None);
        let media_type = response
            .header("Content-Type")
            .unwrap_or_default()
            .to_owned();
        assert!(
            media_type.starts_with("application/json"),
            "R157: {media_type}"
        );
        let reasons = ["upstream_unavailable", "upstream_stream_lost"];
        assert_own_error(&response.json().await, id, &reasons);
    }
    upstream.come_back();
    assert_eq!(client.post(rpc::call("back", "echo")).await.status, 200);
}

/// C17, R193: an upstream that does not answer in time: 504 with the id, the upstream's connection is given
/// up, and others are not disturbed. The time to the first byte must be set to about a second.
pub async fn slow_upstream_504_with_id(gateway: &str, upstream: &Upstream) {
    let client = in_session(gateway).await;
    upstream.on("tools/call:slow", Script::silent());
    upstream.on(
        "tools/call:ask",
        Script::raw_bytes("HTTP/1.1 200 OK\r\nContent-Ty").stall(),
    );
    for tool in ["slow", "ask"] {
        let waiting = client.post(rpc::call(tool, tool)).send().await;
        upstream.nth(&format!("tools/call:{tool}"), 0).await;
        assert_eq!(client.post(rpc::call("other", "echo")).await.status, 200);
        let mut response = waiting.response().await;
        assert_eq!(response.status, 504);
        assert_own_error(&response.json().await, tool, &["upstream_timeout"]);
        let what = format!("tools/call:{tool}");
        upstream
            .wait_until(move |seen| seen.outcome(&what) == Some(Outcome::Cancelled))
            .await;
    }
}

/// C17, G8: a long stream is not cut by the time-outs of short requests, while it is not silent; a silent
/// one is given up. The times to the first byte and of a whole request must be set to about a second, the
/// silence of a stream to about three.
pub async fn only_silent_streams_are_given_up(gateway: &str, upstream: &Upstream) {
    let client = in_session(gateway).await;
    let gate = crate::gate::Gate::new();
    let mut script = Script::events();
    for step in 1..=5 {
        script = script.message(rpc::progress(step, 5)).wait(&gate);
    }
    upstream.once("tools/call", script.stall());
    let mut long = client.post(rpc::call("long", "echo")).await;
    for step in 1..=5 {
        assert_eq!(long.next_message().await["params"]["progress"], step);
        // Another request runs into its time-out: that is how long this stream has been going on.
        upstream.once("tools/call:slow", Script::silent());
        assert_eq!(client.post(rpc::call(step, "slow")).await.status, 504);
        gate.release(1);
    }
    assert_own_error(
        &long.next_message().await,
        "long",
        &["upstream_timeout", "upstream_stream_lost"],
    );
    assert_eq!(long.next_event().await, None);
}

/// C12, B5: an upstream whose health checks fail is answered for by 503 with `Retry-After`; when it is
/// back, requests go through again. The interval of the checks must be set to some tenths of a second.
pub async fn unhealthy_503(gateway: &str, upstream: &Upstream) {
    let client = in_session(gateway).await;
    upstream.die().await;
    let (retry_after, error) = eventually("503 from a gateway with a dead upstream", || async {
        let mut response = client.post(rpc::call("dead", "echo")).await;
        let retry_after = response.header("Retry-After").map(str::to_owned);
        let body = response.json().await;
        if response.status == 503 {
            Ok((retry_after, body))
        } else {
            Err(format!("{} {body}", response.status))
        }
    })
    .await;
    assert!(retry_after.is_some_and(|after| after.parse::<u32>().is_ok()));
    assert_eq!(
        (&error["id"], &error["error"]["code"]),
        (&json!("dead"), &json!(-32603)),
        "{error}"
    );
    assert!(error["error"]["data"]["reason"].is_string(), "{error}");
    upstream.come_back();
    eventually(
        "200 from a gateway with an upstream that is back",
        || async {
            let status = client.post(rpc::call("back", "echo")).await.status;
            if status == 200 {
                Ok(())
            } else {
                Err(status.to_string())
            }
        },
    )
    .await;
}

/// "Bad input": an upstream that does not speak HTTP, or breaks its rules: 502 with the id, the request is
/// not sent again, and no other exchange is disturbed.
pub async fn malformed_upstream_is_502(gateway: &str, upstream: &Upstream) {
    let client = in_session(gateway).await;
    let long = format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\n\r\n", "x".repeat(1 << 20));
    let malformed = [
        "SSH-2.0-OpenSSH_9.9\r\n",
        "HTTP/1.1 abc\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nBad Header: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: gzip\r\n\r\n",
        &long,
    ];
    for (index, bytes) in malformed.into_iter().enumerate() {
        let other = client
            .post(rpc::call(format!("other {index}"), "progress"))
            .await;
        upstream.once(
            "tools/call:echo",
            Script::raw_bytes(bytes.to_owned()).cut(Cut::Fin),
        );
        let mut response = client.post(rpc::call(index, "echo")).await;
        let answer = response.json().await;
        assert_eq!(response.status, 502, "{bytes:.80} gave {answer}");
        assert_own_error(
            &answer,
            index,
            &[
                "upstream_invalid",
                "upstream_stream_lost",
                "upstream_unavailable",
            ],
        );
        let mut other = other;
        assert_eq!(other.answer().await["id"], format!("other {index}"));
    }
    assert_eq!(upstream.record().count("tools/call:echo"), malformed.len());
}

/// "Bad input": chunks that are none within a stream end it with an error in band.
pub async fn malformed_chunks_give_in_band_error(gateway: &str, upstream: &Upstream) {
    let client = in_session(gateway).await;
    for (index, garbage) in [
        "zz\r\n",
        "-5\r\nhello\r\n",
        "5\r\nhelloXX",
        "ffffffffffffffffff\r\n",
    ]
    .into_iter()
    .enumerate()
    {
        let script = Script::events()
            .message(rpc::progress(1, 2))
            .read_by_peer()
            .raw(garbage)
            .read_by_peer();
        upstream.once("tools/call", script.cut(Cut::Fin));
        let mut response = client.post(rpc::call(index, "echo")).await;
        assert_eq!(response.next_message().await["params"]["progress"], 1);
        assert_own_error(
            &response.next_message().await,
            index,
            &["upstream_stream_lost"],
        );
        assert_eq!(response.next_event().await, None, "{garbage:?}");
    }
}
