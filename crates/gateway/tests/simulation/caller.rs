//! A client of revision 2026-07-28: without a session, and without a way to resume.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use thinpipe_testkit::network::Rng;
use thinpipe_testkit::rpc::{self, Modern};
use tokio::time::{Instant, sleep, timeout};

use crate::client::{Answer, Connections, Lost, Member};
use crate::ledger::Ledger;

const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Caller {
    name: String,
    ledger: Ledger,
    connections: Connections,
    path: &'static str,
    next: AtomicU64,
}

impl Caller {
    pub(crate) fn new(member: Member<'_>, ledger: &Ledger) -> Arc<Self> {
        ledger.joins(member.name);
        let (gateways, rng) = (member.gateways, member.rng);
        Arc::new(Self {
            name: member.name.to_owned(),
            ledger: ledger.clone(),
            connections: Connections::new(member.host, gateways, member.token, rng),
            path: member.path,
            next: AtomicU64::new(0),
        })
    }

    pub(crate) async fn run(self: Arc<Self>, until: Instant) {
        while Instant::now() < until {
            let pause = self.draw(|rng| rng.up_to(Duration::from_millis(800)));
            sleep(pause).await;
            // Some leave in the middle, which cancels.
            let patience = self.draw(|rng| match rng.per_mille(200) {
                true => rng.up_to(Duration::from_secs(2)),
                false => Duration::from_secs(60),
            });
            let _ = timeout(patience, self.call()).await;
        }
        self.connections.close_idle();
    }

    /// Invariant 4: whether it can work.
    pub(crate) async fn works(&self) -> bool {
        let request = rpc::modern(self.number(), "tools/list", json!({}));
        let (headers, body) = (request.headers, request.body);
        let patience = Duration::from_secs(2);
        let sent = self
            .connections
            .send(("POST", self.path), headers, body, patience);
        let Ok(mut answer) = sent.await else {
            return false;
        };
        let said = answer.json().await.unwrap_or_default();
        answer.status == 200 && said["result"].is_object()
    }

    fn draw<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> T {
        self.connections.draw(draw)
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn violation(&self, what: impl std::fmt::Display) {
        self.ledger.violation(format!("{}: {what}", self.name));
    }

    async fn call(&self) {
        let id = self.number();
        let token = format!("{}#{id}", self.name);
        let (events, pause, is_json, asks) = self.draw(|rng| {
            let asks = rng.per_mille(400).then(|| 1 + rng.below(4));
            (rng.below(6), rng.below(500), rng.per_mille(250), asks)
        });
        let arguments = json!({
            "token": token, "events": events, "pause": pause, "json": is_json, "asks_at": asks,
        });
        let meta = json!({"progressToken": token});
        let params = json!({"name": "work", "arguments": arguments, "_meta": meta});
        let request = rpc::modern(id, "tools/call", params);
        let request = request.declaring(&json!({"elicitation": {"form": {}}}));
        self.ledger.count(|figures| figures.calls += 1);
        self.ledger.note(format!("{token} is asked"));
        let call = Call {
            token: &token,
            id,
            events,
            heard: 0,
        };
        let outcome = self.rounds(call, request).await;
        self.ledger.note(format!("{token}: {outcome:?}"));
        let ran = self.ledger.ran(&token);
        self.ledger.count(|figures| match outcome {
            Ok(()) => figures.answered += 1,
            Err(_) => {
                figures.told += 1;
                figures.unanswered += u64::from(ran);
            }
        });
    }

    /// Asks, and again with an answer to all that it is asked, until it has an answer itself.
    async fn rounds(&self, mut call: Call<'_>, mut request: Modern) -> Result<(), String> {
        loop {
            let (headers, body) = (request.headers.clone(), request.body.clone());
            let line = ("POST", self.path);
            let sent = self.connections.send(line, headers, body, PATIENCE);
            let answer = match sent.await {
                Ok(answer) => answer,
                Err(Lost::Unsent) => return Err("not sent".to_owned()),
                Err(Lost::Unknown(error)) => return Err(format!("outcome unknown: {error}")),
            };
            let last = self.hear(&mut call, answer).await?;
            if last["result"]["resultType"] != "input_required" {
                return Ok(());
            }
            self.ledger.count(|figures| figures.asked += 1);
            call.id = self.number();
            request = self.retry(&call, &request, &last["result"]);
            let pause = self.draw(|rng| rng.up_to(Duration::from_secs(1)));
            sleep(pause).await;
        }
    }

    /// The same request, with answers.
    fn retry(&self, call: &Call<'_>, request: &Modern, asked: &Value) -> Modern {
        let questions = asked["inputRequests"].as_object();
        let mut answers = serde_json::Map::new();
        for (key, question) in questions.into_iter().flatten() {
            if question["params"]["message"] != *call.token {
                self.violation(format!("{}: is asked {question}", call.token));
            }
            let content = json!({"for": call.token});
            answers.insert(key.clone(), json!({"action": "accept", "content": content}));
        }
        let mut body: Value = serde_json::from_str(&request.body).unwrap_or_default();
        body["id"] = call.id.into();
        body["params"]["requestState"] = asked["requestState"].clone();
        body["params"]["inputResponses"] = Value::Object(answers);
        Modern {
            body: body.to_string(),
            headers: request.headers.clone(),
        }
    }

    /// Hears the answer out, which is the last message.
    async fn hear(&self, call: &mut Call<'_>, mut answer: Answer) -> Result<Value, String> {
        let status = answer.status;
        if !answer.is_stream() {
            let said = answer.json().await;
            let said = said.map_err(|error| format!("cut: {error}"))?;
            self.ledger.heard(&self.name, &said);
            if status != 200 {
                return Err(format!("told {status}: {said}"));
            }
            self.judge(call, &said);
            self.connections.done(answer);
            return Ok(said);
        }
        let mut last = None;
        loop {
            let event = match answer.event().await {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(error) => return last.ok_or_else(|| format!("cut: {error}")),
            };
            let message = event.data.as_deref().unwrap_or_default();
            let message: Value = serde_json::from_str(message).unwrap_or_default();
            self.ledger.heard(&self.name, &message);
            let token = call.token;
            if last.is_some() {
                self.violation(format!("{token}: after its answer comes {message}"));
            }
            if message["method"] == "notifications/progress" {
                let (number, heard) = (message["params"]["progress"].as_u64(), call.heard);
                call.heard = number.unwrap_or_default();
                if call.heard != heard + 1 {
                    self.violation(format!("{token}: progress {number:?} after {heard}"));
                }
            } else {
                let (heard, events) = (call.heard, call.events);
                if self.judge(call, &message) && heard != events {
                    self.violation(format!("{token}: answered after {heard} of {events}"));
                }
                last = Some(message);
            }
        }
        self.connections.done(answer);
        last.ok_or_else(|| "the stream ends".to_owned())
    }

    /// Whether it is the result.
    fn judge(&self, call: &Call<'_>, message: &Value) -> bool {
        let token = call.token;
        if message["id"] != call.id {
            self.violation(format!("{token}: is answered by {message}"));
        }
        let result = &message["result"];
        if message.get("error").is_some() || result["resultType"] == "input_required" {
            return false;
        }
        if result["content"][0]["text"] != *token {
            self.violation(format!("{token}: has the answer of another: {message}"));
        }
        true
    }
}

/// A call, over all its rounds.
struct Call<'a> {
    token: &'a str,
    /// Of the round.
    id: u64,
    events: u64,
    /// Progress that was heard.
    heard: u64,
}
