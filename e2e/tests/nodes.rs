//! Clients in front of nginx and three gateways with one Redis, of which some are killed.

use serde_json::json;
use thinpipe_e2e::cluster::Cluster;
use thinpipe_e2e::peers::{Binding, Server};
use thinpipe_e2e::scenario::{Client, accepted, assert_events, plan};

/// A30, F8: what a client does without a balancer it does with one, whichever gateway its requests come to.
macro_rules! balanced {
    ($($name:ident: $client:ident, $more:expr;)+) => {
        $(#[test]
        fn $name() {
            needs_no_affinity(Client::$client, $more);
        })+
    };
}

balanced! {
    a30_typescript_v1_needs_no_affinity: TypeScriptV1, &[];
    a30_python_needs_no_affinity: Python, &[];
}

fn needs_no_affinity(client: Client, more: &[&str]) {
    let server = Server::TypeScript;
    let cluster = Cluster::before(server.start(), more);
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

/// F9, G4, invariants 1 and 4: the gateway with the stream of a call is killed. The client resumes it by itself, at
/// another gateway, and loses nothing.
macro_rules! surviving {
    ($($name:ident: $client:ident;)+) => {
        $(#[test]
        fn $name() {
            resumes_elsewhere(Client::$client);
        })+
    };
}

surviving! {
    f9_typescript_v1_resumes_elsewhere: TypeScriptV1;
    f9_typescript_v2_resumes_elsewhere: TypeScriptV2;
    f9_python_resumes_elsewhere: Python;
}

fn resumes_elsewhere(client: Client) {
    let mut cluster = Cluster::before(Server::TypeScript.start(), &[]);
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
