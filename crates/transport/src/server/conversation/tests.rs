use std::future::poll_fn;
use std::task::Poll;

use bytes::Bytes;
use http::StatusCode;
use thinpipe_proto::session::EventId;

use super::*;
use crate::body::{Body, BodyStream, Filled};
use crate::server::event_buffer::EventBufferConfig;
use crate::server::exchange::{Answer, Content};

mod resuming;

fn plain() -> Arc<Conversation> {
    Conversation::new(ConversationConfig::default(), Revision::V2025_11_25)
}

fn resumable() -> Arc<Conversation> {
    let config = ConversationConfig {
        buffer: EventBufferConfig::resumable(),
        ..ConversationConfig::default()
    };
    Conversation::new(config, Revision::V2025_11_25)
}

fn id(number: i64) -> RequestId {
    RequestId::from_integer(number)
}

fn message(text: &str) -> Message {
    Message::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

fn notice(method: &str) -> Message {
    message(&format!(r#"{{"jsonrpc":"2.0","method":"{method}"}}"#))
}

fn question(number: i64) -> Message {
    message(&format!(
        r#"{{"jsonrpc":"2.0","id":{number},"method":"roots/list"}}"#
    ))
}

fn stream_of(answer: Answer) -> Box<dyn BodyStream> {
    assert_eq!(answer.content, Content::EventStream);
    match answer.body {
        Body::Stream(stream) => stream,
        other => panic!("{other:?}"),
    }
}

/// The data of the events that are there, or come until the end.
async fn rest(mut stream: Box<dyn BodyStream>) -> Vec<String> {
    let mut out = Vec::new();
    while poll_fn(|cx| stream.poll_fill(cx, &mut out)).await.unwrap() == Filled::More {}
    data(&out)
}

async fn next(stream: &mut Box<dyn BodyStream>) -> Vec<String> {
    let mut out = Vec::new();
    poll_fn(|cx| stream.poll_fill(cx, &mut out)).await.unwrap();
    data(&out)
}

fn data(out: &[u8]) -> Vec<String> {
    let text = String::from_utf8(out.to_vec()).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix("data: "));
    lines.map(str::to_owned).collect()
}

/// B11: a response alone is JSON, one that something precedes ends an event stream.
#[tokio::test]
async fn b11_what_comes_first_decides_about_the_form() {
    let conversation = plain();
    let (outlet, inlet) = conversation.begin(&id(1));
    outlet.respond("{}".into()).await.unwrap();
    let answer = inlet.answer().await;
    assert_eq!(answer.content, Content::Json);

    let (outlet, inlet) = conversation.begin(&id(2));
    outlet.notify("1".into()).await.unwrap();
    outlet.respond("{}".into()).await.unwrap();
    assert_eq!(rest(stream_of(inlet.answer().await)).await, ["1", "{}"]);
}

/// What is said together is read together, in its order. What finds no room is left, and so is a change notice with all
/// behind it, as it is said in another way.
#[tokio::test]
async fn notices_are_said_together_as_far_as_there_is_room() {
    let config = ConversationConfig {
        buffer: EventBufferConfig {
            max_events: 3,
            ..EventBufferConfig::default()
        },
        ..ConversationConfig::default()
    };
    let conversation = Conversation::new(config, Revision::V2025_11_25);
    let (_outlet, inlet) = conversation.begin(&id(1));
    let mut notices: VecDeque<_> = (0..5).map(|n| notice(&format!("n/{n}"))).collect();
    conversation.say_some(&mut notices, &id(2));
    assert_eq!(notices.len(), 5, "nobody asked this");
    conversation.say_some(&mut notices, &id(1));
    assert_eq!(notices.len(), 2);

    let mut stream = stream_of(inlet.answer().await);
    let said = (0..3).map(|n| notice(&format!("n/{n}")).source().clone());
    assert_eq!(next(&mut stream).await, said.collect::<Vec<_>>());
    notices.insert(1, notice("notifications/tools/list_changed"));
    conversation.say_some(&mut notices, &id(1));
    assert_eq!(notices.len(), 2);
    assert_eq!(
        notices[0].method(),
        Some("notifications/tools/list_changed")
    );
    drop(stream);
    notices.pop_front();
    conversation.say_some(&mut notices, &id(1));
    assert_eq!(notices.len(), 1, "its client has left");
}

/// What takes long becomes a stream that can be kept alive, and its response is not lost.
#[tokio::test(start_paused = true)]
async fn b11_a_slow_answer_is_a_stream() {
    let (outlet, inlet) = plain().begin(&id(1));
    let stream = stream_of(inlet.answer().await);
    outlet.respond("{}".into()).await.unwrap();
    assert_eq!(rest(stream).await, ["{}"]);
}

/// Protocol notes 5.1, "Cancel": the stream of a cancelled request ends without a response.
#[tokio::test]
async fn a_cancelled_request_gets_an_empty_stream() {
    let (outlet, inlet) = plain().begin(&id(1));
    drop(outlet);
    assert!(rest(stream_of(inlet.answer().await)).await.is_empty());
}

/// E2: a session that ends answers what runs in it, whether its stream is full or has not begun.
#[tokio::test]
async fn e2_a_session_that_ends_answers_what_runs() {
    let config = ConversationConfig {
        buffer: EventBufferConfig {
            max_events: 1,
            ..EventBufferConfig::default()
        },
        ..ConversationConfig::default()
    };
    let conversation = Conversation::new(config, Revision::V2025_11_25);
    let (first, inlet) = conversation.begin(&id(1));
    let (second, silent) = conversation.begin(&id(2));
    first.notify("1".into()).await.unwrap();
    conversation.close();
    drop((first, second));
    let said = rest(stream_of(inlet.answer().await)).await;
    assert_eq!(said[0], "1");
    assert_eq!(said.len(), 2);
    assert_eq!(message(&said[1]).id(), Some(&id(1)));
    assert!(said[1].contains(r#""reason":"session_ended""#), "{said:?}");
    assert_eq!(silent.answer().await.content, Content::Json);
}

/// B20, T4: each message is on one stream: that of its request, else the standalone one.
#[tokio::test]
async fn b20_a_message_goes_on_exactly_one_stream() {
    let conversation = plain();
    let mut alone = stream_of(conversation.listen(None).await.unwrap());
    let (outlet, inlet) = conversation.begin(&id(1));
    let about = notice("notifications/message");
    assert_eq!(
        conversation.say(&about, Some(&id(1))).await,
        Said::Delivered
    );
    assert_eq!(conversation.say(&question(7), None).await, Said::Delivered);
    outlet.respond("{}".into()).await.unwrap();
    let of_request = rest(stream_of(inlet.answer().await)).await;
    assert_eq!(of_request.len(), 2);
    assert!(of_request[0].contains("notifications/message"));
    let of_session = next(&mut alone).await;
    assert!(of_session.len() == 1 && of_session[0].contains("roots/list"));
    // What comes too late for its request is about none.
    conversation.say(&about, Some(&id(1))).await;
    assert!(next(&mut alone).await[0].contains("notifications/message"));
}

/// Protocol notes 5.2, "no GET stream open".
#[tokio::test(start_paused = true)]
async fn without_a_stream_questions_wait_and_notices_are_kept_once() {
    let conversation = plain();
    assert_eq!(conversation.say(&question(1), None).await, Said::Held);
    assert_eq!(conversation.say(&question(2), None).await, Said::Held);
    for _ in 0..3 {
        let changed = notice("notifications/tools/list_changed");
        assert_eq!(conversation.say(&changed, None).await, Said::Held);
    }
    let log = conversation
        .say(&notice("notifications/message"), None)
        .await;
    assert_eq!(log, Said::Dropped);
    assert!(conversation.withdraw(&id(2)));

    // A POST will do for the question, but not for the notice.
    let (outlet, inlet) = conversation.begin(&id(5));
    outlet.respond("{}".into()).await.unwrap();
    assert_eq!(rest(stream_of(inlet.answer().await)).await.len(), 2);
    let mut alone = stream_of(conversation.listen(None).await.unwrap());
    assert_eq!(next(&mut alone).await.len(), 1, "three changes are one");
    drop(alone);

    conversation.say(&question(3), None).await;
    assert!(conversation.undeliverable().is_empty());
    tokio::time::advance(Duration::from_secs(30)).await;
    assert_eq!(conversation.undeliverable(), [id(3)]);
    assert_eq!(conversation.deadline(), None);
}

/// T5, 5.9 (18, 23): however many changes there are, each URI waits once, also at a stream that is open.
#[tokio::test]
async fn t5_a_storm_of_changes_costs_one_slot_a_uri() {
    let updated = |n: usize| {
        message(&format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{{"uri":"test://{n}"}}}}"#
        ))
    };
    for conversation in [plain(), resumable()] {
        // Those that wait for a stream, and those that wait on it.
        conversation.try_say(&updated(0), None).unwrap();
        let mut alone = stream_of(conversation.listen(None).await.unwrap());
        for n in (0..1_000).chain(0..1_000) {
            let said = conversation.try_say(&updated(n), None);
            assert_eq!(said, Ok(Said::Delivered));
        }
        assert_eq!(
            conversation.say(&question(1), None).await,
            Said::Delivered,
            "there is room for others"
        );
        let mut seen = Vec::new();
        while seen.len() < 1_001 {
            seen.extend(
                next(&mut alone)
                    .await
                    .into_iter()
                    .filter(|data| !data.is_empty()),
            );
        }
        let twice = seen
            .iter()
            .filter(|text| text.contains("test://7\""))
            .count();
        assert_eq!((seen.len(), twice), (1_001, 1));
        assert!(seen[1_000].contains("roots/list"), "in order");
    }
}

/// Protocol notes 5.2: who keeps the time is told when a question begins to wait, also when its client has left
/// the stream that it was asked on.
#[tokio::test(start_paused = true)]
async fn a_question_that_begins_to_wait_is_told_of() {
    let conversation = plain();
    let held = Arc::new(Notify::new());
    conversation.notify_held(Arc::clone(&held));
    let told = || {
        let told = std::pin::pin!(held.notified());
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        told.poll(&mut cx).is_ready()
    };
    let (_outlet, inlet) = conversation.begin(&id(1));
    let said = conversation.say(&question(7), Some(&id(1))).await;
    assert_eq!((said, told()), (Said::Delivered, false));
    assert_eq!(conversation.deadline(), None);
    drop(inlet);
    assert!(told(), "its stream was left");
    assert!(conversation.deadline().is_some());
    assert!(!told());
    conversation.say(&question(8), None).await;
    assert!(told());
}

/// A question uses the stream of the oldest running request, and another one when that client leaves.
#[tokio::test]
async fn a_question_finds_a_stream_that_is_read() {
    let conversation = plain();
    let (gone, inlet) = conversation.begin(&id(1));
    gone.notify("1".into()).await.unwrap();
    drop(inlet.answer().await);
    assert!(gone.is_closed());
    let (there, inlet) = conversation.begin(&id(2));
    assert_eq!(
        conversation.say(&question(9), Some(&id(1))).await,
        Said::Delivered
    );
    let progress = notice("notifications/progress");
    let told = conversation.say(&progress, Some(&id(1))).await;
    assert_eq!(told, Said::Dropped, "nobody else is told");
    there.respond("{}".into()).await.unwrap();
    assert_eq!(rest(stream_of(inlet.answer().await)).await.len(), 2);
}

/// B8: the answer goes to whoever asked, once; nothing hangs.
#[tokio::test(start_paused = true)]
async fn b8_answers_are_correlated() {
    let conversation = plain();
    let mut alone = stream_of(conversation.listen(None).await.unwrap());
    let wait = Duration::from_secs(5);
    let answer = message(r#"{"jsonrpc":"2.0","id":1,"result":{"roots":[]}}"#);
    let asking = conversation.ask("roots/list", b"{}", None, wait);
    let (asked, ()) = tokio::join!(asking, async {
        assert!(next(&mut alone).await[0].contains(r#""id":1,"method":"roots/list""#));
        assert!(!conversation.answered(&message(r#"{"jsonrpc":"2.0","id":2,"result":{}}"#)));
        assert!(!conversation.answered(&message(r#"{"jsonrpc":"2.0","id":"1","result":{}}"#)));
        assert!(conversation.answered(&answer));
        assert!(!conversation.answered(&answer), "a second time");
    });
    assert_eq!(asked.unwrap().source(), answer.source());

    let late = conversation.ask("ping", b"{}", None, wait).await;
    assert_eq!(late.unwrap_err(), Unanswered::TimedOut);
    let told = next(&mut alone).await;
    assert!(told[1].contains(r#"notifications/cancelled","params":{"requestId":2}"#));
    drop(alone);

    let unheard = conversation.ask("ping", b"{}", None, Duration::from_secs(60));
    assert_eq!(unheard.await.unwrap_err(), Unanswered::Unreachable);
    let (closed, ()) = tokio::join!(conversation.ask("ping", b"{}", None, wait), async {
        conversation.close();
    });
    assert_eq!(closed.unwrap_err(), Unanswered::Closed);
    assert_eq!(conversation.asked.len(), 0);
}

/// B8, T9, protocol notes 5.1, "Cancel": whoever asks may be dropped. A question that waits is withdrawn, one
/// that was asked is taken back where the client hears it, and one that was answered is left alone.
#[tokio::test]
async fn b8_a_question_whose_asker_is_dropped_is_taken_back() {
    let conversation = plain();
    let related = id(7);
    let wait = Duration::from_secs(60);
    let ask = |related| {
        let mut asking = Box::pin(conversation.ask("ping", b"{}", related, wait));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(asking.as_mut().poll(&mut cx).is_pending());
        asking
    };
    for _ in 0..100 {
        drop(ask(None));
    }
    let mut alone = stream_of(conversation.listen(None).await.unwrap());
    assert_eq!(conversation.say(&question(7), None).await, Said::Delivered);
    assert!(
        next(&mut alone).await[0].contains("roots/list"),
        "nothing before it"
    );

    let cancelled =
        |number| format!(r#"notifications/cancelled","params":{{"requestId":{number}}}"#);
    drop(ask(None));
    let seen = next(&mut alone).await;
    assert!(
        seen[0].contains("ping") && seen[1].contains(&cancelled(101)),
        "{seen:?}"
    );

    let (outlet, inlet) = conversation.begin(&related);
    drop(ask(Some(&related)));
    let left = ask(Some(&related));
    drop(inlet);
    drop(left);
    let seen = next(&mut alone).await;
    assert!(seen[0].contains(r#""id":103,"#), "{seen:?}");
    assert!(
        seen.len() == 2 && seen[1].contains(&cancelled(103)),
        "{seen:?}"
    );
    drop(outlet);

    let asked = ask(None);
    let answer = message(r#"{"jsonrpc":"2.0","id":104,"result":{}}"#);
    assert!(conversation.answered(&answer));
    drop(asked);
    let seen = next(&mut alone).await;
    assert_eq!(seen.len(), 1, "{seen:?}");
}

/// B8: as many questions as may be, and no more.
#[tokio::test(start_paused = true)]
async fn b8_questions_are_bounded() {
    let config = ConversationConfig {
        max_asked: 1,
        ..ConversationConfig::default()
    };
    let conversation = Conversation::new(config, Revision::V2025_06_18);
    let ask = || conversation.ask("ping", b"{}", None, Duration::from_secs(1));
    let (first, second) = tokio::join!(ask(), ask());
    assert_eq!(first.unwrap_err(), Unanswered::TimedOut);
    assert_eq!(second.unwrap_err(), Unanswered::TooMany { limit: 1 });
    let wrong = conversation.ask("ping", b"[", None, Duration::from_secs(1));
    assert_eq!(wrong.await.unwrap_err(), Unanswered::Params);
}

/// R111: the newest standalone stream wins; two that fight are told.
#[tokio::test(start_paused = true)]
async fn r111_standalone_streams_replace_each_other_three_times() {
    let conversation = plain();
    let mut open = vec![stream_of(conversation.listen(None).await.unwrap())];
    for _ in 0..3 {
        open.push(stream_of(conversation.listen(None).await.unwrap()));
        assert!(rest(open.remove(0)).await.is_empty());
    }
    assert_eq!(
        conversation.listen(None).await.unwrap_err(),
        ListenError::Contended
    );
    tokio::time::advance(Duration::from_secs(10)).await;
    conversation.listen(None).await.unwrap();
}

/// A10, protocol notes 5.9 (21): over HTTP+SSE all is on the one stream, in order.
#[tokio::test]
async fn a10_over_http_sse_there_is_one_stream() {
    let only = EventBuffer::new(EventBufferConfig::default(), StreamId(1));
    let conversation = Conversation::over(ConversationConfig::default(), only.clone());
    let (outlet, inlet) = conversation.begin(&id(1));
    let mut answer = Box::pin(inlet.answer());
    outlet.notify("1".into()).await.unwrap();
    conversation.say(&question(2), None).await;
    let runs = poll_fn(|cx| Poll::Ready(answer.as_mut().poll(cx).is_pending())).await;
    assert!(runs, "it is not answered yet");
    outlet.respond("3".into()).await.unwrap();
    assert_eq!(answer.await.status, StatusCode::ACCEPTED);
    let (cancelled, inlet) = conversation.begin(&id(4));
    drop(cancelled);
    assert_eq!(inlet.answer().await.status, StatusCode::ACCEPTED);
    only.close();
    let all = rest(Box::new(only.reader())).await;
    assert_eq!(all.len(), 3);
    assert!(all[0] == "1" && all[1].contains("roots/list") && all[2] == "3");
}

/// K7: whoever asks outside of a session and leaves has cancelled.
#[tokio::test]
async fn k7_a_stateless_client_that_leaves_is_noticed() {
    let config = ConversationConfig::default();
    let (outlet, inlet) = Outlet::stateless(&id(1), &config);
    drop(inlet);
    assert!(outlet.is_closed());
    assert!(outlet.notify("1".into()).await.is_err());
    let (outlet, inlet) = Outlet::stateless(&id(1), &config);
    outlet.notify("1".into()).await.unwrap();
    drop(inlet.answer().await);
    assert!(outlet.respond("2".into()).await.is_err());
}

/// Where several clients depend on one upstream, nobody waits for the slow one.
#[tokio::test]
async fn a_full_stream_is_told_of_at_once() {
    let config = ConversationConfig {
        buffer: EventBufferConfig {
            max_events: 1,
            ..EventBufferConfig::default()
        },
        ..ConversationConfig::default()
    };
    let conversation = Conversation::new(config, Revision::V2025_06_18);
    let (_outlet, inlet) = conversation.begin(&id(1));
    let about = notice("notifications/message");
    let say = || conversation.try_say(&about, Some(&id(1)));
    assert_eq!((say(), say()), (Ok(Said::Delivered), Err(NotPushed::Full)));
    drop(inlet);
    assert_eq!(say(), Ok(Said::Dropped), "its client has left");
}

/// B20, C26: a standalone stream that is taken from its client ends, and what was not read of it comes to
/// the next one.
#[tokio::test]
async fn c26_a_stream_that_is_taken_away_loses_nothing() {
    let conversation = plain();
    let mut first = stream_of(conversation.listen(None).await.unwrap());
    conversation.say(&question(1), None).await;
    next(&mut first).await;
    conversation.say(&question(2), None).await;
    conversation.end_standalone();
    assert_eq!(rest(first).await, Vec::<String>::new());
    assert_eq!(conversation.say(&question(3), None).await, Said::Held);
    let mut second = stream_of(conversation.listen(None).await.unwrap());
    let asked = next(&mut second).await;
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(asked[0].contains(r#""id":2"#) && asked[1].contains(r#""id":3"#));
}
