use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use thinpipe_proto::rpc::Message;
use thinpipe_proto::session::Principal;
use thinpipe_testkit::{Cut, Event, Gate, Outcome, Script, Upstream, rpc};
use thinpipe_transport::upstream::UpstreamConfig;

use super::*;
use crate::config::UpstreamSpec;

fn server_at(url: &str) -> Arc<dyn ModernServer> {
    let client = UpstreamConfig::new("u".into(), url.parse().expect("a URL"));
    let route = Route::alone(UpstreamSpec::new("/mcp", client));
    Arc::new(OverHttp::new(route))
}

/// A call of a tool, under the id `"a"` and with the token `"t"`.
fn echo() -> ModernCall {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": rpc::MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
        "progressToken": "t",
    });
    let params = json!({"name": "echo", "arguments": {}, "_meta": meta});
    let text = rpc::request("a", "tools/call", &params);
    ModernCall {
        message: Message::parse(text.into()).expect("a message"),
        headers: HeaderMap::new(),
        principal: Principal::Anonymous,
        repeatable: false,
    }
}

/// Asks, and reads to the end.
async fn all(server: &Arc<dyn ModernServer>, call: ModernCall) -> Result<Vec<Value>, CallError> {
    let mut stream = Arc::clone(server).call(call).await?;
    let mut messages = Vec::new();
    while let Some(message) = stream.next().await {
        let message = message?;
        messages.push(serde_json::from_slice(message.source()).expect("JSON"));
    }
    Ok(messages)
}

/// R139, K2: the headers that repeat the message are made from it, and others go with them.
#[tokio::test]
async fn r139_a_call_is_a_post_with_the_headers_of_its_message() {
    let upstream = Upstream::start().await;
    let server = server_at(upstream.url());
    let mut asked = echo();
    let headers = &mut asked.headers;
    headers.insert("mcp-method", HeaderValue::from_static("tools/list"));
    headers.insert("mcp-param-region", HeaderValue::from_static("eu"));
    let messages = all(&server, asked).await.unwrap();
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0]["id"], "a");
    assert_eq!(messages[0]["result"]["resultType"], "complete");
    let request = upstream.record().last("tools/call").unwrap().clone();
    for (name, value) in [
        ("MCP-Protocol-Version", rpc::MODERN),
        ("Mcp-Method", "tools/call"),
        ("Mcp-Name", "echo"),
        ("Mcp-Param-Region", "eu"),
        ("Accept", "application/json, text/event-stream"),
    ] {
        let values: Vec<_> = request.headers.all(name).collect();
        assert_eq!(values, [value], "{name}");
    }
}

/// R133: the messages of a stream come in order, and what is not of the call does not.
#[tokio::test]
async fn r133_a_stream_gives_its_notifications_and_its_response() {
    let upstream = Upstream::start().await;
    let script = Script::events()
        .message(rpc::request("s1", "roots/list", &json!({})))
        .message(rpc::progress(1, 2))
        .message("no JSON")
        .message(rpc::response("b", &json!({})))
        .message(rpc::modern_text_result("done"))
        .message(rpc::progress(2, 2));
    upstream.on("tools/call:echo", script);
    let server = server_at(upstream.url());
    let messages = all(&server, echo()).await.unwrap();
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert_eq!(messages[0]["params"]["progressToken"], "t");
    assert_eq!(messages[1]["id"], "a");
}

/// R143: an error of the server is a message, whatever its status and its id.
#[tokio::test]
async fn r143_an_error_below_an_error_status_is_a_message() {
    let upstream = Upstream::start().await;
    let server = server_at(upstream.url());
    for status in [400, 404, 500] {
        for id in [r#""id":null,"#, r#""id":"other","#, "", r#""id":"a","#] {
            let error = r#""error":{"code":-32601,"message":"no"}}"#;
            let body = format!(r#"{{"jsonrpc":"2.0",{id}{error}"#);
            let script = Script::status(status).content_type("application/json");
            upstream.once("tools/call", script.whole(body));
            let messages = all(&server, echo()).await.unwrap();
            assert_eq!(messages.len(), 1);
            assert_eq!(messages[0]["id"], "a", "{status} {id}");
            assert_eq!(messages[0]["error"]["code"], -32601);
        }
    }
}

/// E1: what is no answer of an MCP server is a failure with a reason, and may have run.
#[tokio::test]
async fn e1_an_answer_that_is_not_mcp_is_a_failure() {
    let upstream = Upstream::start().await;
    let server = server_at(upstream.url());
    let html = |status| {
        let script = Script::status(status).content_type("text/html");
        script.whole("<p>")
    };
    for (script, reason) in [
        (html(200), Reason::Invalid),
        (html(401), Reason::Auth),
        (html(403), Reason::Auth),
        (html(404), Reason::NotFound),
        (html(429), Reason::Overloaded),
        (html(500), Reason::Unavailable),
        (html(503), Reason::Overloaded),
        (Script::accepted(), Reason::Invalid),
        (Script::json("[]"), Reason::Invalid),
        (
            Script::json(rpc::response("b", &json!({}))),
            Reason::Invalid,
        ),
        (Script::json("nothing"), Reason::Invalid),
    ] {
        upstream.once("tools/call", script);
        let error = all(&server, echo()).await.unwrap_err();
        assert_eq!(error.failure.reason, reason, "{}", error.failure.text);
        assert!(!error.undelivered);
    }
}

/// R144: a stream that breaks off has lost its call, which is not repeated.
#[tokio::test]
async fn r144_a_stream_that_breaks_off_is_a_failure_and_nothing_is_repeated() {
    let upstream = Upstream::start().await;
    let script = Script::events().message(rpc::progress(1, 2));
    upstream.on("tools/call:echo", script.read_by_peer().cut(Cut::Reset));
    let server = server_at(upstream.url());
    let mut stream = server.call(echo()).await.unwrap();
    assert!(stream.next().await.unwrap().is_ok());
    let error = stream.next().await.unwrap().unwrap_err();
    assert_eq!(error.failure.reason, Reason::StreamLost);
    assert!(!error.undelivered);
    assert!(stream.next().await.is_none());
    assert_eq!(upstream.record().count("tools/call"), 1);
}

/// 5.1: a server that is not there did not get the call.
#[tokio::test]
async fn a_server_that_is_down_did_not_get_the_call() {
    let upstream = Upstream::start().await;
    upstream.die().await;
    let server = server_at(upstream.url());
    let error = server.call(echo()).await.unwrap_err();
    assert_eq!(error.failure.reason, Reason::Unavailable);
    assert!(error.undelivered);
}

/// K7: who drops the stream cancels the call, by closing the response.
#[tokio::test]
async fn k7_a_dropped_stream_is_closed() {
    let upstream = Upstream::start().await;
    let script = Script::events().event(Event::message(rpc::progress(1, 2)));
    upstream.on("tools/call:echo", script.wait(&Gate::new()));
    let server = server_at(upstream.url());
    let mut stream = server.call(echo()).await.unwrap();
    assert!(stream.next().await.unwrap().is_ok());
    drop(stream);
    upstream
        .wait_until(|seen| seen.outcome("tools/call") == Some(Outcome::Cancelled))
        .await;
}

/// C1: a stream that was read to its end leaves a connection that serves again.
#[tokio::test]
async fn a_connection_serves_again_after_a_stream() {
    let upstream = Upstream::start().await;
    let script = Script::json(rpc::modern_text_result("done"));
    upstream.on("tools/call:echo", script);
    let server = server_at(upstream.url());
    for _ in 0..3 {
        all(&server, echo()).await.unwrap();
    }
    let record = upstream.record();
    assert_eq!((record.count("tools/call"), record.connections), (3, 1));
}
