//! A record that names a node on which its session is not live: what has ended there goes, and nothing else does.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use thinpipe_proto::session::{Principal, SessionId};
use thinpipe_store::SessionStore;
use thinpipe_testkit::Gate;
use thinpipe_transport::server::{Handler, Session, SessionEnd, SessionError};

use super::support::{Node, Shelf};
use crate::support::{call, until};

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

    fn adopted(&self) -> usize {
        self.sample().adopted.load(Ordering::SeqCst)
    }
}

/// F9, F17: a store that does not say in time that the session is this node's may have written so: nobody else has it,
/// and whoever asked is answered by it.
#[tokio::test(start_paused = true)]
async fn f9_a_session_is_taken_over_though_the_store_does_not_say_so() {
    let shelf = Shelf::on_tokios_clock();
    let (_one, session, [other, _]) = left_behind(&shelf).await;
    other.doubt_update();
    assert_eq!(other.status(&session, "POST", call(1, "echo")).await, 200);
    assert_eq!(shelf.owner(&session).await, Some(other.name()));
    assert_eq!(other.adopted(), 1);
}

/// F9, F17: a session that is put off waits, also if the store fails just then: whoever is asked next goes on with it.
#[tokio::test(start_paused = true)]
async fn f9_a_session_waits_whose_record_could_not_be_given_back() {
    for goes_on_there in [true, false] {
        let shelf = Shelf::on_tokios_clock();
        let (_one, session, [other, third]) = left_behind(&shelf).await;
        other.sample().puts_off.store(true, Ordering::SeqCst);
        let gate = other.hesitates();
        let (status, ()) = tokio::join!(other.status(&session, "POST", call(1, "echo")), async {
            gate.reached().await;
            other.fail_update();
            gate.open();
        });
        assert_eq!(status, 503);
        assert_eq!(other.adopted(), 1, "it has said that it cannot now");
        other.sample().puts_off.store(false, Ordering::SeqCst);
        let next = if goes_on_there { &other } else { &third };
        assert_eq!(next.status(&session, "POST", call(2, "echo")).await, 200);
        assert_eq!(shelf.owner(&session).await, Some(next.name()));
        assert_eq!(next.sample().begun.load(Ordering::SeqCst), 1);
    }
}

/// The same if its record was changed meanwhile.
#[tokio::test(start_paused = true)]
async fn f9_a_session_that_is_put_off_is_nobodys_whatever_was_stored_with_it() {
    let shelf = Shelf::on_tokios_clock();
    let (_one, session, [other, _]) = left_behind(&shelf).await;
    other.sample().puts_off.store(true, Ordering::SeqCst);
    let gate = other.hesitates();
    let (status, ()) = tokio::join!(other.status(&session, "POST", call(1, "echo")), async {
        gate.reached().await;
        let found = shelf.sessions.get(&id_of(&session)).await.unwrap();
        let (mut record, version) = found.unwrap();
        record.attachment = "another".into();
        shelf.sessions.update(&record, version).await.unwrap();
        gate.open();
    });
    assert_eq!(status, 503);
    assert!(shelf.owner(&session).await.unwrap().is_nobody());
}

/// F17, 5.8.11: what a node that stops could not hand over it does hand over, as soon as it is asked for and the store is
/// there again. It begins nothing itself.
#[tokio::test(start_paused = true)]
async fn f17_a_node_that_stops_gives_up_what_it_could_not_hand_over() {
    let shelf = Shelf::on_tokios_clock();
    let [owner, other] = shelf.holding().await;
    for node in [&owner, &other] {
        node.sample().adopts.store(true, Ordering::SeqCst);
    }
    let session = owner.open_session().await;
    let (gate, server) = (Gate::new(), &owner.running.server);
    let farewell = gate.clone();
    server.spawn(async move { farewell.pass().await });
    owner.fail_update();
    tokio::join!(server.shut_down(), async {
        until("it has let go of it", || {
            *owner.sample().ended.lock().unwrap() == [SessionEnd::Forgotten]
        })
        .await;
        let here = owner.find_for(&session, &Principal::Anonymous).await;
        assert!(matches!(here, Err(SessionError::PutOff)), "{here:?}");
        assert_eq!(other.status(&session, "POST", call(1, "echo")).await, 200);
        gate.open();
    });
    assert_eq!((owner.adopted(), other.adopted()), (0, 1));
    assert_eq!(shelf.owner(&session).await, Some(other.name()));
}

/// F9: of a session that has ended at a node, and whose record could not be deleted then, that node deletes it when
/// it is asked for, there or elsewhere: nobody goes on with it.
#[tokio::test(start_paused = true)]
async fn f9_a_record_that_has_stayed_behind_goes() {
    for is_asked_there in [true, false] {
        let shelf = Shelf::on_tokios_clock();
        let [owner, other] = shelf.holding().await;
        for node in [&owner, &other] {
            node.sample().adopts.store(true, Ordering::SeqCst);
        }
        let session = owner.open_session().await;
        let sessions = owner.running.server.sessions();
        let live = sessions.list().pop().unwrap();
        owner.fail_delete();
        let ended = sessions.end(&live, SessionEnd::Expired).await;
        assert!(matches!(ended, Err(SessionError::Store(_))), "{ended:?}");
        assert_eq!(shelf.records().await, 1);
        let asked = if is_asked_there { &owner } else { &other };
        assert_eq!(asked.status(&session, "POST", call(1, "echo")).await, 404);
        assert_eq!(shelf.records().await, 0);
        assert_eq!((owner.adopted(), other.adopted()), (0, 0));
    }
}

/// The same of one that nobody could go on with.
#[tokio::test(start_paused = true)]
async fn f9_a_session_that_nobody_adopts_ends_once() {
    let shelf = Shelf::on_tokios_clock();
    let (_one, session, [other, _]) = left_behind(&shelf).await;
    other.sample().adopts.store(false, Ordering::SeqCst);
    other.fail_delete();
    assert_eq!(other.status(&session, "POST", call(1, "echo")).await, 404);
    assert_eq!((other.adopted(), shelf.records().await), (1, 0));
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
