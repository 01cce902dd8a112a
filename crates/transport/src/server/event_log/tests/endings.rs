//! What becomes of stored streams when their session or their process ends.

use super::*;

/// E2: a session that ends answers what runs in it, also while the log does not answer.
#[tokio::test(start_paused = true)]
async fn e2_a_session_that_ends_answers_what_is_not_stored() {
    let log = log();
    let node = Node::start(1, &log);
    let (outlet, mut client) = node.call(1).await;
    outlet.notify("1".into()).await.unwrap();
    client.reads(1).await;
    log.set(Mood::Stuck);
    node.conversation.close();
    drop(outlet);
    client.reads_all().await;
    assert_eq!(client.seen.len(), 2);
    assert!(
        client.seen[1].contains("session_ended"),
        "{:?}",
        client.seen
    );
}

/// 6.1: what is kept of a session goes with it, but not when it goes to another node.
#[tokio::test(start_paused = true)]
async fn f21_a_session_that_ends_is_forgotten() {
    for is_handed_over in [false, true] {
        let log = log();
        let (first, second) = (Node::start(1, &log), Node::start(2, &log));
        let mut client = first.listen().await;
        first.conversation.say(&notice("1"), None).await;
        client.reads(1).await;
        if is_handed_over {
            first.conversation.hand_over();
        }
        first.conversation.close();
        client.reads_all().await;
        settle().await;
        assert_eq!(second.resume("0-1").await.is_ok(), is_handed_over);
    }
}

/// When the server stops, what waits is written, and nobody is left waiting.
#[tokio::test(start_paused = true)]
async fn j8_what_waits_is_written_when_the_server_stops() {
    for mood in [Mood::Well, Mood::Stuck] {
        let log = log();
        let mut node = Node::start(1, &log);
        let (outlet, mut client) = node.call(1).await;
        settle().await;
        log.set(mood);
        outlet.respond("1".into()).await.unwrap();
        drop(node.stop.take());
        client.reads_all().await;
        assert_eq!(client.seen, ["1"]);
        node.tasks.close();
        node.tasks.wait().await;
        let is_stored = node.writer.stats().events == 1;
        assert_eq!(is_stored, mood == Mood::Well);
        // Later streams do without.
        let (outlet, mut client) = node.call(2).await;
        outlet.respond("2".into()).await.unwrap();
        client.reads_all().await;
        assert_eq!(client.seen, ["2"]);
    }
}

/// R106, J8: when the process stops, streams that another node can go on with end with `retry`, the standalone one at
/// once, others when there is no more time; a stream that nobody can come back to runs on.
#[tokio::test(start_paused = true)]
async fn r106_streams_end_with_retry_when_the_process_stops() {
    let log = log();
    let (first, second) = (Node::start(1, &log), Node::start(2, &log));
    let mut standalone = first.listen().await;
    let (outlet, mut client) = first.call(1).await;
    assert!(
        standalone.asks_to_end(false),
        "it has no id yet to come back with"
    );
    assert_eq!(standalone.retry, None);
    let mut standalone = first.listen().await;
    outlet.notify("1".into()).await.unwrap();
    client.reads(1).await;
    settle().await;
    standalone.looks();
    assert_eq!(
        standalone.retry.take().as_deref(),
        Some("1000"),
        "said beforehand"
    );
    assert!(standalone.asks_to_end(false));
    assert_eq!(standalone.retry.as_deref(), Some("1000"));
    client.retry = None;
    assert!(!client.asks_to_end(false));
    assert_eq!(client.retry, None);
    assert!(client.asks_to_end(true));
    assert_eq!(client.retry.as_deref(), Some("1000"));

    first.conversation.hand_over();
    settle().await;
    let mut again = second.resumed(&client.cursor).await;
    again.reads_all().await;
    assert!(again.seen[0].contains("outcome_unknown"));
}

/// R106: a server sends its client away after it has an id, with `retry`, and what is said meanwhile waits for it.
#[tokio::test(start_paused = true)]
async fn r106_a_client_is_sent_away_and_comes_back() {
    let log = log();
    let node = Node::start(1, &log);
    let (outlet, inlet) = node.begin(1);
    assert!(outlet.leave(Duration::from_secs(5)));
    let mut client = Client::reading(inlet.answer().await);
    client.reads_all().await;
    assert!(client.cursor.ends_with("-0"));
    assert_eq!(client.retry.as_deref(), Some("5000"));
    outlet.respond("1".into()).await.unwrap();
    let mut again = node.resumed(&client.cursor).await;
    again.reads_all().await;
    assert_eq!(again.seen, ["1"]);
}
