//! A client of any transport, so that one scenario runs over all of them.

use std::collections::VecDeque;

use serde_json::{Map, Value, json};
use thinpipe_testkit::rpc::Modern;
use thinpipe_testkit::{Client, Connection, Response, SseClient, rpc};

use crate::pairs;

/// What a client says of itself.
#[derive(Debug, Clone)]
pub(crate) struct Introduction {
    pub(crate) declared: Value,
    /// Asked for in `initialize`.
    pub(crate) revision: &'static str,
    pub(crate) token: Option<&'static str>,
}

impl Default for Introduction {
    fn default() -> Self {
        Self {
            declared: json!({
                "elicitation": {"form": {}, "url": {}},
                "sampling": {},
                "roots": {},
            }),
            revision: rpc::LEGACY[0],
            token: None,
        }
    }
}

impl Introduction {
    pub(crate) fn declaring(declared: Value) -> Self {
        Self {
            declared,
            ..Self::default()
        }
    }

    pub(crate) fn of_revision(revision: &'static str) -> Self {
        Self {
            revision,
            ..Self::default()
        }
    }

    pub(crate) fn with_token(token: &'static str) -> Self {
        Self {
            token: Some(token),
            ..Self::default()
        }
    }
}

/// A client, in a session where there are any.
pub(crate) struct Caller {
    pub(crate) kind: Kind,
    /// The result of `initialize`, or of `server/discover`.
    pub(crate) opened: Value,
    declared: Value,
    level: Option<&'static str>,
    /// Requests so far whose ids are made here: no id is used twice.
    made: usize,
    /// Messages of the one stream of HTTP+SSE that were not the ones waited for.
    passed_over: VecDeque<Value>,
}

pub(crate) enum Kind {
    HttpSse(Box<SseClient>),
    Sessions(Client, Option<Box<Response>>),
    /// The streams of its listens.
    Stateless(Client, Vec<Response>),
}

/// A request, and where its answer comes.
pub(crate) struct Asked {
    pub(crate) id: Value,
    place: Place,
}

enum Place {
    /// A POST without a response yet.
    Waiting(Box<Connection>),
    Stream(Box<Response>),
    /// With its status.
    Json(u16, Option<Value>),
    /// The stream of the session.
    Session,
}

impl Caller {
    pub(crate) async fn open(kind: pairs::Client, url: &str, who: &Introduction) -> Self {
        let mut client = Client::new(url);
        if let Some(token) = who.token {
            client = client.with_token(token);
        }
        let initialize = rpc::initialize_declaring(0, who.revision, &who.declared);
        let (kind, opened) = match kind {
            pairs::Client::HttpSse => {
                let stream = SseClient::opening(&client).await;
                let mut client = SseClient::of(stream, &client).await;
                let opened = client.begin(initialize).await;
                (Kind::HttpSse(Box::new(client)), opened)
            }
            pairs::Client::Sessions => {
                let opened = client.open(initialize).await;
                (Kind::Sessions(client, None), opened)
            }
            pairs::Client::Stateless => {
                let discover = rpc::modern("discover", "server/discover", json!({}));
                let discover = discover.declaring(&who.declared);
                let mut response = client.post_modern(&discover).await;
                let answer = response.answer().await;
                assert!(
                    answer["result"].is_object(),
                    "server/discover: {} {answer}",
                    response.status
                );
                (
                    Kind::Stateless(client, Vec::new()),
                    answer["result"].clone(),
                )
            }
        };
        Self {
            kind,
            opened,
            declared: who.declared.clone(),
            level: None,
            made: 0,
            passed_over: VecDeque::new(),
        }
    }

    /// Makes a request. Its progress token is its id.
    pub(crate) async fn ask(&mut self, id: impl Into<Value>, method: &str, params: Value) -> Asked {
        let mut params = params;
        let id = id.into();
        params["_meta"]["progressToken"] = id.clone();
        let place = match &mut self.kind {
            Kind::HttpSse(client) => {
                client.tell(rpc::request(id.clone(), method, &params)).await;
                Place::Session
            }
            Kind::Sessions(client, _) => {
                let request = client.post(rpc::request(id.clone(), method, &params));
                Place::Waiting(Box::new(request.send().await))
            }
            Kind::Stateless(client, _) => {
                let task = params["taskId"].as_str().map(str::to_owned);
                let region = params["arguments"]["region"].as_str().map(str::to_owned);
                let mut request = rpc::modern(id.clone(), method, params).declaring(&self.declared);
                if let Some(level) = self.level {
                    request = request.with_meta(rpc::LOG_LEVEL, level);
                }
                if let Some(task) = task {
                    request.headers.push("Mcp-Name", task);
                }
                if let Some(region) = region {
                    request.headers.push("Mcp-Param-Region", region);
                }
                Place::Waiting(Box::new(client.post_modern(&request).send().await))
            }
        };
        Asked { id, place }
    }

    /// The next message about a request, its answer in the end.
    pub(crate) async fn next(&mut self, asked: &mut Asked) -> Value {
        asked.settle().await;
        match &mut asked.place {
            Place::Stream(response) => response.next_message().await,
            Place::Json(_, answer) => answer.take().expect("there is one answer"),
            Place::Session => {
                let id = asked.id.clone();
                self.pick(|message| message.get("method").is_some() || message["id"] == id)
                    .await
            }
            Place::Waiting(_) => unreachable!("it was just settled"),
        }
    }

    /// What comes before the answer, and the answer.
    pub(crate) async fn all(&mut self, asked: &mut Asked) -> (Vec<Value>, Value) {
        let mut before = Vec::new();
        loop {
            let message = self.next(asked).await;
            if message.get("method").is_none() {
                return (before, message);
            }
            before.push(message);
        }
    }

    /// Makes a request and waits for its answer; nothing but that may come.
    pub(crate) async fn answer(
        &mut self,
        id: impl Into<Value>,
        method: &str,
        params: Value,
    ) -> Value {
        let mut asked = self.ask(id, method, params).await;
        let answer = self.next(&mut asked).await;
        assert!(answer.get("method").is_none(), "{answer}");
        assert_eq!(answer["id"], asked.id, "{answer}");
        answer
    }

    /// As [`answer`](Self::answer), for a request that succeeds.
    pub(crate) async fn result(
        &mut self,
        id: impl Into<Value>,
        method: &str,
        params: Value,
    ) -> Value {
        let answer = self.answer(id, method, params).await;
        assert!(answer["result"].is_object(), "{answer}");
        answer["result"].clone()
    }

    /// Calls a tool and gives answers to all it asks, in the client's own way. Returns what was asked, in
    /// order, and the result.
    pub(crate) async fn converse(
        &mut self,
        (method, mut params): (&str, Value),
        answer: impl Fn(&Value) -> Value,
    ) -> (Vec<Value>, Value) {
        let mut questions = Vec::new();
        for _ in 0..MOST_ROUNDS {
            let id = self.next_id();
            let mut asked = self.ask(id, method, params.clone()).await;
            let said = loop {
                let message = self.next(&mut asked).await;
                if message.get("id").is_none() {
                    continue;
                }
                if message.get("method").is_none() {
                    break message;
                }
                self.tell(rpc::response(message["id"].clone(), &answer(&message)))
                    .await;
                questions.push(message);
            };
            assert!(said["result"].is_object(), "{said}");
            let result = said["result"].clone();
            if result["resultType"] != "input_required" {
                return (questions, result);
            }
            params["requestState"] = result["requestState"].clone();
            let asked = result["inputRequests"].as_object().into_iter().flatten();
            let mut answers = Map::new();
            for (key, question) in asked {
                answers.insert(key.clone(), answer(question));
                questions.push(question.clone());
            }
            params["inputResponses"] = answers.into();
        }
        panic!("it never ended: {questions:?}")
    }

    fn next_id(&mut self) -> String {
        self.made += 1;
        format!("made {}", self.made)
    }

    /// A notification or a response.
    pub(crate) async fn tell(&self, message: impl ToString) {
        let response = match &self.kind {
            Kind::HttpSse(client) => client.post(message).await,
            Kind::Sessions(client, _) => client.post(message).await,
            Kind::Stateless(client, _) => {
                client
                    .post(message)
                    .header("MCP-Protocol-Version", rpc::MODERN)
                    .await
            }
        };
        assert_eq!(response.status, 202);
    }

    /// Does not wait for an answer any more, and says so in its own way.
    pub(crate) async fn cancel(&self, asked: Asked) {
        if matches!(self.kind, Kind::Stateless(..)) {
            return;
        }
        let params = json!({"requestId": asked.id});
        self.tell(rpc::notification("notifications/cancelled", &params))
            .await;
        let mut response = match asked.place {
            Place::Waiting(connection) => connection.response().await,
            Place::Stream(response) => *response,
            Place::Json(..) | Place::Session => return,
        };
        let (events, _) = response.events_to_end().await;
        let messages = events.iter().filter(|event| event.has_message());
        let mut answers = messages.filter(|event| event.json().get("method").is_none());
        assert_eq!(answers.next(), None, "what was cancelled is not answered");
    }

    /// Asks for log lines of this level and above.
    pub(crate) async fn set_level(&mut self, level: &'static str) {
        if matches!(self.kind, Kind::Stateless(..)) {
            self.level = Some(level);
            return;
        }
        let id = self.next_id();
        self.result(id, "logging/setLevel", json!({"level": level}))
            .await;
    }

    /// Opens the stream on which changes of lists are told.
    pub(crate) async fn listen(&mut self) {
        let all = json!({
            "toolsListChanged": true,
            "promptsListChanged": true,
            "resourcesListChanged": true,
        });
        match &mut self.kind {
            Kind::HttpSse(_) => {}
            Kind::Sessions(client, stream) => {
                let response = client.get().await;
                assert_eq!(response.status, 200);
                *stream = Some(Box::new(response));
            }
            Kind::Stateless(..) => {
                self.listen_to("listen", all.clone(), &all).await;
            }
        }
    }

    /// Asks to be told when this resource changes.
    pub(crate) async fn subscribe(&mut self, uri: &str) {
        if matches!(self.kind, Kind::Stateless(..)) {
            let wanted = json!({"resourceSubscriptions": [uri]});
            self.listen_to(&format!("listen to {uri}"), wanted.clone(), &wanted)
                .await;
        } else {
            let id = self.next_id();
            let params = json!({"uri": uri});
            let mut asked = self.ask(id, "resources/subscribe", params).await;
            let answer = if matches!(self.kind, Kind::HttpSse(_)) {
                // What is told of resources comes on the same stream, and may come before.
                let id = asked.id.clone();
                self.pick(|message| message["id"] == id).await
            } else {
                self.next(&mut asked).await
            };
            assert_eq!(answer["result"], json!({}), "{answer}");
        }
    }

    /// Listens, where that is a request; this much is acknowledged.
    pub(crate) async fn listen_to(&mut self, id: &str, wanted: Value, honoured: &Value) {
        let params = json!({"notifications": wanted});
        let request: Modern = rpc::modern(id, "subscriptions/listen", params);
        let request = request.declaring(&self.declared);
        let Kind::Stateless(client, listens) = &mut self.kind else {
            panic!("sessions do not listen");
        };
        let mut stream = client.post_modern(&request).await;
        assert_eq!(stream.status, 200);
        let acknowledged = stream.next_message().await;
        assert_eq!(
            acknowledged["method"],
            "notifications/subscriptions/acknowledged"
        );
        assert_eq!(acknowledged["params"]["notifications"], *honoured);
        assert_eq!(acknowledged["params"]["_meta"][rpc::SUBSCRIPTION], id);
        listens.push(stream);
    }

    /// The next message on the stream that was opened last for what belongs to no request.
    pub(crate) async fn unasked(&mut self) -> Value {
        match &mut self.kind {
            Kind::HttpSse(_) => self.pick(|message| message.get("method").is_some()).await,
            Kind::Sessions(_, stream) => stream.as_mut().expect("it listens").next_message().await,
            Kind::Stateless(_, listens) => {
                listens.last_mut().expect("it listens").next_message().await
            }
        }
    }

    /// The first message on the stream of HTTP+SSE that is this; others are kept.
    async fn pick(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.passed_over.iter().position(&wanted) {
            return self.passed_over.remove(at).expect("it was just found");
        }
        let Kind::HttpSse(client) = &mut self.kind else {
            panic!("other clients have a stream for each request");
        };
        loop {
            let message = client.stream.next_message().await;
            if wanted(&message) {
                return message;
            }
            self.passed_over.push_back(message);
        }
    }

    /// A client of Streamable HTTP, for what no other has.
    pub(crate) fn http(&self) -> &Client {
        match &self.kind {
            Kind::Sessions(client, _) | Kind::Stateless(client, _) => client,
            Kind::HttpSse(_) => panic!("this client speaks HTTP+SSE"),
        }
    }
}

impl Asked {
    /// Until there is something of the answer.
    pub(crate) async fn settle(&mut self) {
        if !matches!(self.place, Place::Waiting(_)) {
            return;
        }
        let Place::Waiting(connection) = std::mem::replace(&mut self.place, Place::Session) else {
            unreachable!("it was just looked at");
        };
        let mut response = connection.response().await;
        self.place = if response.is_stream() {
            Place::Stream(Box::new(response))
        } else {
            Place::Json(response.status, Some(response.json().await))
        };
    }

    /// The HTTP status of the answer; `None` where that says nothing of it.
    pub(crate) async fn status(&mut self) -> Option<u16> {
        self.settle().await;
        match &self.place {
            Place::Stream(response) => Some(response.status),
            Place::Json(status, _) => Some(*status),
            _ => None,
        }
    }

    /// The stream it is answered on.
    pub(crate) fn stream(self) -> Response {
        match self.place {
            Place::Stream(response) => *response,
            _ => panic!("it is not answered by a stream"),
        }
    }
}

/// More than anybody goes along with.
const MOST_ROUNDS: usize = 20;
