use super::*;

/// A stream that ends as soon as it is told to, as a relay does.
fn obedient(state: &SessionState) -> (Arc<Live>, tokio::task::JoinHandle<()>) {
    let stream = state.open(None, CancellationToken::new(), true);
    let live = Arc::clone(&stream.live);
    let tasks = tokio_util::task::TaskTracker::new();
    let stop = live.stop.clone();
    let task = tasks.spawn(async move {
        stop.cancelled().await;
        drop(stream);
    });
    (live, task)
}

async fn replace(state: &SessionState) -> Result<bool, Contended> {
    let now = tokio::time::Instant::now().into_std();
    let replaced = state.replace_standalone(None, CancellationToken::new(), now);
    replaced.await.map(|(_, replaced)| replaced)
}

/// R111: of two that open at the same time, the newer one stops the other before either is there.
#[tokio::test(start_paused = true)]
async fn r111_the_place_is_taken_before_the_stream_is_there() {
    let state = SessionState::default();
    let now = tokio::time::Instant::now().into_std();
    let take = || state.replace_standalone(None, CancellationToken::new(), now);
    let (first, replaced) = take().await.unwrap();
    assert!(!replaced);
    let stopped = first.stop_token();
    let (second, _) = tokio::join!(take(), async {
        stopped.cancelled().await;
        drop(first);
    });
    let (second, replaced) = second.unwrap();
    assert!(replaced && !second.stop_token().is_cancelled());
}

/// R111: the newest standalone stream wins, but two loops do not evict each other for ever.
#[tokio::test(start_paused = true)]
async fn r111_fourth_replacement_within_ten_seconds_is_refused() {
    let state = SessionState::default();
    assert_eq!(replace(&state).await, Ok(false), "there was none");
    for _ in 0..3 {
        let (live, task) = obedient(&state);
        assert_eq!(replace(&state).await, Ok(true));
        assert!(live.stop.is_cancelled());
        task.await.unwrap();
    }
    let (_live, task) = obedient(&state);
    assert_eq!(replace(&state).await, Err(Contended));
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(replace(&state).await, Ok(true), "the window has passed");
    task.await.unwrap();
}

/// R111: replacements on other nodes count; while nobody else listens, nobody is refused for them.
#[tokio::test(start_paused = true)]
async fn r111_replacements_on_other_nodes_count() {
    let now = || tokio::time::Instant::now().into_std();
    let state = SessionState::default();
    for _ in 0..2 {
        state.note_replaced(now());
    }
    assert!(!state.outlistened(now()), "there was none here");
    assert_eq!(replace(&state).await, Ok(false), "two are not three");
    assert!(state.outlistened(now()));
    assert!(!state.outlistened(now()), "it is replaced once");
    assert_eq!(replace(&state).await, Err(Contended));

    for is_elsewhere in [false, true] {
        let state = SessionState::default();
        for _ in 0..3 {
            state.note_replaced(now());
        }
        if is_elsewhere {
            state.outlistened(now());
            assert_eq!(replace(&state).await, Err(Contended));
            tokio::time::advance(Duration::from_secs(10)).await;
        }
        assert_eq!(replace(&state).await, Ok(false));
    }
}

/// F16: what every session has is small, and what was there for a stream goes with it.
#[test]
fn f16_a_session_that_waits_keeps_little() {
    let size = size_of::<SessionState>();
    assert!(size <= 160, "{size}");
    let state = SessionState::default();
    let (first, second) = (
        state.open(None, CancellationToken::new(), true),
        state.open(None, CancellationToken::new(), false),
    );
    let close = |stream: LiveStream| lock(&state.streams).close(&stream.live);
    close(first);
    assert_eq!(lock(&state.streams).live.len(), 1);
    close(second);
    assert_eq!(lock(&state.streams).live.capacity(), 0);
    assert!(lock(&state.streams).standalone.is_none());
    assert!(state.call_of(&RequestId::from_integer(1)).is_none());
    assert!(state.asked_by_server(&RequestId::from_integer(1)).is_none());
    assert!(!state.is_opened_by(&RequestId::from_integer(1)) && state.offered().is_none());
    assert!(!state.setup().is_incomplete);
    assert!(state.seldom.get().is_none(), "who only asks makes nothing");
}

/// B7: what a session keeps is bounded; one of which not all is known is not made again.
#[test]
fn b7_what_is_set_up_is_bounded() {
    let subscribe = |uri: &str| {
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{{"uri":"{uri}"}}}}"#
        );
        Message::parse(text.into()).unwrap()
    };
    let state = SessionState::default();
    for _ in 0..2 {
        for n in 0..1000 {
            state.note_setup(&subscribe(&n.to_string()));
        }
    }
    let setup = state.setup();
    assert!(!setup.is_incomplete);
    assert_eq!(setup.subscriptions.len(), 1000);

    state.note_setup(&subscribe(&"x".repeat(MAX_SETUP)));
    let setup = state.setup();
    assert!(setup.is_incomplete);
    assert_eq!(setup.subscriptions.len(), 1000);
}
