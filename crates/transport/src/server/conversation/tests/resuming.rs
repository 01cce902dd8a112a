//! Streams that are come back to.

use super::*;

/// B19, R113-R117: streams are primed, resumed each by itself, and never skip anything.
#[tokio::test]
async fn r113_streams_are_resumed_each_by_itself() {
    let conversation = resumable();
    let (outlet, inlet) = conversation.begin(&id(1));
    outlet.notify("1".into()).await.unwrap();
    let mut cut = stream_of(inlet.answer().await);
    let mut first = Vec::new();
    poll_fn(|cx| cut.poll_fill(cx, &mut first)).await.unwrap();
    assert_eq!(String::from_utf8(first).unwrap(), "id: 1-0\ndata:\n\n");
    drop(cut);
    outlet.notify("2".into()).await.unwrap();
    outlet.respond("3".into()).await.unwrap();

    let resume = async |text: &str| {
        let id = EventId::from_bytes(Bytes::copy_from_slice(text.as_bytes())).unwrap();
        conversation.listen(Some(&id)).await
    };
    let resumed = resume("1-1").await.unwrap();
    assert_eq!(rest(stream_of(resumed)).await, ["2", "3"]);
    let finished = resume("1-3").await.unwrap();
    assert_eq!(finished.status, StatusCode::NO_CONTENT);
    for unknown in ["1-4", "2-0", "0-1", "x", "1-01"] {
        assert_eq!(
            resume(unknown).await.unwrap_err(),
            ListenError::UnknownEvent,
            "{unknown}"
        );
    }
    let mut alone = stream_of(resume("0-0").await.unwrap());
    conversation.say(&question(1), None).await;
    assert_eq!(next(&mut alone).await, [""; 0]);
    assert!(next(&mut alone).await[0].contains("roots/list"));
}

/// Invariant 1: what is said between two connections of the standalone stream waits for the second.
#[tokio::test]
async fn a_client_that_resumes_its_standalone_stream_missed_nothing() {
    let conversation = resumable();
    let log = notice("notifications/message");
    assert_eq!(conversation.say(&log, None).await, Said::Dropped);
    drop(conversation.listen(None).await.unwrap());
    assert_eq!(conversation.say(&log, None).await, Said::Delivered);
    let again = EventId::from_bytes("0-0".into()).unwrap();
    let resumed = conversation.listen(Some(&again)).await.unwrap();
    conversation.close();
    let told = rest(stream_of(resumed)).await;
    assert!(told[0].contains("notifications/message"), "{told:?}");
}

/// R114: finished streams are kept for a while, and not all of them.
#[tokio::test(start_paused = true)]
async fn r114_finished_streams_are_forgotten() {
    let conversation = resumable();
    let (outlet, inlet) = conversation.begin(&id(1));
    outlet.notify("1".into()).await.unwrap();
    outlet.respond("2".into()).await.unwrap();
    drop(inlet);
    let last = EventId::from_bytes("1-1".into()).unwrap();
    assert!(conversation.listen(Some(&last)).await.is_ok());
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(
        conversation.listen(Some(&last)).await.unwrap_err(),
        ListenError::UnknownEvent
    );
}
