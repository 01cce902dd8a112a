//! The counting upstream's scripts, as they are seen on the wire.

use thinpipe_testkit::{Client, Connection, Cut, Event, Gate, Outcome, Script, Upstream, rpc};

async fn pair() -> (Upstream, Client) {
    let upstream = Upstream::start().await;
    let mut client = Client::new(upstream.url());
    client.initialize("2025-11-25").await;
    (upstream, client)
}

#[tokio::test]
async fn once_comes_before_on_and_the_newest_rule_wins() {
    let (upstream, client) = pair().await;
    let status = async || client.post(rpc::call(1, "echo")).await.status;
    upstream.on("tools/call", Script::status(500));
    upstream.on("tools/call:echo", Script::status(501));
    upstream.on_each("POST", |request| {
        request.id_text().is_none().then(|| Script::status(502))
    });
    upstream.once("tools/call", Script::status(503));
    upstream.once("*", Script::status(504));
    let statuses = [
        status().await,
        status().await,
        status().await,
        status().await,
    ];
    assert_eq!(statuses, [503, 504, 501, 501]);
    upstream.behave();
    assert_eq!(status().await, 200);
}

#[tokio::test]
async fn a_script_waits_at_its_gate_with_bytes_out() {
    let (upstream, client) = pair().await;
    let gate = Gate::new();
    let script = Script::events()
        .message(rpc::progress(1, 1))
        .wait(&gate)
        .message(rpc::text_result("x"));
    upstream.on("tools/call", script);
    let mut response = client.post(rpc::call("a", "echo")).await;
    assert_eq!(
        response.next_message().await["params"]["progressToken"],
        "a"
    );
    gate.reached().await;
    let record = upstream.record();
    assert_eq!(
        (record.open_streams, record.outcome("tools/call")),
        (1, None)
    );
    assert_eq!(record.response("tools/call").unwrap().events, 1);
    gate.open();
    assert_eq!(response.next_message().await["id"], "a");
    assert_eq!(response.next_event().await, None);
    upstream.wait_until(|seen| seen.open_streams == 0).await;
}

#[tokio::test]
async fn scripts_can_lie_about_type_and_length() {
    let (upstream, client) = pair().await;
    upstream.once(
        "tools/call",
        Script::json("{}").content_type("text/event-streams"),
    );
    let response = client.post(rpc::call(1, "echo")).await;
    assert_eq!(response.header("content-type"), Some("text/event-streams"));
    assert_eq!(upstream.record().open_streams, 0);

    upstream.once(
        "tools/call",
        Script::status(200).length(10).body("12345").cut(Cut::Fin),
    );
    let mut short = client.post(rpc::call(1, "echo")).await;
    let (body, end) = short.try_read_to_end().await;
    assert_eq!((&body[..], end.unwrap_err().bytes), (&b"12345"[..], 5));
    assert_eq!(upstream.record().outcome("tools/call"), Some(Outcome::Cut));

    upstream.once(
        "tools/call",
        Script::status(200).until_close().body("all of it"),
    );
    assert_eq!(
        client.post(rpc::call(1, "echo")).await.read_to_end().await,
        "all of it"
    );
}

#[tokio::test]
async fn every_cut_is_seen_as_one() {
    let (upstream, client) = pair().await;
    let event = Event::message(rpc::text_result("x")).with_id("1");
    for cut in [Cut::Fin, Cut::Reset] {
        let mid_event = Script::events()
            .event(Event::comment("hi"))
            .part_of(event.clone(), 30);
        upstream.once("tools/call", mid_event.read_by_peer().cut(cut));
        let mut response = client.post(rpc::call(1, "echo")).await;
        assert!(
            response
                .try_next_block()
                .await
                .unwrap()
                .unwrap()
                .is_comment()
        );
        let (events, end) = response.events_to_end().await;
        assert_eq!((events.len(), end.is_err()), (0, true), "{cut:?}");
        assert!(response.is_inside_event());

        let mid_chunk = Script::events()
            .raw("ff\r\ndata: only this")
            .read_by_peer()
            .cut(cut);
        upstream.once("tools/call", mid_chunk);
        let (body, end) = client
            .post(rpc::call(1, "echo"))
            .await
            .try_read_to_end()
            .await;
        assert_eq!(
            (&body[..], end.is_err()),
            (&b"data: only this"[..], true),
            "{cut:?}"
        );

        let mid_head = Script::raw_bytes("HTTP/1.1 200 OK\r\nContent-Ty")
            .read_by_peer()
            .cut(cut);
        upstream.once("tools/call", mid_head);
        let response = client
            .post(rpc::call(1, "echo"))
            .send()
            .await
            .try_response()
            .await;
        assert!(response.unwrap_err().contains("Content-Ty"), "{cut:?}");

        upstream.once("tools/call", Script::new().cut(cut));
        let response = client
            .post(rpc::call(1, "echo"))
            .send()
            .await
            .try_response()
            .await;
        assert!(response.is_err(), "{cut:?}");
        assert_eq!(upstream.record().outcome("tools/call"), Some(Outcome::Cut));
    }
}

#[tokio::test]
async fn pieces_arrive_one_by_one() {
    let (upstream, client) = pair().await;
    let body = "data: a\r\n\r\ndata: b\r\n\r\n";
    upstream.on("tools/call", Script::events().split(body, &[8, 9, 11]));
    let mut response = client.post(rpc::call(1, "echo")).await;
    let mut pieces = Vec::new();
    while let Some(piece) = response.piece().await.unwrap() {
        assert!(piece.ends_chunk);
        pieces.push(piece.data);
    }
    assert_eq!(pieces, ["data: a\r", "\n", "\r\n", "data: b\r\n\r\n"]);
    assert_eq!(pieces.concat(), body.as_bytes());
}

/// C25: what the kernel took is counted, and a client that stops reading is seen to have stopped it.
#[tokio::test]
async fn a_client_that_stops_reading_stops_the_upstream() {
    let upstream = Upstream::start().await;
    upstream.send_buffer(16 << 10).await;
    let mut client = Client::new(upstream.url());
    client.initialize("2025-11-25").await;
    let event = Event::message("x".repeat(1000)).to_bytes();
    upstream.on("tools/call", Script::events().fill(event.clone(), 4000));
    let mut response = client
        .post(rpc::call(1, "echo"))
        .receive_buffer(16 << 10)
        .await;
    let taken = upstream.blocked("tools/call").await;
    assert!(taken < 512 << 10, "{taken} bytes taken while nobody reads");
    let (body, end) = response.try_read_to_end().await;
    assert_eq!((body.len(), end), (event.len() * 4000, Ok(())));
    assert_eq!(
        upstream.record().response("tools/call").unwrap().events,
        4000
    );
}

#[tokio::test]
async fn a_peer_that_leaves_ends_the_response() {
    let (upstream, client) = pair().await;
    upstream.on("tools/call", Script::events().message("{}").stall());
    for reset in [false, true] {
        let mut response = client.post(rpc::call(1, "echo")).await;
        response.next_event().await;
        assert_eq!(upstream.record().open_streams, 1);
        if reset {
            response.into_raw().reset()
        } else {
            response.close()
        }
        upstream.wait_until(|seen| seen.open_streams == 0).await;
        assert_eq!(
            upstream.record().outcome("tools/call"),
            Some(Outcome::Cancelled)
        );
    }
    assert_eq!(upstream.record().cancelled, 2);
}

#[tokio::test]
async fn it_dies_and_comes_back_with_its_sessions() {
    let (upstream, client) = pair().await;
    let mut stream = client.get().await;
    upstream.die().await;
    assert!(stream.try_next_block().await.is_err());
    assert!(
        Connection::try_open(upstream.address(), None)
            .await
            .is_err()
    );
    assert_eq!(upstream.record().open_connections, 0);
    upstream.come_back();
    assert_eq!(client.post(rpc::call(1, "echo")).await.status, 200);
}

#[tokio::test]
async fn what_is_no_http_is_kept_as_such() {
    let upstream = Upstream::start().await;
    let client = Client::new(upstream.url());
    for bytes in [
        "GET /mcp HTTP/1.1\r\n\r\n",
        "nonsense\r\n\r\n",
        "POST /mcp HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
    ] {
        let mut connection = client.connect().await;
        connection.send(bytes).await;
        assert_eq!(connection.response().await.status, 400);
    }
    upstream.wait_until(|seen| seen.malformed.len() == 3).await;
}

#[tokio::test]
#[should_panic(expected = "the upstream saw 0 requests")]
async fn a_condition_that_never_holds_is_named() {
    let upstream = Upstream::start().await;
    upstream.wait_until(|seen| seen.requests == 1).await;
}
