//! The server as a tower service, mounted in somebody else's.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use thinpipe_testkit::{Client, SseClient, rpc};
use thinpipe_transport::server::{Handler, McpService, Server, ServiceBody, SessionEnd};
use tower_service::Service;

use super::support::{Setup, beside, server};
use crate::support::{Sample, call, until};

struct Mounted {
    server: Server,
    sample: Arc<Sample>,
    address: SocketAddr,
    host: tokio::task::JoinHandle<()>,
}

/// In axum, below `/tools`.
async fn mount(mut setup: Setup) -> Mounted {
    setup.sse.public_base = "/tools".parse().unwrap();
    let sample = Arc::new(Sample::default());
    let server = server(setup, Arc::clone(&sample) as Arc<dyn Handler>);
    let app = axum::Router::new().nest_service("/tools", server.service());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let host = beside(async move { axum::serve(listener, app).await.unwrap() });
    Mounted {
        server,
        sample,
        address,
        host,
    }
}

/// R041, B13: both bindings under another server's path; HTTP+SSE clients are told the path as they see it.
#[tokio::test]
async fn r041_both_bindings_below_a_path_of_axum() {
    let mounted = mount(Setup::default()).await;
    let (server, address) = (&mounted.server, mounted.address);
    let mut streamable = Client::new(&format!("http://{address}/tools/mcp"));
    streamable.initialize("2025-11-25").await;
    assert_eq!(streamable.post(call(1, "echo")).await.json().await["id"], 1);
    let mut client = SseClient::open(&format!("http://{address}/tools/sse")).await;
    assert!(
        client.endpoint().starts_with("/tools/messages?sessionId="),
        "{}",
        client.endpoint()
    );
    client.initialize("2024-11-05").await;
    assert_eq!(client.ask(call(1, "echo")).await["id"], 1);
    assert_eq!(client.post("{").await.status, 400);
    assert_eq!(server.stats().sessions, 2);
    client.stream.close();
    until("its session is gone", || {
        *mounted.sample.ended.lock().unwrap() == [SessionEnd::Disconnected]
    })
    .await;
    let elsewhere = Client::new(&format!("http://{address}/tools/other"));
    assert_eq!(elsewhere.request("GET").await.status, 404);
    mounted.host.abort();
}

/// C22: shutting down waits for what runs in the service, as for what runs on connections of its own.
#[tokio::test]
async fn c22_shutting_down_waits_for_the_service() {
    let mounted = mount(Setup::default()).await;
    let mut client = SseClient::open(&format!("http://{}/tools/sse", mounted.address)).await;
    client.initialize("2024-11-05").await;
    client.tell(call(1, "wait")).await;
    let server = mounted.server.clone();
    let down = beside(async move { server.shut_down().await });
    until("it drains", || mounted.server.draining().is_cancelled()).await;
    assert_eq!(client.post(call(2, "echo")).await.status, 503);
    mounted.sample.gate.lock().unwrap().open();
    let (events, end) = client.stream.events_to_end().await;
    assert_eq!((events.len(), end), (1, Ok(())));
    let down = tokio::time::timeout(thinpipe_testkit::DEADLINE, down).await;
    down.expect("every task ends").unwrap();
    mounted.host.abort();
}

async fn ask(service: &mut McpService, request: http::request::Builder) -> Response<ServiceBody> {
    let request = request
        .header("host", "localhost")
        .body(Empty::<Bytes>::new());
    service.call(request.unwrap()).await.unwrap()
}

/// A11: a message to a session whose stream nobody has begun to write is told so, and may be repeated.
#[tokio::test]
async fn a11_a_stream_that_is_not_up_yet() {
    let sample = Arc::new(Sample::default());
    let server = server(Setup::default(), Arc::clone(&sample) as Arc<dyn Handler>);
    let mut service = server.service();
    let mut stream = ask(&mut service, Request::get("/sse")).await.into_body();
    let id = server.sessions().list()[0].id().as_str().to_owned();
    let post = || {
        let request = Request::post(format!("/messages?sessionId={id}"));
        let request = request
            .header("host", "localhost")
            .header("content-type", "application/json");
        request
            .body(Full::new(Bytes::from(rpc::initialize(0, "2024-11-05"))))
            .unwrap()
    };
    let early = service.call(post()).await.unwrap();
    assert_eq!(early.status(), 503);
    assert_eq!(early.headers()["retry-after"], "1");
    let text = early.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&text).contains("stream_not_established"));
    stream.frame().await.unwrap().unwrap();
    assert_eq!(service.call(post()).await.unwrap().status(), 202);
    let answer = stream.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(answer.starts_with(b"event: message\n"));
    drop(stream);
    until("its session is gone", || server.stats().sessions == 0).await;
}

/// C16: the peer is who the host says it is.
#[tokio::test]
async fn c16_the_peer_comes_from_an_extension() {
    let sample = Arc::new(Sample::default());
    let server = server(Setup::default(), Arc::clone(&sample) as Arc<dyn Handler>);
    let mut service = server.service();
    let mut request = |body: String, headers: &[(&str, &str)]| {
        let mut request = Request::post("/mcp")
            .header("host", "localhost")
            .header("connection", "keep-alive, x-hop")
            .header("x-hop", "1")
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Full::new(Bytes::from(body))).unwrap();
        request
            .extensions_mut()
            .insert(SocketAddr::from(([192, 0, 2, 7], 4711)));
        service.call(request)
    };
    let opened = request(rpc::initialize(0, "2025-11-25"), &[])
        .await
        .unwrap();
    let session = opened.headers()["mcp-session-id"]
        .to_str()
        .unwrap()
        .to_owned();
    let who = request(call(1, "who"), &[("mcp-session-id", &session)])
        .await
        .unwrap();
    let text = who.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(text.contains("192.0.2.7"), "{text}");
}
