//! Real sockets: what only the kernel and several runtimes can show.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use thinpipe_transport::upstream::{Upstream, UpstreamConfig, UpstreamError};

use crate::peer::{OK, post, text};

/// A server of one thread for each connection, which counts them. It answers every request with
/// its body.
fn echo() -> (Upstream, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let sockets = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sockets);
    thread::spawn(move || {
        for socket in listener.incoming() {
            count.fetch_add(1, Ordering::Relaxed);
            thread::spawn(move || serve(&socket.unwrap()));
        }
    });
    let url = format!("http://127.0.0.1:{port}/mcp").parse().unwrap();
    (
        Upstream::new(UpstreamConfig::new("echo".into(), url)),
        sockets,
    )
}

fn serve(mut socket: &TcpStream) {
    let mut reader = BufReader::new(socket);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some(n) = line.strip_prefix("content-length: ") {
                length = n.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        socket
            .write_all(&[head.as_bytes(), &body].concat())
            .unwrap();
    }
}

/// H1: ten clients that take turns need fewer than ten connections, and get their own answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h1_ten_clients_share_fewer_than_ten_sockets() {
    let (upstream, sockets) = echo();
    let mut clients = tokio::task::JoinSet::new();
    let turns = Arc::new(tokio::sync::Semaphore::new(4));
    for client in 0..10 {
        let (upstream, turns) = (upstream.clone(), Arc::clone(&turns));
        clients.spawn(async move {
            for request in 0..50 {
                let _turn = turns.acquire().await.unwrap();
                let body = format!("{client}/{request}");
                let response = upstream.send(post(body.clone())).await.unwrap();
                assert_eq!(text(response).await, body);
            }
        });
    }
    clients.join_all().await;
    let opened = sockets.load(Ordering::Relaxed);
    assert!((1..10).contains(&opened), "{opened}");
    assert_eq!(upstream.stats().reused + upstream.stats().connects, 500);
}

/// A connection stays with the reactor that drives it: another runtime opens its own, and one that
/// has ended leaves nothing behind that anybody would use.
#[test]
fn each_runtime_has_its_own_connections() {
    let (upstream, sockets) = echo();
    let run = |requests: usize| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            for _ in 0..requests {
                assert_eq!(text(upstream.send(post("x")).await.unwrap()).await, "x");
            }
        });
    };
    thread::scope(|scope| {
        scope.spawn(|| run(5));
        scope.spawn(|| run(5));
    });
    run(5);
    assert_eq!(sockets.load(Ordering::Relaxed), 3);
    upstream.prune();
    assert_eq!((upstream.stats().idle, upstream.stats().open), (0, 0));
}

/// A body may outlive the runtime it came on; dropping it then does no harm.
#[test]
fn bodies_may_be_dropped_outside_of_a_runtime() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let upstream = Upstream::new(UpstreamConfig::new("s".into(), url.parse().unwrap()));
    let server = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let answer = OK.replace("Length: 2", "Length: 3");
        socket.write_all(answer.as_bytes()).unwrap();
        socket
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let response = runtime.block_on(upstream.send(post("x"))).unwrap();
    let _socket = server.join().unwrap();
    drop(response);
    assert_eq!(upstream.stats().open, 0);
}

#[tokio::test]
async fn nobody_listening_is_no_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let upstream = Upstream::new(UpstreamConfig::new("s".into(), url.parse().unwrap()));
    let error = upstream.send(post("x")).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Connect { .. }), "{error:?}");
    assert!(error.is_unsent());
}

#[tokio::test]
async fn urls_that_lead_nowhere_are_no_connection() {
    for url in ["/mcp", "ftp://server.example/"] {
        let upstream = Upstream::new(UpstreamConfig::new("s".into(), url.parse().unwrap()));
        let error = upstream.send(post("x")).await.unwrap_err();
        assert!(matches!(error, UpstreamError::Connect { .. }), "{error:?}");
    }
}
