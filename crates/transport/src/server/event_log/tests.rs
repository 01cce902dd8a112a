use std::time::Duration;

use http::StatusCode;
use thinpipe_proto::session::EventId;
use thinpipe_store::LogLimits;

use super::*;
use crate::server::conversation::{Conversation, ConversationConfig, ListenError, Said};
use crate::server::event_buffer::EventBufferConfig;

mod endings;
mod flaky;
mod parts;
mod random;

use flaky::{Client, FlakyLog, Mood, Node, notice};

fn log() -> Arc<FlakyLog> {
    FlakyLog::new(LogLimits::default())
}

/// Lets the worker come to its rest. Its clock stands still.
async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

/// Protocol notes 6.2: what a client sees is stored before; also the event that only says where the stream is.
#[tokio::test(start_paused = true)]
async fn f22_an_event_is_stored_before_it_is_written() {
    let log = log();
    let node = Node::start(1, &log);
    log.set(Mood::Stuck);
    let (outlet, mut client) = node.call(1).await;
    outlet.notify("1".into()).await.unwrap();
    settle().await;
    client.looks();
    assert_eq!(client.cursor, "", "the log does not know it yet");
    log.set(Mood::Well);
    client.reads(1).await;
    assert_eq!(node.writer.stats().events, 1);
    log.set(Mood::Stuck);
    outlet.notify("2".into()).await.unwrap();
    settle().await;
    client.looks();
    assert_eq!(client.seen, ["1"]);
    assert!(client.is_reading());
}

/// F18, R103, 6.3: a stream of a node that is gone is read to its end on another one.
#[tokio::test(start_paused = true)]
async fn r103_another_node_has_the_rest_of_a_stream() {
    let log = log();
    let (first, second) = (Node::start(1, &log), Node::start(2, &log));
    let (outlet, mut client) = first.call(1).await;
    for text in ["1", "2", "3"] {
        outlet.notify(text.into()).await.unwrap();
    }
    outlet.respond("4".into()).await.unwrap();
    client.reads_all().await;
    drop(first);
    let stream = client.cursor.strip_suffix("-4").unwrap().to_owned();
    let mut again = second.resumed(&format!("{stream}-1")).await;
    again.reads_all().await;
    assert_eq!(again.seen, ["2", "3", "4"]);
    assert_eq!(again.cursor, client.cursor);
    // More of it than was asked for before.
    let mut again = second.resumed(&format!("{stream}-0")).await;
    again.reads_all().await;
    assert_eq!(again.seen, ["1", "2", "3", "4"]);
    let nothing_left = second.resume(&client.cursor).await.unwrap();
    assert_eq!(nothing_left.status, StatusCode::NO_CONTENT);
}

/// Protocol notes 5.8 (5), 5.9 (25): a request whose node is gone is answered once, by whoever is first.
#[tokio::test(start_paused = true)]
async fn j6_a_request_of_a_node_that_is_gone_is_answered_once() {
    let log = log();
    let nodes = [1, 2, 3].map(|number| Node::start(number, &log));
    let (outlet, mut client) = nodes[0].call(1).await;
    outlet.notify("1".into()).await.unwrap();
    client.reads(1).await;
    let (mut second, mut third) = tokio::join!(
        nodes[1].resumed(&client.cursor),
        nodes[2].resumed(&client.cursor)
    );
    tokio::join!(second.reads_all(), third.reads_all());
    assert_eq!(second.seen.len(), 1);
    assert!(
        second.seen[0].contains(r#""id":1,"#) && second.seen[0].contains("outcome_unknown"),
        "{:?}",
        second.seen
    );
    assert_eq!((&second.seen, &second.cursor), (&third.seen, &third.cursor));

    // The first was not gone, as it turns out: its answer comes too late, and its request is over.
    outlet.notify("2".into()).await.unwrap();
    settle().await;
    assert!(outlet.is_closed());
    client.reads_all().await;
    assert_eq!(client.seen, ["1"]);
    // Whoever read it there comes back for the answer.
    let mut again = nodes[0].resumed(&client.cursor).await;
    again.reads_all().await;
    assert_eq!((&again.seen, &again.cursor), (&second.seen, &second.cursor));
}

/// 5.8 (5), 5.9 (25): a node that has let go of a session, and has it again, does not know any more what it had begun
/// before: such a request is answered, too.
#[tokio::test(start_paused = true)]
async fn j6_a_request_of_an_earlier_time_of_the_same_node_is_answered() {
    let log = log();
    let mut node = Node::start(1, &log);
    let (outlet, mut client) = node.call(1).await;
    outlet.notify("1".into()).await.unwrap();
    client.reads(1).await;
    node.conversation.hand_over();
    client.reads_all().await;
    assert_eq!(client.seen, ["1"]);
    let leaving = node.resume(&client.cursor).await.unwrap_err();
    assert_eq!(leaving, ListenError::Unavailable, "its answer may come");
    drop(outlet);
    let config = ConversationConfig {
        buffer: EventBufferConfig::resumable(),
        ..ConversationConfig::default()
    };
    node.conversation = Conversation::logged(config, node.writer.clone(), flaky::session());
    let mut again = node.resumed(&client.cursor).await;
    again.reads_all().await;
    assert!(
        again.seen[0].contains("outcome_unknown"),
        "{:?}",
        again.seen
    );
}

/// The owner was quicker: its answer counts.
#[tokio::test(start_paused = true)]
async fn j6_an_answer_that_was_stored_counts() {
    let log = log();
    let (first, second) = (Node::start(1, &log), Node::start(2, &log));
    let (outlet, mut client) = first.call(1).await;
    outlet.notify("1".into()).await.unwrap();
    client.reads(1).await;
    outlet.respond("2".into()).await.unwrap();
    settle().await;
    let mut again = second.resumed(&client.cursor).await;
    again.reads_all().await;
    assert_eq!(again.seen, ["2"]);
}

/// R118, 6.3: the standalone stream goes on where it was, on whichever node: its numbers, and what came last.
#[tokio::test(start_paused = true)]
async fn r118_the_standalone_stream_moves_to_another_node() {
    let log = log();
    let (first, second) = (Node::start(1, &log), Node::start(2, &log));
    let mut client = first.listen().await;
    for n in ["1", "2", "3"] {
        first.conversation.say(&notice(n), None).await;
    }
    client.reads(3).await;
    assert_eq!(client.cursor, "0-3");
    client.leaves();
    let mut client = second.resumed("0-1").await;
    client.reads(2).await;
    let said = second.conversation.say(&notice("4"), None).await;
    assert_eq!(said, Said::Delivered);
    client.reads(3).await;
    assert_eq!(client.cursor, "0-4");
    assert!(client.seen[0].contains(r#""n":2"#) && client.seen[2].contains(r#""n":4"#));

    // The one before has lost it.
    let mut late = first.listen().await;
    first.conversation.say(&notice("0"), None).await;
    late.reads_all().await;
    assert!(late.seen.is_empty());
    let mut again = second.resumed("0-3").await;
    again.reads(1).await;
    assert!(again.seen[0].contains(r#""n":4"#));
}

/// What is said on a node that has taken a session over waits for the client of its standalone stream, if there ever
/// was one.
#[tokio::test(start_paused = true)]
async fn r118_what_is_said_before_a_client_comes_back_waits() {
    let log = log();
    let (first, second) = (Node::start(1, &log), Node::start(2, &log));
    second.conversation.take_over().await;
    let said = second.conversation.say(&notice("0"), None).await;
    assert_eq!(said, Said::Dropped, "nobody has listened yet");
    let mut client = first.listen().await;
    first.conversation.say(&notice("1"), None).await;
    client.reads(1).await;
    client.leaves();
    first.conversation.say(&notice("2"), None).await;
    settle().await;
    let third = Node::start(3, &log);
    third.conversation.take_over().await;
    let said = third.conversation.say(&notice("3"), None).await;
    assert_eq!(said, Said::Delivered);
    let mut again = third.resumed("0-1").await;
    again.reads(2).await;
    assert!(again.seen[0].contains(r#""n":2"#) && again.seen[1].contains(r#""n":3"#));
}

/// 5.9, 1: a node that is cut off and goes on without the log does not take the numbers of the one that has taken over
/// for its own: what came after them is not what it would say.
#[tokio::test(start_paused = true)]
async fn r118_a_node_that_is_cut_off_does_not_resume_the_numbers_of_another() {
    let log = log();
    let (first, second) = (Node::start(1, &log), Node::start(2, &log.link()));
    let mut client = first.listen().await;
    first.conversation.say(&notice("1"), None).await;
    client.reads(1).await;
    log.set(Mood::Away);
    for (count, n) in [(2, "2"), (3, "3"), (4, "4")] {
        first.conversation.say(&notice(n), None).await;
        client.reads(count).await;
    }
    let own = client.cursor.clone();
    let mut moved = second.resumed("0-1").await;
    for n in ["5", "6"] {
        second.conversation.say(&notice(n), None).await;
    }
    moved.reads(2).await;
    assert_eq!(moved.cursor, "0-3");
    for id in ["0-2", "0-3", "0-9"] {
        let refused = first.resume(id).await.unwrap_err();
        assert_eq!(refused, ListenError::Unavailable, "{id}");
    }
    for id in ["0-1", &own] {
        assert!(first.resume(id).await.is_ok(), "{id} was given here");
    }
    let mut again = second.resumed("0-2").await;
    again.reads(1).await;
    assert!(again.seen[0].contains(r#""n":6"#));
}

/// A GET without an id on another node: numbers go on all the same.
#[tokio::test(start_paused = true)]
async fn r118_numbers_of_the_standalone_stream_go_on() {
    let log = log();
    let (first, second) = (Node::start(1, &log), Node::start(2, &log));
    let mut client = first.listen().await;
    first.conversation.say(&notice("1"), None).await;
    client.reads(1).await;
    let mut client = second.listen().await;
    second.conversation.say(&notice("2"), None).await;
    client.reads(1).await;
    assert_eq!(client.cursor, "0-2");
    let mut again = second.resumed("0-0").await;
    again.reads(2).await;
    assert!(again.seen[0].contains(r#""n":1"#) && again.seen[1].contains(r#""n":2"#));
}

/// F20: what is none of this session, was never given out, or is not kept any more, is refused, and nothing is
/// told of it.
#[tokio::test(start_paused = true)]
async fn f20_foreign_forged_and_expired_ids_are_refused() {
    let log = log();
    let (first, second) = (Node::start(1, &log), Node::start(2, &log));
    let (outlet, mut client) = first.call(1).await;
    outlet.notify("1".into()).await.unwrap();
    outlet.respond("2".into()).await.unwrap();
    client.reads_all().await;
    let (stream, _) = client.cursor.split_once('-').unwrap();
    let forged = [
        format!("{stream}-3"),
        format!("{stream}-01"),
        "1-1".to_owned(),
        "0-1".to_owned(),
        "-".to_owned(),
        stream.to_owned(),
    ];
    for id in &forged {
        let refused = second.resume(id).await.unwrap_err();
        assert_eq!(refused, ListenError::UnknownEvent, "{id}");
    }
    tokio::time::advance(LogLimits::default().finished_for).await;
    let refused = second.resume(&client.cursor).await.unwrap_err();
    assert_eq!(refused, ListenError::UnknownEvent, "its time is over");
}

/// F20: an id of another session leads nowhere, also where both are known.
#[tokio::test(start_paused = true)]
async fn f20_an_id_of_another_session_leads_nowhere() {
    let log = log();
    let node = Node::start(1, &log);
    let other = Conversation::logged(
        ConversationConfig {
            buffer: EventBufferConfig::resumable(),
            ..ConversationConfig::default()
        },
        node.writer.clone(),
        SessionId::from_random([8; 16]),
    );
    let (outlet, mut client) = node.call(1).await;
    outlet.notify("secret".into()).await.unwrap();
    client.reads(1).await;
    let id = EventId::from_bytes(client.cursor.clone().into()).unwrap();
    let refused = other.listen(Some(&id)).await.unwrap_err();
    assert_eq!(refused, ListenError::UnknownEvent);
}

/// 5.8 (6), F22: with the log away readers go on after a second. What they saw cannot be gone on with elsewhere,
/// and when the log is back, what comes then can.
#[tokio::test(start_paused = true)]
async fn f17_streams_go_on_while_the_log_is_away() {
    for mood in [Mood::Away, Mood::Stuck, Mood::Mute] {
        let log = log();
        let (first, second) = (Node::start(1, &log), Node::start(2, &log));
        let (outlet, mut client) = first.call(1).await;
        outlet.notify("1".into()).await.unwrap();
        client.reads(1).await;
        log.set(mood);
        let began = tokio::time::Instant::now();
        outlet.notify("2".into()).await.unwrap();
        client.reads(2).await;
        assert!(began.elapsed() < Duration::from_millis(2_500), "{mood:?}");
        assert_eq!(first.writer.stats().behind, 1);
        let unstored = client.cursor.clone();
        let mut here = first.resumed(&unstored).await;
        outlet.notify("3".into()).await.unwrap();
        here.reads(1).await;
        assert_eq!(here.seen, ["3"], "here it is known");
        let unavailable = second.resume(&unstored).await.unwrap_err();
        assert_eq!(unavailable, ListenError::Unavailable);

        log.set(Mood::Well);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(first.writer.stats().behind, 0, "it has caught up");
        outlet.notify("4".into()).await.unwrap();
        here.reads(2).await;
        let refused = second.resume(&unstored).await.unwrap_err();
        assert_eq!(refused, ListenError::UnknownEvent);
        outlet.respond("5".into()).await.unwrap();
        here.reads_all().await;
        let (stream, number) = here.cursor.split_once('-').unwrap();
        assert_eq!(number, "5");
        let mut again = second.resumed(&format!("{stream}-1")).await;
        again.reads_all().await;
        assert_eq!(again.seen, ["2", "3", "4", "5"], "nothing is missing");
    }
}

/// 6.3: what the log could not keep up with is a gap, which is refused on every node.
#[tokio::test(start_paused = true)]
async fn r110_a_gap_in_the_log_is_refused() {
    let log = log();
    let few = EventBufferConfig {
        max_events: 2,
        ..EventBufferConfig::resumable()
    };
    let (first, second) = (Node::with(1, &log, few), Node::start(2, &log));
    let mut client = first.listen().await;
    first.conversation.say(&notice("1"), None).await;
    client.reads(1).await;
    log.set(Mood::Away);
    for n in ["2", "3", "4", "5"] {
        first.conversation.say(&notice(n), None).await;
        let count = client.seen.len() + 1;
        client.reads(count).await;
    }
    log.set(Mood::Well);
    tokio::time::sleep(Duration::from_secs(1)).await;
    for id in ["0-1", "0-5", &*client.cursor] {
        let refused = second.resume(id).await.unwrap_err();
        assert_eq!(refused, ListenError::UnknownEvent, "{id}");
    }
    let mut anew = second.listen().await;
    second.conversation.say(&notice("6"), None).await;
    anew.reads(1).await;
    let refused = first.resume("0-1").await.unwrap_err();
    assert_eq!(refused, ListenError::UnknownEvent, "nor is it here");
}

/// F22: one task, whatever there is to do, and as many appends as the log takes.
#[tokio::test(start_paused = true)]
async fn f22_one_task_writes_in_batches() {
    let log = log();
    let node = Node::start(1, &log);
    let mut open = Vec::new();
    for n in 0..10 {
        open.push(node.call(n).await);
    }
    settle().await;
    for _ in 0..1_000 {
        for (outlet, _) in &open {
            outlet.notify("x".into()).await.unwrap();
        }
        assert_eq!(node.tasks.len(), 1);
    }
    for (_, client) in &mut open {
        client.reads(1_000).await;
    }
    let stats = node.writer.stats();
    assert_eq!(stats.events, 10_000);
    assert!(stats.appends <= 10 * 6, "{stats:?}");
}

/// A response alone is JSON, of which nothing is kept; a cancelled request leaves nothing to wait for.
#[tokio::test(start_paused = true)]
async fn r107_what_needs_no_log_is_not_in_it() {
    let log = log();
    let (first, second) = (Node::start(1, &log), Node::start(2, &log));
    let (outlet, inlet) = first.begin(1);
    outlet.respond("{}".into()).await.unwrap();
    drop(inlet);
    settle().await;
    assert_eq!(log.appends.load(Ordering::Relaxed), 0);

    let (outlet, mut client) = first.call(2).await;
    outlet.notify("1".into()).await.unwrap();
    client.reads(1).await;
    drop(outlet);
    client.reads_all().await;
    settle().await;
    let over = second.resume(&client.cursor).await.unwrap();
    assert_eq!(over.status, StatusCode::NO_CONTENT, "cancelled, not lost");
}
