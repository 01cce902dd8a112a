//! `subscriptions/listen` (R239).

use serde_json::{Value, json};

use crate::place::{ALICE, Place, WAYS, Way, listen, stamp};

/// Until the server has these subscriptions.
async fn subscribed(place: &Place, uris: &[&str]) {
    thinpipe_testkit::eventually("the server has these subscriptions", async || {
        let sessions = place.upstream.sessions();
        let held: Vec<String> = sessions
            .iter()
            .flat_map(|session| place.upstream.subscriptions(session))
            .collect();
        if held == uris {
            Ok(())
        } else {
            Err(format!("{held:?}"))
        }
    })
    .await;
}

/// R239: acknowledged first, then every change of what was asked, with the listen's own stamp; one
/// subscription for each resource, as long as anybody wants it.
#[tokio::test]
async fn r239_listens_hear_what_they_asked_for() {
    for way in WAYS {
        let place = Place::start(way).await;
        let client = place.client(ALICE);
        let wanted = json!({"toolsListChanged": true, "resourceSubscriptions": ["file:///a"]});
        let (mut one, honoured) = listen(&client, "one", wanted.clone()).await;
        assert_eq!(honoured, wanted, "{way:?}");
        let (mut two, _) = listen(
            &client,
            "two",
            json!({"resourceSubscriptions": ["file:///a"]}),
        )
        .await;
        assert_eq!(place.count("resources/subscribe"), 1, "{way:?}");
        let tools = "notifications/tools/list_changed";
        place.upstream.announce(tools, &json!({}));
        let heard = one.next_message().await;
        assert_eq!(
            (&heard["method"], stamp(&heard)),
            (&json!(tools), &json!("one")),
            "{way:?}"
        );
        let updated = "notifications/resources/updated";
        place
            .upstream
            .announce(updated, &json!({"uri": "file:///a"}));
        for (listen, id) in [(&mut one, "one"), (&mut two, "two")] {
            let heard: Value = listen.next_message().await;
            assert_eq!(heard["method"], updated, "{way:?}");
            assert_eq!(heard["params"]["uri"], "file:///a");
            assert_eq!(stamp(&heard), id, "{way:?}");
        }
        one.close();
        two.close();
        subscribed(&place, &[]).await;
        assert_eq!(place.count("resources/unsubscribe"), 1, "{way:?}");
        assert_eq!(place.count("initialize"), 1, "{way:?}");
    }
}

/// R239: what the server cannot tell is not honoured; without a standing stream nothing is.
#[tokio::test]
async fn r239_only_what_can_be_told_is_honoured() {
    let everything = json!({
        "toolsListChanged": true,
        "promptsListChanged": true,
        "resourcesListChanged": true,
        "resourceSubscriptions": ["file:///a"],
    });
    for way in WAYS {
        let narrow = json!({"tools": {}, "prompts": {"listChanged": true}, "resources": {}});
        let place = Place::with(way, |behaviour| behaviour.capabilities = narrow, |_| {}).await;
        let (_listen, honoured) = listen(&place.client(ALICE), "l", everything.clone()).await;
        assert_eq!(honoured, json!({"promptsListChanged": true}), "{way:?}");
    }
    let place = Place::with(
        Way::Sessions,
        |behaviour| behaviour.standalone = false,
        |_| {},
    )
    .await;
    let client = place.client(ALICE);
    let (_listen, honoured) = listen(&client, "l", everything).await;
    assert_eq!(honoured, json!({}));
    let discover = crate::place::request(1, "server/discover", json!({}));
    let discovered = crate::place::ask(&client, &discover).await;
    assert_eq!(
        discovered["result"]["capabilities"]["tools"],
        json!({}),
        "{discovered}"
    );
}

/// Protocol notes 5.4.3, 7: a listen outlives its session, and is told what it may have missed.
#[tokio::test]
async fn r239_a_listen_outlives_its_session() {
    for way in WAYS {
        let place = Place::start(way).await;
        let client = place.client(ALICE);
        let wanted = json!({"toolsListChanged": true, "resourceSubscriptions": ["file:///a"]});
        let (mut heard, _) = listen(&client, "l", wanted).await;
        place.upstream.die().await;
        place.upstream.come_back();
        let mut methods = Vec::new();
        for _ in 0..2 {
            let message = heard.next_message().await;
            assert_eq!(stamp(&message), "l", "{way:?}");
            methods.push(message["method"].as_str().unwrap().to_owned());
        }
        methods.sort();
        assert_eq!(
            methods,
            [
                "notifications/resources/updated",
                "notifications/tools/list_changed"
            ],
            "{way:?}"
        );
        subscribed(&place, &["file:///a"]).await;
    }
}
