use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::*;

async fn pair(network: &Network) -> (Host, Socket, Socket) {
    let listener = network.start("b").listen();
    let a = network.start("a");
    let near = a.connect("b").await.unwrap();
    let (far, from) = listener.accept().await.unwrap();
    assert_eq!(&*from, "a");
    // It goes on listening as long as the test runs.
    std::mem::forget(listener);
    (a, near, far)
}

fn late() -> Manners {
    Manners {
        delay: Duration::from_millis(50),
        ..Manners::default()
    }
}

/// Peers that say much to each other while things go wrong.
async fn chatter(seed: u64) -> Vec<String> {
    let network = Network::new(seed);
    network.behave(Manners {
        doomed: 300,
        refused: 100,
        ..late()
    });
    let listener = network.start("server").listen();
    let mut servers = JoinSet::new();
    servers.spawn(async move {
        let mut serving = JoinSet::new();
        while let Some((mut socket, _)) = listener.accept().await {
            serving.spawn(async move {
                let (mut from, mut to) = tokio::io::split(&mut socket);
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    let mut clients = JoinSet::new();
    for number in 0..4 {
        let (host, network) = (network.start(&format!("client {number}")), network.clone());
        clients.spawn(async move {
            for round in 0..10_u8 {
                let Ok(mut socket) = host.connect("server").await else {
                    continue;
                };
                let talk = async {
                    socket.write_all(&[round; 1000]).await?;
                    let mut back = [0; 1000];
                    socket.read_exact(&mut back).await
                };
                let talked = tokio::time::timeout(Duration::from_secs(5), talk).await;
                network.note(format!("client {number}, {round}: {talked:?}"));
            }
        });
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    network.partition("client 1", "server");
    network.strike_one();
    tokio::time::sleep(Duration::from_secs(1)).await;
    network.heal();
    clients.join_all().await;
    network.kill("server");
    servers.join_all().await;
    network.trace()
}

fn trace(seed: u64) -> Vec<String> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(chatter(seed))
}

/// G10: what goes wrong comes from the seed, and from nothing else.
#[test]
fn g10_a_seed_has_its_trace() {
    for seed in 0..20 {
        let first = trace(seed);
        assert_eq!(first, trace(seed), "seed {seed}");
        assert_ne!(first, trace(seed + 1000));
    }
    let seen: Vec<_> = (0..20).flat_map(trace).collect();
    for what in [
        "Reset",
        "End",
        "StallThere",
        "StallBack",
        "refused",
        "Ok(Ok(",
    ] {
        assert!(seen.iter().any(|line| line.contains(what)), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_come_in_order_and_late() {
    let network = Network::new(1);
    let (_a, mut near, mut far) = pair(&network).await;
    network.behave(late());
    let began = Instant::now();
    let sent: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let mut received = Vec::new();
    let (written, read) = tokio::join!(
        async {
            near.write_all(&sent).await?;
            near.shutdown().await
        },
        far.read_to_end(&mut received)
    );
    written.unwrap();
    assert_eq!(read.unwrap(), sent.len());
    assert!(received == sent && began.elapsed() > Duration::from_millis(10));
    // What the other half says still arrives.
    far.write_all(b"bye").await.unwrap();
    drop(far);
    let mut last = String::new();
    near.read_to_string(&mut last).await.unwrap();
    assert_eq!(last, "bye");
    drop(near);
    assert_eq!(network.connections(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_holds_up_who_writes() {
    let network = Network::new(1);
    let (_a, mut near, far) = pair(&network).await;
    let writing = near.write_all(&[0; 2 * pipe::CAPACITY]);
    let stuck = tokio::time::timeout(Duration::from_secs(60), writing).await;
    assert!(stuck.is_err());
    drop(far);
    assert_eq!(near.read(&mut [0]).await.unwrap(), 0);
    let error = near.write_all(b"late").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test(start_paused = true)]
async fn a_partition_says_nothing_until_it_is_healed() {
    let mut kept = 0;
    for seed in 0..20 {
        let network = Network::new(seed);
        let (a, mut near, mut far) = pair(&network).await;
        network.partition("a", "b");
        near.write_all(b"?").await.unwrap();
        let mut byte = [0];
        let hour = Duration::from_secs(3600);
        let silent = tokio::time::timeout(hour, far.read_exact(&mut byte)).await;
        let unreached = tokio::time::timeout(hour, a.connect("b")).await;
        assert!(silent.is_err() && unreached.is_err());
        network.heal();
        match far.read_exact(&mut byte).await {
            Ok(_) => kept += 1,
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
        }
        assert!(a.connect("b").await.is_ok());
    }
    assert!((1..20).contains(&kept), "{kept} of 20 went on");
}

#[tokio::test(start_paused = true)]
async fn who_was_killed_does_nothing_any_more() {
    let network = Network::new(3);
    let (a, mut near, mut far) = pair(&network).await;
    network.kill("a");
    assert!(near.write_all(b"late").await.is_err());
    let mut rest = Vec::new();
    let _ = far.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
    assert!(!a.is_alive() && a.connect("b").await.is_err());
    let again = network.start("a");
    assert!(again.is_alive() && again.connect("b").await.is_ok());
    assert!(!a.is_alive() && a.connect("b").await.is_err());
    assert!(a.listen().accept().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn http_goes_over_it() {
    let network = Network::new(5);
    let (_a, near, far) = pair(&network).await;
    network.behave(late());
    let (mut client, mut server) = (Http::new(near), Http::new(far));
    let mut headers = crate::Headers::new();
    headers.push("Host", "b");
    let request = HttpRequest {
        method: "POST".to_owned(),
        target: "/mcp".to_owned(),
        headers: headers.clone(),
        body: "{}".into(),
    };
    for _ in 0..2 {
        client.send(&request).await.unwrap();
        let got = server.request().await.unwrap().unwrap();
        assert_eq!((&*got.method, &*got.body), ("POST", &b"{}"[..]));
        server.begin(200, &headers).await.unwrap();
        server.piece(b"one").await.unwrap();
        assert_eq!(client.response().await.unwrap().0, 200);
        assert!(client.body().await.unwrap().is_some() && !client.is_idle());
        server.piece(b"").await.unwrap();
        while client.body().await.unwrap().is_some() {}
        assert!(client.is_idle());
    }
    drop(client);
    server.left().await;
    assert_eq!(server.request().await.unwrap(), None);
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whoever waited before is not woken by the waiting of another: the two may be one task, which would never rest.
#[tokio::test(start_paused = true)]
async fn the_last_who_waits_to_read_is_woken_alone() {
    let network = Network::new(1);
    let (_a, mut near, mut far) = pair(&network).await;
    let wakes: [Arc<Wakes>; 2] = Default::default();
    let mut bytes = [0; 8];
    for wakes in &wakes {
        let waker = Waker::from(Arc::clone(wakes));
        let mut out = ReadBuf::new(&mut bytes);
        let read = Pin::new(&mut far).poll_read(&mut Context::from_waker(&waker), &mut out);
        assert!(read.is_pending());
    }
    near.write_all(b"hello").await.unwrap();
    assert_eq!(
        wakes.map(|wakes| wakes.0.load(Ordering::Relaxed)),
        [0, 1],
        "of the first, of the second"
    );
}
