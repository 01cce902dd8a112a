//! What a server asks of a route.

use std::sync::Arc;

use thinpipe_proto::classify::Served;
use thinpipe_transport::body::BoxFuture;
use thinpipe_transport::server::{
    Adoption, Answer, Exchange, Handler, Posted, Session, SessionEnd,
};

use super::Route;

impl Handler for Route {
    fn handle(self: Arc<Self>, exchange: Exchange) -> BoxFuture<Answer> {
        match self.parked_elsewhere(&exchange) {
            Some(node) => Box::pin(self.send_on(exchange, node)),
            None => self.answer(exchange),
        }
    }

    fn admits(&self, posted: &Posted<'_>) -> Result<(), Answer> {
        self.admitted(posted)
    }

    fn serves(&self) -> Served {
        self.spec.clients.served()
    }

    fn awaits_clients(&self) -> bool {
        self.downgrade.awaits_clients()
    }

    fn adopt(self: Arc<Self>, session: Arc<Session>) -> BoxFuture<Adoption> {
        Box::pin(async move { self.take_over(&session).await })
    }

    fn can_hand_over(&self, session: &Session) -> bool {
        self.goes_on_elsewhere(session)
    }

    fn listened_elsewhere(&self, session: &Session) -> bool {
        Self::outlistened(session)
    }

    fn replaced_elsewhere(&self, session: &Session) {
        Self::note_replaced(session);
    }

    fn changed_elsewhere(&self, session: &Session) {
        Self::changed(session);
    }

    fn session_ended(self: Arc<Self>, session: Arc<Session>, why: SessionEnd) -> BoxFuture<()> {
        self.ended(session, why)
    }
}
