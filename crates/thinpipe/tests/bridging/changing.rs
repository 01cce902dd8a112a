//! What changes at a server, and who is told of it.

use serde_json::{Value, json};
use thinpipe_testkit::{Record, rpc};

use crate::gateway::Gateway;
use crate::pairs::{Pair, Server};

rows! {
    /// R220, R239: a resource that is subscribed to, in each side's own way.
    all r220_r239_a_subscribed_resource_is_told_of;
    /// R220, R239: what is not subscribed to any more is not told of.
    ab r220_an_unsubscribed_resource_is_not_told_of;
    /// R239: a listen that ends lets go of what only it wanted.
    c r239_a_closed_listen_lets_go_of_its_resources;
    /// R221, R239: changes of lists.
    all r221_r239_changes_of_lists_are_told;
    /// R239: only what the server can tell is promised.
    cd r239_a_listen_is_promised_what_the_server_can_tell;
    /// R239: a server without a stream of its own can tell nothing.
    c_http r239_without_a_stream_nothing_is_promised;
    /// R220: a server without subscriptions.
    ab r220_a_server_without_subscriptions_refuses;
    /// R220: what the server does not acknowledge is refused.
    b r220_what_is_not_acknowledged_is_refused;
    /// R221: a subscription more leaves the others as they are.
    b r221_one_more_subscription_loses_and_doubles_nothing;
    /// R221: after a gap the client is told to read again.
    b r221_a_gap_is_made_up_for;
    /// Protocol notes 5.4.3: so is a listen whose session was lost.
    c r239_a_lost_session_is_made_up_for;
    /// R242, R243: each listen has its own stamp, and its end is the server's.
    d r242_r243_a_listen_has_its_own_stamp_and_ends_with_the_servers;
    /// R243: a program that cancels a listen has ended it.
    d_stdio r243_a_cancelled_listen_ends_with_a_result;
    /// R243: a client that closes its listen has ended it at the server.
    cd r243_a_closed_listen_is_closed_at_the_server;
    /// R239: notices of one stream never are on another's.
    cd r239_a_listen_hears_what_it_asked_for;
}

const UPDATED: &str = "notifications/resources/updated";

fn uri(uri: &str) -> Value {
    json!({ "uri": uri })
}

/// Until the server has somebody to tell.
async fn somebody_listens(gateway: &Gateway) {
    thinpipe_testkit::eventually("somebody listens", async || {
        if gateway.upstream.listens() > 0 || !gateway.pair.server.is_modern() {
            return Ok(());
        }
        Err("nobody listens".to_owned())
    })
    .await;
    if gateway.pair.server == Server::Sessions {
        gateway.upstream.nth("GET", 0).await;
    }
}

async fn r220_r239_a_subscribed_resource_is_told_of(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    caller.listen().await;
    caller.subscribe("file:///a").await;
    gateway.upstream.announce(UPDATED, &uri("file:///b"));
    gateway.upstream.announce(UPDATED, &uri("file:///a"));
    let told = caller.unasked().await;
    assert_eq!(told["method"], UPDATED);
    assert_eq!(told["params"]["uri"], "file:///a");
    let stamp = told["params"]["_meta"].get(rpc::SUBSCRIPTION);
    assert_eq!(stamp.is_some(), pair.client.is_modern(), "{told}");
}

async fn r220_an_unsubscribed_resource_is_not_told_of(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    caller.listen().await;
    caller.subscribe("file:///a").await;
    caller.subscribe("file:///b").await;
    caller
        .result("no more", "resources/unsubscribe", uri("file:///a"))
        .await;
    gateway.upstream.announce(UPDATED, &uri("file:///a"));
    gateway.upstream.announce(UPDATED, &uri("file:///b"));
    let told = caller.unasked().await;
    assert_eq!(told["params"]["uri"], "file:///b", "{told}");
}

async fn r239_a_closed_listen_lets_go_of_its_resources(pair: Pair) {
    let gateway = Gateway::with(pair, crate::calling::WITH_TOKENS).await;
    let who = crate::caller::Introduction::with_token(crate::calling::ALICE);
    let mut caller = gateway.caller_who(&who).await;
    let mut other = gateway.caller_who(&who).await;
    caller.subscribe("file:///a").await;
    other.subscribe("file:///a").await;
    assert_eq!(gateway.upstream.record().count("resources/subscribe"), 1);
    drop(caller);
    gateway.upstream.announce(UPDATED, &uri("file:///a"));
    assert_eq!(other.unasked().await["params"]["uri"], "file:///a");
    assert_eq!(gateway.upstream.record().count("resources/unsubscribe"), 0);
    drop(other);
    let let_go = gateway.upstream.nth("resources/unsubscribe", 0).await;
    assert_eq!(*let_go.param("/uri"), json!("file:///a"));
}

async fn r221_r239_changes_of_lists_are_told(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    caller.listen().await;
    somebody_listens(&gateway).await;
    for kind in ["tools", "prompts", "resources"] {
        let method = format!("notifications/{kind}/list_changed");
        gateway.upstream.announce(&method, &json!({}));
        let told = caller.unasked().await;
        assert_eq!(told["method"], *method);
        let stamp = told["params"]["_meta"].get(rpc::SUBSCRIPTION);
        assert_eq!(stamp.is_some(), pair.client.is_modern(), "{told}");
    }
}

async fn r239_a_listen_is_promised_what_the_server_can_tell(pair: Pair) {
    let gateway = Gateway::behaving(pair, |behaviour| {
        behaviour.capabilities = json!({"tools": {"listChanged": true}, "resources": {}});
    })
    .await;
    let mut caller = gateway.caller().await;
    let wanted = json!({
        "toolsListChanged": true,
        "promptsListChanged": true,
        "resourceSubscriptions": ["file:///a"],
    });
    caller
        .listen_to("some", wanted, &json!({"toolsListChanged": true}))
        .await;
    caller
        .listen_to("none", json!({"promptsListChanged": true}), &json!({}))
        .await;
}

async fn r239_without_a_stream_nothing_is_promised(pair: Pair) {
    let gateway = Gateway::behaving(pair, |behaviour| behaviour.standalone = false).await;
    let mut caller = gateway.caller().await;
    let wanted = json!({"toolsListChanged": true, "resourceSubscriptions": ["file:///a"]});
    caller.listen_to("deaf", wanted, &json!({})).await;
}

async fn r220_a_server_without_subscriptions_refuses(pair: Pair) {
    let gateway = Gateway::behaving(pair, |behaviour| {
        behaviour.capabilities["resources"] = json!({});
    })
    .await;
    let no_such_method = thinpipe_testkit::Script::error(200, -32601, "no subscriptions");
    if !pair.server.is_modern() {
        gateway.upstream.on("resources/subscribe", no_such_method);
    }
    let mut caller = gateway.caller().await;
    let refused = caller
        .answer(1, "resources/subscribe", uri("file:///a"))
        .await;
    assert_eq!(refused["error"]["code"], -32601, "{refused}");
}

async fn r220_what_is_not_acknowledged_is_refused(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    caller.subscribe("file:///a").await;
    gateway
        .upstream
        .set(|behaviour| behaviour.capabilities["resources"] = json!({}));
    let refused = caller
        .answer(1, "resources/subscribe", uri("file:///b"))
        .await;
    assert_eq!(refused["error"]["code"], -32602, "{refused}");
    // What was there before still is.
    let again = caller
        .result(2, "resources/subscribe", uri("file:///a"))
        .await;
    assert_eq!(again, json!({}));
}

async fn r221_one_more_subscription_loses_and_doubles_nothing(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    caller.listen().await;
    let resources = ["file:///1", "file:///2", "file:///3", "file:///4"];
    for (count, resource) in resources.iter().enumerate() {
        caller.subscribe(resource).await;
        for told in &resources[..=count] {
            gateway.upstream.announce(UPDATED, &uri(told));
        }
        for expected in &resources[..=count] {
            assert_eq!(caller.unasked().await["params"]["uri"], *expected);
        }
    }
    // A fifth merges them: each is told of once more, since something may have been lost.
    caller.subscribe("file:///5").await;
    let mut told = Vec::new();
    for _ in resources {
        told.push(caller.unasked().await["params"]["uri"].clone());
    }
    told.sort_by_key(Value::to_string);
    assert_eq!(told, resources);
    gateway.upstream.announce(UPDATED, &uri("file:///5"));
    assert_eq!(caller.unasked().await["params"]["uri"], "file:///5");
}

async fn r221_a_gap_is_made_up_for(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    caller.listen().await;
    caller.subscribe("file:///a").await;
    somebody_listens(&gateway).await;
    let before = gateway.upstream.record().count("subscriptions/listen");
    gateway.upstream.end_listens(false);
    let mut told = Vec::new();
    for _ in 0..4 {
        let notice = caller.unasked().await;
        let about = notice["params"]["uri"].as_str().unwrap_or_default();
        told.push(format!(
            "{} {about}",
            notice["method"].as_str().unwrap_or_default()
        ));
    }
    told.sort();
    assert_eq!(
        told,
        [
            "notifications/prompts/list_changed ",
            "notifications/resources/list_changed ",
            "notifications/resources/updated file:///a",
            "notifications/tools/list_changed ",
        ]
    );
    gateway
        .upstream
        .wait_until(|record: &Record| record.count("subscriptions/listen") >= before + 2)
        .await;
}

async fn r239_a_lost_session_is_made_up_for(pair: Pair) {
    let gateway = Gateway::with(pair, crate::calling::WITH_TOKENS).await;
    let who = crate::caller::Introduction::with_token(crate::calling::ALICE);
    let mut caller = gateway.caller_who(&who).await;
    let wanted = json!({"toolsListChanged": true, "resourceSubscriptions": ["file:///a"]});
    caller.listen_to("L", wanted.clone(), &wanted).await;
    let session = gateway.upstream.sessions().pop().expect("a session");
    gateway.upstream.forget(&session);
    let mut told = Vec::new();
    for _ in 0..2 {
        told.push(caller.unasked().await["method"].clone());
    }
    told.sort_by_key(Value::to_string);
    assert_eq!(told, [UPDATED, "notifications/tools/list_changed"]);
    let session = gateway.upstream.sessions().pop().expect("a new session");
    assert_eq!(gateway.upstream.subscriptions(&session), ["file:///a"]);
}

async fn r242_r243_a_listen_has_its_own_stamp_and_ends_with_the_servers(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    let mut other = gateway.caller().await;
    let wanted = json!({"toolsListChanged": true});
    caller.listen_to("same", wanted.clone(), &wanted).await;
    other.listen_to("same", wanted.clone(), &wanted).await;
    gateway
        .upstream
        .announce("notifications/tools/list_changed", &json!({}));
    for caller in [&mut caller, &mut other] {
        let told = caller.unasked().await;
        assert_eq!(told["params"]["_meta"][rpc::SUBSCRIPTION], "same");
    }
    gateway.upstream.end_listens(true);
    for caller in [&mut caller, &mut other] {
        let end = caller.unasked().await;
        assert_eq!(end["id"], "same");
        assert_eq!(end["result"]["resultType"], "complete");
        assert_eq!(end["result"]["_meta"][rpc::SUBSCRIPTION], "same");
    }
}

async fn r243_a_cancelled_listen_ends_with_a_result(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    let wanted = json!({"toolsListChanged": true});
    caller.listen_to("L", wanted.clone(), &wanted).await;
    gateway.upstream.end_listens(false);
    let end = caller.unasked().await;
    assert_eq!(end["id"], "L", "{end}");
    assert_eq!(end["result"]["resultType"], "complete", "{end}");
}

async fn r243_a_closed_listen_is_closed_at_the_server(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    caller.subscribe("file:///a").await;
    drop(caller);
    match pair.server {
        Server::Stateless | Server::StdioModern => {
            let closed = async || match gateway.upstream.listens() {
                0 => Ok(()),
                listens => Err(format!("{listens} listens")),
            };
            thinpipe_testkit::eventually("the listen is closed", closed).await;
        }
        Server::HttpSse | Server::Sessions | Server::StdioLegacy => {
            gateway.upstream.nth("resources/unsubscribe", 0).await;
        }
    }
}

async fn r239_a_listen_hears_what_it_asked_for(pair: Pair) {
    let gateway = Gateway::with(pair, crate::calling::WITH_TOKENS).await;
    let who = crate::caller::Introduction::with_token(crate::calling::ALICE);
    let mut tools = gateway.caller_who(&who).await;
    let mut prompts = gateway.caller_who(&who).await;
    let wanted = json!({"toolsListChanged": true});
    tools.listen_to("tools", wanted.clone(), &wanted).await;
    let wanted = json!({"promptsListChanged": true});
    prompts.listen_to("prompts", wanted.clone(), &wanted).await;
    for kind in ["prompts", "tools"] {
        gateway
            .upstream
            .announce(&format!("notifications/{kind}/list_changed"), &json!({}));
    }
    for (caller, kind) in [(&mut tools, "tools"), (&mut prompts, "prompts")] {
        let told = caller.unasked().await;
        assert_eq!(told["method"], format!("notifications/{kind}/list_changed"));
        assert_eq!(told["params"]["_meta"][rpc::SUBSCRIPTION], kind);
    }
}
