//! A log of several parts, of which one is away.

use bytes::Bytes;
use thinpipe_proto::rpc::RequestId;
use thinpipe_store::{BoxFuture, EventLog, LogEntry, LogError, LogPage, StreamHead, StreamKey};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::*;
use crate::Random;

/// Streams of one session are in a part of their own.
struct Parts {
    lost: SessionId,
    there: Arc<FlakyLog>,
    rest: Arc<FlakyLog>,
}

impl Parts {
    fn of(&self, session: &SessionId) -> &FlakyLog {
        if *session == self.lost {
            &self.there
        } else {
            &self.rest
        }
    }
}

impl EventLog for Parts {
    fn open<'a>(
        &'a self,
        key: &'a StreamKey,
        head: &'a StreamHead,
    ) -> BoxFuture<'a, Result<u64, LogError>> {
        self.of(&key.session).open(key, head)
    }

    fn append<'a>(
        &'a self,
        key: &'a StreamKey,
        owner: &'a NodeId,
        entries: &'a [LogEntry],
    ) -> BoxFuture<'a, Result<(), LogError>> {
        self.of(&key.session).append(key, owner, entries)
    }

    fn finish<'a>(
        &'a self,
        key: &'a StreamKey,
        message: Bytes,
    ) -> BoxFuture<'a, Result<u64, LogError>> {
        self.of(&key.session).finish(key, message)
    }

    fn read<'a>(
        &'a self,
        key: &'a StreamKey,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<LogPage, LogError>> {
        self.of(&key.session).read(key, after, limit)
    }

    fn forget<'a>(&'a self, session: &'a SessionId) -> BoxFuture<'a, Result<(), LogError>> {
        self.of(session).forget(session)
    }
}

/// F17: a part of the log that is away, or does not answer, keeps the streams of the rest waiting for nothing; when it
/// is back, its streams are written again.
#[tokio::test(start_paused = true)]
async fn f17_a_part_of_the_log_that_is_away_holds_up_only_its_own_streams() {
    // Fewer than may run side by side: each is found to be away when it is written to.
    const STREAMS: u64 = 40;
    for mood in [Mood::Away, Mood::Stuck] {
        let (there, rest) = (log(), log());
        let lost = SessionId::from_random([9; 16]);
        let parts = Arc::new(Parts {
            lost: lost.clone(),
            there: Arc::clone(&there),
            rest,
        });
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let node = NodeId::from_random([1; 12]);
        let writer = LogWriter::start(parts, node, &tasks, stop.clone(), Random::default());
        let _stop = stop.drop_guard();
        let of_session = |session| {
            let config = ConversationConfig {
                buffer: EventBufferConfig::resumable(),
                ..ConversationConfig::default()
            };
            Conversation::logged(config, writer.clone(), session)
        };
        let (lost, well) = (of_session(lost), of_session(flaky::session()));
        let begin = async |conversation: &Arc<Conversation>, number| {
            let (outlet, mut inlet) = conversation.begin(&RequestId::from_integer(number));
            outlet.begin_stream();
            inlet.first().await;
            let client = Client::of(Box::new(inlet.into_events().unwrap()));
            (outlet, client)
        };
        let mut streams = Vec::new();
        for number in 0..i64::try_from(STREAMS).unwrap() {
            streams.push(begin(&lost, number).await);
        }
        let (outlet, mut client) = begin(&well, 0).await;
        there.set(mood);
        for (outlet, client) in &mut streams {
            outlet.notify("1".into()).await.unwrap();
            client.reads(1).await;
        }
        assert_eq!(writer.stats().behind, STREAMS, "{mood:?}");
        for said in 1..=20 {
            outlet.notify("1".into()).await.unwrap();
            // The clock stands still.
            settle().await;
            client.looks();
            assert_eq!(client.seen.len(), said, "{mood:?}");
        }
        assert_eq!(writer.stats().behind, STREAMS, "{mood:?}");
        there.set(Mood::Well);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(writer.stats().behind, 0, "{mood:?}");
    }
}
