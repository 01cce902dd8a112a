//! A server of revision 2026-07-28. Whoever leaves cancels.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use thinpipe_testkit::network::{Http, HttpRequest, Network, Socket};
use thinpipe_testkit::{Event, Headers, rpc};

use crate::ledger::Ledger;
use crate::process::Process;
use crate::server::{Plan, json_headers};

pub(crate) struct StatelessServer {
    ledger: Ledger,
    process: Process,
    running: AtomicUsize,
}

impl StatelessServer {
    /// Starts a server as this node.
    pub(crate) fn start(network: &Network, name: &str, ledger: &Ledger) -> Arc<Self> {
        let server = Arc::new(Self {
            ledger: ledger.clone(),
            process: Process::start(network, name),
            running: AtomicUsize::new(0),
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

    /// Calls that run now.
    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    async fn serve(self: Arc<Self>, mut http: Http<Socket>) {
        while let Ok(Some(request)) = http.request().await {
            if self.answer(&mut http, &request).await.is_err() {
                return;
            }
        }
    }

    async fn answer(&self, http: &mut Http<Socket>, request: &HttpRequest) -> std::io::Result<()> {
        let message: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let answer =
            |result| json!({"jsonrpc": "2.0", "id": message["id"], "result": result}).to_string();
        match message["method"].as_str() {
            Some("tools/call") => {
                self.running.fetch_add(1, Ordering::SeqCst);
                let _running = Running(&self.running);
                let plan = Plan::of(&message);
                self.ledger.runs(&plan.token);
                self.call(http, &plan).await
            }
            Some("tools/list") => {
                let result = json!({"resultType": "complete", "tools": []});
                http.respond(200, &json_headers(), &answer(result)).await
            }
            Some("server/discover") => {
                let result = json!({
                    "resultType": "complete",
                    "supportedVersions": [rpc::MODERN],
                    "capabilities": {"tools": {}},
                });
                http.respond(200, &json_headers(), &answer(result)).await
            }
            _ => http.respond(404, &Headers::new(), "").await,
        }
    }

    async fn call(&self, http: &mut Http<Socket>, plan: &Plan) -> std::io::Result<()> {
        let mut headers = Headers::new();
        headers.push("Content-Type", "text/event-stream");
        if !plan.is_json {
            http.begin(200, &headers).await?;
            for number in 1..=plan.events {
                pause(http, plan).await?;
                let event = Event::message(plan.progress(number));
                http.piece(&event.to_bytes()).await?;
            }
        }
        pause(http, plan).await?;
        if plan.is_json {
            return http.respond(200, &json_headers(), &plan.result()).await;
        }
        http.piece(&Event::message(plan.result()).to_bytes())
            .await?;
        http.piece(b"").await
    }
}

/// Works for a while; an error if its client leaves meanwhile.
async fn pause(http: &mut Http<Socket>, plan: &Plan) -> std::io::Result<()> {
    tokio::select! {
        biased;
        // Both lose nothing when they are dropped.
        () = tokio::time::sleep(plan.pause) => Ok(()),
        () = http.left() => Err(std::io::ErrorKind::ConnectionReset.into()),
    }
}

struct Running<'a>(&'a AtomicUsize);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
