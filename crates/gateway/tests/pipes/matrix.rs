//! The rows of protocol notes 5.2, over every pair of bindings.

use serde_json::{Value, json};
use thinpipe_testkit::rpc;

use crate::client::{Asked, Binding, Caller};
use crate::front::Front;
use crate::server::{Carrier, Scripted, Speaker};

/// The newest revision that both of a pair speak; the binding does not decide it.
const REVISION: &str = "2025-06-18";

/// One test for each pair.
macro_rules! over_all_pairs {
    ($($(#[$about:meta])* $name:ident),* $(,)?) => {
        $(
            $(#[$about])*
            mod $name {
                use crate::client::Binding;
                use crate::server::Carrier;

                #[tokio::test]
                async fn streamable_to_stdio() {
                    super::scenario::$name(Binding::Streamable, Carrier::Stdio).await;
                }

                #[tokio::test]
                async fn streamable_to_http_sse() {
                    super::scenario::$name(Binding::Streamable, Carrier::HttpSse).await;
                }

                #[tokio::test]
                async fn http_sse_to_stdio() {
                    super::scenario::$name(Binding::HttpSse, Carrier::Stdio).await;
                }

                #[tokio::test]
                async fn http_sse_to_http_sse() {
                    super::scenario::$name(Binding::HttpSse, Carrier::HttpSse).await;
                }
            }
        )*
    };
}

over_all_pairs! {
    /// R210, R211, R212, R213: the whole of a session.
    r210_calls_and_questions_work_end_to_end,
    /// R214 and protocol notes 5.2: what belongs to no request waits for a stream.
    r214_what_belongs_to_no_request,
    /// Protocol notes 5.2, `ping` in both directions.
    pings_are_answered_end_to_end,
    /// Protocol notes 5.1, "Cancel".
    a_cancelled_call_is_cancelled_once_and_not_answered,
    /// R249: equal ids and progress tokens of two clients never cross.
    r249_two_clients_with_equal_ids,
    /// R050, R212: in flight fails at once, then the session is over.
    r050_a_server_that_is_lost,
    /// R044, and protocol notes 5.2, "client POST stream drops" and "E0 client stream drops".
    r044_a_client_that_is_lost,
    /// R071, R212: the end of a session is the end of the server's.
    r071_the_end_of_a_session,
    /// F5: no id of one side is seen on the other.
    f5_ids_do_not_cross_sides,
    /// R085: an array is split, and its answers come together, or each by itself on the one stream.
    r085_arrays_of_messages,
}

async fn start(binding: Binding, carrier: Carrier) -> (Front, Scripted, Caller, Speaker) {
    let mut server = Scripted::start(carrier).await;
    let front = Front::start(server.reached()).await;
    let (caller, speaker) = Caller::begin(&front, &mut server, binding, REVISION).await;
    (front, server, caller, speaker)
}

fn token_of(request: &Value) -> &Value {
    &request["params"]["_meta"]["progressToken"]
}

mod scenario {
    use super::*;

    pub(super) async fn r210_calls_and_questions_work_end_to_end(
        binding: Binding,
        carrier: Carrier,
    ) {
        let (_front, _server, mut caller, mut speaker) = start(binding, carrier).await;
        // A call with progress, and a question on the way.
        let mut asked = caller.ask(rpc::call("c 1", "deep")).await;
        let call = speaker.hears("tools/call").await;
        assert_eq!(call["params"]["name"], "deep");
        assert_ne!(call["id"], "c 1", "ids do not cross sides");
        let progress = json!({"progressToken": token_of(&call), "progress": 1, "total": 2});
        speaker
            .say(rpc::notification("notifications/progress", &progress))
            .await;
        let progress = caller.next(&mut asked).await;
        assert_eq!(progress["params"]["progressToken"], "c 1");
        speaker
            .say(rpc::request(
                77,
                "elicitation/create",
                &json!({"message": "?"}),
            ))
            .await;
        let question = caller.next(&mut asked).await;
        assert_eq!(question["method"], "elicitation/create");
        caller
            .tell(rpc::response(
                question["id"].clone(),
                &json!({"action": "decline"}),
            ))
            .await;
        let answer = speaker.hears_any().await;
        assert_eq!(
            answer,
            json!({"jsonrpc": "2.0", "id": 77, "result": {"action": "decline"}})
        );
        speaker.answer(&call, json!({"content": []})).await;
        let answer = caller.next(&mut asked).await;
        assert_eq!(
            answer,
            json!({"jsonrpc": "2.0", "id": "c 1", "result": {"content": []}})
        );
    }

    pub(super) async fn r214_what_belongs_to_no_request(binding: Binding, carrier: Carrier) {
        let (_front, _server, mut caller, mut speaker) = start(binding, carrier).await;
        let changed = rpc::notification("notifications/tools/list_changed", &json!({}));
        let roots = rpc::request("r", "roots/list", &json!({}));
        // Two of them that nobody has read are one.
        for _ in 0..2 {
            speaker.say(&changed).await;
            if binding == Binding::HttpSse {
                let told = caller.unasked().await;
                assert_eq!(told["method"], "notifications/tools/list_changed");
            }
        }
        if binding == Binding::Streamable {
            // What was said before is taken when this is answered.
            speaker.say(rpc::request(1, "ping", &json!({}))).await;
            assert_eq!(speaker.hears_any().await["id"], 1);
        }
        speaker.say(&roots).await;
        let mut asked = caller.ask(rpc::request(1, "tools/list", &json!({}))).await;
        let list = speaker.hears("tools/list").await;
        // The client has one stream open, so nobody guesses whom the question is for.
        let question = caller.next(&mut asked).await;
        assert_eq!(question["method"], "roots/list");
        speaker.answer(&list, json!({"tools": []})).await;
        assert_eq!(caller.next(&mut asked).await["id"], 1);
        let roots = json!({"roots": []});
        caller
            .tell(rpc::response(question["id"].clone(), &roots))
            .await;
        let answer = speaker.hears_any().await;
        assert_eq!(
            answer,
            json!({"jsonrpc": "2.0", "id": "r", "result": roots})
        );
        // An answer that nobody waits for, or a second one, goes nowhere.
        caller
            .tell(rpc::response(question["id"].clone(), &roots))
            .await;
        caller.listen().await;
        if binding == Binding::Streamable {
            // One of the two: it says "read again", and once is enough.
            assert_eq!(
                caller.unasked().await["method"],
                "notifications/tools/list_changed"
            );
        }
        let updated = json!({"uri": "file:///a"});
        speaker
            .say(rpc::notification(
                "notifications/resources/updated",
                &updated,
            ))
            .await;
        assert_eq!(caller.unasked().await["params"], updated);
        caller.settle(&mut speaker).await;
    }

    pub(super) async fn pings_are_answered_end_to_end(binding: Binding, carrier: Carrier) {
        let (_front, _server, mut caller, mut speaker) = start(binding, carrier).await;
        let mut asked = caller.ask(rpc::request("p", "ping", &json!({}))).await;
        let ping = speaker.hears("ping").await;
        speaker.answer(&ping, json!({})).await;
        let answer = caller.next(&mut asked).await;
        assert_eq!(answer, json!({"jsonrpc": "2.0", "id": "p", "result": {}}));
        let ping = rpc::request(5, "ping", &json!({}));
        if binding == Binding::Streamable {
            // There is no stream to ask on: the gateway answers.
            speaker.say(&ping).await;
            let answer = speaker.hears_any().await;
            assert_eq!(answer, json!({"jsonrpc": "2.0", "id": 5, "result": {}}));
        }
        caller.listen().await;
        speaker.say(&ping).await;
        let asked = caller.unasked().await;
        assert_eq!(asked["method"], "ping");
        caller
            .tell(rpc::response(asked["id"].clone(), &json!({})))
            .await;
        let answer = speaker.hears_any().await;
        assert_eq!(answer, json!({"jsonrpc": "2.0", "id": 5, "result": {}}));
    }

    pub(super) async fn a_cancelled_call_is_cancelled_once_and_not_answered(
        binding: Binding,
        carrier: Carrier,
    ) {
        let (_front, _server, mut caller, mut speaker) = start(binding, carrier).await;
        let asked = caller.ask(rpc::call(7, "slow")).await;
        let call = speaker.hears("tools/call").await;
        let cancelled = json!({"requestId": 7, "reason": "enough"});
        for _ in 0..2 {
            caller
                .tell(rpc::notification("notifications/cancelled", &cancelled))
                .await;
        }
        let told = speaker.hears("notifications/cancelled").await;
        assert_eq!(told["params"]["requestId"], call["id"]);
        assert_eq!(told["params"]["reason"], "enough");
        if let Asked::Waiting(connection) = asked {
            let mut response = connection.response().await;
            assert!(response.is_stream());
            assert_eq!(
                response.next_event().await,
                None,
                "it ends without a response"
            );
        }
        // Too late: it is dropped, and the session goes on.
        speaker.answer(&call, json!({"content": []})).await;
        caller.settle(&mut speaker).await;
    }

    pub(super) async fn r249_two_clients_with_equal_ids(binding: Binding, carrier: Carrier) {
        let (front, mut server, mut one, mut for_one) = start(binding, carrier).await;
        let (mut two, mut for_two) = Caller::begin(&front, &mut server, binding, REVISION).await;
        let mut asked_one = one.ask(rpc::call(1, "echo")).await;
        let mut asked_two = two.ask(rpc::call(1, "echo")).await;
        let call_one = for_one.hears("tools/call").await;
        let call_two = for_two.hears("tools/call").await;
        for (speaker, call, who) in [
            (&mut for_two, &call_two, "two"),
            (&mut for_one, &call_one, "one"),
        ] {
            let progress = json!({"progressToken": token_of(call), "progress": 1, "message": who});
            speaker
                .say(rpc::notification("notifications/progress", &progress))
                .await;
            speaker
                .answer(call, json!({"content": [], "who": who}))
                .await;
        }
        for (caller, asked, who) in [
            (&mut one, &mut asked_one, "one"),
            (&mut two, &mut asked_two, "two"),
        ] {
            let progress = caller.next(asked).await;
            assert_eq!(progress["params"]["progressToken"], 1);
            assert_eq!(progress["params"]["message"], who);
            let answer = caller.next(asked).await;
            assert_eq!(
                (&answer["id"], &answer["result"]["who"]),
                (&json!(1), &json!(who))
            );
        }
    }

    pub(super) async fn r050_a_server_that_is_lost(binding: Binding, carrier: Carrier) {
        let (front, mut server, mut caller, mut speaker) = start(binding, carrier).await;
        let mut asked = caller.ask(rpc::call(1, "slow")).await;
        speaker.hears("tools/call").await;
        speaker.cut();
        let answer = caller.next(&mut asked).await;
        assert_eq!(answer["id"], 1);
        assert_eq!(answer["error"]["code"], -32603);
        let data = json!({"reason": "upstream_stream_lost", "upstream": "up"});
        assert_eq!(answer["error"]["data"], data);
        caller.expect_over().await;
        // Nothing is repeated for the next client, which has a session of its own.
        let (mut caller, mut speaker) = Caller::begin(&front, &mut server, binding, REVISION).await;
        caller.settle(&mut speaker).await;
        assert_eq!(front.route().route_stats().sessions_lost, 1);
    }

    pub(super) async fn r044_a_client_that_is_lost(binding: Binding, carrier: Carrier) {
        let (front, _server, mut caller, mut speaker) = start(binding, carrier).await;
        let asked = caller.ask(rpc::call(1, "slow")).await;
        let call = speaker.hears("tools/call").await;
        if binding == Binding::HttpSse {
            caller.leave();
            let rest = speaker.ends().await;
            let cancelled = |message: &Value| {
                message["method"] == "notifications/cancelled"
                    && message["params"]["requestId"] == call["id"]
            };
            assert!(rest.iter().all(cancelled) && rest.len() == 1, "{rest:?}");
            front.no_child_runs().await;
            return;
        }
        drop(asked);
        // Leaving is not cancelling: the call runs on, and what it asks is asked on another stream.
        caller.settle(&mut speaker).await;
        caller.listen().await;
        speaker
            .say(rpc::request("q", "sampling/createMessage", &json!({})))
            .await;
        let question = caller.unasked().await;
        assert_eq!(question["method"], "sampling/createMessage");
        caller
            .tell(rpc::response(question["id"].clone(), &json!({})))
            .await;
        assert_eq!(speaker.hears_any().await["id"], "q");
        speaker.answer(&call, json!({"content": []})).await;
        caller.settle(&mut speaker).await;
    }

    pub(super) async fn r071_the_end_of_a_session(binding: Binding, carrier: Carrier) {
        let (front, _server, caller, mut speaker) = start(binding, carrier).await;
        let asked = caller.ask(rpc::call(1, "slow")).await;
        speaker.hears("tools/call").await;
        caller.end().await;
        let rest = speaker.ends().await;
        assert!(
            rest.iter()
                .all(|m| m["method"] == "notifications/cancelled"),
            "{rest:?}"
        );
        if let Asked::Waiting(connection) = asked {
            let mut response = connection.response().await;
            assert_eq!(response.next_event().await, None, "its streams end");
        }
        front.no_child_runs().await;
        assert_eq!(front.server.sessions().stats().live, 0);
    }

    pub(super) async fn f5_ids_do_not_cross_sides(binding: Binding, carrier: Carrier) {
        let (_front, server, mut caller, mut speaker) = start(binding, carrier).await;
        caller.settle(&mut speaker).await;
        let own = caller.session().to_owned();
        assert!(own.len() >= 16, "{own}");
        if let Scripted::HttpSse(upstream, _) = &server {
            upstream.seen(|state| {
                let heads = state.posts.iter().map(|post| &post.headers);
                let heads = heads.chain(state.sessions.iter().map(|session| &session.headers));
                for head in heads {
                    assert!(!format!("{head:?}").contains(&own), "{head:?}");
                    assert_eq!(head.get("mcp-session-id"), None);
                }
                let last = state.posts.last().map(|post| &post.headers);
                let version = last.and_then(|head| head.get("mcp-protocol-version"));
                assert_eq!(version, Some(REVISION), "R075");
            });
        }
    }

    pub(super) async fn r085_arrays_of_messages(binding: Binding, carrier: Carrier) {
        let mut server = Scripted::start(carrier).await;
        let front = Front::start(server.reached()).await;
        let (mut caller, mut speaker) =
            Caller::begin(&front, &mut server, binding, "2025-03-26").await;
        let batch = format!("[{},{}]", rpc::call(1, "one"), rpc::call(2, "two"));
        let mut asked = caller.ask(batch).await;
        let one = speaker.hears("tools/call").await;
        let two = speaker.hears("tools/call").await;
        for call in [&two, &one] {
            let result = json!({"content": [], "name": call["params"]["name"]});
            speaker.answer(call, result).await;
        }
        let mut answers = match caller.next(&mut asked).await {
            Value::Array(answers) => answers,
            first => vec![first, caller.next(&mut asked).await],
        };
        answers.sort_by_key(|answer| answer["id"].as_i64());
        let named = answers
            .iter()
            .map(|answer| (&answer["id"], &answer["result"]["name"]));
        let named: Vec<_> = named.collect();
        assert_eq!(
            named,
            [(&json!(1), &json!("one")), (&json!(2), &json!("two"))]
        );
        caller.settle(&mut speaker).await;
    }
}
