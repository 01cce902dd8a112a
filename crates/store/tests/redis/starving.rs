//! Heartbeats beside large messages.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use thinpipe_proto::session::NodeId;
use thinpipe_store::Inbox;
use thinpipe_testkit::Redis;
use tokio::io::{AsyncReadExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::store;

const TTL: Duration = Duration::from_secs(60);

/// So much is passed on of what comes on one connection.
const MOST: u64 = 100 << 10;

/// A narrow way to Redis: a connection that much is sent on stands still from then on.
struct Narrow {
    url: String,
    stands: Arc<Notify>,
    _carrying: JoinSet<()>,
}

impl Narrow {
    async fn to(redis: &Redis) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("there is a port");
        let address = listener.local_addr().expect("it is bound");
        let (port, stands) = (redis.port(), Arc::new(Notify::new()));
        let mut carrying = JoinSet::new();
        let told = Arc::clone(&stands);
        carrying.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.expect("a client comes");
                let server = TcpStream::connect(("127.0.0.1", port)).await;
                let server = server.expect("Redis runs");
                connections.spawn(carry(client, server, Arc::clone(&told)));
            }
        });
        Self {
            url: format!("redis://{address}"),
            stands,
            _carrying: carrying,
        }
    }
}

async fn carry(client: TcpStream, server: TcpStream, stands: Arc<Notify>) {
    let (commands, mut to_client) = client.into_split();
    let (mut answers, mut to_server) = server.into_split();
    let up = async {
        let mut commands = commands.take(MOST);
        let passed = copy(&mut commands, &mut to_server).await;
        if passed.is_ok_and(|passed| passed == MOST) {
            stands.notify_one();
        }
        pending::<()>().await;
    };
    tokio::select! {
        // Neither goes on after this: the connection is over.
        () = up => {}
        _ = copy(&mut answers, &mut to_client) => {}
    }
}

/// F14: what is large keeps no heartbeat waiting, and nobody who asks which nodes live.
#[tokio::test]
async fn f14_a_large_message_holds_up_no_heartbeat() {
    let redis = Redis::start().await;
    let narrow = Narrow::to(&redis).await;
    let store = store(&narrow.url);
    let node = NodeId::from_random([1; 12]);
    store.beat(&node, TTL).await.unwrap();
    let large = store.deliver(&node, Bytes::from(vec![b'x'; 1 << 20]));
    let beats = async {
        narrow.stands.notified().await;
        store.beat(&node, TTL).await.unwrap();
        assert_eq!(store.nodes().await.unwrap(), std::slice::from_ref(&node));
    };
    let (delivered, ()) = tokio::join!(large, beats);
    assert!(delivered.is_err(), "it did not get through: {delivered:?}");
}
