//! The same over HTTP/2: the stream and what is posted share one connection.

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use thinpipe_testkit::rpc;
use thinpipe_transport::server::SessionEnd;

use super::support::{Setup, start};
use crate::http2::connect;
use crate::support::{call, until};

async fn event(stream: &mut Incoming) -> String {
    let frame = stream.frame().await.unwrap().unwrap();
    String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
}

/// A9, R042, R044: a session on one connection; resetting the stream ends it, the connection stays.
#[tokio::test]
async fn r042_a_session_on_one_connection() {
    let running = start(Setup::default()).await;
    let mut sender = connect(&running).await;
    let at = |path: &str| format!("http://{}{path}", running.address);
    let opening = Request::get(at("/sse"))
        .body(Full::new(Bytes::new()))
        .unwrap();
    let opened = sender.send_request(opening).await.unwrap();
    let marks = |headers: &HeaderMap| headers["referrer-policy"].clone();
    assert_eq!(
        (opened.status().as_u16(), marks(opened.headers())),
        (200, "no-referrer".parse().unwrap())
    );
    let mut stream = opened.into_body();
    let first = event(&mut stream).await;
    let endpoint = first
        .lines()
        .find_map(|line| line.strip_prefix("data: "))
        .unwrap()
        .to_owned();
    let post = |message: String| {
        let request = Request::post(at(&endpoint)).header("content-type", "application/json");
        request.body(Full::new(Bytes::from(message))).unwrap()
    };
    let taken = sender
        .send_request(post(rpc::initialize(0, "2024-11-05")))
        .await
        .unwrap();
    assert_eq!(
        (taken.status().as_u16(), marks(taken.headers())),
        (202, "no-referrer".parse().unwrap())
    );
    assert!(event(&mut stream).await.contains(r#""id":0,"#));
    sender.send_request(post(rpc::initialized())).await.unwrap();
    sender.send_request(post(call(1, "echo"))).await.unwrap();
    assert!(event(&mut stream).await.contains(r#""id":1,"#));
    drop(stream);
    until("the handler was told", || {
        *running.sample.ended.lock().unwrap() == [SessionEnd::Disconnected]
    })
    .await;
    let late = sender.send_request(post(call(2, "echo"))).await.unwrap();
    assert_eq!(late.status(), 404);
}
