//! What the machine gives to clients, as they get it: with what they keep sealed.

use std::sync::Arc;

use bytes::Bytes;
use thinpipe_proto::bridge::downgrade::{
    AttachmentId, Content, Delivery, ExchangeId, InputRequired, Ticket, UrlRequired,
};

use super::cursor;
use super::parked::ParkedPlace;
use super::post::{Item, Kind, Last};
use super::session::{Session, State};
use crate::clock::now;
use crate::failure::{Failure, Reason};

impl State {
    pub(super) fn deliver(&mut self, delivery: Delivery, session: &Session) {
        let attachment = delivery.attachment;
        match delivery.content {
            Content::Notification(message) => self.give(attachment, Item::Message(message)),
            Content::ChangeNotice(message) => self.give(attachment, Item::Notice(message)),
            Content::Response { message, status } => {
                let Some(post) = self.posts.get(&attachment) else {
                    return;
                };
                let message = match post.kind {
                    Kind::List => cursor::sealed(session, post, message),
                    Kind::Discover => {
                        session.shared.discovered(post, &message);
                        message
                    }
                    Kind::Plain | Kind::Listen => message,
                };
                self.answer(attachment, message, status, None);
            }
            Content::InputRequired(required) => self.ask(attachment, &required, session),
            Content::UrlRequired(required) => self.send_away(attachment, &required, session),
        }
    }

    /// The client is asked, and its call waits; if it may not wait, the server hears so.
    fn ask(&mut self, attachment: AttachmentId, required: &InputRequired, session: &Session) {
        let ticket = required.ticket;
        match self.park(attachment, ticket, session) {
            Ok((place, state)) => {
                self.parked.insert(ticket.exchange, place);
                let message = required.message(&state);
                self.answer(attachment, message, 200, Some(ticket.exchange));
            }
            Err(failure) => {
                let (upstream, reason) = (session.shared.name(), failure.reason.as_str());
                let error = &failure.text;
                tracing::warn!(upstream, reason, error, "a client is not asked");
                self.machine.unparkable(ticket, reason, error, now());
            }
        }
    }

    /// A place for a call that is to wait, and what its client gets to come back with.
    fn park(
        &mut self,
        attachment: AttachmentId,
        ticket: Ticket,
        session: &Session,
    ) -> Result<(ParkedPlace, String), Failure> {
        let left = || Failure::new(Reason::StreamLost, "the client has left");
        let post = self.posts.get(&attachment).ok_or_else(left)?;
        let place = match self.parked.remove(&ticket.exchange) {
            Some(place) => place,
            None => session.shared.park(&post.client)?,
        };
        let state = session.shared.parked_state(session.key, post, ticket)?;
        Ok((place, state))
    }

    /// The client has to visit pages before its call runs.
    fn send_away(&mut self, attachment: AttachmentId, required: &UrlRequired, session: &Session) {
        let Some(post) = self.posts.get(&attachment) else {
            return;
        };
        let elicitations = required.elicitations.clone();
        let state = session.shared.rerun_state(session.key, post, elicitations);
        match state {
            Ok(state) => {
                let message = required.message(&state);
                self.answer(attachment, message, 200, None);
            }
            Err(failure) => {
                let message = failure.message(Some(&required.id), session.shared.name());
                let status = failure.status().as_u16();
                self.answer(attachment, message, status, None);
            }
        }
    }

    fn answer(
        &mut self,
        attachment: AttachmentId,
        message: Bytes,
        status: u16,
        parks: Option<ExchangeId>,
    ) {
        let last = Last {
            message,
            status,
            parks,
        };
        self.last(attachment, Item::Last(last));
    }

    fn give(&mut self, attachment: AttachmentId, item: Item) {
        if let Some(post) = self.posts.get(&attachment) {
            post.push(item);
            self.given.push(Arc::clone(post));
        }
    }

    /// Nothing more comes from this session.
    pub(super) fn last(&mut self, attachment: AttachmentId, item: Item) {
        if let Some(post) = self.forget(attachment) {
            post.push(item);
        }
    }
}
