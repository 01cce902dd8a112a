//! URL elicitations before a call: `-32042` (R237).

use serde_json::json;

use crate::place::{ALICE, Place, WAYS, answers, ask, asked, call, retry};

/// R237: the client is sent to the page; once it is done, the call runs again.
#[tokio::test]
async fn r237_a_page_comes_before_the_call() {
    for way in WAYS {
        let place = Place::start(way).await;
        let client = place.client(ALICE);
        let call = call(1, "needs_url");
        let first = asked(&client, &call).await;
        let question = first["result"]["inputRequests"].as_object().unwrap();
        let question = question.values().next().unwrap();
        assert_eq!(question["method"], "elicitation/create");
        assert_eq!(question["params"]["mode"], "url");
        assert_eq!(question["params"].get("elicitationId"), None);
        // Answers that are missing: it runs at once, and the server wants the same.
        let second = asked(&client, &retry(2, &call, &first, &json!({}))).await;
        let sent = place.upstream.requests("tools/call");
        assert_eq!(sent.len(), 2, "{way:?}");
        let elicitation = format!("elicitation-{}", sent[1].number);
        let session = place.upstream.sessions().remove(0);
        let accepted = answers(&second, &json!({"action": "accept"}));
        let waiting = crate::place::send(&client, &retry(3, &call, &second, &accepted)).await;
        place.upstream.elicited(&session, &elicitation);
        let done = waiting.response().await.answer().await;
        assert_eq!(
            done["result"]["content"][0]["text"], "been there",
            "{way:?} {done}"
        );
        assert_eq!(place.count("tools/call"), 3, "{way:?}");
    }
}

/// R237: declined, the call does not run; not declared, the client is told what it lacks.
#[tokio::test]
async fn r237_a_page_may_be_declined_or_not_be_possible() {
    for way in WAYS {
        let place = Place::start(way).await;
        let client = place.client(ALICE);
        let needs = call(1, "needs_url");
        let first = asked(&client, &needs).await;
        let declined = answers(&first, &json!({"action": "decline"}));
        let done = ask(&client, &retry(2, &needs, &first, &declined)).await;
        assert_eq!(done["result"]["isError"], true, "{way:?} {done}");
        assert_eq!(place.count("tools/call"), 1);

        let forms = call(3, "needs_url").declaring(&json!({"elicitation": {}}));
        let mut response = client.post_modern(&forms).await;
        assert_eq!(response.status, 400);
        let error = response.answer().await["error"].clone();
        assert_eq!(error["code"], -32021, "{way:?} {error}");
        assert_eq!(
            error["data"]["requiredCapabilities"],
            json!({"elicitation": {"url": {}}})
        );
    }
}
