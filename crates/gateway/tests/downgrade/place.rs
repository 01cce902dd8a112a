//! A server with sessions, the gateway before it, and clients of 2026-07-28.

use serde_json::{Value, json};
use thinpipe_gateway::{HttpUpstream, Reached, StateKey, UpstreamSpec};
use thinpipe_proto::revision::Binding;
use thinpipe_testkit::rpc::Modern;
use thinpipe_testkit::{Behaviour, Client, Connection, Era, Response, Upstream, rpc};
use thinpipe_transport::server::ServerConfig;
use thinpipe_transport::upstream::UpstreamConfig;
use thinpipe_transport::upstream::stdio::StdioConfig;

use crate::front::{Front, tokens};

/// How the server is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    HttpSse,
    Sessions,
    Stdio,
}

/// All of them.
pub(crate) const WAYS: [Way; 3] = [Way::HttpSse, Way::Sessions, Way::Stdio];

/// Tokens, which are their principals' names too.
pub(crate) const ALICE: &str = "alice";
pub(crate) const BOB: &str = "bob";

pub(crate) struct Place {
    pub(crate) upstream: Upstream,
    pub(crate) front: Front,
}

impl Place {
    /// Clients need a token here.
    pub(crate) async fn start(way: Way) -> Self {
        Self::with(way, |_| {}, |_| {}).await
    }

    pub(crate) async fn with(
        way: Way,
        behave: impl FnOnce(&mut Behaviour),
        change: impl FnOnce(&mut UpstreamSpec),
    ) -> Self {
        Self::open_to(way, &[ALICE, BOB], behave, change, |_| {}).await
    }

    /// With other settings of the server side.
    pub(crate) async fn configured(way: Way, configure: impl FnOnce(&mut ServerConfig)) -> Self {
        Self::open_to(way, &[ALICE, BOB], |_| {}, |_| {}, configure).await
    }

    /// The same, of a gateway with these keys, before a server at a URL.
    pub(crate) async fn keyed(keys: Vec<StateKey>) -> Self {
        let upstream = Upstream::start().await;
        upstream.set(|behaviour| {
            behaviour.full = true;
            behaviour.era = Era::Sessions;
        });
        let reached = reached(Way::Sessions, &upstream);
        let tokens = tokens(&[ALICE, BOB]);
        let front = Front::keyed(reached, |_| {}, |config| config.tokens = tokens, keys).await;
        Self { upstream, front }
    }

    /// Nobody needs a token here.
    pub(crate) async fn anonymous(way: Way) -> Self {
        Self::open_to(way, &[], |_| {}, |_| {}, |_| {}).await
    }

    /// Clients are these principals; none: nobody needs a token.
    pub(crate) async fn open_to(
        way: Way,
        principals: &[&str],
        behave: impl FnOnce(&mut Behaviour),
        change: impl FnOnce(&mut UpstreamSpec),
        configure: impl FnOnce(&mut ServerConfig),
    ) -> Self {
        let upstream = Upstream::start().await;
        upstream.set(|behaviour| {
            behaviour.full = true;
            behaviour.era = Era::Sessions;
            behaviour.heeds_cancel = true;
            behave(behaviour);
        });
        let tokens = tokens(principals);
        let reached = reached(way, &upstream);
        let front = Front::with(reached, change, |config| {
            config.tokens = tokens;
            configure(config);
        })
        .await;
        Self { upstream, front }
    }

    /// Until the server has no session any more.
    pub(crate) async fn no_session_is_left(&self) {
        thinpipe_testkit::eventually("the sessions have ended", async || {
            match self.upstream.sessions() {
                sessions if sessions.is_empty() => Ok(()),
                sessions => Err(format!("{sessions:?}")),
            }
        })
        .await;
    }

    pub(crate) fn client(&self, token: &str) -> Client {
        Client::new(&self.front.mcp).with_token(token)
    }

    /// How many requests of this kind the server got.
    pub(crate) fn count(&self, what: &str) -> usize {
        self.upstream.requests(what).len()
    }
}

fn reached(way: Way, upstream: &Upstream) -> Reached {
    let http = |url: &str, pin| {
        let client = UpstreamConfig::new("up".into(), url.parse().expect("a URL"));
        Reached::Http(HttpUpstream {
            pin: Some(pin),
            ..HttpUpstream::new(client)
        })
    };
    match way {
        Way::HttpSse => http(&upstream.sse_url(), Binding::HttpSse),
        Way::Sessions => http(upstream.url(), Binding::Sessions),
        Way::Stdio => {
            let [program, argument] = upstream.program();
            let mut config = StdioConfig::new("up".into(), program);
            config.args = vec![argument.into()];
            config.into()
        }
    }
}

/// What clients can do, if nothing else is said.
pub(crate) fn everything() -> Value {
    json!({"elicitation": {"form": {}, "url": {}}, "sampling": {}})
}

/// `tools/call` by a client that can do everything.
pub(crate) fn call(id: impl Into<Value>, tool: &str) -> Modern {
    request(id, "tools/call", json!({"name": tool, "arguments": {}}))
}

pub(crate) fn request(id: impl Into<Value>, method: &str, params: Value) -> Modern {
    rpc::modern(id, method, params).declaring(&everything())
}

/// The retry of a request, with answers to what was asked.
pub(crate) fn retry(id: i64, request: &Modern, asked: &Value, answers: &Value) -> Modern {
    let mut body: Value = serde_json::from_str(&request.body).unwrap();
    body["id"] = id.into();
    body["params"]["requestState"] = asked["result"]["requestState"].clone();
    body["params"]["inputResponses"] = answers.clone();
    Modern {
        body: body.to_string(),
        headers: request.headers.clone(),
    }
}

/// The same answer to everything that was asked.
pub(crate) fn answers(asked: &Value, answer: &Value) -> Value {
    let asked = asked["result"]["inputRequests"]
        .as_object()
        .expect("questions");
    asked
        .keys()
        .map(|key| (key.clone(), answer.clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

pub(crate) fn accepted() -> Value {
    json!({"action": "accept", "content": {"answer": "4A"}})
}

/// What a POST is answered, the last message of it.
pub(crate) async fn ask(client: &Client, request: &Modern) -> Value {
    client.post_modern(request).await.answer().await
}

/// The first answer, which asks for input.
pub(crate) async fn asked(client: &Client, request: &Modern) -> Value {
    let answer = ask(client, request).await;
    assert_eq!(answer["result"]["resultType"], "input_required", "{answer}");
    assert!(answer["result"]["requestState"].is_string(), "{answer}");
    answer
}

/// Makes a request without waiting for its answer.
pub(crate) async fn send(client: &Client, request: &Modern) -> Connection {
    client.post_modern(request).send().await
}

/// A listen, and its acknowledgement.
pub(crate) async fn listen(client: &Client, id: &str, notifications: Value) -> (Response, Value) {
    let params = json!({"notifications": notifications});
    let request = request(id, "subscriptions/listen", params);
    let mut response = client.post_modern(&request).await;
    assert_eq!(response.status, 200);
    let acknowledged = response.next_message().await;
    assert_eq!(
        acknowledged["method"],
        "notifications/subscriptions/acknowledged"
    );
    assert_eq!(stamp(&acknowledged), id);
    let honoured = acknowledged["params"]["notifications"].clone();
    (response, honoured)
}

pub(crate) fn stamp(message: &Value) -> &Value {
    &message["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"]
}
