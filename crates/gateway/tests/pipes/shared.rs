//! One child for all clients, as declared (protocol notes 5.2.1).

use serde_json::{Value, json};
use thinpipe_gateway::Sharing;
use thinpipe_testkit::{Client, Connection, RequestBuilder, Response, rpc};

use crate::front::{Front, tokens};
use crate::server::{Carrier, Scripted, Speaker};

const REVISION: &str = "2025-06-18";

/// A client of one principal in its session.
struct Guest {
    client: Client,
    token: &'static str,
    session: String,
}

impl Guest {
    /// A client whose `initialize` the child answers, or nobody has to.
    async fn open(front: &Front, token: &'static str) -> Self {
        let mut guest = Self {
            client: Client::new(&front.mcp),
            token,
            session: String::new(),
        };
        let opened = guest
            .signed(guest.client.post(rpc::initialize(0, REVISION)))
            .await;
        assert_eq!(opened.status, 200);
        guest.session = opened.header("Mcp-Session-Id").unwrap().to_owned();
        let told = guest.post(rpc::initialized()).await;
        assert_eq!(told.response().await.status, 202);
        guest
    }

    fn signed(&self, request: RequestBuilder) -> RequestBuilder {
        let request = request.header("Authorization", &format!("Bearer {}", self.token));
        if self.session.is_empty() {
            return request;
        }
        request.header("Mcp-Session-Id", &self.session)
    }

    /// Sends it and does not wait.
    async fn post(&self, message: impl ToString) -> Connection {
        self.signed(self.client.post(message)).send().await
    }

    async fn listen(&self) -> Response {
        let stream = self.signed(self.client.get()).await;
        assert_eq!(stream.status, 200);
        stream
    }

    async fn status(&self) -> u16 {
        self.post(rpc::initialized()).await.response().await.status
    }
}

/// A gateway, its child, and two principals that share it.
async fn start() -> (Front, Scripted, Speaker, Guest, Guest) {
    let mut server = Scripted::start(Carrier::Stdio).await;
    let front = Front::with(
        server.reached(),
        |spec| spec.bridge.sessions = Some(Sharing::Shared),
        |config| config.tokens = tokens(&["alice", "bob"]),
    )
    .await;
    let speaking = async {
        let mut speaker = server.session().await;
        let initialize = speaker.begin(REVISION).await;
        let declared = &initialize["params"]["capabilities"];
        assert_eq!(declared, &json!({}), "nobody could be asked");
        speaker
    };
    let (alice, mut speaker) = tokio::join!(Guest::open(&front, "alice"), speaking);
    // Answered from what the child has answered once.
    let bob = Guest::open(&front, "bob").await;
    assert_eq!(front.route().children().unwrap().spawned, 1);
    speaker.say(rpc::request("early", "ping", &json!({}))).await;
    assert_eq!(
        speaker.hears_any().await["result"],
        json!({}),
        "the gateway answers"
    );
    (front, server, speaker, alice, bob)
}

fn named<'a>(calls: &'a [Value], who: &str) -> &'a Value {
    let of = |call: &&Value| call["params"]["name"] == who;
    calls.iter().find(of).expect("the call came")
}

/// Protocol notes 5.9, invariants 7 to 9: equal ids and tokens never cross, and what cannot be tied to one
/// client reaches nobody.
#[tokio::test]
async fn two_principals_share_a_child_and_see_nothing_of_each_other() {
    let (_front, _server, mut speaker, alice, bob) = start().await;
    let (mut for_alice, mut for_bob) = (alice.listen().await, bob.listen().await);
    let call = |who: &str| {
        rpc::request(
            1,
            "tools/call",
            &json!({"name": who, "_meta": {"progressToken": 1}}),
        )
    };
    let (from_alice, from_bob) = (alice.post(call("alice")).await, bob.post(call("bob")).await);
    let calls = [
        speaker.hears("tools/call").await,
        speaker.hears("tools/call").await,
    ];
    assert_ne!(calls[0]["id"], calls[1]["id"]);
    let log = json!({"level": "info", "data": "of whom?"});
    speaker
        .say(rpc::notification("notifications/message", &log))
        .await;
    // Nobody guesses whom the question is for.
    speaker
        .say(rpc::request("q", "elicitation/create", &json!({})))
        .await;
    let refused = speaker.hears_any().await;
    assert_eq!(refused["id"], "q");
    assert!(refused["error"].is_object(), "{refused}");
    for who in ["bob", "alice"] {
        let call = named(&calls, who);
        let token = &call["params"]["_meta"]["progressToken"];
        let progress = json!({"progressToken": token, "progress": 1, "message": who});
        speaker
            .say(rpc::notification("notifications/progress", &progress))
            .await;
        speaker.answer(call, json!({"who": who})).await;
    }
    for (connection, who) in [(from_alice, "alice"), (from_bob, "bob")] {
        let mut response = connection.response().await;
        let progress = response.next_message().await;
        assert_eq!(progress["params"]["message"], who);
        assert_eq!(progress["params"]["progressToken"], 1);
        assert_eq!(response.next_message().await["result"]["who"], who);
        assert_eq!(response.next_event().await, None);
    }
    // The log line came before this, and is not there.
    speaker
        .say(rpc::notification(
            "notifications/tools/list_changed",
            &json!({}),
        ))
        .await;
    for stream in [&mut for_alice, &mut for_bob] {
        let next = stream.next_message().await;
        assert_eq!(next["method"], "notifications/tools/list_changed");
    }
}

/// A client that does not read loses its stream; nobody else waits for it.
#[tokio::test]
async fn who_does_not_read_holds_up_nobody() {
    let (_front, _server, mut speaker, alice, bob) = start().await;
    let slow = alice
        .client
        .post(rpc::call(1, "alice"))
        .receive_buffer(4096);
    let slow = alice.signed(slow).send().await;
    let call = speaker.hears("tools/call").await;
    let filler = "x".repeat(128 << 10);
    let token = call["params"]["_meta"]["progressToken"].clone();
    let mut cancelled = None;
    for n in 1..=512 {
        let progress = json!({"progressToken": token, "progress": n, "message": filler});
        speaker
            .say(rpc::notification("notifications/progress", &progress))
            .await;
        // Bob is answered all the while.
        let asked = bob.post(rpc::request(n, "prompts/list", &json!({}))).await;
        let mut heard = speaker.hears_any().await;
        if heard["method"] == "notifications/cancelled" {
            cancelled = Some(heard);
            heard = speaker.hears_any().await;
        }
        assert_eq!(heard["method"], "prompts/list");
        speaker.answer(&heard, json!({"prompts": []})).await;
        assert_eq!(asked.response().await.json().await["id"], n);
        if cancelled.is_some() {
            break;
        }
    }
    let cancelled = cancelled.expect("64 MiB are not kept for who does not read");
    assert_eq!(cancelled["params"]["requestId"], call["id"]);
    // Its stream ends without a response, its session goes on.
    let (events, end) = slow.response().await.events_to_end().await;
    assert_eq!(end, Ok(()));
    assert!(
        events
            .iter()
            .all(|event| event.json()["method"] == "notifications/progress")
    );
    assert_eq!(alice.status().await, 202);
}

/// Protocol notes 5.9, invariant 21: who reads gets all of it, however much comes at once. More lines than
/// a stream holds, and messages that no two of them fit together, are no reason to end anything.
#[tokio::test]
async fn a_burst_cuts_off_nobody_who_reads() {
    const LINES: u64 = 2_000;
    let (_front, _server, mut speaker, alice, bob) = start().await;
    let asked = alice.post(rpc::call(1, "alice")).await;
    let call = speaker.hears("tools/call").await;
    let token = call["params"]["_meta"]["progressToken"].clone();
    let progress = |n: u64, text: &str| {
        let params = json!({"progressToken": token, "progress": n, "message": text});
        rpc::notification("notifications/progress", &params)
    };
    let mut lines: Vec<_> = (1..=LINES).map(|n| progress(n, "line")).collect();
    let large = "x".repeat(600 << 10);
    lines.extend((1..=4).map(|n| progress(LINES + n, &large)));
    let reading = async {
        let mut response = asked.response().await;
        for n in 1..=LINES + 4 {
            let message = response.next_message().await;
            assert_eq!(message["params"]["progress"], n);
        }
        assert_eq!(response.next_message().await["id"], 1);
        assert_eq!(response.next_event().await, None);
    };
    let speaking = async {
        speaker.say(lines.join("\n")).await;
        speaker.answer(&call, json!({})).await;
    };
    tokio::join!(reading, speaking);
    assert_eq!((alice.status().await, bob.status().await), (202, 202));
}

/// C26: the answer to a client that does not read its stream ends that stream only.
#[tokio::test]
async fn c26_an_answer_that_nobody_reads_ends_its_stream_only() {
    let (_front, _server, mut speaker, alice, bob) = start().await;
    let slow = alice.client.post(rpc::call(1, "a"));
    let slow = alice.signed(slow.receive_buffer(64 << 10)).send().await;
    let call = speaker.hears("tools/call").await;
    let token = call["params"]["_meta"]["progressToken"].clone();
    // The socket is stuck in the first, the stream holds the second, and the answer has no room.
    let filler = "x".repeat(1280 << 10);
    for n in 1..=2 {
        let params = json!({"progressToken": token, "progress": n, "message": filler});
        let progress = rpc::notification("notifications/progress", &params);
        speaker.say(progress).await;
    }
    speaker.answer(&call, json!({"large": filler})).await;
    // Others are answered meanwhile, and so is she, when the answer that had no room is given up.
    for guest in [&bob, &alice] {
        let asked = guest.post(rpc::call(2, "next")).await;
        let next = speaker.hears("tools/call").await;
        speaker.answer(&next, json!({})).await;
        assert_eq!(asked.response().await.json().await["id"], 2);
    }
    let (events, end) = slow.response().await.events_to_end().await;
    let last = events.last().unwrap().json();
    assert_eq!(
        (last["params"]["progress"].as_u64(), end),
        (Some(2), Ok(()))
    );
    assert_eq!(alice.status().await, 202, "its session goes on");
}

/// C24: a child that dies fails the calls of all at once, and the next client gets another.
#[tokio::test]
async fn c24_all_learn_that_the_child_died() {
    let (front, mut server, mut speaker, alice, bob) = start().await;
    let calls = [
        alice.post(rpc::call(1, "a")).await,
        bob.post(rpc::call(1, "b")).await,
    ];
    for _ in &calls {
        speaker.hears("tools/call").await;
    }
    speaker.cut();
    for call in calls {
        let error = call.response().await.answer().await["error"].clone();
        assert_eq!(error["data"]["reason"], "upstream_stream_lost");
    }
    for guest in [alice, bob] {
        thinpipe_testkit::eventually("the session is over", async || match guest.status().await {
            404 => Ok(()),
            status => Err(format!("status {status}")),
        })
        .await;
    }
    let speaking = async {
        let mut speaker = server.session().await;
        speaker.begin(REVISION).await;
    };
    tokio::join!(Guest::open(&front, "bob"), speaking);
    assert_eq!(front.route().children().unwrap().spawned, 2);
}

/// DELETE of one client ends its session, and not the child that others use.
#[tokio::test]
async fn who_leaves_takes_nobody_along() {
    let (front, _server, mut speaker, alice, bob) = start().await;
    let _call = alice.post(rpc::call(1, "a")).await;
    let call = speaker.hears("tools/call").await;
    let deleted = alice.signed(alice.client.delete()).await;
    assert_eq!(deleted.status, 200);
    let cancelled = speaker.hears("notifications/cancelled").await;
    assert_eq!(cancelled["params"]["requestId"], call["id"]);
    let asked = bob.post(rpc::request(1, "tools/list", &json!({}))).await;
    let list = speaker.hears("tools/list").await;
    speaker.answer(&list, json!({"tools": []})).await;
    assert_eq!(asked.response().await.json().await["id"], 1);
    assert_eq!(front.route().children().unwrap().running, 1);
}
