//! What only HTTP+SSE servers do.

use serde_json::json;
use thinpipe_gateway::Reached;
use thinpipe_testkit::{Client, DEADLINE, SseUpstream, rpc};
use thinpipe_transport::upstream::UpstreamConfig;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::client::{Binding, Caller};
use crate::front::Front;
use crate::server::{Carrier, Scripted};

const REVISION: &str = "2025-06-18";

fn at(url: &str) -> Reached {
    UpstreamConfig::new("up".into(), url.parse().unwrap()).into()
}

/// A33, R036, R037: what an unknown server speaks is found out once, without running anything.
#[tokio::test]
async fn a33_a_server_of_http_sse_is_found_out_once() {
    let upstream = SseUpstream::start().await;
    let front = Front::start(at(&upstream.url())).await;
    let open = || Caller::open(&front, Binding::Streamable, REVISION);
    let (first, _second) = tokio::join!(open(), open());
    let _third = Caller::open(&front, Binding::HttpSse, REVISION).await;
    upstream.seen(|state| {
        // One session is the probe's, and is closed again.
        assert_eq!(state.sessions.len(), 4);
        let probes = state
            .posts
            .iter()
            .filter(|post| post.body["id"] == "thinpipe-probe");
        assert!(probes.count() <= 1);
        let methods = state
            .posts
            .iter()
            .map(|post| post.body["method"].as_str().unwrap());
        let runs = |method: &&str| !method.starts_with("notifications/");
        let unexpected = |method: &&str| *method != "initialize" && *method != "server/discover";
        assert_eq!(methods.filter(runs).filter(unexpected).count(), 0);
    });
    drop(first);
}

/// K1, 1.5: a verdict that is contradicted falls, and the next session asks anew.
#[tokio::test]
async fn k1_a_stream_that_is_gone_is_not_believed_in() {
    let upstream = SseUpstream::start().await;
    let front = Front::start(at(&upstream.url())).await;
    let caller = Caller::open(&front, Binding::Streamable, REVISION).await;
    upstream.tell(|state| state.refuse_stream = Some(405));
    let client = Client::new(&front.mcp);
    let mut refused = client.post(rpc::initialize(1, REVISION)).await;
    assert_eq!(refused.status, 502);
    let data = refused.json().await["error"]["data"].clone();
    assert_eq!(
        data,
        json!({"reason": "upstream_invalid", "upstream": "up"})
    );
    upstream.tell(|state| state.refuse_stream = None);
    let _again = Caller::open(&front, Binding::Streamable, REVISION).await;
    drop(caller);
}

/// Protocol notes 4.2: each message goes up with the headers of its own request, not with those of the
/// request that opened the session.
#[tokio::test]
async fn each_post_has_the_headers_of_its_message() {
    let mut server = Scripted::start(Carrier::HttpSse).await;
    let front = Front::start(server.reached()).await;
    let (caller, mut speaker) =
        Caller::begin(&front, &mut server, Binding::Streamable, REVISION).await;
    let Caller::Streamable { client, .. } = &caller else {
        unreachable!("it was opened as one");
    };
    let trace = |n: u8| format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333{n}-01");
    for n in 1..=2_u8 {
        let call = client.post(rpc::call(i64::from(n), "a"));
        let asked = call.header("traceparent", &trace(n)).send().await;
        let call = speaker.hears("tools/call").await;
        speaker.answer(&call, json!({})).await;
        assert_eq!(asked.response().await.status, 200);
    }
    let told = client.post(rpc::notification(
        "notifications/roots/list_changed",
        &json!({}),
    ));
    assert_eq!(told.header("traceparent", &trace(3)).await.status, 202);
    speaker.hears("notifications/roots/list_changed").await;
    let Scripted::HttpSse(upstream, _) = &server else {
        unreachable!("it was started as one");
    };
    upstream.seen(|state| {
        let traces: Vec<_> = state
            .posts
            .iter()
            .map(|post| post.headers.get("traceparent").map(str::to_owned))
            .collect();
        let expected: Vec<_> = (1..=3).map(|n| Some(trace(n))).collect();
        assert_eq!(&traces[traces.len() - 3..], expected);
        assert!(traces[..traces.len() - 3].iter().all(Option::is_none));
    });
}

/// R045, R211: a POST that is refused fails its request, and nothing else.
#[tokio::test]
async fn r045_a_refused_post_fails_its_request() {
    for binding in [Binding::Streamable, Binding::HttpSse] {
        let mut server = Scripted::start(Carrier::HttpSse).await;
        let front = Front::start(server.reached()).await;
        let (mut caller, mut speaker) = Caller::begin(&front, &mut server, binding, REVISION).await;
        let Scripted::HttpSse(upstream, _) = &server else {
            unreachable!("it was started as one");
        };
        for (status, reason, may_have_run) in [
            (400, "upstream_invalid", false),
            (401, "upstream_auth", false),
            (500, "upstream_unavailable", true),
            (503, "upstream_overloaded", false),
        ] {
            upstream.tell(|state| state.status = status);
            let mut asked = caller.ask(rpc::call(i64::from(status), "refused")).await;
            speaker.hears("tools/call").await;
            let answer = caller.next(&mut asked).await;
            assert_eq!(answer["id"], i64::from(status));
            let data = json!({"reason": reason, "upstream": "up"});
            assert_eq!(answer["error"]["data"], data);
            let text = answer["error"]["message"].as_str().unwrap();
            assert_eq!(
                text.contains("the call may have run"),
                may_have_run,
                "{text}"
            );
        }
        upstream.tell(|state| state.status = 202);
        caller.settle(&mut speaker).await;
        // A server that does not know the session any more has ended it.
        upstream.tell(|state| state.status = 404);
        let mut asked = caller.ask(rpc::call(9, "gone")).await;
        let answer = caller.next(&mut asked).await;
        assert_eq!(answer["error"]["data"]["reason"], "upstream_stream_lost");
        caller.expect_over().await;
    }
}

/// F5, R046: whatever the endpoint's URL holds, no client sees it, also when it names a foreign host.
#[tokio::test]
async fn r047_a_foreign_endpoint_is_refused() {
    let upstream = SseUpstream::start().await;
    upstream.tell(|state| {
        state.first = "event: endpoint\ndata: http://127.0.0.1:9/steal?key=s3cret\n\n".to_owned();
    });
    let mut reached = at(&upstream.url());
    if let Reached::Http(http) = &mut reached {
        http.pin = Some(thinpipe_proto::revision::Binding::HttpSse);
    }
    let front = Front::start(reached).await;
    let client = Client::new(&front.mcp);
    let mut refused = client.post(rpc::initialize(1, REVISION)).await;
    assert_eq!(refused.status, 502);
    let error = refused.json().await["error"].clone();
    assert_eq!(error["data"]["reason"], "upstream_invalid");
    assert!(!error.to_string().contains("s3cret"), "{error}");
    upstream.wait_until(|state| !state.sessions[0].open).await;
}

/// A33, 1.3: a URL that says nothing. What refuses `initialize` with such a status is asked, and then the same
/// `initialize`, which never ran, goes over the stream.
#[tokio::test]
async fn a33_a_server_that_refuses_initialize_is_asked_what_it_speaks() {
    let (url, mut posts) = held("/events").await;
    let front = Front::start(at(&url)).await;
    let client = Client::new(&front.mcp);
    let opening = client.post(rpc::initialize("mine", REVISION)).send().await;
    let (mut seen, mut streams) = (Vec::new(), Vec::new());
    loop {
        let mut held = next(&mut posts).await;
        let id = held.body["id"].clone();
        seen.push((held.line.clone(), id.clone()));
        match &*held.line {
            "get /events http/1.1" => {
                held.stream.write_all(HEAD).await.unwrap();
                streams.push(held.into_stream());
            }
            "post /events http/1.1" => held.refuse(405).await,
            _ => {
                let answer = held.answer(r#"{"protocolVersion":"2025-06-18","capabilities":{}}"#);
                held.refuse(202).await;
                say(streams.last_mut().unwrap(), &answer).await;
                if id != "thinpipe-probe" {
                    break;
                }
            }
        }
    }
    assert_eq!(opening.response().await.json().await["id"], "mine");
    let refused = seen
        .iter()
        .filter(|(line, id)| line.starts_with("post /events") && id == "mine");
    assert_eq!(refused.count(), 1, "{seen:?}");
    let to_stream = seen.iter().filter(|(line, _)| line.starts_with("get"));
    assert_eq!(
        to_stream.count(),
        2,
        "the probe's, and the session's: {seen:?}"
    );
}

/// A server that holds each POST open until the next one comes gets the next one.
#[tokio::test]
async fn a_post_that_is_held_open_holds_up_nothing_for_long() {
    let (url, mut posts) = held("/sse").await;
    let mut reached = at(&url);
    if let Reached::Http(http) = &mut reached {
        http.pin = Some(thinpipe_proto::revision::Binding::HttpSse);
    }
    let front = Front::start(reached).await;
    let client = Client::new(&front.mcp);
    let opening = client.post(rpc::initialize(1, REVISION)).send().await;
    let mut stream = next(&mut posts).await.into_stream();
    stream.write_all(HEAD).await.unwrap();
    // Held for good: nothing is ever answered but on the stream.
    let initialize = next(&mut posts).await;
    let result = r#"{"protocolVersion":"2025-06-18","capabilities":{}}"#;
    say(&mut stream, &initialize.answer(result)).await;
    let session = opening
        .response()
        .await
        .header("Mcp-Session-Id")
        .unwrap()
        .to_owned();
    let in_session = |message: String| {
        client
            .post(message)
            .header("Mcp-Session-Id", &session)
            .send()
    };
    in_session(rpc::initialized()).await;
    let first = in_session(rpc::call(1, "ask")).await;
    let initialized = next(&mut posts).await;
    assert_eq!(
        initialized.body["method"], "notifications/initialized",
        "they begin in order"
    );
    let call = next(&mut posts).await;
    say(
        &mut stream,
        &rpc::request("q", "elicitation/create", &json!({})),
    )
    .await;
    let mut response = first.response().await;
    let question = response.next_message().await;
    in_session(rpc::response(
        question["id"].clone(),
        &json!({"action": "accept"}),
    ))
    .await;
    let answer = next(&mut posts).await;
    assert_eq!(answer.body["id"], "q");
    say(&mut stream, &call.answer("{}")).await;
    assert_eq!(response.next_message().await["id"], 1);
}

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nevent: endpoint\ndata: /messages\n\n";

/// A server of which the test answers each request, but the checks of its health.
async fn held(path: &str) -> (String, mpsc::Receiver<Held>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}{path}", listener.local_addr().unwrap());
    let (posted, posts) = mpsc::channel(16);
    let tasks = tokio_util::task::TaskTracker::new();
    let accepting = tasks.clone();
    tasks.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            accepting.spawn(serve(stream, posted.clone()));
        }
    });
    (url, posts)
}

/// A request, and the connection that waits for its answer.
struct Held {
    /// In lower case.
    line: String,
    body: serde_json::Value,
    stream: TcpStream,
}

impl Held {
    fn answer(&self, result: &str) -> String {
        format!(
            r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#,
            self.body["id"]
        )
    }

    /// Answers with nothing but a status.
    async fn refuse(&mut self, status: u16) {
        let answer =
            format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        self.stream.write_all(answer.as_bytes()).await.unwrap();
    }

    fn into_stream(self) -> TcpStream {
        self.stream
    }
}

async fn next(posts: &mut mpsc::Receiver<Held>) -> Held {
    let next = tokio::time::timeout(DEADLINE, posts.recv()).await;
    next.expect("a request comes").expect("the server accepts")
}

async fn say(stream: &mut TcpStream, message: &str) {
    let event = format!("event: message\ndata: {message}\n\n");
    stream.write_all(event.as_bytes()).await.unwrap();
}

/// Reads one request of a connection.
async fn serve(mut stream: TcpStream, posted: mpsc::Sender<Held>) {
    let mut reader = BufReader::new(&mut stream);
    let mut length = 0;
    let mut first = None;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).await.unwrap_or(0) == 0 {
            return;
        }
        let line = line.trim_end().to_ascii_lowercase();
        first.get_or_insert_with(|| line.clone());
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await.unwrap();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    if body["method"] == "server/discover" {
        // The check of its health is answered by whoever stands there.
        let answer = b"HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        return;
    }
    let line = first.unwrap_or_default();
    // The test may be over.
    let _ = posted.send(Held { line, body, stream }).await;
}
