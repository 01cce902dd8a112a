//! One log line for each exchange, when the target `thinpipe::exchange` is enabled.

use std::sync::Arc;

use thinpipe_transport::server::{Answer, Content, Exchange, Inbound};

use super::{Route, now, short};

/// Target of the exchange log.
const TARGET: &str = "thinpipe::exchange";

/// Whether anybody reads the exchange log. Costs one load when nobody does.
pub(super) fn is_on() -> bool {
    tracing::enabled!(target: TARGET, tracing::Level::INFO)
}

/// Answers the exchange and writes its line.
pub(super) async fn logged(route: Arc<Route>, exchange: Exchange) -> Answer {
    let begun = now();
    let (kind, session) = match &exchange.inbound {
        Inbound::Stateless(message)
        | Inbound::StatelessNotification(message)
        | Inbound::Initialize(message, _) => (describe(message), None),
        Inbound::Message(message, session) => (describe(message), session.as_ref().map(short)),
        Inbound::Listen(session, None) => ("GET".to_owned(), Some(short(session))),
        Inbound::Listen(session, Some(_)) => ("GET (resume)".to_owned(), Some(short(session))),
        Inbound::Terminate(session) => ("DELETE".to_owned(), Some(short(session))),
    };
    let revision = exchange.revision;
    let peer = exchange.peer;
    let answer = Arc::clone(&route).handle_exchange(exchange).await;
    tracing::info!(
        target: TARGET,
        upstream = route.name(),
        message = %kind,
        status = answer.status.as_u16(),
        stream = answer.content == Content::EventStream,
        %revision,
        session = session.as_deref(),
        peer = peer.map(tracing::field::display),
        took_us = now().saturating_duration_since(begun).as_micros() as u64,
    );
    answer
}

fn describe(message: &thinpipe_proto::rpc::Message) -> String {
    let method = message.method().unwrap_or("response");
    let name = thinpipe_proto::classify::name_param(method).and_then(|p| message.param_str(p));
    match name {
        // The name is the client's text: control characters must not reach a terminal.
        Some(name) => format!("{method} {}", name.escape_debug()),
        None => method.escape_debug().to_string(),
    }
}
