//! What the client is told unasked.

use serde_json::json;
use thinpipe_testkit::{Outcome, Upstream, eventually, rpc};

use crate::client::{Binding, Caller};
use crate::front::Front;
use crate::over_both_bindings;

over_both_bindings! {
    /// R217, R220: a listen for what lists there are; its notices come without its id.
    r217_lists_that_change,
    /// R220: a subscription is a listen, and its end too.
    r220_subscriptions,
    /// R221: a change of subscriptions loses and doubles nothing, and a gap is told.
    r221_changes_and_gaps,
}

/// Until so many listens are open.
async fn listens(upstream: &Upstream, count: usize) {
    eventually("listens are open", async || match upstream.listens() {
        open if open == count => Ok(()),
        open => Err(format!("{open} are open")),
    })
    .await;
}

mod scenario {
    use super::*;

    pub(super) async fn r217_lists_that_change(binding: Binding) {
        let front = Front::start().await;
        let mut caller = Caller::begin(&front, binding).await;
        caller.listen().await;
        listens(&front.upstream, 1).await;
        let request = front.upstream.nth("subscriptions/listen", 0).await;
        let all = json!({"toolsListChanged": true, "promptsListChanged": true, "resourcesListChanged": true});
        assert_eq!(*request.param("/notifications"), all);
        for kind in ["tools", "prompts", "resources"] {
            let method = format!("notifications/{kind}/list_changed");
            front.upstream.announce(&method, &json!({}));
            let notice = caller.unasked().await;
            assert_eq!(notice["method"], *method);
            assert!(!notice.to_string().contains(rpc::SUBSCRIPTION), "{notice}");
        }
    }

    pub(super) async fn r220_subscriptions(binding: Binding) {
        let front = Front::start().await;
        let mut caller = Caller::begin(&front, binding).await;
        caller.listen().await;
        listens(&front.upstream, 1).await;
        let a = json!({"uri": "file:///a"});
        assert_eq!(
            caller.result(1, "resources/subscribe", a.clone()).await,
            json!({})
        );
        listens(&front.upstream, 2).await;
        front
            .upstream
            .announce("notifications/resources/updated", &a);
        let notice = caller.unasked().await;
        assert_eq!(notice["params"]["uri"], "file:///a");
        assert!(!notice.to_string().contains(rpc::SUBSCRIPTION), "{notice}");
        assert_eq!(
            caller.result(2, "resources/unsubscribe", a).await,
            json!({})
        );
        let is_closed = |record: &thinpipe_testkit::Record| {
            record.outcome("subscriptions/listen") == Some(Outcome::Cancelled)
        };
        front.upstream.wait_until(is_closed).await;
        assert!(front.upstream.requests("resources/subscribe").is_empty());
    }

    pub(super) async fn r221_changes_and_gaps(binding: Binding) {
        let front = Front::start().await;
        let mut caller = Caller::begin(&front, binding).await;
        caller.listen().await;
        let of = |uri: &str| json!({"uri": uri});
        let updated = "notifications/resources/updated";
        caller
            .result(1, "resources/subscribe", of("file:///a"))
            .await;
        caller
            .result(2, "resources/subscribe", of("file:///b"))
            .await;
        front.upstream.announce(updated, &of("file:///a"));
        assert_eq!(caller.unasked().await["params"]["uri"], "file:///a");
        front.upstream.announce(updated, &of("file:///b"));
        assert_eq!(caller.unasked().await["params"]["uri"], "file:///b");
        listens(&front.upstream, 3).await;
        // The server ends all of them: they are opened anew, and all that was missed is told.
        front.upstream.end_listens(true);
        let mut told = Vec::new();
        while told.len() < 5 {
            let notice = caller.unasked().await;
            let uri = notice["params"]["uri"].as_str().unwrap_or_default();
            told.push(format!("{} {uri}", notice["method"].as_str().unwrap()));
        }
        told.sort();
        assert_eq!(
            told,
            [
                "notifications/prompts/list_changed ",
                "notifications/resources/list_changed ",
                "notifications/resources/updated file:///a",
                "notifications/resources/updated file:///b",
                "notifications/tools/list_changed ",
            ]
        );
    }
}

/// Protocol notes 5.3, row "GET stream drops": what changes meanwhile is held for the next one.
#[tokio::test]
async fn r221_notices_are_held_for_the_next_stream() {
    let front = Front::start().await;
    let mut caller = Caller::begin(&front, Binding::Streamable).await;
    caller.listen().await;
    listens(&front.upstream, 1).await;
    caller.stop_listening();
    // Its end is noticed on its own time: what is told before that may be under way to it.
    front
        .upstream
        .announce("notifications/tools/list_changed", &json!({}));
    caller.result(1, "ping", json!({})).await;
    eventually("the stream is left", async || {
        let mut stream = caller.streamable().get().await;
        front
            .upstream
            .announce("notifications/prompts/list_changed", &json!({}));
        let notice = stream.next_message().await;
        let is_held = notice["method"] == "notifications/tools/list_changed";
        drop(stream);
        is_held.then_some(()).ok_or_else(|| notice.to_string())
    })
    .await;
    assert_eq!(front.upstream.requests("subscriptions/listen").len(), 1);
}
