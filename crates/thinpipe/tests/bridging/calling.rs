//! Requests of clients, their answers, and what comes before these.

use serde_json::{Value, json};
use thinpipe_testkit::rpc;

use crate::caller::Introduction;
use crate::gateway::{Gateway, Settings};
use crate::pairs::{Pair, Server};

rows! {
    /// R210, R211, R212: the answer has the request's own id, whatever that is.
    all r210_a_call_is_answered_under_its_id;
    /// R210, R242: progress has the client's token, comes in order, and before the answer.
    all r210_r242_progress_has_the_clients_token;
    /// Protocol notes 5.2: every method that the server has can be used.
    all r210_r230_every_method_reaches_the_server;
    /// Protocol notes 5.4.3, "Pagination": every page is reached, though cursors are of one session.
    all r230_every_page_of_a_list_is_reached;
    /// R232: a resource that does not exist, in the client's revision.
    all r232_a_missing_resource_is_refused_as_the_revision_has_it;
    /// R228, R245: a method that the server does not have.
    all r228_r245_an_unknown_method_is_refused_as_the_binding_has_it;
    /// Protocol notes 5.4.1: what the server does not declare is refused before it.
    c r230_what_the_server_does_not_declare_is_not_found;
    /// Errors of a tool are the server's own, code and text.
    all r210_r245_errors_keep_their_code_and_text;
    /// Protocol notes 5.4.1: codes that are reserved mean nothing from a legacy server.
    c r232_reserved_codes_of_a_legacy_server_are_internal_errors;
    /// Protocol notes 2.3.4: the headers that a tool's schema wants.
    b_http r216_headers_of_a_tool_are_made_from_its_schema;
    /// R219 and protocol notes 5.2: `ping`, where there is such a thing.
    all r219_ping_is_answered_or_not_known;
    /// Protocol notes 5.2, 5.4.1: a server that wants to know whether anybody is there is told so.
    ac r214_a_ping_of_the_server_is_answered;
    /// Figures: no handshake for each call once a session is there.
    c r230_a_warm_pool_makes_no_handshakes;
    /// R247: tasks are off, on either side.
    bc r247_tasks_are_off;
}

async fn r210_a_call_is_answered_under_its_id(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    for id in [
        json!(7),
        json!("7"),
        json!("id \u{e9}"),
        json!(9_007_199_254_740_993_u64),
    ] {
        let arguments = json!({"text": "\u{1f600} and \u{2028}"});
        let params = json!({"name": "echo", "arguments": arguments});
        let result = caller.result(id, "tools/call", params).await;
        let text = result["content"][0]["text"].as_str().expect("a text");
        assert_eq!(serde_json::from_str::<Value>(text).ok(), Some(arguments));
    }
    assert_eq!(gateway.upstream.record().count("tools/call"), 4);
}

async fn r210_r242_progress_has_the_clients_token(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    for id in [json!("p"), json!(3)] {
        let mut asked = caller
            .ask(id.clone(), "tools/call", json!({"name": "progress"}))
            .await;
        let (before, answer) = caller.all(&mut asked).await;
        let seen: Vec<_> = before
            .iter()
            .map(|message| {
                let params = &message["params"];
                (
                    message["method"].as_str(),
                    &params["progressToken"],
                    params["progress"].as_u64(),
                )
            })
            .collect();
        let expected = [1, 2, 3].map(|n| (Some("notifications/progress"), &id, Some(n)));
        assert_eq!(seen, expected);
        assert_eq!(answer["id"], id);
        assert_eq!(answer["result"]["content"][0]["text"], "progressed");
    }
}

async fn r210_r230_every_method_reaches_the_server(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    let prompt = caller
        .result(1, "prompts/get", json!({"name": "greet"}))
        .await;
    assert_eq!(prompt["messages"][0]["content"]["text"], "hello");
    let read = caller
        .result(2, "resources/read", json!({"uri": "file:///a"}))
        .await;
    assert_eq!(read["contents"][0]["text"], "text");
    let argument = json!({"name": "who", "value": "o"});
    let reference = json!({"type": "ref/prompt", "name": "greet"});
    let params = json!({"ref": reference, "argument": argument});
    let completed = caller.result(3, "completion/complete", params).await;
    assert_eq!(completed["completion"]["values"], json!(["one", "two"]));
    for result in [prompt, read, completed] {
        let expected = pair.client.is_modern().then_some("complete");
        assert_eq!(result["resultType"].as_str(), expected, "{result}");
    }
}

async fn r230_every_page_of_a_list_is_reached(pair: Pair) {
    let gateway = Gateway::with(pair, WITH_TOKENS).await;
    let mut caller = gateway.caller_who(&Introduction::with_token(ALICE)).await;
    let mut names = Vec::new();
    let mut params = json!({});
    while names.len() < 10 {
        let page = caller.result(names.len(), "prompts/list", params).await;
        let prompts = page["prompts"].as_array().into_iter().flatten();
        names.extend(prompts.map(|prompt| prompt["name"].clone()));
        if page["nextCursor"].is_null() {
            break;
        }
        params = json!({"cursor": page["nextCursor"]});
    }
    assert_eq!(names, ["greet", "ask"]);
    let bad = caller
        .answer("bad", "prompts/list", json!({"cursor": "made up"}))
        .await;
    assert_eq!(bad["error"]["code"], -32602, "{bad}");
}

async fn r232_a_missing_resource_is_refused_as_the_revision_has_it(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    let uri = json!({"uri": "file:///missing"});
    let mut asked = caller.ask(1, "resources/read", uri.clone()).await;
    let refused = caller.next(&mut asked).await;
    // Legacy clients know the code of 2026-07-28 too: servers have used it before.
    let both_legacy = !pair.client.is_modern() && !pair.server.is_modern();
    let code = if both_legacy { -32002 } else { -32602 };
    assert_eq!(refused["error"]["code"], code, "{refused}");
    assert_eq!(refused["error"]["data"], uri, "{refused}");
}

async fn r228_r245_an_unknown_method_is_refused_as_the_binding_has_it(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    let mut asked = caller.ask("x", "no/such", json!({})).await;
    let status = asked.status().await;
    let refused = caller.next(&mut asked).await;
    assert_eq!(refused["error"]["code"], -32601, "{refused}");
    assert_eq!(refused["id"], "x");
    let expected = if pair.client.is_modern() { 404 } else { 200 };
    assert!(status.is_none_or(|status| status == expected), "{status:?}");
}

async fn r230_what_the_server_does_not_declare_is_not_found(pair: Pair) {
    let gateway = Gateway::behaving(pair, |behaviour| {
        behaviour.capabilities = json!({"tools": {}});
    })
    .await;
    let mut caller = gateway.caller().await;
    for method in ["prompts/list", "resources/list", "completion/complete"] {
        let mut asked = caller.ask(method, method, json!({})).await;
        assert_eq!(asked.status().await, Some(404), "{method}");
        assert_eq!(caller.next(&mut asked).await["error"]["code"], -32601);
        assert_eq!(gateway.upstream.record().count(method), 0);
    }
}

async fn r210_r245_errors_keep_their_code_and_text(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let data = json!({"detail": 1.50});
    let error = rpc::error_with(-31999, "of the server's own", &data);
    gateway
        .upstream
        .on("tools/call:echo", thinpipe_testkit::Script::json(error));
    let mut caller = gateway.caller().await;
    let mut asked = caller.ask(1, "tools/call", json!({"name": "echo"})).await;
    assert!(asked.status().await.is_none_or(|status| status == 200));
    let refused = caller.next(&mut asked).await;
    let expected = json!({"code": -31999, "message": "of the server's own", "data": data});
    assert_eq!(refused["error"], expected);
}

async fn r232_reserved_codes_of_a_legacy_server_are_internal_errors(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let error = rpc::error(-32021, "of no meaning here");
    gateway
        .upstream
        .on("tools/call:echo", thinpipe_testkit::Script::json(error));
    let mut caller = gateway.caller().await;
    let mut asked = caller.ask(1, "tools/call", json!({"name": "echo"})).await;
    assert_eq!(asked.status().await, Some(200));
    assert_eq!(caller.next(&mut asked).await["error"]["code"], -32603);
}

async fn r216_headers_of_a_tool_are_made_from_its_schema(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    // No list was asked for by this client: the gateway has to.
    let mut caller = gateway.caller().await;
    for region in ["eu", "\u{65e5}\u{672c}"] {
        let params = json!({"name": "region", "arguments": {"region": region}});
        caller.answer(region, "tools/call", params).await;
        let call = gateway
            .upstream
            .requests("tools/call:region")
            .pop()
            .expect("it came");
        let encoded = if region == "eu" {
            "eu"
        } else {
            "=?base64?5pel5pys?="
        };
        assert_eq!(call.headers.get("Mcp-Param-Region"), Some(encoded));
        assert_eq!(call.headers.get("Mcp-Name"), Some("region"));
        assert_eq!(call.headers.get("Mcp-Method"), Some("tools/call"));
        assert_eq!(call.headers.get("MCP-Protocol-Version"), Some(rpc::MODERN));
    }
}

async fn r219_ping_is_answered_or_not_known(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    let mut asked = caller.ask(1, "ping", json!({})).await;
    if pair.client.is_modern() {
        assert_eq!(asked.status().await, Some(404));
        assert_eq!(caller.next(&mut asked).await["error"]["code"], -32601);
        return;
    }
    assert_eq!(caller.next(&mut asked).await["result"], json!({}));
    let expected = usize::from(!pair.server.is_modern());
    assert_eq!(gateway.upstream.record().count("ping"), expected);
}

async fn r214_a_ping_of_the_server_is_answered(pair: Pair) {
    let gateway = Gateway::with(pair, WITH_TOKENS).await;
    let mut caller = gateway.caller_who(&Introduction::with_token(ALICE)).await;
    caller.result(1, "tools/list", json!({})).await;
    caller.listen().await;
    let session = gateway.upstream.sessions().pop().expect("a session");
    gateway
        .upstream
        .notify(&session, rpc::request("are you there", "ping", &json!({})));
    if !pair.client.is_modern() {
        let ping = caller.unasked().await;
        assert_eq!(ping["method"], "ping");
        caller
            .tell(rpc::response(ping["id"].clone(), &json!({})))
            .await;
    }
    let answers = |record: &thinpipe_testkit::Record| {
        let mut answers = record.received.iter();
        answers.any(|answer| {
            answer.id_text() == Some("\"are you there\"") && answer.json()["result"] == json!({})
        })
    };
    gateway.upstream.wait_until(answers).await;
}

async fn r230_a_warm_pool_makes_no_handshakes(pair: Pair) {
    let gateway = Gateway::with(pair, WITH_TOKENS).await;
    let mut caller = gateway.caller_who(&Introduction::with_token(ALICE)).await;
    caller
        .result("warm", "tools/call", json!({"name": "echo"}))
        .await;
    let opened = gateway.upstream.record().count("initialize");
    for id in 0..20 {
        caller
            .result(id, "tools/call", json!({"name": "echo"}))
            .await;
    }
    assert_eq!(gateway.upstream.record().count("initialize"), opened);
    assert_eq!(gateway.upstream.sessions().len(), 1);
}

async fn r247_tasks_are_off(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    let params = json!({"name": "echo", "arguments": {}, "task": {"ttl": 1000}});
    caller.result(1, "tools/call", params).await;
    let call = gateway
        .upstream
        .requests("tools/call")
        .pop()
        .expect("it came");
    assert_eq!(call.json()["params"].get("task"), None);
    for method in ["tasks/get", "tasks/cancel", "tasks/list", "tasks/result"] {
        let refused = caller.answer(method, method, json!({"taskId": "t"})).await;
        assert_eq!(refused["error"]["code"], -32601, "{method}");
        assert_eq!(gateway.upstream.record().count(method), 0);
    }
    if pair.server == Server::Stateless {
        let extensions = &call.declared()["extensions"];
        assert_eq!(extensions.get("io.modelcontextprotocol/tasks"), None);
    }
}

/// Two principals; what is done for one is not done for the other.
pub(crate) const WITH_TOKENS: Settings = Settings {
    gateway: "[[tokens]]\nprincipal = \"alice\"\ntoken = \"alice-0123456789abcdef\"\n\
              [[tokens]]\nprincipal = \"bob\"\ntoken = \"bob-0123456789abcdef\"\n",
    upstream: "",
    behaviour: None,
};

pub(crate) const ALICE: &str = "alice-0123456789abcdef";
pub(crate) const BOB: &str = "bob-0123456789abcdef";
