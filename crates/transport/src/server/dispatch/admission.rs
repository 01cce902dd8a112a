//! Whether the handler takes more messages of a client, which is asked once for each POST.

use thinpipe_proto::classify::Class;
use thinpipe_proto::rpc::{Kind, Message, Payload, RequestId};

use super::Envelope;
use crate::server::exchange::{Answer, Posted};

/// Asks the handler. A batch is let in or refused whole.
///
/// # Errors
/// The refusal.
pub(super) fn ask(envelope: &Envelope, class: &Class) -> Result<(), Answer> {
    match class {
        Class::Stateless(message)
        | Class::StatelessNotification(message)
        | Class::Initialize(message)
        | Class::Message(message) => one(envelope, message),
        Class::Batch(messages) => several(envelope, messages),
        Class::Listen | Class::Terminate => Ok(()),
    }
}

/// The same for what comes to a session of HTTP+SSE.
///
/// # Errors
/// The refusal.
pub(crate) fn ask_for(envelope: &Envelope, payload: &Payload) -> Result<(), Answer> {
    match payload {
        Payload::Single(message) => one(envelope, message),
        Payload::Batch(messages) => several(envelope, messages),
    }
}

fn one(envelope: &Envelope, message: &Message) -> Result<(), Answer> {
    let id = message.id().filter(|_| message.kind() == Kind::Request);
    ask_about(envelope, id, usize::from(counts(message)))
}

fn several(envelope: &Envelope, messages: &[Message]) -> Result<(), Answer> {
    let messages = messages.iter().filter(|message| counts(message)).count();
    ask_about(envelope, None, messages)
}

/// What a client answers is waited for, and asked for by the other side.
fn counts(message: &Message) -> bool {
    !message.kind().is_response()
}

fn ask_about(envelope: &Envelope, id: Option<&RequestId>, messages: usize) -> Result<(), Answer> {
    if messages == 0 {
        return Ok(());
    }
    let peer = || Some(envelope.peer?.ip());
    envelope.endpoint.handler.admits(&Posted {
        principal: &envelope.principal,
        client: envelope.forwarded_for.first().copied().or_else(peer),
        id,
        messages,
    })
}
