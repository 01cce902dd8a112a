//! Servers of Streamable HTTP with sessions (2025-03-26 to 2025-11-25): POSTs up, and everything that comes
//! back as one sequence of messages, each with the request on whose stream it came.
//!
//! There is no task for a message or a stream: whoever takes the messages reads all open streams, in turn,
//! and whoever sends one posts it. A stream that breaks off is resumed by whoever takes the messages. One
//! task for each session waits for its end, to DELETE it.

mod client;
mod messages;
mod posts;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use thinpipe_proto::revision::Revision;
use thinpipe_proto::session::UpstreamSessionId;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::pipe::{DEFAULT_MAX_MESSAGE, Pipe};
use super::{Upstream, probe};
use crate::ByteBudget;
use client::Client;
pub(super) use messages::{Messages, Told};
pub(super) use posts::Posts;

/// Requests of one session that may be open at a time.
pub const MAX_OPEN: usize = 1024;

/// Bytes of an unfinished message that are taken of a stream that [is
/// held](super::pipe::PipeSender::hold): the rest stays in the socket.
pub const MAX_HELD: usize = 64 << 10;

/// How long ending a session at the server may take.
const CLOSING: Duration = Duration::from_secs(5);

/// How what a server says is read.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// Bytes that one message may have.
    pub max_message: usize,
    /// A stream that breaks off is asked for again after its last event. If not, a request whose stream breaks off
    /// before its response is lost, and the standalone stream is opened anew, not from where it was.
    pub resumes: bool,
}

impl Default for Reading {
    fn default() -> Self {
        Self {
            max_message: DEFAULT_MAX_MESSAGE,
            resumes: true,
        }
    }
}

/// A session in which nothing was said: `initialize` is the first message to send. Its answer may name a
/// session id, which goes with all later messages. `headers` go with every request that has none of its own
/// (credentials); those of MCP are set here. Long messages are held within `budget`. When it ends, the session is ended at the server too, by one of `tasks`.
///
/// Call it inside of a runtime, which must live as long as the session.
#[must_use]
pub fn open(
    upstream: &Upstream,
    headers: HeaderMap,
    reading: Reading,
    budget: &ByteBudget,
    tasks: &TaskTracker,
) -> Pipe {
    let over = CancellationToken::new();
    let client = Arc::new(Client::new(upstream.clone(), probe::plain(headers)));
    let messages = Messages::new(Arc::clone(&client), reading, budget);
    let posts = Posts::new(Arc::clone(&client), messages.streams(), over.clone());
    tasks.spawn(end(client, over.clone()));
    Pipe::streamable(upstream, posts, messages, over)
}

/// A session that was opened elsewhere, by another process: the server knows it by this id, if it has given one,
/// and this revision was agreed on. All else is as with [`open`].
#[must_use]
pub fn open_at(
    upstream: &Upstream,
    (session, revision): (Option<&UpstreamSessionId>, Revision),
    headers: HeaderMap,
    reading: Reading,
    budget: &ByteBudget,
    tasks: &TaskTracker,
) -> Pipe {
    let pipe = open(upstream, headers, reading, budget, tasks);
    pipe.sender.resume(session, revision);
    pipe
}

/// Tells the server of the end of its session.
async fn end(client: Arc<Client>, over: CancellationToken) {
    over.cancelled().await;
    client.end_session().await;
}
