//! A server in several processes that share their stores.

use std::sync::Arc;

use serde_json::{Value, json};
use thinpipe_store::{Inbox, LogLimits, MemoryInbox, MemoryLog, MemoryStore, SessionStore};
use thinpipe_testkit::{Client, RequestBuilder, Response, eventually, rpc};
use thinpipe_transport::mcp::config::{HttpTransportConfig, Resumability};
use thinpipe_transport::mcp::{
    Context, LogLevel, McpServer, RpcError, ServerInfo, Tool, ToolResult, Tools,
};
use thinpipe_transport::server::{SharedStores, Stores};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

pub(crate) const REVISION: &str = "2025-11-25";

pub(crate) struct Process {
    pub(crate) server: McpServer,
    pub(crate) url: String,
    serving: JoinHandle<()>,
}

/// Two of them; whether their sessions go on in the other one.
async fn two(go_on: bool) -> [Process; 2] {
    two_over(Arc::new(MemoryStore::default()), go_on).await
}

/// The same, with this store of sessions.
pub(crate) async fn two_over(sessions: Arc<dyn SessionStore>, go_on: bool) -> [Process; 2] {
    let inbox = Arc::new(MemoryInbox::default());
    let stores = Stores {
        sessions,
        shared: Some(SharedStores {
            log: Arc::new(MemoryLog::new(LogLimits::default())),
            inbox: Arc::clone(&inbox) as _,
        }),
    };
    let mut processes = Vec::new();
    for _ in 0..2 {
        let config = HttpTransportConfig {
            resumability: Some(Resumability::default()),
            ..HttpTransportConfig::default()
        };
        let server = McpServer::streamable(config, tools(go_on)).unwrap();
        let server = server.stores(stores.clone()).build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let serving = server.clone();
        let serving =
            TaskTracker::new().spawn(async move { serving.serve_on(listener).await.unwrap() });
        let this = server.server().nodes().unwrap().this().clone();
        while !inbox.nodes().await.unwrap().contains(&this) {
            tokio::task::yield_now().await;
        }
        processes.push(Process {
            server,
            url,
            serving,
        });
    }
    processes.try_into().ok().unwrap()
}

fn tools(go_on: bool) -> Tools {
    let mut info = ServerInfo::new("sample", "1.0.0")
        .capability("logging", json!({}))
        .capability("resources", json!({"subscribe": true, "listChanged": true}));
    if go_on {
        info = info.with_sessions_that_go_on();
    }
    Tools::new(info)
        .tool(
            Tool::new("log", "Logs"),
            async |_: Value, context: Context| {
                for level in [LogLevel::Info, LogLevel::Error] {
                    context.log(level, None, level.as_str()).await;
                }
                Ok::<_, RpcError>(ToolResult::text("logged"))
            },
        )
        .tool(
            Tool::new("ask", "Asks"),
            async |_: Value, context: Context| {
                let answer = context.elicit("Who?", &json!({"type": "object"})).await?;
                Ok::<_, RpcError>(ToolResult::text(answer["action"].to_string()))
            },
        )
}

impl Process {
    /// A client of this process that has set up a level and a subscription.
    async fn client(&self) -> Client {
        let mut client = Client::new(&self.url);
        let declared = json!({"elicitation": {}});
        client
            .open(rpc::initialize_declaring(0, REVISION, &declared))
            .await;
        for (id, method, params) in [
            (1, "logging/setLevel", json!({"level": "error"})),
            (2, "resources/subscribe", json!({"uri": "file:///a"})),
        ] {
            let mut answer = client.post(rpc::request(id, method, &params)).await;
            assert!(answer.answer().await["result"].is_object(), "{method}");
        }
        let [session] = &self.server.sessions().list()[..] else {
            panic!("one session");
        };
        eventually("it is stored", async || {
            let stored = String::from_utf8_lossy(&session.attachment()).into_owned();
            let is_whole = stored.contains("error") && stored.contains("file:///a");
            is_whole.then_some(()).ok_or(stored)
        })
        .await;
        client
    }

    fn with_session(&self, client: &Client, request: RequestBuilder) -> RequestBuilder {
        let request = request.header("Mcp-Session-Id", client.session().unwrap());
        request.header("MCP-Protocol-Version", REVISION)
    }

    pub(crate) async fn post(&self, client: &Client, message: impl ToString) -> Response {
        self.with_session(client, Client::new(&self.url).post(message))
            .await
    }

    pub(crate) async fn get(&self, client: &Client) -> Response {
        self.with_session(client, Client::new(&self.url).get())
            .await
    }
}

/// F9, 5.8 (10): where the server says so, a session goes on in another process with what its client has set up; it
/// reads again what nobody could tell it, and is asked under ids that are not those of before.
#[tokio::test]
async fn f9_a_session_goes_on_in_another_process() {
    let [one, other] = two(true).await;
    let client = one.client().await;
    let mut asking = client.post(rpc::call(3, "ask")).await;
    let first = asking.next_message().await["id"].clone();
    let declined = json!({"action": "decline"});
    let answer = rpc::response(first.clone(), &declined);
    assert_eq!(client.post(answer).await.status, 202);
    assert_eq!(asking.next_message().await["id"], 3);
    one.server.shut_down().await;

    let mut asking = other.post(&client, rpc::call(4, "ask")).await;
    let second = asking.next_message().await["id"].clone();
    assert_ne!(first, second);
    let answer = rpc::response(second, &declined);
    assert_eq!(other.post(&client, answer).await.status, 202);
    assert_eq!(asking.next_message().await["id"], 4);

    let mut stream = other.get(&client).await;
    for method in ["resources/list_changed", "resources/updated"] {
        let said = stream.next_message().await["method"].clone();
        assert_eq!(said, format!("notifications/{method}"));
    }
    for uri in ["file:///b", "file:///a"] {
        other.server.notifier().resource_updated(uri).await;
    }
    assert_eq!(stream.next_message().await["params"]["uri"], "file:///a");

    let mut lines = other.post(&client, rpc::call(5, "log")).await;
    assert_eq!(lines.next_message().await["params"]["level"], "error");
    assert_eq!(lines.next_message().await["id"], 5);
}

/// Where it does not, the session ends with its process; while that is there, any of them serves it.
#[tokio::test]
async fn f9_without_that_a_session_ends_with_its_process() {
    let [one, other] = two(false).await;
    let mut client = Client::new(&one.url);
    client.initialize(REVISION).await;
    let answered = other.post(&client, rpc::call(1, "log")).await;
    assert_eq!(answered.status, 200);
    one.server.shut_down().await;
    let ended = other.post(&client, rpc::call(2, "log")).await;
    assert_eq!(ended.status, 404);
}

/// C22: a program whose `main` ends when serving does cuts off no call: among several nodes too, where no connection is
/// accepted from the beginning of shutting down.
#[tokio::test]
async fn c22_serving_ends_when_shutting_down_does() {
    let [one, _other] = two(true).await;
    let client = one.client().await;
    let mut asking = client.post(rpc::call(3, "ask")).await;
    let question = asking.next_message().await["id"].clone();
    let kept = client.connect().await;
    let server = one.server.clone();
    let down = TaskTracker::new().spawn(async move { server.shut_down().await });
    let address = one.url.trim_start_matches("http://");
    let address = address.trim_end_matches("/mcp");
    eventually("nobody listens", async || {
        match TcpStream::connect(address).await {
            Ok(_) => Err("it is accepted".to_owned()),
            Err(_) => Ok(()),
        }
    })
    .await;
    assert!(!one.serving.is_finished(), "a call runs");
    let answer = rpc::response(question, &json!({"action": "decline"}));
    assert_eq!(client.post(answer).on(kept).await.status, 202);
    assert_eq!(asking.next_message().await["id"], 3);
    one.serving.await.unwrap();
    down.await.unwrap();
}
