//! What a program that cannot be started, or not now, is made of.

use std::time::Duration;

use serde_json::Value;
use thinpipe_proto::session::Principal;
use thinpipe_testkit::rpc::{self, Modern};
use thinpipe_testkit::stdio_server;
use thinpipe_transport::ByteBudget;
use thinpipe_transport::upstream::stdio::StdioConfig;

use super::*;
use crate::clock::now;
use crate::config::{ChildUpstream, ProgramEra};
use crate::pipe::Children;

/// The route of a program that is a shell with this script, of which one may run.
fn route(process: StdioConfig) -> Arc<Route> {
    let mut child = ChildUpstream::new(process);
    child.max_children = 1;
    child.pin = Some(ProgramEra::Legacy);
    let mut spec = UpstreamSpec::new("/mcp", Reached::Stdio(child));
    spec.bridge.pool.wait = Duration::ZERO;
    Route::alone(spec)
}

fn script(script: &str) -> StdioConfig {
    let mut config = StdioConfig::new("up".into(), "/bin/sh");
    config.args = stdio_server::script(script).map(Into::into).to_vec();
    config
}

fn children(route: &Route) -> &Children {
    match &route.server {
        Server::Stdio(children) => children,
        Server::Http(_) => unreachable!("it is a program"),
    }
}

/// A call that cannot be answered: why, after its session has ended.
async fn refused(route: &Arc<Route>) -> String {
    let Modern { body, .. } = rpc::modern(1, "tools/call", serde_json::json!({"name": "t"}));
    let call = Incoming {
        revision: Revision::NEWEST,
        principal: Principal::Named("alice".into()),
        address: None,
        headers: HeaderMap::new(),
    };
    let message = Message::parse(body.into()).unwrap();
    let answer = route.downgraded(call, message, Channel::Pipe).await;
    let (late, room) = (now() + Duration::from_secs(60), ByteBudget::default());
    let answer = answer.unwrap().body.collect(1 << 20, late, &room).await;
    let answer = answer.unwrap();
    while route.downgrade.pooled() > 0 {
        tokio::task::yield_now().await;
    }
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    answer["error"]["message"].as_str().unwrap().to_owned()
}

/// C24: a program that cannot be started counts as one failed start, and a request in the pause that follows as none:
/// it would make the pause longer.
#[tokio::test]
async fn c24_a_pause_is_no_failed_start() {
    let route = route(StdioConfig::new("up".into(), "/nowhere/no such program"));
    for failed in [1, 2] {
        let text = refused(&route).await;
        assert!(text.contains("/nowhere"), "{text}");
        assert_eq!(children(&route).failed_starts(), failed);
    }
    for _ in 0..3 {
        let text = refused(&route).await;
        assert!(text.contains("the last starts of up failed"), "{text}");
        assert_eq!(children(&route).failed_starts(), 2);
    }
}

/// C24: that as many run as may is no failed start.
#[tokio::test]
async fn c24_a_lack_of_room_is_no_failed_start() {
    let route = route(script("serve"));
    let _running = children(&route).start().unwrap();
    for _ in 0..3 {
        let text = refused(&route).await;
        assert!(text.contains("up runs for all the 1 clients"), "{text}");
        assert_eq!(children(&route).failed_starts(), 0);
    }
}

/// C24: one that was started and ended over `initialize` is.
#[tokio::test]
async fn c24_a_program_that_ends_over_initialize_is_a_failed_start() {
    let route = route(script("exit 3"));
    refused(&route).await;
    thinpipe_testkit::eventually("it counts", async || {
        match children(&route).failed_starts() {
            1 => Ok(()),
            failed => Err(format!("{failed} have failed")),
        }
    })
    .await;
}
