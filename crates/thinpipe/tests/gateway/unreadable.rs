//! What interceptors were to read and cannot be read: it does not pass by them.

use serde_json::json;
use thinpipe_testkit::{Script, Upstream, rpc};

use crate::support::{Gateway, Mode, Settings};

async fn start() -> (Upstream, Gateway) {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&upstream, Mode::Inspect, Settings::default()).await;
    gateway.knows_upstream().await;
    (upstream, gateway)
}

/// Bodies with a secret that no interceptor can find in them.
fn bodies(status: u16) -> Vec<Script> {
    let message = rpc::text_result("secret");
    let typed = |media_type: &str, body: &str| {
        Script::status(status)
            .content_type(media_type)
            .whole(body)
            .chunked()
    };
    vec![
        typed("application/jsonp", &message),
        typed("text/html", "<h1>secret</h1>"),
        typed("application/json", "<h1>secret</h1>"),
        typed("application/json; x=;", &message),
        Script::status(status).whole(&message),
    ]
}

/// E1, C11: a call that is answered by something that is neither JSON nor events, or that only says it is, is
/// answered by an error, in either era.
#[tokio::test]
async fn e1_answers_that_cannot_be_read_are_errors() {
    let (upstream, gateway) = start().await;
    let client = gateway.client().await;
    for status in [200, 201] {
        for (id, script) in bodies(status).into_iter().enumerate() {
            let modern = rpc::modern_call(id, "echo");
            for request in [
                client.post(rpc::call(id, "echo")),
                client.post_modern(&modern),
            ] {
                upstream.once("tools/call", script.clone());
                let mut response = request.await;
                let answer = response.json().await;
                let reason = &answer["error"]["data"]["reason"];
                assert_eq!(
                    (response.status, &answer["id"], reason),
                    (502, &json!(id), &json!("upstream_invalid")),
                    "{script:?}"
                );
                assert!(!answer.to_string().contains("secret"), "{answer}");
            }
        }
    }
    upstream.once(
        "GET",
        Script::status(200)
            .content_type("text/html")
            .whole("secret"),
    );
    let mut listening = client.get().await;
    assert_eq!(listening.status, 502);
    assert!(!listening.json().await.to_string().contains("secret"));
}

/// E1, C12: an error that cannot be read keeps its status and what its headers say, and loses its body.
#[tokio::test]
async fn e1_errors_that_cannot_be_read_keep_their_status() {
    let (upstream, gateway) = start().await;
    let client = gateway.client().await;
    for status in [400, 429, 500, 503] {
        let mut scripts = bodies(status);
        let event = format!("data: {}\n\n", rpc::text_result("secret"));
        scripts.push(
            Script::status(status)
                .content_type("text/event-stream")
                .whole(event),
        );
        for (id, script) in scripts.into_iter().enumerate() {
            let modern = rpc::modern_call(id, "echo");
            for request in [
                client.post(rpc::call(id, "echo")),
                client.post_modern(&modern),
            ] {
                upstream.once("tools/call", script.clone().header("Retry-After", "7"));
                let mut response = request.await;
                assert_eq!(
                    (response.status, response.header("Retry-After")),
                    (status, Some("7"))
                );
                assert_eq!(response.header("Content-Type"), Some("application/json"));
                let answer = response.json().await;
                let reason = &answer["error"]["data"]["reason"];
                assert_eq!(
                    (&answer["id"], reason),
                    (&json!(id), &json!("upstream_invalid")),
                    "{script:?}"
                );
                assert!(!answer.to_string().contains("secret"), "{answer}");
            }
        }
    }
}

/// C12: what a server writes below the 202 to a notification is for nobody, and is no fault of the client's.
#[tokio::test]
async fn c12_what_accepts_a_notification_needs_no_reading() {
    let (upstream, gateway) = start().await;
    let client = gateway.client().await;
    let what = "notifications/roots/list_changed";
    let accepted = Script::status(202)
        .content_type("text/plain")
        .whole("Accepted");
    upstream.once(what, accepted);
    let mut response = client.post(rpc::notification(what, &json!({}))).await;
    assert_eq!(
        (response.status, response.read_to_end().await.len()),
        (202, 0)
    );
}

/// K1: that an answer was not shown does not hide that the server denies the endpoint.
#[tokio::test]
async fn k1_a_verdict_falls_also_where_answers_are_read() {
    let (upstream, gateway) = start().await;
    let before = upstream.record().count("server/discover");
    let page = Script::status(404).content_type("text/html");
    upstream.once("tools/call", page.whole("no such path"));
    let call = rpc::modern_call(1, "echo");
    assert_eq!(gateway.stranger().post_modern(&call).await.status, 404);
    let call = rpc::modern_call(2, "echo");
    assert_eq!(gateway.stranger().post_modern(&call).await.status, 200);
    let asked = upstream.record();
    let probes = asked
        .all("server/discover")
        .filter(|r| r.id_text() == Some("\"thinpipe-probe\""));
    assert_eq!(probes.count(), 2, "{before} before; {asked}");
}
