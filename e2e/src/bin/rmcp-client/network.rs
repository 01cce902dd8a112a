//! rmcp's own HTTP client, and the session it was given.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use futures_util::stream::BoxStream;
use reqwest::header::{ACCEPT, HeaderName, HeaderValue};
use rmcp::model::{ClientJsonRpcMessage, ProtocolVersion};
use rmcp::transport::streamable_http_client::{
    SseError, StreamableHttpClient, StreamableHttpClientTransportConfig, StreamableHttpError,
    StreamableHttpPostResponse,
};
use rmcp_sse_stream::Sse;
use serde_json::json;

/// The network, with a note of the session's id.
#[derive(Clone, Default)]
pub(crate) struct Watched {
    http: reqwest::Client,
    session: Arc<OnceLock<String>>,
}

impl Watched {
    pub(crate) fn session(&self) -> Option<&String> {
        self.session.get()
    }

    /// The status that a request of the session gets, if there was one, after the client has ended it.
    pub(crate) async fn after_the_end(
        &self,
        url: &str,
        revision: &ProtocolVersion,
    ) -> reqwest::Result<Option<u16>> {
        let Some(session) = self.session() else {
            return Ok(None);
        };
        let request = json!({ "jsonrpc": "2.0", "id": 99, "method": "tools/list", "params": {} });
        let response = self
            .http
            .post(url)
            .header(ACCEPT, "application/json, text/event-stream")
            .header("mcp-session-id", session)
            .header("mcp-protocol-version", revision.as_str())
            .json(&request)
            .send()
            .await?;
        Ok(Some(response.status().as_u16()))
    }
}

type Outcome<T> = Result<T, StreamableHttpError<reqwest::Error>>;
type Events = BoxStream<'static, Result<Sse, SseError>>;
type Headers = HashMap<HeaderName, HeaderValue>;

impl StreamableHttpClient for Watched {
    type Error = reqwest::Error;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        token: Option<String>,
        headers: Headers,
    ) -> Outcome<StreamableHttpPostResponse> {
        let limit = StreamableHttpClientTransportConfig::default().max_sse_event_size;
        self.post_message_with_max_sse_event_size(uri, message, session, token, headers, limit)
            .await
    }

    async fn post_message_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        token: Option<String>,
        headers: Headers,
        limit: usize,
    ) -> Outcome<StreamableHttpPostResponse> {
        let sent = self
            .http
            .post_message_with_max_sse_event_size(uri, message, session, token, headers, limit);
        let response = sent.await?;
        let session = match &response {
            StreamableHttpPostResponse::Json(_, session)
            | StreamableHttpPostResponse::Sse(_, session) => session.clone(),
            _ => None,
        };
        if let Some(session) = session {
            self.session.get_or_init(|| session);
        }
        Ok(response)
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session: Arc<str>,
        token: Option<String>,
        headers: Headers,
    ) -> Outcome<()> {
        self.http.delete_session(uri, session, token, headers).await
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session: Option<Arc<str>>,
        last_event_id: Option<String>,
        token: Option<String>,
        headers: Headers,
    ) -> Outcome<Events> {
        self.http
            .get_stream(uri, session, last_event_id, token, headers)
            .await
    }

    async fn get_stream_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        session: Option<Arc<str>>,
        last_event_id: Option<String>,
        token: Option<String>,
        headers: Headers,
        limit: usize,
    ) -> Outcome<Events> {
        self.http
            .get_stream_with_max_sse_event_size(uri, session, last_event_id, token, headers, limit)
            .await
    }
}
