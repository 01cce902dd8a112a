//! A full server does the same over every transport and in every revision.

use std::process::Stdio;

use serde_json::{Value, json};
use thinpipe_testkit::{Client, Era, Outcome, Script, SseClient, Upstream, Via, rpc};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

async fn full() -> Upstream {
    let upstream = Upstream::start().await;
    upstream.set(|behaviour| behaviour.full = true);
    upstream
}

/// A program of the upstream's, and its pipes.
struct Program {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Program {
    fn start(upstream: &Upstream) -> Self {
        let [program, argument] = upstream.program();
        let mut command = Command::new(program);
        command.arg(argument).kill_on_drop(true);
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = piped.spawn().expect("the pipe starts");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        Self {
            input: child.stdin.take().expect("it is piped"),
            output: output.lines(),
            child,
        }
    }

    async fn tell(&mut self, message: String) {
        let line = message + "\n";
        self.input
            .write_all(line.as_bytes())
            .await
            .expect("the pipe reads");
    }

    async fn next(&mut self) -> Value {
        let line = self.output.next_line().await.expect("UTF-8");
        serde_json::from_str(&line.expect("a line")).expect("JSON")
    }

    async fn ask(&mut self, message: String) -> Value {
        self.tell(message).await;
        self.next().await
    }
}

fn answered(seat: &Value) -> Value {
    json!({"answers": {"seat": seat}})
}

#[tokio::test]
async fn it_asks_over_http_sse() {
    let upstream = full().await;
    let mut client = SseClient::open(&upstream.sse_url()).await;
    let opened = client.initialize(rpc::OLDEST).await;
    assert_eq!(opened["protocolVersion"], rpc::OLDEST);
    let question = client.ask(rpc::call(7, "ask")).await;
    assert_eq!(question["method"], "elicitation/create");
    let accepted = json!({"action": "accept"});
    let answer = client
        .ask(rpc::response(question["id"].clone(), &accepted))
        .await;
    assert_eq!(answer["id"], 7);
    assert_eq!(answer["result"]["structuredContent"], answered(&accepted));
    let session = upstream.sessions().pop().unwrap();
    let seen = upstream.requests("tools/call").pop().unwrap();
    assert_eq!((seen.via, seen.session()), (Via::HttpSse, Some(&*session)));

    let uri = json!({"uri": "file:///a"});
    client
        .ask(rpc::request(8, "resources/subscribe", &uri))
        .await;
    assert_eq!(upstream.subscriptions(&session), ["file:///a"]);
    upstream.announce(
        "notifications/resources/updated",
        &json!({"uri": "file:///b"}),
    );
    upstream.announce("notifications/resources/updated", &uri);
    assert_eq!(client.stream.next_message().await["params"], uri);
    drop(client);
    upstream.wait_until(|seen| seen.open_streams == 0).await;
    assert!(upstream.sessions().is_empty());
}

#[tokio::test]
async fn it_asks_over_stdio_in_a_session() {
    let upstream = full().await;
    upstream.set(|behaviour| behaviour.heeds_cancel = true);
    let mut program = Program::start(&upstream);
    program.ask(rpc::initialize(0, "2025-06-18")).await;
    let question = program.ask(rpc::call(7, "sample")).await;
    assert_eq!(question["method"], "sampling/createMessage");
    let refused =
        json!({"jsonrpc": "2.0", "id": question["id"], "error": {"code": -1, "message": "no"}});
    let answer = program.ask(refused.to_string()).await;
    assert_eq!(
        answer["result"]["structuredContent"]["answers"]["poem"]["code"],
        -1
    );

    program.tell(rpc::call(8, "slow")).await;
    upstream.gate("slow").reached().await;
    let cancelled = rpc::notification("notifications/cancelled", &json!({"requestId": 8}));
    program.tell(cancelled).await;
    let slow = |seen: &thinpipe_testkit::Record| seen.outcome("tools/call:slow");
    upstream
        .wait_until(move |seen| slow(seen) == Some(Outcome::Cancelled))
        .await;

    upstream.on("ping", Script::new().cut(thinpipe_testkit::Cut::Fin));
    program.tell(rpc::request(9, "ping", &json!({}))).await;
    assert_eq!(program.output.next_line().await.unwrap(), None);
    assert_eq!(program.child.wait().await.unwrap().code(), Some(1));
    assert!(upstream.sessions().is_empty());
}

#[tokio::test]
async fn it_asks_in_results_over_stdio_and_http() {
    let upstream = full().await;
    upstream.set(|behaviour| behaviour.era = Era::Stateless);
    let client = Client::new(upstream.url());
    let mut program = Program::start(&upstream);
    let elicitation = json!({"elicitation": {}});
    let declaring = |call: rpc::Modern| call.declaring(&elicitation);
    let refused = program.ask(rpc::modern_call(0, "ask").body).await;
    assert_eq!(refused["error"]["code"], -32021);
    for over_stdio in [true, false] {
        let mut params = json!({"name": "ask"});
        let mut answers: Vec<Value> = Vec::new();
        for id in 1..=3 {
            let call = declaring(rpc::modern(id, "tools/call", params.clone()));
            let answer = if over_stdio {
                program.ask(call.body).await
            } else {
                client.post_modern(&call).await.json().await
            };
            params["requestState"] = answer["result"]["requestState"].clone();
            params["inputResponses"] = json!({"seat": {"action": "decline"}});
            if id == 2 {
                params["requestState"] = answers[0]["result"]["requestState"].clone();
            }
            answers.push(answer);
        }
        assert_eq!(answers[0]["result"]["resultType"], "input_required");
        assert_eq!(
            answers[1]["result"]["structuredContent"]["answers"]["seat"]["action"],
            "decline"
        );
        assert_eq!(answers[2]["error"]["code"], -32602, "a state is good once");
    }
}

#[tokio::test]
async fn listens_hear_what_they_asked_for() {
    let upstream = full().await;
    let client = Client::new(upstream.url());
    let wanted = json!({"toolsListChanged": true, "resourceSubscriptions": ["file:///a"], "x": 1});
    let listen = rpc::modern(
        "L",
        "subscriptions/listen",
        json!({"notifications": wanted}),
    );
    let mut stream = client.post_modern(&listen).await;
    let acknowledged = stream.next_message().await;
    assert_eq!(acknowledged["params"]["notifications"]["x"], Value::Null);
    upstream.announce("notifications/prompts/list_changed", &json!({}));
    upstream.announce(
        "notifications/resources/updated",
        &json!({"uri": "file:///b"}),
    );
    upstream.announce(
        "notifications/resources/updated",
        &json!({"uri": "file:///a"}),
    );
    let updated = stream.next_message().await;
    assert_eq!(updated["params"]["uri"], "file:///a");
    assert_eq!(updated["params"]["_meta"][rpc::SUBSCRIPTION], "L");
    assert_eq!(upstream.listens(), 1);
    upstream.end_listens(true);
    assert_eq!(stream.next_message().await["id"], "L");
    assert_eq!(stream.next_event().await, None);

    let mut program = Program::start(&upstream);
    program.ask(listen.body.clone()).await;
    let cancelled = rpc::notification("notifications/cancelled", &json!({"requestId": "L"}));
    upstream.set(|behaviour| behaviour.heeds_cancel = true);
    upstream.end_listens(false);
    program.ask(listen.body).await;
    program.tell(cancelled).await;
    let listen = |seen: &thinpipe_testkit::Record| seen.outcome("subscriptions/listen");
    upstream
        .wait_until(move |seen| listen(seen) == Some(Outcome::Cancelled))
        .await;
    assert_eq!(upstream.listens(), 0);
}

#[tokio::test]
async fn a_cancelled_call_of_a_session_ends_without_an_answer() {
    let upstream = full().await;
    upstream.set(|behaviour| behaviour.heeds_cancel = true);
    let mut client = Client::new(upstream.url());
    client.initialize("2025-11-25").await;
    let call = client.post(rpc::call(1, "ask"));
    let mut stream = call.await;
    stream.next_message().await;
    let cancelled = rpc::notification("notifications/cancelled", &json!({"requestId": 1}));
    client.post(cancelled).await;
    assert_eq!(stream.next_event().await, None);
    let ask = |seen: &thinpipe_testkit::Record| seen.outcome("tools/call:ask");
    upstream
        .wait_until(move |seen| ask(seen) == Some(Outcome::Stopped))
        .await;
}

#[tokio::test]
async fn log_lines_are_those_that_are_asked_for() {
    let upstream = full().await;
    let client = Client::new(upstream.url());
    let mut plain = client.post_modern(&rpc::modern_call(1, "log")).await;
    assert!(!plain.is_stream());
    assert_eq!(plain.json().await["result"]["resultType"], "complete");
    let call = rpc::modern_call(2, "log").with_meta(rpc::LOG_LEVEL, "info");
    let (events, _) = client.post_modern(&call).await.events_to_end().await;
    let levels: Vec<Value> = events
        .iter()
        .map(|event| event.json()["params"]["level"].clone())
        .collect();
    assert_eq!(levels, [json!("info"), json!("error"), Value::Null]);
    assert_eq!(events[2].json()["id"], 2);
}

#[tokio::test]
async fn prompts_have_pages_of_their_session() {
    let upstream = full().await;
    let mut cursors = Vec::new();
    for _ in 0..2 {
        let mut client = Client::new(upstream.url());
        client.initialize("2025-11-25").await;
        let mut list = client
            .post(rpc::request(1, "prompts/list", &json!({})))
            .await;
        let cursor = list.json().await["result"]["nextCursor"].clone();
        cursors.push(cursor);
        let next = rpc::request(2, "prompts/list", &json!({"cursor": cursors[0]}));
        let next = client.post(next).await.json().await;
        assert_eq!(next["result"].is_object(), cursors.len() == 1, "{next}");
    }
}

#[tokio::test]
async fn a_url_is_wanted_until_it_was_visited() {
    let upstream = full().await;
    let mut client = Client::new(upstream.url());
    client.initialize("2025-11-25").await;
    let refused = client.post(rpc::call(1, "needs_url")).await.json().await;
    assert_eq!(refused["error"]["code"], -32042);
    let elicitation = refused["error"]["data"]["elicitations"][0]["elicitationId"].clone();
    let session = client.session().unwrap();
    upstream.elicited(session, elicitation.as_str().unwrap());
    assert_eq!(
        client.get().await.next_message().await["params"]["elicitationId"],
        elicitation
    );
    let done = client.post(rpc::call(2, "needs_url")).await.json().await;
    assert!(done["result"].is_object(), "{done}");
}
