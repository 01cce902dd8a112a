//! The exchange log: one record for each exchange, given to whoever wants to write it.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use thinpipe_proto::classify::name_param;
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::Message;
use thinpipe_transport::ByteBudget;
use thinpipe_transport::server::{Answer, Content, Exchange, Inbound, Session};

use crate::stats::MethodClass;

/// One exchange, as a log shows it. No session id in full, no arguments, no tokens.
#[derive(Debug, Clone)]
pub struct ExchangeRecord<'a> {
    /// Name of the upstream.
    pub upstream: &'a str,
    /// Method of the message; `response` for a client's response, `GET` and `DELETE` for those.
    pub message: &'a str,
    /// The tool, prompt or resource it names: the client's own text, control characters and all.
    pub name: Option<&'a str>,
    /// HTTP status of the answer.
    pub status: u16,
    /// The answer is an event stream, which goes on after this.
    pub is_stream: bool,
    /// Revision of the message; of `initialize` the one that it asks for, if it is known here.
    pub revision: Revision,
    /// First characters of the session's id.
    pub session: Option<&'a str>,
    /// Address of the client, if trusted proxies stand between it and the peer.
    pub client: Option<IpAddr>,
    /// Address of the peer.
    pub peer: Option<SocketAddr>,
    /// When the head of the answer was known.
    pub at: Instant,
    /// From the request read until then.
    pub took: Duration,
}

/// Writes the exchange log. Called on the threads that serve, so it must not block.
pub trait ExchangeLog: Send + Sync + 'static {
    /// Takes one record.
    fn record(&self, record: &ExchangeRecord<'_>);
}

/// What is kept of an exchange until its answer begins.
pub(crate) struct Begun {
    pub(crate) class: MethodClass,
    at: Instant,
    /// Only where somebody writes a log.
    logged: Option<Box<Logged>>,
}

struct Logged {
    subject: Subject,
    session: Option<Arc<Session>>,
    revision: Revision,
    client: Option<IpAddr>,
    peer: Option<SocketAddr>,
}

enum Subject {
    Message(Message),
    /// Method and name of a large message, which may have to go before its record is made.
    Large(String, Option<String>),
    Fixed(&'static str),
}

impl Subject {
    fn of(message: &Message) -> Self {
        if message.source().len() <= ByteBudget::FREE {
            return Self::Message(message.clone());
        }
        let (method, name) = described(message);
        Self::Large(method.to_owned(), name.map(Cow::into_owned))
    }
}

fn described(message: &Message) -> (&str, Option<Cow<'_, str>>) {
    let method = message.method().unwrap_or("response");
    let name = name_param(method).and_then(|param| message.param_text(param));
    (method, name)
}

fn asked_revision(initialize: &Message) -> Option<Revision> {
    let asked = initialize.param_text("protocolVersion")?;
    Revision::from_bytes(asked.as_bytes())
}

impl Begun {
    pub(crate) fn new(exchange: &Exchange, is_logged: bool) -> Self {
        let class = match &exchange.inbound {
            Inbound::Stateless(message)
            | Inbound::StatelessNotification(message)
            | Inbound::Initialize(message, _)
            | Inbound::Message(message, _) => MethodClass::of(message.method()),
            Inbound::Listen(..) => MethodClass::LISTEN,
            Inbound::Terminate(_) => MethodClass::TERMINATE,
        };
        Self {
            class,
            at: exchange.read_at,
            logged: is_logged.then(|| Box::new(Logged::new(exchange))),
        }
    }

    /// How long it has been until `now`.
    pub(crate) fn took(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.at)
    }

    pub(crate) fn record(
        &self,
        log: &dyn ExchangeLog,
        upstream: &str,
        answer: &Answer,
        now: Instant,
    ) {
        if let Some(logged) = &self.logged {
            logged.record(log, upstream, answer, (now, self.took(now)));
        }
    }
}

impl Logged {
    fn new(exchange: &Exchange) -> Self {
        // Nothing is negotiated yet, and what it asks for is all there is to tell.
        let asked = match &exchange.inbound {
            Inbound::Initialize(message, _) => asked_revision(message),
            _ => None,
        };
        let (subject, session) = match &exchange.inbound {
            Inbound::Stateless(message)
            | Inbound::StatelessNotification(message)
            | Inbound::Initialize(message, _) => (Subject::of(message), None),
            Inbound::Message(message, session) => (Subject::of(message), session.clone()),
            Inbound::Listen(session, None) => (Subject::Fixed("GET"), Some(Arc::clone(session))),
            Inbound::Listen(session, Some(_)) => {
                (Subject::Fixed("GET (resume)"), Some(Arc::clone(session)))
            }
            Inbound::Terminate(session) => (Subject::Fixed("DELETE"), Some(Arc::clone(session))),
        };
        Self {
            subject,
            session,
            revision: asked.unwrap_or(exchange.revision),
            client: exchange.forwarded_for.first().copied(),
            peer: exchange.peer,
        }
    }

    fn record(
        &self,
        log: &dyn ExchangeLog,
        upstream: &str,
        answer: &Answer,
        (at, took): (Instant, Duration),
    ) {
        let (message, name) = match &self.subject {
            Subject::Fixed(name) => (*name, None),
            Subject::Message(message) => described(message),
            Subject::Large(method, name) => (method.as_str(), name.as_deref().map(Cow::Borrowed)),
        };
        let session = self.session.as_ref().map(|session| {
            let id = session.id().as_str();
            &id[..id.len().min(6)]
        });
        log.record(&ExchangeRecord {
            upstream,
            message,
            name: name.as_deref(),
            status: answer.status.as_u16(),
            is_stream: answer.content == Content::EventStream,
            revision: self.revision,
            session,
            client: self.client,
            peer: self.peer,
            at,
            took,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Over HTTP+SSE nothing else tells what `initialize` is written in.
    #[test]
    fn initialize_is_logged_with_the_revision_that_it_asks_for() {
        let asked = |version: &str| {
            let text = format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"initialize","params":{{"protocolVersion":"{version}"}}}}"#
            );
            asked_revision(&Message::parse(text.into()).unwrap())
        };
        assert_eq!(asked("2024-11-05"), Some(Revision::V2024_11_05));
        assert_eq!(asked("1999-01-01"), None);
    }
}
