//! Clients in front of nginx and three gateways with one Redis, of which some are killed.

use serde_json::json;
use thinpipe_e2e::cluster::Cluster;
use thinpipe_e2e::peers::{Binding, Server};
use thinpipe_e2e::scenario::{Client, accepted, assert_events, plan};

/// The gateway that a session was opened at holds it; events have ids of its own.
const LOG: &str = "resume = \"log\"";

/// Declares a test for each client.
macro_rules! clients {
    ($($name:ident: $check:ident($($given:expr),+);)+) => {
        $(#[test]
        fn $name() {
            $check($($given),+);
        })+
    };
}

// A30, F8: what a client does before one gateway it does before three, whichever its requests come to.
clients! {
    a30_typescript_v1_needs_no_affinity: needs_no_affinity(Client::TypeScriptV1, "");
    a30_python_needs_no_affinity: needs_no_affinity(Client::Python, "");
    a30_typescript_v1_needs_no_affinity_with_a_log: needs_no_affinity(Client::TypeScriptV1, LOG);
    a30_python_needs_no_affinity_with_a_log: needs_no_affinity(Client::Python, LOG);
}

// F9, G4, invariants 1 and 4: the gateway with the stream of a call is killed. The client resumes it by itself, at
// another gateway, and loses nothing.
clients! {
    f9_typescript_v1_resumes_elsewhere: resumes_elsewhere(Client::TypeScriptV1);
    f9_typescript_v2_resumes_elsewhere: resumes_elsewhere(Client::TypeScriptV2);
    f9_python_resumes_elsewhere: resumes_elsewhere(Client::Python);
}

fn needs_no_affinity(client: Client, upstream: &str) {
    let server = Server::TypeScript;
    let cluster = Cluster::before(server.start(), upstream);
    let mut plan = plan(server);
    plan["resume"] = json!({ "call": { "name": "hold" }, "release": { "name": "release" } });
    let steps = client.run(&cluster.endpoint, &plan);
    assert_events(steps.one("progress"), 3);
    steps.assert_asked(&["sampling/createMessage"], "the model said forty-two");
    steps.assert_asked(&["elicitation/create"], accepted(server));
    let resume = steps.one("resume");
    assert_events(resume, 3);
    assert_eq!(resume["resumes"], 1, "{resume}");
    assert_eq!(resume["text"], "held and released", "{resume}");
    assert_eq!(steps.one("delete")["status"], 200, "{steps:?}");
    assert_eq!(steps.one("gone")["status"], 404, "{steps:?}");
}

fn resumes_elsewhere(client: Client) {
    let mut cluster = Cluster::before(Server::TypeScript.start(), "");
    let plan =
        json!({ "survive": { "call": { "name": "hold" }, "release": { "name": "release" } } });
    let running = client.start_over(Binding::Streamable, &cluster.endpoint, &plan);
    running.await_step("holding");
    cluster.kill_those_that_stream();
    let steps = running.finish();
    let survive = steps.one("survive");
    assert_events(survive, 3);
    assert_eq!(survive["text"], "held and released", "{survive}");
    assert_eq!(steps.one("gone")["status"], 404, "{steps:?}");
}
