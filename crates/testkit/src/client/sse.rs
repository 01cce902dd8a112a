//! A client of HTTP+SSE (2024-11-05), as the SDKs of that time behave.

use std::panic::Location;

use serde_json::Value;

use super::{Client, RequestBuilder, Response};
use crate::rpc;

/// An open stream, and where to post to. Dropping it closes the stream.
#[derive(Debug)]
pub struct SseClient {
    /// The stream, as far as it has been read.
    pub stream: Response,
    endpoint: String,
    messages: Client,
}

impl SseClient {
    /// Opens the stream of this URL, `http://127.0.0.1:PORT/path`, and reads its first event.
    ///
    /// # Panics
    /// If there is no stream, or its first event is no `endpoint` with an absolute path in it.
    #[track_caller]
    pub fn open(url: &str) -> impl Future<Output = Self> + Send + use<> {
        let client = Client::new(url);
        let request = Self::opening(&client);
        let at = Location::caller();
        async move {
            let stream = request.await;
            assert_eq!(stream.status, 200, "the stream opened at {at}");
            Self::of(stream, &client).await
        }
    }

    /// The request that opens a stream, for a test that adds to it.
    #[track_caller]
    pub fn opening(client: &Client) -> RequestBuilder {
        client.get()
    }

    /// Goes on from the response to [`opening`](Self::opening).
    ///
    /// # Panics
    /// As [`open`](Self::open).
    #[track_caller]
    pub fn of(mut stream: Response, client: &Client) -> impl Future<Output = Self> + Send + use<> {
        let (at, address) = (Location::caller(), client.address());
        let authorization = client.authorization.clone();
        async move {
            let first = stream.next_event().await;
            let first = first.unwrap_or_else(|| panic!("the stream opened at {at} has no event"));
            assert_eq!(
                first.kind.as_deref(),
                Some("endpoint"),
                "first event at {at}"
            );
            let endpoint = first.data.unwrap_or_default();
            assert!(
                endpoint.starts_with('/'),
                "the endpoint at {at}: {endpoint}"
            );
            let mut messages = Client::new(&format!("http://{address}{endpoint}"));
            messages.authorization = authorization;
            Self {
                stream,
                messages,
                endpoint,
            }
        }
    }

    /// Where it posts to, as the server has said it.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The session's id, as it stands in the endpoint.
    ///
    /// # Panics
    /// If the endpoint holds none.
    #[must_use]
    pub fn session(&self) -> &str {
        let id = self.endpoint.split_once("sessionId=").map(|(_, id)| id);
        id.expect("the endpoint holds the id of its session")
    }

    /// POSTs a message. Awaiting it sends it, on a connection of its own.
    #[track_caller]
    pub fn post(&self, message: impl ToString) -> RequestBuilder {
        self.messages
            .request("POST")
            .header("Content-Type", "application/json")
            .body(message.to_string())
    }

    /// POSTs a message that is accepted.
    ///
    /// # Panics
    /// If it is not.
    #[track_caller]
    pub fn tell<M: ToString>(&self, message: M) -> impl Future<Output = ()> + Send + use<M> {
        let (at, request) = (Location::caller(), self.post(message));
        async move { assert_eq!(request.await.status, 202, "the message posted at {at}") }
    }

    /// Makes a request and waits for the next message, which is its answer if nothing else is said.
    ///
    /// # Panics
    /// If it is not accepted, or no message comes.
    #[track_caller]
    pub fn ask<M: ToString>(&mut self, request: M) -> impl Future<Output = Value> + Send {
        let told = self.tell(request);
        let next = self.stream.next_message();
        async move {
            told.await;
            next.await
        }
    }

    /// `initialize` and `notifications/initialized`. Returns the result of `initialize`.
    ///
    /// # Panics
    /// If the server refuses, or takes too long.
    #[track_caller]
    pub fn initialize(&mut self, revision: &str) -> impl Future<Output = Value> + Send {
        self.begin(rpc::initialize(0, revision))
    }

    /// As [`initialize`](Self::initialize), with a whole `initialize` of one's own.
    ///
    /// # Panics
    /// As [`initialize`](Self::initialize).
    #[track_caller]
    pub fn begin(&mut self, initialize: impl ToString) -> impl Future<Output = Value> + Send {
        let at = Location::caller();
        let body = initialize.to_string();
        async move {
            let answer = self.ask(body).await;
            assert!(answer["result"].is_object(), "initialize at {at}: {answer}");
            self.tell(rpc::initialized()).await;
            answer["result"].clone()
        }
    }
}
