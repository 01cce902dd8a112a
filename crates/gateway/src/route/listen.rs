//! GET: a session's standalone stream, or another stream of it after an event.

use std::sync::Arc;

use http::StatusCode;
use thinpipe_proto::session::EventId;
use thinpipe_transport::server::{Answer, Session, SessionEnd};
use thinpipe_transport::upstream::UpstreamResponse;

use super::resume::{Heard, Lost};
use super::{Incoming, Relayed, Route};
use crate::clock::now;
use crate::failure::{Failure, Reason};
use crate::relay::Purpose;
use crate::session::{Contended, LiveStream, SessionState};

impl Route {
    /// GET: the standalone stream, or another stream of the session after an event.
    pub(super) async fn listen(
        self: &Arc<Self>,
        call: Incoming,
        session: Arc<Session>,
        last: Option<EventId>,
    ) -> Result<Answer, Failure> {
        let Some(state) = session.state(SessionState::default) else {
            return Err(Failure::new(
                Reason::Invalid,
                "the session belongs to another handler",
            ));
        };
        let (place, replaced) = match &last {
            Some(id) => (None, state.replace_carrier_of(id.as_bytes()).await),
            None => {
                let stop = session.closed().child_token();
                let owner = Some(Arc::clone(&session));
                match state.replace_standalone(owner, stop, now()).await {
                    Ok((place, replaced)) => {
                        if let Some(sessions) = self.sessions().filter(|_| replaced) {
                            sessions.note_replaced(&session);
                        }
                        (Some(place), replaced)
                    }
                    Err(Contended) => return Err(Failure::contended()),
                }
            }
        };
        let opening = self.open_for(&call, &session, last.as_ref(), replaced);
        let heard = match place.as_ref().map(LiveStream::stop_token) {
            None => opening.await?,
            Some(stop) => tokio::select! {
                biased;
                // Cancel-safe: waiting for a token changes nothing. A newer one has the place.
                () = stop.cancelled() => return Err(Failure::contended()),
                // Not gone on with after this: the request that is dropped half-way, or its stream, closes its
                // connection, which tells the server that nobody listens.
                heard = opening => heard?,
            },
        };
        match heard {
            Heard::Response(response) if response.status == StatusCode::NOT_FOUND => {
                Err(self.nothing_there())
            }
            Heard::Response(response) => {
                if place.is_some() {
                    self.begin_listening(&session, state).await;
                }
                self.relay_listen(response, session, last, place).await
            }
            Heard::Lost(lost) => {
                self.reopen_for_listen(&session, &lost).await?;
                if last.is_some() {
                    // Another stream in its place would skip over what is lost without a word.
                    return Err(Failure::unknown_event());
                }
                // The session's standalone streams were stopped, this one's place among them.
                drop(place);
                self.listen_anew(call, &session, state).await
            }
        }
    }

    /// The upstream's session is gone: it is opened anew, or the client's ends, too.
    async fn reopen_for_listen(
        self: &Arc<Self>,
        session: &Arc<Session>,
        lost: &Lost,
    ) -> Result<(), Failure> {
        let runs = session.in_flight() > 0;
        if let Some(gone) = lost.gone.as_ref().filter(|gone| self.waits_for(gone, runs)) {
            return Err(self.replica_gone(gone));
        }
        self.counters.session_lost();
        if self.is_there_again((session, runs), &lost.at, None).await? {
            return Ok(());
        }
        self.end_session(session, SessionEnd::UpstreamGone).await;
        Err(Failure::session_gone())
    }

    /// The standalone stream of a session that was opened anew.
    async fn listen_anew(
        self: &Arc<Self>,
        call: Incoming,
        session: &Arc<Session>,
        state: &SessionState,
    ) -> Result<Answer, Failure> {
        let stop = session.closed().child_token();
        let owner = Some(Arc::clone(session));
        let taken = state.replace_standalone(owner, stop, now()).await;
        let (place, _) = taken.map_err(|Contended| Failure::contended())?;
        let heard = self.open_for(&call, session, None, true).await?;
        let Heard::Response(response) = heard else {
            self.end_session(session, SessionEnd::UpstreamGone).await;
            return Err(Failure::session_gone());
        };
        self.begin_listening(session, state).await;
        let of = Arc::clone(session);
        self.relay_listen(response, of, None, Some(place)).await
    }

    /// Opens a stream. Of several nodes, the one that had the standalone stream lets go of it when this one has it,
    /// or before, if the server allows only one.
    async fn open_for(
        &self,
        call: &Incoming,
        session: &Session,
        last: Option<&EventId>,
        replaces: bool,
    ) -> Result<Heard, Failure> {
        let heard = self.open_listen(call, session, last, replaces).await?;
        let shared = self.sessions().filter(|sessions| sessions.has_nodes());
        let (Heard::Response(response), Some(sessions)) =
            (&heard, shared.filter(|_| last.is_none()))
        else {
            return Ok(heard);
        };
        let is_taken = response.status == StatusCode::CONFLICT && !replaces;
        if is_taken || response.status == StatusCode::OK {
            sessions.note_listening(session);
        }
        if is_taken {
            drop(heard);
            return self.open_listen(call, session, last, true).await;
        }
        Ok(heard)
    }

    /// The standalone stream was opened on another node. `true`: it replaces one that was open here.
    pub(super) fn outlistened(session: &Session) -> bool {
        let state = session.existing_state::<SessionState>();
        state.is_some_and(|state| state.outlistened(now()))
    }

    /// It was replaced on another node.
    pub(super) fn note_replaced(session: &Session) {
        if let Some(state) = session.existing_state::<SessionState>() {
            state.note_replaced(now());
        }
    }

    pub(super) async fn relay_listen(
        self: &Arc<Self>,
        response: UpstreamResponse,
        session: Arc<Session>,
        last: Option<EventId>,
        place: Option<LiveStream>,
    ) -> Result<Answer, Failure> {
        let purpose = if last.is_some() {
            Purpose::Resumed
        } else {
            Purpose::Standalone
        };
        let context = self.context_in(&session, None);
        let line = self.line(Some(session), purpose);
        match self.relay_placed(response, line, context, last.as_ref(), place) {
            Relayed::Now(answer) => answer,
            Relayed::Later(future) => future.await,
        }
    }
}
