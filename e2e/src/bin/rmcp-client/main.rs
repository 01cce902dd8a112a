//! What rmcp's client does with a server, step by step; each step is a line of JSON on standard output.
//!
//! `rmcp-client URL PLAN`: the steps and the plan are those of the scripts in `clients/`. It speaks
//! Streamable HTTP only: rmcp took its HTTP+SSE client out in 0.11.0.

mod handler;
mod network;

use std::env;
use std::error::Error;
use std::time::Duration;

use rmcp::model::{
    CallToolRequest, CallToolRequestParams, JsonObject, ProtocolVersion, ServerNotification,
    SubscribeRequestParams, SubscriptionFilter,
};
use rmcp::service::{
    ClientLifecycleMode, ClientServiceExt as _, PeerRequestOptions, RunningService,
};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{RoleClient, ServiceExt as _};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::handler::Handler;
use crate::network::Watched;

/// The tools to call; what is missing is left out.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plan {
    /// A revision without `initialize`.
    revision: Option<ProtocolVersion>,
    progress: Option<Tool>,
    #[serde(default)]
    ask: Vec<Tool>,
    /// What the user answers.
    elicited: Option<Value>,
    cancel: Option<Cancel>,
    change: Option<Change>,
}

/// A call that is left when it has reported something, and one that tells whether the server knows.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cancel {
    call: Tool,
    proof: Tool,
}

/// A tool that changes the tools, and a resource to subscribe to beside them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    name: String,
    uri: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tool {
    name: String,
    arguments: Option<JsonObject>,
}

impl Tool {
    fn named(name: String) -> Self {
        let arguments = None;
        Self { name, arguments }
    }

    fn params(self) -> CallToolRequestParams {
        let mut params = CallToolRequestParams::new(self.name);
        params.arguments = self.arguments;
        params
    }
}

type Client = RunningService<RoleClient, Handler>;
type Outcome<T = ()> = Result<T, Box<dyn Error>>;

// One thread: rmcp gives each report of progress to a task of its own, and only so do these run in order.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [url, plan] = arguments.as_slice() else {
        return Err("rmcp-client URL PLAN".into());
    };
    tokio::time::timeout(PATIENCE, run(url, serde_json::from_str(plan)?)).await?
}

async fn run(url: &str, plan: Plan) -> Outcome {
    let network = Watched::default();
    let config = StreamableHttpClientTransportConfig::with_uri(url);
    let transport = StreamableHttpClientTransport::with_client(network.clone(), config);
    let is_modern = plan.revision.is_some();
    let elicited = plan.elicited.unwrap_or_else(|| json!({ "seat": "4A" }));
    let handler = Handler::new(elicited);
    let client = match plan.revision {
        None => handler.serve(transport).await?,
        Some(revision) => {
            let preferred_versions = vec![revision];
            let lifecycle = ClientLifecycleMode::Discover { preferred_versions };
            handler.serve_with_lifecycle(transport, lifecycle).await?
        }
    };
    let info = client.peer_info().ok_or("nothing was negotiated")?;
    say(json!({
        "step": "initialize",
        "revision": info.protocol_version,
        "session": network.session().is_some(),
        "server": info.server_info.as_ref().map(|server| &server.name),
    }));
    let tools = client.list_all_tools().await?;
    let names: Vec<_> = tools.iter().map(|tool| &tool.name).collect();
    say(json!({ "step": "list", "tools": names }));
    if let Some(tool) = plan.progress {
        let text = call(&client, tool).await?;
        let events = client.service().all_progress().await?;
        say(json!({ "step": "progress", "events": events, "text": text }));
    }
    for tool in plan.ask {
        let name = tool.name.clone();
        let text = call(&client, tool).await?;
        let asked = client.service().take_asked();
        say(json!({ "step": "ask", "tool": name, "asked": asked, "text": text }));
    }
    if let Some(plan) = plan.cancel {
        leave(&client, plan.call).await?;
        let text = call(&client, plan.proof).await?;
        // Nobody is left to hear of it.
        say(json!({ "step": "cancel", "isRefused": true, "text": text }));
    }
    if let Some(change) = plan.change {
        let uri = change.uri.clone();
        if is_modern {
            hear_in_a_subscription(&client, change).await?;
        } else {
            hear_in_the_session(&client, change).await?;
        }
        say(json!({ "step": "change", "uri": uri }));
    }
    // Ends the session, and waits until that is done.
    client.cancel().await?;
    if let Some(status) = network.after_the_end(url, &info.protocol_version).await? {
        say(json!({ "step": "gone", "status": status }));
    }
    Ok(())
}

/// Calls a tool, and cancels that when it has reported something.
async fn leave(client: &Client, tool: Tool) -> Outcome {
    let request = CallToolRequest::new(tool.params()).into();
    let options = PeerRequestOptions::no_options();
    let under_way = client.send_cancellable_request(request, options).await?;
    client.service().first_progress().await?;
    Ok(under_way.cancel(Some("enough".to_owned())).await?)
}

/// 2026-07-28: what changes after the acknowledgement is told.
async fn hear_in_a_subscription(client: &Client, change: Change) -> Outcome {
    let filter = SubscriptionFilter::builder()
        .tools_list_changed()
        .resource_subscriptions([change.uri])
        .build();
    let mut subscription = client.listen(filter).await?;
    call(client, Tool::named(change.name)).await?;
    match subscription.next().await? {
        Some(ServerNotification::ToolListChangedNotification(_)) => Ok(()),
        other => Err(format!("told of {other:?}").into()),
    }
}

/// What happens before somebody listens is told to nobody.
#[expect(
    deprecated,
    reason = "rmcp deprecates what sessions of 2025-11-25 have for it"
)]
async fn hear_in_the_session(client: &Client, change: Change) -> Outcome {
    client
        .subscribe(SubscribeRequestParams::new(change.uri))
        .await?;
    loop {
        call(client, Tool::named(change.name.clone())).await?;
        let told = client.service().told_of_tools();
        if tokio::time::timeout(AGAIN, told).await.is_ok() {
            return Ok(());
        }
    }
}

/// Calls a tool, for the text of its answer.
async fn call(client: &Client, tool: Tool) -> Outcome<String> {
    let params = tool.params();
    let result = client.call_tool(params).await?;
    let first = result.content.first().and_then(|content| content.as_text());
    let text = first.ok_or("the answer does not start with text")?;
    Ok(text.text.clone())
}

fn say(step: Value) {
    println!("{step}");
}

/// After how long something is changed once more.
const AGAIN: Duration = Duration::from_millis(20);

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(30);
