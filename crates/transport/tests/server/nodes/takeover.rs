//! Sessions that are being taken over from a node that is gone.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use thinpipe_proto::session::{Principal, SessionId};
use thinpipe_testkit::Gate;
use thinpipe_transport::server::{Handler, Session, SessionEnd, SessionError};

use super::support::{Node, Shelf};
use crate::support::call;

/// The owner of a session, which is dead by now, the session, and two nodes that could go on with it.
async fn left_behind(shelf: &Shelf) -> (Node, String, [Node; 2]) {
    let [one, other, third] = shelf.holding().await;
    for node in [&other, &third] {
        node.sample().adopts.store(true, Ordering::SeqCst);
    }
    let session = one.open_session().await;
    one.cut();
    shelf.buried(&one).await;
    (one, session, [other, third])
}

fn id_of(session: &str) -> SessionId {
    SessionId::from_bytes(Bytes::copy_from_slice(session.as_bytes())).unwrap()
}

impl Node {
    /// Its handler is asked to go on with sessions, and has not said yet what becomes of them.
    fn hesitates(&self) -> Gate {
        let gate = Gate::new();
        *self.sample().adopting.lock().unwrap() = Some(gate.clone());
        gate
    }

    async fn find_for(
        &self,
        session: &str,
        principal: &Principal,
    ) -> Result<Option<Arc<Session>>, SessionError> {
        let handler = Arc::clone(&self.running.sample) as Arc<dyn Handler>;
        let (sessions, endpoint) = (self.running.server.sessions(), "sample".into());
        let id = id_of(session);
        sessions.find(&id, principal, &endpoint, &handler).await
    }
}

/// C2, F9: a session that ends while it is being taken over has ended, whatever its handler says of it, and its place
/// is free again: once.
#[tokio::test(start_paused = true)]
async fn c2_a_session_that_ends_while_it_is_taken_over_has_one_place() {
    for is_adopted in [true, false] {
        let shelf = Shelf::on_tokios_clock();
        let (_one, session, [other, _]) = left_behind(&shelf).await;
        other.sample().adopts.store(is_adopted, Ordering::SeqCst);
        let gate = other.hesitates();
        let (status, ()) = tokio::join!(other.status(&session, "POST", call(1, "echo")), async {
            gate.reached().await;
            let taken = other.sample().adoptee.lock().unwrap().clone().unwrap();
            let sessions = other.running.server.sessions();
            sessions
                .end(&taken, SessionEnd::UpstreamGone)
                .await
                .unwrap();
            gate.open();
        });
        assert_eq!(status, 404);
        assert_eq!(other.running.server.stats().sessions, 0);
        assert_eq!(
            *other.sample().ended.lock().unwrap(),
            [SessionEnd::UpstreamGone]
        );
        assert_eq!(shelf.records().await, 0);
    }
}

/// F10: to another principal a session does not exist, either, that is being taken over.
#[tokio::test(start_paused = true)]
async fn f10_a_session_that_is_taken_over_is_its_principals() {
    let shelf = Shelf::on_tokios_clock();
    let (_one, session, [other, _]) = left_behind(&shelf).await;
    other.sample().puts_off.store(true, Ordering::SeqCst);
    let gate = other.hesitates();
    let (status, ()) = tokio::join!(other.status(&session, "POST", call(1, "echo")), async {
        gate.reached().await;
        let mallory = Principal::Named("mallory".into());
        let (found, ()) = tokio::join!(other.find_for(&session, &mallory), async {
            gate.open();
        });
        assert!(matches!(found, Ok(None)), "{found:?}");
    });
    assert_eq!(status, 503);
}
