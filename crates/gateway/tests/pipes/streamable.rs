//! Clients of HTTP+SSE in front of servers of Streamable HTTP, and of Streamable HTTP that turn out to be
//! in front of none.

use std::time::Duration;

use serde_json::json;
use thinpipe_gateway::{Reached, Resume, Sharing};
use thinpipe_testkit::{Client, Cut, Event, Gate, Record, Script, SseClient, Upstream, rpc};
use thinpipe_transport::upstream::UpstreamConfig;

use crate::front::Front;
use crate::joint::{Joint, Way, ask};

fn at(upstream: &Upstream) -> Reached {
    UpstreamConfig::new("up".into(), upstream.url().parse().unwrap()).into()
}

/// R211: a call with progress and a question, the answer to it, and a failure of HTTP as an error.
#[tokio::test]
async fn r211_http_sse_to_streamable() {
    let upstream = Upstream::start().await;
    let question = rpc::request("q", "elicitation/create", &json!({"message": "?"}));
    upstream.on(
        "tools/call:ask",
        Script::events()
            .event(Event::message(rpc::progress(1, 2)))
            .event(Event::message(question))
            .wait_for_answer("\"q\"")
            .event(Event::message(rpc::text_result("thanks"))),
    );
    upstream.on("tools/call:broken", Script::status(500));
    let front = Front::start(at(&upstream)).await;
    let mut client = SseClient::open(&front.sse).await;
    client.initialize("2025-06-18").await;
    let progress = client.ask(rpc::call(1, "ask")).await;
    assert_eq!(progress["params"]["progressToken"], 1);
    let question = client.stream.next_message().await;
    assert_eq!(question["method"], "elicitation/create");
    client
        .tell(rpc::response("q", &json!({"action": "accept"})))
        .await;
    let answer = client.stream.next_message().await;
    assert_eq!(
        (&answer["id"], &answer["result"]["content"][0]["text"]),
        (&json!(1), &json!("thanks"))
    );
    let failed = client.ask(rpc::call(2, "broken")).await;
    assert_eq!(failed["id"], 2);
    assert!(failed["error"].is_object(), "{failed}");
    assert_eq!(upstream.record().count("tools/call"), 2);
    assert_eq!(upstream.record().duplicates, 0);
}

/// Protocol notes 5.1, "Cancel", 5.9.1: who has cancelled a call gets no answer to it, and no error in its place,
/// however the server ends it.
#[tokio::test]
async fn what_is_cancelled_is_not_answered_if_its_server_does_not() {
    let upstream = Upstream::start().await;
    let front = Front::start(at(&upstream)).await;
    let mut streamable = Client::new(&front.mcp);
    streamable.initialize("2025-11-25").await;
    let mut sse = SseClient::open(&front.sse).await;
    sse.initialize("2025-11-25").await;
    let scripts: [(&str, Gated); 3] = [
        ("it ends", begun),
        ("it breaks", |gate| begun(gate).cut(Cut::Reset)),
        ("it never began", |gate| {
            Script::new().wait(gate).cut(Cut::Reset)
        }),
    ];
    let cancelled = |id: &str| {
        let params = json!({"requestId": id});
        rpc::notification("notifications/cancelled", &params)
    };
    for (case, script) in scripts {
        let gate = Gate::new();
        upstream.on("tools/call:left", script(&gate));
        let asked = streamable.post(rpc::call(case, "left")).send().await;
        gate.reached().await;
        let told = streamable.post(cancelled(case)).await;
        assert_eq!(told.status, 202, "{case}");
        gate.open();
        let mut answer = asked.response().await;
        assert_eq!((answer.status, answer.is_stream()), (200, true), "{case}");
        let (events, end) = answer.events_to_end().await;
        assert_eq!(end, Ok(()), "{case}");
        let mut messages = events.iter().filter(|event| event.has_message());
        assert!(
            messages.all(|message| message.json()["id"].is_null()),
            "{case}: {events:?}"
        );

        let gate = Gate::new();
        upstream.on("tools/call:left", script(&gate));
        sse.tell(rpc::call(case, "left")).await;
        gate.reached().await;
        sse.tell(cancelled(case)).await;
        gate.open();
        let ended = |record: &Record| record.outcome("tools/call:left").is_some();
        upstream.wait_until(ended).await;
        for id in 1..=3 {
            sse.tell(rpc::call(id, "echo")).await;
            let answer = loop {
                let message = sse.stream.next_message().await;
                if message["method"].is_null() {
                    break message;
                }
            };
            assert_eq!(answer["id"], id, "{case}: {answer}");
        }
    }
    // Nobody asks for the rest of what nobody waits for.
    let resumed = upstream.requests("GET");
    assert!(resumed.iter().all(|get| get.last_event_id().is_none()));
}

/// G2: `resume` holds for sessions that clients share, too: without it no event id goes back to the server, and a call
/// whose stream broke gets its error.
#[tokio::test]
async fn g2_a_shared_session_resumes_as_is_said() {
    for sharing in [Sharing::Pooled, Sharing::Shared] {
        for resume in [Resume::Upstream, Resume::Off] {
            let joint = Joint::start(Way::Streamable, |spec| {
                spec.bridge.sessions = Some(sharing);
                spec.resume = resume;
            })
            .await;
            let client = joint.client("alice", &json!({})).await;
            let priming = Event::priming("e-1").with_retry(10);
            let answer = Event::message(rpc::text_result("done")).with_id("e-2");
            joint.upstream.open_stream("e", vec![priming, answer]);
            joint.upstream.finish("e");
            let cut = Script::stream_part("e", 1).cut(Cut::Fin);
            joint.upstream.once("tools/call", cut);
            let (_, answer) = ask(&client, rpc::call(1, "echo")).await;
            let gets = joint.upstream.requests("GET");
            let cursors = gets.iter().filter_map(|get| get.last_event_id());
            if resume == Resume::Off {
                let reason = &answer["error"]["data"]["reason"];
                assert_eq!(reason, "upstream_stream_lost", "{sharing:?}: {answer}");
                assert_eq!(cursors.count(), 0, "{sharing:?}");
            } else {
                assert!(answer["result"].is_object(), "{sharing:?}: {answer}");
                assert_eq!(cursors.collect::<Vec<_>>(), ["e-1"], "{sharing:?}");
            }
        }
    }
}

/// R250, `stream_idle`: a call of a session that is held, answered by an event stream, may be silent for as long as
/// that may.
#[tokio::test]
async fn r250_a_stream_may_be_silent_for_longer() {
    for sharing in [Sharing::PerClient, Sharing::Pooled] {
        let joint = Joint::start(Way::Streamable, |spec| {
            spec.bridge.sessions = Some(sharing);
            spec.resume = Resume::Log;
            if let Reached::Http(http) = &mut spec.reached {
                http.client.request_timeout = Duration::from_millis(300);
            }
        })
        .await;
        let client = joint.client("alice", &json!({})).await;
        let gate = Gate::new();
        let streamed = Script::events().read_by_peer().wait(&gate);
        let streamed = streamed.message(rpc::text_result("done"));
        joint.upstream.on("tools/call:echo", streamed);
        joint.upstream.on("tools/call:silent", Script::silent());
        let asked = ask(&client, rpc::call(1, "echo"));
        let cut = async {
            gate.reached().await;
            // It begins later, and its time is over.
            let (_, cut) = ask(&client, rpc::call(2, "silent")).await;
            gate.open();
            cut
        };
        let ((_, answer), cut) = tokio::join!(asked, cut);
        let reason = &cut["error"]["data"]["reason"];
        assert_eq!(reason, "upstream_timeout", "{sharing:?}: {cut}");
        let text = &answer["result"]["content"][0]["text"];
        assert_eq!(text, "done", "{sharing:?}: {answer}");
    }
}

/// What a server does when a gate opens.
type Gated = fn(&Gate) -> Script;

/// A stream with ids that waits.
fn begun(gate: &Gate) -> Script {
    let progress = Event::message(rpc::progress(1, 2));
    Script::events().event(progress.with_id("e1")).wait(gate)
}
