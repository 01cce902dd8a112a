//! The `requestState` of a server of 2026-07-28, which cannot tell principals apart (5.5, `seal_state`).

use serde_json::json;
use thinpipe_gateway::{ProgramEra, Reached, UpstreamSpec};
use thinpipe_proto::revision::Binding;
use thinpipe_testkit::Era;

use crate::place::{ALICE, BOB, Place, Way, accepted, answers, ask, asked, call, retry};

/// A server of 2026-07-28, at a URL or a program.
async fn stateless(way: Way, change: impl FnOnce(&mut UpstreamSpec)) -> Place {
    let behave = |behaviour: &mut thinpipe_testkit::Behaviour| behaviour.era = Era::Stateless;
    let pinned = |spec: &mut UpstreamSpec| {
        match &mut spec.reached {
            Reached::Http(http) => http.pin = Some(Binding::Stateless),
            Reached::Stdio(program) => program.pin = Some(ProgramEra::Modern),
        }
        change(spec);
    };
    Place::with(way, behave, pinned).await
}

/// O19: a state is good for the principal it was given to; the server sees its own.
#[tokio::test]
async fn o19_a_sealed_state_is_its_principals_own() {
    for way in [Way::Sessions, Way::Stdio] {
        let place = stateless(way, |spec| spec.bridge.seal_state = true).await;
        let (alice, bob) = (place.client(ALICE), place.client(BOB));
        let call = call(1, "ask");
        let first = asked(&alice, &call).await;
        let state = first["result"]["requestState"].as_str().unwrap();
        assert!(!state.contains("state"), "it is the server's own: {state}");
        let valid = retry(2, &call, &first, &answers(&first, &accepted()));

        let refused = ask(&bob, &valid).await;
        assert_eq!(refused["error"]["code"], -32602, "{refused}");
        let text = "requestState invalid or expired";
        assert_eq!(refused["error"]["message"], text, "{refused}");
        assert_eq!(place.count("tools/call"), 1, "the server has not seen it");

        let done = ask(&alice, &valid).await;
        assert_eq!(done["result"]["resultType"], "complete", "{done}");
        let last = place.upstream.requests("tools/call").pop().unwrap();
        let params = &last.json()["params"];
        assert!(
            params["requestState"]
                .as_str()
                .unwrap()
                .starts_with("state "),
            "{params}"
        );
    }
}

/// R245: without the option a state passes as it is.
#[tokio::test]
async fn r245_a_state_passes_unless_it_is_sealed() {
    let place = stateless(Way::Sessions, |_| {}).await;
    let (alice, bob) = (place.client(ALICE), place.client(BOB));
    let call = call(1, "ask");
    let first = asked(&alice, &call).await;
    let state = first["result"]["requestState"].as_str().unwrap();
    assert!(state.starts_with("state "), "{state}");
    let valid = retry(
        2,
        &call,
        &first,
        &answers(&first, &json!({"action": "accept", "content": {}})),
    );
    let done = ask(&bob, &valid).await;
    assert_eq!(done["result"]["resultType"], "complete", "{done}");
}
