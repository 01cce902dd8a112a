//! Sessions: two ids, one on each side.

use serde_json::{Value, json};

use crate::client::{Client, Response};
use crate::gate::Gate;
use crate::rpc;
use crate::scenarios::{NEWEST, assert_refusal, in_session, in_session_with_ids, last_session};
use crate::upstream::{Outcome, Script, Upstream};

/// R070, R071, R074: DELETE ends the session on both sides; its id is 404 from then on, on every method,
/// and the upstream is not asked any more.
pub async fn delete_ends_both_sessions(gateway: &str, upstream: &Upstream) {
    let client = in_session(gateway).await;
    let mut stream = client.get().await;
    let open = upstream.sessions().len();
    let deleted = client.delete().await.status;
    assert!((200..300).contains(&deleted), "{deleted}");
    assert_eq!(upstream.record().count("DELETE"), 1);
    assert_eq!(upstream.sessions().len(), open - 1);
    // Properly or not, its stream ends.
    let _ = stream.events_to_end().await;
    assert_dead(&client, upstream).await;
}

/// R078: a server that knows no DELETE, or fails over it, does not keep the gateway's session alive.
pub async fn upstream_without_delete_is_tolerated(gateway: &str, upstream: &Upstream) {
    for script in [
        Script::error(405, -32000, "not allowed").header("Allow", "POST, GET"),
        Script::error(500, -32603, "broken"),
        Script::status(404),
    ] {
        let client = in_session(gateway).await;
        upstream.once("DELETE", script);
        let deleted = client.delete().await;
        assert!((200..300).contains(&deleted.status), "{}", deleted.status);
        assert_dead(&client, upstream).await;
    }
}

/// R071, C22: the stream that answers `initialize` is one of the session's: it is kept alive behind its
/// answer, and ends with the session, on both sides.
pub async fn opening_stream_ends_with_its_session(gateway: &str, upstream: &Upstream) {
    let note = rpc::notification("notifications/message", &json!({"data": "behind"}));
    let script = Script::events()
        .header("Mcp-Session-Id", "opened")
        .message(rpc::initialize_result(NEWEST))
        .message(note);
    upstream.once("initialize", script.stall());
    upstream.on("DELETE", Script::status(204));
    let client = Client::new(gateway);
    let mut opened = client.post(rpc::initialize(1, NEWEST)).await;
    assert_eq!(opened.next_message().await["id"], 1);
    assert_eq!(opened.next_message().await["params"]["data"], "behind");
    let session = opened.header("Mcp-Session-Id").unwrap_or_default();
    let deleted = client.delete().header("Mcp-Session-Id", session).await;
    assert!((200..300).contains(&deleted.status), "{}", deleted.status);
    let (rest, end) = opened.events_to_end().await;
    assert_eq!((rest, end), (Vec::new(), Ok(())));
    upstream
        .wait_until(|seen| seen.outcome("initialize") == Some(Outcome::Cancelled))
        .await;
}

/// R076, F5: when the upstream does not know its session any more, the client's session ends too: 404, and
/// a new one can be opened.
pub async fn upstream_404_ends_session(gateway: &str, upstream: &Upstream) {
    let mut client = in_session(gateway).await;
    let old = client.session().unwrap_or_default().to_owned();
    upstream.forget(&last_session(upstream));
    let mut response = client.post(rpc::call(1, "echo")).await;
    assert_eq!(response.status, 404);
    assert_refusal(&response.json().await, "session_not_found");
    assert_eq!(upstream.record().count("tools/call"), 1);
    assert_dead(&client, upstream).await;
    client.initialize("2025-11-25").await;
    assert_ne!(client.session(), Some(old.as_str()));
    assert_eq!(client.post(rpc::call(2, "echo")).await.status, 200);
}

async fn assert_dead(client: &Client, upstream: &Upstream) {
    let before = upstream.record().requests;
    for request in [
        client.post(rpc::call("dead", "echo")),
        client.get(),
        client.delete(),
    ] {
        assert_eq!(request.await.status, 404);
    }
    assert_eq!(
        upstream.record().requests,
        before,
        "a dead session is nothing to the upstream"
    );
}

/// R193: 404 means to a client with a session that the session is gone, and nothing else: a 404 that an
/// upstream without sessions gives to a request becomes something else, and the session goes on.
pub async fn e1_never_sees_404_but_for_session(gateway: &str, upstream: &Upstream) {
    upstream.set(|behaviour| behaviour.sessions = false);
    let client = in_session(gateway).await;
    let own = Script::error(404, -32601, "no such method");
    let plain = Script::status(404)
        .content_type("text/html")
        .whole("<h1>Not Found</h1>");
    for (id, script) in [own, plain, Script::status(404)].into_iter().enumerate() {
        upstream.once("tools/call", script);
        let mut response = client.post(rpc::call(id, "echo")).await;
        assert_ne!(response.status, 404);
        let answer = response.answer().await;
        assert_eq!(
            (&answer["id"], answer["error"].is_object()),
            (&json!(id), true),
            "{answer}"
        );
    }
    for request in [client.get(), client.resume("any-0")] {
        upstream.once("GET", Script::status(404));
        let mut response = request.await;
        assert_eq!(response.status, 502);
        assert_refusal(&response.json().await, "upstream_not_found");
    }
    assert_eq!(client.post(rpc::call("after", "echo")).await.status, 200);
}

/// F5, R010, R074, R075: the client sees the gateway's ids only and the upstream its own only, in every
/// header and body of every kind of exchange; requests carry the session's revision.
pub async fn session_ids_never_cross_sides(gateway: &str, upstream: &Upstream) {
    let mut seen_by_client = String::new();
    let mut gateway_ids = Vec::new();
    let mut upstream_ids = Vec::new();
    for revision in rpc::LEGACY {
        upstream.set(|behaviour| behaviour.event_ids = true);
        let mut client = Client::new(gateway);
        let mut initialize = client.post(rpc::initialize(0, revision)).await;
        see(&mut seen_by_client, &mut initialize).await;
        client.initialize(revision).await;
        gateway_ids.extend(initialize.header("Mcp-Session-Id").map(str::to_owned));
        gateway_ids.extend(client.session().map(str::to_owned));
        upstream_ids.extend(upstream.sessions());
        for tool in ["echo", "progress", "fail"] {
            see(
                &mut seen_by_client,
                &mut client.post(rpc::call(tool, tool)).await,
            )
            .await;
        }
        upstream.once("tools/call", Script::error(500, -32603, "broken"));
        see(
            &mut seen_by_client,
            &mut client.post(rpc::call("broken", "echo")).await,
        )
        .await;
        let mut stream = client.get().await;
        let session = last_session(upstream);
        upstream.notify(
            &session,
            rpc::notification("notifications/tools/list_changed", &json!({})),
        );
        let event = stream.next_event().await.expect("a notification");
        seen_by_client.push_str(&format!("{}{event:?}", stream.headers));
        let id = event.id.unwrap_or_default();
        let mut resumed = client.resume(&id).await;
        seen_by_client.push_str(&resumed.headers.to_string());
        see(&mut seen_by_client, &mut client.delete().await).await;
        let _ = resumed.events_to_end().await;
        see(
            &mut seen_by_client,
            &mut client.post(rpc::call("late", "echo")).await,
        )
        .await;
    }
    assert_eq!(gateway_ids.len(), 6);
    for id in &upstream_ids {
        assert!(
            !seen_by_client.contains(id.as_str()),
            "{id} was seen by the client:\n{seen_by_client}"
        );
    }
    let record = upstream.record();
    for request in &record.received {
        let text = request.to_text();
        for id in &gateway_ids {
            assert!(
                !text.contains(id.as_str()),
                "{id} was seen by the upstream:\n{text}"
            );
        }
        let first = request.rpc_method() == Some("initialize") || request.is_modern();
        assert_eq!(request.session().is_none(), first, "{text}");
        let foreign = request
            .session()
            .filter(|id| !upstream_ids.iter().any(|own| own == id));
        assert_eq!(foreign, None, "{text}");
    }
}

/// The head and the whole body of a response.
async fn see(seen: &mut String, response: &mut Response) {
    seen.push_str(&response.headers.to_string());
    let (body, _) = response.try_read_to_end().await;
    seen.push_str(&String::from_utf8_lossy(&body));
}

/// R085..R089, R092: with revision 2025-03-26 an array is split into single messages and its answers are
/// put together; with later ones, and where it must not be, it is refused.
pub async fn batch_is_split(gateway: &str, upstream: &Upstream) {
    let mut client = Client::new(gateway);
    client.initialize("2025-03-26").await;
    let note = rpc::notification("notifications/roots/list_changed", &json!({}));
    let batch = |messages: &[&str]| format!("[{}]", messages.join(","));

    let (one, two) = (rpc::call("one", "echo"), rpc::call(2, "progress"));
    let mut response = client.post(batch(&[&one, &note, &two])).await;
    assert_eq!(response.status, 200);
    let mut ids = answered(&mut response).await;
    ids.sort_by_key(Value::to_string);
    assert_eq!(ids, [json!("one"), json!(2)]);

    let single = client.post(batch(&[&rpc::call("single", "echo")])).await;
    let mut single = single;
    assert_eq!(answered(&mut single).await, [json!("single")]);

    assert_eq!(client.post(batch(&[&note, &note])).await.status, 202);
    let answer = rpc::response("nobody asked", &json!({}));
    assert_eq!(client.post(batch(&[&answer])).await.status, 202);
    for refused in [
        "[]".to_owned(),
        "[1]".to_owned(),
        batch(&[&rpc::initialize(9, "2025-03-26")]),
    ] {
        assert_eq!(client.post(refused).await.status, 400);
    }
    let twice = rpc::call("twice", "echo");
    assert_eq!(client.post(batch(&[&twice, &twice])).await.status, 400);

    let mut later = Client::new(gateway);
    later.initialize("2025-06-18").await;
    assert_eq!(
        later.post(batch(&[&rpc::call(1, "echo")])).await.status,
        400
    );
    let record = upstream.record();
    assert!(
        record.all("POST").all(|request| request.json().is_object()),
        "an array reached the upstream"
    );
    assert_eq!(record.count("tools/call"), 3, "{record}");
    assert_eq!(
        record.count("notifications/roots/list_changed"),
        3,
        "{record}"
    );
}

/// Ids of all responses in a body or a stream, be they single or in arrays.
async fn answered(response: &mut Response) -> Vec<Value> {
    let messages = if response.is_stream() {
        let (events, end) = response.events_to_end().await;
        assert_eq!(end, Ok(()));
        events
            .iter()
            .filter(|event| event.has_message())
            .map(crate::Event::json)
            .collect()
    } else {
        vec![response.json().await]
    };
    let single = messages.into_iter().flat_map(|message| match message {
        Value::Array(messages) => messages,
        message => vec![message],
    });
    let responses = single.filter(|message| message.get("method").is_none());
    responses.map(|message| message["id"].clone()).collect()
}

/// Protocol notes 6.4: an id that is pending in a session is not taken twice in it, but it is in another.
pub async fn pending_id_is_refused(gateway: &str, upstream: &Upstream) {
    let client = in_session(gateway).await;
    let gate = Gate::new();
    upstream.on(
        "tools/call:slow",
        Script::json(rpc::text_result("slow")).late(&gate),
    );
    let first = client.post(rpc::call(1, "slow")).send().await;
    gate.reached().await;
    let mut second = client.post(rpc::call(1, "echo")).await;
    assert_eq!(
        (second.status, second.json().await["error"]["code"].clone()),
        (400, json!(-32600))
    );
    assert_eq!(client.post(rpc::call("1", "echo")).await.status, 200);
    let other = in_session(gateway).await;
    assert_eq!(other.post(rpc::call(1, "echo")).await.status, 200);
    gate.open();
    assert_eq!(first.response().await.json().await["id"], 1);
    assert_eq!(client.post(rpc::call(1, "echo")).await.status, 200);
}

/// B20, R079: a server's request in mid-stream is answered by a POST of its own, and the answer
/// reaches the upstream with its id.
pub async fn server_request_is_answered_in_mid_stream(gateway: &str, upstream: &Upstream) {
    for ids in [false, true] {
        let client = if ids {
            in_session_with_ids(gateway, upstream).await
        } else {
            in_session(gateway).await
        };
        let mut response = client.post(rpc::call(1, "ask")).await;
        let question = response.next_message().await;
        assert_eq!(
            (&question["method"], &question["id"]),
            (&json!("elicitation/create"), &json!("ask-1"))
        );
        let result = json!({"action": "accept", "content": {"seat": "4A"}});
        let answer = rpc::response(question["id"].clone(), &result);
        assert_eq!(client.post(&answer).await.status, 202);
        assert_eq!(response.next_message().await["id"], 1);
        assert_eq!(response.next_event().await, None);
        let record = upstream.record();
        let answers = record
            .all("POST")
            .filter(|request| request.rpc_method().is_none());
        assert!(
            answers.last().is_some_and(|request| request.body == answer),
            "the answer as it was"
        );
    }
}

/// Protocol notes 1.3: a server may serve sessions and name in `server/discover` only what it serves
/// statelessly, as the official Python SDK does; clients of both kinds reach it.
pub async fn sessions_that_discovery_does_not_list_are_served(gateway: &str, upstream: &Upstream) {
    let discovered = json!({
        "resultType": "complete",
        "supportedVersions": [rpc::MODERN],
        "capabilities": {"tools": {}},
        "ttlMs": 0,
        "cacheScope": "private",
    });
    upstream.on("server/discover", Script::json(rpc::result(discovered)));
    let client = in_session(gateway).await;
    let modern = client.post_modern(&rpc::modern_call(1, "echo")).await;
    assert_eq!(modern.status, 200);
    assert_eq!(client.post(rpc::call(2, "echo")).await.status, 200);
    // And again, now that the gateway knows what discovery lists.
    let client = in_session(gateway).await;
    assert_eq!(client.post(rpc::call(3, "echo")).await.status, 200);
}

/// B14, R216: a client with sessions in front of a server without them has one with the gateway. The upstream
/// must have been [stateless](crate::Era::Stateless) when the gateway started.
pub async fn server_without_sessions_is_bridged(gateway: &str, upstream: &Upstream) {
    for id in [1, 2] {
        let mut response = Client::new(gateway).post(rpc::initialize(id, NEWEST)).await;
        assert_eq!(response.status, 200);
        assert!(response.header("Mcp-Session-Id").is_some());
        let answer = response.json().await;
        assert_eq!(answer["id"], id);
        assert_eq!(answer["result"]["protocolVersion"], NEWEST, "{answer}");
    }
    let client = in_session(gateway).await;
    assert_eq!(client.post(rpc::call(3, "echo")).await.status, 200);
    assert_eq!(upstream.sessions(), [""; 0]);
}
