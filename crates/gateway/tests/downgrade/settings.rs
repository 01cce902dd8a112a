//! Every setting of a server with sessions acts (T2).

use std::time::Duration;

use serde_json::json;
use thinpipe_gateway::{Sharing, UpstreamSpec};

use crate::place::{ALICE, BOB, Place, WAYS, Way, ask, asked, call, request};

async fn place(way: Way, change: impl FnOnce(&mut UpstreamSpec)) -> Place {
    Place::with(way, |_| {}, change).await
}

/// `sessions`: who shares a session of the server.
#[tokio::test]
async fn sessions_are_shared_as_is_said() {
    for (sharing, opened) in [
        (None, 2),
        (Some(Sharing::Pooled), 2),
        (Some(Sharing::PerClient), 4),
        (Some(Sharing::Shared), 1),
    ] {
        for way in WAYS {
            let place = place(way, |spec| spec.bridge.sessions = sharing).await;
            for (id, token) in [(1, ALICE), (2, BOB), (3, ALICE), (4, BOB)] {
                let done = ask(&place.client(token), &call(id, "echo")).await;
                assert_eq!(done["result"]["resultType"], "complete", "{way:?} {done}");
            }
            assert_eq!(place.count("initialize"), opened, "{sharing:?} {way:?}");
        }
    }
}

/// `list_ttl`: what clients may keep of a server that says nothing of it.
#[tokio::test]
async fn lists_may_be_kept_for_as_long_as_is_said() {
    for (ttl, shown) in [(Duration::ZERO, 0), (Duration::from_secs(9), 9000)] {
        let place = place(Way::Sessions, |spec| spec.bridge.list_ttl = ttl).await;
        let list = request(1, "tools/list", json!({}));
        let list = ask(&place.client(ALICE), &list).await;
        assert_eq!(list["result"]["ttlMs"], shown, "{list}");
        assert_eq!(list["result"]["cacheScope"], "private", "{list}");
    }
}

/// `session_pool.idle`: a session that nobody uses ends.
#[tokio::test]
async fn an_idle_session_ends() {
    let place = place(Way::Sessions, |spec| {
        spec.bridge.pool.idle = Duration::from_millis(20);
    })
    .await;
    ask(&place.client(ALICE), &call(1, "echo")).await;
    let ended = place
        .upstream
        .wait_until(|record| record.count("DELETE") == 1);
    ended.await;
}

/// `parked.per_principal`, `parked.total`: beyond, the server is told that nobody can be asked.
#[tokio::test]
async fn calls_that_wait_are_as_many_as_is_said() {
    for (per_principal, total, bob_waits) in [(1, 10, true), (10, 1, false)] {
        let place = place(Way::Sessions, |spec| {
            spec.bridge.parked.per_principal = per_principal;
            spec.bridge.parked.total = total;
        })
        .await;
        let (alice, bob) = (place.client(ALICE), place.client(BOB));
        asked(&alice, &call(1, "ask")).await;
        let refused = ask(&alice, &call(2, "ask")).await;
        assert_ne!(
            refused["result"]["resultType"], "input_required",
            "{refused}"
        );
        let second = ask(&bob, &call(3, "ask")).await;
        let waits = second["result"]["resultType"] == "input_required";
        assert_eq!(waits, bob_waits, "{second}");
    }
}
