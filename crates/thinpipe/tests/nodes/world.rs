//! A Redis, a server, and gateways between them that all have one file.

use serde_json::json;
use thinpipe_testkit::{Behaviour, Client, Redis, RedisCluster, Upstream, rpc};

use crate::support::{Gateway, Settings};

/// Id of a call in a session that is over.
const GONE: &str = "gone";

/// Gateways that keep their sessions in what they do not share only.
pub(crate) const HELD: &str = "resume = \"log\"";

/// Both kinds of sessions: those that any gateway takes up by itself, and those that one holds for all.
pub(crate) const BOTH: [&str; 2] = ["", HELD];

/// How servers of older kinds are reached.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Way {
    HttpSse,
    /// Each gateway starts programs for itself.
    Program,
}

/// What gateways have in common. They are started one by one, and end with their test.
pub(crate) struct World {
    /// One, or those of a cluster.
    pub(crate) redis: Vec<Redis>,
    pub(crate) upstream: Upstream,
    file: String,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(Settings::default()).await
    }

    /// Gateways with these settings.
    pub(crate) async fn with(settings: Settings<'_>) -> Self {
        Self::of(settings, |_| {}).await
    }

    /// Gateways with these settings, before a server that behaves so.
    pub(crate) async fn of(settings: Settings<'_>, behave: impl FnOnce(&mut Behaviour)) -> Self {
        let upstream = Upstream::start().await;
        upstream.set(behave);
        let place = format!("url = {:?}", upstream.url());
        let redis = Redis::start().await;
        let store = redis.url();
        Self::around(vec![redis], &store, upstream, &place, settings)
    }

    /// The server is reached otherwise than over Streamable HTTP.
    pub(crate) async fn reached(way: Way, settings: Settings<'_>) -> Self {
        let upstream = Upstream::start().await;
        let [program, argument] = upstream.program();
        let place = match way {
            Way::HttpSse => format!("url = {:?}", upstream.sse_url()),
            Way::Program => format!("command = {program:?}\nargs = [{argument:?}]"),
        };
        let redis = Redis::start().await;
        let store = redis.url();
        Self::around(vec![redis], &store, upstream, &place, settings)
    }

    /// The store is a cluster of three.
    pub(crate) async fn in_cluster(settings: Settings<'_>) -> Self {
        let upstream = Upstream::start().await;
        let place = format!("url = {:?}", upstream.url());
        let cluster = RedisCluster::start().await;
        let store = cluster.url();
        Self::around(cluster.nodes, &store, upstream, &place, settings)
    }

    fn around(
        redis: Vec<Redis>,
        store: &str,
        upstream: Upstream,
        place: &str,
        settings: Settings<'_>,
    ) -> Self {
        let (gateway, more) = (settings.gateway, settings.upstream);
        let file = format!("store = {store:?}\n{gateway}\n[[upstreams]]\n{place}\n{more}\n");
        Self {
            redis,
            upstream,
            file,
        }
    }

    /// One more gateway, that may not have reached the store yet.
    pub(crate) async fn starting(&self) -> Gateway {
        Gateway::with_file(&self.file).await
    }

    /// One more gateway.
    pub(crate) async fn gateway(&self) -> Gateway {
        let gateway = self.starting().await;
        gateway.process.line_with("sessions are kept in ").await;
        gateway
    }

    /// Three gateways.
    pub(crate) async fn three(&self) -> [Gateway; 3] {
        [
            self.gateway().await,
            self.gateway().await,
            self.gateway().await,
        ]
    }

    /// How often the server was asked this.
    pub(crate) fn counted(&self, what: &str) -> usize {
        self.upstream.requests(what).len()
    }

    /// How many sessions, calls and ends of sessions the server was asked for. Calls of [`is_gone`] are left out: a
    /// gateway that has not heard yet that a session is over asks the server, which refuses.
    pub(crate) fn opened_called_ended(&self) -> [usize; 3] {
        let calls = self.upstream.requests("tools/call");
        let called = calls.iter().filter(|call| call.json()["id"] != GONE);
        [
            self.counted("initialize"),
            called.count(),
            self.counted("DELETE"),
        ]
    }
}

/// A call of this client is answered, once and with its own id.
pub(crate) async fn answers(client: &Client, id: &str) {
    let mut answer = client.post(rpc::call(id, "echo")).await;
    let status = answer.status;
    let message = answer.answer().await;
    assert_eq!((status, &message["id"]), (200, &json!(id)), "{message}");
    assert!(message["result"].is_object(), "{message}");
}

/// The session of this client is over, and it is told so.
pub(crate) async fn is_gone(client: &Client) {
    let mut answer = client.post(rpc::call(GONE, "echo")).await;
    let error = answer.json().await;
    assert_eq!(
        (answer.status, &error["error"]["data"]["reason"]),
        (404, &json!("session_not_found"))
    );
}
