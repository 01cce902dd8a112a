//! The counting upstream's streams: event ids, flaky connections, the standalone stream.

use serde_json::json;
use thinpipe_testkit::{Client, Cut, Event, Script, Upstream, rpc};

async fn pair() -> (Upstream, Client) {
    let upstream = Upstream::start().await;
    upstream.set(|behaviour| behaviour.event_ids = true);
    let mut client = Client::new(upstream.url());
    client.initialize("2025-11-25").await;
    (upstream, client)
}

fn hundred() -> Vec<Event> {
    let mut events: Vec<_> = (0..99)
        .map(|step| Event::message(rpc::progress(step, 99)))
        .collect();
    events.push(Event::message(rpc::text_result("done")));
    for (index, event) in events.iter_mut().enumerate() {
        event.id = Some(format!("work-{index}"));
    }
    events
}

/// G3: what a client that resumes gets from a flaky upstream is every event once, in order.
#[tokio::test]
async fn a_flaky_stream_is_whole_over_many_connections() {
    for cut in [Cut::Fin, Cut::Reset] {
        let (upstream, client) = pair().await;
        upstream.publish("work", hundred());
        let part = Script::stream_part("work", 7).read_by_peer().cut(cut);
        upstream.on("tools/call", part.clone());
        upstream.on("GET", part);
        let mut response = client.post(rpc::call("id", "echo")).await;
        let mut events = Vec::new();
        loop {
            let (more, end) = response.events_to_end().await;
            events.extend(more);
            if end.is_ok() {
                break;
            }
            let last = events
                .last()
                .and_then(|event: &Event| event.id.clone())
                .unwrap();
            response = client.resume(&last).await;
        }
        let ids: Vec<_> = events.iter().filter_map(|event| event.id.clone()).collect();
        assert_eq!(
            ids,
            (0..100)
                .map(|index| format!("work-{index}"))
                .collect::<Vec<_>>()
        );
        assert_eq!(events[99].json()["id"], "id");
        assert_eq!(events[3].json()["params"]["progressToken"], "id");
        assert_eq!(upstream.record().count("GET"), 14);
    }
}

#[tokio::test]
async fn tools_prime_and_can_be_resumed_in_their_session_only() {
    let (upstream, client) = pair().await;
    let mut response = client.post(rpc::call(1, "progress")).await;
    let (events, end) = response.events_to_end().await;
    assert_eq!((events.len(), end), (5, Ok(())));
    assert_eq!(
        (events[0].data.as_deref(), events[0].retry),
        (Some(""), Some(20))
    );
    let id = events[2].id.clone().unwrap();
    let (rest, _) = client.resume(&id).await.events_to_end().await;
    assert_eq!(rest, events[3..]);

    let mut other = Client::new(upstream.url());
    other.initialize("2025-06-18").await;
    assert_eq!(other.resume(&id).await.status, 400);
    assert_eq!(client.resume("no-such").await.status, 400);
    let mut unprimed = other.post(rpc::call(1, "progress")).await;
    assert_eq!(unprimed.events_to_end().await.0.len(), 4);
}

#[tokio::test]
async fn the_standalone_stream_goes_on_where_it_stopped() {
    let (upstream, client) = pair().await;
    let session = client.session().unwrap();
    let note = |n: u32| rpc::notification("notifications/message", &json!({"data": n}));
    upstream.notify(session, note(0));
    let mut first = client.get().await;
    let event = first.next_event().await.unwrap();
    assert_eq!(event.json()["params"]["data"], 0);
    assert!(!event.id.as_deref().unwrap().contains(session));
    upstream.notify(session, note(1));
    assert_eq!(first.next_message().await["params"]["data"], 1);

    // The newest connection carries it; the older one ends.
    let mut second = client.get().await;
    assert_eq!(first.next_event().await, None);
    upstream.notify(session, note(2));
    assert_eq!(second.next_message().await["params"]["data"], 2);
    let mut resumed = client.resume(event.id.as_deref().unwrap()).await;
    assert_eq!(resumed.next_message().await["params"]["data"], 1);
    assert_eq!(resumed.next_message().await["params"]["data"], 2);

    upstream.forget(session);
    assert_eq!(resumed.next_event().await, None);
    assert_eq!(client.post(rpc::call(1, "echo")).await.status, 404);
}
