//! Tools that have other names for clients than for the server.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use thinpipe_gateway::interceptor::{
    Action, Direction, Interceptor, Interest, MessageContext, Methods,
};
use thinpipe_proto::rpc::Message;
use thinpipe_testkit::rpc;
use thinpipe_transport::upstream::UpstreamConfig;

use super::{Front, nothing, server, tools};

/// The server's name of a tool, and the clients'.
type Names = &'static [(&'static str, &'static str)];

/// `zone` is nothing to the server; the others have each other's names.
const NAMES: Names = &[("echo", "repeat"), ("region", "zone")];
const SWAPPED: Names = &[("echo", "region"), ("region", "echo")];

/// Gives tools other names, in calls and in lists.
struct Rename(Names);

impl Interceptor for Rename {
    fn name(&self) -> &'static str {
        "rename"
    }

    fn interest(&self) -> Interest {
        let only = |method: &str| Methods::Only(vec![method.to_owned()]);
        Interest {
            to_upstream: only("tools/call"),
            to_client: only("tools/list"),
            ..Interest::default()
        }
    }

    fn intercept(&self, context: &MessageContext, message: &Message) -> Action {
        let mut json: Value = serde_json::from_slice(message.source()).unwrap();
        let rename = |name: &mut Value, up: bool| {
            let mut names = self.0.iter();
            let found = names.find(|(server, client)| *name == if up { *client } else { *server });
            if let Some((server, client)) = found {
                *name = if up { *server } else { *client }.into();
            }
        };
        match context.direction {
            Direction::ToUpstream => rename(&mut json["params"]["name"], true),
            Direction::ToClient => {
                let list = json["result"]["tools"].as_array_mut();
                for tool in list.into_iter().flatten() {
                    rename(&mut tool["name"], false);
                }
            }
        }
        Action::Replace(Bytes::from(json.to_string()))
    }
}

async fn renamed(names: Names, has_cache: bool) -> Front {
    let upstream = server("public").await;
    let url = upstream.url().parse().unwrap();
    let reached = UpstreamConfig::new("up".into(), url).into();
    let rename: Arc<dyn Interceptor> = Arc::new(Rename(names));
    Front::behind(&[rename], upstream, reached, &[], |spec| {
        spec.bridge.cache.enabled = has_cache;
    })
    .await
}

/// Lists twice, then calls each tool by the client's name, with the headers of the list's schema.
async fn lists_and_calls(names: Names, has_cache: bool) {
    let front = renamed(names, has_cache).await;
    let theirs = |wanted: &str| {
        let mut names = names.iter();
        names.find(|(server, _)| *server == wanted).unwrap().1
    };
    for _ in 0..2 {
        let list = front.ask("tools/list", nothing()).await;
        let all = tools(&list);
        for (server, client) in names {
            assert!(all.contains(client), "{all:?}");
            let is_taken = names.iter().any(|(_, client)| client == server);
            assert_eq!(all.contains(server), is_taken, "{all:?}");
        }
        let listed = list["result"]["tools"].as_array().unwrap();
        let zone = listed.iter().find(|tool| tool["name"] == theirs("region"));
        let schema = &zone.unwrap()["inputSchema"]["properties"]["region"];
        assert_eq!(schema["x-mcp-header"], "Region");
    }
    assert_eq!(front.asked("tools/list"), if has_cache { 1 } else { 2 });

    let params = json!({"name": theirs("region"), "arguments": {"region": "eu"}});
    let request = rpc::modern(1, "tools/call", params);
    let posting = front.client.post_modern(&request);
    let mut response = posting.header("Mcp-Param-Region", "eu").await;
    let answer = response.answer().await;
    assert_eq!(answer["result"]["content"][0]["text"], "eu", "{answer}");

    let params = json!({"name": theirs("echo"), "arguments": {"region": "us"}});
    let answer = front.ask("tools/call", params).await;
    let text = answer["result"]["content"][0]["text"].as_str();
    assert_eq!(text, Some(r#"{"region":"us"}"#), "{answer}");

    for tool in ["region", "echo"] {
        let record = front.upstream.record();
        assert_eq!(record.count(&format!("tools/call:{tool}")), 1);
        let call = record.last(&format!("tools/call:{tool}")).unwrap();
        assert_eq!(call.headers.get("Mcp-Name"), Some(tool));
        assert_eq!(call.headers.get("Mcp-Method"), Some("tools/call"));
    }
    assert_eq!(front.asked("tools/call"), 2);
}

/// R246: the server has its own names in bodies and headers, the client its own in lists, kept or not.
#[tokio::test]
async fn r246_a_renamed_tool_has_each_sides_name_everywhere() {
    for has_cache in [true, false] {
        lists_and_calls(NAMES, has_cache).await;
    }
}

/// R246, R124: a name that is another tool's at the server is not judged by the headers of that one.
#[tokio::test]
async fn r246_tools_may_have_each_others_names() {
    for has_cache in [true, false] {
        lists_and_calls(SWAPPED, has_cache).await;
    }
}

/// R246, R124: whatever its name, a call that says two things does not reach the server.
#[tokio::test]
async fn r246_headers_of_a_renamed_tool_are_checked() {
    let front = renamed(NAMES, true).await;
    front.ask("tools/list", nothing()).await;
    let params = json!({"name": "zone", "arguments": {"region": "eu"}});
    let request = rpc::modern(1, "tools/call", params);
    let posting = front.client.post_modern(&request);
    let mut response = posting.header("Mcp-Param-Region", "us").await;
    assert_eq!(response.status, 400);
    assert_eq!(response.answer().await["error"]["code"], -32020);
    assert_eq!(front.asked("tools/call"), 0);
}
