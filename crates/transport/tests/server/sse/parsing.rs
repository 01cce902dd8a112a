//! Each message is parsed by itself: sessions share neither a parser nor buffers.

use thinpipe_testkit::{Connection, SseClient};

use super::support::{Setup, beside, start};
use crate::support::{Running, call};

/// More than a pool of buffers has in systems that have one.
const HALVES: u64 = 120;
/// And each more than one of its buffers holds.
const BODY: usize = 9 << 10;

/// A message of which the last byte has not been sent.
struct Half {
    client: SseClient,
    connection: Connection,
    last: bytes::Bytes,
    id: u64,
}

impl Half {
    async fn send(running: &Running, id: u64) -> Self {
        let client = running.sse_client().await;
        let mut request = client.post(call(id, &"x".repeat(BODY))).to_bytes();
        let last = request.split_off(request.len() - 1);
        let mut connection = Connection::open(running.address).await;
        connection.send(request).await;
        Self {
            client,
            connection,
            last,
            id,
        }
    }

    async fn complete(mut self) {
        self.connection.send(self.last).await;
        assert_eq!(self.connection.response().await.status, 202);
        assert_eq!(self.client.stream.next_message().await["id"], self.id);
    }
}

/// A14, A15, T12: a session whose message is on its way holds nobody up, on any thread.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a14_half_a_message_holds_nobody_up() {
    let running = start(Setup::default()).await;
    let mut halves = Vec::new();
    for id in 0..HALVES {
        halves.push(Half::send(&running, id).await);
    }
    let mut others = Vec::new();
    for _ in 0..8 {
        let mut client = running.sse_client().await;
        others.push(beside(async move {
            for id in 0..20 {
                assert_eq!(client.ask(call(id, "echo")).await["id"], id);
            }
        }));
    }
    for other in others {
        other.await.unwrap();
    }
    // Not in the order in which they would have come to a lock or a buffer.
    for half in halves.into_iter().rev() {
        half.complete().await;
    }
}
