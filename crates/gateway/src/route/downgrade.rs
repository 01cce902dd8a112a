//! Clients of 2026-07-28 in front of a server that has sessions only (protocol notes 5.4).

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use thinpipe_proto::bridge::downgrade::Channel;
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::{Message, member, string};
use thinpipe_transport::ByteBudget;
use thinpipe_transport::body::BoxFuture;
use thinpipe_transport::server::Answer;
use thinpipe_transport::upstream::pipe::{Pipe, PipeError};
use thinpipe_transport::upstream::probe::Speaks;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::pinned::{Question, Seems, denies};
use super::server::Server;
use super::stateless::rejected_stateless;
use super::{Incoming, Route};
use crate::config::{Reached, UpstreamSpec};
use crate::downgrade::{Asked, Client, Downgrade, Owner, Settings};
use crate::failure::Failure;
use crate::headers;
use crate::interceptor::{Carrier, Direction, MessageContext};
use crate::pipe::Spoken;
use crate::seal::{NotSealed, Seals};

/// How such clients use the server of a route.
///
/// # Errors
/// [`NotSealed`]: there are no random numbers.
pub(super) fn of(
    spec: &UpstreamSpec,
    seals: Arc<Seals>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
    buffered: &ByteBudget,
) -> Result<Arc<Downgrade>, NotSealed> {
    let mut bridge = spec.bridge.clone();
    let mut total_key = "session_pool.total";
    if let Reached::Stdio(program) = &spec.reached
        && program.max_children <= bridge.pool.total
    {
        // Each session is a process: one that nobody uses makes room for one that is wanted.
        bridge.pool.total = program.max_children;
        total_key = "process.max_children";
    }
    let settings = Settings {
        upstream: Arc::clone(spec.name()),
        bridge,
        total_key,
        clients: spec.clients,
        idle: spec.request_timeout(),
        stream_idle: spec.stream_idle(),
        budget: buffered.clone(),
    };
    Downgrade::new(settings, seals, tasks.clone(), stop.clone())
}

impl Route {
    /// How the messages of the server come, if it has sessions and nothing else; `None`: it speaks
    /// 2026-07-28. It is asked, if that is not known.
    pub(super) async fn sessions_only(&self) -> Result<Option<Channel>, Failure> {
        let found = self.find_out().await.map_err(|failure| {
            let text = format!("{} cannot be probed: {}", self.name(), failure.text);
            Failure::new(failure.reason, text)
        })?;
        Ok(match found.speaks {
            Speaks::Modern { .. } => None,
            Speaks::Legacy { .. } if self.upstream().is_some() => Some(Channel::Streams),
            Speaks::Legacy { .. } | Speaks::HttpSse { .. } => Some(Channel::Pipe),
        })
    }

    /// Answers a request of 2026-07-28 by a session of the server.
    pub(super) async fn downgraded(
        self: &Arc<Self>,
        call: Incoming,
        message: Message,
        channel: Channel,
    ) -> Result<Answer, Failure> {
        // By the lists that clients were given, and so by what they sent.
        if let Some(refused) = self.refuse_params(&call, &message, &message) {
            return Ok(refused);
        }
        let context = self.context(&call, None, &message);
        let message = match self.intercept(&context, message).await {
            Ok(message) => message,
            Err((message, rejection)) => return Ok(rejected_stateless(&message, &rejection)),
        };
        let received = match &self.server {
            Server::Http(_) => headers::without_session(call.headers),
            Server::Stdio(_) => HeaderMap::new(),
        };
        let learning = self.answers.learning(&message, &call.principal, &received);
        let headers = match &self.server {
            Server::Http(_) => self.headers_over_sse(received, &context)?,
            Server::Stdio(_) => received,
        };
        let context = MessageContext {
            direction: Direction::ToClient,
            carrier: Carrier::Event,
            ..context
        };
        let asked = Asked {
            message: message.clone(),
            client: Client {
                principal: call.principal,
                address: call.address,
            },
            headers,
            context: context.clone(),
            channel,
            learning,
        };
        let owner: Arc<dyn Owner> = Arc::clone(self) as _;
        let answer = match self.downgrade.answer(owner, asked).await {
            Ok(answer) => answer,
            Err(refusal) => refusal.answer(&message, self.name())?,
        };
        self.with_own_headers(&context, answer)
    }
}

impl Owner for Route {
    fn open(self: Arc<Self>, headers: Option<HeaderMap>) -> BoxFuture<Result<Pipe, Failure>> {
        Box::pin(async move {
            let group = match &self.server {
                Server::Stdio(children) => {
                    // One that ends for this one's sake may take as long as it took to find it.
                    let started = children.start_within(self.spec.bridge.pool.wait).await;
                    return started.map_err(|not| not.into_failure(self.name()));
                }
                Server::Http(group) => group,
            };
            let headers = match headers {
                Some(headers) => headers,
                // What the gateway itself says to a server that several clients share.
                None => {
                    let context = self.context_outside(Revision::NEWEST_LEGACY, Some("initialize"));
                    self.headers_over_sse(HeaderMap::new(), &context)?
                }
            };
            let known = self.era().known();
            if known.is_some_and(|verdict| matches!(verdict.speaks, Speaks::HttpSse { .. })) {
                return self.open_sse(group, headers).await;
            }
            self.open_streamable(group, headers).await
        })
    }

    fn opened(&self, result: &Bytes) {
        self.counters.session_opened();
        let Server::Stdio(children) = &self.server else {
            return;
        };
        let version = member(result, "protocolVersion");
        let version = version.as_ref().and_then(|version| string(version));
        let revision = version.and_then(|version| Revision::from_bytes(version.as_bytes()));
        self.program_said(children, revision.map(Spoken::Sessions));
    }

    fn refused(&self, answer: &Message) -> Option<String> {
        self.doubt(Question::Initialize.refused(answer)?)
    }

    fn not_taken(&self, error: &PipeError) -> Option<String> {
        let doubt = || self.doubt(Seems::Other);
        denies(error).then(doubt).flatten()
    }

    fn never_opened(&self, had_pipe: bool) {
        match &self.server {
            // A start that fails counts by itself; a lack of room and a pause are none.
            Server::Stdio(children) if had_pipe => children.start_failed(),
            Server::Stdio(_) => {}
            // It may speak something else by now, and not be reached for that reason.
            Server::Http(_) => self.era().contradicted_sessions(),
        }
    }

    fn tools_changed(&self) {
        self.answers.tools_changed();
    }
}

#[cfg(test)]
mod tests;
