//! Connections in memory, so that paused time stands still as long as anything else happens.

use bytes::Bytes;
use thinpipe_testkit::network::{Http, HttpRequest};
use thinpipe_testkit::{Headers, rpc};
use tokio::io::DuplexStream;

use super::support::Node;

/// A connection to a node.
pub(super) struct Connection {
    http: Http<DuplexStream>,
}

impl Node {
    pub(super) fn connect(&self) -> Connection {
        let (near, far) = tokio::io::duplex(1 << 16);
        let server = &self.running.server;
        server.spawn(server.serve_io(far, None));
        Connection {
            http: Http::new(near),
        }
    }

    /// The id of a session that was opened here.
    pub(super) async fn open_session(&self) -> String {
        let body = rpc::initialize(1, "2025-11-25");
        let mut connection = self.connect();
        let (status, headers) = connection.ask("POST", None, body).await;
        assert_eq!(status, 200);
        headers.get("mcp-session-id").unwrap().to_owned()
    }

    /// The status that a request in a session gets here.
    pub(super) async fn status(&self, session: &str, method: &str, body: impl Into<Bytes>) -> u16 {
        let (status, _) = self.connect().ask(method, Some(session), body).await;
        status
    }
}

impl Connection {
    /// Sends a request to the endpoint of Streamable HTTP, and reads the head of the answer.
    pub(super) async fn ask(
        &mut self,
        method: &str,
        session: Option<&str>,
        body: impl Into<Bytes>,
    ) -> (u16, Headers) {
        let mut headers = Headers::new();
        if let Some(session) = session {
            headers.push("Mcp-Session-Id", session);
            headers.push("MCP-Protocol-Version", "2025-11-25");
        }
        self.ask_at("/mcp", method, headers, body).await
    }

    /// The same of any path.
    pub(super) async fn ask_at(
        &mut self,
        target: &str,
        method: &str,
        mut headers: Headers,
        body: impl Into<Bytes>,
    ) -> (u16, Headers) {
        headers.push("Host", "localhost");
        headers.push("Accept", "application/json, text/event-stream");
        headers.push("Content-Type", "application/json");
        let request = HttpRequest {
            method: method.to_owned(),
            target: target.to_owned(),
            headers,
            body: body.into(),
        };
        self.http.send(&request).await.unwrap();
        self.http.response().await.unwrap()
    }

    /// What comes next of the body of the answer.
    pub(super) async fn text(&mut self) -> String {
        let piece = self.http.body().await.unwrap().expect("it goes on");
        String::from_utf8(piece.into()).unwrap()
    }
}
