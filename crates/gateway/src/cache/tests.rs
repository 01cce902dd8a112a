use std::future::poll_fn;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll, Waker};

use thinpipe_proto::header::MediaType;
use thinpipe_proto::revision::Revision;
use thinpipe_transport::body::{Body, BodyError, BodyStream, BoxFuture, Filled};

use super::*;
use crate::interceptor::{
    AccessConfig, Carrier, ChainConfig, InterceptorConfig, NameList, Rejection,
};
use crate::modern::{CallError, CallStream, Messages, ModernCall, ModernServer};

fn message(text: &str) -> Message {
    Message::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

fn request(id: u32, method: &str) -> Message {
    message(&format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}"}}"#
    ))
}

fn answers() -> Arc<Answers> {
    let config = CacheConfig::default();
    Arc::new(Answers::new(&config, "up".into(), ByteBudget::default()))
}

/// Answers every call with a number of its own, good for everybody for an hour.
#[derive(Default)]
struct Counting(AtomicUsize);

const TOOLS: &str = r#"[{"name":"t","inputSchema":{"properties":{"region":{"type":"string","x-mcp-header":"Region"}}}}]"#;

struct One(Option<Message>);

impl Messages for One {
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Message, CallError>>> {
        Poll::Ready(self.0.take().map(Ok))
    }
}

impl ModernServer for Counting {
    fn call(self: Arc<Self>, call: ModernCall) -> BoxFuture<Result<CallStream, CallError>> {
        let n = self.0.fetch_add(1, Ordering::Relaxed);
        let message = match call.message.method() {
            Some("subscriptions/listen") => {
                r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#.to_owned()
            }
            _ => format!(
                r#"{{"jsonrpc":"2.0","id":{},"result":{{"n":{n},"resultType":"complete","tools":{TOOLS},"ttlMs":3600000,"cacheScope":"public"}}}}"#,
                String::from_utf8_lossy(call.message.id().unwrap().as_json())
            ),
        };
        let stream = CallStream::new(One(Some(self::message(&message))));
        Box::pin(std::future::ready(Ok(stream)))
    }
}

async fn call(server: &Arc<Remembering>, id: u32, method: &str) -> Message {
    let call = ModernCall {
        message: request(id, method),
        headers: HeaderMap::new(),
        principal: Principal::Anonymous,
        repeatable: false,
    };
    let mut stream = Arc::clone(server).call(call).await.unwrap();
    let message = poll_fn(|cx| stream.poll_next(cx)).await.unwrap().unwrap();
    assert!(stream.next().await.is_none());
    message
}

fn n(message: &Message) -> Bytes {
    rpc::member(&message.result().unwrap(), "n").unwrap()
}

/// R191, protocol notes 4.4: what bridges ask comes from here, under the id of each, until a notice comes.
#[tokio::test(start_paused = true)]
async fn r191_bridges_are_given_what_was_kept() {
    let counting = Arc::new(Counting::default());
    let server = Remembering::new(Arc::clone(&counting) as _, answers());
    let server = Arc::new(server);
    assert_eq!(n(&call(&server, 1, "tools/list").await), "0");
    tokio::time::advance(std::time::Duration::from_millis(1500)).await;
    let again = call(&server, 7, "tools/list").await;
    let expected = format!(
        r#"{{"jsonrpc":"2.0","id":7,"result":{{"n":0,"resultType":"complete","tools":{TOOLS},"ttlMs":3598500,"cacheScope":"public"}}}}"#
    );
    assert_eq!(*again.source(), expected.as_bytes());
    // Calls are never kept, whatever their results say.
    assert_eq!(n(&call(&server, 1, "tools/call").await), "1");
    assert_eq!(n(&call(&server, 1, "tools/call").await), "2");
    call(&server, 2, "subscriptions/listen").await;
    assert_eq!(n(&call(&server, 1, "tools/list").await), "4");
}

/// R124: where messages are read anyway, tools are learned without a cache too.
#[tokio::test(start_paused = true)]
async fn r124_tools_are_learned_without_a_cache() {
    let config = CacheConfig {
        enabled: false,
        ..CacheConfig::default()
    };
    let answers = Answers::new(&config, "up".into(), ByteBudget::default());
    let answers = Arc::new(answers);
    let counting = Arc::new(Counting::default());
    let server = Remembering::new(Arc::clone(&counting) as _, Arc::clone(&answers));
    let server = Arc::new(server);
    call(&server, 1, "tools/list").await;
    call(&server, 1, "tools/list").await;
    assert_eq!(counting.0.load(Ordering::Relaxed), 2);
    let check = |region: &str| {
        let call = message(
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"region":"eu"}}}"#,
        );
        let mut headers = HeaderMap::new();
        headers.insert("mcp-param-region", region.parse().unwrap());
        answers
            .check(&call, &call, (&Principal::Anonymous, &headers))
            .is_ok()
    };
    assert!(check("eu") && !check("us"));
    call(&server, 2, "subscriptions/listen").await;
    assert!(check("us"), "nothing is known after a change");
}

/// Gives its bytes piece by piece.
struct Pieces(Vec<Bytes>);

impl BodyStream for Pieces {
    fn poll_fill(
        &mut self,
        _: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<Result<Filled, BodyError>> {
        match self.0.is_empty() {
            true => Poll::Ready(Ok(Filled::End)),
            false => {
                out.extend_from_slice(&self.0.remove(0));
                Poll::Ready(Ok(Filled::More))
            }
        }
    }
}

fn read(mut body: Body) -> Vec<u8> {
    let mut out = Vec::new();
    match &mut body {
        Body::Empty => {}
        Body::Full(bytes) => out.extend_from_slice(bytes),
        Body::Stream(stream) => {
            let mut cx = Context::from_waker(Waker::noop());
            while let Poll::Ready(Ok(Filled::More)) = stream.poll_fill(&mut cx, &mut out) {}
        }
    }
    out
}

fn noting(answers: &Arc<Answers>, method: &str) -> Box<Noting> {
    let asked = answers.ask(
        &request(1, method),
        &Principal::Anonymous,
        &HeaderMap::new(),
    );
    match asked {
        Asked::Noted(noting) => noting,
        other => panic!("nothing was to be kept yet: {other:?}"),
    }
}

const KEPT: &str =
    r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","tools":[],"ttlMs":5000}}"#;

/// Not a byte changes on the way, however it comes; a body that breaks off or is too long is not kept.
#[tokio::test(start_paused = true)]
async fn what_passes_is_noted_and_stays_as_it_is() {
    let event = format!(": hello\n\ndata: {KEPT}\n\n");
    let comments = format!("{event}{}", ":\n\n".repeat(100));
    let two = format!("{KEPT}{KEPT}");
    for (media_type, body, kept) in [
        (MediaType::Json, KEPT, true),
        (MediaType::EventStream, &*event, true),
        (MediaType::EventStream, &comments, true),
        (MediaType::EventStream, &event[..event.len() - 1], false),
        (MediaType::Json, &KEPT[..KEPT.len() - 1], false),
        (MediaType::Json, &two, false),
        (MediaType::Json, "", false),
    ] {
        for size in [1, 7, 10_000] {
            let answers = answers();
            let pieces = body.as_bytes().chunks(size).map(Bytes::copy_from_slice);
            let stream = Body::stream(Pieces(pieces.collect()));
            let tapped = tap::tapped(stream, media_type, noting(&answers, "tools/list"));
            assert_eq!(read(tapped), body.as_bytes());
            assert_eq!(answers.cache().unwrap().len(), usize::from(kept), "{body}");
        }
        let answers = answers();
        let whole = Body::from(Bytes::copy_from_slice(body.as_bytes()));
        let tapped = tap::tapped(whole, media_type, noting(&answers, "tools/list"));
        assert_eq!(read(tapped), body.as_bytes());
        assert_eq!(answers.cache().unwrap().len(), usize::from(kept), "{body}");
    }
    let answers = answers();
    let long = format!(r#"{{"x":"{}"}}"#, "x".repeat(answers.max_answer));
    let tapped = tap::tapped(
        Body::stream(Pieces(vec![Bytes::from(long.clone())])),
        MediaType::Json,
        noting(&answers, "tools/list"),
    );
    assert_eq!(read(tapped), long.as_bytes());
    assert!(answers.cache().unwrap().is_empty());
}

/// R191: a notice that is too long to be read may be about anything.
#[tokio::test(start_paused = true)]
async fn r191_a_notice_that_cannot_be_read_is_about_everything() {
    let answers = answers();
    let body = Body::from(Bytes::from_static(KEPT.as_bytes()));
    let _ = tap::tapped(body, MediaType::Json, noting(&answers, "prompts/list"));
    assert_eq!(answers.cache().unwrap().len(), 1);
    let long = format!("data: \"{}\"\n\n", "x".repeat(100 << 10));
    let body = Body::from(Bytes::from(long));
    let _ = tap::tapped(
        body,
        MediaType::EventStream,
        noting(&answers, "subscriptions/listen"),
    );
    assert!(answers.cache().unwrap().is_empty());
}

/// R189: a header that nobody knows may be what users are told apart by.
#[test]
fn r189_a_header_that_is_not_known_makes_an_asker_unknown() {
    let (named, nobody) = (Principal::Named("a".into()), Principal::Anonymous);
    let known = |principal: &Principal, name: &'static str, value: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("user-agent", "x".parse().unwrap());
        headers.insert(name, value.parse().unwrap());
        is_known_by_principal(principal, &headers)
    };
    for principal in [&named, &nobody] {
        assert!(known(principal, "accept-language", "*"));
        assert!(!known(principal, "accept-language", "de"));
        assert!(!known(principal, "x-tenant", "t"));
        assert!(!known(principal, "mcp-param-x", "t"));
    }
    assert!(known(&named, "x-forwarded-for", "1.2.3.4"));
    assert!(!known(&nobody, "x-forwarded-for", "1.2.3.4"));
}

/// Protocol notes 4.4: a list for everybody that was looked through is for one.
#[test]
fn what_interceptors_read_is_private() {
    let context = |revision, method: &str| MessageContext {
        direction: Direction::ToClient,
        carrier: Carrier::Body,
        revision,
        upstream: "up".into(),
        principal: Principal::Anonymous,
        session: None,
        method: Some(method.into()),
        name: None,
        sequence: 0,
    };
    let chain = |config: &[InterceptorConfig]| {
        Chain::build(config, Vec::new(), &ChainConfig::default()).unwrap()
    };
    let deny = NameList {
        deny: vec!["t".to_owned()],
        ..NameList::default()
    };
    let reads_tools = chain(&[InterceptorConfig::Access(AccessConfig {
        tools: deny,
        ..AccessConfig::default()
    })]);
    let public =
        message(r#"{"jsonrpc":"2.0","id":1,"result":{"cacheScope" : "public","n":1e400}}"#);
    let modern = context(Revision::NEWEST, "tools/list");
    match narrowed(&reads_tools, &modern, Outcome::Forward(public)) {
        Outcome::Changed(message) => assert_eq!(
            message.source(),
            r#"{"jsonrpc":"2.0","id":1,"result":{"cacheScope" : "private","n":1e400}}"#
        ),
        other => panic!("not narrowed: {other:?}"),
    }
    for (context, text) in [
        (
            &modern,
            r#"{"jsonrpc":"2.0","id":1,"result":{"cacheScope":"private"}}"#,
        ),
        (&modern, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#),
        (
            &modern,
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":""}}"#,
        ),
        (
            &context(Revision::NEWEST, "tools/call"),
            r#"{"jsonrpc":"2.0","id":1,"result":{"cacheScope":"public"}}"#,
        ),
        (
            &context(Revision::NEWEST_LEGACY, "tools/list"),
            r#"{"jsonrpc":"2.0","id":1,"result":{"cacheScope":"public"}}"#,
        ),
    ] {
        let outcome = narrowed(&reads_tools, context, Outcome::Forward(message(text)));
        assert!(matches!(outcome, Outcome::Forward(_)), "{text}");
    }
    let refused = Rejection {
        code: -32000,
        message: String::new(),
        reason: "x".into(),
    };
    let outcome = narrowed(&reads_tools, &modern, Outcome::Rejected(refused));
    assert!(matches!(outcome, Outcome::Rejected(_)));
    let public = message(r#"{"jsonrpc":"2.0","id":1,"result":{"cacheScope":"public"}}"#);
    for (chain, method) in [(chain(&[]), "tools/list"), (reads_tools, "resources/read")] {
        let context = context(Revision::NEWEST, method);
        let outcome = narrowed(&chain, &context, Outcome::Forward(public.clone()));
        assert!(
            matches!(outcome, Outcome::Forward(_)),
            "nobody reads {method}"
        );
    }
}
