//! A server of revision 2025-11-25: sessions, event ids, resume, questions to the client. It counts every call.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use thinpipe_testkit::network::{Http, HttpRequest, Network, Rng, Socket};
use thinpipe_testkit::{Headers, rpc};
use tokio::sync::Notify;

mod stream;

pub(crate) use stream::Stream;

use crate::ledger::Ledger;
use crate::process::Process;

/// As whom a gateway opens sessions by itself.
const GATEWAY: &str = "thinpipe";

/// How long it waits for a client's answer before it goes on without.
const PATIENCE: Duration = Duration::from_secs(10);

/// Events of a standalone stream.
const MAX_NOTICES: u64 = 60;

/// One life of a server: what it knows is gone with it.
pub(crate) struct Server {
    ledger: Ledger,
    process: Process,
    state: Mutex<State>,
}

struct State {
    rng: Rng,
    sessions: BTreeMap<String, Arc<Session>>,
}

struct Session {
    client: String,
    state: Mutex<SessionState>,
    answered: Notify,
    standalone: Arc<Stream>,
}

#[derive(Default)]
struct SessionState {
    streams: BTreeMap<u64, Arc<Stream>>,
    next_stream: u64,
    /// Questions that are open, and what was answered.
    questions: BTreeMap<String, Option<Value>>,
    is_told: bool,
}

impl Server {
    /// Starts a server as this node.
    pub(crate) fn start(network: &Network, name: &str, ledger: &Ledger, rng: Rng) -> Arc<Self> {
        let server = Arc::new(Self {
            ledger: ledger.clone(),
            process: Process::start(network, name),
            state: Mutex::new(State {
                rng,
                sessions: BTreeMap::new(),
            }),
        });
        let this = Arc::clone(&server);
        server.process.spawn(async move {
            let serve = |http| Arc::clone(&this).serve(http);
            this.process.accept(serve).await;
        });
        server
    }

    /// Ends it in the middle of everything.
    pub(crate) fn kill(&self) {
        self.process.kill();
    }

    /// Sessions that nobody has ended.
    pub(crate) fn sessions(&self) -> usize {
        self.state().sessions.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    async fn serve(self: Arc<Self>, mut http: Http<Socket>) {
        while let Ok(Some(request)) = http.request().await {
            let served = match request.method.as_str() {
                "POST" => self.post(&mut http, &request).await,
                "GET" => self.get(&mut http, &request).await,
                "DELETE" => self.delete(&mut http, &request).await,
                _ => http.respond(405, &Headers::new(), "").await,
            };
            if served.is_err() {
                return;
            }
        }
    }

    fn session(&self, request: &HttpRequest) -> Option<Arc<Session>> {
        let id = request.headers.get("mcp-session-id")?;
        self.state().sessions.get(id).cloned()
    }

    async fn post(
        self: &Arc<Self>,
        http: &mut Http<Socket>,
        request: &HttpRequest,
    ) -> std::io::Result<()> {
        let Ok(message) = serde_json::from_slice::<Value>(&request.body) else {
            self.ledger.violation("a server gets what is no JSON");
            return http.respond(400, &Headers::new(), "").await;
        };
        if message["method"] == "initialize" {
            return self.initialize(http, &message).await;
        }
        let Some(session) = self.session(request) else {
            return http.respond(404, &Headers::new(), "").await;
        };
        match message["method"].as_str() {
            _ if message["id"].is_null() => http.respond(202, &Headers::new(), "").await,
            None => {
                self.answered(&session, &message);
                http.respond(202, &Headers::new(), "").await
            }
            Some("tools/call") => self.call(http, &session, message).await,
            Some(_) => {
                let result = json!({"tools": [], "_meta": {"for": session.client}});
                let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": result});
                http.respond(200, &json_headers(), &answer.to_string())
                    .await
            }
        }
    }

    async fn initialize(&self, http: &mut Http<Socket>, message: &Value) -> std::io::Result<()> {
        let client = message["params"]["clientInfo"]["name"].as_str();
        let client = client.unwrap_or_default().to_owned();
        let id = {
            let mut state = self.state();
            let id = format!("up-{:016x}", state.rng.next_u64());
            let session = Session {
                client,
                state: Mutex::default(),
                answered: Notify::new(),
                standalone: Arc::new(Stream::new(Some("all".to_owned()), None)),
            };
            state.sessions.insert(id.clone(), Arc::new(session));
            id
        };
        let mut headers = json_headers();
        headers.push("Mcp-Session-Id", id);
        let result: Value =
            serde_json::from_str(&rpc::initialize_result("2025-11-25")).unwrap_or_default();
        let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": result["result"]});
        http.respond(200, &headers, &answer.to_string()).await
    }

    /// A client's answer to a question. At most one, and for the question that was asked.
    fn answered(&self, session: &Session, message: &Value) {
        let id = message["id"].as_str().unwrap_or_default();
        self.ledger.note(format!("server is answered {message}"));
        let said = message["result"]["content"]["for"].clone();
        let mut state = session.state.lock().unwrap();
        match state.questions.get_mut(id) {
            Some(answer @ None) => *answer = Some(said),
            Some(Some(_)) => self.ledger.violation(format!("{id} is answered twice")),
            None => self
                .ledger
                .violation(format!("{id} was never asked of {}", session.client)),
        }
        session.answered.notify_waiters();
    }

    async fn call(
        self: &Arc<Self>,
        http: &mut Http<Socket>,
        session: &Arc<Session>,
        message: Value,
    ) -> std::io::Result<()> {
        let plan = Plan::of(&message);
        self.ledger.runs(&plan.token);
        self.ledger
            .note(format!("{} runs {}", self.process.name(), plan.token));
        // Of a session that is shared, it is a principal; of one that a gateway opened by itself, the gateway.
        if session.client != GATEWAY && !plan.token.contains(&session.client) {
            let client = &session.client;
            self.ledger
                .violation(format!("{} in the session of {client}", plan.token));
        }
        if plan.is_json {
            tokio::time::sleep(plan.pause).await;
            return http.respond(200, &json_headers(), &plan.result()).await;
        }
        let stream = {
            let mut state = session.state.lock().unwrap();
            let number = state.next_stream;
            state.next_stream += 1;
            let name = plan.has_ids.then(|| format!("p{number}"));
            let stream = Arc::new(Stream::new(name, plan.drops_at));
            state.streams.insert(number, Arc::clone(&stream));
            stream
        };
        let (running, session) = (Arc::clone(&stream), Arc::clone(session));
        self.process
            .spawn(async move { session.run(&plan, &running).await });
        stream.carry(http, 0).await
    }

    async fn get(
        self: &Arc<Self>,
        http: &mut Http<Socket>,
        request: &HttpRequest,
    ) -> std::io::Result<()> {
        let Some(session) = self.session(request) else {
            return http.respond(404, &Headers::new(), "").await;
        };
        let Some(last) = request.headers.get("last-event-id") else {
            self.talk(&session);
            let standalone = Arc::clone(&session.standalone);
            let fresh = standalone.fresh();
            return standalone.carry(http, fresh).await;
        };
        let found = {
            let state = session.state.lock().unwrap();
            let streams = state.streams.values().chain([&session.standalone]);
            let mut found = streams.filter_map(|it| Some((Arc::clone(it), it.after(last)?)));
            found.next()
        };
        match found {
            Some((stream, from)) => stream.carry(http, from).await,
            None => {
                let client = &session.client;
                self.ledger
                    .violation(format!("{client} resumes after {last}, which is nothing"));
                http.respond(400, &Headers::new(), "").await
            }
        }
    }

    /// Says something on the standalone stream now and then.
    fn talk(&self, session: &Arc<Session>) {
        if std::mem::replace(&mut session.state.lock().unwrap().is_told, true) {
            return;
        }
        let mut rng = self.state().rng.fork();
        let session = Arc::downgrade(session);
        self.process.spawn(async move {
            for number in 1..=MAX_NOTICES {
                let pause = Duration::from_millis(50) + rng.up_to(Duration::from_secs(2));
                tokio::time::sleep(pause).await;
                let Some(session) = session.upgrade() else {
                    return;
                };
                let data = json!({"for": session.client, "number": number});
                let params = json!({"level": "info", "data": data});
                session
                    .standalone
                    .push(rpc::notification("notifications/message", &params));
            }
        });
    }

    async fn delete(&self, http: &mut Http<Socket>, request: &HttpRequest) -> std::io::Result<()> {
        let id = request.headers.get("mcp-session-id").unwrap_or_default();
        let session = self.state().sessions.remove(id);
        let Some(session) = session else {
            return http.respond(404, &Headers::new(), "").await;
        };
        session.standalone.finish();
        for stream in session.state.lock().unwrap().streams.values() {
            stream.finish();
        }
        http.respond(200, &Headers::new(), "").await
    }
}

impl Session {
    /// Runs a call to its end, whoever listens.
    async fn run(&self, plan: &Plan, stream: &Stream) {
        for number in 1..=plan.events {
            tokio::time::sleep(plan.pause).await;
            stream.push(plan.progress(number));
            if plan.asks_at == Some(number) {
                self.ask(plan, stream).await;
            }
        }
        tokio::time::sleep(plan.pause).await;
        stream.push(plan.result());
        stream.finish();
    }

    async fn ask(&self, plan: &Plan, stream: &Stream) {
        let id = format!("ask {}", plan.token);
        self.state
            .lock()
            .unwrap()
            .questions
            .insert(id.clone(), None);
        let schema = json!({"type": "object", "properties": {"for": {"type": "string"}}});
        let params = json!({"message": plan.token, "requestedSchema": schema});
        stream.push(rpc::request(id.clone(), "elicitation/create", &params));
        let answered = async {
            loop {
                let heard = self.answered.notified();
                tokio::pin!(heard);
                heard.as_mut().enable();
                if self.state.lock().unwrap().questions[&id].is_some() {
                    return;
                }
                heard.await;
            }
        };
        // Without an answer it goes on: its client may not have heard the question.
        let _ = tokio::time::timeout(PATIENCE, answered).await;
    }
}

/// What a call asks for, in its arguments.
pub(crate) struct Plan {
    pub(crate) id: Value,
    pub(crate) token: String,
    /// Under which its progress goes.
    progress: Value,
    pub(crate) events: u64,
    pub(crate) pause: Duration,
    pub(crate) is_json: bool,
    pub(crate) has_ids: bool,
    pub(crate) drops_at: Option<usize>,
    pub(crate) asks_at: Option<u64>,
}

impl Plan {
    pub(crate) fn of(message: &Value) -> Self {
        let arguments = &message["params"]["arguments"];
        let number = |name: &str| arguments[name].as_u64();
        Self {
            id: message["id"].clone(),
            token: arguments["token"].as_str().unwrap_or_default().to_owned(),
            progress: message["params"]["_meta"]["progressToken"].clone(),
            events: number("events").unwrap_or_default(),
            pause: Duration::from_millis(number("pause").unwrap_or_default()),
            is_json: arguments["json"] == true,
            has_ids: arguments["ids"] == true,
            drops_at: number("drops_at").and_then(|at| usize::try_from(at).ok()),
            asks_at: number("asks_at"),
        }
    }

    pub(crate) fn progress(&self, number: u64) -> String {
        let params =
            json!({"progressToken": self.progress, "progress": number, "message": self.token});
        rpc::notification("notifications/progress", &params)
    }

    pub(crate) fn result(&self) -> String {
        let content = json!([{"type": "text", "text": self.token}]);
        let result = json!({"resultType": "complete", "content": content});
        json!({"jsonrpc": "2.0", "id": self.id, "result": result}).to_string()
    }
}

pub(crate) fn json_headers() -> Headers {
    let mut headers = Headers::new();
    headers.push("Content-Type", "application/json");
    headers
}
