//! Who is told of the clients of HTTP+SSE, and what they are told by it. And what logs do not show.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use thinpipe_testkit::{Client, SseClient, rpc};
use thinpipe_transport::server::event_buffer::EventBuffer;
use thinpipe_transport::server::{Answer, Session, SessionEnd, SseObserver};
use tracing::field::{Field, Visit};

use super::support::{Setup, start};
use crate::support::{call, until};

#[derive(Default)]
struct Notes {
    seen: Mutex<Vec<String>>,
    gone: AtomicBool,
}

impl Notes {
    fn note(&self, what: String) {
        self.seen.lock().unwrap().push(what);
    }
}

impl SseObserver for Notes {
    fn response_headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        let link = |value| (http::header::LINK, HeaderValue::from_static(value));
        vec![
            link("<a>; rel=\"deprecation\""),
            link("</mcp>; rel=\"successor-version\""),
        ]
    }

    fn instead(&self, headers: &HeaderMap) -> Option<Answer> {
        assert!(headers.contains_key("user-agent"), "those of the request");
        let gone = self.gone.load(Ordering::SeqCst);
        gone.then(|| Answer::error(StatusCode::GONE, None, -32000, "moved to /mcp", None))
    }

    fn opened(&self, session: &Arc<Session>, headers: &HeaderMap) {
        let agent = headers["user-agent"].to_str().unwrap();
        self.note(format!("{agent} opened {:?}", session.revision()));
    }

    fn initialized(&self, session: &Arc<Session>, stream: &EventBuffer) {
        let params = String::from_utf8_lossy(&session.initialize_params()).into_owned();
        assert!(params.contains("clientInfo"), "{params}");
        self.note("initialized".to_owned());
        let hint = Bytes::from_static(br#"{"jsonrpc":"2.0","method":"notifications/message"}"#);
        stream.try_push(hint).unwrap();
    }

    fn ended(&self, _: &Arc<Session>, why: SessionEnd) {
        self.note(format!("{why:?}"));
    }
}

/// A20: every response on both paths is marked, errors included, and no other path is.
#[tokio::test]
async fn a20_every_response_is_marked() {
    let notes = Arc::new(Notes::default());
    let running = start(Setup {
        observer: Some(Arc::clone(&notes) as _),
        ..Setup::default()
    })
    .await;
    let sse = Client::new(&running.sse_url());
    let opened = SseClient::opening(&sse).header("user-agent", "old/1").await;
    let marks = |response: &thinpipe_testkit::Response| {
        let all = response
            .headers
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case("link"));
        (
            all.count(),
            response.header("referrer-policy").map(str::to_owned),
        )
    };
    let marked = (2, Some("no-referrer".to_owned()));
    assert_eq!(marks(&opened), marked);
    let mut client = SseClient::of(opened, &sse).await;
    let post = |message: String| client.post(message).header("user-agent", "old/1");
    assert_eq!(marks(&post(rpc::initialize(0, "2024-11-05")).await), marked);
    client.stream.next_message().await;
    let post = |message: String| client.post(message).header("user-agent", "old/1");
    assert_eq!(marks(&post(rpc::initialized()).await), marked);
    let refused = [
        post("{".to_owned()).await,
        post(call(1, "echo")).replace("host", "evil.example").await,
        sse.request("DELETE").header("user-agent", "old/1").await,
    ];
    for response in &refused {
        assert!(response.status >= 400);
        assert_eq!(marks(response), marked, "{}", response.status);
    }
    let elsewhere = running
        .stranger()
        .post(rpc::initialize(1, "2025-11-25"))
        .await;
    assert_eq!(marks(&elsewhere), (0, None));
    assert_eq!(
        client.stream.next_message().await["method"],
        "notifications/message"
    );
    notes.gone.store(true, Ordering::SeqCst);
    let mut gone = SseClient::opening(&sse).header("user-agent", "old/1").await;
    assert_eq!((gone.status, marks(&gone)), (410, marked));
    assert_eq!(gone.json().await["error"]["message"], "moved to /mcp");
    client.stream.close();
    until("the end was told", || notes.seen.lock().unwrap().len() == 3).await;
    let seen = notes.seen.lock().unwrap().clone();
    assert_eq!(
        seen,
        ["old/1 opened V2024_11_05", "initialized", "Disconnected"]
    );
}

/// Everything that is logged, as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("thinpipe")
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Text<'a>(&'a mut String);
        impl Visit for Text<'_> {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                writeln!(self.0, "{field}={value:?}").unwrap();
            }
        }
        event.record(&mut Text(&mut self.0.lock().unwrap()));
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

/// A13: the id in the URL is in no log, whatever comes of the request.
#[tokio::test]
async fn a13_session_ids_are_not_logged() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let running = start(Setup::default()).await;
    let mut client = running.sse_client().await;
    client.ask(call(1, "echo")).await;
    assert_eq!(client.post("{").await.status, 400);
    let evil = client.post(call(1, "echo")).replace("host", "evil.example");
    assert_eq!(evil.await.status, 403);
    let id = client.session().to_owned();
    let messages = Client::new(&format!(
        "http://{}/messages?sessionId={id}",
        running.address
    ));
    assert_eq!(messages.request("GET").await.status, 405);
    client.stream.close();
    until("its session is gone", || {
        running.server.stats().sessions == 0
    })
    .await;
    assert_eq!(
        messages
            .request("POST")
            .header("content-type", "application/json")
            .await
            .status,
        404
    );
    let log = log.0.lock().unwrap().clone();
    assert!(
        log.contains("path=/messages") && log.contains(&id[..6]),
        "{log}"
    );
    assert!(!log.contains(&id) && !log.contains("sessionId="), "{log}");
}

/// A9, A11: whoever reads the log sees which client was refused, wherever it was told so.
#[tokio::test]
async fn a11_refused_messages_are_logged_with_their_way() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let running = start(Setup::default()).await;
    let mut client = running.sse().await;
    let lines = || std::mem::take(&mut *log.0.lock().unwrap());
    let from = "method=POST\npath=/messages\npeer=127.0.0.1:";
    lines();
    client.ask(call(1, "echo")).await;
    let on_stream = lines();
    assert!(
        on_stream.contains(&format!("reason=\"not_initialized\"\n{from}")),
        "{on_stream}"
    );
    assert_eq!(client.post("{").await.status, 400);
    let in_post = lines();
    assert!(
        in_post.contains("status=400\n") && in_post.contains(from),
        "{in_post}"
    );
    let stream = running.client("2025-11-25").await;
    let get = stream.get().without("mcp-session-id").await;
    assert_eq!(get.status, 400);
    let in_get = lines();
    assert!(in_get.contains("method=GET\npath=/mcp\n"), "{in_get}");
}
