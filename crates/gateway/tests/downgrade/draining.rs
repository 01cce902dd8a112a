//! The end of the gateway (open choice O20, and R239 of listens).

use std::time::Duration;

use serde_json::json;
use thinpipe_testkit::Client;

use crate::place::{ALICE, Place, WAYS, Way, accepted, answers, ask, asked, call, listen, retry};

/// O20: while the gateway drains, what is parked can be answered; it has run once.
#[tokio::test]
async fn o20_what_is_parked_may_be_answered_while_draining() {
    for way in WAYS {
        let place = Place::start(way).await;
        let client = place.client(ALICE);
        let call = call(1, "ask");
        let first = asked(&client, &call).await;
        let ending = async {
            place.front.server.shut_down().await;
            place.front.gateway.finish().await;
        };
        let answering = async {
            place.front.server.draining().cancelled().await;
            let refused = client.post_modern(&crate::place::call(2, "echo")).await;
            assert_eq!(refused.status, 503);
            let again = retry(3, &call, &first, &answers(&first, &accepted()));
            let done = ask(&client, &again).await;
            assert_eq!(done["result"]["resultType"], "complete", "{way:?} {done}");
        };
        tokio::join!(ending, answering);
        assert_eq!(place.count("tools/call"), 1, "{way:?}");
    }
}

/// O20: after its time of grace it is cancelled.
#[tokio::test]
async fn o20_what_is_parked_is_cancelled_in_the_end() {
    for way in WAYS {
        let place = Place::configured(way, |config| {
            config.limits.drain = Duration::from_millis(100);
        })
        .await;
        asked(&place.client(ALICE), &call(1, "ask")).await;
        place.front.server.shut_down().await;
        place.front.gateway.finish().await;
        if way == Way::Stdio {
            // It has ended.
            assert_eq!(place.front.route().children().unwrap().running, 0);
        } else {
            place.upstream.nth("notifications/cancelled", 0).await;
        }
    }
}

/// R239, protocol notes 5.4.3, 8: listens get their final result.
#[tokio::test]
async fn r239_listens_end_with_the_gateway() {
    for way in WAYS {
        let place = Place::start(way).await;
        let client: Client = place.client(ALICE);
        let (mut heard, _) = listen(&client, "l", json!({"toolsListChanged": true})).await;
        let ending = async {
            place.front.server.shut_down().await;
            place.front.gateway.finish().await;
        };
        let ((), last) = tokio::join!(ending, heard.next_message());
        assert_eq!(last["id"], "l", "{way:?} {last}");
        assert_eq!(last["result"]["resultType"], "complete");
    }
}
