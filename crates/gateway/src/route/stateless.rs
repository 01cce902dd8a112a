//! 2026-07-28: requests that describe themselves, outside of any session.

use std::sync::Arc;

use http::StatusCode;
use thinpipe_proto::classify::is_read_only_method;
use thinpipe_proto::header::MediaType;
use thinpipe_proto::rpc::Message;
use thinpipe_proto::session::Principal;
use thinpipe_transport::server::Answer;
use thinpipe_transport::upstream::{UpstreamRequest, UpstreamResponse};

use super::multiplex::{DISCOVER, purpose_of};
use super::send::posted;
use super::{Incoming, Route, body_failure};
use crate::cache::{Asked, tap};
use crate::downgrade::Refusal;
use crate::failure::{Failure, Reason};
use crate::group::To;
use crate::headers;
use crate::health::denies_revision;
use crate::interceptor::{MessageContext, Rejection};
use crate::relay::inspect::rejection_message;
use crate::relay::{Line, Purpose};
use crate::sealing::{Sealing, Stale};

impl Route {
    /// Forwarded with headers made from the message.
    pub(super) async fn stateless(
        self: &Arc<Self>,
        call: Incoming,
        message: Message,
    ) -> Result<Answer, Failure> {
        if let Some(channel) = self.sessions_only().await? {
            return Box::pin(self.downgraded(call, message, channel)).await;
        }
        let context = self.context(&call, None, &message);
        let received = message.clone();
        let message = match self.intercept(&context, message).await {
            Ok(message) => message,
            Err((message, rejection)) => return Ok(rejected_stateless(&message, &rejection)),
        };
        if let Some(refused) = self.refuse_params(&call, &message, &received) {
            return Ok(refused);
        }
        let sealing = self.sealing(&call.principal, &message);
        let message = match sealing.as_ref().map(|it| it.open(message.clone())) {
            Some(Ok(opened)) => opened,
            Some(Err(Stale)) => return Refusal::Stale.answer(&message, self.name()),
            None => message,
        };
        if self.upstream().is_none() {
            let answering = self.stateless_on_program(call, context, message, sealing);
            return Box::pin(answering).await;
        }
        let id = message.id().cloned();
        let purpose = id.map_or(Purpose::Unasked, |id| purpose_of(&message, id));
        let line = Line {
            edit: self.shown(&message),
            ..self.line(None, purpose)
        };
        let asked = self.answers.ask(&message, &call.principal, &call.headers);
        if let Asked::Kept(kept) = asked {
            return Box::pin(self.give(kept, line, context)).await;
        }
        let response = self
            .send_stateless(call, &context, &message, &received)
            .await?;
        if message.method() == Some(DISCOVER)
            && let Some(denied) = self.denied(&response)
        {
            return Err(denied);
        }
        let is_refused_call =
            response.status == StatusCode::BAD_REQUEST && message.method() == Some("tools/call");
        let response = match asked {
            Asked::Noted(noting) => tap(response, noting),
            // Perhaps for its headers.
            _ if is_refused_call => tap(response, self.answers.doubting(&context.principal)),
            Asked::Kept(_) | Asked::Passed => response,
        };
        let response = match sealing {
            Some(sealing) => {
                let sealed = sealing.around(response, self.max_message(), self.buffered());
                Box::pin(sealed)
                    .await
                    .map_err(|error| body_failure(&error))?
            }
            None => response,
        };
        let is_refusal = response.status == StatusCode::BAD_REQUEST
            && response.media_type == MediaType::Json
            && line.edit.is_none();
        let answer = if is_refusal {
            Box::pin(self.relay_refusal(response, context)).await?
        } else {
            self.relay(response, line, context).await?
        };
        if denies_revision(&answer) {
            self.era.contradicted();
        }
        Ok(answer)
    }

    /// What seals the states that the answer to this request may hold.
    pub(super) fn sealing(&self, principal: &Principal, request: &Message) -> Option<Sealing> {
        let seals = self.spec.bridge.seal_state && Sealing::concerns(request);
        seals.then(|| {
            let name = Arc::clone(self.spec.name());
            Sealing::new(Arc::clone(&self.seals), name, principal.clone())
        })
    }

    pub(super) async fn stateless_notification(
        self: &Arc<Self>,
        call: Incoming,
        message: Message,
    ) -> Result<Answer, Failure> {
        // Each POST is a scope of its own, so that none can cancel another: leaving it is how that is done.
        let cancels = message.method() == Some("notifications/cancelled");
        if cancels || self.upstream().is_none() || self.sessions_only().await?.is_some() {
            // There is nobody whom it could tell anything, and nothing answers it.
            return Ok(Answer::accepted());
        }
        let context = self.context(&call, None, &message);
        let received = message.clone();
        let Ok(message) = self.intercept(&context, message).await else {
            return Ok(Answer::accepted());
        };
        let response = self
            .send_stateless(call, &context, &message, &received)
            .await?;
        self.relay(response, self.line(None, Purpose::Unasked), context)
            .await
    }

    async fn send_stateless(
        &self,
        call: Incoming,
        context: &MessageContext,
        message: &Message,
        received: &Message,
    ) -> Result<UpstreamResponse, Failure> {
        let mut headers = call.headers;
        headers::for_post(&mut headers);
        let version = http::HeaderValue::from_static(call.revision.as_str());
        headers::for_stateless(&mut headers, &version, message, received);
        if message.source() != received.source() {
            let rebuilt = self.answers.rebuild(message, &call.principal, &mut headers);
            rebuilt.map_err(|error| Failure::new(Reason::InvalidParameter, error.to_string()))?;
        }
        let request = UpstreamRequest {
            repeatable: message.method().is_some_and(is_read_only_method),
            ..posted(headers, message.source().clone())
        };
        self.send(context, To::Any, request).await
    }
}

pub(super) fn rejected_stateless(message: &Message, rejection: &Rejection) -> Answer {
    let mut answer = Answer::json(rejection_message(message, rejection));
    if rejection.code == thinpipe_proto::rpc::code::METHOD_NOT_FOUND {
        answer.status = StatusCode::NOT_FOUND;
    }
    answer
}
