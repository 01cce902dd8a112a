//! Requests of revisions with sessions that come outside of any, in front of a server that is a pipe of
//! messages: each has an upstream session of its own (protocol notes 5.2).

use std::sync::{Arc, Weak};

use bytes::Bytes;
use http::HeaderMap;
use thinpipe_proto::probe::initialize_request;
use thinpipe_proto::rpc::{Kind, Message, RequestId};
use thinpipe_transport::server::Answer;
use thinpipe_transport::server::conversation::{Conversation, ConversationConfig};

use super::opening::negotiated;
use super::reestablish::INITIALIZED;
use super::{Incoming, Route};
use crate::failure::{Failure, Reason};
use crate::interceptor::{Carrier, Direction, MessageContext};
use crate::pipe::{Attachment, Draining, Place};
use crate::relay::inspect::rejection_message;

impl Route {
    /// A message outside of any session, which the server's settings allow.
    pub(super) async fn sessionless_piped(
        self: &Arc<Self>,
        call: Incoming,
        message: Message,
    ) -> Result<Answer, Failure> {
        let context = self.context(&call, None, &message);
        let message = match self.intercept(&context, message).await {
            Ok(message) => message,
            Err((message, rejection)) if message.kind() == Kind::Request => {
                return Ok(Answer::json(rejection_message(&message, &rejection)));
            }
            Err(_) => return Ok(Answer::accepted()),
        };
        let id = message.id().filter(|_| message.kind() == Kind::Request);
        let Some(id) = id.cloned() else {
            // There is nobody whom it could tell anything, and nothing was asked.
            return Ok(Answer::accepted());
        };
        let opened = self.open_for_one(call.clone(), &context).await;
        if opened.is_err() && self.era().is_modern_only() {
            // The program has refused `initialize`, and by that said what it is.
            return Box::pin(self.sessionless_upgraded(call, context, message)).await;
        }
        let attachment = opened?;
        let headers = self.headers_of(call, &attachment, &context)?;
        self.answer_alone((attachment, context), (id, message), headers)
            .await
    }

    /// Answers a request that has a [settled](settle_alone) upstream session for itself, which ends with the
    /// answer.
    pub(super) async fn answer_alone(
        &self,
        (attachment, context): (Attachment, MessageContext),
        (id, message): (RequestId, Message),
        headers: Option<HeaderMap>,
    ) -> Result<Answer, Failure> {
        let begun = attachment.begin(&id, context.call(), false);
        let begun = begun.ok_or_else(Failure::session_gone)?;
        let (upstream, member) = (attachment.upstream(), attachment.member().id());
        if let Err(not_sent) = upstream.send(member, &message, headers).await {
            return self.not_sent(not_sent, &message);
        }
        let draining = Draining::of(Some(id), Arc::clone(self.spec.name()));
        drop(message);
        let answer = begun.inlet.answer().await;
        let answer = draining.holding(attachment).around(answer);
        let context = MessageContext {
            direction: Direction::ToClient,
            ..context
        };
        self.with_own_headers(&context, answer)
    }

    /// An upstream session that declares nothing, since there is nobody to ask.
    async fn open_for_one(
        self: &Arc<Self>,
        call: Incoming,
        context: &MessageContext,
    ) -> Result<Attachment, Failure> {
        let revision = call.revision;
        let initialize = initialize_request(r#""thinpipe""#, revision);
        let initialize = Message::parse(initialize).map_err(|error| self.no_answer(&error))?;
        let about = MessageContext {
            method: context.method.is_some().then(|| "initialize".into()),
            name: None,
            ..context.clone()
        };
        let (attachment, answer) = self.open_piped(call, &about, &initialize).await?;
        let answer = Message::parse(answer).map_err(|error| self.no_answer(&error))?;
        match negotiated(&answer)? {
            Some(agreed) if agreed == revision => {}
            Some(agreed) => {
                let text = format!("{} speaks {agreed} and not {revision}", self.name());
                return Err(Failure::new(Reason::Binding, text));
            }
            None => {
                let error = answer.error().unwrap_or_default();
                let error = String::from_utf8_lossy(&error);
                let text = format!("{} refuses initialize: {error}", self.name());
                return Err(Failure::new(Reason::Invalid, text));
            }
        }
        attachment.upstream().negotiated(revision);
        settle_alone(&attachment, context);
        let initialized = Bytes::from_static(INITIALIZED);
        let initialized = Message::parse(initialized).map_err(|error| self.no_answer(&error))?;
        let (upstream, member) = (attachment.upstream(), attachment.member().id());
        let told = upstream.send(member, &initialized, None).await;
        told.map_err(|_| Failure::session_gone())?;
        Ok(attachment)
    }
}

/// Settles the upstream session of one request, which no client can come back to.
pub(super) fn settle_alone(attachment: &Attachment, context: &MessageContext) {
    attachment.settle(Place {
        // Nobody has one.
        session: Weak::new(),
        conversation: Conversation::new(ConversationConfig::default(), context.revision),
        context: MessageContext {
            direction: Direction::ToClient,
            carrier: Carrier::Event,
            method: None,
            name: None,
            ..context.clone()
        },
        max_message: usize::MAX,
    });
}
