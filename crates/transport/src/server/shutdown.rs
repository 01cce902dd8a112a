//! The end of a server: what runs ends, what can live on elsewhere does, the rest is told.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use thinpipe_proto::revision::Binding;
use tokio::sync::Semaphore;

use super::{Server, Session, SessionEnd, Shared};
use crate::io::now;
use crate::server::session::HandOver;

/// For clients to read the last words, when the time for draining is over.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long connections are kept that wait for a request, where other nodes are there for new ones: a balancer that
/// uses them hears in an answer that they close, and sends nothing that would meet their end on its way.
const NOTICE: Duration = Duration::from_secs(1);

/// For handlers and the store to be told that all sessions ended, at shutdown.
const FAREWELL: Duration = Duration::from_secs(5);

/// Sessions that are handed over at one time. Of thousands at once, the store would answer the last ones later than
/// any operation may take, and they would end.
const HAND_OVERS: usize = 64;

impl Server {
    /// Shuts down: takes no new work, lets what runs end within [`Limits::drain`], ends the rest
    /// with an error in band, and returns when every task is done.
    ///
    /// While calls run, connections are kept and accepted: a call may wait for an answer of its client,
    /// which may come on any connection. Once none runs, connections close, and
    /// [acceptors](super::Acceptor::closing) stop.
    ///
    /// That takes no longer than
    /// [`Limits::drain`] and a few seconds: handlers that are told of the end of sessions
    /// ([`Handler::session_ended`]) are cut off after 5 s, clients that do not read are left.
    ///
    /// Of several nodes, this one lets go of the sessions that the others can go on with, and ends the rest. It accepts
    /// no connection from the beginning (a balancer passes over who cannot be reached, also with what must not be sent
    /// twice) and answers one more request on each that is open: nobody is refused.
    ///
    /// [`Limits::drain`]: super::Limits::drain
    /// [`Handler::session_ended`]: super::Handler::session_ended
    pub async fn shut_down(&self) {
        // Also when this is dropped half way: who waits for it would wait forever.
        let _ended = self.shared.ended.clone().drop_guard();
        let has_heirs = self.has_heirs().await;
        self.shared.has_heirs.store(has_heirs, Ordering::Relaxed);
        self.shared.is_draining.store(true, Ordering::Release);
        if has_heirs {
            self.shared.closed.cancel();
        }
        self.shared.draining.cancel();
        self.shared.tasks.close();
        let drained = tokio::time::timeout(self.shared.config.limits.drain, self.idle()).await;
        if drained.is_err() {
            tracing::warn!("time for draining is over; ending what still runs");
            self.shared.forced.cancel();
            self.shared.let_go();
            let rest = self.shared.config.limits.write_stall.min(LAST_WORDS);
            if tokio::time::timeout(rest, self.idle()).await.is_err() {
                tracing::warn!("some clients do not read; leaving them");
            }
        }
        let sessions = self.sessions();
        sessions.take_nothing_over();
        let turns = Arc::new(Semaphore::new(HAND_OVERS));
        // Side by side: a store or an upstream that hangs must not keep the other sessions from it.
        for session in sessions.list() {
            let (shared, turns) = (Arc::clone(&self.shared), Arc::clone(&turns));
            sessions.spawn(async move { shared.part_with(&session, &turns).await });
        }
        self.farewell().await;
        if let Some(nodes) = &self.shared.nodes
            && tokio::time::timeout(LAST_WORDS, nodes.stop())
                .await
                .is_err()
        {
            tracing::warn!("the other nodes could not be told that this one is gone");
        }
    }

    /// Until [`shut_down`](Self::shut_down) is done.
    pub(crate) async fn ended(&self) {
        self.shared.ended.cancelled().await;
    }

    /// Whether other nodes are there for the clients of this one.
    async fn has_heirs(&self) -> bool {
        let Some(nodes) = &self.shared.nodes else {
            return false;
        };
        if nodes.is_cut_off() {
            return false;
        }
        match nodes.live().await {
            Ok(live) => live.iter().any(|node| node != nodes.this()),
            Err(error) => {
                tracing::warn!(%error, "whether other nodes go on is not known; draining as if there were none");
                false
            }
        }
    }

    /// Until every task is done, or the time for that is over.
    async fn farewell(&self) {
        let sessions = self.sessions();
        let tasks = &self.shared.tasks;
        if tokio::time::timeout(FAREWELL, tasks.wait()).await.is_ok() {
            return;
        }
        sessions.cut_off();
        if tokio::time::timeout(LAST_WORDS, tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!(tasks = tasks.len(), "some tasks do not end; leaving them");
        }
    }

    /// Until no connection is open or accepted and no detached answer runs. Connections that wait for
    /// a request are let go once nothing runs: until then a running call may need what comes on them.
    async fn idle(&self) {
        let shared = &self.shared;
        let kept = match shared.has_heirs() {
            true => NOTICE,
            false => Duration::ZERO,
        };
        let kept = now() + kept;
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        loop {
            if !shared.is_busy() && now() >= kept {
                shared.let_go();
            }
            // In this order: a connection that is handed over counts here before it does not there.
            if shared.acceptors.used() == 0
                && shared.connections.used() == 0
                && shared.detached.used() == 0
                // What came over connections that are not ours.
                && !shared.is_busy()
            {
                return;
            }
            tick.tick().await;
        }
    }
}

impl Shared {
    /// Connections that wait for a request close, and no more are accepted.
    fn let_go(&self) {
        self.quiet.cancel();
        self.closed.cancel();
    }

    /// The end of a session with this process, or only of what this process has of it.
    async fn part_with(&self, session: &Arc<Session>, turns: &Semaphore) {
        if self.nodes.is_some() {
            if !session.is_held() {
                self.sessions.forget(session);
                return;
            }
            if session.binding() == Binding::Sessions {
                let _turn = turns.acquire().await;
                match self.sessions.hand_over(session).await {
                    HandOver::Done => return,
                    // The others take it over when they ask for it here, or as that of a node that is gone.
                    HandOver::Failed => return self.sessions.forget(session),
                    HandOver::Cannot => {}
                }
            }
        }
        self.end_session(session, SessionEnd::ShutDown).await;
    }
}
