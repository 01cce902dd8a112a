//! Whose headers go up with what.

use serde_json::{Value, json};
use thinpipe_gateway::Sharing;
use thinpipe_testkit::Client;
use thinpipe_testkit::rpc::{self, Modern};

use crate::place::{ALICE, BOB, Place, Way, accepted, answers, call, request, retry};

/// A header of a client that the gateway knows nothing of.
const OWN: &str = "X-Account";

/// What a client is answered that is known by that header.
async fn said(client: &Client, account: &str, request: &Modern) -> Value {
    let post = client.post_modern(request).header(OWN, account);
    post.await.answer().await
}

/// T1: on a session of many clients each message goes with the headers of its own client, and what the
/// gateway itself says with none of theirs.
#[tokio::test]
async fn t1_headers_of_clients_stay_apart_on_a_shared_session() {
    for (way, is_named) in [
        (Way::Sessions, true),
        (Way::Sessions, false),
        (Way::HttpSse, true),
    ] {
        let set = json!({"type": "headers", "request": {"set": {"X-Gateway": "yes"}}});
        let change = |spec: &mut thinpipe_gateway::UpstreamSpec| {
            spec.bridge.sessions = Some(match is_named {
                true => Sharing::Shared,
                false => Sharing::Pooled,
            });
            spec.interceptors
                .push(serde_json::from_value(set).expect("an interceptor"));
        };
        let tokens: &[&str] = if is_named { &[ALICE, BOB] } else { &[] };
        let place = Place::open_to(way, tokens, |_| {}, change, |_| {}).await;
        let client = |token| match is_named {
            true => place.client(token),
            false => Client::new(&place.front.mcp),
        };
        let (alice, bob) = (client(ALICE), client(BOB));
        said(&alice, "alice", &call(1, "echo")).await;
        if way == Way::Sessions {
            let question = call(2, "ask");
            let first = said(&bob, "bob", &question).await;
            assert_eq!(first["result"]["resultType"], "input_required", "{first}");
            let again = retry(3, &question, &first, &answers(&first, &accepted()));
            let done = said(&bob, "bob again", &again).await;
            assert_eq!(done["result"]["resultType"], "complete", "{done}");
        }
        let record = place.upstream.record();
        let mut seen = Vec::new();
        for request in &record.received {
            assert_eq!(
                request.headers.get("X-Gateway"),
                Some("yes"),
                "{way:?} {request:?}"
            );
            let account = request.headers.get(OWN).unwrap_or("nobody");
            let what = request
                .rpc_method()
                .unwrap_or_else(|| match request.json().is_null() {
                    true => "",
                    false => "answer",
                });
            seen.push((what.to_owned(), account.to_owned()));
        }
        for (what, account) in &seen {
            let expected: &[&str] = match what.as_str() {
                "tools/call" => &["alice", "bob"],
                "answer" => &["bob again"],
                _ => &["nobody"],
            };
            assert!(
                expected.contains(&account.as_str()),
                "{way:?} {what} {seen:?}"
            );
        }
        assert_eq!(place.count("initialize"), 1, "{way:?}");
    }
}

/// T1: what the server said to a client with a header of its own is not told to others.
#[tokio::test]
async fn t1_what_a_stranger_with_a_header_is_told_is_its_own() {
    let place = Place::anonymous(Way::Sessions).await;
    let client = Client::new(&place.front.mcp);
    let discover = request(1, "server/discover", json!({}));
    for account in ["alice", "bob"] {
        let told = said(&client, account, &discover).await;
        assert_eq!(told["result"]["supportedVersions"][0], rpc::MODERN);
    }
    assert_eq!(place.count("initialize"), 2);
    let initialize = place.upstream.requests("initialize");
    assert_eq!(initialize[1].headers.get(OWN), Some("bob"));
}
