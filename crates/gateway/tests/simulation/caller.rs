//! A client of revision 2026-07-28: without a session, and without a way to resume.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use thinpipe_testkit::network::Rng;
use thinpipe_testkit::rpc;
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
        let (events, pause, is_json) =
            self.draw(|rng| (rng.below(6), rng.below(500), rng.per_mille(250)));
        let arguments = json!({"token": token, "events": events, "pause": pause, "json": is_json});
        let meta = json!({"progressToken": token});
        let params = json!({"name": "work", "arguments": arguments, "_meta": meta});
        let request = rpc::modern(id, "tools/call", params);
        self.ledger.count(|figures| figures.calls += 1);
        self.ledger.note(format!("{token} is asked"));
        let (headers, body) = (request.headers, request.body);
        let sent = self
            .connections
            .send(("POST", self.path), headers, body, PATIENCE);
        let outcome = match sent.await {
            Ok(answer) => self.hear(&token, id, events, answer).await,
            Err(Lost::Unsent) => Err("not sent".to_owned()),
            Err(Lost::Unknown(error)) => Err(format!("outcome unknown: {error}")),
        };
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

    async fn hear(
        &self,
        token: &str,
        id: u64,
        events: u64,
        mut answer: Answer,
    ) -> Result<(), String> {
        let status = answer.status;
        let mut answered = None;
        let mut heard = 0;
        if answer.is_stream() {
            loop {
                let event = match answer.event().await {
                    Ok(Some(event)) => event,
                    Ok(None) => break,
                    Err(error) => return answered.ok_or_else(|| format!("cut: {error}")),
                };
                let message = event.data.as_deref().unwrap_or_default();
                let message: Value = serde_json::from_str(message).unwrap_or_default();
                self.ledger.heard(&self.name, &message);
                if answered.is_some() {
                    self.violation(format!("{token}: after its answer comes {message}"));
                }
                if message["method"] == "notifications/progress" {
                    let number = message["params"]["progress"].as_u64().unwrap_or_default();
                    if number != heard + 1 {
                        self.violation(format!("{token}: progress {number} after {heard}"));
                    }
                    heard = number;
                } else if self.judge(token, id, &message) && heard != events {
                    self.violation(format!("{token}: answered after {heard} of {events}"));
                } else {
                    answered = Some(());
                }
            }
        } else {
            let said = answer
                .json()
                .await
                .map_err(|error| format!("cut: {error}"))?;
            self.ledger.heard(&self.name, &said);
            if status != 200 {
                return Err(format!("told {status}: {said}"));
            }
            self.judge(token, id, &said);
            answered = Some(());
        }
        self.connections.done(answer);
        answered.ok_or_else(|| "the stream ends".to_owned())
    }

    /// Whether it is a result.
    fn judge(&self, token: &str, id: u64, message: &Value) -> bool {
        if message["id"] != id {
            self.violation(format!("{token}: is answered by {message}"));
        }
        if message.get("error").is_some() {
            return false;
        }
        if message["result"]["content"][0]["text"] != *token {
            self.violation(format!("{token}: has the answer of another: {message}"));
        }
        true
    }
}
