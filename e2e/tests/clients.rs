//! Clients with servers nobody here wrote, direct and through Thinpipe.

use serde_json::{Value, json};
use thinpipe_e2e::peers::{Server, Way};
use thinpipe_e2e::scenario::{Client, Steps};

/// Declares two tests for each client, from one function that takes the client and the way.
macro_rules! with_clients {
    ($check:ident: $($name:ident $client:ident),+) => {
        mod $check {
            $(mod $name {
                use thinpipe_e2e::{peers::Way, scenario::Client};

                #[test]
                fn direct() {
                    super::super::$check(Client::$client, Way::Direct);
                }

                #[test]
                fn through_the_gateway() {
                    super::super::$check(Client::$client, Way::Gateway);
                }
            })+
        }
    };
}

with_clients!(typescript_server: typescript_v1 TypeScriptV1, typescript_v2 TypeScriptV2, python Python);
with_clients!(python_server: typescript_v1 TypeScriptV1, typescript_v2 TypeScriptV2, python Python);
with_clients!(everything_server: typescript_v1 TypeScriptV1, typescript_v2 TypeScriptV2, python Python);
with_clients!(rmcp_server: typescript_v1 TypeScriptV1, typescript_v2 TypeScriptV2, python Python, fastmcp FastMcp);
with_clients!(stateless_rmcp_server: typescript_v2 TypeScriptV2, python Python, fastmcp FastMcp, rmcp Rmcp);
with_clients!(fallback_to_initialize: typescript_v2 TypeScriptV2, python Python, fastmcp FastMcp);

fn typescript_server(client: Client, way: Way) {
    resumable_server(client, Server::TypeScript, way, "e2e-typescript");
}

fn python_server(client: Client, way: Way) {
    resumable_server(client, Server::Python, way, "e2e-python");
}

/// B14, B15, C2, C13, F5, G1, R112, R113
fn resumable_server(client: Client, server: Server, way: Way, name: &str) {
    let plan = json!({
        "progress": { "name": "count" },
        "ask": [{ "name": "sample" }, { "name": "elicit" }],
        "cut": { "name": "cut" },
        "resume": { "call": { "name": "hold" }, "release": { "name": "release" } },
    });
    let steps = client.run(&server.reached(way), &plan);

    assert_opened(&steps, name, "2025-11-25");
    assert_eq!(
        steps.one("list")["tools"],
        json!(["count", "sample", "elicit", "cut", "hold", "release"])
    );
    assert_events(steps.one("progress"), "counted");
    steps.assert_asked(&["sampling/createMessage"], "the model said forty-two");
    steps.assert_asked(&["elicitation/create"], "the user said accept 4A");

    // The server ends the stream in its middle: a client resumes it, a gateway does so for it.
    let cut = steps.one("cut");
    assert_events(cut, "cut and mended");
    let resumed_by_client = if way == Way::Direct { 1 } else { 0 };
    assert_eq!(cut["resumes"], resumed_by_client, "{cut}");

    // The client loses the connection: it is the one who resumes, whatever is between.
    let resume = steps.one("resume");
    assert_events(resume, "held and released");
    assert_eq!(resume["seenBefore"], 1, "{resume}");
    assert_eq!(resume["resumes"], 1, "{resume}");

    assert_closed(&steps, 404);
}

/// B14, B15, C2, F5
fn everything_server(client: Client, way: Way) {
    let plan = json!({
        "progress": {
            "name": "trigger-long-running-operation",
            "arguments": { "duration": 0.3, "steps": 3 },
        },
        "ask": [
            { "name": "trigger-sampling-request", "arguments": { "prompt": "What is it?" } },
            { "name": "trigger-elicitation-request" },
        ],
    });
    let steps = client.run(&Server::Everything.reached(way), &plan);

    assert_opened(&steps, "mcp-servers/everything", "2025-11-25");
    assert_events(steps.one("progress"), "Steps: 3.");
    steps.assert_asked(&["sampling/createMessage"], "forty-two");
    steps.assert_asked(
        &["elicitation/create"],
        "User provided the requested information",
    );
    // It answers 400 where the specification wants 404; the gateway knows better.
    assert_closed(&steps, if way == Way::Direct { 400 } else { 404 });
}

/// B14, B15, C2, F5
fn rmcp_server(client: Client, way: Way) {
    let plan = json!({
        "progress": { "name": "test_tool_with_progress" },
        "ask": [
            { "name": "test_sampling", "arguments": { "prompt": "What is it?" } },
            { "name": "test_elicitation", "arguments": { "message": "Who is it?" } },
        ],
        "elicited": { "username": "ada", "email": "ada@example.com" },
    });
    let steps = client.run(&Server::Rmcp.reached(way), &plan);

    assert_opened(&steps, "thinpipe-conformance-server", "2025-11-25");
    assert_events(steps.one("progress"), "Progress was reported");
    steps.assert_asked(&["sampling/createMessage"], "LLM response: forty-two");
    steps.assert_asked(&["elicitation/create"], "action=accept");
    assert_closed(&steps, 404);
}

/// R139, R222, R245: a client of 2026-07-28, which answers by calling again.
fn stateless_rmcp_server(client: Client, way: Way) {
    let plan = json!({
        "revision": "2026-07-28",
        "progress": { "name": "test_tool_with_progress" },
        "ask": [
            { "name": "test_input_required_result_sampling" },
            { "name": "test_input_required_result_multi_round" },
        ],
        "elicited": { "name": "ada", "color": "blue" },
    });
    let steps = client.run(&Server::Rmcp.reached(way), &plan);

    let opened = steps.one("initialize");
    assert_eq!(
        (&opened["revision"], &opened["session"]),
        (&json!("2026-07-28"), &json!(false))
    );
    assert_events(steps.one("progress"), "Progress was reported");
    steps.assert_asked(&["sampling/createMessage"], "forty-two");
    let rounds = steps.all("ask")[1];
    assert_eq!(
        rounds["asked"],
        json!(["elicitation/create", "elicitation/create"]),
        "{rounds}"
    );
}

/// A client that tries 2026-07-28 first, with a server that has never heard of it.
fn fallback_to_initialize(client: Client, way: Way) {
    let plan = json!({ "mode": "auto", "progress": { "name": "count" } });
    let steps = client.run(&Server::TypeScript.reached(way), &plan);

    assert_events(steps.one("progress"), "counted");
    match way {
        Way::Direct => {
            assert_opened(&steps, "e2e-typescript", "2025-11-25");
            assert_closed(&steps, 404);
        }
        // What it asks first is answered, and there is nothing to fall back from.
        Way::Gateway => {
            let opened = steps.one("initialize");
            assert_eq!(opened["server"], "e2e-typescript", "{opened}");
            assert_eq!(opened["revision"], "2026-07-28", "{opened}");
        }
    }
}

fn assert_opened(steps: &Steps, server: &str, revision: &str) {
    let opened = steps.one("initialize");
    assert_eq!(opened["server"], server, "{opened}");
    assert_eq!(opened["revision"], revision, "{opened}");
    assert_eq!(opened["session"], true, "{opened}");
}

/// Three reports of progress, each once and in order, before the result.
fn assert_events(step: &Value, text: &str) {
    let events: Vec<f64> = step["events"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(Value::as_f64)
        .collect();
    assert_eq!(events.len(), 3, "{step}");
    assert!(
        events.is_sorted_by(|earlier, later| earlier < later),
        "{step}"
    );
    assert!(
        step["text"]
            .as_str()
            .is_some_and(|said| said.contains(text)),
        "{step}"
    );
}

/// The session was ended by the client and is gone for good.
fn assert_closed(steps: &Steps, gone: u16) {
    let status = steps.one("delete")["status"].as_u64();
    assert!(
        status.is_some_and(|status| (200..300).contains(&status)),
        "{steps:?}"
    );
    assert_eq!(steps.one("gone")["status"], gone, "{steps:?}");
}
