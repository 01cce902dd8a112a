//! Where each session is a process, and how many there may be (protocol notes 5.4.1).

use std::time::Duration;

use serde_json::Value;
use thinpipe_gateway::{ProgramEra, Reached, Sharing, UpstreamSpec};
use thinpipe_testkit::rpc::Modern;

use crate::place::{ALICE, BOB, Place, Way, ask, asked, call};

const CAROL: &str = "carol";

async fn place(children: usize, change: impl FnOnce(&mut UpstreamSpec)) -> Place {
    let limit = |spec: &mut UpstreamSpec| {
        if let Reached::Stdio(program) = &mut spec.reached {
            program.max_children = children;
            program.pin = Some(ProgramEra::Legacy);
        }
        change(spec);
    };
    let principals = [ALICE, BOB, CAROL];
    Place::open_to(Way::Stdio, &principals, |_| {}, limit, |_| {}).await
}

/// Why a request got no session.
async fn refused(place: &Place, token: &str, request: &Modern) -> String {
    let mut refused = place.client(token).post_modern(request).await;
    assert_eq!(refused.status, 503);
    assert!(refused.header("Retry-After").is_some());
    let error = refused.json().await["error"].take();
    assert_eq!(error["data"]["reason"], "upstream_overloaded");
    error["message"].as_str().unwrap().to_owned()
}

fn done(answer: &Value) {
    assert_eq!(answer["result"]["resultType"], "complete", "{answer}");
}

/// T15: a session that nobody uses ends for another's sake, which waits until its process has ended.
#[tokio::test]
async fn a_session_that_is_wanted_waits_for_the_process_of_the_one_that_ended() {
    let place = place(2, |_| {}).await;
    for (id, token) in [(1, ALICE), (2, BOB), (3, CAROL), (4, ALICE), (5, CAROL)] {
        done(&ask(&place.client(token), &call(id, "echo")).await);
        let running = place.front.route().children().unwrap().running;
        assert!(running <= 2, "{running} run");
    }
    assert!(place.front.route().is_healthy());
}

/// The same where each request has a session, and so a process, to itself.
#[tokio::test]
async fn a_request_waits_for_the_process_of_the_one_before_it() {
    let place = place(1, |spec| {
        spec.bridge.sessions = Some(Sharing::PerClient);
    })
    .await;
    for id in 1..5 {
        done(&ask(&place.client(ALICE), &call(id, "echo")).await);
    }
}

/// What has an effect is named: where all sessions there may be are processes, how many of those may run.
#[tokio::test]
async fn a_refusal_names_what_bounds_the_sessions_of_a_program() {
    let soon = |spec: &mut UpstreamSpec| spec.bridge.pool.wait = Duration::from_millis(50);
    let place = place(1, soon).await;
    asked(&place.client(ALICE), &call(1, "ask")).await;
    for token in [ALICE, BOB] {
        let text = refused(&place, token, &call(2, "ask")).await;
        assert!(text.contains("all 1 sessions"), "{token} {text}");
        assert!(text.contains("(`process.max_children`)"), "{token} {text}");
    }
}

/// One that the pool has room for waits for the processes of other clients, too.
#[tokio::test]
async fn processes_of_clients_with_sessions_count() {
    let soon = |spec: &mut UpstreamSpec| spec.bridge.pool.wait = Duration::from_millis(50);
    let place = place(1, soon).await;
    let mut legacy = place.client(ALICE);
    legacy.initialize("2025-06-18").await;
    let text = refused(&place, BOB, &call(1, "echo")).await;
    assert!(text.contains("(`process.max_children`)"), "{text}");
    assert!(place.front.route().is_healthy());
    legacy.delete().await;
    place.front.no_child_runs().await;
    done(&ask(&place.client(BOB), &call(2, "echo")).await);
}
