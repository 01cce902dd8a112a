//! A client with a session at a server that a test speaks for.

use thinpipe_testkit::rpc;

pub(crate) use crate::caller::{Asked, Binding, Caller};
use crate::front::Front;
use crate::server::{Scripted, Speaker};

impl Caller {
    /// A client and its session at the server.
    pub(crate) async fn begin(
        front: &Front,
        server: &mut Scripted,
        binding: Binding,
        revision: &str,
    ) -> (Self, Speaker) {
        let speaking = async {
            let mut speaker = server.session().await;
            speaker.begin(revision).await;
            speaker
        };
        tokio::join!(Self::open(front, binding, revision), speaking)
    }

    /// A client, with whoever answers its `initialize` elsewhere.
    pub(crate) async fn open(front: &Front, binding: Binding, revision: &str) -> Self {
        Self::connect(front, binding, rpc::initialize(0, revision))
            .await
            .0
    }

    /// Asks for a list and is answered: what was said before has arrived by then.
    pub(crate) async fn settle(&mut self, speaker: &mut Speaker) {
        let mut asked = self
            .ask(rpc::request("settle", "tools/list", &serde_json::json!({})))
            .await;
        let request = speaker.hears("tools/list").await;
        speaker
            .answer(&request, serde_json::json!({"tools": []}))
            .await;
        assert_eq!(self.next(&mut asked).await["id"], "settle");
    }

    /// The session's id, as this side knows it.
    pub(crate) fn session(&self) -> &str {
        match self {
            Self::Streamable { client, .. } => client.session().expect("it has a session"),
            Self::HttpSse(client) => client.session(),
        }
    }

    /// Leaves without a word.
    pub(crate) fn leave(self) {
        drop(self);
    }

    /// Ends the session in order.
    pub(crate) async fn end(self) {
        match self {
            Self::Streamable { client, .. } => {
                assert_eq!(client.delete().await.status, 200);
                assert_eq!(client.post(rpc::call(9, "none")).await.status, 404);
            }
            // Its stream is its session.
            Self::HttpSse(client) => drop(client),
        }
    }

    /// The gateway has ended the session.
    pub(crate) async fn expect_over(mut self) {
        match &mut self {
            Self::Streamable { client, .. } => {
                thinpipe_testkit::eventually("the session is over", async || {
                    match client.post(rpc::initialized()).await.status {
                        404 => Ok(()),
                        status => Err(format!("status {status}")),
                    }
                })
                .await;
            }
            Self::HttpSse(client) => {
                let (events, end) = client.stream.events_to_end().await;
                assert_eq!((events, end), (Vec::new(), Ok(())));
            }
        }
    }
}
