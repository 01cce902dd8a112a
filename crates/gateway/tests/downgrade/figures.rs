//! What is counted of sessions that requests share, and of calls that wait.

use crate::place::{ALICE, Place, WAYS, accepted, answers, ask, asked, call, retry};

/// Once things are warm, no call opens a session; a call that waits is counted for as long as it does.
#[tokio::test]
async fn no_session_is_opened_for_a_call_once_there_is_one() {
    for way in WAYS {
        let place = Place::start(way).await;
        let client = place.client(ALICE);
        let stats = || place.front.route().route_stats();
        for id in 1..=5 {
            let done = ask(&client, &call(id, "echo")).await;
            assert_eq!(done["result"]["resultType"], "complete", "{way:?} {done}");
        }
        let warm = stats();
        assert_eq!(
            (warm.sessions_opened, warm.sessions_pooled),
            (1, 1),
            "{way:?}"
        );
        assert_eq!(
            (warm.calls_parked, place.count("initialize")),
            (0, 1),
            "{way:?}"
        );

        let parked = call(6, "ask");
        let first = asked(&client, &parked).await;
        assert_eq!(stats().calls_parked, 1, "{way:?}");
        let again = retry(7, &parked, &first, &answers(&first, &accepted()));
        let done = ask(&client, &again).await;
        assert_eq!(done["result"]["resultType"], "complete", "{way:?} {done}");
        assert_eq!(stats().calls_parked, 0, "{way:?}");
    }
}
