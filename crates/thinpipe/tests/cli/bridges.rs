//! Clients of one era and servers of the other, as the settings have it.

use serde_json::{Value, json};
use thinpipe_testkit::{Client, Era, Script, Upstream, rpc};

use crate::support::{Gateway, Sample, temporary};

const DISCOVER: &str = r#"{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}"#;
const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}"#;

/// A gateway with one upstream, written so.
fn in_front(upstream: &str) -> Gateway {
    let text = format!("listen = \"127.0.0.1:0\"\nadmin = \"off\"\n[[upstreams]]\n{upstream}\n");
    let file = temporary("bridges.toml", &text);
    Gateway::start(&["serve", "--config", file.path()], &[])
}

/// 1.2: whom a server is not given hears which revisions there are, before the server is asked.
#[test]
fn clients_that_are_not_let_in_are_told_what_there_is() {
    let sample = Sample::start();
    for (clients, refused, admitted, requested, supported) in [
        (
            "legacy",
            DISCOVER,
            INITIALIZE,
            "2026-07-28",
            json!(["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"]),
        ),
        (
            "modern",
            INITIALIZE,
            DISCOVER,
            "2025-11-25",
            json!(["2026-07-28"]),
        ),
    ] {
        let gateway = in_front(&format!(
            "url = \"{}\"\nclients = \"{clients}\"",
            sample.url
        ));
        let answer = gateway.post(refused);
        assert_eq!(answer.status, 400, "{clients}: {}", answer.body);
        let error: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(error["error"]["code"], -32022, "{error}");
        let data = &error["error"]["data"];
        assert_eq!(
            (&data["supported"], &data["requested"]),
            (&supported, &json!(requested))
        );
        // Whoever reads the log is told why, too.
        gateway.program.said_until("reason=\"unsupported_version\"");
        let answer = gateway.post(admitted);
        assert_eq!(answer.status, 200, "{clients}: {}", answer.body);
        let said = gateway
            .program
            .said_until("for the configuration of a client");
        let has_sse = said.contains("HTTP+SSE (deprecated)");
        assert_eq!(has_sse, clients == "legacy", "{said}");
    }
}

/// `state_keys`: what one process has sealed another one opens if it has the key, and says that the call is
/// not there (5.8, 7); without the key it is nothing.
#[tokio::test]
async fn what_was_sealed_opens_where_the_key_is() {
    let upstream = Upstream::start().await;
    upstream.set(|behaviour| {
        behaviour.full = true;
        behaviour.era = Era::Sessions;
    });
    let in_front = |keys: &[&str]| {
        let keys = keys.iter().map(|digits| {
            let key = digits.repeat(32);
            format!("[[state_keys]]\nkey = \"{key}\"\n")
        });
        let keys: String = keys.collect();
        let url = upstream.url();
        let text = format!(
            "listen = \"127.0.0.1:0\"\nadmin = \"off\"\n{keys}[[upstreams]]\nurl = \"{url}\"\n"
        );
        let file = temporary("keys.toml", &text);
        Gateway::start(&["serve", "--config", file.path()], &[])
    };
    let first = in_front(&["0a"]);
    let call = rpc::modern(1, "tools/call", json!({"name": "ask", "arguments": {}}))
        .declaring(&json!({"elicitation": {"form": {}, "url": {}}, "sampling": {}}));
    let asked = Client::new(&first.url)
        .post_modern(&call)
        .await
        .answer()
        .await;
    assert_eq!(asked["result"]["resultType"], "input_required", "{asked}");
    let mut body: Value = serde_json::from_str(&call.body).unwrap();
    body["params"]["requestState"] = asked["result"]["requestState"].clone();
    body["params"]["inputResponses"] = json!({});
    let retry = rpc::Modern {
        body: body.to_string(),
        headers: call.headers.clone(),
    };
    for (keys, code, reason) in [
        (&["0b", "0a"][..], -32603, json!("exchange_lost")),
        (&["0b"], -32602, Value::Null),
        (&[], -32602, Value::Null),
    ] {
        let other = in_front(keys);
        let answer = Client::new(&other.url)
            .post_modern(&retry)
            .await
            .answer()
            .await;
        assert_eq!(answer["error"]["code"], code, "{keys:?} {answer}");
        assert_eq!(
            answer["error"]["data"]["reason"], reason,
            "{keys:?} {answer}"
        );
    }
    assert_eq!(
        upstream.requests("tools/call").len(),
        1,
        "it is never run twice"
    );
}

/// R189: what is private is kept for its principal, whichever of their tokens comes; clients without tokens
/// are one.
#[tokio::test]
async fn r189_private_answers_are_kept_by_principal() {
    let token = |principal: &str, n: u8| {
        format!("[[tokens]]\nprincipal = \"{principal}\"\ntoken = \"0123456789abcde{n}\"\n")
    };
    let tokens = [token("alice", 1), token("alice", 2), token("bob", 3)].concat();
    for (tokens, senders, asked) in [
        (&*tokens, &[Some(1), Some(2), Some(3), Some(1)][..], 2),
        ("", &[None, None], 1),
    ] {
        let upstream = Upstream::start().await;
        upstream.set(|behaviour| behaviour.era = Era::Stateless);
        upstream.on_each("tools/list", |request| {
            let result = json!({"resultType": "complete", "tools": [], "ttlMs": 3_600_000, "cacheScope": "private"});
            let answer = json!({"jsonrpc": "2.0", "id": request.json()["id"], "result": result});
            Some(Script::json(answer))
        });
        let text = format!(
            "listen = \"127.0.0.1:0\"\nadmin = \"off\"\n{tokens}[[upstreams]]\nurl = \"{}\"\n",
            upstream.url()
        );
        let file = temporary("principals.toml", &text);
        let gateway = Gateway::start(&["serve", "--config", file.path()], &[]);
        for sender in senders {
            let client = Client::new(&gateway.url);
            let client = match sender {
                Some(n) => client.with_token(&format!("0123456789abcde{n}")),
                None => client,
            };
            let list = rpc::modern(1, "tools/list", json!({}));
            let answer = client.post_modern(&list).await.answer().await;
            assert_eq!(answer["result"]["tools"], json!([]), "{answer}");
        }
        assert_eq!(upstream.requests("tools/list").len(), asked, "{senders:?}");
    }
}
